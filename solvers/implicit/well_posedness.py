r"""Conditions for x = Phi(A x + c) to have exactly one solution for all c and all Phi with slopes in [0, 1], beside
each other; and witnesses that it has not.

    spectral radius of |A| < 1  =>  least mu_eta(A) < 1  =>  L (I - A) + (I - A)^T L > 0 for a diagonal L > 0,

and I - A + (I - A)^T > 0, the monotone condition, is the last one with L = I (El Ghaoui et al. 2021; arXiv 2106.03194;
2010.01732; 2006.08591). Each is sufficient, none necessary. That a condition fails says nothing of well-posedness.

A witness is a z != 0 with z = D A z for some D within the slopes: with the linear Phi = D and c = 0, z and 0 are two
solutions. For slopes [0, 1] also ReLU has two for one c: max(z, 0) and max(-z, 0).
"""

import dataclasses
import enum
import itertools
from fractions import Fraction

import numpy as np

from .diagonal_metric import diagonal_stability, metric_matrix
from .weighted_log_norm import Array, SlopeBox, least_log_norm, square

# All vertices are looked at up to here.
_ENUMERATED = 10
# How far vertices are moved inside, so that rounding leaves z = D A z solvable with slopes within the box.
_INSIDE = 1e-6


class Condition(enum.Enum):
    """A sufficient condition; the value is what is compared with zero."""

    ABSOLUTE = "1 - spectral radius of |A|"
    LOG_NORM = "1 - least mu_eta(A)"
    MONOTONE = "least eigenvalue of I - A + (I - A)^T"
    DIAGONAL = "largest least eigenvalue of L (I - A) + (I - A)^T L over traces n"


@dataclasses.dataclass(frozen=True, eq=False)
class Finding:
    """One condition on one A, in floating point.

    **Attributes:** `margin`: the condition holds if it is positive; `reached`: no certificate of this kind has a larger
    margin than this; `certificate`: eta or the diagonal of L, None for spectral radius and monotone condition.
    """

    condition: Condition
    margin: float
    reached: float
    certificate: Array | None = None

    @property
    def holds(self) -> bool:
        return self.margin > 0


def conditions(A: Array) -> tuple[Finding, ...]:
    """All four conditions for slopes in [0, 1], with certificates; rows of A are to be scaled by the largest slopes."""
    A = square(A)
    absolute = 1 - float(np.max(np.abs(np.linalg.eigvals(np.abs(A)))))
    log_norm, diagonal = least_log_norm(A), diagonal_stability(A)
    monotone = float(np.linalg.eigvalsh(metric_matrix(A, np.ones(len(A))))[0])
    return (
        Finding(Condition.ABSOLUTE, absolute, absolute),
        Finding(Condition.LOG_NORM, 1 - log_norm.value, 1 - log_norm.below, log_norm.weights),
        Finding(Condition.MONOTONE, monotone, monotone),
        Finding(Condition.DIAGONAL, diagonal.margin, diagonal.most, diagonal.metric),
    )


def is_witness(A: Array, z: Array, slopes: SlopeBox) -> bool:
    """Whether z != 0 and z = D A z for some D within the slopes, exactly: (z - lower v) (z - upper v) <= 0, v = A z."""
    A, z = square(A), np.asarray(z, dtype=np.float64)
    if z.shape != (len(A),) or slopes.neurons != len(A) or not np.all(np.isfinite(z)):
        raise ValueError(f"A witness for {len(A)} neurons is as many finite numbers, got the shape {z.shape}.")
    if not np.any(z):
        return False
    exact = [Fraction(value) for value in z.tolist()]
    for row, own, lower, upper in zip(A.tolist(), exact, slopes.lower.tolist(), slopes.upper.tolist(), strict=True):
        v = sum((Fraction(a) * x for a, x in zip(row, exact, strict=True) if a and x), Fraction(0))
        if (own - Fraction(lower) * v) * (own - Fraction(upper) * v) > 0:
            return False
    return True


def find_witness(A: Array, slopes: SlopeBox | None = None, seed: int = 0, tries: int = 20) -> Array | None:
    """A z that :func:`is_witness` confirms, or None: then nothing is known.

    det(I - D A) is affine in each slope. A sign change between two D leaves a singular one on the segment. All vertices
    are tried for few neurons, else descents that move one slope at a time from random vertices.
    """
    A = square(A)
    n = len(A)
    slopes = SlopeBox.uniform(n) if slopes is None else slopes
    if slopes.neurons != n:
        raise ValueError(f"A has {n} rows and the slopes are of {slopes.neurons} neurons.")
    width = slopes.upper - slopes.lower
    low, high = slopes.lower + _INSIDE * width, slopes.upper - _INSIDE * width
    reference, sign = low, _sign(A, low)
    if n <= _ENUMERATED:
        for ends in itertools.product(*zip(low, high, strict=True)):
            found = _between(A, reference, sign, np.array(ends), slopes)
            if found is not None:
                return found
        return None
    rng = np.random.default_rng(seed)
    for k in range(tries):
        d = high if k == 0 else np.where(rng.random(n) < rng.random(), high, low)
        for _ in range(2 * n):
            found = _between(A, reference, sign, d, slopes)
            if found is not None:
                return found
            other = low + high - d
            # What det(I - D A) is multiplied with when slope i goes to its other end.
            ratios = 1 - (other - d) * np.diagonal(A @ np.linalg.inv(np.eye(n) - d[:, None] * A))
            i = int(np.argmin(ratios))
            if ratios[i] >= 1:
                break
            d = np.where(np.arange(n) == i, other, d)
    return None


def _sign(A: Array, d: Array) -> float:
    return float(np.linalg.slogdet(np.eye(len(A)) - d[:, None] * A)[0])


def _between(A: Array, start: Array, sign: float, end: Array, slopes: SlopeBox) -> Array | None:
    """A witness from the segment, if the determinant has another sign at its end."""
    if sign * _sign(A, end) > 0:
        return None
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        same = sign * _sign(A, start + middle * (end - start)) > 0
        low, high = (middle, high) if same else (low, middle)
    d = start + high * (end - start)
    z = np.linalg.svd(np.eye(len(A)) - d[:, None] * A)[2][-1]
    for candidate in (z, np.where(np.abs(z) > 1e-12, z, 0.0)):
        if is_witness(A, candidate, slopes):
            return np.asarray(candidate)
    return None
