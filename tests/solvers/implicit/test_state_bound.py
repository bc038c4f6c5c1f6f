import numpy as np
import pytest
from netgain.solvers.implicit.gain import majorant_gain
from netgain.solvers.implicit.state_bound import end_gains, state_bound
from netgain.solvers.implicit.weighted_log_norm import SlopeBox, least_log_norm

from .implicit_bank import A1, B1, C1, random_matrix, vertices


def test_the_published_example():
    """UT3: the M-matrix bound is 8.6."""
    bound = state_bound(A1, SlopeBox.uniform(2), np.abs(B1).sum(axis=1))
    assert np.max(np.abs(C1) @ bound) == pytest.approx(8.6, rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.2, 1.0), (-0.3, 1.0), (-1.0, 1.0), (-0.5, -0.1)])
def test_no_slopes_move_a_neuron_further(seed, interval):
    A = random_matrix(seed) * (1.0 if interval[0] == 0 else 0.3)
    slopes, w = SlopeBox.uniform(4, *interval), np.random.default_rng(seed).uniform(0, 2, 4)
    bound = state_bound(A, slopes, w)
    if least_log_norm(A, slopes).value >= 1:
        assert bound is None
        return
    assert np.all(bound > 0)
    for D in vertices(slopes.lower, slopes.upper):
        assert np.all(np.abs(np.linalg.solve(np.eye(4) - D @ A, D)) @ w <= bound * (1 + 1e-12))


@pytest.mark.parametrize("seed", range(4))
def test_for_slopes_to_one_it_is_the_m_matrix_bound(seed):
    A, rng = random_matrix(seed), np.random.default_rng(seed)
    B, C = rng.standard_normal((4, 3)), rng.standard_normal((2, 4))
    bound = state_bound(A, SlopeBox.uniform(4), np.abs(B).sum(axis=1))
    assert np.max(np.abs(C) @ bound) == pytest.approx(majorant_gain(A, B, C)[0], rel=1e-6)


def test_where_there_is_no_bound():
    assert state_bound(np.eye(2), SlopeBox.uniform(2), np.ones(2)) is None
    assert end_gains(2 * np.eye(2), SlopeBox.uniform(2)) is None
    assert state_bound(np.array([[0.0, 2.0], [2.0, 0.0]]), SlopeBox.uniform(2), np.ones(2)) is None
    with pytest.raises(ValueError, match="from 0 on"):
        state_bound(np.zeros((2, 2)), SlopeBox.uniform(2), -np.ones(2))
