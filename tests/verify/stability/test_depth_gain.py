import math

import numpy as np
import pytest
from netgain.solvers.stability.stable_projection import reproject_factor, stable_matrix
from netgain.verify.stability.conditions import SlopeBox
from netgain.verify.stability.depth_gain import constant_input_gain, entrywise_gain

RELU = SlopeBox(1.0, 0.0, 1.0)
WEIGHTS = stable_matrix(reproject_factor(np.array([[1, 0.4], [-0.2, 0.9]]), 0.05), 0.05)
INPUTS = np.array([[1, 0.5], [-0.3, 0.8]])


def test_the_worked_block():
    np.testing.assert_allclose(-WEIGHTS, [[0.692954, 0.136009], [0.136009, 0.649678]], atol=1e-6)
    assert constant_input_gain(WEIGHTS, INPUTS, RELU) == pytest.approx(3.748988, abs=1e-6)
    majorant = np.where(np.eye(2), -WEIGHTS, -np.abs(WEIGHTS))
    expected = np.linalg.inv(majorant) @ np.abs(INPUTS) @ np.ones(2)
    np.testing.assert_allclose(entrywise_gain(WEIGHTS, INPUTS, RELU), expected, rtol=1e-9)
    assert np.max(expected) == pytest.approx(2.603966, abs=1e-5)


def differences(weights, inputs, u, step=1.0):
    """ReLU states for two input sequences of shape (2, depth, m), their difference by depth."""
    states, result = np.zeros((2, len(weights))), []
    for k in range(u.shape[1]):
        states = states + step * np.maximum(states @ weights.T + u[:, k] @ inputs.T, 0)
        result.append(states[0] - states[1])
    return np.array(result)


@pytest.mark.parametrize("seed", range(6))
def test_gains_bound_relu_trajectories_at_every_depth(seed):
    rng = np.random.default_rng(seed)
    n = 2 + seed % 3
    weights = stable_matrix(reproject_factor(np.eye(n) + 0.3 * rng.standard_normal((n, n)), 0.05), 0.05)
    inputs = rng.standard_normal((n, 2))
    gain = constant_input_gain(weights, inputs, RELU)
    z = entrywise_gain(weights, inputs, RELU)
    for _ in range(30):
        constant = np.repeat(3 * rng.standard_normal((2, 1, 2)), 60, axis=1)
        size = np.linalg.norm(constant[0, 0] - constant[1, 0])
        assert np.max(np.linalg.norm(differences(weights, inputs, constant), axis=1)) <= gain * size
        varying = 3 * rng.standard_normal((2, 60, 2))
        largest = np.max(np.abs(varying[0] - varying[1]))
        assert np.all(np.abs(differences(weights, inputs, varying)) <= z * largest)


def test_gains_are_exact_for_one_unit():
    """x+ = x + s(-a x + b u) ends at b / a u; the constant gain is twice that."""
    weights, inputs = np.array([[-0.5]]), np.array([[2.0]])
    assert entrywise_gain(weights, inputs, RELU)[0] == pytest.approx(4, rel=1e-10)
    assert constant_input_gain(weights, inputs, RELU) == pytest.approx(8, rel=1e-10)


@pytest.mark.parametrize(("weights", "box"), [
    (np.array([[-0.6, 0.5], [-0.9, -0.7]]), RELU),
    (np.diag([-0.5, 0.1]), RELU),
    (np.diag([-0.5, -2.5]), RELU),
    (np.diag([-0.5, -0.5]), SlopeBox(1.0, -0.1, 1.0)),
])
def test_nothing_is_claimed_outside_the_conditions(weights, box):
    assert constant_input_gain(weights, INPUTS, box) == math.inf
    assert np.all(entrywise_gain(weights, INPUTS, box) == math.inf)


def test_shapes_that_do_not_fit_are_refused():
    for call in (constant_input_gain, entrywise_gain):
        with pytest.raises(ValueError, match="square"):
            call(WEIGHTS, np.ones((3, 1)), RELU)
