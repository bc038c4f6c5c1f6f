r"""Slope intervals: proved by interval bisection of the derivative, sharpened and cross-checked by sampling."""

import math

import numpy as np
import pytest
from flint import arb, arb_series, ctx
from netgain.layers import (
    Absolute,
    Arctan,
    Clip,
    Elementwise,
    Elu,
    Gelu,
    GeluTanh,
    GroupSort,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Mish,
    ModelError,
    Relu,
    ShapeError,
    Sigmoid,
    Silu,
    Softmax,
    Softplus,
    Softsign,
    Swish,
    Tanh,
    selu,
)
from netgain.verify.balls import BALLS, lower, precision, upper

ELEMENTWISE = {
    "relu": Relu(),
    "absolute": Absolute(),
    "tanh": Tanh(),
    "sigmoid": Sigmoid(),
    "hard sigmoid": HardSigmoid(),
    "falling hard sigmoid": HardSigmoid(a=-0.3, b=0.1),
    "arctan": Arctan(),
    "softsign": Softsign(),
    "silu": Silu(),
    "swish 0.3": Swish(0.3),
    "swish 2": Swish(2.0),
    "gelu": Gelu(),
    "gelu 1.702": Gelu(1.2),
    "gelu tanh": GeluTanh(),
    "mish": Mish(),
    "hard swish": HardSwish(),
    "softplus": Softplus(),
    "softplus 5": Softplus(5.0),
    "relu6": Clip(0.0, 6.0),
    "hardtanh": Clip(-1.0, 1.0),
    "clip above": Clip(high=2.0),
    "elu": Elu(),
    "elu 2.5": Elu(a=2.5),
    "elu -0.5": Elu(a=-0.5),
    "selu": selu(),
    "leaky": LeakyRelu(0.1),
    "steep leaky": LeakyRelu(3.0),
    "falling leaky": LeakyRelu(-0.5),
}
COUPLED = {"softmax": Softmax(), "softmax 3": Softmax(3.0), "maxmin": GroupSort(2), "full sort": GroupSort(6)}

each_elementwise = pytest.mark.parametrize("activation", ELEMENTWISE.values(), ids=list(ELEMENTWISE))
each = pytest.mark.parametrize("activation", [*ELEMENTWISE.values(), *COUPLED.values()], ids=[*ELEMENTWISE, *COUPLED])
each_coupled = pytest.mark.parametrize("activation", COUPLED.values(), ids=list(COUPLED))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# Derivatives that are not monotone, as functions of a power series: with the coefficients of x + t they give the value
# and the next derivative. The free parameters b of Swish and c of Gelu only rescale the argument.
def sigmoid_series(x):
    return 1 / (1 + (-x).exp())


def tanh_series(x):
    return 1 - 2 / (1 + (2 * x).exp())


def silu_series(x):
    s = sigmoid_series(x)
    return s * (1 + x * (1 - s))


def gelu_series(t):  # t = c x
    return (1 + t.erf()) / 2 + t * (-t * t).exp() / arb.pi().sqrt()


def gelu_tanh_series(x):
    tolerance = GeluTanh.TOLERANCE * 1.0001
    k, c = arb(GeluTanh.k, tolerance), arb(GeluTanh.c, tolerance)
    t = tanh_series(k * (x + c * x * x * x))
    return (1 + t) / 2 + x * (1 - t * t) * k * (1 + 3 * c * x * x) / 2


def mish_series(x):
    square = (1 + x.exp()) * (1 + x.exp())
    t = 1 - 2 / (square + 1)  # tanh(log(1 + exp x))
    return t + x * (1 - t * t) * sigmoid_series(x)


# For x >= R the derivative differs from 1, and for x <= -R from 0, by at most this, which falls in R >= 4:
# silu: |x| exp(-|x|) + exp(-|x|), as 1 - s(|x|) <= exp(-|x|).
# gelu: erfc(t) / 2 + t exp(-t^2) / sqrt(pi), as erfc(t) <= exp(-t^2).
# gelu tanh: (1 - t) / 2 + x (1 - t^2) u' / 2 with 1 - t <= 2 exp(-2u), 1 - t^2 <= 4 exp(-2u), u >= k x >= 0.79 x.
# mish: right (1 - t) + x (1 - t^2) with tanh of more than x; left t + |x| s <= (1 + |x|) exp(x).
def tail(r):
    e = arb(math.e)  # a little below e
    return {
        "silu": (1 + r) * e**-r,
        "gelu": (1 + r) * e ** (-r * r),
        "gelu tanh": e ** (-1.58 * r) * (1 + 2 * r * 0.8 * (1 + 0.15 * r * r)),
        "mish": (2 + 4 * r) * e**-r,
    }


PROOFS = {
    "silu": (silu_series, Silu().slopes((1,))),
    "gelu": (gelu_series, Gelu().slopes((1,))),
    "gelu tanh": (gelu_tanh_series, GeluTanh().slopes((1,))),
    "mish": (mish_series, Mish().slopes((1,))),
}


def enclose(derivative, middle, radius):
    """All values of the derivative on [middle - radius, middle + radius]: directly, and by the mean value theorem."""
    ball = arb(middle, radius)
    try:
        series = derivative(arb_series([ball, 1], prec=2))
    except ValueError:  # a denominator whose ball holds 0
        return -math.inf, math.inf
    at_middle = derivative(arb_series([arb(middle)], prec=1))[0]
    direct, mean = series[0], at_middle + series[1] * (ball - arb(middle))
    return max(lower(direct), lower(mean)), min(upper(direct), upper(mean))


def prove_range(derivative, interval, low, high):
    """Whether bisection proves lower <= derivative <= upper on [low, high]; returns the number of boxes."""
    boxes, count = [((low + high) / 2, (high - low) / 2)], 0
    while boxes:
        middle, radius = boxes.pop()
        count += 1
        assert radius > 1e-12, f"undecided at {middle}"
        least, most = enclose(derivative, middle, radius)
        if not interval.lower <= least <= most <= interval.upper:
            boxes += [(middle - radius / 2, radius / 2), (middle + radius / 2, radius / 2)]
    return count


@pytest.mark.parametrize("name", PROOFS)
def test_interval_is_proved(name):
    derivative, interval = PROOFS[name]
    far = 8.0 if name == "gelu" else 32.0
    with precision(128):
        assert prove_range(derivative, interval, -far, far) < 20_000
        rest = upper(tail(arb(far))[name])
    assert rest < min(-interval.lower, interval.upper - 1)


@pytest.mark.parametrize("name", PROOFS)
def test_proved_formula_is_the_derivative_of_the_layer(name):
    activation, derivative = ELEMENTWISE[name], PROOFS[name][0]
    x = np.linspace(-6, 6, 121)
    argument = activation.c * x if name == "gelu" else x
    proved = [derivative(arb_series([arb(float(t))], prec=1))[0] for t in argument]
    rounding = 1e-12 + np.array([float(ball.rad()) for ball in proved])
    assert np.all(np.abs(activation.derivative(x) - [float(ball) for ball in proved]) <= rounding)


def test_bisection_refuses_an_interval_that_is_too_small():
    silu = Silu().slopes((1,))
    with precision(128), pytest.raises(AssertionError, match="undecided"):
        prove_range(silu_series, type(silu)(silu.lower, silu.upper - 1e-9), -32.0, 32.0)


def test_constants_are_rounded_outwards_from_the_extremes_by_little():
    # gelu: c x = 1; silu: (x/2) tanh(x/2) = 1; mish: the stated points
    with precision(200):
        ends = [
            (Gelu(), gelu_series, 1.0),
            (Silu(), silu_series, 2.399357280515467),
            (Mish(), mish_series, 1.4905711794),
        ]
        for activation, derivative, x in ends:
            most = derivative(arb_series([arb(x)], prec=1))[0]
            assert 0 < activation.slopes((1,)).upper - upper(most) < 1e-10
        least = mish_series(arb_series([arb(-2.2563763963)], prec=1))[0]
        assert 0 < lower(least) - Mish().slopes((1,)).lower < 1e-10


# The others need no bisection: with t, s, e the values in [-1, 1], [0, 1], (0, 1] of tanh, sigmoid, exp on the left,
# 1 - t^2 and s lie in [0, 1]; s (1 - s) = 1/4 - (s - 1/2)^2; 1 / (1 + x^2) and (1 + |x|)^-2 lie in (0, 1]; and the
# piecewise linear ones and ELU have the slopes their docstrings say. Sampling would show a wrong constant.
@each_elementwise
def test_quotients_stay_inside_and_reach_the_ends(activation):
    far = np.logspace(1.5, 5, 200)
    x = np.concatenate([-far[::-1], np.arange(-3000, 3001) / 100, far])
    interval, value = activation.slopes((1,)), activation.value(x)
    least, most = math.inf, -math.inf
    for stride in (1, 3, 30, 600, len(x) // 2):
        quotient = (value[stride:] - value[:-stride]) / (x[stride:] - x[:-stride])
        least, most = min(least, quotient.min()), max(most, quotient.max())
    assert interval.lower - 1e-9 <= least <= interval.lower + 1e-3 + 1e-2 * abs(interval.lower)
    assert interval.upper - 1e-3 - 1e-2 * abs(interval.upper) <= most <= interval.upper + 1e-9


@each_elementwise
def test_derivative_is_the_difference_quotient_and_inside(activation, rng):
    x, step = rng.uniform(-8, 8, 4000), 1e-6
    quotient = (activation.value(x + step) - activation.value(x - step)) / (2 * step)
    assert np.allclose(activation.derivative(x), quotient, atol=1e-6)
    interval = activation.slopes((1,))
    derivative = activation.derivative(np.concatenate([x, [0.0, -800.0, 800.0, 1e9, -1e9]]))
    assert np.all((derivative >= interval.lower - 1e-12) & (derivative <= interval.upper + 1e-12))


@each
def test_balls_enclose_the_float_value(activation, rng):
    x = np.concatenate([rng.uniform(-6, 6, (20, 6)), np.zeros((1, 6)), 40 * rng.standard_normal((3, 6))])
    value = activation.value(x)
    with precision(160):
        balls = activation.value(BALLS.constant(x), BALLS)
        assert balls.shape == x.shape
        for ball, number in zip(balls.ravel(), value.ravel(), strict=True):
            assert upper(ball.rad()) < 1e-30
            assert upper(abs(ball - arb(float(number)))) < 1e-13 * (1 + abs(number))


@each
def test_wide_balls_enclose_all_their_points(activation, rng):
    x, radius = rng.uniform(-3, 3, (8, 6)), 0.3
    wide = np.array([arb(float(v), radius) for v in x.ravel()], dtype=object).reshape(x.shape)
    balls = activation.value(wide, BALLS)
    for shift in (-radius, 0.0, radius / 3, radius):
        values = activation.value(x + shift)
        for ball, number in zip(balls.ravel(), values.ravel(), strict=True):
            assert lower(ball) - 1e-14 <= number <= upper(ball) + 1e-14


def grouped(activation, array):
    size = activation.slopes(array.shape[1:]).coupled
    return array.reshape(len(array), -1, size)


@each_coupled
def test_coupled_increments_obey_the_quadratic_constraint(activation, rng):
    for scale in (0.01, 1.0, 20.0):
        x, dx = rng.standard_normal((2000, 6)), scale * rng.standard_normal((2000, 6))
        dv, dz = grouped(activation, dx), grouped(activation, activation.value(x + dx) - activation.value(x))
        interval = activation.slopes((6,))
        product = np.sum((dz - interval.lower * dv) * (dz - interval.upper * dv), axis=-1)
        assert np.all(product <= 1e-12 * (1 + np.sum(dv**2, axis=-1)))


def test_coupled_intervals_are_reached():
    x = np.array([[0.0, 0.0, -50.0]])  # p = (1/2, 1/2, 0): the Jacobian of softmax has the eigenvalue b / 2
    for b in (1.0, 3.0):
        dz = Softmax(b).apply_derivative(x, np.array([[1.0, -1.0, 0.0]]))
        assert dz == pytest.approx(np.array([[b / 2, -b / 2, 0.0]]))
    swapped = GroupSort(2).apply_derivative(np.array([[2.0, 1.0]]), np.array([[1.0, -1.0]]))
    assert np.array_equal(swapped, [[-1.0, 1.0]])


@each_coupled
def test_coupled_derivatives_and_adjoints(activation, rng):
    x, dx, dy = (rng.standard_normal((50, 6)) for _ in range(3))
    step = 1e-6
    quotient = (activation.value(x + step * dx) - activation.value(x - step * dx)) / (2 * step)
    assert np.allclose(activation.apply_derivative(x, dx), quotient, atol=1e-7)
    left = np.sum(activation.apply_derivative(x, dx) * dy, axis=1)
    assert np.allclose(left, np.sum(dx * activation.apply_derivative_transposed(x, dy), axis=1))


def test_groups_lie_along_the_last_axis(rng):
    x = rng.standard_normal((2, 3, 4))
    assert np.allclose(Softmax().value(x).sum(axis=-1), 1)
    assert Softmax().slopes((3, 4)).coupled == 4
    assert np.array_equal(GroupSort(4).value(x), np.sort(x, axis=-1))
    with pytest.raises(ShapeError, match="divisible"):
        GroupSort(3).output_shape((4,))


def test_leaky_slopes_by_channel(rng):
    layer = LeakyRelu(np.array([[0.1], [1.5], [-0.2]]))
    interval = layer.slopes((3, 5))
    assert np.array_equal(interval.lower.ravel(), [0.1, 1.0, -0.2])
    assert np.array_equal(interval.upper.ravel(), [1.0, 1.5, 1.0])
    x = rng.standard_normal((4, 3, 5))
    assert np.array_equal(layer.value(x), np.where(x > 0, x, layer.slope * x))
    assert layer.output_shape((3, 5)) == (3, 5)
    with pytest.raises(ShapeError, match="do not fit"):
        layer.output_shape((4, 5))


def test_elu_products_are_rounded_outwards():
    layer = Elu(a=1.1, gain=1.3)
    with precision(200):
        product = arb(1.1) * arb(1.3)
        assert arb(layer.slopes((1,)).upper) > product
    tiny = Elu(a=-1e-200, gain=1e-200)  # the product underflows, but is not 0
    assert tiny.slopes((1,)).lower < 0
    assert Elu(a=0.5, gain=-2.0).slopes((1,)).lower <= -2


@pytest.mark.parametrize("make", [
    lambda: Swish(0.0), lambda: Swish(math.inf), lambda: Gelu(-1.0), lambda: Gelu(math.nan), lambda: Softplus(-1.0),
    lambda: Softmax(0.0), lambda: Elu(math.nan), lambda: Elu(1e200, 1e200), lambda: Clip(1.0, 1.0),
    lambda: Clip(math.nan, 1.0), lambda: LeakyRelu(math.inf), lambda: HardSigmoid(math.nan),
    lambda: HardSigmoid(0.2, math.inf), lambda: GeluTanh(k=0.8), lambda: GeluTanh(c=0.0447),
])
def test_parameters_without_meaning_are_refused(make):
    with pytest.raises(ModelError):
        make()


def test_every_elementwise_activation_is_listed_here():
    def leaves(kind):
        below = [sub for sub in kind.__subclasses__() if sub.__module__ == "netgain.layers.activation"]
        return {leaf for sub in below for leaf in leaves(sub)} if below else {kind}

    assert leaves(Elementwise) == {type(activation) for activation in ELEMENTWISE.values()}
    assert ctx.prec == 53
