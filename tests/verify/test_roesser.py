"""Bounds by dissipation inequalities: proved ones hold, agree with frequency sampling, and tampering is refused."""

import dataclasses
import functools
import json

import cvxpy as cp
import numpy as np
import pytest
from netgain.layers import (
    Add,
    Affine,
    Convolution,
    Graph,
    GraphBuilder,
    Relu,
    sequential,
)
from netgain.layers.state_space import StateSpace
from netgain.solvers.availability import Backend
from netgain.solvers.result import Limits, Solution, Status
from netgain.verify.balls import precision
from netgain.verify.certificate import Certificate, load_certificate
from netgain.verify.channelwise import ModeError
from netgain.verify.check import Outcome, check
from netgain.verify.check_roesser import RoesserChecker
from netgain.verify.lipschitz import lipschitz
from netgain.verify.memory import TooLargeError
from netgain.verify.mode import Mode
from netgain.verify.roesser import roesser

from .dissipative_networks import BANK, same, stable
from .image_networks import random_network

# Two hundred inequalities that touch at few frequencies are degenerate: Clarabel does not reach its defaults.
_TOLERANCES = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-6)


def roesser_bound(graph: Graph) -> tuple[Solution, Certificate | None]:
    realisation = roesser(graph)
    solution = realisation.solve(Limits(), None)
    return solution, realisation.prove(solution) if solution.status.has_multipliers else None


@functools.cache
def proved(name: str) -> tuple[Graph, Certificate]:
    graph = BANK[name]
    solution, certificate = roesser_bound(graph)
    assert solution.status is Status.OPTIMAL
    assert certificate is not None
    # What the checker proves is what the solver found, but for the margin it was left.
    assert certificate.value == pytest.approx(solution.bound, rel=1e-5)
    return graph, certificate


@pytest.mark.parametrize("name", BANK)
def test_no_slopes_and_no_tighter_multipliers_exceed_what_is_proved(name: str) -> None:
    graph, certificate = proved(name)
    other = lipschitz(graph, limits=Limits(tolerance=1e-6, time_limit=5.0))
    # Multipliers by channel and storages are a choice of multipliers by neuron.
    assert 0 < max(other.lower, other.slope_bound) <= other.upper <= certificate.value * (1 + 1e-5)
    assert check(certificate, graph).arithmetic == "double"


@pytest.mark.parametrize("name", ["strides and folding", "maxima and a head", "state spaces"])
def test_balls_prove_it_too(name: str) -> None:
    graph, certificate = proved(name)
    with precision(128):
        assert RoesserChecker(graph).proved_in_balls(certificate)
        lower = dataclasses.replace(certificate, value=0.999 * certificate.value)
        assert not RoesserChecker(graph).proved_in_balls(lower)


@pytest.mark.parametrize("name", ["two convolutions", "maxima and a head", "state spaces"])
def test_tampering_is_refused(name: str, tmp_path) -> None:
    graph, certificate = proved(name)
    certificate.save(tmp_path / "certificate.json")
    loaded = load_certificate(tmp_path / "certificate.json")
    assert json.loads((tmp_path / "certificate.json").read_text())["mode"] == "roesser"
    assert check(loaded, graph).proved

    def outcome(**changes) -> Outcome:
        return check(dataclasses.replace(loaded, **changes), graph, balls=False).outcome

    assert outcome(value=0.9999 * loaded.value) is Outcome.NOT_PROVED
    metrics, multipliers = loaded.metrics, loaded.multipliers
    for k, metric in enumerate(metrics):
        for factor in (0.5, 2.0, -1.0):
            changed = (*metrics[:k], factor * metric, *metrics[k + 1 :])
            assert outcome(metrics=changed) is Outcome.NOT_PROVED, (k, factor)
    for k, array in enumerate(multipliers):
        for factor in (0.5, 4.0):
            changed = (*multipliers[:k], factor * array, *multipliers[k + 1 :])
            assert outcome(multipliers=changed) is Outcome.NOT_PROVED, (k, factor)
    assert outcome(metrics=metrics[1:]) is Outcome.MALFORMED
    assert outcome(multipliers=(-multipliers[0], *multipliers[1:])) is Outcome.MALFORMED
    assert outcome(exponents=loaded.exponents[1:]) is Outcome.MALFORMED
    assert outcome(metrics=(metrics[0] + np.triu(np.ones_like(metrics[0]), 1), *metrics[1:])) is Outcome.MALFORMED


def test_a_metric_before_pooling_is_diagonal() -> None:
    """A tiny entry off the diagonal changes no definiteness, yet is refused: a maximum does not commute with it."""
    graph, certificate = proved("maxima and a head")
    places = [k for k, metric in enumerate(certificate.metrics) if len(metric) == 2 and metric[0, 1] == 0]
    assert len(places) == 1
    metrics = [metric.copy() for metric in certificate.metrics]
    metrics[places[0]][[0, 1], [1, 0]] = 1e-14
    tampered = dataclasses.replace(certificate, metrics=tuple(metrics))
    assert check(tampered, graph).outcome is Outcome.NOT_PROVED


def test_a_storage_that_forgets_nothing_is_positive() -> None:
    """y_t = u_t + x_t, x_{t+1} = 2 x_t + u_t has no finite gain; P < 0 would satisfy its inequality alone."""
    graph = sequential((1, 6), [StateSpace(np.array([[2.0]]), np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)))])
    solution, certificate = roesser_bound(graph)
    assert solution.status is Status.FAILED
    assert certificate is None
    # P x^2 - P (2 x + u)^2 - (x + u)^2 + rho u^2 >= 0 for P = -1, rho = 4.
    forged = Certificate(value=2.0, digest=graph.digest, multipliers=(), exponents=(0,), output_exponent=0,
                         solver="none", mode=Mode.ROESSER, metrics=(-np.eye(1),))
    assert lipschitz(graph, limits=Limits(time_limit=5.0)).lower > 2.0
    assert check(forged, graph).outcome is Outcome.NOT_PROVED


def sampled(kernel: np.ndarray, following: np.ndarray, frequencies: np.ndarray) -> float:
    """Least gain of following * relu(kernel * u), one multiplier per channel, at frequencies of shape (count, axes).

    Kernels have the shape (out, channels, *taps).
    """
    out, channels = kernel.shape[:2]
    rho, lam = cp.Variable(), cp.Variable(out, nonneg=True)
    constraints = []
    for w in frequencies:
        a, c = kernel.astype(complex), following.astype(complex)
        for turn in w[::-1]:
            a, c = (part @ np.exp(1j * turn * np.arange(part.shape[-1])) for part in (a, c))
        a, c = (np.block([[part.real, -part.imag], [part.imag, part.real]]) for part in (a, c))
        both = cp.diag(cp.hstack([lam, lam]))
        constraints.append(cp.bmat([[rho * np.eye(2 * channels), -(both @ a).T], [-both @ a, 2 * both - c.T @ c]]) >> 0)
    return float(np.sqrt(cp.Problem(cp.Minimize(rho), constraints).solve(solver=cp.CLARABEL, **_TOLERANCES)))


@pytest.mark.parametrize("taps", [2, 3])
def test_along_one_axis_nothing_is_lost_against_all_frequencies(taps: int) -> None:
    """The Kalman-Yakubovich-Popov lemma: one P is as good as one inequality for each frequency."""
    rng = np.random.default_rng(taps)
    kernel, following = rng.normal(size=(3, 2, taps)), rng.normal(size=(2, 3))
    graph = sequential((2, 7), [Convolution(kernel), Relu(), Affine(following, axis=-2)])
    solution, certificate = roesser_bound(graph)
    expected = sampled(kernel, following[:, :, None], np.linspace(0, np.pi, 200)[:, None])
    assert certificate is not None
    assert solution.bound == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("side", "factor"), [(1, 1.1), (2, 2.0)])
def test_in_the_plane_frequencies_of_a_torus_are_less_demanding(side: int, factor: float) -> None:
    """There the lemma only suffices, and where the layer after the metric mixes pixels, one metric for all frequencies
    costs more."""
    rng = np.random.default_rng(7)
    kernel, following = rng.normal(size=(2, 1, 3, 2)), rng.normal(size=(1, 2, side, side))
    _, certificate = roesser_bound(sequential((1, 5, 5), [Convolution(kernel), Relu(), Convolution(following)]))
    n = np.stack(np.meshgrid(np.arange(10), np.arange(6), indexing="ij"), axis=-1).reshape(-1, 2)
    torus = sampled(kernel, following, 2 * np.pi * n / 10)
    assert certificate is not None
    assert torus <= certificate.value * (1 + 1e-6)
    assert certificate.value <= factor * torus


def test_a_linear_state_space_model_has_the_gain_of_its_transfer_function() -> None:
    system = stable(4, 2, 3)
    _, certificate = roesser_bound(sequential((2, 30), [system]))
    w = np.exp(1j * np.linspace(0, np.pi, 20001))
    states = np.linalg.solve(w[:, None, None] * np.eye(4) - system.A, np.broadcast_to(system.B, (len(w), 4, 2)))
    peak = np.linalg.norm(system.C @ states + system.D, 2, axis=(1, 2)).max()
    assert certificate is not None
    assert peak <= certificate.value * (1 + 1e-12)
    assert certificate.value == pytest.approx(peak, rel=1e-5)


def test_bound_does_not_depend_on_the_image() -> None:
    layers = [same(2, 1), Relu(), same(1, 2)]
    small, large = (roesser_bound(sequential((1, side, side), layers))[1] for side in (3, 40))
    assert small is not None
    assert large is not None
    assert small.value == large.value
    # The digest alone tells the two networks apart.
    moved = dataclasses.replace(small, digest=large.digest)
    assert check(moved, sequential((1, 40, 40), layers)).proved


@pytest.mark.parametrize("seed", [5, 24, 33, 40, 45])
def test_random_networks(seed: int) -> None:
    graph = random_network(seed)
    _, certificate = roesser_bound(graph)
    other = lipschitz(graph, limits=Limits(tolerance=1e-5, time_limit=3.0))
    assert certificate is not None
    assert max(other.lower, other.slope_bound) <= certificate.value
    assert other.upper <= certificate.value * (1 + 1e-4)


def test_branches_and_other_networks_are_refused() -> None:
    builder = GraphBuilder()
    node = builder.input((2, 4, 4))
    branch = builder.add(Relu(), builder.add(same(2, 2), node))
    with pytest.raises(ModeError, match="`spectral`"):
        roesser_bound(builder.build(builder.add(Add((1, 1)), node, branch)))
    with pytest.raises(ModeError, match="`neuron`"):
        roesser_bound(sequential((3,), [Affine(np.eye(3)), Relu()]))
    with pytest.raises(ModeError, match="one or two"):
        roesser_bound(sequential((1, 3, 3, 3), [Convolution(np.ones((1, 1, 2, 2, 2))), Relu()]))


@pytest.mark.parametrize("backend", [None, Backend.CLARABEL])
def test_what_does_not_fit_is_refused_before_it_is_built(backend: Backend | None) -> None:
    wide = [same(160, 160), Relu(), same(160, 160), Relu()]
    with pytest.raises(TooLargeError, match="2 inequalities have orders up to 960"):
        roesser(sequential((160, 4, 4), wide), backend)
