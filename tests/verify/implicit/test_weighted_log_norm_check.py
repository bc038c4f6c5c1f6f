import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from netgain.verify.implicit.weighted_log_norm_check import least_proved_log_norm, proves_log_norm


def exact(A, eta, lower, upper):
    """The definition, in fractions, over all vertices."""
    n = len(A)
    F = [[Fraction(float(a)) for a in row] for row in A]
    w = [Fraction(float(e)) for e in eta]
    return max(
        d[i] * F[i][i] + abs(d[i]) * sum((abs(F[i][j]) * w[j] for j in range(n) if j != i), Fraction(0)) / w[i]
        for ends in itertools.product(*zip(lower, upper, strict=True))
        for d in [[Fraction(float(end)) for end in ends]]
        for i in range(n)
    )


def case(seed, n=4):
    rng = np.random.default_rng(seed)
    lower = rng.uniform(-0.5, 0.5, n)
    return (rng.standard_normal((n, n)) * 10.0 ** rng.integers(-8, 8, (n, n)), np.exp(3 * rng.standard_normal(n)),
            lower, lower + rng.uniform(0, 1, n))


@pytest.mark.parametrize("seed", range(12))
def test_the_decision_is_exact_to_the_last_bit(seed):
    numbers = case(seed)
    value, truth = least_proved_log_norm(*numbers), exact(*numbers)
    assert Fraction(math.nextafter(value, -math.inf)) < truth <= Fraction(value)
    assert proves_log_norm(*numbers, value)
    assert not proves_log_norm(*numbers, math.nextafter(value, -math.inf))
    assert proves_log_norm(*numbers, value + abs(value))


@pytest.mark.parametrize(("bit", "holds"), [(0.0, True), (2.0**-60, False)])
def test_what_double_precision_cannot_see(bit, holds):
    A = np.array([[0.0, 1.0, bit], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert proves_log_norm(A, np.ones(3), np.zeros(3), np.ones(3), 1.0) is holds


def test_negative_values_need_slopes_away_from_zero():
    A, ones = np.array([[-2.0, 1.0], [0.5, -1.0]]), np.ones(2)
    assert proves_log_norm(A, ones, ones, ones, -0.5)
    assert not proves_log_norm(A, ones, np.zeros(2), ones, -1e-300)
    assert proves_log_norm(A, ones, np.zeros(2), ones, 0.0)


def test_extreme_numbers_are_decided():
    A = np.array([[0.0, 2.0**1000], [2.0**-1074, 0.0]])
    near, far = 2.0**-400, 2.0**600
    assert proves_log_norm(A, np.array([far, near]), np.zeros(2), np.ones(2), 1.0)
    assert not proves_log_norm(A, np.array([far, near]), np.zeros(2), np.ones(2), 1 - 2.0**-53)
    assert not proves_log_norm(A, np.array([near, far]), np.zeros(2), np.ones(2), 2.0**1023)


@pytest.mark.parametrize(("change", "message"), [({"eta": -np.ones(2)}, "positive"), ({"A": np.ones((2, 3))}, "square"),
                                             ({"lower": np.full(2, np.nan)}, "finite"),
                                             ({"lower": np.full(2, 2.0)}, "lower <= upper"),
                                             ({"value": math.inf}, "finite number")])
def test_refusals(change, message):
    good = {"A": np.zeros((2, 2)), "eta": np.ones(2), "lower": np.zeros(2), "upper": np.ones(2), "value": 0.0}
    with pytest.raises(ValueError, match=message):
        proves_log_norm(**(good | change))
