r"""The semidefinite bound on the worst logarithmic norm over a box of slopes, by a barrier method on many boxes at
once.

For J(D) = B + sum_i d_i e_i a_i^T with d_i in [r0 - r, r0 + r] and any lam_i > 0, completing the square gives

    sym J(D) <= M(lam) = nominal + sum_i ( lam_i a_i a_i^T + r^2 / (4 lam_i) e_i e_i^T )      for all D in the box,

so lambda_max(M(lam)) bounds mu(J(D)), whatever lam is: the n x n form with one scalar per neuron. The least such bound
is that of the S-procedure; its dual is max <nominal, X> + r sum_i sqrt(e_i^T X e_i a_i^T X a_i) over X >= 0 of trace
1.

A box is a pattern of signs: 0 leaves d_i free, +1 and -1 fix it at an end, where e_i a_i^T enters exactly.

With y = log lam, M is convex in y. Minimised is, for a decreasing tau > 0,

    f(y) = min_c  c - tau log det(c I - M(y)),        lambda_max(M) <= f(y) up to n tau (1 + |log tau|),

by Newton's method. One eigenvalue decomposition of M gives c, value, gradient and Hessian; every y is feasible, so
nothing has to be restored; X = tau (c I - M)^{-1} has trace 1, hence is feasible for the dual: each iterate
comes with a bound from both sides.
"""

import dataclasses
import math
import time

import numpy as np

from .logarithmic_norm import Array, SlopeField

_SHRINK = 0.1
_ARMIJO = 0.1
# Changes of f below this are rounding, for fields of size about one.
_NOISE = 1e-13
_LONGEST_MOVE = 2.0
_SHORTEST_STEP = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelaxationGoals:
    """When one box is done: at a gap of `tolerance` between its bounds, or when its fate against `target` is settled.

    **Attributes:** `target`: a box whose bound is at most this is done; one whose dual bound exceeds it cannot get
    there and is done after `polish` more iterations, which improve its X; `iterations`: the most; `deadline`: on the
    clock `time.perf_counter`; `start`: the first n tau.
    """

    tolerance: float
    target: float = -math.inf
    polish: int = 10**9
    iterations: int = 150
    deadline: float = math.inf
    start: float = 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class Relaxed:
    """The bounds of a batch of boxes.

    **Attributes:** `upper`: lambda_max(M) at `log_multipliers`, shape (b,); `lower`: the best dual bound; `densities`:
    the last X of each box, shape (b, n, n); `iterations`: the most any box took.
    """

    upper: Array
    lower: Array
    log_multipliers: Array
    densities: Array
    iterations: int


def starting_multipliers(field: SlopeField) -> Array:
    """log lam for lam_i = r |e_i| / (2 |a_i|), the closed form that is best when X is the identity; 0 where idle."""
    a = np.linalg.norm(field.inputs, axis=1)
    e = np.linalg.norm(field.dense_outputs, axis=0)
    with np.errstate(divide="ignore"):
        return np.where(field.acting, np.log(field.radius * e / 2) - np.log(np.where(field.acting, a, 1)), 0.0)


def relax(field: SlopeField, signs: np.ndarray, log_multipliers: Array, goals: RelaxationGoals) -> Relaxed:
    """Bounds mu(J(D)) over each box of the batch; the field should be normalised and its radius positive.

    **Arguments:** `signs`: patterns, shape (b, k); `log_multipliers`: where to start, same shape, used where free.
    """
    batch = _Batch(field, signs, log_multipliers)
    count, n = len(signs), field.size
    upper, lower = np.full(count, np.inf), np.full(count, -np.inf)
    best, densities = log_multipliers.copy(), np.zeros((count, n, n))
    settled = np.zeros(count, dtype=np.int64)
    tau, members, iteration = goals.start / n, np.arange(count), 0
    batch.evaluate(batch.y, tau).keep(batch)
    while True:
        top = batch.values[:, -1]
        better = top < upper[members]
        upper[members[better]], best[members[better]] = top[better], batch.y[better]
        batch.differentiate(tau)
        densities[members] = batch.x
        lower[members] = np.maximum(lower[members], batch.dual)
        settled[members] += lower[members] > goals.target
        gap = upper[members] - lower[members]
        open_ = (upper[members] > goals.target) & (settled[members] <= goals.polish) & (gap > goals.tolerance)
        if not np.any(open_) or iteration >= goals.iterations or time.perf_counter() > goals.deadline:
            break
        if not np.all(open_):
            members = members[open_]
            batch.restrict(open_)
        decrement, moved = batch.step(tau)
        if np.median(decrement) < 1 or not moved:
            if not moved and tau <= 0.3 * goals.tolerance / n:
                break
            tau = max(_SHRINK * tau, 0.3 * goals.tolerance / n)
            batch.recentre(tau)
        iteration += 1
    return Relaxed(upper, lower, best, densities, iteration)


@dataclasses.dataclass(eq=False)
class _Evaluation:
    """f and what comes with it at one y."""

    y: Array
    f: Array
    values: Array
    vectors: Array
    slack: Array

    def keep(self, batch: "_Batch") -> None:
        for name in ("y", "f", "values", "vectors", "slack"):
            setattr(batch, name, getattr(self, name))


class _Batch:
    """The boxes still under way: patterns, iterates, derivatives."""

    y: Array
    f: Array
    values: Array
    vectors: Array
    slack: Array
    x: Array
    dual: Array

    def __init__(self, field: SlopeField, signs: np.ndarray, log_multipliers: Array):
        self.field, self.y = field, log_multipliers.copy()
        self.free = (signs == 0) & field.acting
        self.constant = field.nominal + _symmetric(self._weighted(field.radius * signs))

    def _weighted(self, weights: Array) -> Array:
        """E diag(weights) A for each row of weights."""
        product = weights[:, :, None] * self.field.inputs
        return product if self.field.outputs is None else self.field.outputs @ product

    def restrict(self, chosen: np.ndarray) -> None:
        for name in ("free", "constant", "y", "f", "values", "vectors", "slack", "x", "dual", "g", "hessian"):
            setattr(self, name, getattr(self, name)[chosen])

    def multipliers(self, y: Array) -> tuple[Array, Array]:
        """lam and r^2 / (4 lam), both zero where a neuron is not free."""
        lam = np.where(self.free, np.exp(np.where(self.free, y, 0)), 0.0)
        inverse = np.where(self.free, self.field.radius**2 / 4 * np.exp(-np.where(self.free, y, 0)), 0.0)
        return lam, inverse

    def evaluate(self, y: Array, tau: float) -> _Evaluation:
        lam, inverse = self.multipliers(y)
        a, e = self.field.inputs, self.field.outputs
        matrix = self.constant + (a.T * lam[:, None, :]) @ a
        if e is None:
            diagonal = np.arange(self.field.size)
            matrix[:, diagonal, diagonal] += inverse
        else:
            matrix += (e * inverse[:, None, :]) @ e.T
        values, vectors = np.linalg.eigh(matrix)
        return self._barrier(y, values, vectors, tau)

    def _barrier(self, y: Array, values: Array, vectors: Array, tau: float) -> _Evaluation:
        """c as the root of tau tr (c I - M)^{-1} = 1: Newton from the left on a convex decreasing function."""
        below = values[:, -1:] - values
        excess = np.full(len(values), tau)
        for _ in range(60):
            inverse = 1 / (excess[:, None] + below)
            short = tau * inverse.sum(axis=1) - 1
            if np.all(short < 1e-13):
                break
            excess = excess + short / (tau * (inverse**2).sum(axis=1))
        slack = excess[:, None] + below
        f = values[:, -1] + excess - tau * np.log(slack).sum(axis=1)
        return _Evaluation(y, f, values, vectors, slack)

    def recentre(self, tau: float) -> None:
        self._barrier(self.y, self.values, self.vectors, tau).keep(self)

    def differentiate(self, tau: float) -> None:
        """X, the dual bound, and gradient and Hessian of f in the free y; identity rows where not free."""
        field, free = self.field, self.free
        z = tau / self.slack
        x = (self.vectors * z[:, None, :]) @ np.swapaxes(self.vectors, 1, 2)
        ax = field.inputs @ x
        axa = ax @ field.inputs.T
        xe = x if field.outputs is None else x @ field.outputs
        axe = ax if field.outputs is None else ax @ field.outputs
        exe = x if field.outputs is None else field.outputs.T @ xe
        lam, inverse = self.multipliers(self.y)
        a_part = lam * np.diagonal(axa, axis1=1, axis2=2)
        e_part = inverse * np.diagonal(exe, axis1=1, axis2=2)
        self.x = x
        self.dual = np.sum(self.constant * x, axis=(1, 2)) + 2 * np.sum(np.sqrt(np.maximum(a_part * e_part, 0)), axis=1)
        self.g = a_part - e_part
        hessian = lam[:, :, None] * axa**2 * lam[:, None, :] + inverse[:, :, None] * exe**2 * inverse[:, None, :]
        cross = lam[:, :, None] * axe**2 * inverse[:, None, :]
        hessian -= cross + np.swapaxes(cross, 1, 2)
        trace = np.sum(z**2, axis=1)
        border = lam * np.sum(ax**2, axis=2) - inverse * np.sum(xe**2, axis=1)
        hessian -= border[:, :, None] * (border / trace[:, None])[:, None, :]
        hessian /= tau
        diagonal = np.arange(field.neurons)
        curvature = a_part + e_part
        # The ridge keeps the system regular where X does not see a neuron.
        ridge = 1e-12 * np.max(curvature, axis=1, keepdims=True) + 1e-300
        hessian[:, diagonal, diagonal] += np.where(free, curvature + ridge, 1.0)
        self.hessian = hessian

    def step(self, tau: float) -> tuple[Array, bool]:
        """One damped Newton step of every member; the Newton decrements, and whether any member moved."""
        direction = -np.linalg.solve(self.hessian, self.g[:, :, None])[:, :, 0]
        slope = np.sum(self.g * direction, axis=1)
        longest = np.max(np.abs(direction), axis=1, initial=0.0)
        step = np.minimum(1.0, _LONGEST_MOVE / np.maximum(longest, 1e-300))
        while True:
            trial = self.evaluate(self.y + step[:, None] * direction, tau)
            accepted = trial.f <= self.f + _ARMIJO * step * slope + _NOISE
            if np.all(accepted | (step < _SHORTEST_STEP)):
                break
            step = np.where(accepted, step, step / 3)
        for name in ("y", "f", "values", "vectors", "slack"):
            new, old = getattr(trial, name), getattr(self, name)
            shape = (-1,) + (1,) * (new.ndim - 1)
            setattr(self, name, np.where(accepted.reshape(shape), new, old))
        return np.sqrt(np.maximum(-slope / tau, 0)), bool(np.any(accepted & (longest > 1e-12)))


def _symmetric(matrices: Array) -> Array:
    return (matrices + np.swapaxes(matrices, 1, 2)) / 2
