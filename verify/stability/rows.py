r"""What l_inf statements about x+ = x + h s(A x + B u + C) need of the weights: diagonals, moduli beside, row sums.

For |x|_eta = max_i |x_i| / eta_i the row of unit i with slope d contributes |1 + h d a_ii| + h |d| sum_{j != i} |a_ij|
eta_j / eta_i, convex in d, hence greatest at an end of the slope interval. A kernel is treated by channels: weights
eta that are equal on a channel, and taps in place of entries; pixels at a border of zeros have part of the taps, so
that what is proved holds for images of any size, with zeros or the image itself around.

Source: Davydov, Jafarpour, Proskurnikov, Bullo, arXiv 2106.03194, for the norm; the induction over depth is that of
`depth_gain`. Ball arithmetic, rounded outwards.
"""

import dataclasses
import math

import numpy as np
from flint import arb, arb_mat

from ..balls import precision, to_matrix, upper
from .conditions import SlopeBox

_BITS = 128


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """One stage.

    **Attributes:** `diagonal`: a_ii, or the taps in the middle of each channel's own kernel, shape (n,); `others`:
    sums of moduli of all other weights from unit or channel j to i, rounded up, shape (n, n); `fed`: of row i of B.
    """

    diagonal: np.ndarray
    others: np.ndarray
    fed: np.ndarray

    @property
    def majorant(self) -> np.ndarray:
        """The Metzler majorant, rounded: the diagonal, and moduli beside it."""
        return np.asarray(self.others + np.diag(self.diagonal))


def rows_of(states: np.ndarray, inputs: np.ndarray) -> Rows:
    """Of matrices A and B, or of kernels with odd extents of the taps."""
    n = len(states)
    places = np.arange(n)
    middle = tuple(extent // 2 for extent in states.shape[2:])
    diagonal = states[(places, places, *middle)]
    moduli = np.abs(states)
    moduli[(places, places, *middle)] = 0.0
    others = moduli if states.ndim == 2 else np.array([[_sum(taps) for taps in row] for row in moduli])
    return Rows(diagonal, others, np.array([_sum(np.abs(row)) for row in inputs]))


def infinity_rate_of(stages: list[Rows], box: SlopeBox, eta: np.ndarray) -> float:
    """max ||I + h D A|| over slopes and stages in the norm with weights eta, rounded up.

    **Raises:** `ValueError` unless eta holds one positive number for each row.
    """
    if eta.shape != stages[0].diagonal.shape or not np.all((eta > 0) & (eta < np.inf)):
        raise ValueError(f"`eta` must be {len(stages[0].diagonal)} positive numbers, got {eta!r}.")
    with precision(_BITS):
        weights = _column(eta)
        worst = arb(0)
        for rows in stages:
            beside = to_matrix(rows.others) * weights
            for i, diagonal in enumerate(rows.diagonal):
                for slope in (box.lower, box.upper):
                    end = arb(box.step) * arb(slope)
                    worst = worst.max(abs(1 + end * arb(float(diagonal))) + abs(end) * beside[i, 0] / weights[i, 0])
        return upper(worst)


def depth_gain_infinity(stages: list[Rows], box: SlopeBox, depth: int) -> float:
    """g with |dx_depth|_inf <= g max_k |du_k|_inf from dx_0 = 0, by z_{k+1} = the worst row at z_k; rounded up.

    One stage stands for all, if there is one.
    """
    count = len(stages[0].diagonal)
    ends = (box.lower, box.upper)
    with precision(_BITS):
        z = arb_mat(count, 1)
        for k in range(depth):
            rows = stages[k % len(stages)]
            beside = to_matrix(rows.others) * z + _column(rows.fed)
            following = []
            for i, diagonal in enumerate(rows.diagonal):
                slopes = [arb(box.step) * arb(end) for end in ends]
                parts = [abs(1 + d * arb(float(diagonal))) * z[i, 0] + abs(d) * beside[i, 0] for d in slopes]
                following.append(parts[0].max(parts[1]))
            z = arb_mat([[entry] for entry in following])
        return max(upper(entry) for entry in z.entries())


def uniform_gain_holds(rows: Rows, box: SlopeBox, z: np.ndarray) -> bool:
    """Whether |dx_k| <= z max_j |du_j|_inf entrywise for all k is shown: a_ii z_i + sum |a_ij| z_j + sum |b_ij| <= 0.

    For slopes >= 0 and h upper |a_ii| <= 1; see `depth_gain`.
    """
    if z.shape != rows.diagonal.shape or box.lower < 0 or not np.all((z >= 0) & (z < np.inf)):
        return False
    with precision(_BITS):
        largest = arb(box.step) * arb(box.upper) * arb(float(np.max(np.abs(rows.diagonal))))
        weights = _column(z)
        beside = to_matrix(rows.others) * weights + _column(rows.fed)
        held = [bool(arb(float(a)) * weights[i, 0] + beside[i, 0] <= 0) for i, a in enumerate(rows.diagonal)]
        return bool(largest <= 1) and all(held)


def uniform_gain_candidate(rows: Rows) -> np.ndarray | None:
    """The least z, a little enlarged, in floating point; None where the majorant is singular or z not positive."""
    n, fed = len(rows.diagonal), rows.fed
    if np.linalg.matrix_rank(rows.majorant) < n:
        return None
    z = np.linalg.solve(-rows.majorant, fed * (1 + 1e-12) + 1e-14 * np.max(fed, initial=1e-300))
    return np.asarray(z) if np.all((z >= 0) & (z < np.inf)) else None


def _sum(values: np.ndarray) -> float:
    """The sum of numbers >= 0, rounded up: fsum rounds to nearest."""
    total = math.fsum(values.ravel())
    return math.nextafter(total, math.inf) if total else 0.0


def _column(values: np.ndarray) -> arb_mat:
    return to_matrix(values[:, None])
