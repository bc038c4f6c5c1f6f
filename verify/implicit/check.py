r"""Proves claims on x = Phi(A x + B u + b), y = C x from vectors found by anybody. No solver.

Slopes are [0, 1] unless lower and upper ends are given, one per neuron.

- z > 0 with d a_ii z_i + |d| sum_{j != i} |a_ij| z_j < z_i for both ends d of every slope interval, and <= z_i with
  |d| |B_i| 1 added: |dx|_i <= z_i |du|_inf and |dy|_inf <= max(|C| z) |du|_inf. For slopes [0, 1], I - A^M is a
  nonsingular M-matrix, A^M being the Metzler majorant. Decided exactly, by `state_bound_check`.
- L >= 0 diagonal and t with

      H = P^T L R + R^T L P > 0,  P = I - diag(lower) A,  R = I - diag(upper) A:   well-posed;
      [P, -diag(lower) B]^T L [R, -diag(upper) B] + its transpose + diag(-C^T C, diag(t)) >= 0:
      |dy|_2^2 <= sum_j t_j du_j^2, at most max t |du|_2^2 and sum t |du|_inf^2

  as twice the sum of L_i (dx_i - lower_i dv_i) (upper_i dv_i - dx_i) >= 0 is the first two terms with the sign turned.
  In double precision with all rounding errors bounded; False means undecided.
"""

import math
from fractions import Fraction

import numpy as np

from ..enclosed_matrix import DOUBLE, DoubleMatrix
from ..positive_definite import UNIT
from .state_bound_check import proves_state_bound
from .weighted_log_norm_check import exact_inner

Slopes = tuple[np.ndarray, np.ndarray]
"""The least and the largest slope of every neuron, shape (n,) each."""

_UNDERFLOW = 2.0**-400


def proved_majorant_gain(A: np.ndarray, B: np.ndarray, C: np.ndarray, z: np.ndarray, slopes: Slopes | None = None
                         ) -> float | None:
    """The l_inf gain that z proves, rounded up; None if z does not satisfy the inequalities, with |B_i| 1 rounded up.

    **Raises:** `ValueError` for shapes that do not fit, numbers that are not finite or empty slope intervals.
    """
    A, B, C, z = _arrays(A, B, C, z)
    lower, upper = _slopes(slopes, len(z))
    inputs = np.array([_rounded_up(exact_inner(row, np.ones(len(row)))) for row in np.abs(B)])
    if not proves_state_bound(A, lower, upper, inputs, z):
        return None
    return max(_rounded_up(exact_inner(row, z)) for row in np.abs(C))


def _rounded_up(exact: Fraction) -> float:
    value = float(exact)
    return value if Fraction(value) >= exact else math.nextafter(value, math.inf)


def proves_diagonal_metric(A: np.ndarray, metric: np.ndarray, slopes: Slopes | None = None) -> bool:
    """Whether H > 0 is shown for L = diag(metric): the network is well-posed."""
    n = len(metric)
    A, B, C, metric = _arrays(A, np.zeros((n, 1)), np.zeros((1, n)), metric)
    if not np.all(metric > 0):
        return False
    H = _inequality(A, B, C, metric, np.zeros(1), _slopes(slopes, n))[0, 0]
    # A little less on the diagonal is semidefinite still, so that the matrix is definite.
    radius = H.radius.copy()
    radius[np.diag_indices(n)] += UNIT * np.abs(np.diagonal(H.middle)) + _UNDERFLOW
    return DOUBLE.semidefinite({(0, 0): DoubleMatrix(H.middle, radius)}, 1)


def proves_euclidean_gain(A: np.ndarray, B: np.ndarray, C: np.ndarray, metric: np.ndarray, gain: float,
                          slopes: Slopes | None = None) -> bool:
    """Whether |dy|_2 <= gain |du|_2 is shown, and that the network is well-posed, by L = diag(metric)."""
    A, B, C, metric = _arrays(A, B, C, metric)
    if not 0 < gain < math.inf:
        return False
    # The float64 below the square is at most the square.
    inputs = np.full(B.shape[1], math.nextafter(gain * gain, 0.0))
    return _proves_input_weights(A, B, C, metric, inputs, slopes)


def proved_mixed_gain(A: np.ndarray, B: np.ndarray, C: np.ndarray, metric: np.ndarray, inputs: np.ndarray,
                      slopes: Slopes | None = None) -> float | None:
    """The gain from |du|_inf to |dy|_2 that L = diag(metric) and t = `inputs` prove, rounded up: sqrt(sum t).

    None if they prove none. For one output it is an l_inf gain.

    **Arguments:** `inputs`: shape (m,).

    **Raises:** `ValueError` for shapes that do not fit, numbers that are not finite or empty slope intervals.
    """
    A, B, C, metric = _arrays(A, B, C, metric)
    inputs = np.asarray(inputs, dtype=np.float64)
    if inputs.shape != (B.shape[1],) or not np.all(np.isfinite(inputs)):
        raise ValueError(f"Bounds per input are {B.shape[1]} finite numbers, got the shape {inputs.shape}.")
    if not _proves_input_weights(A, B, C, metric, inputs, slopes):
        return None
    total = math.nextafter(math.fsum(inputs.tolist()), math.inf)
    return math.nextafter(math.sqrt(total), math.inf)


def proved_row_gain(A: np.ndarray, B: np.ndarray, c: np.ndarray, metric: np.ndarray, inputs: np.ndarray,
                    slopes: Slopes | None = None) -> float | None:
    """:func:`proved_mixed_gain` of the one output c^T x, c of shape (n,)."""
    return proved_mixed_gain(A, B, np.asarray(c, dtype=np.float64)[None], metric, inputs, slopes)


def _proves_input_weights(A: np.ndarray, B: np.ndarray, C: np.ndarray, metric: np.ndarray, inputs: np.ndarray,
                          slopes: Slopes | None) -> bool:
    """Whether the inequality with t = `inputs` is shown, and H > 0."""
    if not np.all(inputs > 0) or not proves_diagonal_metric(A, metric, slopes):
        return False
    return DOUBLE.semidefinite(_inequality(A, B, C, metric, inputs, _slopes(slopes, len(A))), 2)


def _inequality(A: np.ndarray, B: np.ndarray, C: np.ndarray, metric: np.ndarray, inputs: np.ndarray, slopes: Slopes
                ) -> dict[tuple[int, int], DoubleMatrix]:
    """Enclosures of the lower blocks of the matrix."""
    lower, upper = slopes
    identity = DOUBLE.exact(np.eye(len(A)))
    right, right_inputs = identity - _scaled(upper, A), _scaled(-upper, B)
    right, right_inputs = _scaled_rows(metric, right), _scaled_rows(metric, right_inputs)
    if np.any(lower):
        left, left_inputs = (identity - _scaled(lower, A)).transpose(), _scaled(-lower, B).transpose()
        corner, across = left * right, left_inputs * right + (left * right_inputs).transpose()
        last = left_inputs * right_inputs
        last = last + last.transpose() + DOUBLE.diagonal(inputs)
    else:
        corner, across, last = right, right_inputs.transpose(), DOUBLE.diagonal(inputs)
    outputs = DOUBLE.exact(C)
    return {(0, 0): corner + corner.transpose() - outputs.transpose() * outputs, (1, 0): across, (1, 1): last}


def _scaled(factors: np.ndarray, matrix: np.ndarray) -> DoubleMatrix:
    """diag(factors) times a matrix of float64."""
    return _scaled_rows(factors, DOUBLE.exact(matrix))


def _scaled_rows(factors: np.ndarray, matrix: DoubleMatrix) -> DoubleMatrix:
    with np.errstate(over="ignore", invalid="ignore"):
        middle = factors[:, None] * matrix.middle
        radius = (np.abs(factors)[:, None] * matrix.radius + 2 * UNIT * np.abs(middle)) * (1 + 1e-9)
        touched = (factors[:, None] != 0) & ((matrix.middle != 0) | (matrix.radius > 0))
        return DoubleMatrix(middle, radius + _UNDERFLOW * touched)


def _slopes(slopes: Slopes | None, neurons: int) -> Slopes:
    if slopes is None:
        return np.zeros(neurons), np.ones(neurons)
    lower, upper = (np.asarray(end, dtype=np.float64) for end in slopes)
    if lower.shape != (neurons,) or upper.shape != (neurons,):
        raise ValueError(f"Slopes are two vectors of {neurons} numbers, got the shapes {lower.shape} and "
                         f"{upper.shape}.")
    if not (np.all(np.isfinite(lower)) and np.all(np.isfinite(upper)) and np.all(lower <= upper)):
        raise ValueError("Every slope interval needs finite lower <= upper.")
    return lower, upper


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
