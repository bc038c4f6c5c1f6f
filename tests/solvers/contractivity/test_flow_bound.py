import math

import numpy as np
import pytest
from netgain.solvers import InteriorPoint, Limits, scale
from netgain.solvers.contractivity.flow_bound import contraction_metric, euler_inequality, flow_bound
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.sdp import upper_bound
from netgain.solvers.gradient_system import GradientSystem
from scipy.linalg import eigh, expm

from .slope_bank import A3, brute_force, circulant, general_field, laplacian, structured

SKEW, RANDOM = structured(5, 7)["skew"], structured(5, 7)["random"]


def switched(field, duration, seed, switches=12):
    """The gain of one admissible course of slopes, piecewise constant: a lower bound of the best bound."""
    rng = np.random.default_rng(seed)
    product = np.eye(field.size)
    for _ in range(switches):
        slopes = rng.choice([field.lower, field.upper], field.neurons)
        product = expm(duration / switches * field.jacobian(slopes)) @ product
    return np.linalg.norm(product, 2)


@pytest.mark.parametrize(("weights", "duration", "pieces", "value"), [
    (RANDOM, 1.0, 4, 1.1679), (RANDOM, 4.0, 4, 1.4995), (RANDOM, 4.0, 16, 1.3847),
    (SKEW, 1.0, 4, 1.2681), (SKEW, 4.0, 4, 2.5862),
    (laplacian(5), 1.0, 4, 1.2347), (laplacian(5), 4.0, 4, 1.8304), (laplacian(5), 4.0, 16, 1.3785),
    (circulant(5), 4.0, 4, 2.3521),
])
def test_table(weights, duration, pieces, value):
    assert flow_bound(SlopeField(weights, 0.1), duration, pieces).value == pytest.approx(value, abs=2e-4)


@pytest.mark.parametrize("field", [SlopeField(RANDOM, 0.1), SlopeField(circulant(5), 0.0), general_field(1)])
def test_between_courses_of_slopes_and_the_exponential(field):
    bound = flow_bound(field, 1.5, 4)
    exponential = math.exp(1.5 * upper_bound(field).value)
    assert bound.value <= exponential * (1 + 1e-5)
    worst = np.linalg.norm(expm(1.5 * field.jacobian(brute_force(field)[1])), 2)
    assert worst <= bound.value * (1 + 1e-6)
    for seed in range(20):
        assert switched(field, 1.5, seed) <= bound.value * (1 + 1e-6)


def test_metrics_hold_at_the_ends_of_the_pieces():
    field = SlopeField(A3, 0.1)
    bound = flow_bound(field, 2.0, 3)
    assert np.array_equal(bound.metrics[-1], np.eye(3))
    for piece, ends in enumerate(bound.multipliers):
        rise = (bound.metrics[piece + 1] - bound.metrics[piece]) / (2.0 / 3)
        for end, lam in enumerate(ends):
            q = bound.metrics[piece + end]
            product = q @ (field.centre * A3)
            block = np.block([
                [rise - 2 * bound.rate * q + product + product.T + A3.T @ np.diag(lam) @ A3, field.radius * q],
                [field.radius * q, -np.diag(lam)],
            ])
            assert np.linalg.eigvalsh(block)[-1] <= 1e-6


def test_a_negative_laplacian_contracts_in_its_own_metric():
    """x^T P D A x <= -m lambda_min x^T P x for P = -A, though the Euclidean logarithmic norm is positive."""
    weights = laplacian(4)
    field, rate = SlopeField(weights, 0.1), -0.1 * np.linalg.eigvalsh(-weights)[0]
    assert rate == pytest.approx(-0.038196601, abs=1e-9)
    assert brute_force(field)[0] > 0.16
    found = contraction_metric(field)
    assert found.rate == pytest.approx(rate, abs=3e-5)
    for pattern in range(16):
        d = np.where((pattern >> np.arange(4)) & 1, 1, 0.1)
        product = found.metric @ field.jacobian(d)
        assert eigh(product + product.T, 2 * found.metric)[0][-1] <= found.rate + 1e-6
    values = np.linalg.eigvalsh(found.metric)
    assert values[0] == pytest.approx(1)
    assert values[-1] == pytest.approx(found.condition)
    assert found.condition <= 100


@pytest.mark.parametrize(("weights", "full", "diagonal"), [
    (structured(6, 7)["random"], 0.0429, 0.2696), (structured(6, 7)["skew"], 0.20749, 0.20749),
])
def test_metrics_of_the_table(weights, full, diagonal):
    field = SlopeField(weights, 0.1)
    assert contraction_metric(field).rate == pytest.approx(full, abs=2e-4)
    assert contraction_metric(field, diagonal=True).rate == pytest.approx(diagonal, abs=2e-4)


def certified(inequality):
    return InteriorPoint().solve(scale(inequality), Limits(tolerance=1e-9)).bound


@pytest.mark.parametrize(("step", "exact", "by_sdp"), [
    (0.5, 0.873344, 0.873344), (0.1, 0.639274, 0.644245), (0.01, 0.594981, 0.603751),
])
def test_euler_steps_tend_to_the_logarithmic_norm(step, exact, by_sdp):
    """(Lip(I + h D A) - 1) / h tends to mu* from above, its semidefinite bound to the bound of mu*."""
    inequality = euler_inequality(SlopeField(A3, 0.1), step, 1)
    assert (certified(inequality) - 1) / step == pytest.approx(by_sdp, abs=2e-5)
    assert (GradientSystem().solve(inequality).value - 1) / step == pytest.approx(exact, abs=2e-5)
    assert exact <= (math.sqrt(1 + 2 * step * 0.590259822 + step**2 * np.linalg.norm(A3, 2) ** 2) - 1) / step


@pytest.mark.parametrize(("steps", "value"), [(1, 7.87), (4, 2.2751), (16, 1.4242)])
def test_unrolled_networks_of_the_table(steps, value):
    assert certified(euler_inequality(SlopeField(RANDOM, 0.1), 4 / steps, steps)) == pytest.approx(value, abs=2e-3)


def test_unrolled_general_fields_have_the_right_jacobian():
    """All slopes one makes N steps the matrix power."""
    field = general_field(0)
    inequality = euler_inequality(field, 0.1, 3)
    z: dict[int, np.ndarray] = {0: np.eye(4)}
    for j, constraint in enumerate(inequality.constraints, 1):
        z[j] = sum(a @ z[block] for block, a in constraint.maps.items())
    total = sum(c @ z[block] for block, c in inequality.output.items())
    step = np.eye(4) + 0.1 * field.jacobian(np.ones(5))
    assert total == pytest.approx(np.linalg.matrix_power(step, 3), abs=1e-12)


def test_arguments_are_checked():
    field = SlopeField(A3, 0.1)
    with pytest.raises(ValueError, match="must be positive, got 0 and 8"):
        flow_bound(field, 0)
    with pytest.raises(ValueError, match="must be positive, got 1 and 0"):
        flow_bound(field, 1, 0)
    with pytest.raises(ValueError, match=r"must be positive, got 0\.1 and 0"):
        euler_inequality(field, 0.1, 0)
    with pytest.raises(ValueError, match=r"at least 1, got 0.5"):
        contraction_metric(field, 0.5)
