from fractions import Fraction

import numpy as np
import pytest
from netgain.solvers.contractivity.time_dependent_field import SampledField, tents, upper_bounds_along
from netgain.verify.contractivity import time_dependent_proof
from netgain.verify.contractivity.time_dependent_proof import exact_tents, prove_along

RNG = np.random.default_rng(0)
CENTRE, SWING = RNG.standard_normal((4, 4)) / 2 - np.eye(4), RNG.standard_normal((4, 4)) / 4


def weights(t):
    return CENTRE + np.sin(2 * t) * SWING


def sampled(points):
    times = np.linspace(0, 1, points)
    lipschitz = 2 * float(np.linalg.norm(SWING, 2)) * (1 + 1e-9)
    return SampledField(times, np.array([weights(t) for t in times]), lipschitz, 0.1)


def worst(matrix):
    bits = (np.arange(16)[:, None] >> np.arange(4)) & 1
    products = np.where(bits, 1, 0.1)[:, :, None] * matrix
    return np.linalg.eigvalsh((products + products.transpose(0, 2, 1)) / 2)[:, -1].max()


@pytest.mark.parametrize("points", [2, 5, 21])
def test_rates_are_proved_and_hold_between_grid_points(points):
    fields = sampled(points)
    along = upper_bounds_along(fields)
    proved = prove_along(fields, along)
    assert along.rate <= proved.rate <= along.rate + 1e-9
    assert along.log_gain - 1e-12 <= proved.log_gain <= along.log_gain + 1e-9
    assert all(point.verdict.proved for point in proved.points)
    truths = [worst(weights(t)) for t in np.linspace(0, 1, 101)]
    assert max(truths) <= proved.rate
    assert np.trapezoid(truths, dx=0.01) <= proved.log_gain


@pytest.mark.parametrize("seed", range(10))
def test_tents_agree_with_floating_point_and_are_not_below(seed):
    rng = np.random.default_rng(seed)
    times, levels = np.cumsum(rng.uniform(0.1, 1, 5)), rng.uniform(-1, 1, 5)
    lipschitz = float(rng.uniform(0, 3)) if seed else 0.0
    exact, plain = exact_tents(levels, times, 1.0, lipschitz), tents(levels, times, lipschitz)
    assert exact == pytest.approx(plain, abs=1e-12)


@pytest.mark.parametrize("value", [Fraction(1, 3), Fraction(-1, 3), Fraction(1, 10), Fraction(2), Fraction(-7, 11)])
def test_rounding_is_upwards_and_by_less_than_an_ulp(value):
    rounded = time_dependent_proof._rounded_up(value)
    assert Fraction(rounded) >= value > Fraction(float(np.nextafter(rounded, -np.inf)))


def test_an_unproved_grid_point_proves_nothing(monkeypatch):
    fields = sampled(3)
    monkeypatch.setattr(time_dependent_proof, "prove_log_norm", lambda *_: None)
    assert prove_along(fields, upper_bounds_along(fields)) is None
