"""The matrix inequality with layers that feed themselves: against formulas, vertices and other solvers."""

import itertools

import numpy as np
import pytest
from netgain.solvers.availability import Backend
from netgain.solvers.closed_form import compress, norm_product, scale
from netgain.solvers.conic import Conic, Form
from netgain.solvers.dual_scaling import DualScaling
from netgain.solvers.implicit.diagonal_metric import euclidean_gain
from netgain.solvers.inequality import Inequality, SlopeConstraint
from netgain.solvers.interior_point import InteriorPoint
from netgain.solvers.loop import Loop, NoMetricError
from netgain.solvers.result import Limits, Status

from .implicit.implicit_bank import A1, B1, C1, HIERARCHY

SLOPES = [(0.0, 1.0), (0.1, 1.0), (-0.1, 1.1), (0.2, 0.9)]


def stable(seed, n):
    rng = np.random.default_rng(seed)
    V, S, units = rng.standard_normal((n, n)), rng.standard_normal((n, n)), np.exp(rng.standard_normal(n) / 2)
    return np.eye(n) - units[:, None] * (V @ V.T / n + 0.5 * np.eye(n) + (S - S.T) / 2)


def layer(maps, n, lower=0.0, upper=1.0):
    return SlopeConstraint(maps, np.full(n, lower), np.full(n, upper))


def single(A, B, C, lower=0.0, upper=1.0):
    return Inequality(B.shape[1], (layer({0: B, 1: A}, len(A), lower, upper),), {1: C})


def bound(inequality, solver=None):
    scaled = scale(compress(inequality))
    solution = (solver or InteriorPoint()).solve(scaled, Limits(tolerance=1e-7))
    assert solution.status is Status.OPTIMAL
    assert solution.dual_bound <= solution.bound * (1 + 1e-9)
    assert solution.bound <= scaled.unscale(scaled.bound) * (1 + 1e-9)
    assert solution.bound <= norm_product(scaled) * (1 + 1e-9)
    return solution.bound


def random_network(seed, n=7, m=4, q=3):
    rng = np.random.default_rng(seed)
    return stable(seed, n), rng.standard_normal((n, m)), rng.standard_normal((q, n))


def vertex_gain(A, B, C, lower, upper):
    """What slopes at the ends of their intervals reach."""
    ends = itertools.product((lower, upper), repeat=len(A))
    return max(np.linalg.norm(C @ np.linalg.solve(np.eye(len(A)) - np.diag(d) @ A, np.diag(d) @ B), 2) for d in ends)


def test_the_published_example():
    assert bound(single(A1, B1, C1)) == pytest.approx(2.27427, abs=2e-5)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_bound_of_the_diagonal_metric(seed):
    A, B, C = random_network(seed)
    assert bound(single(A, B, C)) == pytest.approx(euclidean_gain(A, B, C, 1e-7).gain, rel=1e-5)


@pytest.mark.parametrize(("lower", "upper"), SLOPES)
@pytest.mark.parametrize("seed", range(2))
def test_solvers_agree_and_no_vertex_is_above(seed, lower, upper):
    A, B, C = random_network(seed)
    A = A if lower == 0 else 0.3 * A
    inequality = single(A, B, C, lower, upper)
    found = bound(inequality)
    assert bound(inequality, DualScaling()) == pytest.approx(found, rel=1e-5)
    for form in Form:
        other = Conic(Backend.CLARABEL, form).solve(scale(compress(inequality)), Limits())
        assert other.bound == pytest.approx(found, rel=1e-4)
    assert vertex_gain(A, B, C, lower, upper) <= found * (1 + 1e-7)


def test_without_recurrence_it_is_the_layer_of_a_feedforward_network():
    _, B, C = random_network(0)
    apart = Inequality(4, (layer({0: B}, 7),), {1: C})
    assert bound(single(np.zeros((7, 7)), B, C)) == pytest.approx(bound(apart), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_loop_of_strictly_lower_blocks_is_a_feedforward_network(seed):
    """z = (z1, z2) with z2 fed by z1 and z1 by the input alone: both ways to write it are one."""
    rng = np.random.default_rng(seed)
    W1, W2, C = rng.standard_normal((4, 3)), rng.standard_normal((5, 4)), rng.standard_normal((2, 5))
    A = np.zeros((9, 9))
    A[4:, :4] = W2
    loop = single(A, np.vstack([W1, np.zeros((5, 3))]), np.hstack([np.zeros((2, 4)), C]))
    chain = Inequality(3, (layer({0: W1}, 4), layer({1: W2}, 5)), {2: C})
    assert bound(loop) == pytest.approx(bound(chain), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_several_loops_among_other_layers(seed):
    rng = np.random.default_rng(seed)
    B, V, C = rng.standard_normal((6, 4)), rng.standard_normal((5, 6)), rng.standard_normal((2, 5))
    skip = rng.standard_normal((2, 4))
    constraints = (layer({0: B, 1: stable(seed, 6)}, 6), layer({1: V}, 5, -0.1, 1.1),
                   layer({0: rng.standard_normal((5, 4)), 2: np.eye(5), 3: stable(seed + 9, 5)}, 5))
    inequality = Inequality(4, constraints, {0: skip, 3: C})
    found = bound(inequality)
    other = Conic(Backend.CLARABEL, Form.ONE_BLOCK).solve(scale(compress(inequality)), Limits())
    assert other.bound == pytest.approx(found, rel=1e-4)


@pytest.mark.parametrize(("lower", "upper"), SLOPES)
@pytest.mark.parametrize("seed", range(3))
def test_a_metric_bounds_what_any_slopes_do(seed, lower, upper):
    A = 0.3 * stable(seed, 6)
    loop = Loop(A, np.full(6, lower), np.full(6, upper))
    metric = loop.metric()
    assert np.linalg.eigvalsh(loop.form(metric))[0] > 0
    rng = np.random.default_rng(seed)
    for _ in range(50):
        D = np.diag(rng.choice([lower, upper, rng.uniform(lower, upper)], 6))
        assert np.linalg.norm(np.linalg.solve(np.eye(6) - D @ A, D), 2) <= loop.gain(metric) * (1 + 1e-9)


@pytest.mark.parametrize(("A", "stable"), [(case[0], case[-1]) for case in HIERARCHY])
def test_a_metric_is_found_exactly_where_there_is_one(A, stable):
    inequality = single(A, np.eye(2), np.eye(2))
    if stable:
        assert np.isfinite(bound(inequality))
        return
    with pytest.raises(NoMetricError, match=r"Layer 1 .* no diagonal metric exists") as caught:
        scale(inequality)
    assert caught.value.margin < 0
    assert caught.value.most <= 0
    assert "'x'" in str(caught.value.named("'x'"))


def test_slopes_that_make_the_loop_singular_are_no_crash():
    with pytest.raises(NoMetricError):
        scale(single(np.eye(1), np.eye(1), np.eye(1), 1.0, 2.0))


def test_only_ordinary_layers_may_feed_themselves():
    ones = np.ones(2)
    with pytest.raises(ValueError, match="map from block 1"):
        Inequality(2, (SlopeConstraint({0: np.eye(2), 1: np.eye(2)}, -ones, ones, 2),), {1: np.eye(2)})
    with pytest.raises(ValueError, match="map from block 2"):
        Inequality(2, (layer({0: np.eye(2), 2: np.eye(2)}, 2), layer({1: np.eye(2)}, 2)), {2: np.eye(2)})
