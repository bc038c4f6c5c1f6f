import math
from fractions import Fraction

import flint
import numpy as np
import pytest
import scipy.special
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st
from netgain.layers import FLOAT
from netgain.verify.balls import BALLS, lower, precision, to_midpoint_radius, upper

finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def exact(ball):
    """An exact ball as a fraction."""
    mantissa, exponent = ball.man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def balls(values, radius=0.0):
    return np.array([arb(float(v), radius) for v in np.ravel(values)], dtype=object).reshape(np.shape(values))


def encloses(result, values):
    return all(ball.contains(arb(float(v))) for ball, v in zip(np.ravel(result), np.ravel(values), strict=True))


def test_precision_is_restored_even_after_an_error():
    before = flint.ctx.prec
    with pytest.raises(RuntimeError), precision(300):  # noqa: PT012
        assert flint.ctx.prec == 300
        raise RuntimeError
    assert flint.ctx.prec == before


@given(finite)
def test_constants_are_exact(value):
    ball = BALLS.constant(value)
    assert ball.is_exact()
    assert lower(ball) == value == upper(ball)
    assert exact(ball) == Fraction(value)


@settings(max_examples=200)
@given(st.integers(-(10**40), 10**40), st.integers(1, 10**40))
def test_floats_bound_the_ball_and_are_next_to_it(numerator, denominator):
    true = Fraction(numerator, denominator)
    with precision(200):
        ball = arb(numerator) / denominator
    for bits in (24, 53, 400):  # rounding of the ends at the working precision must stay outward
        with precision(bits):
            low, high = lower(ball), upper(ball)
        assert Fraction(low) <= true <= Fraction(high)
        if bits > 24:
            assert high <= math.nextafter(math.nextafter(low, math.inf), math.inf)


def test_ends_of_what_no_float_bounds():
    assert (lower(arb("nan")), upper(arb("nan"))) == (-math.inf, math.inf)
    assert upper(arb("1e400")) == math.inf
    assert lower(arb("1e400")) == 1.7976931348623157e308
    assert (lower(arb("1e-400")), upper(arb("1e-400"))) == (0.0, 5e-324)
    assert (lower(arb("inf")), upper(arb("-inf"))) == (math.inf, -math.inf)
    assert (lower(arb("-inf")), upper(arb("inf"))) == (-math.inf, math.inf)


@given(st.lists(st.tuples(finite, st.floats(0, 1e300)), min_size=1, max_size=5))
def test_midpoint_and_radius_enclose(pairs):
    array = np.array([arb(m, r) for m, r in pairs], dtype=object)
    mid, rad = to_midpoint_radius(array / 3)
    for ball, m, r in zip(array / 3, mid, rad, strict=True):
        assert upper(abs(ball - arb(float(m)))) <= r or not math.isfinite(r)


def test_midpoint_and_radius_of_infinite_balls():
    mid, rad = to_midpoint_radius(np.array([[arb("nan"), arb("1e400")], [arb("inf"), arb(1.0)]], dtype=object))
    assert np.array_equal(mid, [[0, 0], [0, 1]])
    assert np.array_equal(rad, [[math.inf, math.inf], [math.inf, 0]])


ELEMENTWISE = {"exp": np.exp, "expm1": np.expm1, "tanh": np.tanh, "erf": scipy.special.erf, "arctan": np.arctan,
               "absolute": np.abs}


@pytest.mark.parametrize("name", [*ELEMENTWISE, "log1p", "sqrt"])
def test_elementary_functions_enclose_the_values_of_all_points(name, rng):
    x = rng.uniform(0.1, 3, (2, 4)) * (1 if name in ("log1p", "sqrt") else rng.choice([-1, 1], (2, 4)))
    result = getattr(BALLS, name)(balls(x, 0.05))
    assert result.shape == x.shape
    for shift in (-0.049, 0.0, 0.049):
        assert encloses(result, getattr(FLOAT, name)(x + shift))
    with precision(200):
        sharp = getattr(BALLS, name)(balls(x))
    assert max(upper(ball.rad()) for ball in sharp.ravel()) < 1e-50
    assert np.allclose([float(ball) for ball in sharp.ravel()], getattr(FLOAT, name)(x).ravel(), rtol=1e-14)


def test_maximum_and_minimum_enclose_when_undecided():
    x, y = balls([1.0, 2.0], 0.5), balls([1.2, 5.0], 0.5)
    for shift in (-0.4, 0.4):
        assert encloses(BALLS.maximum(x, y), np.maximum([1 + shift, 2 + shift], [1.2 - shift, 5 - shift]))
        assert encloses(BALLS.minimum(x, y), np.minimum([1 + shift, 2 + shift], [1.2 - shift, 5 - shift]))
    assert BALLS.maximum(balls([-1.0, 2.0]), 0.0).tolist() == [0, 2]
    assert 0.25 <= upper(BALLS.maximum(balls([0.0], 0.25), 0.0)[0]) <= 0.2501
    assert BALLS.maximum(balls([1.0]), arb("nan"))[0].is_nan()


def test_matmul_of_batches_agrees_with_exact_arithmetic(rng):
    left, right = rng.standard_normal((3, 2, 7)), rng.standard_normal((7, 4))
    result = BALLS.matmul(BALLS.constant(left), right)
    assert result.shape == (3, 2, 4)
    for index in np.ndindex(result.shape):
        true = sum(Fraction(a) * Fraction(b) for a, b in zip(left[index[:2]], right[:, index[2]], strict=True))
        assert Fraction(lower(result[index])) <= true <= Fraction(upper(result[index]))
    assert np.array_equal(BALLS.matmul(BALLS.constant(left), BALLS.constant(right)).shape, result.shape)


def test_sort_encloses_every_order_statistic(rng):
    centre, radius = rng.standard_normal((20, 6)), 0.3
    result = BALLS.sort(balls(centre, radius))
    for _ in range(30):
        assert encloses(result, np.sort(centre + rng.uniform(-radius, radius, centre.shape), axis=-1))
    exactly = BALLS.sort(balls(centre))
    assert [float(b) for b in exactly.ravel()] == np.sort(centre, axis=-1).ravel().tolist()
    assert all(ball.is_nan() for ball in BALLS.sort(np.array([arb(1), arb("nan")], dtype=object)))


def test_arrays_behave_like_arrays(rng):
    x = BALLS.constant(rng.standard_normal((2, 6)))
    assert BALLS.concatenate([x, x], -1).shape == (2, 12)
    assert (x.reshape((2, 3, 2)).sum(axis=-1, keepdims=True) / 2).shape == (2, 3, 1)
    assert encloses(x * 0.5 - x / 2, np.zeros((2, 6)))
