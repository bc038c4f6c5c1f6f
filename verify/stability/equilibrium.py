r"""The equilibrium of x+ = x + h s(A x + B u + C): for which blocks there is one for every u, and how it depends on u.

Where s(v) = 0 for v = 0 alone, as for tanh and leaky ReLU, x is an equilibrium if and only if A x + B u + C = 0. So if
A is invertible there is exactly one, x = -A^{-1} (B u + C), affine in u whatever s is: at infinite depth a block that
settles is linear, with the gain ||A^{-1} B||. ReLU has the equilibria {x : A x + B u + C <= 0} instead.

For tanh trajectories also have a rate on bounded sets. Let |.| be a norm that no I + h D A with slopes in [0, 1]
expands, and |u|_2 <= radius, x_0 = 0. Then |x_k - x|<= |x|, so that the preactivations v = A (x_k - x) have bounds V_i
(in the norm of P = -A: sqrt(p_ii) |x|_P; in max_i |x_i| / eta_i: sum_j |a_ij| eta_j |x|_eta), and s(v_i) = d v_i with d
in [tanh(V_i) / V_i, 1]. The rate over these slopes is a rate of convergence to x.
"""

import math

import numpy as np
from flint import arb, arb_mat
from netgain.layers import Activation, Arctan, Softsign, Tanh

from ..balls import BALLS as NUMBERS
from ..balls import lower, precision, to_matrix, upper
from ..enclosed_matrix import BALLS, DOUBLE, M, Matrices

_BITS = 128
_SATURATING = (Tanh, Arctan, Softsign)


def vanishes_at_zero_alone(activation: Activation) -> bool:
    """Whether s(v) = 0 if and only if v = 0 is known: s(0) = 0, and s increases strictly."""
    with precision(_BITS):
        at_zero = activation.value(NUMBERS.constant(np.zeros(1)), NUMBERS)[0]
    slopes = activation.slopes(())
    increasing = isinstance(activation, _SATURATING) or (np.ndim(slopes.lower) == 0 and float(slopes.lower) > 0)
    return bool(at_zero == 0) and increasing


def equilibrium_gain_holds(weights: np.ndarray, inputs: np.ndarray, gain: float) -> bool:
    """Whether A is shown invertible and ||A^{-1} B||_2 <= gain: A A^T > 0 and B B^T <= gain^2 A A^T."""

    def holds(arithmetic: Matrices[M]) -> bool:
        a, b = arithmetic.exact(weights), arithmetic.exact(inputs)
        square = a * a.transpose()
        # A multiple of I, so that a semidefinite remainder is enough for an inverse.
        margin = arithmetic.diagonal(np.full(len(weights), 2.0**-60 * float(np.max(np.abs(weights))) ** 2 + 2.0**-500))
        above = arithmetic.scaled(arithmetic.scaled(square, gain), gain) - b * b.transpose()
        return arithmetic.semidefinite({(0, 0): square - margin}, 1) and arithmetic.semidefinite({(0, 0): above}, 1)

    if not (weights.any() and math.isfinite(gain)):
        return False
    if holds(DOUBLE):
        return True
    with precision(_BITS):
        return holds(BALLS)


def equilibrium_gain_infinity(weights: np.ndarray, inputs: np.ndarray) -> float:
    """||A^{-1} B||_inf rounded up, from an enclosure of the solution; infinite where A is not shown invertible."""
    with precision(_BITS):
        try:
            solution: arb_mat = to_matrix(weights).solve(to_matrix(inputs))
        except ZeroDivisionError:  # python-flint's word for a matrix not shown invertible
            return math.inf
        return max(upper(sum((abs(entry) for entry in row), arb(0))) for row in solution.tolist())


def least_slope_symmetric(weights: np.ndarray, inputs: np.ndarray, offset: np.ndarray, radius: float) -> float:
    """d > 0 with slopes tanh(v_i) / v_i in [d, 1] along trajectories from 0, for A = -P < 0 symmetric; rounded down.

    |x|_P <= sqrt(sigma) radius + sqrt(C^T P^{-1} C), where B^T P^{-1} B <= sigma I. 0 where nothing is shown.
    """
    with precision(_BITS):
        p, b, c = -to_matrix(weights), to_matrix(inputs), to_matrix(offset[:, None])
        if not BALLS.semidefinite({(0, 0): p}, 1):
            return 0.0
        solved = p.solve(b)
        gram = b.transpose() * solved
        middle = np.array([[float(entry.mid()) for entry in row] for row in gram.tolist()])
        square = _largest_eigenvalue(gram, (middle + middle.T) / 2)
        size = square.sqrt() * arb(radius) + (c.transpose() * p.solve(c))[0, 0].max(arb(0)).sqrt()
        worst = max(upper(arb(float(-entry)).sqrt() * size) for entry in np.diagonal(weights))
        return _tanh_secant(worst)


def least_slope_infinity(
    weights: np.ndarray, inputs: np.ndarray, offset: np.ndarray, radius: float, eta: np.ndarray
) -> float:
    """The same in the norm max_i |x_i| / eta_i, of |x_i| <= |row i of A^{-1} B|_2 radius + |(A^{-1} C)_i|."""
    with precision(_BITS):
        a, weights_of_norm = to_matrix(weights), [arb(float(value)) for value in eta]
        try:
            fed, fixed = a.solve(to_matrix(inputs)), a.solve(to_matrix(offset[:, None]))
        except ZeroDivisionError:
            return 0.0
        size = arb(0)
        for row, value, scale in zip(fed.tolist(), fixed.entries(), weights_of_norm, strict=True):
            norm = sum((entry * entry for entry in row), arb(0)).sqrt()
            size = size.max((norm * arb(radius) + abs(value)) / scale)
        reach = to_matrix(np.abs(weights)) * arb_mat([[scale] for scale in weights_of_norm])
        worst = max(upper(entry * size) for entry in reach.entries())
        return _tanh_secant(worst)


def _tanh_secant(v: float) -> float:
    """tanh(v) / v rounded down; it decreases with v."""
    if v == 0:
        return 1.0
    return max(lower(arb(v).tanh() / arb(v)), 0.0) if math.isfinite(v) else 0.0


def _largest_eigenvalue(gram: arb_mat, middle: np.ndarray) -> arb:
    """A bound of the largest eigenvalue: that of the midpoints, and what Weyl's inequality adds for the rest."""
    values, vectors = np.linalg.eigh(middle)
    # |G x - x diag(values)| and the defect of orthogonality bound the eigenvalues of G: an enclosing similarity.
    q = to_matrix(vectors)
    rotated = q.transpose() * gram * q
    gramian = q.transpose() * q
    n = len(values)
    rows = rotated.tolist()
    largest = max(upper(sum((abs(entry) for entry in row), arb(0))) for row in rows)
    defect = max(
        upper(sum((abs(entry - (1 if i == j else 0)) for j, entry in enumerate(row)), arb(0)))
        for i, row in enumerate(gramian.tolist())
    )
    # x^T G x = y^T (Q^T G Q) y with x = Q y, |x|^2 >= (1 - defect) |y|^2; the row sums bound Q^T G Q.
    return arb(largest) / (1 - arb(defect)) if defect < 1 and n else arb(math.inf)
