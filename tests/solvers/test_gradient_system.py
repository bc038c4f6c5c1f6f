import dataclasses
import itertools
import math
import time

import numpy as np
import pytest
from netgain.solvers.closed_form import scale
from netgain.solvers.conic import Backend, Conic
from netgain.solvers.gradient_system import GradientSystem, _Pool, _starts, flow, sweep
from netgain.solvers.inequality import Inequality, SlopeConstraint
from netgain.solvers.result import Limits
from netgain.solvers.slope_system import Diagonal, SlopeSystem, normalised

from .bank import pooled

QUICK = GradientSystem(restarts=12, rounds=10)


def constraint(maps, lower=0.0, upper=1.0, coupled=1):
    size = len(next(iter(maps.values())))
    return SlopeConstraint(maps, np.full(size, lower), np.full(size, upper), coupled)


def chain(weights, lower=0.0, upper=1.0, coupled=1):
    layers = tuple(constraint({k: w}, lower, upper, coupled) for k, w in enumerate(weights[:-1]))
    return Inequality(weights[0].shape[1], layers, {len(layers): weights[-1]})


def mlp(seed, sizes, **slopes):
    rng = np.random.default_rng(seed)
    return chain([rng.standard_normal((n, m)) / math.sqrt(m) for m, n in itertools.pairwise(sizes)], **slopes)


def skips(seed):
    rng = np.random.default_rng(seed)
    first = constraint({0: rng.standard_normal((4, 3))})
    second = constraint({0: rng.standard_normal((3, 3)), 1: rng.standard_normal((3, 4))}, 0.1)
    third = constraint({1: rng.standard_normal((4, 4)), 2: rng.standard_normal((4, 3))}, -0.2, 1.1)
    return Inequality(3, (first, second, third), {1: rng.standard_normal((2, 4)), 3: rng.standard_normal((2, 4))})


PRINTED = chain([
    np.array([[1.0, 2], [-1, 1], [1, -1]]),
    np.array([[1.0, -1, 1], [1, 1, 0], [0, 1, -1]]),
    np.array([[1.0, -1, 1]]),
])


def dense_jacobian(inequality, slopes):
    """J(D) by matrices alone."""
    z = [np.eye(inequality.input_size)]
    for layer, d in zip(inequality.constraints, slopes, strict=True):
        v = sum(a @ z[j] for j, a in layer.maps.items())
        if layer.coupled > 1:
            v = np.concatenate([block @ part for block, part in zip(d, np.split(v, layer.groups), strict=True)])
            v = v if layer.kept is None else v[layer.kept]
        else:
            v = d[:, None] * v
        z.append(v)
    return sum(c @ z[j] for j, c in inequality.output.items())


def brute_force(inequality):
    """||J(D)|| is convex in each slope, so it is largest at a vertex of the box."""
    ends = [np.stack([layer.lower, layer.upper]) for layer in inequality.constraints]
    splits = np.cumsum([layer.size for layer in inequality.constraints])[:-1]
    low, high = np.concatenate(ends, axis=1)
    best = 0.0
    for bits in itertools.product((False, True), repeat=len(low)):
        slopes = np.split(np.where(bits, high, low), splits)
        best = max(best, np.linalg.norm(dense_jacobian(inequality, slopes), 2))
    return best


SMALL = {
    "mlp": mlp(0, (3, 5, 5, 2)),
    "another": mlp(1, (4, 4, 6, 3)),
    "leaky": mlp(2, (3, 5, 5, 2), lower=0.3),
    "symmetric": mlp(3, (3, 5, 4, 2), lower=-1.0),
    "one side of zero": mlp(4, (3, 5, 4, 2), lower=0.5, upper=1.5),
    "skips": skips(5),
    "three layers": mlp(6, (2, 4, 4, 3, 1)),
}


def test_printed_value():
    result = GradientSystem().solve(PRINTED)
    assert result.value == pytest.approx(3 * math.sqrt(2), rel=1e-12)
    assert brute_force(PRINTED) == pytest.approx(3 * math.sqrt(2), rel=1e-12)


@pytest.mark.parametrize("name", SMALL)
def test_finds_what_brute_force_finds(name):
    assert GradientSystem().solve(SMALL[name]).value == pytest.approx(brute_force(SMALL[name]), rel=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_never_above_the_semidefinite_bound(name):
    bound = Conic(Backend.CLARABEL).solve(scale(SMALL[name]), Limits(tolerance=1e-7)).bound
    assert QUICK.solve(SMALL[name]).value <= bound * (1 + 1e-6)


COUPLED = {
    "groups of two": mlp(7, (3, 6, 4, 2), lower=-1.0, coupled=2),
    "one group": mlp(8, (3, 4, 4, 2), lower=0.0, upper=0.5, coupled=4),
    "pooled": pooled(19, (3, 4, 3, 2), 2),
    "pooled, two of three answer": pooled(20, (3, 4, 2, 2), 3, -0.3, 0.8, kept=2),
}


@pytest.mark.parametrize("inequality", [*SMALL.values(), *COUPLED.values()], ids=[*SMALL, *COUPLED])
def test_slopes_are_admissible_and_exhibit_the_value(inequality):
    result = QUICK.solve(inequality)
    jacobian = dense_jacobian(inequality, result.slopes)
    assert np.linalg.norm(jacobian @ result.right) / np.linalg.norm(result.right) == pytest.approx(result.value)
    assert np.linalg.norm(jacobian, 2) == pytest.approx(result.value, rel=1e-9)
    for layer, d in zip(inequality.constraints, result.slopes, strict=True):
        centre, radius = (layer.lower + layer.upper) / 2, (layer.upper - layer.lower) / 2
        if layer.coupled == 1:
            assert np.all((layer.lower <= d) & (d <= layer.upper))
        elif layer.kept is None:
            assert d.shape == (layer.groups, layer.coupled, layer.coupled)
            unit = (d - centre[0] * np.eye(layer.coupled)) / radius[0]
            assert np.all(np.linalg.norm(unit, 2, axis=(1, 2)) <= 1 + 1e-12)
        else:
            # By the constraint itself: sum_i (z - lower v)_i (z - upper v)_i as a quadratic form of v.
            mask = np.isin(np.arange(layer.rows), layer.kept).reshape(layer.groups, -1, 1)
            z, one = d * mask, np.eye(layer.coupled)
            forms = np.swapaxes(z - layer.lower[0] * one, 1, 2) @ (z - layer.upper[0] * one)
            assert np.array_equal(z, d)
            assert np.linalg.eigvalsh(forms + np.swapaxes(forms, 1, 2)).max() <= 1e-12


def test_one_coupled_group_reaches_the_product_of_norms():
    inequality = chain([np.diag([1.5, 1.0]), np.array([[1.0, 2.0]])], lower=-1.0, coupled=2)
    assert QUICK.solve(inequality).value == pytest.approx(1.5 * math.sqrt(5), rel=1e-9)


@pytest.mark.parametrize("name", COUPLED)
def test_coupled_groups_beat_random_ones_and_stay_below_the_bound(name):
    inequality, rng = COUPLED[name], np.random.default_rng(0)
    value = GradientSystem().solve(inequality).value
    for _ in range(300):
        slopes = []
        for layer in inequality.constraints:
            if layer.coupled == 1:
                slopes.append(rng.uniform(layer.lower, layer.upper))
                continue
            unit = rng.standard_normal((layer.groups, layer.coupled, layer.coupled))
            unit /= np.linalg.norm(unit, 2, axis=(1, 2), keepdims=True)
            centre, radius = (layer.lower + layer.upper)[0] / 2, (layer.upper - layer.lower)[0] / 2
            # In rows without an answer the slope 0 uses up nothing, and none is read.
            spare = np.full(layer.coupled, radius)
            spare[len(layer.kept) // layer.groups if layer.kept is not None else layer.coupled :] = np.sqrt(
                -layer.lower[0] * layer.upper[0])
            if layer.kept is not None:
                unit[:, len(layer.kept) // layer.groups :] = 0
            slopes.append(centre * np.eye(layer.coupled) + unit * spare)
        assert np.linalg.norm(dense_jacobian(inequality, slopes), 2) <= value
    assert value <= Conic(Backend.CLARABEL).solve(scale(inequality), Limits(tolerance=1e-7)).bound * (1 + 1e-6)


def singular_gradient(inequality, values):
    system = SlopeSystem(inequality)
    slopes = [Diagonal(d[None], c.lower, c.upper) for d, c in zip(values, inequality.constraints, strict=True)]
    u, s, vt = np.linalg.svd(system.jacobian(slopes))
    right, left = system.forward(slopes, vt[:1]).at, system.backward(slopes, u[:, :1].T).at
    return s[0], [(a * b)[0] for a, b in zip(left, right, strict=True)]


def test_printed_gradient():
    value, gradient = singular_gradient(PRINTED, [np.array([0.2, 0.5, 0.9]), np.array([0.4, 0.6, 0.3])])
    assert value == pytest.approx(0.656048779, abs=1e-9)
    assert gradient[0] == pytest.approx([0.195107, 0.981634, 0.140233], abs=1e-6)
    assert gradient[1] == pytest.approx([1.768161, 0.896275, -1.963269], abs=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_gradient_is_the_difference_quotient(name):
    inequality, rng, step = SMALL[name], np.random.default_rng(1), 1e-6
    values = [rng.uniform(c.lower, c.upper) for c in inequality.constraints]
    gradient = singular_gradient(inequality, values)[1]
    for k, i in [(k, i) for k, layer in enumerate(values) for i in range(len(layer))]:
        norms = []
        for sign in (1, -1):
            moved = [d.copy() for d in values]
            moved[k][i] += sign * step
            norms.append(np.linalg.norm(dense_jacobian(inequality, moved), 2))
        assert gradient[k][i] == pytest.approx((norms[0] - norms[1]) / (2 * step), abs=1e-6)


@pytest.mark.parametrize("inequality", [*SMALL.values(), *COUPLED.values()], ids=[*SMALL, *COUPLED])
@pytest.mark.parametrize("improve", [sweep, flow])
def test_every_step_raises_the_gain(inequality, improve):
    rng, system = np.random.default_rng(2), SlopeSystem(inequality)
    pool = _Pool(_starts(inequality.constraints, 8, rng), normalised(rng.standard_normal((8, inequality.input_size))))
    gain = system.gain(pool.slopes, pool.q)
    for _ in range(15):
        pool = improve(system, pool, 1)
        before, gain = gain, system.gain(pool.slopes, pool.q)
        assert np.all(gain >= before * (1 - 1e-12))


def test_history_never_decreases_and_ends_at_the_value():
    result = QUICK.solve(mlp(9, (6, 12, 12, 12, 3)))
    assert all(a <= b for a, b in itertools.pairwise(result.history))
    assert result.history[-1] == result.value


def test_same_seed_same_answer():
    inequality = mlp(9, (6, 12, 12, 12, 3))
    first, second = QUICK.solve(inequality), QUICK.solve(inequality)
    assert first.value == second.value
    assert all(np.array_equal(a, b) for a, b in zip(first.slopes, second.slopes, strict=True))


def test_networks_without_layers_or_signal():
    linear = Inequality(2, (), {0: np.array([[3.0, 4.0]])})
    assert GradientSystem().solve(linear).value == pytest.approx(5)
    dead = chain([np.ones((2, 2)), np.zeros((1, 2))])
    assert GradientSystem().solve(dead).value == 0


def test_deep_networks_neither_overflow_nor_vanish():
    for size in (0.02, 50.0):
        rng = np.random.default_rng(0)
        inequality = chain([size * rng.standard_normal((6, 6)) for _ in range(60)])
        result = GradientSystem(restarts=4, rounds=2).solve(inequality)
        assert 0 < result.value < math.inf


def test_time_limit_is_kept():
    inequality = mlp(0, (64, *[64] * 12, 10))
    start = time.perf_counter()
    result = GradientSystem(restarts=16, rounds=10_000, patience=10_000, time_limit=0.3).solve(inequality)
    assert time.perf_counter() - start < 3
    assert result.value > 0


def test_settings_are_checked_and_frozen():
    with pytest.raises(ValueError, match="`restarts` must be at least 1, got 0"):
        GradientSystem(restarts=0)
    with pytest.raises(ValueError, match="`time_limit` must be positive"):
        GradientSystem(time_limit=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        QUICK.seed = 1
