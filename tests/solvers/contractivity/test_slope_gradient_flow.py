import numpy as np
import pytest
from netgain.solvers.contractivity.exact_lower_slope import exact_lower_slope
from netgain.solvers.contractivity.logarithmic_norm import SlopeField, logarithmic_norm, top_pair
from netgain.solvers.contractivity.slope_gradient_flow import SlopeGradientFlow, held_slopes, optimistic_lower_slope
from netgain.solvers.contractivity.slope_interval import Tangent, newton_bisection

from .slope_bank import A3, ROTATION, brute_force, circulant, general_field, random_weights, structured


@pytest.mark.parametrize("start", [0.55, 1.0])
def test_it_ends_in_a_local_trap(start):
    """The worst slopes (1, 0.1, 1) give 0.590; the flow stops at (1, 1, 0.1), where the optimality conditions hold."""
    field = SlopeField(A3, 0.1)
    found = SlopeGradientFlow().solve(field, np.full(3, start))
    assert found.value == pytest.approx(0.534568137, abs=1e-8)
    assert found.slopes == pytest.approx([1, 1, 0.1], abs=1e-9)
    gradient = field.gradient(found.vector)
    assert np.all(held_slopes(field, found.slopes, gradient))
    assert found.value < brute_force(field)[0] - 0.05


def test_it_can_have_the_wrong_sign():
    """From the middle, symmetry keeps all slopes of a convolution equal: "contractive", though the truth is 0.17."""
    field = SlopeField(circulant(6), 0.1)
    found = SlopeGradientFlow().solve(field)
    assert found.slopes == pytest.approx(np.full(6, 0.1))
    assert found.value == pytest.approx(-0.04)
    assert brute_force(field)[0] == pytest.approx(0.174782145, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("lower", [0.0, 0.1, 0.5])
def test_the_flow_is_monotone_and_ends_stationary(seed, lower):
    field = SlopeField(random_weights(8, seed), lower)
    start = np.random.default_rng(seed).uniform(lower, 1, 8)
    found = SlopeGradientFlow().solve(field, start)
    assert np.all(np.diff(found.history) >= 0)
    assert found.history[0] == pytest.approx(top_pair(field, start).value)
    assert found.value == pytest.approx(logarithmic_norm(field.jacobian(found.slopes)), abs=1e-12)
    assert np.all((found.slopes >= lower) & (found.slopes <= 1))
    gradient = field.gradient(found.vector)
    free = ~held_slopes(field, found.slopes, gradient)
    assert np.linalg.norm(gradient[free]) <= 1e-5
    assert found.value <= brute_force(field)[0] + 1e-12


@pytest.mark.parametrize("name", list(structured(6, 0)))
def test_it_never_exceeds_the_truth(name):
    for lower in (0.0, 0.3):
        field = SlopeField(structured(6, 3)[name], lower)
        assert SlopeGradientFlow().solve(field).value <= brute_force(field)[0] + 1e-9
    general = general_field(5)
    assert SlopeGradientFlow().solve(general).value <= brute_force(general)[0] + 1e-9


def test_outer_newton_steps_of_the_fact():
    """With the exact inner level: from the left, never too far; the derivative is the sum over the slopes at m."""
    field = SlopeField(A3 - 0.9 * np.eye(3), 0.0)

    def inner(m):
        here = field.with_lower(m)
        value, slopes = brute_force(here)
        gradient = here.gradient(top_pair(here, slopes).vector)
        return Tangent(value, float(gradient[slopes <= m].sum()))

    result = newton_bisection(inner, 0.0, 1.0, 0.0, 1e-10)
    ms, values = np.array(result.history).T
    assert ms == pytest.approx([0, 0.263970935, 0.304448765, 0.304985433, 0.304985519], abs=1e-8)
    assert values == pytest.approx([0.451226667, 0.051951856, 6.7139e-4, 1.08e-7, 0], abs=1e-7)
    tangent = inner(0.1)
    numeric = (inner(0.1 + 1e-6).value - inner(0.1 - 1e-6).value) / 2e-6
    assert tangent.derivative == pytest.approx(numeric, abs=1e-6)
    assert inner_derivative(SlopeField(A3, 0.1)) == pytest.approx(-0.882523990, abs=1e-8)


def inner_derivative(field):
    slopes = brute_force(field)[1]
    return float(field.gradient(top_pair(field, slopes).vector)[slopes <= field.lower].sum())


def test_rotation_needs_one_newton_step():
    """m* = (rho - alpha) / (rho + alpha) with rho = |(alpha, beta)|."""
    rho = np.hypot(0.3, 2)
    result = optimistic_lower_slope(SlopeField(ROTATION, 0.0))
    assert result.lower_slope == pytest.approx((rho - 0.3) / (rho + 0.3), abs=1e-9)
    assert len(result.history) == 2


@pytest.mark.parametrize("seed", range(6))
def test_the_two_level_method_is_optimistic(seed):
    weights = random_weights(6, seed)
    weights = weights - (logarithmic_norm(weights) + 0.3) * np.eye(6)
    field = SlopeField(weights, 0.0)
    optimistic, exact = optimistic_lower_slope(field), exact_lower_slope(field)
    assert optimistic.lower_slope <= exact.high + 1e-8
    assert optimistic.worst.value <= 1e-8
    again = SlopeGradientFlow().solve(field.with_lower(optimistic.lower_slope))
    assert again.value == pytest.approx(optimistic.worst.value, abs=1e-7)


def test_levels_out_of_reach_and_always_met():
    field = SlopeField(A3, 0.0)
    assert optimistic_lower_slope(field).lower_slope is None
    assert optimistic_lower_slope(field, level=10.0).lower_slope == 0.0
    assert len(optimistic_lower_slope(field, level=10.0).history) == 1


@pytest.mark.parametrize("power", [1, 3, 40])
def test_bisection_saves_newton_from_bad_derivatives(power):
    """phi = 1 - m^power is concave: a tangent from the left overshoots, and at m = 0 it may be flat."""
    result = newton_bisection(lambda m: Tangent(1 - m**power, -power * m ** (power - 1)), 0.0, 1.0, 0.3, 1e-9)
    assert result.root == pytest.approx(0.7 ** (1 / power), abs=1e-8)
    assert len(result.history) < 40


def test_bisection_copes_with_jumps():
    """A local search may fall off a branch, so phi jumps over the level."""
    result = newton_bisection(lambda m: Tangent(1.0 if m < 0.37 else -1.0, 0.0), 0.0, 1.0, 0.0, 1e-9)
    assert 0.37 <= result.root <= 0.37 + 1e-8


def test_large_fields_use_lanczos_and_stay_monotone():
    field = SlopeField(random_weights(450, 0), 0.1)
    found = SlopeGradientFlow(steps=15).solve(field)
    assert np.all(np.diff(found.history) >= 0)
    assert found.value > found.history[0] + 0.1
    assert found.value == pytest.approx(logarithmic_norm(field.jacobian(found.slopes)), abs=1e-8)


def test_settings_are_checked():
    for name in ("first_step", "tolerance", "steps"):
        with pytest.raises(ValueError, match=f"`{name}` must be positive, got 0"):
            SlopeGradientFlow(**{name: 0})
