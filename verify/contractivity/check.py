r"""The checker of contractivity: do multipliers prove mu(B + E D A) <= c for all slopes D? It knows no solver.

mu(M) = lambda_max((M + M^T) / 2), and D = diag(d) with every d_i in [lower, upper]. On a box that fixes some d_i at an
end, and for any lam_i > 0 on the others, completing the square gives

    sym J(D) <= sym(B + E diag(d^) A) + sum_{i free} ( lam_i a_i a_i^T + r^2 / (4 lam_i) e_i e_i^T ),

with d^_i the end where fixed and the centre r0 of the interval where free, r its radius. So c I minus the right-hand
side being positive semidefinite proves the claim on that box; proved it is in double precision with bounds on every
rounding error, and where that does not decide in balls. mu(J(D)) is convex in D, so it is enough that the boxes hold
all vertices, which is combinatorics.

With symmetries: a signed permutation Q with Q A Q^T = A and Q B Q^T = B leaves mu unchanged when the slopes are
permuted along. A box may be left out if one such Q takes each of its vertices to a lexicographically larger one:
climbing on, one ends in a box that was not left out.
"""

import dataclasses
import enum
import math
import time

import numpy as np

from ..balls import lower, precision
from ..enclosed_matrix import BALLS, DOUBLE, M, Matrices
from .box_cover import covers

_PRECISIONS = (128, 256)


class Decision(enum.Enum):
    """What the checker found. The value says what it means."""

    PROVED = "The multipliers prove the claim for these matrices."
    OTHER_MATRICES = "The certificate belongs to other matrices: the digests differ."
    MALFORMED = "The arrays of the certificate do not fit the claim, or hold numbers that are not finite or negative."
    NOT_COVERED = "The boxes do not cover all slopes, so nothing is proved about the rest."
    NOT_PROVED = "On some box the multipliers do not prove the claimed value."


@dataclasses.dataclass(frozen=True, eq=False)
class LogNormClaim:
    """mu(B + E diag(d) A) <= level whenever every d_i lies in [lower, upper].

    **Attributes:** `inputs`: A, shape (k, n); `outputs`: E, shape (n, k), None for the identity; `linear`: B, shape
    (n, n), None for zero; all float64 and exact.
    """

    inputs: np.ndarray
    lower: float
    upper: float
    level: float
    outputs: np.ndarray | None = None
    linear: np.ndarray | None = None

    @property
    def well_formed(self) -> bool:
        """Whether shapes fit, numbers are finite float64, and the interval is not empty."""
        if self.inputs.ndim != 2:
            return False
        k, n = self.inputs.shape
        shapes = [(self.outputs, (n, k)), (self.linear, (n, n))]
        arrays = [self.inputs, *(array for array, _ in shapes if array is not None)]
        return (
            (self.outputs is not None or k == n)
            and all(array is None or array.shape == shape for array, shape in shapes)
            and all(array.dtype == np.float64 and np.all(np.isfinite(array)) for array in arrays)
            # An integer might be rounded on its way into a matrix.
            and all(isinstance(value, float) for value in (self.lower, self.upper, self.level))
            and -math.inf < self.lower <= self.upper < math.inf
            and math.isfinite(self.level)
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Symmetries:
    """Signed permutations, and boxes left out on their account.

    **Attributes:** `permutations`: rows pi with Q e_i = s_i e_pi(i), shape (count, k); `signs`: s, same shape;
    `left_out`: boxes of signs, shape (boxes, k); `by`: which symmetry takes the vertices of each to larger ones, shape
    (boxes,).
    """

    permutations: np.ndarray
    signs: np.ndarray
    left_out: np.ndarray
    by: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class LogNormProof:
    """Boxes of slopes and the multipliers that bound mu on each.

    **Attributes:** `signs`: 0 where d_i is free, +1 at the upper and -1 at the lower end, shape (boxes, k);
    `multipliers`: lam_i > 0 where free, same shape; 0 is admitted where e_i or a_i is zero or the interval a point.
    """

    signs: np.ndarray
    multipliers: np.ndarray
    symmetries: Symmetries | None = None


@dataclasses.dataclass(frozen=True)
class LogNormVerdict:
    """`arithmetic` is "double" or the bits of the balls that were needed; empty if nothing was proved."""

    decision: Decision
    arithmetic: str
    seconds: float

    @property
    def proved(self) -> bool:
        return self.decision is Decision.PROVED


def check_log_norm(claim: LogNormClaim, proof: LogNormProof, balls: bool = True) -> LogNormVerdict:
    """Proves the claim by the multipliers, or says why they do not.

    **Arguments:** `balls`: whether to go on in ball arithmetic where double precision does not decide.
    """
    begin = time.perf_counter()

    def verdict(decision: Decision, arithmetic: str = "") -> LogNormVerdict:
        return LogNormVerdict(decision, arithmetic, time.perf_counter() - begin)

    if not claim.well_formed or not _fits(claim, proof):
        return verdict(Decision.MALFORMED)
    boxes = proof.signs
    if proof.symmetries is not None:
        if not _symmetries_hold(claim, proof.symmetries):
            return verdict(Decision.MALFORMED)
        boxes = np.concatenate([boxes, proof.symmetries.left_out])
    if not covers(boxes):
        return verdict(Decision.NOT_COVERED)
    needed = 0
    for signs, multipliers in zip(proof.signs, proof.multipliers, strict=True):
        if _holds(claim, signs, multipliers, DOUBLE):
            continue
        for bits in _PRECISIONS if balls else ():
            with precision(bits):
                if _holds(claim, signs, multipliers, BALLS):
                    needed = max(needed, bits)
                    break
        else:
            return verdict(Decision.NOT_PROVED)
    return verdict(Decision.PROVED, f"{needed} bits" if needed else "double")


def log_norm_at(claim: LogNormClaim, slopes: np.ndarray, vector: np.ndarray) -> float:
    """A proved lower bound of mu(J(D)) at these slopes: the Rayleigh quotient of `vector`, rounded downwards.

    **Raises:** `ValueError` for slopes outside the claim's interval, or a vector that is zero or not finite.
    """
    if not np.all((slopes >= claim.lower) & (slopes <= claim.upper)):
        raise ValueError(f"Slopes must lie in [{claim.lower!r}, {claim.upper!r}]; these reach from "
                         f"{float(np.min(slopes))!r} to {float(np.max(slopes))!r}.")
    if not np.all(np.isfinite(vector)) or not np.any(vector):
        raise ValueError("`vector` must be finite and not zero.")
    with precision(_PRECISIONS[0]):
        x = BALLS.exact(vector[:, None])
        y = BALLS.diagonal(slopes) * (BALLS.exact(claim.inputs) * x)
        left = x if claim.outputs is None else BALLS.exact(claim.outputs.T) * x
        total = (left.transpose() * y)[0, 0]
        if claim.linear is not None:
            total += (x.transpose() * (BALLS.exact(claim.linear) * x))[0, 0]
        return lower(total / (x.transpose() * x)[0, 0])


def _fits(claim: LogNormClaim, proof: LogNormProof) -> bool:
    k = claim.inputs.shape[0]
    signs, multipliers = proof.signs, proof.multipliers
    if signs.ndim != 2 or signs.shape[1] != k or multipliers.shape != signs.shape or multipliers.dtype != np.float64:
        return False
    idle = ~np.any(claim.inputs != 0, axis=1) | (claim.lower == claim.upper)
    if claim.outputs is not None:
        idle |= ~np.any(claim.outputs != 0, axis=0)
    needed = (signs == 0) & ~idle
    finite = np.all(np.isfinite(multipliers)) and np.all(multipliers[needed] > 0)
    return bool(np.all(np.isin(signs, (-1, 0, 1))) and finite)


def _holds(claim: LogNormClaim, signs: np.ndarray, multipliers: np.ndarray, arithmetic: Matrices[M]) -> bool:
    """Whether c I - sym(B + E diag(d^) A) - sum over free i is shown positive semidefinite."""
    k, n = claim.inputs.shape
    # Neurons without multiplier are fixed here, or their slope makes no difference; the centre is as good as any.
    free = (signs == 0) & (multipliers > 0)
    ends = np.where(signs > 0, claim.upper, np.where(signs < 0, claim.lower, 0.0))
    slopes = arithmetic.diagonal(ends)
    centres = np.where(signs == 0, 1.0, 0.0)
    for end in (claim.lower, claim.upper):  # their sum may round, so each enters by itself
        slopes = slopes + arithmetic.scaled(arithmetic.scaled(arithmetic.diagonal(centres), end), 0.5)
    a = arithmetic.exact(claim.inputs)
    jacobian = slopes * a
    if claim.outputs is not None:
        jacobian = arithmetic.exact(claim.outputs) * jacobian
    if claim.linear is not None:
        jacobian = jacobian + arithmetic.exact(claim.linear)
    matrix = arithmetic.scaled(jacobian + jacobian.transpose(), -0.5) + arithmetic.diagonal(np.full(n, claim.level))
    chosen = np.flatnonzero(free)
    if len(chosen):
        rows = arithmetic.exact(claim.inputs[chosen])
        columns = arithmetic.exact((np.eye(k) if claim.outputs is None else claim.outputs)[:, chosen])
        lam = multipliers[chosen]
        matrix = matrix - rows.transpose() * (arithmetic.diagonal(lam) * rows)
        width = _width_above(claim)
        matrix = matrix - columns * (arithmetic.inverse_diagonal(width, 16.0, lam) * columns.transpose())
    return arithmetic.semidefinite({(0, 0): matrix}, 1)


def _width_above(claim: LogNormClaim) -> float:
    """A float64 that is at least upper - lower: twice the radius."""
    return math.nextafter(claim.upper - claim.lower, math.inf)


def _symmetries_hold(claim: LogNormClaim, symmetries: Symmetries) -> bool:
    """Whether each signed permutation leaves A and B exactly as they are, and takes the boxes left out upward."""
    k = claim.inputs.shape[0]
    permutations, signs, left_out = symmetries.permutations, symmetries.signs, symmetries.left_out
    if claim.outputs is not None or permutations.ndim != 2 or permutations.shape[1] != k:
        return False
    if not all(np.issubdtype(array.dtype, np.integer) for array in (permutations, symmetries.by)):
        return False
    if signs.shape != permutations.shape or left_out.ndim != 2 or left_out.shape[1] != k:
        return False
    if symmetries.by.shape != (len(left_out),) or not np.all(np.isin(left_out, (-1, 0, 1))):
        return False
    if not np.all(np.isin(symmetries.by, np.arange(len(permutations)))) or not np.all(np.isin(signs, (-1, 1))):
        return False
    matrices = [claim.inputs] if claim.linear is None else [claim.inputs, claim.linear]
    for pi, s in zip(permutations, signs, strict=True):
        if not np.array_equal(np.sort(pi), np.arange(k)):
            return False
        if not all(np.array_equal(m[np.ix_(pi, pi)] * np.outer(s, s), m) for m in matrices):
            return False
    return all(_raised(box, permutations[which]) for box, which in zip(left_out, symmetries.by, strict=True))


def _raised(box: np.ndarray, permutation: np.ndarray) -> bool:
    """Whether permuting makes every pattern p of the box lexicographically larger: p[permutation] > p.

    At the first position in question, patterns for which the image is larger there are done with; for the rest the two
    must agree, which fixes a free position, or is no restriction.
    """
    known = box.astype(np.int8)
    for position, source in enumerate(permutation):
        here, image = known[position], known[source]
        if source == position or (here == image and here != 0):
            continue
        if here == -1 and image == 1:
            return True
        if here == 0 and image == 1:  # where here is -1 the image is larger
            known[position] = 1
        elif here == -1 and image == 0:
            known[source] = -1
        else:
            return False
    return False
