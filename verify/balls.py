"""Ball arithmetic: numbers as midpoint and radius, every operation enclosing (python-flint's `arb`).

Arrays of balls are numpy arrays of dtype object, so reshaping, slicing, broadcasting and ``+ - * /`` are numpy's own.
The working precision is python-flint's context; choose it with :func:`precision`.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import flint
import numpy as np
from flint import arb, arb_mat
from netgain.layers.arithmetic import Arithmetic, Array


@contextlib.contextmanager
def precision(bits: int) -> Iterator[None]:
    """Runs its body at this working precision and restores the former one."""
    before = flint.ctx.prec
    flint.ctx.prec = bits
    try:
        yield
    finally:
        flint.ctx.prec = before


def lower(ball: arb) -> float:
    """The largest float64 found not above any number in the ball; -inf if there is none."""
    if ball.is_nan():
        return -math.inf
    bound = ball.lower()  # exact, rounded downwards to the working precision
    value = float(bound)  # rounded somehow: the comparison of exact numbers below is what is relied on
    while not arb(value) <= bound:
        value = math.nextafter(value, -math.inf)
    return value


def upper(ball: arb) -> float:
    """The least float64 found not below any number in the ball; inf if there is none."""
    if ball.is_nan():
        return math.inf
    bound = ball.upper()
    value = float(bound)
    while not arb(value) >= bound:
        value = math.nextafter(value, math.inf)
    return value


def to_midpoint_radius(balls: Array) -> tuple[np.ndarray, np.ndarray]:
    """float64 arrays (mid, rad) of the same shape with |x - mid| <= rad for every x in the ball.

    A ball without finite bounds has mid 0 and rad inf.
    """
    balls = np.asarray(balls, dtype=object)
    mid, rad = np.empty(balls.shape), np.empty(balls.shape)
    for index in np.ndindex(balls.shape):
        ball = balls[index]
        centre = float(ball.mid()) if ball.is_finite() else math.inf
        if math.isfinite(centre):
            mid[index], rad[index] = centre, upper(abs(ball - arb(centre)))
        else:
            mid[index], rad[index] = 0.0, math.inf
    return mid, rad


def _elementwise(function: Callable[..., Any], inputs: int = 1) -> Callable[..., Array]:
    ufunc = np.frompyfunc(function, inputs, 1)
    return lambda *arrays: ufunc(*arrays)


_constant = _elementwise(lambda value: arb(float(value)))
_ball = _elementwise(lambda value: value if isinstance(value, arb) else arb(float(value)))
_exp, _expm1, _log1p = _elementwise(arb.exp), _elementwise(arb.expm1), _elementwise(arb.log1p)
_tanh, _erf, _arctan = _elementwise(arb.tanh), _elementwise(arb.erf), _elementwise(arb.atan)
_sqrt, _absolute = _elementwise(arb.sqrt), _elementwise(abs)
_maximum, _minimum = _elementwise(arb.max, 2), _elementwise(arb.min, 2)


def to_matrix(array: Array) -> arb_mat:
    """A 2-D array of balls or float64 as a matrix of balls, exactly."""
    rows, columns = array.shape
    return arb_mat(rows, columns, np.asarray(array).ravel().tolist())


def from_matrix(matrix: arb_mat) -> Array:
    """The 2-D object array of a matrix of balls."""
    result = np.empty(matrix.nrows() * matrix.ncols(), dtype=object)
    result[:] = matrix.entries()
    return result.reshape(matrix.nrows(), matrix.ncols())


class BallArithmetic(Arithmetic):
    """Enclosures of every value, for all numbers in the balls given."""

    def constant(self, values: np.ndarray | float) -> Array:
        return _constant(values)

    def matmul(self, left: Array, right: Array) -> Array:
        product = to_matrix(left.reshape((-1, left.shape[-1]))) * to_matrix(right)
        return from_matrix(product).reshape((*left.shape[:-1], right.shape[1]))

    def exp(self, x: Array) -> Array:
        return _exp(x)

    def expm1(self, x: Array) -> Array:
        return _expm1(x)

    def log1p(self, x: Array) -> Array:
        return _log1p(x)

    def tanh(self, x: Array) -> Array:
        return _tanh(x)

    def erf(self, x: Array) -> Array:
        return _erf(x)

    def arctan(self, x: Array) -> Array:
        return _arctan(x)

    def sqrt(self, x: Array) -> Array:
        return _sqrt(x)

    def maximum(self, x: Array, y: Array | float) -> Array:
        return _maximum(x, _ball(y))

    def minimum(self, x: Array, y: Array | float) -> Array:
        return _minimum(x, _ball(y))

    def absolute(self, x: Array) -> Array:
        return _absolute(x)

    def sort(self, x: Array) -> Array:
        rows = x.reshape((-1, x.shape[-1]))
        result = np.empty(rows.shape, dtype=object)
        for index, row in enumerate(rows):
            result[index] = _sorted(list(row))
        return result.reshape(x.shape)


def _sorted(balls: list[arb]) -> list[arb]:
    if not all(ball.is_finite() for ball in balls):
        return [arb("nan")] * len(balls)
    in_order = sorted(balls, key=_CompareMidpoints)
    if all(a <= b for a, b in itertools.pairwise(in_order)):
        return in_order
    # Each order statistic is monotone in every entry, so it lies between that of the lower and of the upper ends.
    lows = sorted((ball.lower() for ball in balls), key=_CompareMidpoints)
    highs = sorted((ball.upper() for ball in balls), key=_CompareMidpoints)
    return [low.union(high) for low, high in zip(lows, highs, strict=True)]


class _CompareMidpoints:
    """Orders finite balls by midpoint; midpoints are exact, so their comparison is decided."""

    def __init__(self, ball: arb):
        self.mid = ball.mid()

    def __lt__(self, other: "_CompareMidpoints") -> bool:
        return bool(self.mid < other.mid)


BALLS = BallArithmetic()
