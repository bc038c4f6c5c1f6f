import dataclasses

import numpy as np
import pytest
from netgain.solvers.contractivity.logarithmic_norm import SlopeField, logarithmic_norm, top_pair

from .slope_bank import A3, brute_force, general_field, random_weights


def differences(field, slopes, step=1e-6):
    """Central differences of mu(J(D)) in each slope."""
    return np.array([
        (logarithmic_norm(field.jacobian(slopes + step * e)) - logarithmic_norm(field.jacobian(slopes - step * e)))
        / (2 * step)
        for e in np.eye(len(slopes))
    ])


def test_gradient_of_the_three_by_three_fact():
    field, d = SlopeField(A3, 0.1), np.array([0.3, 0.7, 0.5])
    pair = top_pair(field, d)
    gradient = field.gradient(pair.vector)
    assert pair.value == pytest.approx(0.103156785, abs=1e-9)
    assert gradient == pytest.approx([-0.182228, 0.388909, -0.228822], abs=1e-6)
    assert gradient @ d == pytest.approx(pair.value, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", [general_field, lambda seed: SlopeField(random_weights(6, seed), 0.1)])
def test_gradient_is_the_derivative(seed, make):
    field = make(seed)
    d = np.random.default_rng(seed).uniform(field.lower, field.upper, field.neurons)
    assert field.gradient(top_pair(field, d).vector) == pytest.approx(differences(field, d), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_slopes_are_eliminated_by_the_best_response(seed):
    """max_D x^T J(D) x = x^T B x + r0 x^T E A x + r sum_i |e_i^T x| |a_i^T x| for every x."""
    field = general_field(seed)
    for x in np.random.default_rng(seed).standard_normal((20, field.size)):
        x = x / np.linalg.norm(x)
        reached = x @ field.jacobian(field.best_response(x)) @ x
        products = (field.outputs.T @ x) * (field.inputs @ x)
        best = x @ field.linear @ x + field.centre * products.sum() + field.radius * np.abs(products).sum()
        assert reached == pytest.approx(best, abs=1e-12)
        assert best <= brute_force(field)[0] + 1e-12


def test_jacobian_of_a_field_by_differences():
    """u' = B u + E sigma(A u) with sigma = tanh has the Jacobian B + E diag(1 - tanh^2) A."""
    field, u = general_field(0), np.array([0.3, -0.2, 0.5, 0.1])
    expected = field.jacobian(1 - np.tanh(field.inputs @ u) ** 2)

    def rate(u):
        return field.linear @ u + field.outputs @ np.tanh(field.inputs @ u)

    columns = [(rate(u + 1e-6 * e) - rate(u - 1e-6 * e)) / 2e-6 for e in np.eye(4)]
    np.testing.assert_allclose(np.array(columns).T, expected, atol=1e-8)


@pytest.mark.parametrize("general", [False, True])
def test_lanczos_agrees_with_the_dense_decomposition(general):
    n, rng = 450, np.random.default_rng(0)
    extra = dict(outputs=rng.standard_normal((n, n)) / 20, linear=rng.standard_normal((n, n)) / 20) if general else {}
    field = SlopeField(random_weights(n, 0), 0.1, **extra)
    d = rng.uniform(0.1, 1, n)
    dense, start = top_pair(field, d), top_pair(field, np.clip(d + 0.01, 0.1, 1)).vector
    lanczos = top_pair(field, d, start)
    assert lanczos.value == pytest.approx(dense.value, abs=1e-9)
    assert abs(lanczos.vector @ dense.vector) == pytest.approx(1, abs=1e-6)
    assert lanczos.value <= dense.value + 1e-12


@pytest.mark.parametrize("exponent", [-300, -40, 3, 300])
def test_normalised_fields_are_the_same_up_to_a_power_of_two(exponent):
    field = general_field(1)
    inputs, linear = np.ldexp(field.inputs, exponent), np.ldexp(field.linear, exponent)
    scaled = dataclasses.replace(field, inputs=inputs, linear=linear)
    (plain, a), (other, b) = field.normalised(), scaled.normalised()
    assert b - a == exponent
    assert np.array_equal(plain.inputs, other.inputs)
    assert np.array_equal(plain.linear, other.linear)
    assert 0.2 < np.abs(plain.jacobian(np.full(5, 1.0))).max() < 5


def test_neurons_without_effect_are_told():
    inputs = np.array([[1.0, 0], [0, 0], [0, 1]])
    assert SlopeField(inputs, 0, 1, np.ones((2, 3))).acting.tolist() == [True, False, True]
    assert SlopeField(inputs, 0, 1, np.array([[1.0, 1, 0], [1, 1, 0]])).acting.tolist() == [True, False, False]


@pytest.mark.parametrize(("arguments", "message"), [
    (dict(inputs=np.ones(3), lower=0), r"matrix of shape \(k, n\), got the shape \(3,\)"),
    (dict(inputs=np.ones((2, 3)), lower=0), r"not square; give `outputs` of shape \(3, 2\)"),
    (dict(inputs=np.ones((2, 3)), lower=0, outputs=np.ones((2, 3))), r"`outputs` must have the shape \(3, 2\)"),
    (dict(inputs=np.eye(2), lower=0, linear=np.eye(3)), r"`linear` must have the shape \(2, 2\)"),
    (dict(inputs=np.array([[1, np.nan], [0, 1]]), lower=0), "not finite: 1 of 4"),
    (dict(inputs=np.zeros((0, 2)), lower=0, outputs=np.zeros((2, 0))), "nothing to bound"),
    (dict(inputs=1e-200 * np.eye(2), lower=0), "largest modulus in `inputs` is 1e-200, .* between 1e-100 and 1e"),
    (dict(inputs=np.eye(2), lower=0, upper=1e200), "largest modulus in `upper` is 1e"),
    (dict(inputs=np.eye(2), lower=2), r"lower <= upper, both finite; got \[2, 1.0\]"),
    (dict(inputs=np.eye(2), lower=-np.inf), "lower <= upper, both finite"),
])
def test_bad_fields_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SlopeField(**arguments)
