import itertools
import math

import numpy as np
import pytest
from netgain.solvers.contractivity.logarithmic_norm import SlopeField, logarithmic_norm
from netgain.solvers.contractivity.multilayer_field import MultilayerField
from netgain.solvers.contractivity.multilayer_sdp import (
    certified_multilayer_lower_slope,
    evaluate_multilayer,
    multilayer_upper_bound,
)
from netgain.solvers.contractivity.multilayer_search import (
    multilayer_ascent,
    multilayer_flow,
    optimistic_multilayer_lower_slope,
)
from netgain.solvers.contractivity.sdp import upper_bound
from netgain.solvers.contractivity.slope_gradient_flow import SlopeGradientFlow

from .slope_bank import A3, brute_force, random_weights

FACT = (np.array([[1.0, -1], [0.5, 1]]), np.array([[-1.0, 0.5], [1, -1]]))


def random_field(seed, sizes, lower=0.1, upper=1.0):
    rng = np.random.default_rng(seed)
    weights = tuple(rng.standard_normal((b, a)) / math.sqrt(a) for a, b in itertools.pairwise([*sizes, sizes[0]]))
    return MultilayerField(weights, lower, upper)


def worst(field):
    """The largest logarithmic norm over all vertices of all layers."""
    sizes = [len(weight) for weight in field.weights]
    cuts = np.cumsum(sizes)[:-1]
    return max(
        logarithmic_norm(field.jacobian(np.split(np.array(d), cuts)))
        for d in itertools.product((field.lower, field.upper), repeat=sum(sizes))
    )


def test_facts():
    field = MultilayerField(FACT, 0.1)
    assert worst(field) == pytest.approx(0.347344210, abs=1e-9)
    assert multilayer_ascent(field).value == pytest.approx(0.347344210, abs=1e-9)
    assert multilayer_upper_bound(field).value == pytest.approx(0.398832569, abs=1e-6)
    slopes = [np.array([0.3, 0.8]), np.array([0.6, 0.4])]
    value, x = field.top(slopes)
    assert value == pytest.approx(0.018700577, abs=1e-9)
    first, second = field.gradient(slopes, x)
    assert first == pytest.approx([-0.217157, 0.104810], abs=1e-6)
    assert second == pytest.approx([0.162132, -0.196447], abs=1e-6)


@pytest.mark.parametrize("sizes", [(3,), (3, 5), (4, 2, 3)])
def test_gradient_is_the_derivative(sizes):
    field = random_field(1, sizes)
    rng = np.random.default_rng(0)
    slopes = [rng.uniform(0.1, 1, len(weight)) for weight in field.weights]
    gradient = field.gradient(slopes, field.top(slopes)[1])
    for j, d in enumerate(slopes):
        for i in range(len(d)):
            ends = []
            for sign in (1, -1):
                moved = [part.copy() for part in slopes]
                moved[j][i] += sign * 1e-6
                ends.append(field.top(moved)[0])
            assert gradient[j][i] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 3), (3, 5), (2, 3, 3)])
@pytest.mark.parametrize(("lower", "upper"), [(0.0, 1.0), (0.1, 1.0), (-0.2, 1.1)])
def test_order_of_the_bounds(sizes, lower, upper):
    for seed in range(3):
        field = random_field(seed, sizes, lower, upper)
        bound, found, exact = multilayer_upper_bound(field), multilayer_ascent(field), worst(field)
        assert found.value <= exact + 1e-9
        assert exact <= bound.value + 1e-9
        assert found.value == pytest.approx(logarithmic_norm(field.jacobian(list(found.slopes))), abs=1e-10)
        norms = math.prod(np.linalg.norm(weight, 2) for weight in field.weights)
        assert bound.value <= max(abs(lower), upper) ** len(field.weights) * norms + 1e-6


@pytest.mark.parametrize("weights", [A3, random_weights(5, 2)])
def test_one_layer_is_the_ordinary_bound(weights):
    field = MultilayerField((weights,), 0.1)
    plain = SlopeField(weights, 0.1)
    assert multilayer_upper_bound(field).value == pytest.approx(upper_bound(plain).value, abs=1e-5)
    assert multilayer_ascent(field).value == pytest.approx(brute_force(plain)[0], abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_any_multipliers_bound_every_slope(seed):
    field = random_field(seed, (2, 3))
    rng = np.random.default_rng(seed)
    value = evaluate_multilayer(field, tuple(np.exp(rng.normal(0, 2, len(weight))) for weight in field.weights))
    assert value >= worst(field)


@pytest.mark.parametrize("sizes", [(3, 3), (2, 4), (3, 2, 3)])
def test_the_flow_is_stationary_and_below_the_truth(sizes):
    rng, hits = np.random.default_rng(0), 0
    for seed in range(6):
        field, size = random_field(seed, sizes), len(sizes)
        start = [rng.uniform(0.1, 1, len(weight)) for weight in field.weights]
        found, exact = multilayer_flow(field, start), worst(field)
        assert field.top(start)[0] <= found.value <= exact + 1e-9
        assert found.value == pytest.approx(logarithmic_norm(field.jacobian(list(found.slopes))), abs=1e-10)
        gradient = field.gradient(list(found.slopes), field.top(list(found.slopes))[1])
        for d, g in zip(found.slopes, gradient, strict=True):
            outward = ((d >= 1) & (g > 0)) | ((d <= 0.1) & (g < 0))
            assert np.all(np.abs(g[~outward]) <= 1e-4 * size)
        hits += found.value >= exact - 1e-6
    assert hits >= 2


@pytest.mark.parametrize("seed", range(5))
def test_one_layer_flows_like_the_ordinary_gradient_system(seed):
    weights = random_weights(5, seed)
    plain = SlopeGradientFlow().solve(SlopeField(weights, 0.1))
    assert multilayer_flow(MultilayerField((weights,), 0.1)).value == pytest.approx(plain.value, abs=1e-7)


def test_slopes_that_make_it_contractive():
    weights = tuple(weight / 2 for weight in FACT)
    field = MultilayerField(weights, 0.0)
    optimistic = optimistic_multilayer_lower_slope(field, 0.05)
    by_flow = optimistic_multilayer_lower_slope(field, 0.05, search=multilayer_flow)
    assert by_flow <= optimistic + 1e-6
    certified = certified_multilayer_lower_slope(field, 0.05)
    assert 0 < optimistic <= certified < 1
    assert worst(field.with_lower(certified)) <= 0.05
    assert worst(field.with_lower(optimistic)) == pytest.approx(0.05, abs=1e-6)
    assert certified_multilayer_lower_slope(field, 10.0) == 0.0
    assert certified_multilayer_lower_slope(field, -10.0) is None


@pytest.mark.parametrize(("arguments", "message"), [
    (((np.ones((3, 2)), np.ones((2, 2))), 0.0), r"must have shapes .* got \[\(3, 2\), \(2, 2\)\]"),
    (((np.ones((3, 2)),), 0.0), "must have shapes"),
    (((), 0.0), "must have shapes"),
    (((np.full((2, 2), np.inf),), 0.0), "not finite"),
    (((np.eye(2),), 3.0), "lower <= upper"),
])
def test_bad_fields_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultilayerField(*arguments)
    with pytest.raises(ValueError, match="`restarts` must be at least 1"):
        multilayer_ascent(MultilayerField(FACT, 0.1), restarts=0)
