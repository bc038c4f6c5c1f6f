import dataclasses
import math

import numpy as np
import pytest
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.sdp import upper_bound
from netgain.solvers.contractivity.slope_gradient_flow import SlopeGradientFlow
from netgain.solvers.contractivity.time_dependent_field import (
    SampledField,
    certified_lower_slope_along,
    gradient_flow_along,
    tents,
    upper_bounds_along,
)

from .slope_bank import brute_force, structured

CENTRE, SWING = structured(5, 7)["random"], structured(5, 7)["skew"]


def weights(t):
    """A(t) = C + sin(3t) S, with the Lipschitz constant 3 ||S||."""
    return CENTRE + math.sin(3 * t) * SWING


def sampled(points, end=1.0):
    times = np.linspace(0, end, points)
    return SampledField(times, np.array([weights(t) for t in times]), 3 * np.linalg.norm(SWING, 2), 0.1)


def test_the_rate_holds_between_grid_points():
    along = upper_bounds_along(sampled(6))
    truths = [brute_force(SlopeField(weights(t), 0.1))[0] for t in np.linspace(0, 1, 101)]
    assert max(truths) <= along.rate
    assert np.trapezoid(truths, dx=0.01) <= along.log_gain
    assert along.log_gain <= along.rate
    for bound, t in zip(along.bounds, np.linspace(0, 1, 6), strict=True):
        assert bound.value == pytest.approx(upper_bound(SlopeField(weights(t), 0.1)).value, abs=1e-5)


def test_gradient_flows_stay_below():
    fields = sampled(21)
    flows, bounds = gradient_flow_along(fields), upper_bounds_along(fields).bounds
    for j, (found, bound) in enumerate(zip(flows, bounds, strict=True)):
        assert found.value <= brute_force(fields.at(j))[0] + 1e-9 <= bound.value + 2e-9
        assert found.value >= SlopeGradientFlow().solve(fields.at(j)).value


def test_finer_grids_tend_to_the_integral():
    coarse, fine = (upper_bounds_along(sampled(points)) for points in (11, 201))
    assert fine.rate < coarse.rate
    assert fine.log_gain < coarse.log_gain
    assert fine.log_gain == pytest.approx(np.trapezoid([b.value for b in fine.bounds], dx=0.005), abs=0.02)


LEVEL = 0.25


def test_slopes_that_keep_the_level_at_all_times():
    fine = sampled(101)
    m = certified_lower_slope_along(fine, LEVEL)
    assert 0.1 < m < 1
    assert upper_bounds_along(dataclasses.replace(fine, lower=m)).rate <= LEVEL
    assert max(brute_force(SlopeField(weights(t), m))[0] for t in np.linspace(0, 1, 53)) <= LEVEL
    assert certified_lower_slope_along(sampled(11), LEVEL) > m
    assert certified_lower_slope_along(fine, 10.0) == 0.1
    assert certified_lower_slope_along(fine, -10.0) is None


@pytest.mark.parametrize("seed", range(6))
def test_tents_are_the_least_of_both_lines(seed):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.1, 1, 6))
    values, speed = rng.uniform(-1, 1, 6), float(rng.uniform(0, 3))
    rate, integral = tents(values, times, speed)
    fine = np.linspace(times[0], times[-1], 200_001)
    j = np.clip(np.searchsorted(times, fine, side="right") - 1, 0, 4)
    # The exact bound counts every grid point; the tents only those at the ends of an interval.
    height = np.minimum(values[j] + speed * (fine - times[j]), values[j + 1] + speed * (times[j + 1] - fine))
    assert rate == pytest.approx(height.max(), abs=1e-4)
    assert integral == pytest.approx(np.trapezoid(height, fine), abs=1e-4)


def test_constant_weights_need_no_tents():
    rate, integral = tents(np.full(4, 0.3), np.arange(4.0), 0.0)
    assert rate == 0.3
    assert integral == pytest.approx(0.9)


@pytest.mark.parametrize(("change", "message"), [
    (dict(times=[0.0, 0.0]), "at least two increasing numbers"),
    (dict(times=[0.0]), "at least two increasing numbers"),
    (dict(inputs=np.zeros((3, 2, 2))), r"shape \(2, n, n\), one matrix per time; got \(3, 2, 2\)"),
    (dict(lipschitz=-1.0), "at least 0, got -1.0"),
    (dict(lipschitz=0.5), "the samples change by 1.0 per unit of time after t = 0.0"),
])
def test_bad_samples_are_refused(change, message):
    good = dict(times=[0.0, 1.0], inputs=np.array([np.zeros((2, 2)), np.eye(2)]), lipschitz=1.0, lower=0.1)
    assert SampledField(**good).speed == 1.0
    with pytest.raises(ValueError, match=message):
        SampledField(**(good | change))
