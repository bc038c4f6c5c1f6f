"""The barrier method: its bounds against the primal-dual method's, and its algebra in any order of elimination."""

import math

import numpy as np
import pytest
from netgain.solvers import DualScaling, InteriorPoint, Limits, Status, compress, scale
from netgain.solvers.block_matrix import apply, combine, factorise
from netgain.solvers.course import Course
from netgain.solvers.dual_scaling import _start
from netgain.solvers.newton_system import NewtonSystem
from netgain.solvers.structure import diagonals_first, structure

from .bank import BANK, CLOSED_FORMS, dense, mlp

LIMITS = Limits(tolerance=1e-6)
# Wide layers between narrow ones are eliminated first.
WIDE = {
    "wide first": mlp(30, (5, 40, 8, 3)),
    "wide middle": mlp(31, (12, 10, 40, 8, 3)),
    "two wide": mlp(32, (5, 40, 8, 30, 6, 3)),
    "wide, leaky": mlp(33, (5, 40, 8, 3), 0.1, 1.0),
}
ALL = BANK | WIDE


@pytest.mark.parametrize("name", ALL)
def test_agrees_with_the_primal_dual_method(name):
    scaled = scale(compress(ALL[name]))
    expected = InteriorPoint().solve(scaled, LIMITS).bound
    solution = DualScaling().solve(scaled, LIMITS)
    assert solution.status is Status.OPTIMAL
    assert solution.dual_bound <= solution.bound <= solution.dual_bound * (1 + 1.1e-6)
    assert solution.bound == pytest.approx(expected, rel=3e-6)


@pytest.mark.parametrize("name", ALL)
def test_every_iterate_is_feasible_and_both_bounds_hold(name):
    scaled = scale(compress(ALL[name]))
    optimum = InteriorPoint().solve(scaled, Limits(tolerance=1e-7)).bound
    seen = []
    solution = DualScaling(max_iterations=40).solve(scaled, LIMITS, seen.append)
    assert tuple(seen) == solution.history
    bounds, duals = [line.bound for line in seen], [line.dual_bound for line in seen]
    assert bounds == sorted(bounds, reverse=True)
    assert duals == sorted(duals)
    assert duals[-1] <= optimum * (1 + 1e-7)
    assert bounds[-1] >= optimum * (1 - 1e-7)
    rho = math.ldexp(solution.bound, -scaled.output_exponent) ** 2
    eigenvalues = np.linalg.eigvalsh(dense(scaled.inequality, rho, solution.multipliers))
    assert eigenvalues[0] >= -1e-13 * eigenvalues[-1]
    assert all(np.all(lam >= 0) for lam in solution.multipliers)


@pytest.mark.parametrize("name", ["wide first", "two wide", "deep"])
def test_the_start_is_farther_from_the_border_than_a_multiple_of_the_closed_form(name):
    """Near it, the first step of a network of 18 layers could not be found."""
    scaled = scale(compress((ALL | {"deep": mlp(34, (6,) * 12)})[name]))
    course = Course(scaled, LIMITS, None, "")

    def least(x):
        return np.linalg.eigvalsh(dense(scaled.inequality, x[-1], np.split(x[:-1], np.cumsum(
            [len(lam) for lam in scaled.start])[:-1])))[0]

    assert least(_start(course)) > 1.05 * least(1.3 * course.best) > 0


@pytest.mark.parametrize("growth", [1.0, 1.01, 1.1])
def test_no_start_leads_to_a_dual_bound_above_the_optimum(growth, monkeypatch):
    monkeypatch.setattr("netgain.solvers.dual_scaling._START_GROWTH", growth)
    for name, inequality in ALL.items():
        scaled = scale(compress(inequality))
        if len(scaled.start) > 3 or sum(scaled.inequality.sizes) > 30:
            continue
        optimum = InteriorPoint().solve(scaled, Limits(tolerance=1e-7)).bound
        solution = DualScaling().solve(scaled, LIMITS)
        assert solution.dual_bound <= min(optimum * (1 + 1e-7), solution.bound), name


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms(name):
    inequality, value = CLOSED_FORMS[name]
    assert DualScaling().solve(scale(inequality), LIMITS).bound == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(("name", "order"), [
    ("wide first", (1, 0, 2)), ("wide middle", (2, 0, 1, 3)), ("two wide", (1, 3, 0, 2, 4)),
    # Slopes that are not zero at either end make a full block of what is read.
    ("wide, leaky", (0, 1, 2)), ("three layers", (0, 1, 2, 3)),
])
def test_only_wide_diagonal_blocks_go_first(name, order):
    assert diagonals_first(ALL[name]) == order


@pytest.mark.parametrize("width", [0, 16])
@pytest.mark.parametrize("name", [*WIDE, "mixed", "pooled", "residual", "residual, no outer activation"])
def test_any_order_of_elimination_gives_the_same_algebra(name, width, monkeypatch):
    monkeypatch.setattr("netgain.solvers.structure._WORTH_A_BLOCK", width)
    inequality, rng = ALL[name], np.random.default_rng(0)
    scaled = scale(inequality)
    point = 1.2 * np.append(np.concatenate(scaled.start), scaled.bound**2)
    direction = rng.standard_normal(len(point))
    offsets, count = inequality.offsets, len(inequality.sizes)
    ends = np.cumsum([c.groups for c in inequality.constraints])[:-1]
    expected = dense(scaled.inequality, point[-1], np.split(point[:-1], ends))
    plain = NewtonSystem(scaled.inequality, structure(scaled.inequality))
    z = np.linalg.inv(expected)
    forms = plain.forms(z)
    gradient, hessian = plain.gradient(z, forms), np.tril(plain.schur(z, z, forms, forms))
    for order in (diagonals_first(inequality), tuple(rng.permutation(count).tolist()), tuple(range(count))[::-1]):
        pattern = structure(scaled.inequality, order)
        system = NewtonSystem(scaled.inequality, pattern)
        places = np.concatenate([np.arange(offsets[j], offsets[j + 1]) for j in order])
        matrix = system.matrix(point)
        factor = factorise(matrix, pattern)
        assert factor is not None
        inverse = factor.inverse()
        np.testing.assert_allclose(inverse, z[np.ix_(places, places)], rtol=1e-8, atol=1e-9 * np.abs(z).max())
        found = system.forms(inverse)
        np.testing.assert_allclose(system.gradient(inverse, found), gradient, rtol=1e-8)
        schur = np.tril(system.schur(inverse, inverse, found, found))
        np.testing.assert_allclose(schur, hessian, rtol=1e-8, atol=1e-9 * np.abs(hessian).max())
        v = rng.standard_normal((len(z), 2))
        np.testing.assert_allclose(apply(matrix, v, pattern), expected[np.ix_(places, places)] @ v, atol=1e-9)
        step = system.matrix(direction, homogeneous=True)
        np.testing.assert_allclose(
            apply(combine(matrix, step, 0.5), v, pattern),
            apply(matrix, v, pattern) + 0.5 * apply(step, v, pattern), atol=1e-9)
        halves = factor.solve_upper(factor.solve_lower(v))
        np.testing.assert_allclose(halves, inverse @ v, rtol=1e-7, atol=1e-8 * np.abs(inverse).max())


def test_stops_when_told_to_and_keeps_the_best_point():
    scaled = scale(mlp(0, (10, 40, 40, 40, 5)))
    assert DualScaling(max_iterations=2).solve(scaled, LIMITS).status is Status.ITERATION_LIMIT
    late = DualScaling().solve(scaled, Limits(time_limit=1e-9))
    assert late.status is Status.TIME_LIMIT
    assert late.bound == pytest.approx(scaled.unscale(scaled.bound))

    def interrupt(progress):
        if progress.iteration == 15:
            raise KeyboardInterrupt

    solution = DualScaling().solve(scaled, LIMITS, interrupt)
    assert solution.status is Status.INTERRUPTED
    assert solution.iterations == 15
    rho = math.ldexp(solution.bound, -scaled.output_exponent) ** 2
    assert solution.bound < scaled.unscale(scaled.bound)
    assert np.linalg.eigvalsh(dense(scaled.inequality, rho, solution.multipliers))[0] > -1e-12


def test_cost_grows_with_the_network():
    small, large = (DualScaling().predict(scale(mlp(0, (16, *(width,) * 6, 4)))) for width in (8, 64))
    assert (small.multipliers, small.order) == (48, 64)
    assert large.memory > 8 * small.memory
    assert large.seconds > small.seconds
