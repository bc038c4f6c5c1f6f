r"""Pairs of inputs of an implicit network that show how large a gain is at least.

Where Phi has slopes D, the gain is that of J = C (I - D A)^-1 D B. Three searches hand on to each other, each for many
starts at once:

1. Slopes: J is fractional linear in each slope, and moving slope i by s adds s / (1 - s g_i) C p_i r_i^T with
   p_i = (I - D A)^-1 e_i, g_i = a_i^T p_i and r_i^T = (row i of A (I - D A)^-1 D + I) B. From random vertices the best
   move is made until none gains. If B has full row rank, some u has any v = A x + B u + b, so these slopes occur.
2. Centres: the gain of J at random inputs and at those of the first search.
3. Pairs u +- w d / 2 of several widths w: the direction d goes to the maximiser of the gradient, which is the power
   method where the network is linear; the centre follows the gradient, by steps that are halved where they lose.

All in floating point.
"""

import dataclasses

import numpy as np

from .network import Equilibria, ImplicitNetwork
from .weighted_log_norm import Array

# The first takes what the centres have; wide pairs leave the piece they start in.
_WIDTHS = (1e-4, 1.0, 0.1, 1e-2, 1e-4)
_TOLERANCE = 1e-11
# Centres whose local gain is evaluated, for each start.
_CANDIDATES = 32
# Where slopes at the ends of their interval are looked for, nearest first but for zero, where ReLU has no slope.
_PLACES = np.append(np.stack([np.geomspace(0.5, 16, 11), -np.geomspace(0.5, 16, 11)], axis=1).ravel(), 0.0)


@dataclasses.dataclass(frozen=True, eq=False)
class GainWitness:
    """Two inputs, shape (m,), and the gain |y - y'| / |u - u'| they show, in floating point."""

    u: Array
    other: Array
    gain: float


def gain_witness(equilibria: Equilibria, order: float, *, starts: int = 8, steps: int = 20, spread: float = 1.0,
                 seed: int = 0) -> GainWitness:
    """The best pair found, in the norm of `order` 2 or inf on both sides.

    **Arguments:** `starts`: of each search; `steps`: of the last one, for each width; `spread`: the standard deviation
    of random centres, in units of which widths are.

    **Raises:** `ValueError` for another order; `NotConverged` as the equilibria do.
    """
    require_order(order)
    rng = np.random.default_rng(seed)
    network = equilibria.network
    m = network.B.shape[1]
    centres = [spread * scale * rng.standard_normal((starts * _CANDIDATES // 4, m)) for scale in (0.1, 0.5, 1.0, 3.0)]
    centres.append(_inputs_of_steep_slopes(network, order, starts, rng))
    candidates = np.vstack(centres)
    jacobians = _jacobians(equilibria, candidates)
    chosen = np.argsort(-np.linalg.norm(jacobians, order, axis=(1, 2)))[:starts]
    functionals, directions = _norming(jacobians[chosen], order)
    return _pairs(equilibria, order, candidates[chosen], directions, functionals, spread, steps)


def _inputs_of_steep_slopes(network: ImplicitNetwork, order: float, starts: int, rng: np.random.Generator) -> Array:
    """Inputs, shape (starts, m), whose slopes are as near as least squares come to vertices of large gain."""
    n = len(network.A)
    slopes = network.derivative(np.repeat(_PLACES[:, None], n, axis=1))
    ends = np.stack([np.argmin(slopes, axis=0), np.argmax(slopes, axis=0)])
    flat, steep = np.take_along_axis(slopes, ends, axis=0)
    inverse = np.linalg.pinv(network.B)
    found = []
    for k in range(starts):
        d = _ascend(network, order, np.where(rng.random(n) < 0.5, steep, flat), flat, steep, k % len(network.C))
        v = _PLACES[np.where(d == steep, ends[1], ends[0])][None]
        found.append((v - network.activation(v) @ network.A.T - network.b) @ inverse.T)
    return np.vstack(found)


def _ascend(network: ImplicitNetwork, order: float, d: Array, flat: Array, steep: Array, row: int) -> Array:
    """A vertex from which no single move to the other end of a slope gains, to first order in its rank-one change."""
    A, B, n = network.A, network.B, len(d)
    C = network.C[row : row + 1] if order == np.inf else network.C
    for _ in range(4 * n):
        inverse = np.linalg.inv(np.eye(n) - d[:, None] * A)
        jacobian = C @ (inverse * d) @ B
        left, right = _norming(jacobian[None], order)
        moved = flat + steep - d - d
        towards = B @ right[0]
        answers = (A @ (inverse @ (d * towards)) + towards) * (left[0] @ C @ inverse)
        factor = 1 - moved * np.einsum("ij,ji->i", A, inverse)
        # A pole on the way is not crossed: slopes beyond it are those of no well-posed network.
        gains = np.where(factor > 0, moved * answers / np.maximum(factor, 1e-300), -np.inf)
        i = int(np.argmax(gains))
        if not gains[i] > 1e-9 * float(np.linalg.norm(jacobian, order)):
            break
        d = np.where(np.arange(n) == i, flat + steep - d, d)
    return d


def _jacobians(equilibria: Equilibria, u: Array) -> Array:
    """dy/du at each input, shape (batch, q, m)."""
    q = len(equilibria.network.C)
    x = equilibria.states(u, _TOLERANCE)
    rows = [equilibria.gradients(u, x, np.tile(np.eye(q)[k], (len(u), 1)), _TOLERANCE) for k in range(q)]
    return np.stack(rows, axis=1)


def _norming(jacobians: Array, order: float) -> tuple[Array, Array]:
    """For each J the l and r of norm 1 (l in the dual norm) with l^T J r = |J|, shapes (batch, q) and (batch, m)."""
    if order == np.inf:
        best = np.argmax(np.abs(jacobians).sum(axis=2), axis=1)
        return np.eye(jacobians.shape[1])[best], np.sign(jacobians[np.arange(len(best)), best])
    left, _, right = np.linalg.svd(jacobians, full_matrices=False)
    return left[..., 0], right[:, 0]


def _pairs(equilibria: Equilibria, order: float, centre: Array, direction: Array, functional: Array, spread: float,
           steps: int) -> GainWitness:
    C, starts = equilibria.network.C, len(centre)
    best = GainWitness(centre[0], centre[0] + spread, 0.0)
    for width in [spread * relative for relative in _WIDTHS]:
        length, value = np.full((starts, 1), width), np.full(starts, -np.inf)
        towards, moved = np.zeros_like(centre), centre
        for _ in range(steps):
            ends = np.vstack([moved + width / 2 * direction, moved - width / 2 * direction])
            x = equilibria.states(ends, _TOLERANCE)
            difference = (x[:starts] - x[starts:]) @ C.T
            gains = np.linalg.norm(difference, order, axis=1) / width
            k = int(np.argmax(gains))
            if gains[k] > best.gain:
                best = GainWitness(ends[k], ends[starts + k], float(gains[k]))
            better = (gains > value)[:, None]
            value, centre = np.maximum(value, gains), np.where(better, moved, centre)
            length = np.where(better, 1.5 * length, length / 2)
            if order == 2:
                functional = difference / np.maximum(np.linalg.norm(difference, axis=1, keepdims=True), 1e-300)
            gradient = equilibria.gradients(ends, x, np.vstack([functional, functional]), _TOLERANCE)
            direction = np.where(better, steepest(gradient[:starts] + gradient[starts:], order), direction)
            towards = np.where(better, steepest(gradient[:starts] - gradient[starts:], 2), towards)
            moved = centre + length * towards
    return dataclasses.replace(best, gain=_gain(equilibria, best, order))


def _gain(equilibria: Equilibria, pair: GainWitness, order: float) -> float:
    y = equilibria.outputs(np.stack([pair.u, pair.other]), 1e-12)
    return float(np.linalg.norm(y[0] - y[1], order) / np.linalg.norm(pair.u - pair.other, order))


def steepest(v: Array, order: float) -> Array:
    """The vectors of norm 1 with the largest inner products with the rows of v."""
    if order == np.inf:
        return np.sign(v)
    return np.asarray(v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-300))


def require_order(order: float) -> None:
    """**Raises:** `ValueError` unless it is 2 or inf."""
    if order not in (2, np.inf):
        raise ValueError(f"The order of the norm must be 2 or inf, got {order!r}.")
