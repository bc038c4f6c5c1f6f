r"""Decides mu_eta(D A) <= c for all slopes D, exactly: the checker of l_inf claims on implicit networks.

Every number is a float64 and every condition a sum of products of them, so that in rational arithmetic nothing is
undecided. With both ends d of every slope interval, the claim is

    d a_ii eta_i + |d| sum_{j != i} |a_ij| eta_j <= c eta_i      for all i.

Rows are decided in double precision with a bound on the rounding where that suffices, the others in integers scaled by
a power of two. No solver is imported; the weights come from wherever.
"""

import math
from fractions import Fraction

import numpy as np

from ..positive_definite import gamma

# Sums of non-negative numbers: covers the rounding of the error bound itself, and of the last few operations.
_SLACK = 1 + 1e-9
# Covers products that underflow.
_UNDERFLOW = 2.0**-1040


def proves_log_norm(A: np.ndarray, eta: np.ndarray, lower: np.ndarray, upper: np.ndarray, value: float) -> bool:
    """Whether mu_eta(D A) <= value for all lower <= D <= upper, in real arithmetic. Exact: False means it is not so.

    **Arguments:** `A`: shape (n, n); `eta`, `lower`, `upper`: shape (n,), eta > 0.

    **Raises:** `ValueError` for shapes that do not fit, numbers that are not finite, weights that are not positive or
    empty intervals.
    """
    arrays = A, eta, lower, upper = tuple(np.asarray(array, dtype=np.float64) for array in (A, eta, lower, upper))
    _require_fit(*arrays)
    if not math.isfinite(value):
        raise ValueError(f"The logarithmic norm is compared with a finite number, got {value!r}.")
    holds = np.ones(len(A), dtype=bool)
    for d in (lower, upper):
        holds &= _surely_below(A, eta, d, value)
    return all(
        largest_row(A[i], i, eta, lower[i], upper[i]) <= Fraction(value) * Fraction(eta[i])
        for i in np.flatnonzero(~holds).tolist()
    )


def least_proved_log_norm(A: np.ndarray, eta: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """The least float64 not below the largest mu_eta(D A) over the slopes. Exact.

    **Raises:** as :func:`proves_log_norm`; `OverflowError` if it is beyond float64.
    """
    arrays = A, eta, lower, upper = tuple(np.asarray(array, dtype=np.float64) for array in (A, eta, lower, upper))
    _require_fit(*arrays)
    largest = max(largest_row(A[i], i, eta, lower[i], upper[i]) / Fraction(eta[i]) for i in range(len(A)))
    value = float(largest)
    return value if Fraction(value) >= largest else math.nextafter(value, math.inf)


def largest_row(row: np.ndarray, i: int, eta: np.ndarray, lower: float, upper: float) -> Fraction:
    """max over d in {lower, upper} of d a_ii eta_i + |d| sum_{j != i} |a_ij| eta_j, as a rational number."""
    own = Fraction(float(row[i])) * Fraction(float(eta[i]))
    beside = exact_inner(np.abs(np.delete(row, i)), np.delete(eta, i))
    ends = (Fraction(float(lower)), Fraction(float(upper)))
    return max(d * own + abs(d) * beside for d in ends)


def exact_inner(left: np.ndarray, right: np.ndarray) -> Fraction:
    """The inner product of two float64 vectors; by integers, as common fractions would be reduced at every step."""
    factors = [(*_parts(a), *_parts(b)) for a, b in zip(left.tolist(), right.tolist(), strict=True) if a and b]
    if not factors:
        return Fraction(0)
    least = min(e + f for _, e, _, f in factors)
    total = sum((m * k) << (e + f - least) for m, e, k, f in factors)
    return Fraction(total) * Fraction(2) ** least


def _parts(value: float) -> tuple[int, int]:
    """m, e with value = m 2^e."""
    m, denominator = value.as_integer_ratio()
    return m, 1 - denominator.bit_length()


def _surely_below(A: np.ndarray, eta: np.ndarray, d: np.ndarray, value: float) -> np.ndarray:
    """Rows shown to satisfy the condition for these d in double precision, with every rounding accounted for."""
    n = len(A)
    diagonal = np.diagonal(A)
    beside = np.abs(A)
    np.fill_diagonal(beside, 0)
    with np.errstate(over="ignore", invalid="ignore"):
        own, others, right = d * diagonal * eta, np.abs(d) * (beside @ eta), value * eta
        size = np.abs(own) + others + np.abs(right)
        error = (gamma(n + 8) * size + (n + 8) * _UNDERFLOW * (1 + np.abs(d)) * (1 + eta)) * _SLACK
        return np.asarray((own + others + error <= right) & np.isfinite(size))


def _require_fit(A: np.ndarray, eta: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
    n = len(A) if A.ndim else 0
    if A.shape != (n, n) or not n or any(vector.shape != (n,) for vector in (eta, lower, upper)):
        raise ValueError("A must be square, with a weight and a slope interval for each row; got the shapes "
                         f"{A.shape}, {eta.shape}, {lower.shape} and {upper.shape}.")
    if not all(np.all(np.isfinite(array)) for array in (A, eta, lower, upper)):
        raise ValueError("A, the weights and the slopes must be finite.")
    if not np.all(eta > 0):
        raise ValueError(f"The weights eta must be positive; the least is {float(eta.min())!r}.")
    if not np.all(lower <= upper):
        raise ValueError("Every slope interval needs lower <= upper.")
