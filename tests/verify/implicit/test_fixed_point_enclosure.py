import numpy as np
import pytest
from netgain.layers.activation import LeakyRelu, Relu, Tanh
from netgain.solvers.implicit.fixed_point import Method, fixed_point
from netgain.solvers.implicit.weighted_log_norm import SlopeBox, least_log_norm
from netgain.verify.implicit.fixed_point_enclosure import enclose_fixed_point, slope_bounds

A1 = np.array([[-2.0, 1.5], [0.8, 0.1]])
B1 = np.array([[1.0, -0.5], [0.3, 2.0]])


def test_a_solution_known_in_fractions():
    """x = relu(A x + B u + b) has the solution (1.15, 59/30)."""
    eta = least_log_norm(A1).weights
    for off in (0.0, 1e-6, 0.3):
        x = np.array([1.15, 59 / 30]) + off * np.array([1, -1])
        found = enclose_fixed_point(A1, np.array([0.2, -0.1]), Relu(), x, eta, B=B1, u=np.array([0.5, 0.4]))
        assert np.all(np.abs(x - [1.15, 59 / 30]) <= found.radius * eta + 1e-15)
        assert found.radius <= 20 * off + 1e-14


@pytest.mark.parametrize("activation", [Relu(), Tanh(), LeakyRelu(0.1)])
@pytest.mark.parametrize("seed", range(4))
def test_the_solution_lies_inside_from_wherever(seed, activation):
    rng = np.random.default_rng(seed)
    A, c = rng.standard_normal((5, 5)), rng.standard_normal(5)
    A -= (least_log_norm(A).value - 0.5) * np.eye(5)
    slopes = SlopeBox(*slope_bounds(activation, 5))
    eta = least_log_norm(A, slopes).weights
    best = fixed_point(A, c, activation.value, Method.AVERAGE, slopes, eta=eta, tolerance=1e-13).x
    close = enclose_fixed_point(A, c, activation, best, eta)
    assert close.radius < 1e-12
    for x in best + rng.standard_normal((20, 5)):
        found = enclose_fixed_point(A, c, activation, x, eta)
        assert np.max(np.abs(x - best) / eta) <= found.radius + close.radius


def test_the_bound_is_attained():
    """x = relu(x / 2 + 1): the error 1 at x = 3 is the residual 1/2 over 1 - 1/2."""
    found = enclose_fixed_point(np.array([[0.5]]), np.ones(1), Relu(), np.array([3.0]), np.ones(1))
    assert (found.residual, found.log_norm, found.radius) == (0.5, 0.5, 1.0)


def test_no_enclosure_without_well_posedness():
    assert enclose_fixed_point(np.eye(2), np.ones(2), Relu(), np.ones(2), np.ones(2)) is None


@pytest.mark.parametrize(("change", "message"), [({"c": np.ones(3)}, "one length"), ({"B": np.eye(2)}, "both B and u"),
                                                 ({"B": np.eye(2), "u": np.ones(3)}, "of shapes")])
def test_refusals(change, message):
    good = {"A": A1, "c": np.ones(2), "activation": Relu(), "x": np.ones(2), "eta": np.array([1, 1.7])}
    with pytest.raises(ValueError, match=message):
        enclose_fixed_point(**(good | change))
