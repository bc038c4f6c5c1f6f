"""The structured interior point against another solver, closed forms, and the laws of its own iterates."""

import math

import numpy as np
import pytest
from netgain.solvers import GradientSystem, InteriorPoint, Limits, Status, compress, scale
from netgain.solvers.block_matrix import factorise
from netgain.solvers.conic import Backend, Conic
from netgain.solvers.inequality import Inequality, SlopeConstraint
from netgain.solvers.newton_system import NewtonSystem
from netgain.solvers.structure import structure

from .bank import BANK, CLOSED_FORMS, constraint, dense, mlp, pooled_input

LIMITS = Limits(tolerance=1e-7)


@pytest.mark.parametrize("width", [0, 10, 64])
@pytest.mark.parametrize("name", BANK)
def test_both_sides_meet(name, width, monkeypatch):
    """Whatever layers are merged into one block."""
    monkeypatch.setattr("netgain.solvers.structure._WORTH_A_BLOCK", width)
    solution = InteriorPoint().solve(scale(compress(BANK[name])), LIMITS)
    assert solution.status is Status.OPTIMAL
    assert solution.dual_bound <= solution.bound <= solution.dual_bound * (1 + 1.1e-7)


@pytest.mark.parametrize("name", [name for name in BANK if name not in ("deep", "tiny weights", "huge weights")])
def test_agrees_with_clarabel(name):
    scaled = scale(compress(BANK[name]))
    ours = InteriorPoint().solve(scaled, LIMITS)
    theirs = Conic(Backend.CLARABEL).solve(scaled, LIMITS)
    assert ours.bound == pytest.approx(theirs.bound, rel=2e-6)


@pytest.mark.parametrize("name", BANK)
def test_every_iterate_is_feasible_and_the_course_is_monotone(name):
    scaled = scale(compress(BANK[name]))
    seen = []
    solution = InteriorPoint().solve(scaled, LIMITS, seen.append)
    assert tuple(seen) == solution.history
    assert seen[0].bound == pytest.approx(scaled.unscale(scaled.bound))
    bounds, duals = [line.bound for line in seen], [line.dual_bound for line in seen]
    assert bounds == sorted(bounds, reverse=True)
    assert duals == sorted(duals)
    rho = math.ldexp(solution.bound, -scaled.output_exponent) ** 2
    eigenvalues = np.linalg.eigvalsh(dense(scaled.inequality, rho, solution.multipliers))
    assert eigenvalues[0] >= -1e-13 * eigenvalues[-1]
    assert all(np.all(lam >= 0) for lam in solution.multipliers)


@pytest.mark.parametrize("name", BANK)
@pytest.mark.parametrize("iterations", [1, 3, 6])
def test_the_dual_bound_holds_wherever_the_solve_stops(name, iterations):
    scaled = scale(compress(BANK[name]))
    optimum = InteriorPoint().solve(scaled, LIMITS).bound
    early = InteriorPoint(max_iterations=iterations).solve(scaled, LIMITS)
    assert early.dual_bound <= optimum * (1 + 1e-9)
    assert early.bound >= optimum * (1 - 1e-9)


@pytest.mark.parametrize("name", [name for name in BANK if "weights" not in name])
def test_no_slopes_exceed_it(name):
    scaled = scale(compress(BANK[name]))
    bound = InteriorPoint().solve(scaled, LIMITS).bound
    assert scaled.unscale(GradientSystem(seed=0).solve(scaled.inequality).value) <= bound * (1 + 1e-9)


@pytest.mark.parametrize("name", BANK)
def test_undefined_entries_are_never_read(name, monkeypatch):
    scaled = scale(compress(BANK[name]))
    expected = InteriorPoint().solve(scaled, LIMITS).bound
    monkeypatch.setattr(np, "empty", lambda *args, **kwargs: np.full(*args, np.nan, **kwargs))
    assert InteriorPoint().solve(scaled, LIMITS).bound == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms(name):
    inequality, value = CLOSED_FORMS[name]
    assert InteriorPoint().solve(scale(inequality), LIMITS).bound == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("windows", [2, 4])
def test_maxima_over_disjoint_windows_are_as_steep_as_the_best_selection(windows):
    # Every window passes on one of its entries, so whatever follows sees a gain of 1 at most, and of 1 indeed.
    inequality = BANK["pooled input"] if windows == 2 else pooled_input(3, 12, 4, 2)
    expected = np.linalg.norm(inequality.output[1], 2)
    assert InteriorPoint().solve(scale(compress(inequality)), LIMITS).bound == pytest.approx(expected, rel=1e-6)
    assert GradientSystem(seed=0).solve(inequality).value == pytest.approx(expected, rel=1e-9)


def test_positive_weights_are_worst_with_all_slopes_one():
    rng = np.random.default_rng(1)
    w, c = rng.random((6, 4)), rng.random((1, 6))
    positive = Inequality(4, (constraint({0: w}),), {1: c})
    assert InteriorPoint().solve(scale(positive), LIMITS).bound == pytest.approx(np.linalg.norm(c @ w), rel=1e-6)


def test_bound_scales_with_the_weights():
    base = InteriorPoint().solve(scale(mlp(3, (4, 6, 5, 2))), LIMITS).bound
    scaled = InteriorPoint().solve(scale(mlp(3, (4, 6, 5, 2), gain=3.0)), LIMITS).bound
    assert scaled == pytest.approx(27 * base, rel=1e-6)


@pytest.mark.parametrize("name", ["wide input", "wide output", "mixed", "residual"])
def test_compression_keeps_the_optimum(name):
    full = InteriorPoint().solve(scale(BANK[name]), LIMITS).bound
    assert InteriorPoint().solve(scale(compress(BANK[name])), LIMITS).bound == pytest.approx(full, rel=1e-6)


def test_no_nonlinear_layer_needs_no_iteration():
    w = np.random.default_rng(0).standard_normal((3, 5))
    solution = InteriorPoint().solve(scale(compress(Inequality(5, (), {0: w}))), LIMITS)
    assert solution.status is Status.OPTIMAL
    assert solution.iterations == 0
    assert solution.bound == pytest.approx(np.linalg.norm(w, 2), rel=1e-12)


def test_a_neuron_that_nothing_moves():
    # The infimum needs an infinite multiplier: the bound comes as close as asked, and the dual bound never above.
    w = np.array([[1.0, 0.0], [0.0, 0.0]])
    dead = Inequality(2, (SlopeConstraint({0: w}, np.zeros(2), np.ones(2)),), {1: np.ones((1, 2))})
    solution = InteriorPoint().solve(scale(dead), Limits(tolerance=1e-5))
    assert solution.dual_bound <= 1 + 1e-12
    assert 1 - 1e-12 <= solution.bound <= 1 + 2e-5


def test_stops_when_told_to():
    scaled = scale(mlp(0, (10, 40, 40, 40, 5)))
    assert InteriorPoint(max_iterations=2).solve(scaled, LIMITS).status is Status.ITERATION_LIMIT
    late = InteriorPoint().solve(scaled, Limits(time_limit=1e-9))
    assert late.status is Status.TIME_LIMIT
    assert late.bound == pytest.approx(scaled.unscale(scaled.bound))


def test_ctrl_c_keeps_the_best_point():
    scaled = scale(mlp(0, (10, 40, 40, 40, 5)))

    def interrupt(progress):
        if progress.iteration == 4:
            raise KeyboardInterrupt

    solution = InteriorPoint().solve(scaled, LIMITS, interrupt)
    assert solution.status is Status.INTERRUPTED
    assert solution.iterations == 4
    rho = math.ldexp(solution.bound, -scaled.output_exponent) ** 2
    assert solution.bound < scaled.unscale(scaled.bound)
    assert np.linalg.eigvalsh(dense(scaled.inequality, rho, solution.multipliers))[0] > -1e-12


def test_cost_grows_with_the_network():
    small, large = (InteriorPoint().predict(scale(mlp(0, (16, *(width,) * 6, 4)))) for width in (8, 64))
    assert (small.multipliers, small.order) == (48, 64)
    assert large.memory > 8 * small.memory
    assert large.seconds > small.seconds


@pytest.mark.parametrize("name", [
    "mixed", "coupled", "residual", "leaky", "residual, no outer activation", "pooled",
    "pooled, two of three answer, skewed slopes", "pooled, slopes [0, 1]"])
def test_newton_system_is_that_of_the_definition(name):
    """Against trace(F_i Z F_j Y) with every F_i formed."""
    inequality = BANK[name]
    pattern = structure(inequality)
    system = NewtonSystem(inequality, pattern)
    rng = np.random.default_rng(0)
    n, m = pattern.size, inequality.multipliers
    z, y = (x @ x.T for x in rng.standard_normal((2, n, n)))

    def unit(index):
        lam = np.zeros(m)
        lam[index] = 1
        ends = np.cumsum([c.groups for c in inequality.constraints])[:-1]
        return dense(inequality, 0.0, np.split(lam, ends)) - dense(inequality, 0.0, np.split(np.zeros(m), ends))

    weights = [unit(i) for i in range(m)]
    energy = np.zeros((n, n))
    energy[: inequality.input_size, : inequality.input_size] = np.eye(inequality.input_size)
    weights.append(energy)
    expected = np.array([[np.trace(f @ z @ g @ y) for g in weights] for f in weights])
    expected = (expected + expected.T) / 2
    schur = np.tril(system.schur(z, y, system.forms(z), system.forms(y)))
    np.testing.assert_allclose(schur, np.tril(expected), rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    gradient = [np.trace(f @ y) for f in weights]
    np.testing.assert_allclose(system.gradient(y, system.forms(y)), gradient, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(system.gradient_on_pattern(y), gradient, rtol=1e-9, atol=1e-9)
    point = rng.random(m + 1)
    ends = np.cumsum([c.groups for c in inequality.constraints])[:-1]
    blocks, whole = system.matrix(point), np.zeros((n, n))
    for (i, j), block in blocks.items():
        whole[pattern.rows[i], pattern.rows[j]] = block
        whole[pattern.rows[j], pattern.rows[i]] = block.T
    np.testing.assert_allclose(whole, dense(inequality, point[-1], np.split(point[:-1], ends)), atol=1e-12)


def test_an_indefinite_matrix_has_no_factor():
    scaled = scale(BANK["three layers"])
    system = NewtonSystem(scaled.inequality, structure(scaled.inequality))
    point = np.append(np.concatenate(scaled.start), scaled.bound**2)
    assert factorise(system.matrix(1.1 * point), system.structure) is not None
    point[-1] /= 100
    assert factorise(system.matrix(point), system.structure) is None
