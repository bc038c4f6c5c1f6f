"""Gains by semidefinite programming on slopes of all kinds, beside an independent solver and all vertices."""

import itertools
import warnings

import cvxpy
import numpy as np
import pytest
from netgain.solvers.implicit.diagonal_metric import diagonal_stability, euclidean_gain, metric_matrix
from netgain.solvers.implicit.gain import exact_gain, majorant_gain
from netgain.solvers.implicit.loop_transformation import unit_slopes
from netgain.solvers.implicit.row_gain import _Problem, mixed_gain, row_gain
from netgain.solvers.implicit.weighted_log_norm import SlopeBox, least_log_norm
from netgain.solvers.result import Limits, Status
from netgain.verify.implicit.check import proved_row_gain

from .implicit_bank import A1, B1, C1, HIERARCHY, random_matrix

BOXES = [(0.0, 1.0), (0.1, 1.0), (-0.2, 1.1), (0.0, 0.25)]


def network(seed, lower=0.0, upper=1.0, n=5, m=3, q=2):
    rng = np.random.default_rng(seed)
    A = random_matrix(seed, n, most=0.7)
    slopes = SlopeBox(np.where(rng.random(n) < 0.7, lower, (lower + upper) / 2), np.full(n, upper))
    A = A / max(1.0, 1.3 * least_log_norm(A, slopes).value)
    return A, rng.standard_normal((n, m)), rng.standard_normal((q, n)), slopes


def conic_value(A, B, C, slopes, per_input):
    """The same inequality in its original coordinates, by Clarabel."""
    n, m = B.shape
    metric, t = cvxpy.Variable(n, nonneg=True), cvxpy.Variable(m if per_input else 1)
    P = np.hstack([np.eye(n) - slopes.lower[:, None] * A, -slopes.lower[:, None] * B])
    R = np.hstack([np.eye(n) - slopes.upper[:, None] * A, -slopes.upper[:, None] * B])
    half = P.T @ cvxpy.diag(metric) @ R
    select = np.hstack([np.zeros((m, n)), np.eye(m)])
    weights = cvxpy.diag(t) if per_input else t * np.eye(m)
    outputs = np.hstack([C, np.zeros((len(C), m))])
    program = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(t)),
                            [half + half.T + select.T @ weights @ select - outputs.T @ outputs >> 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an accuracy below its default, which is not needed here
        program.solve(solver=cvxpy.CLARABEL)
    return float(np.sqrt(program.value))


def test_the_two_by_two_fact():
    found = row_gain(A1, B1, C1[0], limits=Limits(tolerance=1e-8))
    assert found.gain == pytest.approx(2.628384, abs=1e-6)
    assert exact_gain(A1, B1, C1)[0] <= found.gain <= majorant_gain(A1, B1, C1)[0]


@pytest.mark.parametrize(("ends", "seed"), list(itertools.product(BOXES, range(3))))
def test_both_gains_are_those_of_a_conic_solver_and_above_all_vertices(ends, seed):
    A, B, C, slopes = network(seed, *ends)
    found = euclidean_gain(A, B, C, slopes=slopes)
    assert found.gain == pytest.approx(conic_value(A, B, C, slopes, per_input=False), rel=1e-4)
    assert found.gain >= exact_gain(A, B, C, 2, slopes)[0] * (1 - 1e-9)
    for row in C:
        mine = row_gain(A, B, row, slopes)
        assert mine.gain == pytest.approx(conic_value(A, B, row[None], slopes, per_input=True), rel=1e-4)
        assert exact_gain(A, B, row[None], np.inf, slopes)[0] * (1 - 1e-9) <= mine.gain
        assert mine.gain <= euclidean_gain(A, B, row[None], slopes=slopes).gain * np.sqrt(3) * (1 + 1e-4)


@pytest.mark.parametrize(("ends", "seed"), list(itertools.product(BOXES, range(2))))
def test_the_gain_from_the_largest_norm_to_the_euclidean_one(ends, seed):
    A, B, C, slopes = network(seed, *ends)
    found = mixed_gain(A, B, C, slopes)
    assert found.gain == pytest.approx(conic_value(A, B, C, slopes, per_input=True), rel=1e-4)
    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=3)))
    for d in itertools.product(*zip(slopes.lower, slopes.upper, strict=True)):
        answers = corners @ (C @ np.linalg.solve(np.eye(5) - np.array(d)[:, None] * A, np.array(d)[:, None] * B)).T
        assert np.linalg.norm(answers, axis=1).max() <= found.gain * (1 + 1e-9)
    assert max(row_gain(A, B, row, slopes).gain for row in C) <= found.gain * (1 + 1e-4)


@pytest.mark.parametrize(("ends", "seed"), list(itertools.product(BOXES, range(3))))
def test_the_majorant_of_slopes_bounds_every_state(ends, seed):
    A, B, C, slopes = network(seed, *ends)
    bound, z = majorant_gain(A, B, C, slopes)
    assert bound >= exact_gain(A, B, C, np.inf, slopes)[0] * (1 - 1e-9)
    rng = np.random.default_rng(seed)
    for d in rng.uniform(slopes.lower, slopes.upper, (200, 5)):
        inner = np.linalg.solve(np.eye(5) - d[:, None] * A, d[:, None] * B)
        assert np.all(np.abs(inner).sum(1) <= z * (1 + 1e-9))
    if ends == (0.0, 1.0):
        assert bound == pytest.approx(majorant_gain(A, B, C)[0])


@pytest.mark.parametrize("seed", range(4))
def test_the_loop_transformation_keeps_the_answers(seed):
    A, B, C, slopes = network(seed, -0.2, 1.1)
    loop = unit_slopes(A, B, C, slopes)
    for share in np.random.default_rng(seed).uniform(0, 1, (20, 5)):
        d = slopes.lower + share * (slopes.upper - slopes.lower)
        answer = C @ np.linalg.solve(np.eye(5) - d[:, None] * A, d[:, None] * B)
        inner = np.linalg.solve(np.eye(5) - share[:, None] * loop.A, share[:, None] * loop.B)
        assert loop.C @ inner + loop.D == pytest.approx(answer, abs=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_neurons_with_one_slope(seed):
    A, B, C, _ = network(seed)
    point = SlopeBox.uniform(5, 0.7, 0.7)
    answer = 0.7 * C @ np.linalg.solve(np.eye(5) - 0.7 * A, B)
    assert euclidean_gain(A, B, C, slopes=point).gain == pytest.approx(np.linalg.norm(answer, 2))
    assert row_gain(A, B, C[0], point).gain == pytest.approx(np.abs(answer[0]).sum())
    lower, upper = np.array([0.0, 0.4, 0.1, 0.7, -0.2]), np.array([1.0, 0.4, 1.0, 0.7, 1.0])
    some, nearly = SlopeBox(lower, upper), SlopeBox(lower, upper + 1e-7)
    found, near = (euclidean_gain(A, B, C, slopes=slopes) for slopes in (some, nearly))
    assert found.gain == pytest.approx(near.gain, rel=1e-4)
    assert row_gain(A, B, C[0], some).gain == pytest.approx(row_gain(A, B, C[0], nearly).gain, rel=1e-4)
    assert np.linalg.eigvalsh(metric_matrix(A, found.metric, some))[0] > 0


def test_slopes_away_from_zero_admit_more():
    """I - D A is singular at no D in [0.1, 1] for this A, but a metric of [0, 1] has nothing to lose either."""
    A = np.array([[0.0, 2.0], [-2.0, 0.0]])
    narrow = SlopeBox.uniform(2, 0.5, 1.0)
    assert diagonal_stability(A, narrow).margin > 0
    A = np.array([[1.0, 0.0], [0.0, -3.0]])
    assert not diagonal_stability(A).margin > 0
    assert diagonal_stability(A, SlopeBox(np.zeros(2), np.array([0.9, 1.0]))).margin > 0
    found = diagonal_stability(HIERARCHY[3][0], SlopeBox.uniform(2, 0.0, 0.3))
    assert np.linalg.eigvalsh(metric_matrix(HIERARCHY[3][0], found.metric, SlopeBox.uniform(2, 0.0, 0.3)))[0] > 0


@pytest.mark.parametrize(("power", "part"), list(itertools.product((-40, 40), ("B", "c"))))
def test_scaling(power, part):
    A, B, C, _ = network(1)
    scaled = {"B": B, "c": C[0]} | {part: {"B": B, "c": C[0]}[part] * 2.0**power}
    assert row_gain(A, **scaled).gain == pytest.approx(row_gain(A, B, C[0]).gain * 2.0**power, rel=1e-5)


def test_many_inputs():
    """n = 40 with 200 inputs: far below formulas in absolute values, above what vertices of random searches reach."""
    rng = np.random.default_rng(0)
    T, B, c = rng.uniform(-1, 1, (40, 40)) / 6, rng.uniform(-1, 1, (40, 200)) / 14, rng.uniform(-1, 1, 40) / 6
    A = T - np.diag(np.abs(T).sum(1))
    found = row_gain(A, B, c, limits=Limits(tolerance=1e-3))
    assert found.gap <= 1e-3
    reached = max(np.abs(c @ np.linalg.solve(np.eye(40) - d[:, None] * A, d[:, None] * B)).sum()
                  for d in rng.integers(0, 2, (200, 40)).astype(float))
    assert reached <= found.gain <= 0.3 * majorant_gain(A, B, c[None])[0]


@pytest.mark.parametrize("seed", range(3))
def test_a_search_that_is_cut_short_gives_what_it_has(seed, monkeypatch):
    """Every point bounds the gain, and a later end gives no larger one."""
    A, B, C, slopes = network(seed)
    least, exact = row_gain(A, B, C[0], slopes), exact_gain(A, B, C[:1], slopes=slopes)[0]
    assert least.status is Status.OPTIMAL
    steps = _Problem._derivatives
    gains = []
    for allowed in (0, 1, 5, 20):
        calls = itertools.count()

        def interrupted(self, *point, calls=calls, allowed=allowed):
            if next(calls) >= allowed:
                raise KeyboardInterrupt
            return steps(self, *point)

        monkeypatch.setattr(_Problem, "_derivatives", interrupted)
        found = row_gain(A, B, C[0], slopes)
        assert found.status is Status.INTERRUPTED
        gains.append(found.gain)
        slope_ends = slopes.lower, slopes.upper
        assert proved_row_gain(A, B, C[0], found.metric, found.inputs * (1 + 1e-9), slope_ends) >= exact
        assert found.gain * (1 - min(found.gap, 1)) <= least.gain
    assert gains == sorted(gains, reverse=True)
    assert least.gain <= gains[-1] < gains[0]
    monkeypatch.setattr(_Problem, "_derivatives", steps)
    at_once = row_gain(A, B, C[0], slopes, Limits(time_limit=1e-9))
    assert at_once.status is Status.TIME_LIMIT
    assert least.gain < at_once.gain <= gains[0]


def test_refusals():
    with pytest.raises(ValueError, match="No diagonal metric"):
        row_gain(HIERARCHY[3][0], np.eye(2), np.ones(2))
    with pytest.raises(ValueError, match="shapes"):
        row_gain(A1, np.eye(3), np.ones(2))
    with pytest.raises(ValueError, match="singular"):
        unit_slopes(np.eye(2), np.eye(2), np.eye(2), SlopeBox.uniform(2, 1.0, 1.0))
    with pytest.raises(ValueError, match="not well-posed"):
        majorant_gain(2 * np.eye(2), np.eye(2), np.eye(2), SlopeBox.uniform(2))
    assert row_gain(A1, 0 * B1, C1[0]).gain == 0
