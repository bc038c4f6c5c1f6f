"""Boxes of implicit networks: sampled inputs stay inside, radii stay below what attacks reach."""

import numpy as np
import pytest
from netgain.layers.activation import Clip, LeakyRelu, Relu, Sigmoid, Silu, Tanh
from netgain.solvers.implicit.attack import attack
from netgain.solvers.implicit.fixed_point import Method, fixed_point
from netgain.solvers.implicit.gain import majorant_gain
from netgain.solvers.implicit.network import equilibria
from netgain.solvers.implicit.reachability import mixed_monotone_parts
from netgain.solvers.implicit.weighted_log_norm import least_log_norm
from netgain.verify.implicit.reachability import Reachability, pairwise_gains
from netgain.verify.implicit.reachability_check import Boxes, linear_image, margins, proved_state_boxes

A1 = np.array([[-2.0, 1.5], [0.8, 0.1]])
B1 = np.array([[1.0, -0.5], [0.3, 2.0]])
C1 = np.array([[1.0, -1.0]])
B0 = np.array([0.2, -0.1])


def network(seed, n=7, m=4, q=3):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n))
    A -= (least_log_norm(A).value - rng.uniform(-0.5, 0.8)) * np.eye(n)
    return A, rng.standard_normal((n, m)), rng.standard_normal(n), rng.standard_normal((q, n)), rng.standard_normal(q)


def test_the_two_by_two_fact():
    reach = Reachability(A1, B1, B0, C1, np.zeros(1), Relu()).reach(Boxes.around(np.array([[0.5, 0.4]]), 0.1))
    assert reach.proved.all()
    assert reach.states.lower[0] == pytest.approx([0.83, 1.426667], abs=1e-6)
    assert reach.states.upper[0] == pytest.approx([1.47, 2.506667], abs=1e-6)
    assert (reach.outputs.lower[0, 0], reach.outputs.upper[0, 0]) == pytest.approx((-1.676667, 0.043333), abs=1e-6)
    point = Reachability(A1, B1, B0, C1, np.zeros(1), Relu()).reach(Boxes.around(np.array([[0.5, 0.4]]), 0.0))
    assert point.states.lower[0] == pytest.approx([1.15, 1.966667], abs=1e-6)
    assert point.outputs.upper[0, 0] == pytest.approx(-0.816667, abs=1e-6)
    widths = np.linalg.solve(np.eye(2) - np.array([[-2.0, 1.5], [0.8, 0.1]]), np.abs(B1).sum(1) * 0.2)
    assert (reach.states.upper - reach.states.lower)[0] == pytest.approx(widths, abs=1e-6)


def test_plain_intervals_diverge_where_these_boxes_exist():
    """Where the negative diagonal is among the entries that swap ends, lower ends fall to 0 and upper ones grow."""
    lower = upper = np.array([1.15, 59 / 30])
    below, above = (B1 @ np.array([0.5, 0.4]) + B0 + sign * 0.1 * np.abs(B1).sum(1) for sign in (-1, 1))
    P, N = np.maximum(A1, 0), np.minimum(A1, 0)
    for _ in range(200):
        lower, upper = (np.maximum(v, 0) for v in (P @ lower + N @ upper + below, P @ upper + N @ lower + above))
    assert np.max(upper - lower) > 1e6
    assert Reachability(A1, B1, B0, C1, np.zeros(1), Relu()).reach(Boxes.around(np.array([[0.5, 0.4]]), 0.1)).proved[0]


@pytest.mark.parametrize("activation", [Relu(), LeakyRelu(0.1), Tanh(), Sigmoid(), Clip(0.0, 6.0)], ids=repr)
@pytest.mark.parametrize("seed", range(4))
def test_sampled_inputs_stay_inside_and_widths_below_the_majorant(seed, activation):
    A, B, b, C, c = network(seed)
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((5, 4))
    radius = rng.uniform(0, 0.5, 5)
    method = Reachability(A, B, b, C, c, activation)
    reach = method.reach(Boxes.around(centre, radius))
    assert reach.proved.all()
    corners = rng.choice([-1.0, 1.0], (300, 5, 4)) * rng.choice([0.3, 1.0], (300, 5, 1))
    u = (centre + radius[:, None] * corners).reshape(-1, 4)
    x = fixed_point(A, u @ B.T + b, activation.value, Method.AVERAGE, method.network.slopes,
                    eta=method.embedding.weights, tolerance=1e-12).x
    y = (x @ C.T + c).reshape(300, 5, -1)
    x = x.reshape(300, 5, -1)
    assert np.all(x >= reach.states.lower - 1e-10)
    assert np.all(x <= reach.states.upper + 1e-10)
    assert np.all(y >= reach.outputs.lower - 1e-9)
    assert np.all(y <= reach.outputs.upper + 1e-9)
    z = majorant_gain(A, B, C)[1]
    assert np.all(reach.states.upper - reach.states.lower <= 2 * radius[:, None] * z + 1e-7)
    room = margins(C, c, reach.states, np.zeros(5, dtype=int))
    assert np.all(room[:, 0] == np.inf)
    assert np.all(room[:, 1:] <= (y[..., :1] - y[..., 1:]).min(axis=0) + 1e-9)
    assert np.all(room[:, 1:] >= reach.outputs.lower[:, :1] - reach.outputs.upper[:, 1:] - 1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_boxes_that_are_too_small_are_not_proved(seed):
    A, B, b, C, c = network(seed)
    method = Reachability(A, B, b, C, c, Relu())
    inputs = Boxes.around(np.ones((4, 4)), np.array([0.1, 0.2, 0.3, 0.4]))
    reach, eta = method.reach(inputs), method.embedding.weights
    active = np.flatnonzero(reach.states.upper[0] > 1e-3)
    assert len(active)
    for i in active:
        smaller = reach.states.upper.copy()
        smaller[:, i] -= 1e-4
        states = Boxes(np.minimum(reach.states.lower, smaller), smaller)
        proved = proved_state_boxes(A, B, b, Relu(), eta, inputs, states)
        assert not proved[0]
    assert not proved_state_boxes(A, B, b, Relu(), 1e-9 + np.arange(7.0), inputs, reach.states).any()


def test_rounding_decides_nothing():
    """x = relu(u + b) over one point: the sum 1 + 2^-60 has no float64, so the box must hold both neighbours."""
    A, one = np.zeros((1, 1)), np.ones((1, 1))
    inputs, eta = Boxes(one, one), np.ones(1)
    b = np.array([2.0**-60])
    exact = Boxes(one, one)
    assert not proved_state_boxes(A, one, b, Relu(), eta, inputs, exact).any()
    assert proved_state_boxes(A, one, b, Relu(), eta, inputs, Boxes(one - 1e-12, one + 1e-12)).all()


@pytest.mark.parametrize("seed", range(4))
def test_radii_are_certified_and_below_what_is_misclassified(seed):
    A, B, b, C, c = network(seed)
    u = np.random.default_rng(seed).standard_normal((40, 4))
    # Centred, so that more than one class occurs.
    c = -equilibria(Reachability(A, B, b, C, 0 * c, Relu()).network).outputs(u).mean(axis=0)
    method = Reachability(A, B, b, C, c, Relu())
    eta = method.embedding.weights

    def classes(u):
        x = fixed_point(A, u @ B.T + b, Relu().value, Method.AVERAGE, eta=eta, tolerance=1e-12).x
        return np.argmax(x @ C.T + c, axis=1)

    labels = classes(u)
    radii = method.radii(u, labels, largest=4.0)
    assert np.any(radii > 0)
    assert method.certified(u, labels, radii * 0.999)[radii > 0].all()
    assert not method.certified(u, labels, radii * 1.02 + 1e-9)[radii < 3.9].any()
    for corner in np.random.default_rng(seed).choice([-1.0, 1.0], (60, 40, 4)):
        assert np.all((classes(u + 0.9999 * radii[:, None] * corner) == labels) | (radii == 0))
    for radius in np.geomspace(0.01, 4.0, 12):
        succeeded = attack(equilibria(method.network), u, labels, radius, np.inf).succeeded
        assert not np.any(succeeded & (radii > radius * (1 + 1e-9)))
    assert succeeded.any()
    assert np.all(method.radii(u, (labels + 1) % 3) == 0)
    # Boxes are nowhere wider than what the majorant says for all inputs.
    z = majorant_gain(A, B, C)[1] * (1 + 1e-9)
    by_gains = method.margin_radii(u, labels, pairwise_gains(A, B, C, z))
    assert np.all(by_gains > 0)
    assert np.all(np.minimum(by_gains, 4.0) <= radii * 1.011 + 1e-9)
    assert np.all(method.margin_radii(u, (labels + 1) % 3, pairwise_gains(A, B, C, z)) == 0)
    assert pairwise_gains(A, B, C, z * (1 - 1e-6)) is None


def test_parts_and_images():
    A = np.array([[-1.0, 2.0, -3.0], [-4.0, 5.0, 6.0], [0.0, -1.0, -2.0]])
    P, N = mixed_monotone_parts(A)
    assert np.array_equal(P + N, A)
    assert np.all(np.diagonal(N) == 0)
    assert np.all(N <= 0)
    assert np.all(P - np.diag(np.diagonal(P)) >= 0)
    image = linear_image(A, np.ones(3), Boxes(-np.ones((1, 3)), np.ones((1, 3))))
    assert image.lower[0] == pytest.approx(1 - np.abs(A).sum(1))
    assert np.all(image.lower[0] < 1 - np.abs(A).sum(1))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Reachability(A1, B1, B0, C1, np.zeros(1), Silu()), "nondecreasing"),
    (lambda: Reachability(2 * np.eye(2), B1, B0, C1, np.zeros(1), Relu()), "below 1"),
    (lambda: Reachability(A1, np.eye(3), B0, C1, np.zeros(1), Relu()), "shapes"),
    (lambda: Boxes(np.ones((1, 2)), np.zeros((1, 2))), "lower <= upper"),
    (lambda: Boxes.around(np.ones((1, 2)), -1.0), "negative"),
    (lambda: margins(C1, np.zeros(1), Boxes(np.ones((1, 2)), np.ones((1, 2))), np.zeros(1, dtype=int)), "two"),
    (lambda: proved_state_boxes(A1, B1, B0, Silu(), np.ones(2), Boxes(B1, B1), Boxes(B1, B1)), "decrease")])
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
