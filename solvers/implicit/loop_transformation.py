r"""Slopes [lower, upper] of any kind as slopes [0, 1] of another implicit network with the same gains.

Let dx = D dv, dv = A dx + B du, dy = C dx. With w = (dx - lower dv) and v = (upper - lower) dv the slopes from v to w
lie in [0, 1], and

    v = A' w + B' du,   dy = C' w + D' du,   G = (I - A diag(lower))^-1,
    A' = diag(upper - lower) G A,   B' = diag(upper - lower) G B,
    C' = C (I + diag(lower) G A),   D' = C diag(lower) G B.

As (dx - lower dv) (upper dv - dx) = w (v - w), multipliers of one are multipliers of the other. Neurons whose interval
is a point have w = 0 and are left out.
"""

import dataclasses

import numpy as np

from .weighted_log_norm import Array, SlopeBox, square

# Relative: what finite multipliers of neurons with one slope lose is of the size of its inverse.
_LARGE = 1e9


@dataclasses.dataclass(frozen=True, eq=False)
class Loop:
    """w = Delta v with slopes Delta in [0, 1], v = A w + B u, y = C w + D u, for increments.

    **Attributes:** `kept`: which neurons these are, booleans of shape (n,).
    """

    A: Array
    B: Array
    C: Array
    D: Array
    kept: np.ndarray

    def full_metric(self, metric: Array) -> Array:
        """Multipliers of all neurons: large ones where w = 0 is all there is to say."""
        result = np.empty(len(self.kept))
        result[self.kept] = metric
        size = 1 + np.max(metric, initial=0.0) + float(np.max(np.abs(self.C), initial=0.0)) ** 2
        result[~self.kept] = _LARGE * size
        return result


def unit_slopes(A: Array, B: Array, C: Array, slopes: SlopeBox | None = None) -> Loop:
    """The network with slopes in [0, 1]; without `slopes` it has them already.

    **Raises:** `ValueError` for shapes that do not fit, or if I - A diag(lower) is singular: the network is not
    well-posed then.
    """
    A, B, C = square(A), np.asarray(B, dtype=np.float64), np.asarray(C, dtype=np.float64)
    n = len(A)
    if B.ndim != 2 or C.ndim != 2 or len(B) != n or C.shape[1] != n:
        raise ValueError(f"B and C must have the shapes ({n}, m) and (q, {n}), got {B.shape} and {C.shape}.")
    if slopes is None:
        return Loop(A, B, C, np.zeros((len(C), B.shape[1])), np.ones(n, dtype=bool))
    if slopes.neurons != n:
        raise ValueError(f"A has {n} rows and the slopes are of {slopes.neurons} neurons.")
    try:
        closed = np.linalg.solve(np.eye(n) - A * slopes.lower, np.hstack([A, B]))
    except np.linalg.LinAlgError as error:
        raise ValueError("I - A D is singular for the least slopes D: the network is not well-posed.") from error
    low, width = slopes.lower[:, None] * closed, (slopes.upper - slopes.lower)[:, None] * closed
    kept = slopes.upper > slopes.lower
    return Loop(width[kept][:, :n][:, kept], width[kept][:, n:], (C + C @ low[:, :n])[:, kept], C @ low[:, n:], kept)
