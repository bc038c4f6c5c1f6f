r"""The least rate of x+ = x + h s(A x + ..) in one metric that several A share: of stages, or of frequencies.

Given are A_kw, real or complex, by stage k and frequency w (see `netgain.verify.stability.common_metric`). Sought are a
real symmetric Q > 0, one for all, and diagonal L_k >= 0, one for each stage, with

    M_kw = r^2 E^T Q E - T^T Q T + C^* L_k C - G^* L_k G >= 0  for all k and w,
    E = [0, I],  T = [I, I],  C = [I, -c h A_kw],  G = [0, g h A_kw],

c the middle and g half the width of the slope interval, in the order (h y, e): the inequality of `step_contraction`,
L divided by h^2. For a given r that is a semidefinite program, max t subject to M_kw >= t I, Q >= t I and tr Q +
mean_k tr L_k = 2 n, which a barrier method decides. All terms are K^* X K with X = Q or L_k, so that the Hessian is a
sum of products of blocks of W M^{-1} W^*, W = [E; T; C; G]; over frequencies that is one matrix product. Few
frequencies are in play: those at which an answer fails are added. The rate is bisected.

Floating point: the answers are candidates, which a checker has to prove.
"""

import dataclasses
import functools
import time
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse

from ..contractivity.logarithmic_norm import Array

_Symbols = np.ndarray[Any, Any]
MOST_UNITS = 64
"""Above this order the Hessian in Q is too large."""
_MOST_NEWTON = 300
_MOST_CUTS = 30
_FACTOR = 8.0
_FIRST = 24
_ADDED = 8
# A margin that rounding does not use up.
_MARGIN = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class CommonMetric:
    """Q with least eigenvalue 1, the diagonals of L_k in the scale of y, shape (stages, n), and the rate."""

    rate: float
    metric: Array
    multipliers: Array


def common_metric(
    symbols: _Symbols, step: float, lower: float, upper: float, tolerance: float = 1e-6, seconds: float = np.inf
) -> CommonMetric | None:
    """The least rate below 1 with a common metric, up to `tolerance`; None where none was found.

    **Arguments:** `symbols`: A_kw, shape (stages, frequencies, n, n), spread frequencies first; `seconds`: after which
    the best so far is returned.

    **Raises:** `ValueError` for another shape, numbers that are not finite, or more than `MOST_UNITS` units.
    """
    if symbols.ndim != 4 or symbols.shape[2] != symbols.shape[3] or not symbols.size:
        raise ValueError(f"The symbols need the shape (stages, frequencies, n, n), got {symbols.shape}.")
    if symbols.shape[2] > MOST_UNITS or not np.all(np.isfinite(symbols)):
        raise ValueError(f"A common metric is sought of finite numbers and for up to {MOST_UNITS} units or channels; "
                         f"got {symbols.shape[2]}.")
    end = time.perf_counter() + seconds
    problem = _Problem(step * symbols, lower, upper)
    low, best = problem.below, problem.metric_at(1.0, end) if problem.below < 1 else None
    trial = low * (1 + tolerance / 2) + 1e-12
    while best is not None and best.rate - low > tolerance and time.perf_counter() < end:
        better = problem.metric_at(trial, end)
        if better is None:
            low = trial
        else:
            best = better
        trial = (low + best.rate) / 2
    return None if best is None else dataclasses.replace(best, multipliers=best.multipliers * step**2)


class _Problem:
    """The inequalities in play, and where to start."""

    def __init__(self, symbols: _Symbols, lower: float, upper: float):
        self.symbols, self.count, n = symbols, symbols.shape[0], symbols.shape[2]
        self.centre, self.half = (lower + upper) / 2, (upper - lower) / 2
        one = np.eye(n)
        radii = [np.abs(np.linalg.eigvals(one + slope * symbols)).max() for slope in (lower, upper, self.centre)]
        self.below = float(max(radii))
        """No rate is below this: slopes that are all the same reach it."""
        self.active = [np.arange(min(_FIRST, symbols.shape[1])) for _ in range(self.count)]
        self.start = one, np.full((self.count, n), 1.0)

    def metric_at(self, rate: float, end: float) -> CommonMetric | None:
        """A metric for this rate, or None."""
        for _ in range(_MOST_CUTS):
            chosen = [self.symbols[k, at] for k, at in enumerate(self.active)]
            barrier = _Barrier(chosen, rate, self.centre, self.half)
            found = barrier.feasible(*self.start, end)
            if found is None:
                return None
            metric, multipliers = found
            failing = self._failing(rate, metric, multipliers)
            if not any(len(each) for each in failing):
                n = len(metric)
                self.start = 0.9 * metric + 0.1 * np.eye(n), 0.9 * multipliers + 0.1
                scale = (1 + 1e-10) / float(np.linalg.eigvalsh(metric)[0])
                return CommonMetric(rate, metric * scale, multipliers * scale)
            if time.perf_counter() > end:
                return None
            self.active = [np.union1d(at, new) for at, new in zip(self.active, failing, strict=True)]
        return None

    def _failing(self, rate: float, metric: Array, multipliers: Array) -> list[np.ndarray]:
        """By stage, the frequencies at which the inequality fails most."""
        failing = []
        for symbols, lam in zip(self.symbols, multipliers, strict=True):
            matrices = _matrices(_factors(symbols, self.centre, self.half), rate, metric, lam)
            least = np.linalg.eigvalsh(matrices)[:, 0]
            worst = np.argsort(least)[:_ADDED]
            failing.append(worst[least[worst] < 0])
        return failing


def _factors(symbols: _Symbols, centre: float, half: float) -> _Symbols:
    """W = [E; T; C; G] at each frequency, shape (frequencies, 4, n, 2 n)."""
    count, n = symbols.shape[:2]
    w = np.zeros((count, 4, n, 2 * n), dtype=symbols.dtype)
    one = np.eye(n)
    w[:, 0, :, n:] = w[:, 1, :, :n] = w[:, 1, :, n:] = w[:, 2, :, :n] = one
    w[:, 2, :, n:] = -centre * symbols
    w[:, 3, :, n:] = half * symbols
    return w


def _matrices(factors: _Symbols, rate: float, metric: Array, lam: Array) -> _Symbols:
    """M at each frequency."""
    e, t, c, g = np.moveaxis(factors, 1, 0)
    conjugate = [part.conj().swapaxes(-1, -2) for part in (e, t, c, g)]
    total = rate**2 * conjugate[0] @ metric @ e - conjugate[1] @ metric @ t
    total = total + (conjugate[2] * lam) @ c - (conjugate[3] * lam) @ g
    result: _Symbols = (total + total.conj().swapaxes(-1, -2)) / 2
    return result


class _Barrier:
    """-mu t - sum log det(M_kw - t I) - log det(Q - t I) over (Q, L_1, .., L_K, t)."""

    def __init__(self, symbols: list[_Symbols], rate: float, centre: float, half: float):
        self.factors, self.rate = [_factors(each, centre, half) for each in symbols], rate
        self.n = symbols[0].shape[1]
        self.order = sum(2 * self.n * len(each) for each in symbols) + self.n
        self.basis = _symmetric_basis(self.n)

    def feasible(self, metric: Array, multipliers: Array, end: float) -> tuple[Array, Array] | None:
        """Q and L with positive margins; None once there are none, or too small ones, or the time is up."""
        n, count = self.n, len(self.factors)
        entries = self.basis.shape[1]
        places = np.flatnonzero(np.eye(n)[np.triu_indices(n)])
        balance = np.concatenate([np.zeros(entries), np.full(count * n, 1 / count), [0.0]])
        balance[places] = 1.0
        scale = 2 * n / (np.trace(metric) + multipliers.sum() / count)
        metric, multipliers = metric * scale, multipliers * scale
        least = [np.linalg.eigvalsh(matrices).min() for matrices in self._all(metric, multipliers)]
        t = float(min(*least, np.linalg.eigvalsh(metric)[0]))
        t -= 0.1 * abs(t) + 1e-3
        mu = 10.0 * self.order
        for _ in range(_MOST_NEWTON):
            if t > _MARGIN:
                return metric, multipliers
            if time.perf_counter() > end:
                return None
            gradient, hessian = self._derivatives(metric, multipliers, t)
            gradient[-1] -= mu
            try:
                factor = scipy.linalg.cho_factor(hessian)
            except np.linalg.LinAlgError:
                return None
            both = scipy.linalg.cho_solve(factor, np.stack([gradient, balance], axis=1))
            move = both[:, 1] * ((balance @ both[:, 0]) / (balance @ both[:, 1])) - both[:, 0]
            decrement = float(-gradient @ move)
            change = (self.basis @ move[:entries]).reshape(n, n), move[entries:-1].reshape(count, n), float(move[-1])
            length, value = 1.0, self._value(metric, multipliers, t, mu)
            while length > 1e-10:
                there = metric + length * change[0], multipliers + length * change[1], t + length * change[2]
                if self._value(*there, mu) <= value - 0.1 * length * decrement:
                    break
                length /= 2
            else:
                return None
            metric, multipliers, t = there
            if decrement < 1:
                # On the central path the optimum is at most t + order / mu; near it, within a multiple of that.
                if t + 2 * self.order / mu < _MARGIN:
                    return None
                mu *= _FACTOR
        return None

    def _all(self, metric: Array, multipliers: Array) -> list[_Symbols]:
        return [_matrices(w, self.rate, metric, lam) for w, lam in zip(self.factors, multipliers, strict=True)]

    def _value(self, metric: Array, multipliers: Array, t: float, mu: float) -> float:
        total = -mu * t
        one = np.eye(2 * self.n)
        try:
            for matrices in (*self._all(metric, multipliers), metric[None]):
                root = np.linalg.cholesky(matrices - t * one[: matrices.shape[1], : matrices.shape[1]])
                total -= 2 * float(np.log(np.diagonal(root, axis1=1, axis2=2).real).sum())
        except np.linalg.LinAlgError:
            return np.inf
        return total

    def _derivatives(self, metric: Array, multipliers: Array, t: float) -> tuple[Array, Array]:
        """Gradient and Hessian without the term in mu.

        With R_ab = W_a S W_b^*, S = (M - t I)^{-1}, and signs s = (r^2, -1, 1, -1), the second derivative in
        directions X of the term a and Y of the term b is s_a s_b Re tr(R_ba X R_ab Y); that of t is -I.
        """
        n, count, basis = self.n, len(self.factors), self.basis
        entries = basis.shape[1]
        size = entries + count * n + 1
        gradient, hessian = np.zeros(size), np.zeros((size, size))
        signs = (self.rate**2, -1.0, 1.0, -1.0)
        slope, square = np.zeros((n, n)), np.zeros((n * n, n * n))
        mixed_t, one = np.zeros((n, n)), np.eye(2 * n)
        for k, (w, matrices) in enumerate(zip(self.factors, self._all(metric, multipliers), strict=True)):
            s = np.linalg.inv(matrices - t * one)
            s = (s + s.conj().swapaxes(-1, -2)) / 2
            flat = w.reshape(len(w), 4 * n, 2 * n)
            r = _blocks(flat @ s @ flat.conj().swapaxes(-1, -2), n)
            twice = _blocks(flat @ s @ s @ flat.conj().swapaxes(-1, -2), n)
            own = slice(entries + k * n, entries + (k + 1) * n)
            for a in (0, 1):
                slope -= signs[a] * r[a][a].real.sum(axis=0)
                mixed_t -= signs[a] * twice[a][a].real.sum(axis=0)
                for b in (0, 1):
                    square += signs[a] * signs[b] * _products(r[b][a], r[a][b])
            for b in (2, 3):
                gradient[own] -= signs[b] * np.einsum("fii->i", r[b][b].real)
                hessian[own, -1] -= signs[b] * np.einsum("fii->i", twice[b][b].real)
                for a in (2, 3):
                    hessian[own, own] += signs[a] * signs[b] * (np.abs(r[a][b]) ** 2).sum(axis=0)
                for a in (0, 1):
                    part = np.einsum("fij,fik->ijk", r[b][a], r[b][a].conj()).real.reshape(n, n * n)
                    hessian[own, :entries] += signs[a] * signs[b] * (basis.T @ part.T).T
            gradient[-1] += np.einsum("fii->", s).real
            hessian[-1, -1] += (np.abs(s) ** 2).sum()
        inverse = np.linalg.inv(metric - t * np.eye(n))
        slope -= inverse
        square += np.kron(inverse, inverse)
        mixed_t -= inverse @ inverse
        gradient[-1] += np.trace(inverse)
        hessian[-1, -1] += (inverse**2).sum()
        gradient[:entries] = basis.T @ slope.ravel()
        hessian[:entries, :entries] = basis.T @ (basis.T @ square).T
        hessian[:entries, -1] = basis.T @ mixed_t.ravel()
        hessian[:entries, entries:-1] = hessian[entries:-1, :entries].T
        hessian[-1, :-1] = hessian[:-1, -1]
        return gradient, hessian


def _blocks(matrices: _Symbols, n: int) -> list[list[_Symbols]]:
    """R_ab, each of shape (frequencies, n, n)."""
    return [[matrices[:, a * n : (a + 1) * n, b * n : (b + 1) * n] for b in range(4)] for a in range(4)]


def _products(left: _Symbols, right: _Symbols) -> Array:
    """The matrix of (X, Y) -> sum over frequencies of Re tr(left X right Y), for X and Y row by row."""
    count, n = left.shape[:2]
    first, second = left.reshape(count, -1), right.reshape(count, -1)
    total = first.real.T @ second.real
    if np.iscomplexobj(left):
        total -= first.imag.T @ second.imag
    # Entry (i, j), (k, l) of the product belongs to X_jk Y_li.
    return np.ascontiguousarray(total.reshape(n, n, n, n).transpose(1, 2, 3, 0)).reshape(n * n, n * n)


@functools.cache
def _symmetric_basis(n: int) -> Any:
    """The sparse map from the upper triangle of a symmetric matrix to all its entries, row by row."""
    rows, columns = np.triu_indices(n)
    places = np.arange(len(rows))
    off = rows != columns
    row = np.concatenate([rows * n + columns, (columns * n + rows)[off]])
    ones = np.ones(len(row))
    return scipy.sparse.csr_array((ones, (row, np.concatenate([places, places[off]]))), shape=(n * n, len(rows)))
