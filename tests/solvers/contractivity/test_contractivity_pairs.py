import itertools

import numpy as np
import pytest
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.pairs import pairs_upper_bound
from netgain.solvers.contractivity.sdp import upper_bound

from .slope_bank import A3, brute_force, circulant, general_field, laplacian, structured


@pytest.mark.parametrize(("weights", "value"), [(circulant(6), 0.209553489), (laplacian(4), 0.165683721)])
def test_facts(weights, value):
    assert pairs_upper_bound(SlopeField(weights, 0.1)).value == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("field", [
    SlopeField(A3, 0.1),
    SlopeField(structured(6, 7)["random"], 0.1),
    SlopeField(structured(5, 7)["skew"], 0.0),
    general_field(0, n=3, k=4),
])
def test_between_the_truth_and_one_multiplier_per_neuron(field):
    pairs, exact = pairs_upper_bound(field), brute_force(field)[0]
    assert exact <= pairs.value + 1e-9
    assert pairs.value <= upper_bound(field).value + 1e-5


def test_two_neurons_are_exact():
    """The only pair dominates all four vertices."""
    for seed in range(4):
        field = general_field(seed, n=3, k=2)
        assert pairs_upper_bound(field).value == pytest.approx(brute_force(field)[0], abs=1e-5)


def test_shares_dominate_every_slope():
    field = SlopeField(circulant(5), 0.1)
    bound = pairs_upper_bound(field)
    total = field.nominal.copy()
    for pair, share in bound.shares.items():
        v = np.hstack([np.eye(5)[:, list(pair)], field.inputs[list(pair)].T])
        total += v @ share @ v.T
    for signs in itertools.product((0.1, 1.0), repeat=5):
        assert np.linalg.eigvalsh(total - field.symmetric(np.array(signs)))[0] >= -1e-9
    assert np.linalg.eigvalsh(total)[-1] == pytest.approx(bound.value)


def test_one_neuron_has_no_pairs():
    with pytest.raises(ValueError, match="at least two neurons, got 1"):
        pairs_upper_bound(SlopeField(np.eye(1), 0.1))
