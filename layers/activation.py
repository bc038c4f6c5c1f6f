r"""Activations: the formula, the derivative, and the interval that holds every slope.

The slope interval [alpha, beta] of a scalar function s is the set with
``alpha <= (s(x) - s(y)) / (x - y) <= beta`` for all x != y; for a function with a derivative almost everywhere it is
the closed range of s'. The constants below are rounded outwards; the tests prove them in ball arithmetic.
"""

import abc
import dataclasses
import math
from typing import ClassVar

import numpy as np
import scipy.special

from .arithmetic import FLOAT, Arithmetic, Array
from .errors import ModelError, ShapeError
from .layer import NonlinearLayer, Shape, broadcasts, one_input, parameter


@dataclasses.dataclass(frozen=True)
class SlopeInterval:
    """All slopes of an activation lie in [lower, upper]; arrays broadcast to the layer's shape.

    With `coupled` neurons per group, the statement is about each group of consecutive entries at once: the increment
    dz of the group's output satisfies (dz - lower dv)^T (dz - upper dv) <= 0 as a vector, not entry by entry, and
    lower and upper are scalars. An elementwise activation has groups of one.
    """

    lower: np.ndarray | float
    upper: np.ndarray | float
    coupled: int = 1


class Activation(NonlinearLayer):
    """A nonlinear layer that keeps the shape of its input, with a slope interval and a derivative."""

    def output_shape(self, *shapes: Shape) -> Shape:
        return one_input(self, shapes)

    def forward(self, *inputs: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return self.value(inputs[0], arithmetic)

    @abc.abstractmethod
    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        """s(x), batch first."""

    @abc.abstractmethod
    def slopes(self, shape: Shape) -> SlopeInterval:
        """The proved slope interval for an input of this shape."""

    def apply_derivative_transposed(self, x: np.ndarray, dy: np.ndarray) -> Array:
        # As long as the Jacobian is symmetric.
        return self.apply_derivative(x, dy)


class Elementwise(Activation):
    """An activation that acts on each entry alone; `derivative` is s'(x)."""

    @abc.abstractmethod
    def derivative(self, x: np.ndarray) -> Array: ...

    def apply_derivative(self, x: np.ndarray, dx: np.ndarray) -> Array:
        return self.derivative(x) * dx


class _Fixed(Elementwise):
    """An activation without parameters, whose slope interval is a constant of mathematics."""

    LOWER: ClassVar[float]
    UPPER: ClassVar[float]

    def slopes(self, shape: Shape) -> SlopeInterval:
        return SlopeInterval(self.LOWER, self.UPPER)


@dataclasses.dataclass(frozen=True)
class Relu(_Fixed):
    """max(x, 0)."""

    LOWER, UPPER = 0.0, 1.0

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return arithmetic.maximum(x, 0.0)

    def derivative(self, x: np.ndarray) -> Array:
        return (x > 0).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class Absolute(_Fixed):
    """|x|."""

    LOWER, UPPER = -1.0, 1.0

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return arithmetic.absolute(x)

    def derivative(self, x: np.ndarray) -> Array:
        return np.where(x >= 0, 1.0, -1.0)


@dataclasses.dataclass(frozen=True)
class Tanh(_Fixed):
    """tanh(x); the slope 1 - tanh(x)^2 lies in (0, 1]."""

    LOWER, UPPER = 0.0, 1.0

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return arithmetic.tanh(x)

    def derivative(self, x: np.ndarray) -> Array:
        return 1 - np.tanh(x) ** 2


def _sigmoid(x: Array, arithmetic: Arithmetic) -> Array:
    return (arithmetic.tanh(x * 0.5) + 1.0) * 0.5


def _softplus(x: Array, arithmetic: Arithmetic) -> Array:
    return arithmetic.maximum(x, 0.0) + arithmetic.log1p(arithmetic.exp(-arithmetic.absolute(x)))


@dataclasses.dataclass(frozen=True)
class Sigmoid(_Fixed):
    """1 / (1 + exp(-x)); the slope s(1 - s) lies in (0, 1/4]."""

    LOWER, UPPER = 0.0, 0.25

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return _sigmoid(x, arithmetic)

    def derivative(self, x: np.ndarray) -> Array:
        s = scipy.special.expit(x)
        return s * (1 - s)


@dataclasses.dataclass(frozen=True)
class HardSigmoid(Elementwise):
    """clip(a x + b, 0, 1); the slope is 0 or a."""

    a: float = 0.2
    b: float = 0.5

    def __post_init__(self) -> None:
        if not (math.isfinite(self.a) and math.isfinite(self.b)):
            raise ModelError(f"A hard sigmoid needs finite parameters, got a = {self.a}, b = {self.b}.")

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        line = x * arithmetic.constant(self.a) + arithmetic.constant(self.b)
        return arithmetic.minimum(arithmetic.maximum(line, 0.0), 1.0)

    def derivative(self, x: np.ndarray) -> Array:
        line = self.a * x + self.b
        return np.where((line > 0) & (line < 1), self.a, 0.0)

    def slopes(self, shape: Shape) -> SlopeInterval:
        return SlopeInterval(min(0.0, self.a), max(0.0, self.a))


@dataclasses.dataclass(frozen=True)
class Arctan(_Fixed):
    """arctan(x); the slope 1 / (1 + x^2) lies in (0, 1]."""

    LOWER, UPPER = 0.0, 1.0

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return arithmetic.arctan(x)

    def derivative(self, x: np.ndarray) -> Array:
        return 1 / (1 + x * x)


@dataclasses.dataclass(frozen=True)
class Softsign(_Fixed):
    """x / (1 + |x|); the slope (1 + |x|)^-2 lies in (0, 1]."""

    LOWER, UPPER = 0.0, 1.0

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return x / (arithmetic.absolute(x) + 1.0)

    def derivative(self, x: np.ndarray) -> Array:
        return (1 + np.abs(x)) ** -2.0


@dataclasses.dataclass(frozen=True)
class Silu(_Fixed):
    """x * sigmoid(x) (swish). The slope is extreme where (x/2) tanh(x/2) = 1, at x = +-2.3993572805...

    For x * sigmoid(b x) the interval is the same, by scaling; see `Swish`.
    """

    LOWER, UPPER = -0.09983932013, 1.09983932013

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return x * _sigmoid(x, arithmetic)

    def derivative(self, x: np.ndarray) -> Array:
        s = scipy.special.expit(x)
        return s * (1 + x * (1 - s))


@dataclasses.dataclass(frozen=True)
class Swish(Elementwise):
    """x * sigmoid(b x) = silu(b x) / b, so its slopes are those of `Silu` for every b > 0."""

    b: float = 1.0

    def __post_init__(self) -> None:
        if not (self.b > 0 and math.isfinite(self.b)):
            raise ModelError(f"Swish needs a finite b > 0, got {self.b}.")

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return x * _sigmoid(x * arithmetic.constant(self.b), arithmetic)

    def derivative(self, x: np.ndarray) -> Array:
        return Silu().derivative(self.b * x)

    def slopes(self, shape: Shape) -> SlopeInterval:
        return SlopeInterval(Silu.LOWER, Silu.UPPER)


@dataclasses.dataclass(frozen=True)
class Gelu(Elementwise):
    """x (1 + erf(c x)) / 2, with c = 1/sqrt(2) for the exact GELU.

    The slope is extreme at c x = +-1; its range does not depend on c > 0, since the function is a rescaled GELU.
    So a file that stores c rounded is covered by the same interval.
    """

    c: float = math.sqrt(0.5)
    LOWER: ClassVar[float] = -0.12890414519
    UPPER: ClassVar[float] = 1.12890414519

    def __post_init__(self) -> None:
        if not (self.c > 0 and math.isfinite(self.c)):
            raise ModelError(f"GELU needs a finite c > 0, got {self.c}.")

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return x * (arithmetic.erf(x * arithmetic.constant(self.c)) + 1.0) * 0.5

    def derivative(self, x: np.ndarray) -> Array:
        t = self.c * x
        return 0.5 * (1 + scipy.special.erf(t)) + t * np.exp(-t * t) / math.sqrt(math.pi)

    def slopes(self, shape: Shape) -> SlopeInterval:
        return SlopeInterval(self.LOWER, self.UPPER)


@dataclasses.dataclass(frozen=True)
class GeluTanh(Elementwise):
    """The tanh form of GELU, x (1 + tanh(k (x + c x^3))) / 2 with k near sqrt(2/pi) and c near 0.044715.

    Slopes depend on the two constants as stored; the interval is proved for all within `TOLERANCE` of the nominal.
    """

    k: float = math.sqrt(2 / math.pi)
    c: float = 0.044715
    TOLERANCE: ClassVar[float] = 1e-6
    LOWER: ClassVar[float] = -0.129
    UPPER: ClassVar[float] = 1.129

    def __post_init__(self) -> None:
        if abs(self.k - math.sqrt(2 / math.pi)) > self.TOLERANCE or abs(self.c - 0.044715) > self.TOLERANCE:
            raise ModelError(f"Not the tanh form of GELU: k = {self.k}, c = {self.c}; expected 0.797885 and 0.044715.")

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        inner = (x + x * x * x * arithmetic.constant(self.c)) * arithmetic.constant(self.k)
        return x * (arithmetic.tanh(inner) + 1.0) * 0.5

    def derivative(self, x: np.ndarray) -> Array:
        t = np.tanh(self.k * (x + self.c * x**3))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * self.k * (1 + 3 * self.c * x * x)

    def slopes(self, shape: Shape) -> SlopeInterval:
        return SlopeInterval(self.LOWER, self.UPPER)


@dataclasses.dataclass(frozen=True)
class Mish(_Fixed):
    """x tanh(softplus(x)); the slope is extreme at x = 1.4905711794... and x = -2.2563763963..."""

    LOWER, UPPER = -0.11252612239, 1.08849816126

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return x * arithmetic.tanh(_softplus(x, arithmetic))

    def derivative(self, x: np.ndarray) -> Array:
        t = np.tanh(np.logaddexp(0, x))
        return t + x * (1 - t * t) * scipy.special.expit(x)


@dataclasses.dataclass(frozen=True)
class HardSwish(_Fixed):
    """x clip(x/6 + 1/2, 0, 1); on (-3, 3) the slope is x/3 + 1/2, between -1/2 and 3/2."""

    LOWER, UPPER = -0.5, 1.5

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return x * arithmetic.minimum(arithmetic.maximum((x + 3.0) / 6.0, 0.0), 1.0)

    def derivative(self, x: np.ndarray) -> Array:
        return np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, x / 3 + 0.5))


@dataclasses.dataclass(frozen=True)
class Softplus(Elementwise):
    """log(1 + exp(b x)) / b; the slope sigmoid(b x) lies in (0, 1) for every b > 0."""

    b: float = 1.0

    def __post_init__(self) -> None:
        if not (self.b > 0 and math.isfinite(self.b)):
            raise ModelError(f"Softplus needs a finite b > 0, got {self.b}.")

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        b = arithmetic.constant(self.b)
        return _softplus(x * b, arithmetic) / b

    def derivative(self, x: np.ndarray) -> Array:
        return scipy.special.expit(self.b * x)

    def slopes(self, shape: Shape) -> SlopeInterval:
        return SlopeInterval(0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Clip(Elementwise):
    """min(max(x, low), high); ReLU6 and Hardtanh are instances."""

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ModelError(f"A clip needs low < high, got [{self.low}, {self.high}].")

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        if self.low > -math.inf:
            x = arithmetic.maximum(x, self.low)
        return arithmetic.minimum(x, self.high) if self.high < math.inf else x

    def derivative(self, x: np.ndarray) -> Array:
        return ((x > self.low) & (x < self.high)).astype(np.float64)

    def slopes(self, shape: Shape) -> SlopeInterval:
        return SlopeInterval(0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Elu(Elementwise):
    """gain * (x for x > 0, a (exp(x) - 1) otherwise): ELU with gain 1; SELU has a = 1.6733, gain = 1.0507.

    The slope is gain on the right and gain * a * exp(x), between 0 and gain * a, on the left. The products are
    rounded outwards.
    """

    a: float = 1.0
    gain: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.a) and math.isfinite(self.gain) and math.isfinite(self.a * self.gain)):
            raise ModelError(f"ELU needs finite parameters and slopes, got a = {self.a}, gain = {self.gain}.")

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        left = arithmetic.expm1(arithmetic.minimum(x, 0.0)) * arithmetic.constant(self.a)
        return (arithmetic.maximum(x, 0.0) + left) * arithmetic.constant(self.gain)

    def derivative(self, x: np.ndarray) -> Array:
        return self.gain * np.where(x > 0, 1.0, self.a * np.exp(np.minimum(x, 0)))

    def slopes(self, shape: Shape) -> SlopeInterval:
        product = self.a * self.gain
        ends = [0.0, self.gain]
        if self.a and self.gain:  # the product may underflow
            ends += [math.nextafter(product, -math.inf), math.nextafter(product, math.inf)]
        if self.gain == 1.0:
            ends = [0.0, 1.0, self.a]
        return SlopeInterval(float(min(ends)), float(max(ends)))


def selu(a: float = 1.67326319217681884765625, gain: float = 1.05070102214813232421875) -> Elu:
    """SELU with the constants of the ONNX standard (float32 values)."""
    return Elu(a, gain)


@dataclasses.dataclass(frozen=True, eq=False)
class LeakyRelu(Elementwise):
    """x for x > 0, slope * x otherwise; `slope` may be an array that broadcasts to the shape (PReLU)."""

    slope: np.ndarray | float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "slope", parameter(self.slope, "slope"))

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = one_input(self, shapes)
        if not broadcasts(np.shape(self.slope), shape):
            raise ShapeError(f"The slopes of shape {np.shape(self.slope)} do not fit the input {shape}.")
        return shape

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return arithmetic.maximum(x, 0.0) + arithmetic.minimum(x, 0.0) * arithmetic.constant(self.slope)

    def derivative(self, x: np.ndarray) -> Array:
        return np.where(x > 0, 1.0, self.slope)

    def slopes(self, shape: Shape) -> SlopeInterval:
        return SlopeInterval(np.minimum(self.slope, 1.0), np.maximum(self.slope, 1.0))


@dataclasses.dataclass(frozen=True)
class Softmax(Activation):
    """exp(b x_i) / sum_j exp(b x_j) over the last axis.

    The Jacobian b (diag(p) - p p^T) is symmetric with eigenvalues in [0, b/2]: v^T (diag(p) - p p^T) v is the variance
    of v under p, at most (max v - min v)^2 / 4 <= |v|^2 / 2. As the gradient of a convex function the map is
    co-coercive, so dz^T (dz - (b/2) dv) <= 0 for the whole vector (Baillon and Haddad 1977).
    """

    b: float = 1.0

    def __post_init__(self) -> None:
        if not (self.b > 0 and math.isfinite(self.b)):
            raise ModelError(f"Softmax needs a finite b > 0, got {self.b}.")

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        scaled = x * arithmetic.constant(self.b)
        top = arithmetic.sort(scaled)[..., -1:]
        weights = arithmetic.exp(scaled - top)
        return weights / weights.sum(axis=-1, keepdims=True)

    def apply_derivative(self, x: np.ndarray, dx: np.ndarray) -> Array:
        p = scipy.special.softmax(self.b * x, axis=-1)
        return self.b * p * (dx - np.sum(p * dx, axis=-1, keepdims=True))

    def slopes(self, shape: Shape) -> SlopeInterval:
        return SlopeInterval(0.0, self.b / 2, coupled=shape[-1])


@dataclasses.dataclass(frozen=True)
class GroupSort(Activation):
    """Sorts each group of `size` consecutive entries of the last axis, ascending; size 2 is MaxMin.

    Almost everywhere the Jacobian is a permutation, and sorting does not increase distances (rearrangement
    inequality), so |dz|^2 <= |dv|^2 for each group: the interval [-1, 1], coupled.
    """

    size: int = 2

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = one_input(self, shapes)
        if self.size < 1 or not shape or shape[-1] % self.size:
            raise ShapeError(f"GroupSort in groups of {self.size} needs a last axis divisible by it, got {shape}.")
        return shape

    def _grouped(self, x: Array) -> Array:
        return x.reshape((*x.shape[:-1], x.shape[-1] // self.size, self.size))

    def value(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return arithmetic.sort(self._grouped(x)).reshape(x.shape)

    def apply_derivative(self, x: np.ndarray, dx: np.ndarray) -> Array:
        order = np.argsort(self._grouped(x), axis=-1, kind="stable")
        return np.take_along_axis(self._grouped(dx), order, axis=-1).reshape(dx.shape)

    def apply_derivative_transposed(self, x: np.ndarray, dy: np.ndarray) -> Array:
        order = np.argsort(self._grouped(x), axis=-1, kind="stable")
        result = np.empty_like(self._grouped(dy))
        np.put_along_axis(result, order, self._grouped(dy), axis=-1)
        return result.reshape(dy.shape)

    def slopes(self, shape: Shape) -> SlopeInterval:
        return SlopeInterval(-1.0, 1.0, coupled=self.size)
