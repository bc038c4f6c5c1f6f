r"""The checker for several layers: do multipliers prove mu(D_k A_k ... D_1 A_1) <= c for all slopes in [lower, upper]?

With y_0 = x and y_j = D_j A_j y_{j-1}, every neuron satisfies (y_j - lower v)(upper v - y_j) >= 0 for its v, so

    c |x|^2 - x^T y_k - sum_j (y_j - lower A_j y_{j-1})^T diag(lam_j) (upper A_j y_{j-1} - y_j) >= 0

for all x, y_1, .., y_k, with lam_j >= 0, implies x^T J x <= c |x|^2. It knows no solver.
"""

import dataclasses
import itertools
import math
import time

import numpy as np

from ..balls import lower, precision
from ..enclosed_matrix import BALLS, DOUBLE, M, Matrices
from .check import Decision, LogNormVerdict

_PRECISIONS = (128, 256)


@dataclasses.dataclass(frozen=True, eq=False)
class MultilayerClaim:
    """mu(D_k A_k ... D_1 A_1) <= level for all slopes in [lower, upper]; `weights`: A_1, .., A_k, float64 and exact."""

    weights: tuple[np.ndarray, ...]
    lower: float
    upper: float
    level: float

    @property
    def well_formed(self) -> bool:
        """Whether shapes fit, numbers are finite float64, and the interval is not empty."""
        shapes = [weight.shape for weight in self.weights]
        return (
            len(shapes) > 0
            and all(len(shape) == 2 for shape in shapes)
            and all(after[1] == before[0] for before, after in itertools.pairwise(shapes))
            and shapes[0][1] == shapes[-1][0]
            and all(weight.dtype == np.float64 and np.all(np.isfinite(weight)) for weight in self.weights)
            and all(isinstance(value, float) for value in (self.lower, self.upper, self.level))
            and -math.inf < self.lower <= self.upper < math.inf
            and math.isfinite(self.level)
        )


def check_multilayer(claim: MultilayerClaim, multipliers: tuple[np.ndarray, ...], balls: bool = True) -> LogNormVerdict:
    """Proves the claim by the multipliers, one array per layer, or says why they do not.

    **Arguments:** `balls`: whether to go on in ball arithmetic where double precision does not decide.
    """
    begin = time.perf_counter()

    def verdict(decision: Decision, arithmetic: str = "") -> LogNormVerdict:
        return LogNormVerdict(decision, arithmetic, time.perf_counter() - begin)

    fits = claim.well_formed and [lam.shape for lam in multipliers] == [(len(weight),) for weight in claim.weights]
    if not fits or not all(np.all(np.isfinite(lam)) and np.all(lam >= 0) for lam in multipliers):
        return verdict(Decision.MALFORMED)
    if _holds(claim, multipliers, DOUBLE):
        return verdict(Decision.PROVED, "double")
    for bits in _PRECISIONS if balls else ():
        with precision(bits):
            if _holds(claim, multipliers, BALLS):
                return verdict(Decision.PROVED, f"{bits} bits")
    return verdict(Decision.NOT_PROVED)


def multilayer_norm_at(claim: MultilayerClaim, slopes: tuple[np.ndarray, ...], vector: np.ndarray) -> float:
    """A proved lower bound of mu(J) at these slopes: the Rayleigh quotient of `vector`, rounded downwards.

    **Raises:** `ValueError` for slopes outside the claim's interval, or a vector that is zero or not finite.
    """
    if not all(np.all((d >= claim.lower) & (d <= claim.upper)) for d in slopes):
        raise ValueError(f"Slopes must lie in [{claim.lower!r}, {claim.upper!r}].")
    if not np.all(np.isfinite(vector)) or not np.any(vector):
        raise ValueError("`vector` must be finite and not zero.")
    with precision(_PRECISIONS[0]):
        x = BALLS.exact(vector[:, None])
        y = x
        for weight, d in zip(claim.weights, slopes, strict=True):
            y = BALLS.diagonal(d) * (BALLS.exact(weight) * y)
        return lower((x.transpose() * y)[0, 0] / (x.transpose() * x)[0, 0])


def _holds(claim: MultilayerClaim, multipliers: tuple[np.ndarray, ...], arithmetic: Matrices[M]) -> bool:
    count, n = len(claim.weights), claim.weights[0].shape[1]
    blocks: dict[tuple[int, int], M] = {(0, 0): arithmetic.diagonal(np.full(n, claim.level))}

    def add(i: int, j: int, value: M) -> None:
        blocks[i, j] = blocks[i, j] + value if (i, j) in blocks else value

    for j, (weight, lam) in enumerate(zip(claim.weights, multipliers, strict=True), start=1):
        a, weights = arithmetic.exact(weight), arithmetic.diagonal(lam)
        weighted = weights * a
        add(j, j, weights)
        for end in (claim.lower, claim.upper):
            add(j, j - 1, arithmetic.scaled(arithmetic.scaled(weighted, end), -0.5))
        add(j - 1, j - 1, arithmetic.scaled(arithmetic.scaled(a.transpose() * weighted, claim.lower), claim.upper))
    add(count, 0, arithmetic.scaled(arithmetic.exact(np.eye(n)), -0.5))
    return arithmetic.semidefinite(blocks, count + 1)
