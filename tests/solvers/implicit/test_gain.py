import numpy as np
import pytest
from netgain.solvers.implicit.gain import (
    absolute_gain,
    exact_gain,
    least_weighted_gain,
    majorant_gain,
    weighted_gain,
)

from .implicit_bank import A1, B1, C1, HIERARCHY, random_matrix


def network(seed, n=4):
    rng = np.random.default_rng(seed)
    return random_matrix(seed, n), rng.standard_normal((n, 3)), rng.standard_normal((2, n))


def test_the_two_by_two_fact():
    exact, slopes = exact_gain(A1, B1, C1)
    assert exact == pytest.approx(23 / 9)
    assert list(slopes) == [0, 1]
    assert majorant_gain(A1, B1, C1)[0] == pytest.approx(8.6)
    assert least_weighted_gain(A1, B1, C1, signed=False)[0] == pytest.approx(9.402197, rel=1e-5)
    assert exact_gain(A1, B1, C1, order=2)[0] == pytest.approx(2.24708, abs=1e-5)
    with pytest.raises(ValueError, match="does not exist"):
        absolute_gain(A1, B1, C1)


def test_a_negative_logarithmic_norm():
    A, one = np.array([[-3.0, 1.0], [0.5, -2.0]]), np.eye(2)
    assert weighted_gain(A, one, one, np.ones(2), signed=False) == pytest.approx(1.0)
    assert weighted_gain(A, one, one, np.ones(2)) == pytest.approx(0.4)
    assert majorant_gain(A, one, one)[0] == pytest.approx(9 / 23)
    assert exact_gain(A, one, one)[0] == pytest.approx(9 / 23)


def test_the_network_at_initialisation():
    rng = np.random.default_rng(0)
    T, B = rng.uniform(-1, 1, (100, 100)) / 10, rng.uniform(-1, 1, (100, 784)) / 28
    A, C = T - np.diag(np.abs(T).sum(1)), rng.uniform(-1, 1, (10, 100)) / 10
    assert weighted_gain(A, B, C, np.ones(100), signed=False) == pytest.approx(79.3089, abs=1e-4)
    assert majorant_gain(A, B, C)[0] == pytest.approx(71.6306, abs=1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_every_bound_is_above_what_slopes_reach_and_they_are_in_order(seed):
    A, B, C = network(seed)
    exact, slack = exact_gain(A, B, C)[0], 1 + 1e-9
    majorant, z = majorant_gain(A, B, C)
    signed, positive = (least_weighted_gain(A, B, C, signed)[0] for signed in (True, False))
    assert exact <= majorant * slack <= signed * slack**2 <= positive * slack**3
    rng = np.random.default_rng(seed)
    for eta in np.exp(rng.standard_normal((50, 4))) * z:
        assert signed <= weighted_gain(A, B, C, eta) * (1 + 1e-5)
    for d in rng.uniform(0, 1, (200, 4)):
        D = np.diag(d)
        inner = np.linalg.solve(np.eye(4) - D @ A, D @ B)
        assert np.all(np.abs(inner).sum(1) <= z * slack)
        assert np.abs(C @ inner).sum(1).max() <= exact * slack


@pytest.mark.parametrize("seed", range(5))
def test_absolute_values_are_never_better(seed):
    A, B, C = network(seed)
    A = 0.9 * A / np.abs(np.linalg.eigvals(np.abs(A))).max()
    assert majorant_gain(A, B, C)[0] <= absolute_gain(A, B, C)[0] * (1 + 1e-12)


def test_refusals():
    A, one = HIERARCHY[0][0], np.eye(2)
    assert weighted_gain(A, one, one, np.ones(2)) == np.inf
    for gain in (least_weighted_gain, majorant_gain):
        with pytest.raises(ValueError, match="below 1"):
            gain(A, one, one)
    with pytest.raises(ValueError, match="shapes"):
        majorant_gain(A, np.eye(3), one)
    with pytest.raises(ValueError, match="n <= 16"):
        exact_gain(np.eye(17), np.eye(17), np.eye(17))
    with pytest.raises(ValueError, match="not well-posed"):
        exact_gain(np.eye(2), one, one)
