r"""Proved lower bounds of growth: an enclosure of rho(J(D_m) .. J(D_1))^(1/m), J(D) = I + h diag(d) A, in balls.

It bounds from below the rate that any norm can show for all slopes of the box; above 1, none shows contraction, and
where inputs over time can bring about these slopes in turn, two trajectories move apart. For a constant input it
refutes stability only if m = 1 and the slopes are those at the equilibrium: for tanh these are 1, since A x + B u + C =
0 there.
"""

import numpy as np
from flint import acb, acb_mat, arb

from ..balls import lower, precision
from ..enclosed_matrix import BALLS
from .conditions import SlopeBox

_PRECISIONS = (128, 256, 512)
# Enclosing all eigenvalues takes n^3 operations of high precision many times over; above this order a trace does.
_MOST_EIGENVALUES = 40
_SQUARINGS = 12


def proved_growth(weights: np.ndarray, box: SlopeBox, patterns: np.ndarray) -> float:
    """The largest float64 found not above the growth of these patterns, shape (m, n); the last is applied last.

    0 if the eigenvalues could not be enclosed.

    **Raises:** `ValueError` for shapes that do not fit, or slopes outside the box.
    """
    n = len(weights)
    if weights.shape != (n, n) or patterns.ndim != 2 or patterns.shape[1] != n or not len(patterns):
        raise ValueError(f"The patterns need the shape (m, {n}), m > 0, for A of the shape {weights.shape}; "
                         f"got {patterns.shape}.")
    if not np.all((patterns >= box.lower) & (patterns <= box.upper)):
        raise ValueError(f"Slopes must lie in [{box.lower!r}, {box.upper!r}]; these reach from "
                         f"{float(np.min(patterns))!r} to {float(np.max(patterns))!r}.")
    if not patterns.any():
        return 1.0
    if n > _MOST_EIGENVALUES:
        return _growth_of_traces(weights, box, patterns)
    for bits in _PRECISIONS:
        with precision(bits):
            one, a = BALLS.exact(np.eye(n)), BALLS.exact(weights)
            product = one
            for slopes in patterns:
                product = (one + BALLS.scaled(BALLS.diagonal(slopes) * a, box.step)) * product
            try:
                # With `multiple`, the balls are proved to hold all eigenvalues with their multiplicities.
                values: list[acb] = acb_mat(product).eig(multiple=True)
            except ValueError:  # not enclosed at this precision
                continue
            modulus = max(lower(abs(value)) for value in values)
            return lower(arb(max(modulus, 0.0)).root(len(patterns)))
    return 0.0


def _growth_of_traces(weights: np.ndarray, box: SlopeBox, patterns: np.ndarray) -> float:
    """max over k = 2^j of (|tr M^k| / n)^(1/k), M the product: n rho(M)^k is at least |the sum of k-th powers|."""
    n, best = len(weights), 0.0
    with precision(_PRECISIONS[0]):
        one, a = BALLS.exact(np.eye(n)), BALLS.exact(weights)
        power = one
        for slopes in patterns:
            power = (one + BALLS.scaled(BALLS.diagonal(slopes) * a, box.step)) * power
        for j in range(_SQUARINGS):
            trace = abs(sum((power[i, i] for i in range(n)), arb(0)))
            if lower(trace) > 0:
                best = max(best, lower((trace / n).root(2**j * len(patterns))))
            power = power * power
    return best
