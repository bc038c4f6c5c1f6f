r"""Alternating ascent over slopes with restarts and a search by single flips: lower bounds of the worst logarithmic
norm.

x^T J(D) x is maximised over D at a vertex, D_ii = upper if (e_i^T x)(a_i^T x) > 0 and lower else; over x by the top
eigenvector. Taking turns, mu strictly increases until neither changes: finitely many steps, as there are finitely many
vertices. All starts run as one batch.

A flip moves one slope to its other end. It changes sym J by a matrix of rank two, so the secular equation tells for
*all* flips at once which of them raise mu, from one eigenvalue decomposition.
"""

import dataclasses
import math
import time

import numpy as np

from .logarithmic_norm import DENSE_ORDER, Array, SlopeField, top_pair
from .sdp import LogNormUpperBound
from .slope_gradient_flow import LogNormLowerBound

_GAIN = 1e-12
_BISECTIONS = 50
# Entries of one batch of matrices; larger batches are cut.
_BATCH_ENTRIES = 4_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlopeAscent:
    """Alternating ascent from several starts, then single flips on the best.

    **Arguments:** `restarts`: the middle of the box, its upper end, its lower end, then random vertices; `roundings`:
    starts drawn from a semidefinite bound's X, if one is given; `flips`: whether to search by flips; `seed`: of all
    choices; `sweeps`: the most of one ascent; `time_limit`: seconds, looked at after every batch and every flip.
    """

    restarts: int = 20
    roundings: int = 20
    flips: bool = True
    seed: int = 0
    sweeps: int = 1000
    time_limit: float = math.inf

    def __post_init__(self) -> None:
        for name in ("restarts", "sweeps"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not self.time_limit > 0:
            raise ValueError(f"`time_limit` must be positive seconds, got {self.time_limit!r}.")

    def solve(self, field: SlopeField, bound: LogNormUpperBound | None = None) -> LogNormLowerBound:
        """The best vertex found. `bound`: a semidefinite bound whose X is rounded for more starts."""
        rng, deadline = np.random.default_rng(self.seed), time.perf_counter() + self.time_limit
        starts = np.where(rng.random((self.restarts, field.neurons)) < 0.5, field.lower, field.upper)
        constant = np.array([field.centre, field.upper, field.lower])[: self.restarts]
        starts[: len(constant)] = constant[:, None]
        if bound is not None:
            starts = np.concatenate([starts, rounded_slopes(field, bound.density, self.roundings, rng)])
        cut = max(1, _BATCH_ENTRIES // max(1, field.size**2))
        best = alternate(field, starts[:cut], self.sweeps)
        for k in range(cut, len(starts), cut):
            if time.perf_counter() > deadline:
                break
            best = max(best, alternate(field, starts[k : k + cut], self.sweeps), key=lambda found: found.value)
        while self.flips and time.perf_counter() < deadline:
            flipped = best_flip(field, best.slopes)
            if flipped is None:
                break
            improved = alternate(field, flipped[None], self.sweeps)
            if improved.value <= best.value + _GAIN * max(1.0, abs(best.value)):
                break
            history = (*best.history, improved.value)
            best = dataclasses.replace(improved, history=history, iterations=best.iterations + improved.iterations)
        return best


def rounded_slopes(field: SlopeField, density: Array, count: int, rng: np.random.Generator) -> Array:
    """Best responses to vectors drawn from N(0, X), the top eigenvector of X first; shape (count, k)."""
    values, vectors = np.linalg.eigh(density)
    draws = rng.standard_normal((count, field.size)) * np.sqrt(np.maximum(values, 0)) @ vectors.T
    draws[:1] = vectors[:, -1]
    return field.best_response(draws)


def alternate(field: SlopeField, starts: Array, sweeps: int = 1000) -> LogNormLowerBound:
    """Alternating ascent from slopes of shape (batch, k); the best vertex reached by any member."""
    slopes = starts
    # Lanczos may meet a start vector orthogonal to the top eigenvector; a random one is not.
    near = np.random.default_rng(0).standard_normal((len(starts), field.size))
    values, vectors = _top(field, slopes, near)
    history = [float(values.max())]
    for _ in range(sweeps):
        trial = field.best_response(vectors)
        moving = np.any(trial != slopes, axis=1)
        if not np.any(moving):
            break
        reached, directions = _top(field, trial[moving], vectors[moving])
        # A start inside the box may lie above its best vertex only by rounding; a cycle of ties would never end.
        better = reached > values[moving] + _GAIN * np.maximum(1, np.abs(values[moving]))
        if not np.any(better):
            break
        chosen = np.flatnonzero(moving)[better]
        slopes = slopes.copy()
        slopes[chosen], values[chosen], vectors[chosen] = trial[chosen], reached[better], directions[better]
        history.append(float(values.max()))
    best = int(values.argmax())
    return LogNormLowerBound(float(values[best]), slopes[best], vectors[best], len(history) - 1, tuple(history))


def _top(field: SlopeField, slopes: Array, near: Array | None = None) -> tuple[Array, Array]:
    """Top eigenvalues and eigenvectors of a batch; `near`: vectors to start Lanczos from, for large fields."""
    if field.size > DENSE_ORDER and near is not None:
        pairs = [top_pair(field, d, start) for d, start in zip(slopes, near, strict=True)]
        return np.array([pair.value for pair in pairs]), np.array([pair.vector for pair in pairs])
    values, vectors = np.linalg.eigh(field.symmetric(slopes))
    return values[:, -1].copy(), vectors[:, :, -1].copy()


def best_flip(field: SlopeField, slopes: Array) -> Array | None:
    r"""The slopes after the single flip that raises mu most; None if none raises it.

    With sym J = V diag(w) V^T, p = V^T e_i, q = V^T a_i and a change delta of d_i, the new matrix exceeds lambda >
    w_max if and only if (1 - delta beta / 2)^2 < delta^2 alpha gamma / 4, where alpha, beta and gamma are the sums
    over j of p_j^2, p_j q_j and q_j^2 over lambda - w_j: an update of rank two has one positive eigenvalue.
    """
    values, vectors = np.linalg.eigh(field.symmetric(slopes))
    p, q = field.through_outputs(vectors.T).T, field.inputs @ vectors
    other = np.where(slopes > field.centre, field.lower, field.upper)
    change = other - slopes

    def exceeds(members: np.ndarray, level: Array) -> np.ndarray:
        inverse, a, b = 1 / (level[:, None] - values), p[members], q[members]
        alpha, beta, gamma = (np.sum(product * inverse, axis=1) for product in (a * a, a * b, b * b))
        delta = change[members]
        return np.asarray((1 - delta * beta / 2) ** 2 < delta**2 * alpha * gamma / 4)

    size = max(1.0, float(np.max(np.abs(values), initial=0.0)))
    everyone = np.arange(field.neurons)
    raising = everyone[exceeds(everyone, np.full(field.neurons, values[-1] + _GAIN * size))]
    if not len(raising):
        return None
    low = np.full(len(raising), values[-1] + _GAIN * size)
    high = low + (np.abs(change) * np.linalg.norm(p, axis=1) * np.linalg.norm(q, axis=1))[raising]
    for _ in range(_BISECTIONS):
        # Whoever cannot reach what another surely does is out.
        kept = high >= low.max()
        raising, low, high = raising[kept], low[kept], high[kept]
        middle = (low + high) / 2
        above = exceeds(raising, middle)
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    chosen = int(raising[np.argmax(low)])
    flipped = slopes.copy()
    flipped[chosen] = other[chosen]  # the sum of slope and change may round to a number outside the interval
    return flipped
