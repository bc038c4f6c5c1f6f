"""The three realisations of one network: how their bounds are ordered, and which is chosen."""

import dataclasses
import functools
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from netgain.layers import (
    Add,
    Affine,
    AveragePool,
    Convolution,
    Flatten,
    Graph,
    GraphBuilder,
    LeakyRelu,
    MaxPool,
    ModelError,
    Relu,
    Tanh,
    sequential,
)
from netgain.layers.state_space import StateSpace
from netgain.solvers import ClosedForm, InteriorPoint, Limits, Status
from netgain.solvers.result import Cost
from netgain.verify import check, lipschitz, load_certificate
from netgain.verify.lipschitz import LipschitzReport, _better
from netgain.verify.memory import TooLargeError
from netgain.verify.mode import Mode
from netgain.verify.modes import predictions
from netgain.verify.neuron import unrolled

RNG = np.random.default_rng(11)
LIMITS = Limits(tolerance=1e-6, time_limit=20.0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))


def line(out: int, channels: int) -> Convolution:
    return Convolution(normal(out, channels, 3), padding=((1,), (1,)))


def plane(out: int, channels: int) -> Convolution:
    return Convolution(normal(out, channels, 3, 3), padding=((1, 1), (1, 1)))


def residual() -> Graph:
    builder = GraphBuilder()
    start = builder.add(Relu(), builder.add(line(2, 1), builder.input((1, 8))))
    inner = builder.add(line(2, 2), builder.add(Relu(), builder.add(line(2, 2), start)))
    return builder.build(builder.add(Relu(), builder.add(Add((1, 1)), inner, start)), "residual")


def state_space(states: int, channels: int, out: int) -> StateSpace:
    A = RNG.normal(size=(states, states))
    return StateSpace(0.7 * A / np.abs(np.linalg.eigvals(A)).max(), normal(states, channels), normal(out, states))


CHAINS = {
    "line": sequential((1, 9), [line(3, 1), Relu(), line(2, 3), Tanh(), line(1, 2)]),
    "plane": sequential((1, 5, 4), [plane(2, 1), LeakyRelu(0.2), plane(2, 2)]),
    "negative slopes": sequential((2, 6), [line(2, 2), LeakyRelu(-0.3), line(2, 2)]),
    "strided": sequential((1, 10), [Convolution(normal(2, 1, 3), strides=(2,)), Relu(), line(2, 2), Relu()]),
    "means": sequential((1, 6, 6), [plane(2, 1), Relu(), AveragePool((2, 2), (2, 2)), plane(1, 2)]),
    "maxima": sequential((1, 8), [line(2, 1), MaxPool((2,), (2,)), line(2, 2), Relu()]),
    "head": sequential((1, 6), [line(2, 1), Relu(), line(2, 2), Relu(), Flatten(), Affine(normal(4, 12)), Relu(),
                                Affine(normal(2, 4))]),
    "state spaces": sequential((1, 10), [state_space(2, 1, 2), Relu(), state_space(2, 2, 1)]),
    "linear": sequential((1, 6), [line(2, 1), line(2, 2)]),
    "linear, with a head": sequential((1, 6), [line(2, 1), Flatten(), Affine(normal(3, 12))]),
}
PERCEPTRON = sequential((3,), [Affine(normal(4, 3)), Relu(), Affine(normal(2, 4))])


@functools.cache
def solved(graph: Graph, mode: Mode) -> LipschitzReport:
    return lipschitz(graph, limits=LIMITS, mode=mode, lower_bounds=mode is Mode.NEURON)


def proved(graph: Graph, mode: Mode, folder) -> LipschitzReport:
    """A report whose certificate survives a file."""
    report = solved(graph, mode)
    assert report.mode is mode
    assert report.certificate is not None
    report.certificate.save(folder / f"{mode.value}.json")
    loaded = load_certificate(folder / f"{mode.value}.json")
    assert loaded.mode is mode
    assert loaded.value == report.upper
    assert check(loaded, graph).proved
    assert not check(dataclasses.replace(loaded, value=0.99 * loaded.value), graph).proved
    return report


@pytest.mark.parametrize("name", CHAINS)
def test_fewer_multipliers_prove_more_and_more(name: str, tmp_path) -> None:
    """From below: an input pair, multipliers by neuron, by channel on a torus, by channel whatever the image."""
    neuron, spectral, roesser = (proved(CHAINS[name], mode, tmp_path) for mode in Mode)
    assert 0 < max(neuron.lower, neuron.slope_bound) <= neuron.upper
    assert neuron.upper <= spectral.upper * (1 + 1e-6)
    assert spectral.upper <= roesser.upper * (1 + 1e-4)
    assert spectral.solution.status is Status.OPTIMAL
    assert spectral.upper <= spectral.solution.bound * (1 + 1e-6)
    assert spectral.upper <= spectral.norm_product * (1 + 1e-6)


def test_branches_have_two_modes(tmp_path) -> None:
    neuron, spectral = (proved(residual(), mode, tmp_path) for mode in (Mode.NEURON, Mode.SPECTRAL))
    assert 0 < neuron.lower <= neuron.upper <= spectral.upper * (1 + 1e-6)
    with pytest.raises(ModelError, match="`spectral`"):
        lipschitz(residual(), mode=Mode.ROESSER)


@pytest.mark.parametrize("mode", [Mode.SPECTRAL, Mode.ROESSER])
def test_a_perceptron_has_no_pixels(mode: Mode) -> None:
    with pytest.raises(ModelError, match="use the mode `neuron`"):
        lipschitz(PERCEPTRON, mode=mode)


def test_modes_and_solvers_that_do_not_go_together() -> None:
    with pytest.raises(ModelError, match="solver of its own"):
        lipschitz(CHAINS["line"], ClosedForm(), mode=Mode.SPECTRAL)
    with pytest.raises(ModelError, match="conic solvers"):
        lipschitz(CHAINS["line"], InteriorPoint(), mode=Mode.ROESSER)


@pytest.mark.parametrize("name", CHAINS)
def test_small_networks_get_a_multiplier_for_each_neuron(name: str) -> None:
    report = lipschitz(CHAINS[name], limits=LIMITS, lower_bounds=False)
    assert report.mode is Mode.NEURON
    assert report.notes == ()
    assert report.proved


@pytest.mark.parametrize("name", CHAINS)
def test_predictions_are_those_of_what_is_solved(name: str) -> None:
    by_mode = {prediction.mode: prediction for prediction in predictions(CHAINS[name])}
    assert set(by_mode) == set(Mode)
    for mode, prediction in by_mode.items():
        assert prediction.fits
        solution = solved(CHAINS[name], mode).solution
        assert prediction.multipliers == sum(len(lam) for lam in solution.multipliers)
    assert not {p.mode: p for p in predictions(PERCEPTRON)}[Mode.SPECTRAL].fits


def wide(side: int = 12) -> Graph:
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape) / 6 for shape in ((4, 1, 3, 3), (4, 4, 3, 3), (2, 4, 3, 3))]
    first, *others = (Convolution(w, padding=((1, 1), (1, 1))) for w in weights)
    return sequential((1, side, side), [first, *(layer for other in others for layer in (Relu(), other))])


def test_multipliers_by_channel_where_neurons_do_not_fit(monkeypatch) -> None:
    graph = wide()
    neuron, spectral, _ = predictions(graph)
    assert spectral.memory < neuron.memory
    unlimited = lipschitz(graph, limits=LIMITS, mode=Mode.SPECTRAL, lower_bounds=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2 * spectral.memory))
    report = lipschitz(graph, limits=LIMITS, lower_bounds=False)
    assert report.mode is Mode.SPECTRAL
    assert report.upper == pytest.approx(unlimited.upper, rel=1e-5)
    assert len(report.notes) == 1
    assert "Mode spectral" in report.notes[0]
    assert "GiB" in report.notes[0]
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=spectral.memory // 2))
    for mode in (None, Mode.SPECTRAL):
        with pytest.raises(TooLargeError, match="`netgain inspect`"):
            lipschitz(graph, mode=mode)


def test_multipliers_by_channel_where_neurons_take_too_long() -> None:
    graph = wide()
    neuron, spectral, _ = predictions(graph)
    assert spectral.seconds < neuron.seconds
    report = lipschitz(graph, limits=Limits(tolerance=1e-3, time_limit=neuron.seconds), lower_bounds=False)
    assert report.mode is Mode.SPECTRAL
    assert f"The mode neuron is predicted to take {neuron.memory / 2**30:.1f} GiB" in report.notes[0]
    assert report.proved


def test_no_mode_is_taken_that_is_slower_still(monkeypatch) -> None:
    graph = wide(6)
    neuron, spectral, _ = predictions(graph)
    slow = Cost(spectral.multipliers, spectral.order, spectral.memory, 1.1 * neuron.seconds)
    monkeypatch.setattr("netgain.verify.spectral.predict_spectral", lambda stages: slow)
    report = lipschitz(graph, limits=Limits(tolerance=0.1, time_limit=neuron.seconds), lower_bounds=False)
    assert report.mode is Mode.NEURON
    assert report.proved


def test_interrupted_at_once_multipliers_by_channel_are_proved() -> None:
    graph = wide()
    neuron, _, _ = predictions(graph)

    def interrupt(progress) -> None:
        raise KeyboardInterrupt

    limits = Limits(time_limit=neuron.seconds)
    report = lipschitz(graph, limits=limits, lower_bounds=False, on_progress=interrupt)
    assert report.mode is Mode.SPECTRAL
    assert report.solution.status is Status.INTERRUPTED
    assert report.certificate is not None
    assert report.upper == report.certificate.value
    # The unrolled closed form is at hand, too.
    assert report.upper <= lipschitz(graph, ClosedForm(), lower_bounds=False).upper


@pytest.mark.parametrize("name", ["line", "head", "maxima"])
def test_the_least_bound_is_reported(name: str) -> None:
    graph, notes = CHAINS[name], []
    neuron, given = unrolled(graph), solved(graph, Mode.SPECTRAL).certificate
    closed = neuron.prove(neuron.closed_form())
    assert _better(neuron, dataclasses.replace(given, value=0.999 * closed.value), notes).mode is Mode.SPECTRAL
    assert notes == []
    for worse in (dataclasses.replace(given, value=1.001 * closed.value), None):
        taken = _better(neuron, worse, notes)
        assert (taken.mode, taken.value) == (Mode.NEURON, closed.value)
        assert ("smaller" in notes.pop()) == (worse is not None)
        assert check(taken, graph).proved


@pytest.mark.parametrize("place", [0, 1])
def test_a_branch_that_gives_nothing_is_as_good_as_none(place: int) -> None:
    """Multipliers of answers that are always zero want to be infinite."""
    rng = np.random.default_rng(4)

    def build(branch: bool) -> Graph:
        builder = GraphBuilder()
        first, last = (Convolution(kernel, padding=((1, 1), (1, 1))) for kernel in kernels[:2])
        node = builder.add(Relu(), builder.add(first, builder.input((2, 5, 5))))
        if branch:
            inner = builder.add(Relu(), builder.add(Convolution(kernels[2], padding=((1, 1), (1, 1))), node))
            inner = builder.add(Convolution(kernels[3], padding=((1, 1), (1, 1))), inner)
            node = builder.add(Add((1, 1)), inner, node)
        return builder.build(builder.add(last, builder.add(Relu(), node)))

    kernels = rng.normal(size=(4, 2, 2, 3, 3)) / 3
    kernels[2 + place] = 0
    found, without = (lipschitz(build(branch), mode=Mode.SPECTRAL, lower_bounds=False) for branch in (True, False))
    assert found.solution.status is Status.OPTIMAL
    assert found.proved
    assert found.solution.iterations <= 25
    assert found.upper == pytest.approx(without.upper, rel=1e-5)
