import numpy as np
import pytest
from netgain.solvers.contractivity.exact_lower_slope import exact_lower_slope, pattern_root
from netgain.solvers.contractivity.logarithmic_norm import SlopeField, logarithmic_norm
from netgain.solvers.contractivity.sdp import least_lower_slope
from netgain.solvers.contractivity.slope_branch_and_bound import SlopeBranchAndBound
from netgain.solvers.contractivity.slope_gradient_flow import optimistic_lower_slope
from netgain.solvers.result import Limits, Status

from .slope_bank import A3, ROTATION, brute_force, circulant, general_field, random_weights


def shifted(n, seed):
    """Random weights with mu(A) = -0.3, contractive for D = I and in general not below."""
    weights = random_weights(n, seed)
    return SlopeField(weights - (logarithmic_norm(weights) + 0.3) * np.eye(n), 0.0)


def by_bisection(field, level):
    low, high = field.lower, field.upper
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if brute_force(field.with_lower(middle))[0] <= level else (middle, high)
    return high


@pytest.mark.parametrize("seed", range(12))
def test_three_ways_are_in_order(seed):
    field = shifted(7, seed)
    exact = exact_lower_slope(field)
    assert exact.low - 1e-8 <= by_bisection(field, 0.0) <= exact.high + 1e-8
    assert exact.high - exact.low <= 1.1e-6
    assert exact.worst.upper <= 0
    assert optimistic_lower_slope(field).lower_slope <= exact.high + 1e-8
    assert exact.low <= least_lower_slope(field, 0.0).lower_slope + 1e-8


@pytest.mark.parametrize("seed", range(5))
def test_the_certified_slope_is_within_a_hundredth(seed):
    field = shifted(20, 1000 + seed)
    exact = exact_lower_slope(field)
    assert exact.low - 1e-8 <= least_lower_slope(field, 0.0).lower_slope <= exact.high + 0.01


@pytest.mark.parametrize(("weights", "value"), [
    (A3 - 0.9 * np.eye(3), 0.304985519),
    (ROTATION, (np.hypot(0.3, 2) - 0.3) / (np.hypot(0.3, 2) + 0.3)),
])
def test_facts(weights, value):
    found = exact_lower_slope(SlopeField(weights, 0.0))
    assert found.low <= value + 1e-9
    assert value <= found.high <= value + 2e-6


def test_ends():
    assert exact_lower_slope(SlopeField(A3, 0.0)).low is None
    assert exact_lower_slope(SlopeField(A3, 0.0)).high is None
    always = exact_lower_slope(SlopeField(A3, 0.0), level=1.0)
    assert (always.low, always.high) == (0.0, 0.0)
    at_the_end = exact_lower_slope(SlopeField(ROTATION, 0.0), level=-0.3 + 1e-9)
    assert at_the_end.high == pytest.approx(1.0, abs=1e-5)


def test_other_slopes_and_shapes():
    field = general_field(3, lower=0.0, upper=0.8)
    level = logarithmic_norm(field.jacobian(np.full(5, 0.8))) + 0.1
    found = exact_lower_slope(field, level)
    assert found.low - 1e-8 <= by_bisection(field, level) <= found.high + 1e-8


def test_stopped_searches_enclose():
    field = SlopeField(circulant(24) - 0.05 * np.eye(24), 0.0)
    found = exact_lower_slope(field, search=SlopeBranchAndBound(limits=Limits(time_limit=0.3)))
    assert found.status is Status.TIME_LIMIT
    assert found.low < found.high
    assert found.worst.upper <= 0
    longer = exact_lower_slope(SlopeField(circulant(12) - 0.05 * np.eye(12), 0.0))
    assert longer.status is Status.OPTIMAL


def test_a_patterns_curve_stays_below():
    field = shifted(6, 3)
    slopes = brute_force(field)[1]
    root = pattern_root(field, slopes, 0.0)
    moved = np.where(slopes == 0, root, slopes)
    assert logarithmic_norm(field.jacobian(moved)) == pytest.approx(0, abs=1e-9)
    assert brute_force(field.with_lower(root))[0] >= -1e-9
    assert pattern_root(field, np.ones(6), 0.0) == 0.0
    assert pattern_root(SlopeField(A3, 0.0), np.zeros(3), -1.0) is None
