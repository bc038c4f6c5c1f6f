r"""Slopes of activations where their inputs are known to lie in intervals, proved in ball arithmetic.

For v and v' in [l, u] the slope (s(v) - s(v')) / (v - v') is a mean of s' over an interval within [l, u], so it lies in
the range of s' there. With one end fixed at c the mean q(v) of s' between c and v is known better:

- where s' is monotone, so is q: it lies between q(l) and q(u);
- where s' first rises and then falls, q does likewise, as a mean moves towards s'(v): it is at least the lesser of q(l)
  and q(u).

A line then encloses the graph: g = s - a id has slopes in [alpha - a, beta - a], so on [l, u] it stays within the
parallelogram of these slopes through (l, g(l)) and (u, g(u)).
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from flint import arb
from netgain.layers import (
    Absolute,
    Arctan,
    Clip,
    Elementwise,
    Elu,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Relu,
    Sigmoid,
    Silu,
    Softplus,
    Softsign,
    Swish,
    Tanh,
)
from netgain.layers.arithmetic import Array
from netgain.layers.layer import Shape

from ..balls import BALLS, lower, upper

Ends = tuple[np.ndarray, np.ndarray]
"""Lower and upper ends of intervals, one for each neuron."""

# Where the slope of `Silu` is extreme, beyond doubt.
_SILU_TURNS = (2.39935, 2.39936)


def slopes_between(layer: Elementwise, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    """An interval of all slopes between points of [low, high], which is within the layer's own for all inputs.

    **Arguments:** `shape`: of the layer; `low`, `high`: flat. Where nothing better is known of an activation (`Mish`,
    `GeluTanh`), the interval is that for all inputs.
    """
    own = layer.slopes(shape)
    least, most = (np.broadcast_to(end, shape).ravel().astype(np.float64) for end in (own.lower, own.upper))
    found = _local(layer, shape, low, high)
    return (least, most) if found is None else (np.maximum(least, found[0]), np.minimum(most, found[1]))


def slopes_from(layer: Elementwise, shape: Shape, centre: Array, low: np.ndarray, high: np.ndarray) -> Ends:
    """An interval of all slopes between the centre, given in balls, and points of [low, high], which contains it."""
    least, most = slopes_between(layer, shape, low, high)
    bend = _bend(layer, shape)
    if not np.any(bend) and not _has_peak(layer):
        return least, most
    with np.errstate(all="ignore"):
        means = [_mean(layer, shape, centre, end) for end in (low, high)]
    known = np.logical_and(*(np.array([q.is_finite() for q in mean], dtype=bool) for mean in means))
    ends = [np.array([(lower(q), upper(q)) for q in mean]).reshape((-1, 2)) for mean in means]
    # A slope that is the same everywhere stays exactly what it is.
    known &= least < most
    nearer = np.where(known, np.minimum(ends[0][:, 0], ends[1][:, 0]), least)
    farther = np.where(known, np.maximum(ends[0][:, 1], ends[1][:, 1]), most)
    if _has_peak(layer):
        return np.maximum(least, nearer), most
    return (np.where(bend != 0, np.maximum(least, nearer), least), np.where(bend != 0, np.minimum(most, farther), most))


def enclosing_line(layer: Elementwise, shape: Shape, low: np.ndarray, high: np.ndarray, slopes: Ends
                   ) -> tuple[np.ndarray, Array, Array]:
    """a, and balls m <= M with m <= s(v) - a v <= M for v in [low, high], a being a choice that makes M - m small.

    **Arguments:** `slopes`: those between points of [low, high].
    """
    alpha, beta = slopes
    left, right = (_value(layer, shape, end) for end in (low, high))
    rise = np.array([float((b - a).mid()) for a, b in zip(left, right, strict=True)])
    width = high - low
    with np.errstate(divide="ignore", invalid="ignore"):
        chord = np.where(width > 0, rise / width, beta)
    chord = np.clip(np.where(np.isfinite(chord), chord, beta), alpha, beta)
    # At an end of the slopes g is monotone, which for activations with flat parts beats the chord.
    end = np.where(chord - alpha <= beta - chord, alpha, beta)
    both = [_range(left, right, low, high, line, alpha, beta) for line in (chord, end)]
    # A function of one curvature stays on one side of its chord.
    ends = [left - BALLS.constant(chord) * BALLS.constant(low), right - BALLS.constant(chord) * BALLS.constant(high)]
    bend, (least, most) = _bend(layer, shape), both[0]
    both[0] = (np.where(bend < 0, BALLS.minimum(*ends), least), np.where(bend > 0, BALLS.maximum(*ends), most))
    sizes = [np.array([float((b - a).mid()) for a, b in zip(*pair, strict=True)]) for pair in both]
    by_chord = sizes[0] <= sizes[1]
    least, most = (np.where(by_chord, first, second) for first, second in zip(*both, strict=True))
    return np.where(by_chord, chord, end), least, most


def _range(left: Array, right: Array, low: np.ndarray, high: np.ndarray, line: np.ndarray, alpha: np.ndarray,
           beta: np.ndarray) -> tuple[Array, Array]:
    """The least and largest value of g in the parallelogram."""
    least = left - BALLS.constant(line) * BALLS.constant(low)
    most = least.copy()
    k = np.flatnonzero(beta > alpha)  # elsewhere g is constant
    a, start, stop = (BALLS.constant(values[k]) for values in (line, low, high))
    from_left, from_right = left[k] - a * start, right[k] - a * stop
    falling, rising = BALLS.constant(alpha[k]) - a, BALLS.constant(beta[k]) - a
    spread, cross = rising - falling, rising * falling * (stop - start)
    least[k] = (rising * from_left - falling * from_right + cross) / spread
    most[k] = (rising * from_right - falling * from_left - cross) / spread
    return least, most


def _value(layer: Elementwise, shape: Shape, v: np.ndarray | Array) -> Array:
    """s at each entry, in balls."""
    balls = v if v.dtype == object else BALLS.constant(v)
    return layer.value(balls.reshape((1, *shape)), BALLS).ravel()


def _mean(layer: Elementwise, shape: Shape, centre: Array, end: np.ndarray) -> Array:
    """q(end): nothing finite where the centre may be the end."""
    return (_value(layer, shape, end) - _value(layer, shape, centre)) / (BALLS.constant(end) - centre)


def _bend(layer: Elementwise, shape: Shape) -> np.ndarray:
    """1 where s' never falls, -1 where it never rises, 0 where neither is known; flat."""
    bend: np.ndarray | float = 0.0
    if isinstance(layer, Relu | Absolute | Softplus):
        bend = 1.0
    elif isinstance(layer, LeakyRelu):
        bend = np.where(np.asarray(layer.slope) <= 1, 1.0, -1.0)
    elif isinstance(layer, Elu) and 0 <= layer.a <= 1:
        bend = math.copysign(1.0, layer.gain)
    return np.broadcast_to(bend, shape).ravel()


def _has_peak(layer: Elementwise) -> bool:
    """Whether s' nowhere rises again once it has fallen."""
    return isinstance(layer, Tanh | Sigmoid | Arctan | Softsign | Clip) or (
        isinstance(layer, HardSigmoid) and layer.a > 0)


def _outward(least: Array, most: Array) -> Ends:
    return np.array([lower(ball) for ball in least]), np.array([upper(ball) for ball in most])


@functools.singledispatch
def _local(layer: Elementwise, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends | None:
    """The range of s' on [low, high], one-sided at kinks at the ends; None where nothing better is known."""
    return None


def _kinked(left: np.ndarray | float, right: np.ndarray | float, low: np.ndarray, high: np.ndarray) -> Ends:
    """Of a function with these slopes on both sides of 0; at 0 alone, both."""
    on_left, on_right = (low < 0) | (high <= 0), (high > 0) | (low >= 0)
    least = np.minimum(np.where(on_left, left, math.inf), np.where(on_right, right, math.inf))
    most = np.maximum(np.where(on_left, left, -math.inf), np.where(on_right, right, -math.inf))
    return least, most


@_local.register
def _(layer: Relu, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    return _kinked(0.0, 1.0, low, high)


@_local.register
def _(layer: Absolute, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    return _kinked(-1.0, 1.0, low, high)


@_local.register
def _(layer: LeakyRelu, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    return _kinked(np.broadcast_to(layer.slope, shape).ravel(), 1.0, low, high)


@_local.register
def _(layer: Clip, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    inside = (low >= layer.low) & (high <= layer.high)
    outside = (high <= layer.low) | (low >= layer.high)
    return np.where(inside & ~outside, 1.0, 0.0), np.where(outside, 0.0, 1.0)


@_local.register
def _(layer: HardSigmoid, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    ends = [BALLS.constant(layer.a) * BALLS.constant(end) + BALLS.constant(layer.b) for end in (low, high)]
    inside = np.array([all(end >= 0 and end <= 1 for end in pair) for pair in zip(*ends, strict=True)], dtype=bool)
    outside = np.array([all(end <= 0 for end in pair) or all(end >= 1 for end in pair)
                        for pair in zip(*ends, strict=True)], dtype=bool)
    least, most = min(layer.a, 0.0), max(layer.a, 0.0)
    return (np.where(inside & ~outside, layer.a, np.where(outside, 0.0, least)),
            np.where(inside & ~outside, layer.a, np.where(outside, 0.0, most)))


@_local.register
def _(layer: Elu, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    size = BALLS.constant(layer.gain) * BALLS.constant(layer.a)
    ends = [size * BALLS.exp(BALLS.constant(np.minimum(end, 0.0))) for end in (low, high)]
    least, most = _outward(BALLS.minimum(*ends), BALLS.maximum(*ends))
    on_left, on_right = (low < 0) | (high <= 0), (high > 0) | (low >= 0)
    return (np.minimum(np.where(on_left, least, math.inf), np.where(on_right, layer.gain, math.inf)),
            np.maximum(np.where(on_left, most, -math.inf), np.where(on_right, layer.gain, -math.inf)))


@_local.register
def _(layer: Softplus, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    return _outward(*(_logistic(BALLS.constant(layer.b) * BALLS.constant(end)) for end in (low, high)))


def _logistic(v: Array) -> Array:
    return (BALLS.tanh(v * 0.5) + 1.0) * 0.5


def _even(derivative: Callable[[Array], Array], low: np.ndarray, high: np.ndarray) -> Ends:
    """Of an activation whose s' is even and falls with |v|."""
    farthest = np.maximum(np.abs(low), np.abs(high))
    nearest = np.where((low <= 0) & (high >= 0), 0.0, np.minimum(np.abs(low), np.abs(high)))
    return _outward(derivative(BALLS.constant(farthest)), derivative(BALLS.constant(nearest)))


def _square(v: Array) -> Array:
    return v * v


@_local.register
def _(layer: Tanh, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    return _even(lambda v: 1.0 - _square(BALLS.tanh(v)), low, high)


@_local.register
def _(layer: Sigmoid, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    return _even(lambda v: (1.0 - _square(BALLS.tanh(v * 0.5))) * 0.25, low, high)


@_local.register
def _(layer: Arctan, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    return _even(lambda v: BALLS.constant(1.0) / (_square(v) + 1.0), low, high)


@_local.register
def _(layer: Softsign, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    return _even(lambda v: BALLS.constant(1.0) / _square(v + 1.0), low, high)


def _two_turns(derivative: Callable[[Array], Array], turns: tuple[float, float], ends: Ends, low: np.ndarray,
               high: np.ndarray) -> Ends:
    """Of an s' that falls, rises and falls: least at some -t, most at t, for a t within `turns`; `ends`: these two."""
    near, far = turns
    values = [derivative(BALLS.constant(end)) for end in (low, high)]
    least, most = _outward(BALLS.minimum(*values), BALLS.maximum(*values))
    return (np.where((low <= -near) & (high >= -far), ends[0], least),
            np.where((low <= far) & (high >= near), ends[1], most))


@_local.register
def _(layer: Silu, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    return _swish(1.0, layer.LOWER, layer.UPPER, low, high)


@_local.register
def _(layer: Swish, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    return _swish(layer.b, Silu.LOWER, Silu.UPPER, low, high)


def _swish(b: float, least: float, most: float, low: np.ndarray, high: np.ndarray) -> Ends:
    def derivative(v: Array) -> Array:
        s = _logistic(v * b)
        return s * (v * b * (1.0 - s) + 1.0)

    turns = (_SILU_TURNS[0] / b * (1 - 1e-12), _SILU_TURNS[1] / b * (1 + 1e-12))
    return _two_turns(derivative, turns, (np.array(least), np.array(most)), low, high)


@_local.register
def _(layer: Gelu, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    def derivative(v: Array) -> Array:
        t = v * layer.c
        return (BALLS.erf(t) + 1.0) * 0.5 + t * BALLS.exp(-t * t) / BALLS.sqrt(BALLS.constant(1.0) * arb.pi())

    turns = (1 / layer.c * (1 - 1e-12), 1 / layer.c * (1 + 1e-12))
    return _two_turns(derivative, turns, (np.array(layer.LOWER), np.array(layer.UPPER)), low, high)


@_local.register
def _(layer: HardSwish, shape: Shape, low: np.ndarray, high: np.ndarray) -> Ends:
    middle = (low < 3) & (high > -3)
    ends = [BALLS.constant(np.clip(end, -3.0, 3.0)) / 3.0 + 0.5 for end in (low, high)]
    least, most = _outward(*ends)
    least = np.minimum.reduce([np.where(middle, least, math.inf), np.where(low <= -3, 0.0, math.inf),
                               np.where(high >= 3, 1.0, math.inf)])
    most = np.maximum.reduce([np.where(middle, most, -math.inf), np.where(low <= -3, 0.0, -math.inf),
                              np.where(high >= 3, 1.0, -math.inf)])
    return least, most
