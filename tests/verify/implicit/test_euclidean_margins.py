"""Margins and l2 radii by metrics: below what balls enclose, close to it, and held by inputs within them."""

import numpy as np
import pytest
from netgain.layers import Affine, FixedPoint, LeakyRelu, Relu, Tanh, sequential
from netgain.solvers.implicit.diagonal_metric import diagonal_stability, euclidean_gain
from netgain.verify.implicit.euclidean_margins import euclidean_margins, margin_radii

from ...solvers.implicit.implicit_bank import HIERARCHY


def network(seed, n=6, m=4, q=3):
    """Monotone, and in general without weights of an l_inf norm."""
    rng = np.random.default_rng(seed)
    P, S = rng.standard_normal((2, n, n))
    A = -0.2 * P.T @ P + 2 * (S - S.T)
    return (A, rng.standard_normal((n, m)), rng.standard_normal(n), rng.standard_normal((q, n)), rng.standard_normal(q))


@pytest.mark.parametrize("activation", [Relu(), Tanh(), LeakyRelu(0.1)], ids=repr)
@pytest.mark.parametrize("seed", range(3))
def test_margins_are_those_of_the_solution(seed, activation):
    A, B, b, C, c = network(seed)
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((7, 4))
    labels = rng.integers(0, 3, 7)
    v = u @ B.T + b
    x = FixedPoint(Affine(A), activation, tolerance=1e-14).forward(v)
    metric = diagonal_stability(A).metric
    y = x @ C.T + c
    exact = y[np.arange(7), labels][:, None] - y
    exact[np.arange(7), labels] = np.inf
    found = euclidean_margins(A, B, b, C, c, activation, metric, u, x, labels)
    assert np.all(found <= exact + 1e-12)
    np.testing.assert_allclose(found, exact, atol=1e-9)
    # From an approximation that is off they are smaller, never larger.
    off = euclidean_margins(A, B, b, C, c, activation, metric, u, x + 1e-3 * rng.standard_normal(x.shape), labels)
    assert np.all(off <= exact)
    gain = euclidean_gain(A, B, C, 1e-4, metric, None).gain * (1 + 1e-3)
    radii, graph = margin_radii(found, gain), sequential((4,), [Affine(B, b), FixedPoint(Affine(A), activation),
                                                               Affine(C, c)])
    assert np.array_equal(radii > 0, np.min(found, axis=1) > 0)
    for _ in range(20):
        d = rng.standard_normal(u.shape)
        moved = graph.forward(u + 0.999 * radii[:, None] * d / np.linalg.norm(d, axis=1, keepdims=True))
        assert np.all((moved.argmax(axis=1) == labels) | (radii == 0))


def test_no_metric_proves_nothing_and_shapes_are_checked():
    A = HIERARCHY[3][0]
    arguments = (np.eye(2), np.zeros(2), np.eye(2), np.zeros(2), Relu(), np.ones(2))
    point = (np.ones((1, 2)), np.ones((1, 2)), np.array([0]))
    assert euclidean_margins(A, *arguments, *point) is None
    with pytest.raises(ValueError, match="do not fit"):
        euclidean_margins(A, *arguments, np.ones((1, 3)), *point[1:])
    with pytest.raises(ValueError, match="finite"):
        euclidean_margins(A, *arguments, np.full((1, 2), np.nan), *point[1:])
