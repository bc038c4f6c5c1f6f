"""Networks cut into stages: where they can be, what the pieces compute, and what cutting costs."""

import dataclasses
import functools
import itertools
import json
from types import SimpleNamespace

import networkx as nx
import numpy as np
import psutil
import pytest
from netgain.layers import (
    Activation,
    Add,
    Affine,
    AveragePool,
    Convolution,
    Flatten,
    Graph,
    GraphBuilder,
    LeakyRelu,
    MaxPool,
    Relu,
)
from netgain.solvers import Limits, Status
from netgain.solvers.family_interior_point import _Run
from netgain.verify import CertificateError, check, lipschitz, load_certificate
from netgain.verify.channelwise import ModeError
from netgain.verify.lower_bound import WitnessSearch
from netgain.verify.mode import Mode
from netgain.verify.sealed_json import sealed
from netgain.verify.spectral import plan, spectral
from netgain.verify.stages import between, cuts, stages

from .image_networks import random_network

SAME = ((1, 1), (1, 1))
LIMITS = Limits(tolerance=1e-5)


def residual_network(blocks: int, channels: int = 2, head: bool = True, slope: float = 0.0, side: int = 6) -> Graph:
    """Convolution, max pooling, residual blocks with an activation after each sum, average pooling, affine map."""
    rng = np.random.default_rng(blocks)
    builder = GraphBuilder()

    def convolution(node: str) -> str:
        weight = rng.standard_normal((channels, builder.shape(node)[0], 3, 3)) / np.sqrt(9 * channels)
        return builder.add(Convolution(weight, rng.standard_normal(channels), padding=SAME), node)

    def activation(node: str) -> str:
        return builder.add(LeakyRelu(slope) if slope else Relu(), node)

    node = activation(convolution(builder.input((1, side, side))))
    node = builder.add(MaxPool((2, 2), (2, 2)), node)
    for _ in range(blocks):
        node = activation(builder.add(Add((1, 1)), node, convolution(activation(convolution(node)))))
    node = builder.add(AveragePool((2, 2), (1, 1)), node)
    if head:
        node = builder.add(Flatten(), node)
        node = builder.add(Affine(rng.standard_normal((3, *builder.shape(node))) / 3), node)
    return builder.build(node, f"{blocks} residual blocks")


NETWORKS = {"head": residual_network(2), "image to image": residual_network(2, head=False),
            "slopes of both signs": residual_network(2, slope=-0.3), "three": residual_network(3, side=4)}
each = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def solved(name: str, interfaces: tuple[str, ...]):
    problem = spectral(NETWORKS[name], interfaces)
    solution = problem.solve(LIMITS, None)
    return solution, problem.prove(solution)


def choices(graph: Graph) -> list[tuple[str, ...]]:
    possible = cuts(graph)
    return [(), possible[1:2], possible[::2], possible]


def dominating(graph: Graph) -> list[str]:
    """Activations and max poolings without which the output would not depend on the input, by another library."""
    digraph = nx.DiGraph((name, node) for node in graph.order for name in graph.inputs(node))
    return [node for node in graph.order if isinstance(graph.layer(node), Activation | MaxPool)
            and not nx.has_path(nx.restricted_view(digraph, [node], []), graph.input, graph.output)]


@pytest.mark.parametrize("seed", range(40))
def test_a_cut_is_what_every_path_leads_through(seed: int) -> None:
    graph = random_network(seed)
    try:
        found = cuts(graph)
    except ModeError:
        pytest.skip("no layer that treats pixels alike")
    expected = [node for node in dominating(graph) if len(graph.shape(node)) > 1]
    behind = {node: any(isinstance(graph.layer(other), Activation | MaxPool) and len(graph.shape(other)) > 1
                        for other in graph.order[graph.order.index(node) + 1 :]) for node in expected}
    assert list(found) == [node for node in expected if behind[node]]


@each
def test_the_pieces_compute_the_network(name: str) -> None:
    graph, rng = NETWORKS[name], np.random.default_rng(0)
    ends = (graph.input, *cuts(graph), graph.inputs(graph.output)[0])
    x = y = rng.standard_normal((3, *graph.shape(graph.input)))
    for start, end in itertools.pairwise(ends):
        y = between(graph, start, end).forward(y)
    np.testing.assert_allclose(y, graph.forward(x), rtol=1e-12)


@each
def test_fewer_cuts_are_tighter_here_and_all_are_proved(name: str) -> None:
    graph = NETWORKS[name]
    bounds = {}
    for interfaces in choices(graph):
        solution, certificate = solved(name, interfaces)
        assert solution.status is Status.OPTIMAL
        assert solution.dual_bound <= solution.bound <= solution.dual_bound * (1 + 1.1e-5)
        assert certificate is not None
        assert [graph.order[place] for place in certificate.interfaces] == list(interfaces)
        assert certificate.value <= solution.bound * (1 + 1e-6)
        assert check(certificate, graph).proved
        assert certificate.value <= spectral(graph, interfaces).norm_product * (1 + 1e-6)
        bounds[interfaces] = solution.bound
    whole, *_, everywhere = bounds.values()
    assert all(whole * (1 - 1e-4) <= bound <= everywhere * (1 + 1e-4) for bound in bounds.values())
    witness = WitnessSearch(starts=8, steps=40, time_limit=5.0).find(graph)
    assert 0 < witness.ratio <= whole


@each
def test_nothing_below_a_chain_is_proved(name: str) -> None:
    _, certificate = solved(name, cuts(NETWORKS[name]))
    lower = dataclasses.replace(certificate, value=certificate.value * (1 - 1e-3))
    assert not check(lower, NETWORKS[name]).proved


def renamed(graph: Graph) -> Graph:
    builder = GraphBuilder()
    names = {graph.input: builder.input(graph.shape(graph.input), "u")}
    for number, node in enumerate(graph.order[1:-1]):
        names[node] = builder.add(graph.layer(node), *(names[name] for name in graph.inputs(node)), name=f"n{number}")
    return builder.build(names[graph.inputs(graph.output)[0]], "renamed")


@each
def test_a_chain_survives_the_file(name: str, tmp_path) -> None:
    _, certificate = solved(name, cuts(NETWORKS[name]))
    certificate.save(tmp_path / "c.json")
    assert check(load_certificate(tmp_path / "c.json"), renamed(NETWORKS[name])).proved


def test_interfaces_in_a_file_are_whole_numbers(tmp_path) -> None:
    _, certificate = solved("head", cuts(NETWORKS["head"]))
    certificate.save(tmp_path / "c.json")
    body = json.loads((tmp_path / "c.json").read_text())
    del body["sha256"]
    for wrong in (3, [1.5], ["relu"], [3, None], [True]):
        (tmp_path / "d.json").write_text(json.dumps(sealed({**body, "interfaces": wrong})))
        with pytest.raises(CertificateError, match="of the wrong kind"):
            load_certificate(tmp_path / "d.json")


@pytest.mark.parametrize("interfaces", [("convolution",), ("nowhere",), ("relu_5", "relu")])
def test_where_it_cannot_be_cut(interfaces: tuple[str, ...]) -> None:
    with pytest.raises(ModeError, match="can be cut at 'relu', 'maxpool'"):
        stages(NETWORKS["head"], interfaces)


def test_what_is_too_large_whole_is_cut(monkeypatch) -> None:
    graph = residual_network(4, 4, side=12)
    whole = plan(graph)
    assert whole.interfaces == ()
    free = SimpleNamespace(available=whole.cost.memory)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    cut = plan(graph)
    assert cut.interfaces
    assert cut.cost.memory < 0.8 * whole.cost.memory
    report = lipschitz(graph, limits=Limits(tolerance=1e-2), mode=Mode.SPECTRAL, lower_bounds=False)
    assert report.proved
    assert tuple(graph.order[place] for place in report.certificate.interfaces) == cut.interfaces
    assert f"Cut into {len(cut.interfaces) + 1} stages" in report.notes[0]
    monkeypatch.undo()
    hurried = plan(graph, patience=whole.cost.seconds / 2)
    assert hurried.interfaces
    assert hurried.cost.seconds < whole.cost.seconds


def test_stopped_early_a_chain_returns_its_best_point() -> None:
    graph = NETWORKS["three"]
    problem, seen = spectral(graph, cuts(graph)), []

    def interrupt(progress) -> None:
        seen.append(progress.bound)
        if progress.iteration == 2:
            raise KeyboardInterrupt

    stopped = problem.solve(LIMITS, interrupt)
    assert stopped.status is Status.INTERRUPTED
    assert stopped.bound == min(seen) < problem.closed_form().bound
    hurried = problem.solve(Limits(time_limit=1e-9), None)
    assert hurried.status is Status.TIME_LIMIT
    for solution in (stopped, hurried):
        assert problem.prove(solution) is not None


def test_interrupted_while_stages_are_solved_alone_what_is_done_counts(monkeypatch) -> None:
    graph = NETWORKS["three"]
    problem, calls, exchange = spectral(graph, cuts(graph)), [], _Run.exchange

    def counted(run, max_iterations):
        calls.append(run)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return exchange(run, max_iterations)

    monkeypatch.setattr(_Run, "exchange", counted)
    stopped = problem.solve(LIMITS, None)
    assert stopped.status is Status.INTERRUPTED
    assert stopped.bound < problem.closed_form().bound
    assert problem.prove(stopped) is not None
