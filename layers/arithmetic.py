"""The kinds of number a network can be evaluated in.

A layer states its formula once, in terms of an :class:`Arithmetic`; float64 arrays serve the solvers and the search
for lower bounds, and the checker brings its own arithmetic of balls, in which every value is enclosed.
"""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special

Array = Any
"""An array of numbers of one kind: float64, or objects that are balls."""


class Arithmetic(abc.ABC):
    """Elementary functions on arrays of one kind of number, all elementwise unless said otherwise.

    Arrays support ``+ - * /``, ``reshape``, slicing and broadcasting themselves; what numpy cannot do for every
    kind of number is named here.
    """

    @abc.abstractmethod
    def constant(self, values: np.ndarray | float) -> Array:
        """The float64 ``values`` as numbers of this kind, exactly."""

    @abc.abstractmethod
    def matmul(self, left: Array, right: Array) -> Array:
        """Matrix product over the last axis of ``left`` and the first of the 2-D ``right``."""

    @abc.abstractmethod
    def exp(self, x: Array) -> Array: ...

    @abc.abstractmethod
    def expm1(self, x: Array) -> Array: ...

    @abc.abstractmethod
    def log1p(self, x: Array) -> Array: ...

    @abc.abstractmethod
    def tanh(self, x: Array) -> Array: ...

    @abc.abstractmethod
    def erf(self, x: Array) -> Array: ...

    @abc.abstractmethod
    def arctan(self, x: Array) -> Array: ...

    @abc.abstractmethod
    def sqrt(self, x: Array) -> Array: ...

    @abc.abstractmethod
    def maximum(self, x: Array, y: Array | float) -> Array: ...

    @abc.abstractmethod
    def minimum(self, x: Array, y: Array | float) -> Array: ...

    @abc.abstractmethod
    def sort(self, x: Array) -> Array:
        """Ascending along the last axis."""

    def absolute(self, x: Array) -> Array:
        return self.maximum(x, -x)

    def concatenate(self, parts: Sequence[Array], axis: int) -> Array:
        return np.concatenate(parts, axis=axis)


class FloatArithmetic(Arithmetic):
    """float64, with rounding errors."""

    def constant(self, values: np.ndarray | float) -> Array:
        return np.asarray(values, dtype=np.float64)

    def matmul(self, left: Array, right: Array) -> Array:
        return left @ right

    def exp(self, x: Array) -> Array:
        return np.exp(x)

    def expm1(self, x: Array) -> Array:
        return np.expm1(x)

    def log1p(self, x: Array) -> Array:
        return np.log1p(x)

    def tanh(self, x: Array) -> Array:
        return np.tanh(x)

    def erf(self, x: Array) -> Array:
        return scipy.special.erf(x)

    def arctan(self, x: Array) -> Array:
        return np.arctan(x)

    def sqrt(self, x: Array) -> Array:
        return np.sqrt(x)

    def maximum(self, x: Array, y: Array | float) -> Array:
        return np.maximum(x, y)

    def minimum(self, x: Array, y: Array | float) -> Array:
        return np.minimum(x, y)

    def sort(self, x: Array) -> Array:
        return np.sort(x, axis=-1)


FLOAT = FloatArithmetic()


def zeros(shape: tuple[int, ...], like: Array, arithmetic: Arithmetic) -> Array:
    """Zeros of the kind of number that `like` holds."""
    blank = np.zeros(shape)
    return arithmetic.constant(blank) if like.dtype == object else blank
