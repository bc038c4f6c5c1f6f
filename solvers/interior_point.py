r"""A primal-dual interior-point method for the matrix inequality, built on its chordal structure.

Primal: minimise rho over M(rho, lam) = S > 0. Dual: maximise <C^T C, Y> over Y >= 0, <E, Y> = 1, <F_i, Y> = 0.
The direction is that of Helmberg, Rendl, Vanderbei and Wolkowicz, Kojima, Shindoh and Hara, and Monteiro (HKM) with
Mehrotra's predictor and corrector. Two things make it fast on layered networks:

- S and its factor keep the block pattern of the layers (the recursion of arXiv 2405.01125);
- only the entries of Y on that pattern matter. Y is replaced by its completion of largest determinant after every step
  (Fukuda, Kojima, Murota, Nakata 2001), so positivity is tested on cliques of a few layers, and better centring saves
  about a third of the iterations.

Every primal iterate is strictly feasible: its rho is a valid bound, up to rounding, whenever the solve is stopped.
"""

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs
from threadpoolctl import threadpool_limits

from .block_matrix import (
    Blocks,
    Factor,
    complete,
    factorise,
    inner,
    multiply,
    on_cliques,
    on_pattern,
    symmetric_product,
)
from .closed_form import Scaled
from .dual_bound import dual_bound
from .newton_system import NewtonSystem
from .result import Limits, OnProgress, Progress, Solution, Status
from .structure import structure

_STEP = 0.95
_START_SLACK = 1.3
_SHARED_SLACK = 1.05
_SHORTEST_STEP = 1e-5
# Halvings in the search for the longest step: the predictor's only sets the centring.
_COARSE, _FINE = 2, 5
_STRIP = 256


@dataclasses.dataclass(frozen=True)
class Cost:
    """Predicted size of a solve: `multipliers`, `order` of M, `memory` in bytes, `seconds` to the default tolerance."""

    multipliers: int
    order: int
    memory: int
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class InteriorPoint:
    """The structured primal-dual solver. `max_iterations`: a typical solve takes 10 to 40."""

    max_iterations: int = 200

    def predict(self, scaled: Scaled) -> Cost:
        """What a solve will take, before it starts."""
        m, pattern = scaled.inequality.multipliers, structure(scaled.inequality)
        n = pattern.size
        # Dense n x n: Z, Y, completions, products and steps; m x m: the Schur matrix, four products, its factor.
        memory = 8 * (9 * n * n + 8 * m * m)
        flops = m**3 / 3 + 2 * n**3 + 24 * n * pattern.factor_entries
        iterations = 12 + len(scaled.inequality.constraints) / 2
        return Cost(m, n, memory, iterations * (flops / 3e10 + 60 * n * n / 1e9 + 2e-3 * pattern.blocks))

    def memory(self, scaled: Scaled) -> int:
        return self.predict(scaled).memory

    def solve(self, scaled: Scaled, limits: Limits, on_progress: OnProgress | None = None) -> Solution:
        """Multipliers within `limits.tolerance` of the optimum, or the best found when stopped.

        Ctrl-C ends the solve with status INTERRUPTED and the best multipliers so far.
        """
        run = _Run(scaled, limits, on_progress)
        # numpy and scipy each bring a pool of BLAS threads; taking turns they wait for each other, and on two cores the
        # solve takes ten times as long.
        try:
            with threadpool_limits(limits=1, user_api="blas"):
                trivial = scaled.bound == 0 or not scaled.inequality.constraints
                status = run.finished() if trivial else run.iterate(self.max_iterations)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        return run.solution(status)


@dataclasses.dataclass(eq=False)
class _Point:
    """A primal-dual iterate; `sign` holds the dual variables of lam >= 0 where these are needed, else zeros."""

    x: np.ndarray
    matrix: Blocks
    factor: Factor
    y: np.ndarray
    sign: np.ndarray


class _Run:
    """One solve: its data, the best bound and the course so far."""

    def __init__(self, scaled: Scaled, limits: Limits, on_progress: OnProgress | None):
        self.scaled, self.limits, self.on_progress = scaled, limits, on_progress
        self.begin = time.perf_counter()
        self.history: list[Progress] = []
        self.best = np.append(np.concatenate(scaled.start) if scaled.start else [], scaled.bound**2)
        self.dual_bound = 0.0
        self.report(0)
        self.pattern = structure(scaled.inequality)
        self.system = NewtonSystem(scaled.inequality, self.pattern)
        self.signed = float(self.system.needs_sign_constraint)
        self.order = self.pattern.size + self.signed * scaled.inequality.multipliers
        # On a narrow pattern, solving with the factor of M beats multiplying with its dense inverse.
        self.narrow = 8 * self.pattern.factor_entries < self.pattern.size**2

    def finished(self) -> Status:
        """Without nonlinear layers the closed form is the norm itself, and no gain is less than none."""
        self.dual_bound = self.scaled.bound
        self.report(0)
        return Status.OPTIMAL

    def report(self, iteration: int) -> None:
        bound = self.scaled.unscale(math.sqrt(max(self.best[-1], 0.0)))
        seconds = time.perf_counter() - self.begin
        progress = Progress(bound, self.scaled.unscale(self.dual_bound), iteration, seconds)
        self.history.append(progress)
        if self.on_progress:
            self.on_progress(progress)

    def solution(self, status: Status) -> Solution:
        last = self.history[-1]
        ends = np.cumsum([constraint.groups for constraint in self.scaled.inequality.constraints])
        return Solution(
            status=status,
            bound=last.bound,
            dual_bound=last.dual_bound,
            multipliers=tuple(np.split(self.best[:-1], ends[:-1])) if len(ends) else (),
            iterations=last.iteration,
            seconds=time.perf_counter() - self.begin,
            solver="interior_point",
            version="",
            history=tuple(self.history),
        )

    def iterate(self, max_iterations: int) -> Status:
        point = self.start()
        for iteration in range(1, max_iterations + 1):
            if point is None:
                return Status.STALLED
            if self.update_bounds(iteration, point):
                return Status.OPTIMAL
            if time.perf_counter() - self.begin > self.limits.time_limit:
                return Status.TIME_LIMIT
            point = self.step(point)
        return Status.ITERATION_LIMIT

    def step(self, point: _Point) -> _Point | None:
        """The next iterate; None where rounding errors leave no step."""
        system, pattern, signed = self.system, self.pattern, self.signed
        y, lam, matrix = point.y, point.x[:-1], point.matrix
        z = point.factor.inverse()
        z_forms = system.forms(z)
        gap = inner(matrix, y, pattern)
        mu = (gap + lam @ point.sign) / self.order
        schur = system.schur(z, y, z_forms, system.forms(y))
        log_det_gradient = system.gradient(z, z_forms)
        if signed:
            log_det_gradient[:-1] += 1 / lam
            np.einsum("ii->i", schur)[:-1] += point.sign / lam
        solve = _scaled_cholesky(schur)
        if solve is None:
            return None
        cost = np.zeros(len(point.x))
        cost[-1] = 1.0

        # Predictor: the affine direction, whose success decides how far mu is lowered.
        dx = solve(-cost)
        ds = system.matrix(dx, homogeneous=True)
        k = multiply(ds, z, pattern).T
        ky = point.factor.solve(multiply(ds, y, pattern)) if self.narrow else k @ y
        w = ky + ky.T
        dy = on_pattern(pattern, lambda i, j: -y[i, j] - 0.5 * w[i, j])
        dsign = -point.sign * (1 + dx[:-1] / lam)
        primal, dual = self.primal_step(point, dx, ds, _COARSE), self.dual_step(point, dy, dsign, _COARSE)
        reached = gap + primal * inner(ds, y, pattern)
        reached += dual * (inner(matrix, dy, pattern) + primal * inner(ds, dy, pattern))
        reached += (lam + primal * dx[:-1]) @ (point.sign + dual * dsign)
        centring = min(1.0, max((max(reached, 0.0) / self.order / mu) ** 2, 1e-3)) if min(primal, dual) > 0.1 else 0.5

        # Corrector: second-order terms of the predictor, and the target centring * mu.
        target = centring * mu
        second = on_pattern(pattern, lambda i, j: -0.5 * (w[i, j] + symmetric_product(k, w, i, j)))
        second_sign = signed * dx[:-1] * dsign / lam
        right = target * log_det_gradient - cost - system.gradient_on_pattern(second)
        right[:-1] -= second_sign
        dx = solve(right)
        ds = system.matrix(dx, homogeneous=True)
        k2 = multiply(ds, z, pattern).T
        dy = on_pattern(
            pattern, lambda i, j: target * z[i, j] - y[i, j] - symmetric_product(k2, y, i, j) - second[i, j]
        )
        dsign = signed * (target / lam - second_sign) - point.sign * (1 + dx[:-1] / lam)
        primal = _STEP * self.primal_step(point, dx, ds, _FINE)
        dual = _STEP * self.dual_step(point, dy, dsign, _FINE)
        if not max(primal, dual) >= _SHORTEST_STEP:
            return None
        x = point.x + primal * dx
        moved = system.matrix(x)
        factor = factorise(moved, pattern)
        if factor is None:
            return None
        completed = complete(on_pattern(pattern, lambda i, j: y[i, j] + dual * dy[i, j]), pattern)
        return _Point(x, moved, factor, completed, point.sign + dual * dsign)

    def start(self) -> _Point | None:
        """The closed-form multipliers with some slack, and Y on the central path of the wrong problem."""
        # Where several layers draw on one cut, or slopes of both signs on any, the closed form lies close to the border
        # of the feasible set; each layer then keeps a little more than the next one takes.
        constraints = self.scaled.inequality.constraints
        shared = any(len(c.maps) > 1 or np.any(c.lower < 0) for c in constraints)
        growth = _SHARED_SLACK if shared else 1.0
        slack = [_START_SLACK * growth**k for k in range(len(constraints), -1, -1)]
        x = np.repeat([slack[0]], len(self.best))
        x[:-1] = np.repeat(slack[1:], [c.groups for c in constraints])
        x *= self.best
        matrix = self.system.matrix(x)
        factor = factorise(matrix, self.pattern)
        if factor is None:
            return None
        z = factor.inverse()
        u = slice(0, self.scaled.inequality.input_size)
        mu = 1 / np.trace(z[u, u])
        sign = mu / x[:-1] if self.signed else np.zeros(len(x) - 1)
        return _Point(x, matrix, factor, mu * z, sign)

    def update_bounds(self, iteration: int, point: _Point) -> bool:
        """Records the point's bounds; whether they meet the tolerance."""
        if point.x[-1] < self.best[-1]:
            self.best = point.x
        dual = dual_bound(self.scaled.inequality, point.y)
        self.dual_bound = max(self.dual_bound, math.sqrt(dual))
        self.report(iteration)
        return math.sqrt(self.best[-1]) - self.dual_bound <= self.limits.tolerance * math.sqrt(self.best[-1])

    def primal_step(self, point: _Point, dx: np.ndarray, ds: Blocks, halvings: int) -> float:
        longest = _ratio_test(point.x[:-1], dx[:-1]) if self.signed else 1.0
        return _longest(lambda a: factorise(_moved(point.matrix, ds, a), self.pattern) is not None, longest, halvings)

    def dual_step(self, point: _Point, dy: np.ndarray, dsign: np.ndarray, halvings: int) -> float:
        longest = _ratio_test(point.sign, dsign) if self.signed else 1.0
        pairs = list(zip(on_cliques(point.y, self.pattern), on_cliques(dy, self.pattern), strict=True))
        return _longest(lambda a: all(not dpotrf(own + a * step, lower=1)[1] for own, step in pairs), longest, halvings)


def _moved(matrix: Blocks, direction: Blocks, step: float) -> Blocks:
    return {key: block + step * direction[key] if key in direction else block for key, block in matrix.items()}


def _ratio_test(values: np.ndarray, direction: np.ndarray) -> float:
    """The largest step in [0, 1] that keeps `values` non-negative."""
    falling = direction < 0
    return min(1.0, float(np.min(-values[falling] / direction[falling], initial=1.0)))


def _longest(admissible: Callable[[float], bool], longest: float, halvings: int) -> float:
    """A step in [0, longest] within a relative 2^-halvings of the largest admissible one.

    Bisection, since a test of definiteness on the pattern is far cheaper than an eigenvalue.
    """
    if admissible(longest):
        return longest
    low, high = 0.0, longest
    while low == 0.0 and high > _SHORTEST_STEP:
        middle = high / 2
        low, high = (middle, high) if admissible(middle) else (low, middle)
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if admissible(middle) else (low, middle)
    return low


def _scaled_cholesky(matrix: np.ndarray) -> Callable[[np.ndarray], np.ndarray] | None:
    """Solves with a positive definite matrix given by its lower triangle, which is scaled to unit diagonal in place.

    Its factorisation is regularised as far as rounding demands; None if that does not suffice.
    """
    diagonal = np.einsum("ii->i", matrix)
    if not (np.all(np.isfinite(diagonal)) and np.all(diagonal > 0)):
        return None
    scale = 1 / np.sqrt(diagonal)
    for first in range(0, len(scale), _STRIP):
        strip = matrix[first : first + _STRIP, : first + _STRIP]
        strip *= scale[first : first + _STRIP, None]
        strip *= scale[: first + _STRIP]
    shift = 0.0
    while shift < 1e-6:
        diagonal[:] = 1 + shift
        # The transpose is in the order LAPACK wants, so that its upper triangle is read where it lies.
        root, failed = dpotrf(matrix.T, lower=0, clean=0)
        if not failed:
            return lambda right: scale * dpotrs(root, scale * right, lower=0)[0]
        shift = max(10 * shift, 1e-15)
    return None
