"""One metric for several A: against finite differences, other solvers, closed forms, and the matrices themselves."""

import itertools

import numpy as np
import pytest
import scipy.linalg
from netgain.solvers.convex_problem import cp, solved
from netgain.solvers.stability.common_metric import MOST_UNITS, _Barrier, common_metric
from netgain.solvers.stability.frequency_contraction import least_rate


def stages(seed, count, n, imaginary=False):
    rng = np.random.default_rng(seed)
    noise = 0.4 * rng.standard_normal((count, n, n)) / np.sqrt(n)
    if imaginary:
        noise = noise + 0.2j * rng.standard_normal((count, n, n)) / np.sqrt(n)
    return noise - np.eye(n)


@pytest.mark.parametrize("imaginary", [False, True])
def test_gradient_and_hessian_are_those_of_the_barrier(imaginary):
    n, count = 3, 2
    barrier = _Barrier([stages(k, 2 + k, n, imaginary) for k in range(count)], 1.3, 0.6, 0.4)
    entries = barrier.basis.shape[1]

    def split(z):
        return (barrier.basis @ z[:entries]).reshape(n, n), z[entries:-1].reshape(count, n), float(z[-1])

    q = np.array([[1.4, 0.2, -0.1], [0.2, 1.1, 0.3], [-0.1, 0.3, 0.9]])
    point = np.concatenate([q[np.triu_indices(n)], [2.0, 2.5, 3.0, 1.8, 2.2, 2.9], [-30.0]])
    gradient, hessian = barrier._derivatives(*split(point))
    moves = 1e-4 * np.eye(len(point))
    first = [(barrier._value(*split(point + e), 0.0) - barrier._value(*split(point - e), 0.0)) / 2e-4 for e in moves]
    second = [(barrier._derivatives(*split(point + e))[0] - barrier._derivatives(*split(point - e))[0]) / 2e-4
              for e in moves]
    assert np.allclose(first, gradient, atol=1e-7)
    assert np.allclose(second, hessian, atol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_one_matrix_is_what_the_other_solver_of_it_finds(seed):
    """The Kalman-Yakubovich-Popov method eliminates the metric, and shares no code with the barrier."""
    a = stages(seed, 1, 2 + seed)[0]
    box = (0.8, 0.2, 1.0)
    ours, other = common_metric(a[None, None], *box, 1e-5), least_rate(a, *box, 1e-5)
    assert ours.rate == pytest.approx(other.rate, abs=2e-5)


def clarabel_finds(symbols, step, lower, upper, rate):
    """Whether cvxpy finds a common metric for real A_k at this rate."""
    count, n = len(symbols), symbols.shape[-1]
    q, lam, margin = cp.Variable((n, n), symmetric=True), cp.Variable((count, n), nonneg=True), cp.Variable()
    held = [q >> margin * np.eye(n), cp.trace(q) == n, margin <= 1]
    for k, a in enumerate(symbols[:, 0]):
        weighted = cp.diag(lam[k])
        side = -step * q - (lower + upper) / 2 * a.T @ weighted
        corner = (rate**2 - 1) * q + lower * upper * a.T @ weighted @ a
        block = cp.bmat([[weighted - step**2 * q, side.T], [side, corner]])
        held.append((block + block.T) / 2 >> margin * np.eye(2 * n))
    problem = cp.Problem(cp.Maximize(margin), held)
    return solved(problem, "the test's inequality") and margin.value > 1e-7


@pytest.mark.parametrize("seed", range(2))
def test_clarabel_agrees_on_several_stages(seed):
    symbols, box = stages(seed, 3, 3)[:, None], (0.9, 0.2, 1.0)
    found = common_metric(symbols, *box, 1e-5)
    assert clarabel_finds(symbols, *box, found.rate + 1e-4)
    assert not clarabel_finds(symbols, *box, found.rate - 1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_every_stage_keeps_the_metric_at_every_vertex(seed):
    symbols, (step, lower, upper) = stages(seed, 3, 3)[:, None], (0.9, (0.2, 0.1, 0.3, 0.5)[seed], 1.0)
    found = common_metric(symbols, step, lower, upper, 1e-4)
    root = np.real(scipy.linalg.sqrtm(found.metric))
    reached = max(
        np.linalg.norm(root @ (np.eye(3) + step * np.diag(d) @ a) @ np.linalg.inv(root), 2)
        for a in symbols[:, 0] for d in itertools.product((lower, upper), repeat=3)
    )
    assert reached <= found.rate + 1e-9
    alone = max(least_rate(a, step, lower, upper, 1e-4).rate for a in symbols[:, 0])
    assert found.rate >= alone - 2e-4


def test_the_rate_of_diagonal_stages_is_that_of_the_worst_entry():
    diagonals = np.array([[0.3, 0.9], [1.2, 0.5], [0.7, 0.4]])
    found = common_metric(np.array([[-np.diag(d)] for d in diagonals]), 1.0, 0.25, 1.0, 1e-6)
    assert found.rate == pytest.approx(1 - 0.25 * 0.3, abs=2e-6)


def test_equal_slopes_of_one_channel_reach_the_largest_symbol():
    """With slopes [d, d] a step is linear, and each plane wave is multiplied by 1 + h d A(w)."""
    waves = 0.3 * np.exp(2j * np.pi * np.arange(16) / 16) - 0.9
    found = common_metric(waves[None, :, None, None], 0.8, 0.5, 0.5, 1e-5)
    assert found.rate == pytest.approx(np.abs(1 + 0.4 * waves).max(), abs=1e-4)


def test_frequencies_not_in_play_at_first_are_added():
    """The worst symbol is the last of many. For one channel and Q = 1 the least r for a multiplier l is elementary."""
    values = np.append(np.full(199, -1.0), -0.2)
    found = common_metric((values + 0j).reshape(1, -1, 1, 1), 1.0, 0.5, 1.0, 1e-5)
    lam = np.linspace(1.001, 20, 200_000)
    squares = [1 - 0.5 * a**2 * lam + (1 + 0.75 * a * lam) ** 2 / (lam - 1) for a in (-1.0, -0.2)]
    assert found.rate == pytest.approx(np.sqrt(np.max(squares, axis=0).min()), abs=2e-5)


def test_what_expands_has_no_metric():
    unstable = np.array([[[[0.1]]], [[[-0.5]]]])
    assert common_metric(unstable, 1.0, 0.2, 1.0) is None
    rotations = np.array([[[[-0.04, -1.59], [1.21, -2.03]]]])  # stable slopes one by one, not in turn
    assert common_metric(rotations, 1.0, 0.05, 1.0) is None


def test_time_that_is_up_ends_it():
    assert common_metric(stages(0, 2, 4)[:, None], 1.0, 0.2, 1.0, seconds=0.0) is None


@pytest.mark.parametrize("symbols", [
    np.zeros((2, 2)), np.zeros((1, 1, 2, 3)), np.full((1, 1, 2, 2), np.nan),
    np.zeros((1, 1, MOST_UNITS + 1, MOST_UNITS + 1)), np.zeros((0, 1, 2, 2)),
])
def test_other_arrays_are_refused(symbols):
    with pytest.raises(ValueError, match=r"symbols|units"):
        common_metric(symbols, 1.0, 0.2, 1.0)
