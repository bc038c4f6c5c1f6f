r"""The least contraction rate of x+ = x + h s(A x + ..) in a constant metric, by frequencies: for hundreds of units.

With c and g the middle and half the width of the slope interval, M = I + h c A, and y = delta w, w = A e, |delta_i| <=
1, differences follow e+ = M e + h g y. By the Kalman-Yakubovich-Popov lemma the matrix inequality of
`step_contraction`, with its n (n + 1) / 2 unknowns Q, has a strict solution for given multipliers L = diag(l) if and
only if the eigenvalues of M lie inside the circle |z| = r and

    F_z(l) = L - G(z)^* L G(z) > 0  for all |z| = r,    G(z) = h g A (z I - M)^{-1}.

So l alone is sought: max t subject to F_z(l) >= t I at finitely many z, l >= 0, sum l = n, by a barrier method whose
Hessian is a sum of entrywise products of n x n matrices. Q comes from the Riccati equation of the lemma, by structure-
preserving doubling (Chu, Fan, Lin, Wang, Int. J. Control 2004); where that fails, eigenvalues of its symplectic pencil
on the unit circle say at which z the inequality does, and these are added (Boyd, Balakrishnan, Kabamba 1989). The rate
is bisected.

Floating point: the answers are candidates, which a checker has to prove.
"""

import dataclasses
import time
from typing import Any

import numpy as np
import scipy.linalg

from ..contractivity.logarithmic_norm import Array
from .step_contraction import StepMetric

_Complex = np.ndarray[Any, np.dtype[np.complex128]]
_MOST_NEWTON = 300
_MOST_CUTS = 30
_DOUBLINGS = 40
_FACTOR = 8.0


@dataclasses.dataclass(frozen=True, eq=False)
class RatedMetric:
    """A metric with multipliers, and the rate they are for."""

    rate: float
    metric: StepMetric


def least_rate(
    weights: Array, step: float, lower: float, upper: float, tolerance: float = 1e-6, seconds: float = np.inf
) -> RatedMetric | None:
    """The least rate below 1 with a constant metric, up to `tolerance`; None where none was found.

    **Arguments:** `weights`: A, shape (n, n); `seconds`: after which the best so far is returned.

    **Raises:** `ValueError` unless A is square and finite.
    """
    n = len(weights)
    if weights.shape != (n, n) or not np.all(np.isfinite(weights)):
        raise ValueError(f"A must be a square matrix of finite numbers, got the shape {weights.shape}.")
    end = time.perf_counter() + seconds
    problem = _Frequencies(weights, step, lower, upper)
    best = problem.metric_at(1.0, end)
    if best is None:
        return None
    low = problem.below
    trial = low * (1 + tolerance / 2) + 1e-12  # where a frozen pattern is the worst, as for symmetric A
    while best.rate - low > tolerance and time.perf_counter() < end:
        better = problem.metric_at(trial, end)
        if better is None:
            low = trial
        else:
            best = better
        trial = (low + best.rate) / 2
    return best


class _Frequencies:
    """The inequality at the frequencies found so far, and multipliers to start from."""

    def __init__(self, weights: Array, step: float, lower: float, upper: float):
        n = len(weights)
        self._a, self._step, self._half = weights, step, step * (upper - lower) / 2
        self._m = np.eye(n) + step * (lower + upper) / 2 * weights
        ends = [np.eye(n) + step * slope * weights for slope in (lower, upper)]
        radii = [float(np.max(np.abs(np.linalg.eigvals(matrix)))) for matrix in (*ends, self._m)]
        self.below = max(radii)
        """No rate is below this: slopes that are all the same reach it."""
        poles = np.linalg.eigvals(self._m)
        angles = np.abs(np.angle(poles[np.argsort(-np.abs(poles))][:4]))
        self._angles = sorted({0.0, np.pi, np.pi / 2, *np.round(angles, 9).tolist()})
        self._start = np.ones(n)

    def metric_at(self, rate: float, end: float) -> RatedMetric | None:
        """A metric for this rate, or None."""
        if rate <= float(np.max(np.abs(np.linalg.eigvals(self._m)))):
            return None
        gains = [self._gain(rate, angle) for angle in self._angles]
        for _ in range(_MOST_CUTS):
            multipliers = _feasible(gains, self._start, end)
            if multipliers is None:
                return None
            metric = self._riccati(rate, multipliers)
            if metric is not None:
                self._start = 0.9 * multipliers + 0.1
                return RatedMetric(rate, metric)
            added = [angle for angle in self._violated(rate, multipliers) if angle not in self._angles]
            if not added or time.perf_counter() > end:
                return None
            self._angles += added
            gains += [self._gain(rate, angle) for angle in added]
        return None

    def _gain(self, rate: float, angle: float) -> _Complex:
        """G(z) at z = rate e^(i angle)."""
        n = len(self._a)
        resolvent = np.linalg.solve((rate * np.exp(1j * angle) * np.eye(n) - self._m).T, self._a.T).T
        return np.asarray(self._half * resolvent)

    def _riccati(self, rate: float, multipliers: Array) -> StepMetric | None:
        """Q of the Riccati equation with the largest margin that admits it."""
        n, weighted = len(self._a), self._a.T * multipliers @ self._a
        size = float(np.trace(weighted)) / n
        for margin in (1e-2, 1e-4, 1e-6, 1e-8):
            above = weighted + margin * size * np.eye(n)
            q = _doubling(self._m / rate, -((self._half / rate) ** 2) / multipliers, above)
            if q is None:
                continue
            least = float(np.linalg.eigvalsh(q)[0])
            remains = np.diag(multipliers) - (self._half / rate) ** 2 * q
            if least > 0 and float(np.linalg.eigvalsh(remains)[0]) > 0:
                scale = (1 + 1e-10) / least
                # The Riccati equation is that of e / r^k, and y = delta w is that of slopes less c, over g.
                factor = (rate * self._step / self._half) ** 2
                return StepMetric(q * scale, multipliers * scale * factor, 0.0)
        return None

    def _violated(self, rate: float, multipliers: Array) -> list[float]:
        """Angles at which the inequality fails for these multipliers, between crossings of the unit circle."""
        n, m = len(self._a), self._m / rate
        left = np.block([[m, np.zeros((n, n))], [-(self._a.T * multipliers) @ self._a, np.eye(n)]])
        gram = np.diag((self._half / rate) ** 2 / multipliers)
        right = np.block([[np.eye(n), -gram], [np.zeros((n, n)), m.T]])
        values = scipy.linalg.eigvals(left, right)
        values = values[np.isfinite(values)]
        near = np.abs(np.abs(values) - 1) < 1e-5
        crossings = np.sort(np.abs(np.angle(values[near])))
        ends = np.concatenate([[0.0], crossings, [np.pi]])
        # A crossing itself is where the least eigenvalue vanishes; between two of them it has one sign.
        middles = [float(angle) for angle in (ends[:-1] + ends[1:]) / 2]
        worst = [(self._least(rate, angle, multipliers), angle) for angle in middles]
        return [angle for value, angle in sorted(worst)[:6] if value < 0]

    def _least(self, rate: float, angle: float, multipliers: Array) -> float:
        gain = self._gain(rate, angle)
        return float(np.linalg.eigvalsh(np.diag(multipliers) - (gain.conj().T * multipliers) @ gain)[0])


def _feasible(gains: list[_Complex], start: Array, end: float) -> Array | None:
    """Multipliers with F_z(l) > 0 at all z given, or None once it is shown that there are none, or too close to none.

    The start has the sum n. By a barrier method: t + (number of constraints) / mu bounds the optimum from above
    on the central path.
    """
    n, count = len(start), len(gains)
    stack, balance = np.array(gains), np.append(np.ones(n), 0.0)
    lam: Array = start.copy()
    t = min(float(np.linalg.eigvalsh(np.diag(lam) - (g.conj().T * lam) @ g)[0]) for g in gains)
    if t > 0:
        return lam
    t -= 0.1 * abs(t) + 1e-3
    total, mu = n * (count + 1), 10.0 * n * count
    for _ in range(_MOST_NEWTON):
        if time.perf_counter() > end:
            return None
        gradient, hessian, inverse_sum = _derivatives(stack, lam, t)
        rhs = np.concatenate([gradient, [inverse_sum - mu]])
        try:
            both = scipy.linalg.cho_solve(scipy.linalg.cho_factor(hessian), np.stack([rhs, balance], axis=1))
        except np.linalg.LinAlgError:
            return None
        move = both[:, 1] * (both[:n, 0].sum() / both[:n, 1].sum()) - both[:, 0]  # keeps the sum of l
        decrement = float(-rhs @ move)
        scale = 1.0
        value = _barrier(stack, lam, t, mu)
        while scale > 1e-10:
            candidate, level = lam + scale * move[:n], t + scale * float(move[n])
            if _barrier(stack, candidate, level, mu) <= value - 0.1 * scale * decrement:
                break
            scale /= 2
        else:
            return None
        lam, t = candidate, level
        if t > 0:
            return lam
        if decrement < 1:
            if t + 2 * total / mu < 0:
                return None
            mu *= _FACTOR
    return None


def _barrier(stack: _Complex, lam: Array, t: float, mu: float) -> float:
    """-mu t - sum log det(F - t I) - sum log l, infinite outside."""
    if not np.all(lam > 0):
        return np.inf
    total = -mu * t - float(np.sum(np.log(lam)))
    for gain in stack:
        matrix = np.diag(lam - t) - (gain.conj().T * lam) @ gain
        try:
            root = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            return np.inf
        total -= 2 * float(np.sum(np.log(np.diagonal(root).real)))
    return total


def _derivatives(stack: _Complex, lam: Array, t: float) -> tuple[Array, Array, float]:
    """Gradient in l, Hessian in (l, t), and the sum of traces of inverses, of the barrier without its term in mu.

    dF / d l_i = e_i e_i^T - g_i^* g_i with g_i the rows of G, so that with S = F^{-1} the Hessian has the entries
    |S_ij|^2 - |(S G^*)_ij|^2 - |(G S)_ij|^2 + |(G S G^*)_ij|^2.
    """
    n = len(lam)
    gradient = -1 / lam
    hessian = np.zeros((n + 1, n + 1))
    hessian[:n, :n] = np.diag(1 / lam**2)
    traces = 0.0
    for gain in stack:
        matrix = np.diag(lam - t) - (gain.conj().T * lam) @ gain
        s = np.linalg.inv(matrix)
        s = (s + s.conj().T) / 2
        gs = gain @ s
        gsg = gs @ gain.conj().T
        gradient = gradient - np.diagonal(s).real + np.diagonal(gsg).real
        cross = np.abs(gs) ** 2
        hessian[:n, :n] += np.abs(s) ** 2 - cross - cross.T + np.abs(gsg) ** 2
        # d^2 / d l_i dt: tr(S dF_i S) with a minus sign, S^2 = S S.
        both = (np.abs(s) ** 2).sum(axis=1) - cross.sum(axis=1)
        hessian[:n, n] -= both
        hessian[n, :n] -= both
        hessian[n, n] += float((np.abs(s) ** 2).sum())
        traces += float(np.trace(s).real)
    return gradient, hessian, traces


def _doubling(a: Array, g: Array, h: Array) -> Array | None:
    """The stabilising solution X of X = a^T X (I + diag(g) X)^{-1} a + h, or None."""
    n = len(a)
    left, gram, x = a, np.diag(g), h
    for _ in range(_DOUBLINGS):
        try:
            inverse = np.linalg.inv(np.eye(n) + gram @ x)
        except np.linalg.LinAlgError:
            return None
        with np.errstate(all="ignore"):
            solved = inverse @ left
            following = x + left.T @ x @ solved
            gram = gram + left @ inverse @ gram @ left.T
            left = left @ solved
        if not (np.all(np.isfinite(following)) and np.all(np.isfinite(gram)) and np.all(np.isfinite(left))):
            return None
        change = float(np.max(np.abs(following - x)))
        x = (following + following.T) / 2
        gram = (gram + gram.T) / 2
        if change <= 1e-14 * float(np.max(np.abs(x))):
            return np.asarray(x)
    return None
