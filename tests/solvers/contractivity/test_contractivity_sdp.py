import dataclasses
import math
import time

import cvxpy as cp
import numpy as np
import pytest
from netgain.solvers.contractivity.logarithmic_norm import SlopeField, logarithmic_norm
from netgain.solvers.contractivity.sdp import (
    closed_form_bound,
    closed_form_multipliers,
    evaluate,
    evaluate_gradient,
    least_lower_slope,
    multiplier_matrix,
    norm_bound,
    upper_bound,
)
from netgain.solvers.result import Limits, Status

from .slope_bank import (
    A3,
    ROTATION,
    brute_force,
    circulant,
    general_field,
    laplacian,
    random_weights,
    structured,
)

TIGHT = Limits(tolerance=1e-9)


def by_clarabel(field):
    """The 2n x 2n inequality [nominal + A^T Lam A - cI, r/2 E; r/2 E^T, -Lam] <= 0."""
    c, lam = cp.Variable(), cp.Variable(field.neurons, nonneg=True)
    corner = field.nominal + field.inputs.T @ cp.diag(lam) @ field.inputs - c * np.eye(field.size)
    side = field.radius / 2 * field.dense_outputs
    problem = cp.Problem(cp.Minimize(c), [cp.bmat([[corner, side], [side.T, -cp.diag(lam)]]) << 0])
    problem.solve(solver=cp.CLARABEL)
    return c.value


def random_ten():
    return np.random.default_rng(10000).standard_normal((10, 10)) / np.sqrt(10) - np.eye(10)


@pytest.mark.parametrize(("weights", "value", "exact", "factor"), [
    (A3, 0.599506680, 0.590259822, 1.161),
    (circulant(6), 0.253545280, 0.174782145, 1.341),
    (laplacian(4), 0.178161493, 0.165683721, 1.310),
    (random_ten(), 0.453373616, 0.451849087, 1.035),
    (ROTATION, 0.745068679, 0.745068679, None),
])
def test_facts(weights, value, exact, factor):
    field = SlopeField(weights, 0.1)
    bound = upper_bound(field, TIGHT)
    assert bound.value == pytest.approx(value, abs=3e-8)
    assert bound.dual_bound <= bound.value + 1e-12
    assert bound.dual_bound == pytest.approx(value, abs=3e-8)
    assert brute_force(field)[0] == pytest.approx(exact, abs=1e-9)
    if factor is not None:
        assert bound.rounding_factor(field) == pytest.approx(factor, abs=2e-3)


def test_multipliers_of_the_facts():
    expected = {"A3": (A3, [0.119943, 0.184662, 0.151537]), "circulant": (circulant(6), np.full(6, 0.117931)),
                "rotation": (ROTATION, np.full(2, 0.111255))}
    for weights, multipliers in expected.values():
        assert upper_bound(SlopeField(weights, 0.1), TIGHT).multipliers == pytest.approx(multipliers, abs=1e-4)


def test_the_top_eigenvalue_of_the_circulant_is_double():
    """Where lambda_max(M(lam)) is not differentiable: the optimum is a kink, and still found."""
    field = SlopeField(circulant(6), 0.1)
    values = np.linalg.eigvalsh(multiplier_matrix(field, upper_bound(field, TIGHT).multipliers))
    assert values[-2:] == pytest.approx([0.253545281] * 2, abs=1e-7)
    assert values[-3] < 0.25


def test_cheaper_bounds_of_the_facts():
    field = SlopeField(A3, 0.1)
    assert closed_form_bound(field) == pytest.approx(0.687376, abs=1e-6)
    assert norm_bound(field) == pytest.approx(1.223475, abs=1e-6)
    constant = np.full(3, field.radius / (2 * np.linalg.norm(A3, 2)))
    assert evaluate(field, constant) <= norm_bound(field) + 1e-12


@pytest.mark.parametrize("name", list(structured(6, 0)))
@pytest.mark.parametrize("lower", [0.0, 0.1, 0.7])
def test_order_of_the_bounds(name, lower):
    for seed in range(3):
        field = SlopeField(structured(6, seed)[name], lower)
        bound, exact = upper_bound(field), brute_force(field)[0]
        assert exact <= bound.value + 1e-9
        assert bound.value <= min(closed_form_bound(field), norm_bound(field)) + 1e-6
        size = np.linalg.norm(field.inputs, 2)
        assert bound.value - bound.dual_bound <= 2e-6 * size
        assert bound.value - exact <= (math.pi / 2 - 1) * (1 - lower) * size / 2 + 1e-6
        assert bound.status is Status.OPTIMAL


@pytest.mark.parametrize("seed", range(5))
def test_general_fields_agree_with_clarabel(seed):
    for k in (3, 4, 6):
        field = general_field(seed, n=4, k=k)
        bound = upper_bound(field, TIGHT)
        assert bound.value == pytest.approx(by_clarabel(field), abs=1e-6)
        assert brute_force(field)[0] <= bound.value + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_any_multipliers_bound_every_slope(seed):
    rng = np.random.default_rng(seed)
    field = general_field(seed) if seed % 2 else SlopeField(A3, 0.1)
    multipliers = np.exp(rng.normal(-1, 2, field.neurons))
    matrix = multiplier_matrix(field, multipliers)
    assert evaluate(field, multipliers) >= brute_force(field)[0]
    for d in rng.uniform(field.lower, field.upper, (20, field.neurons)):
        assert np.linalg.eigvalsh(matrix - field.symmetric(d))[0] >= -1e-12


@pytest.mark.parametrize("seed", range(5))
def test_the_dual_is_attained_by_the_density(seed):
    """max <nominal, X> + r sum sqrt(e^T X e a^T X a) over densities X: any X bounds the optimum from below."""
    field = general_field(seed)
    bound = upper_bound(field, TIGHT)

    def dual(x):
        e, a = field.outputs, field.inputs
        weights = np.sqrt(np.maximum(np.diag(e.T @ x @ e) * np.diag(a @ x @ a.T), 0))
        return np.sum(field.nominal * x) + field.radius * weights.sum()

    assert np.trace(bound.density) == pytest.approx(1)
    assert np.linalg.eigvalsh(bound.density)[0] >= -1e-12
    assert dual(bound.density) == pytest.approx(bound.value, abs=1e-6)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        root = rng.standard_normal((4, 4))
        assert dual(root @ root.T / np.sum(root**2)) <= bound.value + 1e-9


@pytest.mark.parametrize("weights", [circulant(8), structured(8, 7)["skew"], laplacian(8), random_weights(8, 7)])
def test_quality_theorem(weights):
    """mu_sdp(r0, r) <= mu_exact(r0, (pi / 2) r): as hard as a matrix cube with edges of rank two."""
    field = SlopeField(weights, 0.1)
    wider = SlopeField(weights, field.centre - math.pi / 2 * field.radius, field.centre + math.pi / 2 * field.radius)
    assert upper_bound(field).value <= brute_force(wider)[0] + 1e-6


def test_invariances():
    field, signs = SlopeField(A3, 0.1), np.diag([1.0, -1, 1])
    value = upper_bound(field, TIGHT).value
    assert upper_bound(SlopeField(signs @ A3 @ signs, 0.1), TIGHT).value == pytest.approx(value, abs=1e-8)
    order = [2, 0, 1]
    assert upper_bound(SlopeField(A3[np.ix_(order, order)], 0.1), TIGHT).value == pytest.approx(value, abs=1e-8)
    assert upper_bound(SlopeField(2 * A3, 0.1), TIGHT).value == pytest.approx(1.199013360, abs=3e-8)
    halved = 0.5 * upper_bound(SlopeField(A3, 0.2), TIGHT).value
    assert upper_bound(SlopeField(A3, 0.1, 0.5), TIGHT).value == pytest.approx(halved, abs=1e-8)
    nonnegative = upper_bound(SlopeField(np.abs(A3), 0.1), TIGHT).value
    assert nonnegative == pytest.approx(logarithmic_norm(np.abs(A3)), abs=1e-7)


@pytest.mark.parametrize("exponent", [-300, -100, 100, 300])
def test_units_do_not_matter(exponent):
    weights = np.ldexp(A3, exponent)
    bound = upper_bound(SlopeField(weights, 0.1))
    plain = upper_bound(SlopeField(A3, 0.1))
    assert bound.value == np.ldexp(plain.value, exponent)
    assert bound.multipliers == pytest.approx(np.ldexp(plain.multipliers, -exponent))


@pytest.mark.parametrize(("field", "value"), [
    (SlopeField(np.zeros((3, 3)), 0.1), 0.0),
    (SlopeField(A3, 1.0), logarithmic_norm(A3)),
    (SlopeField(np.zeros((2, 3)), 0.0, 1.0, np.ones((3, 2)), A3), logarithmic_norm(A3)),
    (SlopeField(np.diag([-1.0, -2, 0]), 0.1), 0.0),
    (SlopeField(np.array([[-3.0]]), 0.1), -0.3),
    (SlopeField(np.array([[-3.0]]), -0.5, 0.25), 1.5),
])
def test_fields_with_nothing_to_relax(field, value):
    assert upper_bound(field, TIGHT).value == pytest.approx(value, abs=1e-7)
    assert brute_force(field)[0] == pytest.approx(value)
    assert evaluate(field, upper_bound(field).multipliers) == pytest.approx(value, abs=1e-5)


def test_idle_neurons_do_not_change_the_bound():
    field = general_field(2)
    inputs = np.vstack([field.inputs, np.zeros((1, 4)), np.ones((1, 4))])
    outputs = np.hstack([field.outputs, np.ones((4, 1)), np.zeros((4, 1))])
    padded = upper_bound(SlopeField(inputs, field.lower, field.upper, outputs, field.linear), TIGHT)
    assert padded.value == pytest.approx(upper_bound(field, TIGHT).value, abs=1e-8)
    assert padded.multipliers[-2:].tolist() == [0, 0]


def test_least_lower_slope_of_the_facts():
    found = least_lower_slope(SlopeField(A3 - 0.9 * np.eye(3), 0.0), 0.0, TIGHT)
    assert found.lower_slope == pytest.approx(0.306756451, abs=1e-7)
    rho = np.hypot(0.3, 2)
    found = least_lower_slope(SlopeField(ROTATION, 0.0), 0.0, TIGHT)
    assert found.lower_slope == pytest.approx((rho - 0.3) / (rho + 0.3), abs=1e-7)
    assert least_lower_slope(SlopeField(A3, 0.0), 0.0).lower_slope is None
    assert least_lower_slope(SlopeField(A3, 0.0), 1.0).lower_slope == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_least_lower_slope_is_least_and_proved_by_its_multipliers(seed):
    weights = random_weights(7, seed) - 0.8 * np.eye(7)
    field, level = SlopeField(weights, 0.0), 0.05
    found = least_lower_slope(field, level)
    assert evaluate(field.with_lower(found.lower_slope), found.bound.multipliers) <= level
    ms = [m for m, _ in found.history]
    assert ms == sorted(ms)
    assert upper_bound(field.with_lower(found.lower_slope - 1e-4), TIGHT).dual_bound > level
    derivative = upper_bound(field.with_lower(0.2), TIGHT).lower_slope_derivative(field.with_lower(0.2))
    ends = [upper_bound(field.with_lower(m), TIGHT).value for m in (0.2 - 1e-4, 0.2 + 1e-4)]
    assert derivative == pytest.approx((ends[1] - ends[0]) / 2e-4, abs=1e-3)


def test_warm_starts_do_not_change_the_answer():
    field = SlopeField(random_weights(20, 1), 0.1)
    cold = upper_bound(field)
    near = upper_bound(SlopeField(random_weights(20, 1) * 1.01, 0.1), start=cold.multipliers)
    assert near.value == pytest.approx(1.01 * cold.value, abs=1e-5)
    far = upper_bound(field, start=np.exp(np.random.default_rng(0).normal(0, 5, 20)))
    assert far.value == pytest.approx(cold.value, abs=1e-5)


def test_a_stopped_solve_still_bounds():
    field = SlopeField(random_weights(200, 0), 0.1)
    begin = time.perf_counter()
    bound = upper_bound(field, Limits(time_limit=0.05))
    assert time.perf_counter() - begin < 2
    assert bound.status is Status.TIME_LIMIT
    assert bound.value <= closed_form_bound(field) + 1e-9
    assert evaluate(field, bound.multipliers) == bound.value
    assert bound.value > upper_bound(field, Limits(tolerance=1e-3)).dual_bound


@pytest.mark.parametrize("make", [general_field, lambda seed: SlopeField(random_weights(4, seed), 0.1)])
def test_gradient_of_the_bound_in_the_weights(make):
    field, multipliers = make(0), np.exp(np.random.default_rng(1).normal(-1, 0.5, make(0).neurons))
    value, gradient = evaluate_gradient(field, multipliers)
    assert value == pytest.approx(evaluate(field, multipliers))
    for i, j in np.ndindex(field.inputs.shape):
        ends = []
        for step in (1e-6, -1e-6):
            inputs = field.inputs.copy()
            inputs[i, j] += step
            ends.append(evaluate(dataclasses.replace(field, inputs=inputs), multipliers))
        assert gradient[i, j] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


def test_bad_multipliers_are_refused():
    with pytest.raises(ValueError, match="positive for neurons that act; got the shape"):
        evaluate(SlopeField(A3, 0.1), np.array([1.0, 0, 1]))
    with pytest.raises(ValueError, match="must be 3 numbers"):
        evaluate(SlopeField(A3, 0.1), np.ones(2))


def test_closed_form_multipliers_are_optimal_where_all_directions_count_alike():
    field = SlopeField(circulant(6), 0.1)
    assert closed_form_multipliers(field) == pytest.approx(np.full(6, 0.45 / (2 * np.sqrt(2.16))))
