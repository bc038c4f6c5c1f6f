r"""Proves claims on x = Phi(A x + B u + b), y = C x for slopes in [0, 1], from vectors found by anybody. No solver.

- z > 0 with A^M z < z and A^M z + |B| 1 <= z: I - A^M is a nonsingular M-matrix, so |dx|_i <= z_i |du|_inf and
  |dy|_inf <= max(|C| z) |du|_inf. Decided in rational arithmetic.
- L > 0 diagonal with H = L (I - A) + (I - A)^T L > 0: well-posed. If also [[H - C^T C, -L B], [-B^T L, g^2 I]] >= 0:
  |dy|_2 <= g |du|_2. In double precision with all rounding errors bounded; False means undecided.
"""

import math
from fractions import Fraction

import numpy as np

from ..positive_definite import UNIT, gamma, proved_in_double
from .weighted_log_norm_check import largest_row

_SLACK = 1 + 1e-9
_UNDERFLOW = 2.0**-1040


def proved_majorant_gain(A: np.ndarray, B: np.ndarray, C: np.ndarray, z: np.ndarray) -> float | None:
    """The l_inf gain that z proves, rounded up; None if z does not satisfy the inequalities. Exact.

    **Raises:** `ValueError` for shapes that do not fit or numbers that are not finite.
    """
    A, B, C, z = _arrays(A, B, C, z)
    if not np.all(z > 0):
        return None
    for i in range(len(z)):
        inner = largest_row(A[i], i, z, 1.0, 1.0)
        inputs = sum((Fraction(b) for b in np.abs(B[i]).tolist() if b), Fraction(0))
        if not inner < Fraction(float(z[i])) or not inner + inputs <= Fraction(float(z[i])):
            return None
    exact = [Fraction(value) for value in z.tolist()]
    largest = max(sum((Fraction(c) * x for c, x in zip(row, exact, strict=True)), Fraction(0))
                  for row in np.abs(C).tolist())
    value = float(largest)
    return value if Fraction(value) >= largest else math.nextafter(value, math.inf)


def proves_diagonal_metric(A: np.ndarray, metric: np.ndarray) -> bool:
    """Whether H > 0 is shown for L = diag(metric)."""
    n = len(metric)
    A, _, _, metric = _arrays(A, np.zeros((n, 1)), np.zeros((1, n)), metric)
    if not np.all(metric > 0):
        return False
    middle, radius = _metric_matrix(A, np.zeros((1, n)), metric)
    # A little less on the diagonal is semidefinite still, so that the matrix is definite.
    radius[np.diag_indices(n)] += UNIT * np.abs(np.diagonal(middle)) + _UNDERFLOW
    return proved_in_double({(0, 0): middle}, {(0, 0): radius}, 1)


def proves_euclidean_gain(A: np.ndarray, B: np.ndarray, C: np.ndarray, metric: np.ndarray, gain: float) -> bool:
    """Whether |dy|_2 <= gain |du|_2 is shown, and that the network is well-posed, by L = diag(metric)."""
    A, B, C, metric = _arrays(A, B, C, metric)
    if not 0 < gain < math.inf or not proves_diagonal_metric(A, metric):
        return False
    middle, radius = _metric_matrix(A, C, metric)
    across = -(metric[:, None] * B).T
    tau = gain * gain * np.eye(B.shape[1])
    return proved_in_double(
        {(0, 0): middle, (1, 0): across, (1, 1): tau},
        {(0, 0): radius, (1, 0): 2 * UNIT * np.abs(across) + _UNDERFLOW, (1, 1): 2 * UNIT * tau + _UNDERFLOW * np.eye(
            len(tau))}, 2)


def _metric_matrix(A: np.ndarray, C: np.ndarray, metric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """H - C^T C, and entrywise bounds on its rounding errors."""
    left = metric[:, None] * (np.eye(len(A)) - A)
    size = np.abs(left) + np.abs(left).T + np.abs(C).T @ np.abs(C)
    radius = (gamma(len(C) + 8) * size + (len(C) + 8) * _UNDERFLOW) * _SLACK
    return left + left.T - C.T @ C, radius


def _arrays(A: np.ndarray, B: np.ndarray, C: np.ndarray, vector: np.ndarray
            ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    A, B, C, vector = (np.asarray(array, dtype=np.float64) for array in (A, B, C, vector))
    n = len(vector) if vector.ndim == 1 else 0
    if not n or A.shape != (n, n) or B.ndim != 2 or len(B) != n or C.ndim != 2 or C.shape[1] != n:
        raise ValueError("A, B, C and the vector of the certificate need the shapes (n, n), (n, m), (q, n) and (n,); "
                         f"got {A.shape}, {B.shape}, {C.shape} and {vector.shape}.")
    if not all(np.all(np.isfinite(array)) for array in (A, B, C, vector)):
        raise ValueError("A, B, C and the vector of the certificate must be finite.")
    return A, B, C, vector
