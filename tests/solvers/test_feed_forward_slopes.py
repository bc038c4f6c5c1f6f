"""The feedforward analogue sup_D ||W_3 D_2 W_2 D_1 W_1||: a small network whose worst slopes are known."""

import itertools
import math

import numpy as np
import pytest
from netgain.solvers import GradientSystem, InteriorPoint, Limits, scale

from .bank import Inequality, constraint

W1 = np.array([[1.0, 2], [-1, 1], [1, -1]])
W2 = np.array([[1.0, -1, 1], [1, 1, 0], [0, 1, -1]])
W3 = np.array([[1.0, -1, 1]])
NETWORK = Inequality(2, (constraint({0: W1}), constraint({1: W2})), {2: W3})


def gain(first, second):
    return np.linalg.norm(W3 @ np.diag(second) @ W2 @ np.diag(first) @ W1, 2)


def test_enumeration_is_reached_and_not_exceeded():
    slopes = [np.array(d, dtype=float) for d in itertools.product((0, 1), repeat=3)]
    exact = max(gain(first, second) for first in slopes for second in slopes)
    assert exact == pytest.approx(3 * math.sqrt(2), abs=1e-9)
    assert GradientSystem().solve(NETWORK).value == pytest.approx(exact, abs=1e-9)
    bound = InteriorPoint().solve(scale(NETWORK), Limits(tolerance=1e-9)).bound
    assert bound == pytest.approx(4.288174, abs=1e-5)
    assert gain(np.ones(3), np.ones(3)) == pytest.approx(1.414214, abs=1e-6)
    norms = math.prod(np.linalg.norm(weight, 2) for weight in (W1, W2, W3))
    assert norms == pytest.approx(9.206897, abs=1e-6)


def test_gradient_is_left_times_right():
    first, second = np.array([0.2, 0.5, 0.9]), np.array([0.4, 0.6, 0.3])
    u, s, vt = np.linalg.svd(W3 @ np.diag(second) @ W2 @ np.diag(first) @ W1)
    right = W1 @ vt[0]
    later = W2 @ (first * right)
    left = W3.T @ u[:, 0]
    earlier = W2.T @ (second * left)
    assert s[0] == pytest.approx(0.656048779, abs=1e-9)
    assert earlier * right == pytest.approx([0.195107, 0.981634, 0.140233], abs=1e-6)
    assert left * later == pytest.approx([1.768161, 0.896275, -1.963269], abs=1e-6)
    numeric = [(gain(first + e, second) - gain(first - e, second)) / 2e-6 for e in 1e-6 * np.eye(3)]
    assert earlier * right == pytest.approx(numeric, abs=1e-6)
