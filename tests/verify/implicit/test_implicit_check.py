import numpy as np
import pytest
from netgain.solvers.implicit.diagonal_metric import diagonal_stability, euclidean_gain, metric_matrix, perron_metric
from netgain.solvers.implicit.gain import exact_gain, majorant_gain
from netgain.solvers.implicit.row_gain import mixed_gain, row_gain
from netgain.solvers.implicit.weighted_log_norm import SlopeBox, least_log_norm, metzler_majorant
from netgain.verify.implicit.check import (
    proved_majorant_gain,
    proved_mixed_gain,
    proved_row_gain,
    proves_diagonal_metric,
    proves_euclidean_gain,
)


def network(seed, n=8):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n))
    A -= (np.linalg.eigvals(metzler_majorant(A)).real.max() - 0.6) * np.eye(n)
    return A, rng.standard_normal((n, 12)), rng.standard_normal((3, n))


@pytest.mark.parametrize("seed", range(6))
def test_majorant_gain_is_proved_close_to_the_bound(seed):
    A, B, C = network(seed)
    z = np.linalg.solve(np.eye(8) - metzler_majorant(A), np.abs(B).sum(1) * (1 + 1e-9))
    bound = majorant_gain(A, B, C)[0]
    assert bound * (1 - 1e-12) <= proved_majorant_gain(A, B, C, z) <= bound * (1 + 1e-8)
    assert proved_majorant_gain(A, B, C, z * (1 - 1e-8)) is None
    assert proved_majorant_gain(A, B, C, -z) is None


def test_majorant_gain_in_fractions():
    """|dx| <= |dx| / 2 + |du|: z = 2 is feasible, nothing less is; without inputs the strict inequality decides."""
    A, one = np.array([[0.5]]), np.ones((1, 1))
    assert proved_majorant_gain(A, one, 3 * one, np.array([2.0])) == 6.0
    assert proved_majorant_gain(A, one, one, np.array([np.nextafter(2.0, 0)])) is None
    assert proved_majorant_gain(one, 0 * one, one, np.array([1.0])) is None


@pytest.mark.parametrize("seed", range(6))
def test_metrics_and_gains_are_proved(seed):
    A, B, C = network(seed)
    found = euclidean_gain(A, B, C, start=perron_metric(A))
    assert proves_diagonal_metric(A, found.metric)
    assert proves_euclidean_gain(A, B, C, found.metric, found.gain * (1 + 1e-9))
    assert not proves_euclidean_gain(A, B, C, found.metric, found.gain * (1 - 1e-4))


@pytest.mark.parametrize("seed", range(4))
def test_what_is_not_definite_is_not_proved(seed):
    A = np.random.default_rng(seed).standard_normal((8, 8))
    metric = diagonal_stability(A).metric
    least = np.linalg.eigvalsh(metric_matrix(A, metric))[0]
    assert proves_diagonal_metric(A, metric) is bool(least > 0)
    assert not proves_diagonal_metric(np.eye(8), np.ones(8))
    assert not proves_diagonal_metric(np.zeros((8, 8)), -np.ones(8))


def test_refusals():
    with pytest.raises(ValueError, match="shapes"):
        proved_majorant_gain(np.eye(2), np.eye(3), np.eye(2), np.ones(2))
    with pytest.raises(ValueError, match="finite"):
        proves_diagonal_metric(np.eye(2), np.array([1.0, np.inf]))


@pytest.mark.parametrize("ends", [(0.0, 1.0), (0.1, 1.0), (-0.2, 1.1), (0.0, 0.25)])
@pytest.mark.parametrize("seed", range(3))
def test_gains_on_other_slopes_are_proved_and_lower_ones_are_not(seed, ends):
    A, B, C = network(seed)
    slopes = SlopeBox.uniform(8, *ends)
    A = A / max(1.0, 1.3 * least_log_norm(A, slopes).value)
    pair = (slopes.lower, slopes.upper)
    found = euclidean_gain(A, B, C, slopes=slopes)
    assert proves_diagonal_metric(A, found.metric, pair)
    assert proves_euclidean_gain(A, B, C, found.metric, found.gain * (1 + 1e-8), pair)
    assert not proves_euclidean_gain(A, B, C, found.metric, found.gain * (1 - 1e-4), pair)
    row = row_gain(A, B, C[0], slopes)
    proved = proved_row_gain(A, B, C[0], row.metric, row.inputs * (1 + 1e-8), pair)
    assert row.gain <= proved <= row.gain * (1 + 1e-7)
    assert proved_row_gain(A, B, C[0], row.metric, row.inputs * (1 - 1e-4), pair) is None
    both = mixed_gain(A, B, C, slopes)
    proved_both = proved_mixed_gain(A, B, C, both.metric, both.inputs * (1 + 1e-8), pair)
    assert both.gain <= proved_both <= both.gain * (1 + 1e-7)
    assert proved_mixed_gain(A, B, C, both.metric, both.inputs * (1 - 1e-4), pair) is None
    bound, z = majorant_gain(A, B, C, slopes)
    assert bound <= proved_majorant_gain(A, B, C, z * (1 + 1e-9) + 1e-12, pair) <= bound * (1 + 1e-7)
    assert proved_majorant_gain(A, B, C, z * (1 - 1e-8), pair) is None
    assert exact_gain(A, B, C[:1], np.inf, slopes)[0] <= proved


def test_what_does_not_hold_is_never_proved():
    """y = x = d u with d up to 2: a gain below 2 must not be proved by any metric."""
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    pair = (np.array([-0.5]), np.array([2.0]))
    for metric in np.geomspace(1e-3, 1e3, 41):
        assert not proves_euclidean_gain(zero, one, one, np.array([metric]), 2 * (1 - 1e-12), pair)
        assert proved_row_gain(zero, one, np.ones(1), np.array([metric]), np.array([4 * (1 - 1e-12)]), pair) is None
    assert proves_euclidean_gain(zero, one, one, np.array([1.0]), 10.0, pair)
