"""The whole question, end to end: what is promised of a report."""

import dataclasses
import itertools
import math
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from netgain import verify
from netgain.layers import (
    Absolute,
    Add,
    Affine,
    Convolution,
    Gelu,
    GraphBuilder,
    GroupSort,
    LeakyRelu,
    Relu,
    Softmax,
    sequential,
)
from netgain.solvers import ClosedForm, InteriorPoint, Limits, Status
from netgain.solvers.conic import Backend, Conic
from netgain.verify.lipschitz import Stage
from netgain.verify.memory import TooLargeError
from netgain.verify.mode import Mode


def mlp(seed, sizes, activation=None, gain=None, bias=True):
    """Weights are He-initialised unless a gain is given."""
    rng = np.random.default_rng(seed)
    layers = []
    for index, (a, b) in enumerate(itertools.pairwise(sizes)):
        scale = math.sqrt(2 / a) if gain is None else gain / math.sqrt(a)
        layers.append(Affine(scale * rng.standard_normal((b, a)), rng.standard_normal(b) if bias else None))
        if index < len(sizes) - 2:
            layers.append(activation or Relu())
    return sequential((sizes[0],), layers)


def pre_activation_residual(seed, width, blocks):
    rng = np.random.default_rng(seed)
    builder = GraphBuilder()
    x = builder.input((width,))
    for _ in range(blocks):
        h = builder.add(Relu(), builder.add(Affine(rng.standard_normal((width, width)) / 3), x))
        x = builder.add(Add((1, 1)), x, builder.add(Affine(rng.standard_normal((width, width)) / 3), h))
    return builder.build(x)


BANK = {
    "relu": mlp(0, (6, 10, 10, 3)),
    "no bias": mlp(1, (6, 10, 3), bias=False),
    "gelu": mlp(2, (6, 10, 10, 3), Gelu()),
    "absolute": mlp(3, (6, 8, 8, 3), Absolute()),
    "groupsort": mlp(4, (6, 8, 8, 4), GroupSort(2)),
    "softmax": mlp(5, (6, 8, 8, 3), Softmax()),
    "steep leaky": mlp(6, (6, 8, 3), LeakyRelu(3.0)),
    "linear leaky": mlp(7, (6, 8, 3), LeakyRelu(1.0)),
    "one layer": mlp(8, (6, 3)),
    "residual": pre_activation_residual(9, 5, 3),
    "sixty layers of 1e-3": mlp(10, (6,) * 61, gain=1e-3),
    "wide input": mlp(11, (150, 12, 3)),
}


@pytest.mark.parametrize("name", BANK)
def test_the_bracket_holds_and_is_proved(name):
    report = verify.lipschitz(BANK[name], limits=Limits(time_limit=60))
    assert report.proved
    assert report.certificate.value == report.upper
    assert verify.check(report.certificate, BANK[name]).proved
    assert report.lower <= report.upper
    assert report.lower <= report.slope_bound <= report.upper * (1 + 1e-12)
    assert report.upper <= report.norm_product * (1 + 1e-6)
    assert report.upper <= report.solution.bound * (1 + 1e-6)
    assert report.solution.dual_bound <= report.upper
    assert report.witness is not None
    f = BANK[name].forward
    x, y = report.witness.x[None], report.witness.x_prime[None]
    if report.lower > 1e-12:
        assert np.linalg.norm(f(x) - f(y)) / np.linalg.norm(x - y) == pytest.approx(report.lower, rel=1e-3)


def test_known_constants():
    step = sequential((1,), [Affine([[1.0], [1.0]], [1.0, -1.0]), Relu(), Affine([[1.0, -1.0]])])
    report = verify.lipschitz(step)
    assert 1 <= report.upper <= 1 + 1e-6
    assert report.lower == pytest.approx(1, rel=1e-6)
    linear = verify.lipschitz(BANK["linear leaky"])
    assert linear.upper == pytest.approx(linear.lower, rel=1e-9)


def test_a_constant_network_has_the_constant_zero():
    graph = sequential((3,), [Affine(np.zeros((4, 3)), np.ones(4)), Relu(), Affine(np.ones((2, 4)))])
    report = verify.lipschitz(graph)
    assert report.upper == 0
    assert report.proved
    assert verify.check(report.certificate, graph).proved


def test_five_hundred_layers_neither_over_nor_underflow():
    """He-initialised, with a norm product of 1e170: any point of the solver's course is proved."""
    graph = mlp(12, (4,) * 513)
    report = verify.lipschitz(graph, limits=Limits(time_limit=3.0))
    assert report.proved
    assert report.upper < report.norm_product
    assert report.solution.status in (Status.TIME_LIMIT, Status.OPTIMAL)


def test_weights_beyond_float64():
    """The true constant, about 1e-480, is no float64; the least normal number bounds it."""
    report = verify.lipschitz(mlp(13, (4,) * 61, gain=1e-8))
    assert report.upper == np.finfo(np.float64).tiny
    assert report.proved
    with pytest.raises(OverflowError):
        verify.lipschitz(mlp(14, (4,) * 61, gain=1e8))


def test_every_solver_gives_a_proved_bound_and_ours_the_least():
    graph = BANK["relu"]
    best = verify.lipschitz(graph, InteriorPoint(), lower_bounds=False)
    closed = verify.lipschitz(graph, ClosedForm(), lower_bounds=False)
    assert closed.solution.status is Status.CLOSED_FORM
    assert best.upper < closed.upper <= closed.norm_product * (1 + 1e-9)
    assert closed.witness is None


def test_deterministic_in_the_seed():
    first, second = (verify.lipschitz(BANK["gelu"], seed=3) for _ in range(2))
    assert (first.upper, first.lower, first.slope_bound) == (second.upper, second.lower, second.slope_bound)


def test_no_memory_is_said_before_the_solve(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=50_000))
    for solver in (InteriorPoint(), Conic(Backend.CLARABEL)):
        with pytest.raises(TooLargeError, match=r"These solvers fit: ClosedForm\(\)"):
            verify.lipschitz(BANK["relu"], solver)
    report = verify.lipschitz(BANK["relu"], lower_bounds=False)
    assert report.solution.status is Status.CLOSED_FORM
    assert any("closed form" in note for note in report.notes)
    assert report.proved


def test_a_network_too_large_for_every_mode_is_refused_before_anything_is_built():
    convolution = Convolution(np.ones((64, 64, 3, 3)), padding=((1, 1), (1, 1)))
    graph = sequential((64, 224, 224), [convolution, Relu(), convolution])
    with pytest.raises(TooLargeError, match="Unrolled to matrices"):
        verify.lipschitz(graph, mode=Mode.NEURON)
    assert not any(prediction.fits for prediction in verify.inspect(graph).predictions[:1])
    huge = sequential((64, 4096, 4096), [convolution, Relu(), convolution])
    for mode in (None, Mode.SPECTRAL):
        with pytest.raises(TooLargeError, match="frequencies"):
            verify.lipschitz(huge, mode=mode)


def test_useless_multipliers_are_not_believed():
    """A solver that claims half of the optimum, with multipliers that prove nothing."""

    class Liar:
        def memory(self, scaled):
            return 0

        def solve(self, scaled, limits, on_progress=None):
            honest = ClosedForm().solve(scaled, limits, on_progress)
            lam = tuple(1e-9 * values for values in honest.multipliers)
            return dataclasses.replace(honest, bound=honest.bound / 10, multipliers=lam, solver="liar")

    graph = BANK["relu"]
    report = verify.lipschitz(graph, Liar())
    assert any("liar" in note for note in report.notes)
    assert report.upper == verify.lipschitz(graph, ClosedForm()).upper
    assert report.lower <= report.upper


def test_interruption_keeps_what_is_proved():
    graph = mlp(0, (10, 40, 40, 40, 5))

    def interrupt(progress):
        if progress.iteration == 3:
            raise KeyboardInterrupt

    report = verify.lipschitz(graph, on_progress=interrupt)
    assert report.solution.status is Status.INTERRUPTED
    assert report.proved
    assert report.witness is None

    def interrupt_search(stage):
        if stage is Stage.WITNESS:
            raise KeyboardInterrupt

    report = verify.lipschitz(graph, on_stage=interrupt_search)
    assert report.proved
    assert any("Interrupted" in note for note in report.notes)

    class Deaf(ClosedForm):
        def solve(self, scaled, limits, on_progress=None):
            raise KeyboardInterrupt

    report = verify.lipschitz(graph, Deaf())
    assert report.solution.status is Status.INTERRUPTED
    assert report.upper == verify.lipschitz(graph, ClosedForm(), lower_bounds=False).upper


def test_text_says_what_is_proved():
    text = str(verify.lipschitz(BANK["one layer"]))
    assert "(proved)" in text
    assert "all inputs" in text
