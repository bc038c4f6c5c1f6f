r"""Matrices known up to a bound on every entry, in double precision with all rounding accounted for, or in balls.

`DoubleMatrices` and `BallMatrices` offer the same few operations, so that a matrix inequality is written down once and
proved in whichever arithmetic decides it.

In double precision an entry is a midpoint and a radius. A sum is off by at most u |fl|, an inner product of n terms
in any order by gamma_n times the inner product of the moduli (Higham, Accuracy and Stability, ch. 3).
"""

import dataclasses
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from flint import arb, arb_mat

from .balls import to_matrix
from .positive_definite import UNIT, gamma, proved_in_balls, proved_in_double

# With no number above _LARGE, an underflow costs a product at most 2^-1074 _LARGE, and nothing overflows.
_LARGE = 2.0**200
_UNDERFLOW = 2.0**-400
# Covers the rounding of the bounds themselves: sums and products of fewer than 1e6 non-negative numbers.
_SLACK = 1 + 1e-9


class _Matrix(Protocol):
    def __add__(self, other: Any) -> Any: ...

    def __sub__(self, other: Any) -> Any: ...

    def __mul__(self, other: Any) -> Any: ...

    def transpose(self) -> Any: ...


M = TypeVar("M", bound=_Matrix)


@dataclasses.dataclass(frozen=True, eq=False)
class DoubleMatrix:
    """All real matrices X with |X - middle| <= radius entrywise. `*` is the matrix product.

    Where a number is too large for the bounds, every radius becomes infinite, and stays so: 0 inf = nan counts as that.
    """

    middle: np.ndarray
    radius: np.ndarray

    def __post_init__(self) -> None:
        with np.errstate(all="ignore"):
            fits = np.all(np.abs(self.middle) + self.radius <= _LARGE)
        if not fits:
            object.__setattr__(self, "radius", np.full(self.middle.shape, np.inf))

    def __add__(self, other: "DoubleMatrix") -> "DoubleMatrix":
        return _rounded(self.middle + other.middle, self.radius + other.radius)

    def __sub__(self, other: "DoubleMatrix") -> "DoubleMatrix":
        return _rounded(self.middle - other.middle, self.radius + other.radius)

    def __mul__(self, other: "DoubleMatrix") -> "DoubleMatrix":
        left, right = np.abs(self.middle), np.abs(other.middle)
        with np.errstate(all="ignore"):
            error = gamma(self.middle.shape[1] + 2) * (left @ right) + self.radius @ (right + other.radius)
            radius = (error + left @ other.radius) * _SLACK + _UNDERFLOW
            return DoubleMatrix(self.middle @ other.middle, radius)

    def transpose(self) -> "DoubleMatrix":
        return DoubleMatrix(self.middle.T, self.radius.T)


def _rounded(middle: np.ndarray, radius: np.ndarray) -> DoubleMatrix:
    with np.errstate(all="ignore"):
        return DoubleMatrix(middle, (radius + UNIT * np.abs(middle)) * _SLACK + _UNDERFLOW)


class Matrices(Protocol, Generic[M]):
    """Construction of enclosed matrices, and the proof of semidefiniteness."""

    def exact(self, array: np.ndarray) -> M:
        """The matrix of these float64 numbers."""

    def diagonal(self, entries: np.ndarray) -> M:
        """diag of these float64 numbers."""

    def inverse_diagonal(self, numerator: float, factor: float, entries: np.ndarray) -> M:
        """diag(numerator^2 / (factor entries_i)) for positive entries."""

    def scaled(self, matrix: M, factor: float) -> M:
        """The product with a float64 number."""

    def semidefinite(self, blocks: dict[tuple[int, int], M], count: int) -> bool:
        """Whether the symmetric matrix with these lower blocks is shown positive semidefinite."""


class DoubleMatrices:
    """Double precision with rounding bounds."""

    def exact(self, array: np.ndarray) -> DoubleMatrix:
        array = np.asarray(array, dtype=np.float64)
        return DoubleMatrix(array, np.zeros_like(array))

    def diagonal(self, entries: np.ndarray) -> DoubleMatrix:
        return self.exact(np.diag(entries))

    def inverse_diagonal(self, numerator: float, factor: float, entries: np.ndarray) -> DoubleMatrix:
        if not np.all((entries >= 1 / _LARGE) & (entries <= _LARGE)):  # outside, underflow is not accounted for
            return DoubleMatrix(np.eye(len(entries)), np.full((len(entries), len(entries)), np.inf))
        with np.errstate(all="ignore"):
            values = numerator * numerator / (factor * entries)
        return DoubleMatrix(np.diag(values), np.diag(8 * UNIT * np.abs(values) + _UNDERFLOW))

    def scaled(self, matrix: DoubleMatrix, factor: float) -> DoubleMatrix:
        with np.errstate(all="ignore"):
            return _rounded(factor * matrix.middle, abs(factor) * matrix.radius)

    def semidefinite(self, blocks: dict[tuple[int, int], DoubleMatrix], count: int) -> bool:
        middle = {key: block.middle for key, block in blocks.items()}
        return proved_in_double(middle, {key: block.radius for key, block in blocks.items()}, count)


class BallMatrices:
    """python-flint's ball arithmetic, at the precision of its context."""

    def exact(self, array: np.ndarray) -> arb_mat:
        return to_matrix(np.asarray(array, dtype=np.float64))

    def diagonal(self, entries: np.ndarray) -> arb_mat:
        return self._diagonal([arb(float(entry)) for entry in entries])

    def inverse_diagonal(self, numerator: float, factor: float, entries: np.ndarray) -> arb_mat:
        return self._diagonal([arb(numerator) ** 2 / (arb(factor) * arb(float(entry))) for entry in entries])

    def _diagonal(self, entries: list[arb]) -> arb_mat:
        matrix = arb_mat(len(entries), len(entries))
        for i, entry in enumerate(entries):
            matrix[i, i] = entry
        return matrix

    def scaled(self, matrix: arb_mat, factor: float) -> arb_mat:
        return matrix * arb(factor)

    def semidefinite(self, blocks: dict[tuple[int, int], arb_mat], count: int) -> bool:
        return proved_in_balls(blocks, count)


DOUBLE, BALLS = DoubleMatrices(), BallMatrices()
