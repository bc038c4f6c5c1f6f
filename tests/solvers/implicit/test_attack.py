import numpy as np
import pytest
from netgain.solvers.implicit.attack import attack
from netgain.solvers.implicit.diagonal_metric import euclidean_gain
from netgain.solvers.implicit.fixed_point import Method
from netgain.solvers.implicit.gain import exact_gain, least_weighted_gain, majorant_gain
from netgain.solvers.implicit.gain_witness import gain_witness
from netgain.solvers.implicit.network import ImplicitNetwork, NotConverged, equilibria, relu_network
from netgain.solvers.implicit.row_gain import row_gain
from netgain.solvers.implicit.weighted_log_norm import SlopeBox

from .implicit_bank import A1, B1, C1, HIERARCHY, random_matrix


def network(seed, n=6, m=4, q=3):
    rng = np.random.default_rng(seed)
    return relu_network(random_matrix(seed, n), rng.standard_normal((n, m)), rng.standard_normal(n),
                        rng.standard_normal((q, n)), rng.standard_normal(q))


def smooth(seed, slopes=(0.0, 1.0)):
    net = network(seed)
    return ImplicitNetwork(net.A, net.B, net.b, net.C, net.c, np.tanh, lambda v: 1 - np.tanh(v) ** 2,
                           SlopeBox.uniform(6, *slopes))


@pytest.mark.parametrize("seed", range(5))
def test_gradients_are_those_of_finite_differences(seed):
    found = equilibria(smooth(seed))
    rng = np.random.default_rng(seed)
    u, g, step = rng.standard_normal((3, 4)), rng.standard_normal((3, 3)), 1e-5
    gradients = found.gradients(u, found.states(u), g)
    for k in range(4):
        move = step * np.eye(4)[k]
        slopes = np.sum(g * (found.outputs(u + move, 1e-13) - found.outputs(u - move, 1e-13)), axis=1) / (2 * step)
        assert gradients[:, k] == pytest.approx(slopes, abs=1e-7)


def test_networks_without_weights_take_a_metric():
    A = HIERARCHY[0][0]
    net = relu_network(A, np.eye(2), np.ones(2), np.eye(2), np.zeros(2))
    found = equilibria(net)
    assert found.method is Method.PEACEMAN_RACHFORD
    u = np.random.default_rng(0).standard_normal((9, 2))
    x = found.states(u)
    assert x == pytest.approx(np.maximum(x @ A.T + u + 1, 0), abs=1e-9)
    slopes = net.derivative(x @ A.T + u + 1)
    for row, d, gradient in zip(x, slopes, found.gradients(u, x, np.ones((9, 2))), strict=True):
        assert row.shape == (2,)
        assert gradient == pytest.approx(np.linalg.solve(np.eye(2) - np.diag(d) @ A, np.diag(d)).sum(0), abs=1e-8)


@pytest.mark.parametrize("order", [2, np.inf])
@pytest.mark.parametrize("seed", range(6))
def test_witnesses_lie_between_the_linear_gain_and_all_bounds(seed, order):
    net = network(seed)
    found = gain_witness(equilibria(net), order, spread=3.0)
    most = exact_gain(net.A, net.B, net.C, order)[0]
    if order == np.inf:
        assert found.gain <= most * (1 + 1e-7)
        by_rows = max(row_gain(net.A, net.B, row).gain for row in net.C)
        assert found.gain <= by_rows <= majorant_gain(net.A, net.B, net.C)[0] * (1 + 1e-5)
        assert found.gain <= least_weighted_gain(net.A, net.B, net.C)[0]
    assert found.gain <= euclidean_gain(net.A, net.B, net.C).gain * (1 if order == 2 else np.sqrt(4))
    # Random pairs close to each other do no better than the search by more than a little.
    rng = np.random.default_rng(seed)
    u = 3 * rng.standard_normal((2000, 4))
    d = 1e-4 * (np.sign(rng.standard_normal(u.shape)) if order == np.inf else rng.standard_normal(u.shape))
    y = equilibria(net).outputs(np.vstack([u + d, u - d]), 1e-12)
    sampled = np.linalg.norm(y[:2000] - y[2000:], order, axis=1) / np.linalg.norm(2 * d, order, axis=1)
    assert found.gain >= 0.95 * sampled.max()


@pytest.mark.parametrize(("order", "gain"), [(np.inf, 23 / 9), (2, 2.24708)])
def test_the_two_by_two_fact_is_attained(order, gain):
    net = relu_network(A1, B1, np.zeros(2), C1, np.zeros(1))
    found = gain_witness(equilibria(net), order, spread=2.0)
    assert found.gain == pytest.approx(gain, abs=2e-5)
    y = equilibria(net).outputs(np.stack([found.u, found.other]), 1e-13)
    distance = np.linalg.norm(found.u - found.other, order)
    assert np.linalg.norm(y[0] - y[1], order) / distance == pytest.approx(found.gain)


@pytest.mark.parametrize("order", [2, np.inf])
def test_attacks_stay_in_the_ball_and_do_not_lose_what_they_found(order):
    net = network(1)
    found = equilibria(net)
    rng = np.random.default_rng(1)
    u = rng.uniform(0, 1, (60, 4))
    labels = np.argmax(found.outputs(u), axis=1)
    share = []
    for radius in (0.0, 0.1, 0.3, 1.0):
        attacked = attack(found, u, labels, radius, order, floor=0.0, ceiling=1.0)
        assert np.all(np.linalg.norm(attacked.inputs - u, order, axis=1) <= radius * (1 + 1e-12))
        assert np.all((attacked.inputs >= 0) & (attacked.inputs <= 1))
        assert np.array_equal(np.argmax(found.outputs(attacked.inputs), axis=1) != labels, attacked.succeeded)
        share.append(attacked.succeeded.mean())
    assert share[0] == 0
    assert share == sorted(share)
    assert share[-1] > 0


def test_refusals():
    net = network(0)
    with pytest.raises(ValueError, match="order"):
        gain_witness(equilibria(net), 1)
    with pytest.raises(ValueError, match="radius"):
        attack(equilibria(net), np.ones((1, 4)), np.zeros(1, dtype=int), -1.0, 2)
    with pytest.raises(ValueError, match="guaranteed"):
        equilibria(relu_network(2 * np.eye(2), np.eye(2), np.ones(2), np.eye(2), np.ones(2)))
    with pytest.raises(ValueError, match="shapes"):
        relu_network(np.eye(2), np.eye(3), np.ones(2), np.eye(2), np.ones(2))
    with pytest.raises(NotConverged, match="asked for"):
        equilibria(relu_network(A1, B1, np.ones(2), C1, np.ones(1))).states(np.ones((1, 2)), tolerance=0.0)
