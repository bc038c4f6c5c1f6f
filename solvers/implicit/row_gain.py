r"""Gains from the l_inf norm of u to one output, or to the l2 norm of several, of x = Phi(A x + B u + b), y = C x.

With H(L) = L (I - A) + (I - A)^T L and slopes in [0, 1],

    min sum_j t_j   over L >= 0 diagonal, t,   [[H(L) - C^T C, -L B], [-B^T L, diag(t)]] >= 0

gives |dy|_2^2 <= sum_j t_j du_j^2 <= (sum_j t_j) |du|_inf^2. Unlike formulas in |A| it sees signs. Row by row it bounds
the gain from l_inf to l_inf; the one from l2 to l_inf is the largest l2 gain of a row.

Other slopes enter by the loop transformation, which adds a direct term D u to y; with it, and rows and columns for y,
the inequality is

    [[base, E], [E^T, diag(t)]] >= 0,   base = [[H(L), C^T], [C, I]],   E = [[-L B], [D]].

The barrier eliminates diag(t): per Newton step that takes one factorisation of order n + q and one of order n + m.
All points it passes are strictly feasible: where it stops, L and t give a gain.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from ..result import Limits, Status
from .diagonal_metric import diagonal_stability, metric_matrix
from .loop_transformation import Loop, unit_slopes
from .weighted_log_norm import Array, SlopeBox

# Larger ones cost more Newton steps than they save: the inverse of the matrix has a rank of hundreds at the optimum.
_GROWTH = 2.5
_MOST_STEPS = 300
# Newton decrements, squared: where it converges quadratically, and where a centre is close enough.
_NEAR, _CENTRED = 0.05, 1e-9

DEFAULT_LIMITS = Limits(tolerance=1e-5)


@dataclasses.dataclass(frozen=True, eq=False)
class MixedGain:
    """The gain from l_inf to l2 that a metric and bounds per input give, in floating point.

    **Attributes:** `gain`: sqrt(sum t); `metric`: the diagonal of L, shape (n,); `inputs`: t, shape (m,); `gap`: how
    much less, relatively, others can give, infinite where that is not known; `status`: why the search ended.
    """

    gain: float
    metric: Array
    inputs: Array
    gap: float
    status: Status


def row_gain(A: Array, B: Array, c: Array, slopes: SlopeBox | None = None, limits: Limits = DEFAULT_LIMITS,
             start: Array | None = None) -> MixedGain:
    """The least l_inf gain to c^T x, c of shape (n,), that this inequality gives: :func:`mixed_gain` of one output."""
    return mixed_gain(A, B, np.asarray(c, dtype=np.float64)[None], slopes, limits, start)


def mixed_gain(A: Array, B: Array, C: Array, slopes: SlopeBox | None = None, limits: Limits = DEFAULT_LIMITS,
               start: Array | None = None) -> MixedGain:
    """The least gain from |du|_inf to |dy|_2 that this inequality gives; slopes in [0, 1] if not given.

    **Arguments:** `B`: shape (n, m); `C`: shape (q, n); `limits`: its tolerance is that of sum t, relatively, and the
    best point is returned when the time is up, after a Newton step, or on a KeyboardInterrupt; `start`: a metric with
    H(L) > 0 for the slopes, searched for if not given, which no limit ends.

    **Raises:** `ValueError` for shapes that do not fit, or if no metric with H(L) > 0 was given or found.
    """
    deadline = time.perf_counter() + limits.time_limit
    loop = unit_slopes(A, B, C, slopes)
    # Where there are only fixed slopes: u^T D^T D u <= sum_j (sum_k |D^T D|_jk) u_j^2, attained for one output.
    t = np.abs(loop.D.T @ loop.D).sum(axis=1)
    through = MixedGain(float(np.sqrt(t.sum())), loop.full_metric(np.ones(len(loop.A))), t, 0.0, Status.OPTIMAL)
    if not len(loop.A):
        return through
    start = diagonal_stability(loop.A).metric if start is None else start[loop.kept]
    least = float(np.linalg.eigvalsh(metric_matrix(loop.A, start))[0])
    if not (least > 0 and np.all(start > 0)):
        raise ValueError("No diagonal metric L with L (I - A) + (I - A)^T L > 0 is at hand (least eigenvalue "
                         f"{least!r}): this inequality gives no l_inf bound.")
    inputs, outputs = float(np.max(np.abs(loop.B))), float(np.linalg.norm(loop.C, 2))
    if not inputs or not outputs:
        return dataclasses.replace(through, metric=loop.full_metric(start))
    # y is measured in units of |C| max |b_ij|, u in units of 1 / max |b_ij|.
    scaled = Loop(loop.A, loop.B / inputs, loop.C / outputs, loop.D / (outputs * inputs), loop.kept)
    problem = _Problem(scaled)
    unit = start / np.max(start)
    energy = float(np.linalg.norm(scaled.C @ np.linalg.solve(metric_matrix(scaled.A, unit), scaled.C.T), 2))
    # For a fixed direction of L, one output and D = 0 this length of it is the best.
    metric, t, gap, status = problem.minimise(unit * 2 * energy, limits.tolerance, deadline)
    size = (outputs * inputs) ** 2
    return MixedGain(float(np.sqrt(size * t.sum())), loop.full_metric(metric * outputs**2), size * t, gap, status)


def _best_step(value: Callable[[float], float]) -> float:
    """The power of two with the least value; a step that only decreases it may end close to the boundary, from where
    Newton's method comes back slowly."""
    step, here = 1.0, value(1.0)
    while step > 1e-8 and (not np.isfinite(here) or value(step / 2) < here):
        step, here = step / 2, value(step / 2)
    while step >= 1.0 and value(2 * step) < here:
        step, here = 2 * step, value(2 * step)
    return step


class _Problem:
    """Minimise sum(t) over lam > 0 and t with the matrix of the module positive semidefinite."""

    def __init__(self, loop: Loop):
        (self.n, self.m), self.q = loop.B.shape, len(loop.C)
        self.B, self.C, self.D = loop.B, loop.C, loop.D
        self.rows = np.hstack([np.eye(self.n) - loop.A, np.zeros((self.n, self.q))])

    def minimise(self, lam: Array, tolerance: float, deadline: float) -> tuple[Array, Array, float, Status]:
        """lam, t, a bound on how much, relatively, sqrt(sum(t)) is above its minimum, and why it is not closer."""
        E = self._across(lam)
        needed = np.abs(E.T @ np.linalg.solve(self._base(lam), E)).sum(axis=1)
        t = 1.5 * needed + 1e-3 * needed.mean()
        best, gap = (lam, t), np.inf
        parameter = 2 * self.n + self.m + self.q
        scale = parameter / t.sum()
        try:
            while True:
                for point, centred in self._centre(lam, t, scale):
                    lam, t = point
                    if t.sum() < best[1].sum():
                        best = point
                    if centred is None and time.perf_counter() > deadline:
                        return *best, gap, Status.TIME_LIMIT
                if not centred:
                    return *best, gap, Status.STALLED
                # Half of it for the square root.
                best, gap = (lam, t), parameter / scale / float(t.sum())
                if gap <= tolerance:
                    return *best, gap, Status.OPTIMAL
                scale *= _GROWTH
        except KeyboardInterrupt:
            return *best, gap, Status.INTERRUPTED

    def _base(self, lam: Array) -> Array:
        base = np.eye(self.n + self.q)
        left = lam[:, None] * self.rows[:, : self.n]
        base[: self.n, : self.n] = left + left.T
        base[self.n :, : self.n] = self.C
        base[: self.n, self.n :] = self.C.T
        return base

    def _across(self, lam: Array) -> Array:
        return np.vstack([-lam[:, None] * self.B, self.D])

    def _schur(self, lam: Array, t: Array) -> Array:
        E = self._across(lam)
        return np.asarray(self._base(lam) - (E / t) @ E.T)

    def _value(self, lam: Array, t: Array, scale: float) -> float:
        if np.min(lam) <= 0 or np.min(t) <= 0:
            return np.inf
        try:
            factor = np.linalg.cholesky(self._schur(lam, t))
        except np.linalg.LinAlgError:
            return np.inf
        logs = 2 * np.sum(np.log(np.diagonal(factor))) + np.sum(np.log(t)) + np.sum(np.log(lam))
        return float(scale * t.sum() - logs)

    def _centre(self, lam: Array, t: Array, scale: float) -> Iterator[tuple[tuple[Array, Array], bool | None]]:
        """Newton's method on scale sum(t) - log det - sum log lam: its points, with None, and the last one, with
        whether it is centred."""
        value, last = self._value(lam, t, scale), np.inf
        for _ in range(_MOST_STEPS):
            gradient, hessian = self._derivatives(lam, t, scale)
            try:
                direction = -cho_solve(cho_factor(hessian, lower=True), gradient)
            except LinAlgError:
                break
            decrement = float(-(gradient @ direction))
            # Near the centre a full step is safe, and its decrease lost in the rounding of the value.
            near = decrement <= _NEAR
            if decrement <= _CENTRED or (near and decrement >= last):
                yield (lam, t), near
                return
            last = decrement if near else np.inf

            def along(step: float, lam: Array = lam, t: Array = t, direction: Array = direction) -> float:
                return self._value(lam + step * direction[: self.n], t + step * direction[self.n :], scale)

            step = 1.0 if near else _best_step(along)
            there = along(step)
            if not there < (np.inf if near else value):
                break
            lam, t, value = lam + step * direction[: self.n], t + step * direction[self.n :], there
            yield (lam, t), None
        yield (lam, t), False

    def _derivatives(self, lam: Array, t: Array, scale: float) -> tuple[Array, Array]:
        """Gradient and Hessian, from the blocks of the inverse: Z, -Z F^T and diag(1/t) + F Z F^T, F = (E / t)^T."""
        n = self.n
        F = (self._across(lam) / t).T
        Z = np.linalg.inv(self._schur(lam, t))
        Z = (Z + Z.T) / 2
        FZ = F @ Z
        Q = self.rows + self.B @ F
        QZ = Q @ Z
        inner = FZ @ F.T
        inner[np.diag_indices(self.m)] += 1 / t
        gradient = np.concatenate([-2 * np.diagonal(QZ) - 1 / lam, scale - np.diagonal(inner)])
        hessian = np.empty((n + self.m, n + self.m))
        w = QZ[:, :n]
        hessian[:n, :n] = 2 * (w * w.T + (QZ @ Q.T + (self.B / t) @ self.B.T) * Z[:n, :n])
        hessian[np.arange(n), np.arange(n)] += 1 / lam**2
        hessian[n:, :n] = 2 * FZ[:, :n] * ((self.B / t).T + F @ QZ.T)
        hessian[:n, n:] = hessian[n:, :n].T
        np.multiply(inner, inner, out=hessian[n:, n:])
        return gradient, hessian
