from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from netgain.solvers.stability.stable_projection import reproject_factor, reproject_kernel, stable_matrix

NUMBERS = st.floats(-1e160, 1e160) | st.floats(-3, 3)
EPSILONS = st.floats(1e-12, 0.4999)


@st.composite
def factors(draw):
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    return draw(hnp.arrays(np.float64, shape, elements=NUMBERS))


@st.composite
def kernels(draw):
    channels = draw(st.integers(1, 3))
    taps = draw(st.sampled_from([(1,), (3,), (5,), (1, 3), (3, 3)]))
    kernel = draw(hnp.arrays(np.float64, (channels, channels, *taps), elements=NUMBERS))
    eta = draw(st.floats(1e-6, 0.999))
    return kernel, eta * draw(st.floats(1e-6, 0.999)), eta


def rational(array):
    return np.vectorize(Fraction, otypes=[object])(array)


def squared_norm(factor):
    """||R^T R||_F^2, exactly."""
    exact = rational(factor)
    return ((exact.T @ exact) ** 2).sum()


def conditions(kernel, channel):
    """delta and the sum of moduli of the other taps, exactly."""
    centre = tuple(extent // 2 for extent in kernel.shape[2:])
    tap = Fraction(kernel[(channel, channel, *centre)])
    return -1 - tap, abs(rational(kernel[channel])).sum() - abs(tap)


@settings(deadline=None)
@given(factors(), EPSILONS)
def test_factor_is_feasible_exactly_and_projecting_again_changes_nothing(factor, epsilon):
    projected = reproject_factor(factor, epsilon)
    assert squared_norm(projected) <= (1 - 2 * Fraction(epsilon)) ** 2
    np.testing.assert_array_equal(reproject_factor(projected, epsilon), projected)


@settings(deadline=None)
@given(factors(), EPSILONS)
def test_factor_moves_only_if_it_has_to_and_then_to_the_sphere(factor, epsilon):
    projected, delta = reproject_factor(factor, epsilon), 1 - 2 * epsilon
    if squared_norm(factor) <= Fraction(delta * (1 - 1e-12)) ** 2:
        np.testing.assert_array_equal(projected, factor)
    elif squared_norm(factor) >= Fraction(delta) ** 2:
        assert squared_norm(projected) >= Fraction(delta * (1 - 1e-12)) ** 2
        largest = np.unravel_index(np.argmax(np.abs(factor)), factor.shape)
        np.testing.assert_allclose(projected, factor / factor[largest] * projected[largest], rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("seed", range(10))
def test_gram_matrix_is_the_nearest_in_the_frobenius_ball(seed):
    """The obtuse angle of a projection on a convex set: <P - P', Z - P'> <= 0 for each Z in the ball."""
    rng = np.random.default_rng(seed)
    factor = 2 * rng.standard_normal((3, 4))
    projected, delta = reproject_factor(factor, 0.1), 0.8
    gram, nearest = factor.T @ factor, projected.T @ projected
    for _ in range(50):
        other = rng.standard_normal((4, 4))
        other *= delta * rng.uniform() ** 0.1 / np.linalg.norm(other)
        assert np.sum((gram - nearest) * (other - nearest)) <= 1e-10


@settings(deadline=None)
@given(kernels())
def test_kernel_is_feasible_exactly_and_projecting_again_changes_nothing(case):
    kernel, epsilon, eta = case
    projected = reproject_kernel(kernel, epsilon, eta)
    for channel in range(len(kernel)):
        delta, others = conditions(projected, channel)
        assert abs(delta) <= 1 - Fraction(eta)
        assert others <= 1 - Fraction(epsilon) - abs(delta)
    np.testing.assert_array_equal(reproject_kernel(projected, epsilon, eta), projected)


@settings(deadline=None)
@given(kernels())
def test_kernel_is_nearest_by_channel(case):
    """delta in modulus; then the other taps in the l1 norm, where no point of the ball is nearer than the excess."""
    kernel, epsilon, eta = case
    projected = reproject_kernel(kernel, epsilon, eta)
    for channel in range(len(kernel)):
        (before, sum_before), (delta, _) = conditions(kernel, channel), conditions(projected, channel)
        least = max(abs(before) - (1 - Fraction(eta)), Fraction(0))
        assert least <= abs(delta - before) <= least + Fraction(1e-15)
        excess = max(sum_before - (1 - Fraction(epsilon) - abs(delta)), Fraction(0))
        moved = abs(rational(projected[channel]) - rational(kernel[channel])).sum() - abs(delta - before)
        assert excess <= moved <= excess + Fraction(1e-14) * (1 + sum_before)


def dense(kernel, size):
    """The matrix of a one-dimensional circular convolution of one channel."""
    matrix, (taps,) = np.zeros((size, size)), kernel.shape[2:]
    for row in range(size):
        for tap in range(taps):
            matrix[row, (row + tap - taps // 2) % size] += kernel[0, 0, tap]
    return matrix


@pytest.mark.parametrize(("delta", "centre", "others"), [
    (0.3, -1.3, (0.39, -0.26)),
    (-0.3, -0.7, (0.39, -0.26)),
    (1.7, -1.9, (0.03, -0.02)),
])
def test_kernel_of_the_worked_example(delta, centre, others):
    kernel = np.array([0.9, -1 - delta, -0.6]).reshape(1, 1, 3)
    projected = reproject_kernel(kernel, 0.05, 0.1)
    np.testing.assert_allclose(projected.ravel(), [others[0], centre, others[1]], rtol=1e-13)
    matrix = dense(projected, 6)
    assert np.abs(np.eye(6) + matrix).sum(axis=1).max() == pytest.approx(0.95)
    if delta == -0.3:
        assert np.linalg.norm(np.linalg.inv(matrix), np.inf) == pytest.approx(2.371527, abs=1e-6)


def test_factor_of_the_worked_example():
    factor = np.diag([3.0, 0.5])
    correct = -np.linalg.eigvalsh(stable_matrix(reproject_factor(factor, 0.01), 0.01))[::-1]
    np.testing.assert_allclose(correct, [0.037212, 0.989622], atol=1e-6)
    gram = factor.T @ factor  # the square root applied to R^T R, as in some public code, leaves the stable set
    wrong = np.linalg.eigvalsh(np.sqrt(0.98 / np.linalg.norm(gram)) * gram + 0.01 * np.eye(2))
    assert 1 - wrong[-1] < -1
    factor = 3 * np.random.default_rng(0).normal(size=(4, 4))
    gram = factor.T @ factor
    wrong = -np.sqrt(0.98 / np.linalg.norm(gram)) * gram - 0.01 * np.eye(4)
    right = stable_matrix(reproject_factor(factor, 0.01), 0.01)
    radii = [np.max(np.abs(np.linalg.eigvalsh(np.eye(4) + a))) for a in (right, wrong)]
    assert radii == pytest.approx([0.979802, 7.777273], abs=1e-6)


@pytest.mark.parametrize("call", [
    lambda: reproject_factor(np.eye(2), 0.5),
    lambda: reproject_factor(np.eye(2), 0.0),
    lambda: reproject_factor(np.array([[np.nan]]), 0.1),
    lambda: reproject_factor(np.eye(2, dtype=np.float32), 0.1),
    lambda: reproject_kernel(np.ones((1, 1, 3)), 0.2, 0.1),
    lambda: reproject_kernel(np.ones((1, 1, 2)), 0.1, 0.2),
    lambda: reproject_kernel(np.ones((1, 2, 3)), 0.1, 0.2),
    lambda: reproject_kernel(np.full((1, 1, 3), np.inf), 0.1, 0.2),
])
def test_bad_arguments_are_named(call):
    with pytest.raises(ValueError, match=r"epsilon|kernel|factor"):
        call()
