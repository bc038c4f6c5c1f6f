import numpy as np
import pytest
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.projection import contractive_weights, nearest_contractive_weights
from netgain.solvers.contractivity.sdp import evaluate

from .slope_bank import A3, ROTATION, brute_force, general_field, random_weights


@pytest.mark.parametrize(("weights", "certified", "exact"), [(A3, 1.603249, 1.578911), (ROTATION, 2.070233, 2.070233)])
def test_facts(weights, certified, exact):
    field = SlopeField(weights, 0.1)
    projected, nearest = contractive_weights(field), nearest_contractive_weights(field)
    assert projected.distance == pytest.approx(certified, abs=1e-5)
    assert nearest.distance == pytest.approx(exact, abs=1e-5)
    assert brute_force(projected.field)[0] <= 1e-12


def test_one_pattern_is_not_enough():
    """For D = I alone the distance is the norm of the positive part of sym A - c I, here 0.1227, and A3 needs 1.58."""
    values = np.linalg.eigvalsh((A3 + A3.T) / 2)
    alone = np.linalg.norm(np.maximum(values, 0))
    assert alone == pytest.approx(0.122710, abs=1e-6)
    nearest = nearest_contractive_weights(SlopeField(A3, 0.1))
    assert nearest.distance > 10 * alone
    assert len(nearest.patterns) > 1
    point = nearest_contractive_weights(SlopeField(A3, 1.0))
    assert point.distance == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_both_are_contractive_and_in_order(seed):
    field, level = SlopeField(random_weights(4, seed) + 0.5 * np.eye(4), 0.1), 0.1
    projected, nearest = contractive_weights(field, level), nearest_contractive_weights(field, level)
    assert evaluate(projected.field, projected.multipliers) <= level
    assert brute_force(projected.field)[0] <= level + 1e-12
    assert brute_force(nearest.field)[0] <= level + 1e-5
    assert nearest.distance <= projected.distance + 1e-5
    assert projected.distance <= 1.2 * nearest.distance + 1e-5
    for result in (projected, nearest):
        assert result.distance == pytest.approx(np.linalg.norm(result.field.inputs - field.inputs))


def test_contractive_weights_stay_as_they_are():
    field = SlopeField(A3 - 3 * np.eye(3), 0.5)
    assert contractive_weights(field).distance < 1e-6
    assert nearest_contractive_weights(field).distance < 1e-6


def test_a_linear_part_counts():
    field = SlopeField(A3, 0.1, linear=-2 * np.eye(3))
    assert brute_force(field)[0] < 0
    assert contractive_weights(field).distance < 1e-6
    unstable = SlopeField(A3, 0.5, linear=0.2 * np.eye(3))
    projected = contractive_weights(unstable)
    assert brute_force(projected.field)[0] <= 1e-12


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="Pass a field without `outputs`"):
        contractive_weights(general_field(0))
    with pytest.raises(ValueError, match="Pass a field without `outputs`"):
        nearest_contractive_weights(general_field(0))
    with pytest.raises(ValueError, match=r"with all slopes zero, which the interval \[0.0, 1.0\] allows"):
        contractive_weights(SlopeField(A3, 0.0, linear=np.eye(3)))
