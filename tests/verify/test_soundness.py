"""Laws of everything that is called proved, over a bank of small networks."""

import dataclasses
import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from netgain.layers import Activation, Add, Affine, BatchNormalization, GraphBuilder, GroupSort, Relu, Scale, sequential
from netgain.solvers import ClosedForm, InteriorPoint
from netgain.verify import Certificate, check, lipschitz
from netgain.verify.assembly import matrix_in_balls, matrix_in_double
from netgain.verify.balls import BALLS, precision
from netgain.verify.check import neuron_terms
from netgain.verify.constraints import constraint_rows
from netgain.verify.positive_definite import proved_in_balls, proved_in_double

from .exact_inequality import is_rational, is_semidefinite, rational_matrix, scaled_matrix
from .small_networks import ACTIVATIONS, BANK, TINY

VARYING = [name for name in TINY if name != "zero_layer"]
RATIONAL = [name for name in VARYING if is_rational(TINY[name])]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@functools.cache
def report(name):
    return lipschitz(BANK[name], lower_bounds=False)


def certificate(name):
    return report(name).certificate


def claiming(given, value):
    return dataclasses.replace(given, value=float(value))


def ball_proof(given, graph, bits=256):
    with precision(bits):
        rows = constraint_rows(graph, BALLS)
        return proved_in_balls(matrix_in_balls(neuron_terms(given, rows)), len(rows.sizes))


def double_proof(given, graph):
    with precision(128):
        rows = constraint_rows(graph, BALLS)
    matrix = matrix_in_double(neuron_terms(given, rows))
    return matrix is not None and proved_in_double(*matrix, len(rows.sizes))


def least_semidefinite(graph, given):
    """The least float64 whose claim holds for the certificate's multipliers, by bisection in rational arithmetic."""
    low, high = given.value * (1 - 2.0**-20), given.value
    assert is_semidefinite(rational_matrix(graph, given))
    if is_semidefinite(rational_matrix(graph, claiming(given, low))):
        return None
    while (middle := (low + high) / 2) not in (low, high):
        holds = is_semidefinite(rational_matrix(graph, claiming(given, middle)))
        low, high = (low, middle) if holds else (middle, high)
    return high


def jacobian(graph, slopes):
    """The product along the graph, with given slopes (or, for groups, matrices on the flattened array)."""
    coefficients = {graph.input: np.eye(math.prod(graph.shape(graph.input))).reshape((-1, *graph.shape(graph.input)))}
    for node in graph.order[1:]:
        layer, inputs = graph.layer(node), [coefficients[name] for name in graph.inputs(node)]
        if node in slopes:
            flat = inputs[0].reshape((len(inputs[0]), -1))
            chosen = slopes[node]
            image = flat * chosen if chosen.ndim == 1 else flat @ chosen.T
            coefficients[node] = image.reshape(inputs[0].shape)
        else:
            shapes = graph.input_shapes(node)
            coefficients[node] = sum(layer.apply(x, position, shapes) for position, x in enumerate(inputs))
    return coefficients[graph.output].reshape((len(coefficients[graph.output]), -1)).T


def patterns(graph, node):
    """Every extreme Jacobian of an activation that its slope interval allows for sure."""
    layer, size = graph.layer(node), math.prod(graph.shape(node))
    interval = layer.slopes(graph.shape(node))
    if isinstance(layer, GroupSort):
        assert size == layer.size
        return [np.eye(size)[list(order)] for order in itertools.permutations(range(size))]
    if interval.coupled > 1:  # softmax: the Jacobian at the most sensitive point of each pair, and at the centre
        groups = size // interval.coupled
        points = [np.full(interval.coupled, 1 / interval.coupled)]
        points += [(np.eye(interval.coupled)[i] + np.eye(interval.coupled)[j]) / 2
                   for i, j in itertools.combinations(range(interval.coupled), 2)]
        one = [layer.b * (np.diag(p) - np.outer(p, p)) for p in points]
        return [np.kron(np.eye(groups), matrix) for matrix in one]
    lower, upper = (np.broadcast_to(end, graph.shape(node)).ravel() for end in (interval.lower, interval.upper))
    ends = [sorted({*pair}) for pair in zip(lower, upper, strict=True)]
    return [np.array(choice) for choice in itertools.product(*ends)]


@functools.cache
def slope_bound(name):
    """The largest gain of any slope pattern: no method that knows only slopes can prove less (to rounding)."""
    graph = BANK[name]
    nodes = [node for node in graph.order if isinstance(graph.layer(node), Activation)]
    choices = itertools.product(*(patterns(graph, node) for node in nodes))
    return max(np.linalg.norm(jacobian(graph, dict(zip(nodes, choice, strict=True))), 2) for choice in choices)


@pytest.mark.parametrize("name", BANK)
def test_every_network_of_the_bank_is_proved_by_both_solvers(name):
    fast = lipschitz(BANK[name], ClosedForm(), lower_bounds=False)
    assert report(name).proved
    assert fast.proved
    assert report(name).upper <= fast.upper * (1 + 1e-5)
    for found in (report(name), fast):
        assert check(found.certificate, BANK[name]).proved
        assert found.upper == found.certificate.value


@pytest.mark.parametrize("name", BANK)
def test_difference_quotients_stay_below_the_bound(name, rng):
    graph, upper = BANK[name], report(name).upper
    shape = graph.shape(graph.input)
    for size in (1e-3, 1.0, 30.0):
        x = size * rng.standard_normal((400, *shape))
        step = np.exp(rng.uniform(-8, 2, (400,) + (1,) * len(shape))) * rng.standard_normal((400, *shape))
        before, after = (graph.forward(point).reshape(400, -1) / max(upper, 1e-300) for point in (x, x + step))
        rise, run = np.linalg.norm(after - before, axis=1), np.linalg.norm(step.reshape(400, -1), axis=1)
        assert np.all(rise <= run * (1 + 1e-9) + 1e-12 * np.abs(before).max())


@pytest.mark.parametrize("name", TINY)
def test_slope_patterns_stay_below_the_bound(name):
    assert slope_bound(name) <= report(name).upper * (1 + 1e-12)


@pytest.mark.parametrize("name", VARYING)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_nothing_below_a_slope_pattern_is_proved_by_any_multipliers(name, scale, rng):
    graph, given = BANK[name], certificate(name)
    value = slope_bound(name) * (1 - 1e-9)
    assert not check(claiming(given, value), graph).proved
    for _ in range(4):
        other = dataclasses.replace(
            claiming(given, value),
            multipliers=tuple(lam * np.exp(rng.normal(0, 1, lam.shape)) * scale for lam in given.multipliers),
            exponents=tuple(int(e + rng.integers(-3, 4)) for e in given.exponents),
            output_exponent=int(given.output_exponent + rng.integers(-3, 4)),
        )
        assert not double_proof(other, graph)
        assert not ball_proof(other, graph)


@pytest.mark.parametrize("name", VARYING)
def test_the_least_value_proved_in_double_is_proved_in_balls(name):
    graph, given = BANK[name], certificate(name)
    assert ball_proof(given, graph)
    low, high = given.value * 0.999, given.value
    for _ in range(45):
        middle = (low + high) / 2
        low, high = (low, middle) if double_proof(claiming(given, middle), graph) else (middle, high)
    assert ball_proof(claiming(given, high), graph)


@pytest.mark.parametrize("name", RATIONAL)
def test_provers_agree_with_exact_elimination(name):
    graph, given = BANK[name], certificate(name)
    least = least_semidefinite(graph, given)
    if least is None:
        pytest.skip("the multipliers allow less than the solver's bound")
    below = claiming(given, math.nextafter(least, 0))
    above = claiming(given, math.nextafter(least, math.inf))
    assert not double_proof(below, graph)
    assert not ball_proof(below, graph, 1024)
    assert ball_proof(above, graph, 1024)
    assert double_proof(claiming(given, least * (1 + 1e-9)), graph)


@pytest.mark.parametrize("name", RATIONAL)
@pytest.mark.parametrize("spread", [2, 120])
def test_matrices_of_both_provers_enclose_the_exact_one(name, spread, rng):
    graph, given = BANK[name], certificate(name)
    for _ in range(3):
        other = Certificate(
            value=float(np.exp(rng.normal())),
            digest=graph.digest,
            multipliers=tuple(2.0 ** rng.uniform(-spread, spread, lam.shape) for lam in given.multipliers),
            exponents=tuple(int(rng.integers(-spread, spread + 1)) for _ in given.exponents),
            output_exponent=int(rng.integers(-spread, spread + 1)),
            solver="",
        )
        exact = scaled_matrix(graph, other)
        with precision(128):
            rows = constraint_rows(graph, BALLS)
            balls = matrix_in_balls(neuron_terms(other, rows))
        starts = np.cumsum([0, *rows.sizes])
        double = matrix_in_double(neuron_terms(other, rows))
        for i, j in itertools.product(range(len(rows.sizes)), repeat=2):
            if i < j:
                continue
            block = exact[starts[i] : starts[i + 1], starts[j] : starts[j + 1]]
            for a, b in np.ndindex(block.shape):
                ball = balls[i, j][a, b] if (i, j) in balls else None
                assert block[a, b] == 0 if ball is None else _contains(ball, block[a, b])
                if double is not None and (i != j or a >= b):
                    middle, radius = (part[i, j][a, b] if (i, j) in part else 0.0 for part in double)
                    assert abs(Fraction(float(middle)) - block[a, b]) <= Fraction(float(radius))
        assert double is not None or spread > 2


def _contains(ball, number):
    with precision(4000):
        return bool(ball.contains(type(ball)(number.numerator) / number.denominator))


def test_the_step_trap_is_never_certified_below_its_constant(rng):
    graph = TINY["step"]
    assert 1.0 <= certificate("step").value <= 1 + 1e-5
    for value in (0.0, 1e-300, 0.5, 1 - 1e-12, math.nextafter(1.0, 0.0)):
        assert not check(claiming(certificate("step"), value), graph).proved
        for _ in range(50):
            multipliers = np.exp(rng.normal(0, 3, 2))
            guess = Certificate(value, graph.digest, (multipliers,), (0, int(rng.integers(-5, 6))), 0, "guess")
            assert not check(guess, graph).proved


STEEP = ["silu", "swish", "gelu", "gelu_tanh", "mish", "hard_swish", "steep_elu", "selu", "steep_leaky_relu"]


@pytest.mark.parametrize("name", STEEP)
def test_slopes_above_one_are_not_certified_as_relu(name):
    """A proof for slopes in [0, 1], relabelled."""
    def network(activation):
        return sequential((1,), [Affine([[1.0]]), activation, Affine([[1.0]])])

    graph = network(ACTIVATIONS[name])
    points = np.linspace(-4, 4, 2001)[:, None]
    steepest = np.abs(np.diff(graph.forward(points), axis=0) / np.diff(points, axis=0)).max()
    assert steepest > 1.05
    pretended = lipschitz(network(Relu()), lower_bounds=False).certificate
    for value in (pretended.value, 1.01, steepest * (1 - 1e-9)):
        assert not check(dataclasses.replace(pretended, digest=graph.digest, value=float(value)), graph).proved
    honest = lipschitz(graph, lower_bounds=False)
    assert steepest <= honest.upper <= steepest * 1.01


def _difference(first, second, relu):
    """y = first(x) - second(x), through a ReLU or not."""
    builder = GraphBuilder()
    u = builder.input((1,))
    total = builder.add(Add((1, -1)), builder.add(first, u), builder.add(second, u))
    return builder.build(builder.add(Relu(), total) if relu else total)


THIRD = Scale(divisor=3.0), Scale(multiplier=1 / 3), abs(Fraction(1, 3) - Fraction(1 / 3))
# The float64 nearest to 1 / sqrt(2) differs from it by 4.8e-17; 1e-30 of slack covers the decimals given here.
ROOT = (
    BatchNormalization([1.0], [0.0], [0.0], [2.0], epsilon=0.0),
    Scale(multiplier=math.sqrt(0.5)),
    abs(Fraction("0.7071067811865475244008443621048490392848359376884740") - Fraction(math.sqrt(0.5))),
)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("first", "second", "constant"), [THIRD, ROOT], ids=["divisor", "batch_norm"])
def test_what_rounding_to_float64_would_erase_is_not_erased(first, second, constant, relu):
    graph = _difference(first, second, relu)
    assert 0 < constant < 1e-15
    found = lipschitz(graph, lower_bounds=False)
    assert not found.proved or Fraction(found.upper) >= constant

    def claim(value):
        # In units of the constant lam = 1 suits both halves of the matrix, if there is a ReLU in between.
        exponent = math.frexp(float(constant))[1]
        multipliers, exponents = ((np.ones(1),), (0, exponent)) if relu else ((), (0,))
        return Certificate(value, graph.digest, multipliers, exponents, exponent, "by hand")

    for value in (0.0, 1e-300, float(constant * (1 - Fraction(1, 10**9)))):
        assert not check(claim(value), graph).proved
    assert check(claim(2 * float(constant)), graph).proved


@pytest.mark.parametrize("solver", [ClosedForm(), InteriorPoint()], ids=["closed_form", "interior_point"])
def test_a_network_that_is_constant_is_proved_constant(solver):
    graph = TINY["zero_layer"]
    found = lipschitz(graph, solver, lower_bounds=False)
    assert found.proved
    assert found.upper == 0.0
