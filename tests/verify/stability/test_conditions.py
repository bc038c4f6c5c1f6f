import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.linalg
from netgain.solvers.stability.stable_projection import reproject_factor, reproject_kernel, stable_matrix
from netgain.verify.stability.conditions import (
    Asymptotics,
    SlopeBox,
    convolutional_conditions,
    fully_connected_conditions,
    infinity_rate,
)

BOXES = [SlopeBox(1.0, 0.2, 1.0), SlopeBox(0.7, 0.0, 1.0), SlopeBox(1.0, -0.3, 0.9), SlopeBox(0.5, 0.01, 1.5)]


def diagonals(box, n, rng):
    """Every vertex of the slope box, and slopes inside."""
    return [*itertools.product((box.lower, box.upper), repeat=n), *rng.uniform(box.lower, box.upper, (20, n))]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("seed", range(5))
def test_symmetric_rate_is_the_largest_norm(box, seed):
    rng = np.random.default_rng(seed)
    weights = stable_matrix(reproject_factor(2 * rng.standard_normal((3, 3)), 0.02), 0.02)
    found = fully_connected_conditions(weights, 0.01, box)
    root = scipy.linalg.sqrtm(-weights)
    norms = [np.linalg.norm(np.eye(3) + box.step * root @ np.diag(d) @ weights @ np.linalg.inv(root), 2)
             for d in diagonals(box, 3, rng)]
    assert max(norms) <= found.rate + 1e-9
    if box.lower >= 0:  # D = lower I and upper I attain it
        assert found.rate == pytest.approx(max(norms), rel=1e-9)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("seed", range(5))
def test_infinity_rate_is_the_largest_norm(box, seed):
    rng = np.random.default_rng(seed)
    weights, scale = rng.standard_normal((3, 3)) - np.eye(3), np.exp(rng.standard_normal(3))
    norms = [np.abs((np.eye(3) + box.step * np.diag(d) @ weights) * scale / scale[:, None]).sum(axis=1).max()
             for d in diagonals(box, 3, rng)]
    assert infinity_rate(weights, box, scale) == pytest.approx(max(norms), rel=1e-12)


@pytest.mark.parametrize("size", [2, 5, 30])
@pytest.mark.parametrize("rows", [1, 4, 30])
def test_reprojected_factors_satisfy_the_conditions(size, rows):
    """Float64 rounding of A may leave the exact ball by an ulp, so R is projected on one that is 2e-9 smaller."""
    factor = np.random.default_rng(size + rows).standard_normal((rows, size))
    weights = stable_matrix(reproject_factor(factor, 0.1 + 1e-9), 0.1)
    found = fully_connected_conditions(weights, 0.1, SlopeBox(1.0, 0.0, 1.0))
    assert found.satisfied
    assert 0.1 - 1e-9 <= found.least <= found.greatest <= 0.9 + 1e-9
    assert found.rate == 1
    assert found.asymptotics is Asymptotics.NONEXPANSIVE
    assert found.converges


@pytest.mark.parametrize("seed", range(5))
def test_eigenvalue_bounds_enclose_closely(seed):
    root = np.random.default_rng(seed).standard_normal((6, 6))
    found = fully_connected_conditions(-(root @ root.T), 0.1, BOXES[0])
    values = np.linalg.eigvalsh(root @ root.T)
    assert found.least == pytest.approx(values[0], abs=1e-11 * values[-1])
    assert found.greatest == pytest.approx(values[-1], rel=1e-11)


def test_each_condition_fails_by_itself():
    good, box = np.diag([-0.5, -0.3]), SlopeBox(1.0, 0.1, 1.0)
    assert fully_connected_conditions(good, 0.1, box).satisfied
    skew = fully_connected_conditions(good + np.array([[0, 1e-12], [0, 0]]), 0.1, box)
    assert (skew.symmetric, skew.negative_definite, skew.rate, skew.converges) == (False, True, math.inf, False)
    indefinite = fully_connected_conditions(np.diag([-0.5, 1e-9]), 0.1, box)
    assert (indefinite.negative_definite, indefinite.rate, indefinite.satisfied) == (False, math.inf, False)
    large = fully_connected_conditions(np.diag([-1.5, -0.3]), 0.1, box)
    assert (large.in_frobenius_ball, large.satisfied) == (False, False)
    assert large.rate == pytest.approx(0.97)  # outside the paper's set, and contracting all the same
    assert not fully_connected_conditions(good, 0.1, SlopeBox(1.5, 0.1, 1.0)).step_in_range


def test_frobenius_ball_is_decided_at_the_last_bit():
    """||A + eps I||_F = 1/2 = 1 - 2 eps exactly for A = -(3/4), eps = 1/4; one ulp more is outside."""
    box = SlopeBox(1.0, 0.0, 1.0)
    assert fully_connected_conditions(np.array([[-0.75]]), 0.25, box).in_frobenius_ball
    assert not fully_connected_conditions(np.array([[np.nextafter(-0.75, -1)]]), 0.25, box).in_frobenius_ball


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 3, 3, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_reprojected_kernels_satisfy_the_conditions(shape, seed):
    kernel = np.random.default_rng(seed).standard_normal(shape)
    found = convolutional_conditions(reproject_kernel(kernel, 0.05, 0.1), 0.05, 0.1, SlopeBox(1.0, 0.2, 1.0))
    assert found.satisfied
    assert found.rate <= 1 - 0.05 * 0.2 + 1e-15
    assert not convolutional_conditions(10 * kernel, 0.05, 0.1, SlopeBox(1.0, 0.2, 1.0)).satisfied


def test_kernel_conditions_are_decided_at_the_last_bit():
    """delta = 1/2 and others 1/4 = 1 - eps - |delta| with eps = 1/4, all exact; an ulp more of either is outside."""
    box = SlopeBox(1.0, 0.0, 1.0)
    at = convolutional_conditions(np.array([[[0.125, -1.5, -0.125]]]), 0.25, 0.5, box)
    assert at.satisfied
    more = convolutional_conditions(np.array([[[np.nextafter(0.125, 1), -1.5, -0.125]]]), 0.25, 0.5, box)
    assert (more.centre_in_range[0], more.others_in_range[0]) == (True, False)
    far = convolutional_conditions(np.array([[[0.0, np.nextafter(-1.5, -2), 0.0]]]), 0.25, 0.5, box)
    assert (far.centre_in_range[0], far.others_in_range[0]) == (False, True)


@pytest.mark.parametrize(("taps", "rate", "full"), [
    ((0.39, -1.3, -0.26), 0.95, 0.95),
    ((0.39, -0.7, -0.26), 0.99, 0.95),
])
def test_kernel_of_the_worked_example(taps, rate, full):
    kernel = np.array(taps).reshape(1, 1, 3)
    assert convolutional_conditions(kernel, 0.05, 0.1, SlopeBox(1.0, 0.2, 1.0)).rate == pytest.approx(rate)
    assert convolutional_conditions(kernel, 0.05, 0.1, SlopeBox(1.0, 1.0, 1.0)).rate == pytest.approx(full)


def test_the_worked_matrices():
    """P = [[.6, .2], [.2, .3]] has the eigenvalues .2 and .7, so the rate .96; the other is not symmetric."""
    found = fully_connected_conditions(-np.array([[0.6, 0.2], [0.2, 0.3]]), 0.1, SlopeBox(1.0, 0.2, 1.0))
    assert found.rate == pytest.approx(0.96, abs=1e-9)
    assert found.asymptotics is Asymptotics.CONTRACTION
    weights = np.array([[-0.6, 0.5], [-0.3, -0.7]])
    assert infinity_rate(weights, SlopeBox(1.0, 0.2, 1.0)) == pytest.approx(0.98)
    assert infinity_rate(weights, SlopeBox(1.0, 0.0, 1.0)) == 1
    assert fully_connected_conditions(weights, 0.1, SlopeBox(1.0, 0.0, 1.0)).rate == math.inf


def test_relu_of_a_symmetric_block_converges_to_a_limit_that_depends_on_the_start():
    weights, c = np.diag([-0.5, -0.5]), np.array([1.0, 0.0])
    assert fully_connected_conditions(weights, 0.1, SlopeBox(1.0, 0.0, 1.0)).converges
    limits = []
    for start in ([0.0, 0.0], [5.0, 3.0]):
        x = np.array(start)
        for _ in range(200):
            x = x + np.maximum(weights @ x + c, 0)
        assert np.all(weights @ x + c <= 1e-12)
        limits.append(x)
    np.testing.assert_allclose(limits, [[2, 0], [5, 3]])


def test_rates_are_rounded_up():
    rate = infinity_rate(np.array([[-0.1]]), SlopeBox(0.1, 0.3, 0.3))
    assert 0 <= Fraction(rate) - (1 - Fraction(0.1) ** 2 * Fraction(0.3)) < Fraction(2) ** -52


@pytest.mark.parametrize("call", [
    lambda: SlopeBox(0.0, 0.0, 1.0),
    lambda: SlopeBox(1.0, 1.0, 0.0),
    lambda: fully_connected_conditions(np.ones((2, 3)), 0.1, BOXES[0]),
    lambda: fully_connected_conditions(np.eye(2), 0.5, BOXES[0]),
    lambda: infinity_rate(np.eye(2), BOXES[0], np.zeros(2)),
    lambda: convolutional_conditions(np.ones((1, 1, 2)), 0.1, 0.2, BOXES[0]),
    lambda: convolutional_conditions(np.ones((1, 1, 3)), 0.2, 0.1, BOXES[0]),
])
def test_bad_arguments_are_named(call):
    with pytest.raises(ValueError, match=r"slope box|square|epsilon|scale|kernel"):
        call()
