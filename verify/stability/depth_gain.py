r"""Gains from input to state of x+ = x + h s(A x + B u + C), x_0 fixed, at every depth, with slopes of zero too.

A gain by a contraction rate r grows like 1 / (1 - r), so there is none for ReLU. Instead:

- Constant inputs, A = -P symmetric, P > 0: e_k = dx_k + A^{-1} B du follows e+ = (I + h D A) e with the same D as dx.
  So where I + h D A does not expand the norm of P, |dx_k|_P <= 2 |A^{-1} B du|_P = 2 |P^{-1/2} B du|_2.
  In the same way for a weighted l_inf norm.
- Inputs that vary with the depth, slopes >= 0 and h upper |a_ii| <= 1: if a_ii z_i + sum_{j != i} |a_ij| z_j +
  sum_j |b_ij| <= 0 for all i, then |dx_k| <= z max_j |du_j|_inf entrywise, by induction: row i is at most
  (1 - h d |a_ii|) z_i + h d |a_ii| z_i.
"""

import math
from fractions import Fraction

import numpy as np
from flint import arb

from ..balls import precision, to_matrix, upper
from ..enclosed_matrix import BALLS
from .conditions import SlopeBox, fully_connected_conditions

_BITS = 128


def constant_input_gain(weights: np.ndarray, inputs: np.ndarray, box: SlopeBox) -> float:
    """g with |dx_k|_2 <= g |du|_2 for all k and any constant inputs; infinite where it is not proved.

    It is 2 sqrt(sigma / least) with least <= lambda_min(P) and [[P, B], [B^T, sigma I]] >= 0 proved.

    **Raises:** `ValueError` for shapes that do not fit.
    """
    _require_inputs(weights, inputs)
    conditions = fully_connected_conditions(weights, 0.25, box)  # the Frobenius ball plays no part in the rate
    if not conditions.rate <= 1:
        return math.inf
    square = float(np.linalg.eigvalsh(inputs.T @ np.linalg.solve(-weights, inputs))[-1])
    with precision(_BITS):
        for margin in (1e-12, 1e-10, 1e-8, 1e-6):
            sigma = square * (1 + margin) + 1e-300
            blocks = {
                (0, 0): BALLS.exact(-weights),
                (1, 0): BALLS.exact(inputs.T),
                (1, 1): BALLS.diagonal(np.full(inputs.shape[1], sigma)),
            }
            if BALLS.semidefinite(blocks, 2):
                return upper(2 * (arb(sigma) / arb(conditions.least)).sqrt())
    return math.inf


def constant_input_gain_infinity(weights: np.ndarray, inputs: np.ndarray, eta: np.ndarray) -> float:
    """g with |dx_k|_inf <= g |du|_inf for all k and any constant inputs, where no I + h D A expands max |x_i| / eta_i.

    That is for the caller to prove. With w = A^{-1} B du, |dx_k - w| in that norm is at most |w|, so that row i of dx_k
    is at most eta_i max_j (r_j / eta_j) + r_i, r the row sums of |A^{-1} B|. Infinite where A is not shown invertible.

    **Raises:** `ValueError` for shapes that do not fit.
    """
    _require_inputs(weights, inputs)
    with precision(_BITS):
        try:
            solution = to_matrix(weights).solve(to_matrix(inputs))
        except ZeroDivisionError:  # python-flint's word for a matrix not shown invertible
            return math.inf
        sums = [sum((abs(entry) for entry in row), arb(0)) for row in solution.tolist()]
        scales, worst, total = [arb(float(value)) for value in eta], arb(0), arb(0)
        for row, scale in zip(sums, scales, strict=True):
            worst = worst.max(row / scale)
        for row, scale in zip(sums, scales, strict=True):
            total = total.max(scale * worst + row)
        return upper(total)


def entrywise_gain(weights: np.ndarray, inputs: np.ndarray, box: SlopeBox) -> np.ndarray:
    """z with |dx_k| <= z max_j |du_j|_inf entrywise for all k, checked in rationals; infinite where it is not proved.

    **Raises:** `ValueError` for shapes that do not fit.
    """
    _require_inputs(weights, inputs)
    n = len(weights)
    unproved = np.full(n, math.inf)
    largest = Fraction(box.step) * Fraction(box.upper) * Fraction(float(np.max(np.abs(np.diagonal(weights)))))
    if box.lower < 0 or largest > 1:
        return unproved
    majorant = np.where(np.eye(n, dtype=bool), weights, np.abs(weights))
    if np.linalg.matrix_rank(majorant) < n:
        return unproved
    fed = np.abs(inputs).sum(axis=1)
    # A little more on the right makes every inequality strict, so that rounding does not matter.
    z = np.linalg.solve(-majorant, fed * (1 + 1e-12) + 1e-14 * np.max(fed, initial=1e-300))
    if not np.all(np.isfinite(z)) or np.any(z < 0):
        return unproved
    exact = [Fraction(float(value)) for value in z]
    for row, supplied in zip(majorant, inputs, strict=True):
        total = sum((Fraction(float(a)) * value for a, value in zip(row, exact, strict=True)), Fraction(0))
        if total + sum((abs(Fraction(float(b))) for b in supplied), Fraction(0)) > 0:
            return unproved
    return np.asarray(z)


def _require_inputs(weights: np.ndarray, inputs: np.ndarray) -> None:
    n = len(weights)
    finite = all(array.dtype == np.float64 and bool(np.all(np.isfinite(array))) for array in (weights, inputs))
    if weights.shape != (n, n) or n == 0 or inputs.ndim != 2 or len(inputs) != n or inputs.size == 0 or not finite:
        raise ValueError("A must be square and B have as many rows, both finite float64; got the shapes "
                         f"{weights.shape} and {inputs.shape}.")
