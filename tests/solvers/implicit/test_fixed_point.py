import numpy as np
import pytest
from netgain.solvers.implicit.fixed_point import (
    FixedPointStatus,
    Method,
    average_factor,
    average_step,
    classic_average_step,
    fixed_point,
    resolvent,
    splitting_factor,
    splitting_step,
)
from netgain.solvers.implicit.weighted_log_norm import SlopeBox, least_log_norm, weighted_norm

from .implicit_bank import A1, random_matrix, vertices

SPLITTINGS = [Method.FORWARD_BACKWARD, Method.PEACEMAN_RACHFORD]


def relu(v):
    return np.maximum(v, 0)


def leaky(v):
    return np.where(v > 0, v, 0.2 * v)


def monotone_matrix(seed, n=6):
    """The symmetric part of I - A is at least 0.3 I."""
    rng = np.random.default_rng(seed)
    P, S = rng.standard_normal((2, n, n))
    return 0.7 * np.eye(n) - P.T @ P / n + S - S.T


def scalar(a):
    return np.array([[a]]), np.ones(1), SlopeBox.uniform(1)


def test_steps_of_the_two_by_two_fact():
    eta = least_log_norm(A1).weights
    classic = classic_average_step(A1, eta)
    assert (classic.size, classic.factor) == (pytest.approx(1 / 3), pytest.approx(0.855800, abs=1e-6))
    assert average_step(A1, eta, SlopeBox.uniform(2)).size == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize(("a", "classic", "factor", "best", "best_factor"), [
    (-0.9, 0.526316, 0.473684, 0.689655, 0.310345), (-2.0, 1 / 3, 2 / 3, 0.5, 0.5)])
def test_steps_of_scalar_facts(a, classic, factor, best, best_factor):
    step, optimal = classic_average_step(*scalar(a)[:2]), average_step(*scalar(a))
    assert (step.size, step.factor) == pytest.approx((classic, factor), abs=1e-6)
    assert (optimal.size, optimal.factor) == pytest.approx((best, best_factor), abs=1e-6)
    assert average_factor(*scalar(a), 1.0) == pytest.approx(abs(a))


def test_a_positive_diagonal_does_not_lengthen_the_classic_step():
    A, eta, slopes = 0.5 * np.eye(2), np.ones(2), SlopeBox.uniform(2)
    assert average_factor(A, eta, slopes, 2.0) == pytest.approx(1.0)
    assert average_factor(A, eta, slopes, 1.0) == pytest.approx(0.5)
    assert classic_average_step(A, eta).size == 1.0


def test_network_at_initialisation():
    """An n = 100 network in the NEMON parametrisation with m = 0."""
    T = np.random.default_rng(0).uniform(-1, 1, (100, 100)) / 10
    A, ones = T - np.diag(np.abs(T).sum(1)), np.ones(100)
    classic, best = classic_average_step(A, ones), average_step(A, ones, SlopeBox.uniform(100))
    assert (classic.size, classic.factor) == pytest.approx((0.148692, 0.851308), abs=1e-6)
    assert (best.size, best.factor) == pytest.approx((0.149557, 0.850443), abs=1e-6)
    assert least_log_norm(A).value == pytest.approx(-0.056048, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("lower", "upper"), [(0.0, 1.0), (0.3, 1.0), (-0.2, 1.1)])
def test_average_factor_is_the_largest_norm_of_any_vertex(seed, lower, upper):
    A, slopes = random_matrix(seed, most=0.6), SlopeBox.uniform(4, lower, upper)
    A = A / max(1.0, 1.3 * least_log_norm(A, slopes).value)
    eta = least_log_norm(A, slopes).weights

    def brute(size):
        ends = vertices(slopes.lower, slopes.upper)
        return max(weighted_norm((1 - size) * np.eye(4) + size * D @ A, eta) for D in ends)

    best = average_step(A, eta, slopes)
    for size in (0.05, 0.3, 0.8, 1.0, 1.4, best.size):
        assert average_factor(A, eta, slopes, size) == pytest.approx(brute(size), abs=1e-12)
    assert best.factor == pytest.approx(brute(best.size), abs=1e-12)
    assert best.factor <= min(brute(size) for size in np.linspace(0.02, 1.5, 60)) + 1e-12
    if (lower, upper) == (0.0, 1.0):
        assert best.factor <= classic_average_step(A, eta).factor + 1e-12


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("method", SPLITTINGS)
def test_splitting_factors_are_below_one_and_best(seed, method):
    A = monotone_matrix(seed)
    best = splitting_step(A, method)
    assert best.factor < 1
    sizes = best.size * np.exp(np.linspace(-2, 2, 41))
    assert best.factor <= min(splitting_factor(A, method, size) for size in sizes) + 1e-6


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("activation", [relu, np.tanh, leaky])
def test_all_methods_find_one_point_no_slower_than_guaranteed(seed, activation):
    A = monotone_matrix(seed)
    A -= max(0.0, least_log_norm(A).value - 0.7) * np.eye(len(A))
    c = np.random.default_rng(seed).standard_normal((3, len(A)))
    eta = least_log_norm(A).weights
    found = {method: fixed_point(A, c, activation, method, eta=eta, tolerance=1e-11)
             for method in Method if method is not Method.PICARD}
    for point in found.values():
        assert point.status is FixedPointStatus.CONVERGED
        assert point.x == pytest.approx(found[Method.AVERAGE].x, abs=1e-8)
        assert point.x == pytest.approx(activation(point.x @ A.T + c), abs=1e-9)
        assert point.measured <= point.step.factor * (1 + 1e-6)
        assert 0 < point.step.factor < 1
        assert len(point.course) == point.iterations
    for method in (Method.AVERAGE, *SPLITTINGS):
        steps, factor = np.array(found[method].course), found[method].step.factor
        assert np.all(steps[1:] <= steps[:-1] * factor + 1e-14)
    assert found[Method.ANDERSON].iterations <= found[Method.AVERAGE].iterations


@pytest.mark.parametrize("method", SPLITTINGS)
def test_a_metric_serves_where_the_plain_norm_does_not(method):
    A, metric = np.array([[-0.5, 3.0], [0.2, 0.0]]), np.array([0.2, 3.0])
    with pytest.raises(ValueError, match="strongly monotone"):
        splitting_step(A, method)
    point = fixed_point(A, np.array([1.0, -0.2]), relu, method, metric=metric)
    assert point.status is FixedPointStatus.CONVERGED
    assert point.measured <= point.step.factor < 1


def test_picard_in_a_cycle_is_no_convergence():
    A, c = np.array([[-2.0]]), np.ones(1)
    cycle = fixed_point(A, c, relu, Method.PICARD, max_iterations=100)
    assert cycle.status is FixedPointStatus.ITERATION_LIMIT
    assert cycle.step.factor == 2.0
    assert cycle.residual >= 1
    for method in (Method.AVERAGE, *SPLITTINGS, Method.ANDERSON):
        assert fixed_point(A, c, relu, method).x == pytest.approx(1 / 3)


def test_divergence_is_a_status():
    point = fixed_point(np.array([[0.0, 3.0], [3.0, 0.0]]), np.ones(2), relu, Method.PICARD)
    assert point.status is FixedPointStatus.DIVERGED


@pytest.mark.parametrize("size", [0.1, 0.7, 1.0, 5.0])
def test_resolvents(size):
    v = np.linspace(-1.2, 1.2, 41)
    assert resolvent(relu, size)(v) == pytest.approx(relu(v), abs=1e-12)
    y = resolvent(np.tanh, size)(v)
    assert y + size * (np.arctanh(y) - y) == pytest.approx(v, abs=1e-9)


@pytest.mark.parametrize(("change", "message"), [
    ({"c": np.ones(3)}, "must be finite, of shape"), ({"A": 2 * np.eye(2)}, "below 1"), ({"size": -1.0}, "positive"),
    ({"method": Method.PEACEMAN_RACHFORD, "slopes": SlopeBox.uniform(2, 0, 2)}, "within"),
    ({"method": Method.FORWARD_BACKWARD, "A": np.eye(2)}, "strongly monotone")])
def test_refusals(change, message):
    good = {"A": np.zeros((2, 2)), "c": np.ones(2), "activation": relu, "method": Method.AVERAGE}
    with pytest.raises(ValueError, match=message):
        fixed_point(**(good | change))
