"""Arrays in double precision with bounds on their errors: what balls are, at a hundredth of the memory and time.

Every operation encloses: if |x - mid| <= rad held entrywise for its operands, it holds for the result, in real
arithmetic. Bounds are sums of non-negative float64 numbers, so that a slack of 1e-9 covers their own rounding. An
overflow makes a bound infinite or not a number, which the checker refuses.
"""

import dataclasses
from typing import Self

import numpy as np
from flint import arb
from netgain.layers.arithmetic import Array

from .balls import BallArithmetic, to_midpoint_radius
from .positive_definite import UNIT, gamma

_ball = np.frompyfunc(lambda mid, rad: arb(float(mid), float(rad)), 2, 1)
_SLACK = 1 + 1e-9
# A product that underflows is off by at most 2^-1075, a sum of a million of them by less than this.
_UNDERFLOW = 2.0**-1050


@dataclasses.dataclass(frozen=True, eq=False)
class Enclosure:
    """All arrays within `rad` of `mid`, entrywise; both are float64 of one shape."""

    mid: np.ndarray
    rad: np.ndarray

    # numpy is to leave products with it to this class.
    __array_ufunc__ = None

    @classmethod
    def of(cls, array: "Array") -> Self:
        """An enclosure of exact float64 numbers, of balls, or itself."""
        if isinstance(array, cls):
            return array
        if array.dtype == object:
            return cls(*to_midpoint_radius(array))
        return cls(array, np.zeros(array.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mid.shape

    @property
    def ndim(self) -> int:
        return self.mid.ndim

    @property
    def is_zero(self) -> bool:
        return not (np.any(self.mid) or np.any(self.rad))

    def balls(self) -> Array:
        """The same as an array of balls."""
        return _ball(self.mid, self.rad)

    def reshape(self, shape: tuple[int, ...]) -> Self:
        return type(self)(self.mid.reshape(shape), self.rad.reshape(shape))

    @property
    def T(self) -> Self:
        return type(self)(self.mid.T, self.rad.T)

    def __getitem__(self, index: Array) -> Self:
        return type(self)(self.mid[index], self.rad[index])

    def __add__(self, other: Array) -> Self:
        right = self.of(other)
        mid = self.mid + right.mid  # exact where it underflows
        return type(self)(mid, (self.rad + right.rad + UNIT * np.abs(mid)) * _SLACK)

    def __neg__(self) -> Self:
        return type(self)(-self.mid, self.rad)

    def __sub__(self, other: Array) -> Self:
        return self + -self.of(other)

    def __mul__(self, other: Array) -> Self:
        right = self.of(other)
        mid = self.mid * right.mid
        rad = self.rad * (np.abs(right.mid) + right.rad) + np.abs(self.mid) * right.rad + UNIT * np.abs(mid)
        return type(self)(mid, np.where(self._nowhere_zero(right), rad * _SLACK + _UNDERFLOW, 0.0))

    def __truediv__(self, divisor: Array) -> Self:
        """The quotient by exact numbers."""
        exact = self.of(divisor)
        if np.any(exact.rad):
            raise ValueError("Only quotients by exact numbers are enclosed.")
        mid = self.mid / exact.mid
        rad = self.rad / np.abs(exact.mid) + UNIT * np.abs(mid)
        zero = (self.mid == 0) & (self.rad == 0)
        return type(self)(mid, np.where(zero, 0.0, rad * _SLACK + _UNDERFLOW))

    def __matmul__(self, other: Array) -> Self:
        right, terms = self.of(other), self.shape[1]
        size = np.abs(right.mid)
        rad = gamma(terms) * (np.abs(self.mid) @ size)
        if np.any(right.rad):
            rad += (np.abs(self.mid) + self.rad) @ right.rad
        if np.any(self.rad):
            rad += self.rad @ size
        # Where no two entries meet the product is exactly zero, and layers that nothing reaches are told by that.
        met = self._entries() @ right._entries() > 0
        return type(self)(self.mid @ right.mid, np.where(met, rad * _SLACK + _UNDERFLOW, 0.0))

    def _entries(self) -> np.ndarray:
        found: np.ndarray = ((self.mid != 0) | (self.rad != 0)).astype(np.float32)
        return found

    def _nowhere_zero(self, other: "Enclosure") -> np.ndarray:
        met: np.ndarray = self._entries() * other._entries() > 0
        return met


class Quotients(BallArithmetic):
    """Constants as enclosures: for coefficients that are written down as quotients of exact numbers."""

    def constant(self, values: np.ndarray | float) -> Array:
        return Enclosure.of(np.asarray(values, dtype=np.float64))


QUOTIENTS = Quotients()
