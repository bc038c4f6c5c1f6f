"""The least rate by frequencies: against Clarabel's on the full inequality, closed forms, and slopes that reach it."""

import numpy as np
import pytest
from netgain.solvers.stability.frequency_contraction import least_rate
from netgain.solvers.stability.spectral_growth import alternating_growth
from netgain.solvers.stability.stable_projection import reproject_factor, stable_matrix
from netgain.solvers.stability.step_contraction import StepContraction


def random_weights(seed):
    rng = np.random.default_rng(seed)
    n = 2 + seed % 4
    return 0.3 * rng.standard_normal((n, n)) - np.diag(rng.uniform(0.5, 1.2, n))


@pytest.mark.parametrize("seed", range(10))
def test_the_rate_is_that_of_the_full_inequality(seed):
    weights, step, lower = random_weights(seed), (1.0, 0.6)[seed % 2], (0.2, 0.4, 0.1)[seed % 3]
    found = least_rate(weights, step, lower, 1.0, 1e-5)
    problem = StepContraction(weights, step, lower, 1.0)
    if found is None:
        assert problem.metric(0.9999) is None
        return
    assert problem.metric(found.rate + 1e-5) is not None
    assert found.rate < 3e-5 or problem.metric(found.rate - 5e-5) is None


@pytest.mark.parametrize("seed", range(10))
def test_the_metric_contracts_for_all_vertices_and_growth_stays_below(seed):
    weights = random_weights(seed)
    weights = (weights + np.diag(np.diagonal(weights))) / 2  # half as much beside the diagonal, so that all contract
    found = least_rate(weights, 0.8, 0.3, 1.0, 1e-4)
    assert found is not None
    q, n = found.metric.metric, len(weights)
    np.testing.assert_allclose(np.linalg.eigvalsh(q)[0], 1, rtol=1e-8)
    assert np.all(found.metric.multipliers > 0)
    root = np.linalg.cholesky(q).T
    for bits in range(2**n):
        d = np.where((bits >> np.arange(n)) & 1, 1.0, 0.3)
        jacobian = np.eye(n) + 0.8 * d[:, None] * weights
        assert np.linalg.norm(root @ jacobian @ np.linalg.inv(root), 2) <= found.rate * (1 + 1e-9)
    assert alternating_growth(weights, 0.8, 0.3, 1.0, longest=3, starts=2).value <= found.rate * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_symmetric_weights_reach_the_closed_form(seed):
    weights = stable_matrix(reproject_factor(np.random.default_rng(seed).standard_normal((12, 12)), 0.05), 0.05)
    values = np.linalg.eigvalsh(-weights)
    exact = max(1 - 0.3 * values[0], values[-1] - 1)
    assert least_rate(weights, 1.0, 0.3, 1.0, 1e-6).rate == pytest.approx(exact, abs=2e-6)


def test_one_unit():
    """|1 - d a| over d in [lower, upper] is greatest at an end."""
    assert least_rate(np.array([[-1.5]]), 1.0, 0.2, 1.0, 1e-7).rate == pytest.approx(0.7, abs=1e-6)
    assert least_rate(np.array([[-2.0]]), 1.0, 0.2, 1.0) is None


def test_the_worked_matrices():
    skewed = np.array([[-0.6, 0.5], [-0.3, -0.7]])
    assert least_rate(skewed, 1.0, 0.2, 1.0).rate == pytest.approx(0.95513, abs=1e-5)
    assert least_rate(skewed, 1.0, 0.0, 1.0) is None
    assert least_rate(np.array([[-0.04, -1.59], [1.21, -2.03]]), 1.0, 0.05, 1.0) is None


def test_many_units_within_the_time():
    """Forty units, beyond what the full inequality can do; the rate is at least that of the slopes all equal."""
    rng = np.random.default_rng(3)
    weights = 0.2 * rng.standard_normal((40, 40)) / np.sqrt(40) - 0.6 * np.eye(40)
    found = least_rate(weights, 1.0, 0.2, 1.0, 1e-2)
    radius = max(abs(np.linalg.eigvals(np.eye(40) + 0.2 * weights)))
    assert radius <= found.rate < 1
    hurried = least_rate(weights, 1.0, 0.2, 1.0, 1e-6, seconds=0.2)
    assert hurried is None or hurried.rate < 1 + 1e-12


def test_weights_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match="square"):
        least_rate(np.ones((2, 3)), 1.0, 0.1, 1.0)
