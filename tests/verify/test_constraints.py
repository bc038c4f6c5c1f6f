"""The rows of the inequality: exact or enclosed, whatever path the coefficients take."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from flint import arb
from netgain.layers import (
    Add,
    Affine,
    BatchNormalization,
    Concatenate,
    Elu,
    Flatten,
    GraphBuilder,
    GroupSort,
    HardSigmoid,
    Layer,
    LeakyRelu,
    ModelError,
    Relu,
    Reshape,
    Scale,
    Select,
    sequential,
)
from netgain.verify.balls import BALLS, precision
from netgain.verify.constraints import constraint_rows, to_inequality

from .exact_inequality import is_rational, rational_rows
from .small_networks import BANK, TINY


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def ball_rows(graph, bits=128):
    with precision(bits):
        return constraint_rows(graph, BALLS)


def as_ball(entry):
    return entry if isinstance(entry, arb) else arb(float(entry))


def contains(entry, number):
    with precision(4000):
        return bool(as_ball(entry).contains(arb(Fraction(number).numerator) / Fraction(number).denominator))


def composed(graph):
    """The only map of a graph without activations, in balls."""
    return ball_rows(graph).output[0]


@pytest.mark.parametrize("name", [name for name in TINY if is_rational(TINY[name]) and name != "zero_layer"])
def test_rows_in_balls_contain_the_exact_ones_and_float64_is_near(name):
    sizes, exact, output = rational_rows(TINY[name])
    balls, floats = ball_rows(TINY[name]), constraint_rows(TINY[name])
    assert list(balls.sizes) == sizes == list(floats.sizes)
    starts = np.cumsum([0, *sizes])
    layers = zip(balls.activations, floats.activations, exact, strict=True)
    triples = [(enclosed.maps, rounded.maps, v) for enclosed, rounded, (v, _, _) in layers]
    for enclosed, rounded, true in [*triples, (balls.output, floats.output, output)]:
        assert enclosed.keys() == rounded.keys()
        scale = max(abs(entry) for entry in true.ravel())
        for j, (row, column) in itertools.product(range(len(sizes)), np.ndindex(true.shape[0], max(sizes))):
            if column >= sizes[j]:
                continue
            number = true[row, starts[j] + column]
            if j not in enclosed:
                assert number == 0
                continue
            assert contains(enclosed[j][row, column], number)
            assert abs(Fraction(float(rounded[j][row, column])) - number) <= Fraction(1e-13) * scale
    for found, (_, lower, upper) in zip(balls.activations, exact, strict=True):
        assert all(Fraction(float(low)) <= a for low, a in zip(found.lower, lower, strict=True))
        assert all(Fraction(float(high)) >= b for high, b in zip(found.upper, upper, strict=True))


@pytest.mark.parametrize("name", BANK)
def test_the_solver_and_the_checker_see_the_same_layers(name):
    balls, floats = ball_rows(BANK[name]), constraint_rows(BANK[name])
    assert [row.node for row in balls.activations] == [row.node for row in floats.activations]
    for left, right in zip(balls.activations, floats.activations, strict=True):
        assert np.array_equal(left.lower, right.lower)
        assert np.array_equal(left.upper, right.upper)
        assert left.coupled == right.coupled
        assert np.all(left.lower < left.upper)
    assert to_inequality(floats).sizes == balls.sizes


def test_a_weight_that_no_arithmetic_touches_stays_as_it_is(rng):
    first, second = rng.standard_normal((3, 4)), rng.standard_normal((2, 3))
    rows = ball_rows(sequential((2, 2), [Flatten(), Affine(first), Relu(), Reshape((3,)), Affine(second)]))
    assert rows.activations[0].maps[0].dtype == np.float64
    assert np.array_equal(rows.activations[0].maps[0], first)
    assert np.array_equal(rows.output[1], second)


def inexact(*layers):
    """The single coefficient of a chain of layers on one number."""
    return composed(sequential((1,), layers))[0, 0]


def summed(*chains, signs=None):
    builder = GraphBuilder()
    u = builder.input((1,))
    ends = []
    for chain in chains:
        node = u
        for layer in chain:
            node = builder.add(layer, node)
        ends.append(node)
    return composed(builder.build(builder.add(Add(signs or (1,) * len(chains)), *ends)))[0, 0]


TENTH, THIRD = 0.1, Fraction(1, 3)
EXACT = Fraction(TENTH)
ROUNDING = {
    "product of weights": (inexact(Affine([[TENTH]]), Affine([[TENTH]])), EXACT**2),
    "weight after scale": (inexact(Scale(TENTH), Affine([[TENTH]])), EXACT**2),
    "scale after weight": (inexact(Affine([[TENTH]]), Scale(TENTH)), EXACT**2),
    "scale after scale": (inexact(Scale(TENTH), Scale(TENTH)), EXACT**2),
    "divisor": (inexact(Scale(divisor=3.0)), THIRD),
    "weight, then divisor": (inexact(Affine([[TENTH]]), Scale(divisor=3.0)), EXACT * THIRD),
    "divisor, then weight": (inexact(Scale(divisor=3.0), Affine([[TENTH]])), EXACT * THIRD),
    "multiplier by divisor": (inexact(Scale(TENTH, 3.0)), EXACT * THIRD),
    "an equal divisor": (inexact(Scale(3.0, 3.0)), Fraction(1)),
    "linear activation": (inexact(Affine([[TENTH]]), LeakyRelu(1.0)), EXACT),
    "constant activation": (inexact(Affine([[TENTH]]), HardSigmoid(0.0)), Fraction(0)),
    "normalised by a square": (inexact(BatchNormalization([1.0], [0], [0], [9.0], epsilon=0.0)), THIRD),
    # (1 + 2^-40)^2 takes 81 bits, so that variance and epsilon must not be added in float64.
    "normalised by a long square": (
        inexact(BatchNormalization([1.0], [0], [0], [1 + 2.0**-39], epsilon=2.0**-80)), 1 / (1 + Fraction(1, 2**40))),
    "a weight, normalised": (
        inexact(Affine([[TENTH]]), BatchNormalization([TENTH], [0], [0], [0.1], epsilon=-0.1 + 2.0**-4)), EXACT**2 * 4),
    "sum of weights": (summed([Affine([[TENTH]])], [Affine([[0.2]])]), EXACT + Fraction(0.2)),
    "difference of weights": (summed([Affine([[1e16]])], [Affine([[1.0]])], signs=(1, -1)), Fraction(10**16 - 1)),
    "one input three times": (summed([], [], []), Fraction(3)),
    "cancelled": (summed([Affine([[TENTH]])], [], [Affine([[TENTH]])], signs=(1, 1, -1)), Fraction(1)),
    "a third cancelled": (
        summed([Scale(divisor=3.0)], [Scale(1 / 3)], signs=(1, -1)), THIRD - Fraction(1 / 3)),
    "subtracted through a sum": (
        summed([Affine([[1e16]])], [Scale()], [Affine([[1e16]])], signs=(1, 1, -1)), Fraction(1)),
}


@pytest.mark.parametrize(("found", "exact"), ROUNDING.values(), ids=ROUNDING)
def test_no_rounding_slips_in(found, exact):
    assert contains(found, exact)
    # Not merely by being wide: as near as the precision allows, if not exact.
    assert as_ball(found).rad() <= 1e-36 * max(1, abs(float(exact)))
    if isinstance(found, arb) and exact.denominator.bit_count() != 1:
        assert not found.is_exact()


def test_concatenated_halves_may_meet_again(rng):
    """Blocks side by side, summed and selected: objects, floats and zeros in one array."""
    builder = GraphBuilder()
    u = builder.input((2,))
    scaled, plain = builder.add(Scale(divisor=3.0), u), builder.add(Affine([[0.1, 0.2]]), u)
    joined = builder.add(Concatenate(), scaled, plain, u)
    picked = builder.add(Select([4, 0, 2, 2], (5,)), joined)
    graph = builder.build(builder.add(Add((1, -1)), picked, builder.add(Select([0, 0, 1, 1], (2,)), u)))
    third, a, b = Fraction(1, 3), Fraction(0.1), Fraction(0.2)
    exact = [[-1, 1], [third - 1, 0], [a, b - 1], [a, b - 1]]
    found = composed(graph)
    assert all(contains(found[index], exact[index[0]][index[1]]) for index in np.ndindex(4, 2))


def test_axes_other_than_the_last_are_contracted_exactly(rng):
    weight = rng.standard_normal((2, 3))
    graph = sequential((3, 2), [Affine(weight, axis=-2), Scale(divisor=np.array([3.0, 7.0]))])
    found = composed(graph)
    for i, j, k, m in itertools.product(range(2), range(2), range(3), range(2)):
        exact = Fraction(weight[i, k]) / (3, 7)[j] if j == m else Fraction(0)
        assert contains(found[2 * i + j, 2 * k + m], exact)


def test_one_slope_among_many_is_widened_outwards():
    rows = constraint_rows(sequential((3,), [LeakyRelu([0.2, 1.0, 3.0]), Affine(np.eye(3))]))
    lower, upper = rows.activations[0].lower, rows.activations[0].upper
    assert lower.tolist() == [0.2, 1.0, 1.0]
    assert upper[0] == 1.0
    assert 1.0 < upper[1] < 1.00001
    assert upper[2] == 3.0


def test_groups_keep_their_interval_and_their_size():
    rows = constraint_rows(sequential((2, 4), [GroupSort(2)])).activations[0]
    assert rows.coupled == 2
    assert rows.lower.tolist() == [-1.0] * 8
    assert rows.has_products


@pytest.mark.parametrize(("slopes", "expected"), [
    ((0.0, 1.0), False), ((0.0, 0.0), False), ((-1.0, 0.0), False), ((0.1, 1.0), True), ((-1e-200, 1e-200), True),
    ((5e-324, 5e-324), True),
])
def test_products_of_slopes_are_seen_where_they_underflow(slopes, expected):
    rows = constraint_rows(sequential((1,), [Relu()])).activations[0]
    altered = type(rows)(rows.node, rows.maps, np.array(slopes[:1]), np.array(slopes[1:]), 1)
    assert altered.has_products == expected


def test_slopes_whose_product_is_no_float64_are_rounded_outwards():
    rows = constraint_rows(sequential((1,), [Elu(a=0.1, gain=3.3)])).activations[0]
    assert Fraction(rows.lower[0]) <= 0
    assert Fraction(rows.upper[0]) >= max(Fraction(3.3), Fraction(3.3) * EXACT)


def test_nothing_reaches_a_layer_after_zeros():
    rows = ball_rows(TINY["zero_layer"])
    assert all(np.all(c == 0) for c in rows.output.values())


def test_a_layer_without_a_constraint_is_refused_by_name():
    class Odd(Layer):
        def output_shape(self, *shapes):
            return shapes[0]

        def forward(self, *inputs, arithmetic=None):
            return inputs[0]

    with pytest.raises(ModelError, match="Odd"):
        constraint_rows(sequential((2,), [Odd()]))
