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
from collections.abc import Callable

import numpy as np
from scipy.linalg.lapack import dpotrf
from threadpoolctl import threadpool_limits

from .block_matrix import (
    Blocks,
    Factor,
    combine,
    complete,
    factorise,
    inner,
    multiply,
    on_cliques,
    on_pattern,
    symmetric_product,
)
from .closed_form import Scaled
from .course import Course
from .dual_bound import dual_bound
from .newton_system import NewtonSystem
from .result import Cost, Limits, OnProgress, Solution, Status
from .schur import scaled_cholesky
from .structure import structure

_STEP = 0.95
_START_SLACK = 1.3
_SHARED_SLACK = 1.05
_SHORTEST_STEP = 1e-5
# Halvings in the search for the longest step: the predictor's only sets the centring.
_COARSE, _FINE = 2, 5


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
        course = Course(scaled, limits, on_progress, "interior_point")
        # numpy and scipy each bring a pool of BLAS threads; taking turns they wait for each other, and on two cores the
        # solve takes ten times as long.
        with threadpool_limits(limits=1, user_api="blas"):
            return course.run(lambda: _Run(course).iterate(self.max_iterations))


@dataclasses.dataclass(eq=False)
class _Point:
    """A primal-dual iterate; `sign` holds the dual variables of lam >= 0 where these are needed, else zeros."""

    x: np.ndarray
    matrix: Blocks
    factor: Factor
    y: np.ndarray
    sign: np.ndarray


class _Run:
    """The data of one solve."""

    def __init__(self, course: Course):
        self.course, self.inequality = course, course.scaled.inequality
        self.pattern = structure(self.inequality)
        self.system = NewtonSystem(self.inequality, self.pattern)
        self.signed = float(self.system.needs_sign_constraint)
        self.order = self.pattern.size + self.signed * self.inequality.multipliers
        # On a narrow pattern, solving with the factor of M beats multiplying with its dense inverse.
        self.narrow = 8 * self.pattern.factor_entries < self.pattern.size**2

    def iterate(self, max_iterations: int) -> Status:
        point = self.start()
        for iteration in range(1, max_iterations + 1):
            if point is None:
                return Status.STALLED
            if self.course.offer(iteration, point.x, dual_bound(self.inequality, point.y)):
                return Status.OPTIMAL
            if self.course.out_of_time:
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
        solve = scaled_cholesky(schur)
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
        constraints = self.inequality.constraints
        shared = any(len(c.maps) > 1 or np.any(c.lower < 0) for c in constraints)
        growth = _SHARED_SLACK if shared else 1.0
        slack = [_START_SLACK * growth**k for k in range(len(constraints), -1, -1)]
        x = np.repeat([slack[0]], len(self.course.best))
        x[:-1] = np.repeat(slack[1:], [c.groups for c in constraints])
        x *= self.course.best
        matrix = self.system.matrix(x)
        factor = factorise(matrix, self.pattern)
        if factor is None:
            return None
        z = factor.inverse()
        u = slice(0, self.inequality.input_size)
        mu = 1 / np.trace(z[u, u])
        sign = mu / x[:-1] if self.signed else np.zeros(len(x) - 1)
        return _Point(x, matrix, factor, mu * z, sign)

    def primal_step(self, point: _Point, dx: np.ndarray, ds: Blocks, halvings: int) -> float:
        longest = _ratio_test(point.x[:-1], dx[:-1]) if self.signed else 1.0
        return _longest(lambda a: factorise(combine(point.matrix, ds, a), self.pattern) is not None, longest, halvings)

    def dual_step(self, point: _Point, dy: np.ndarray, dsign: np.ndarray, halvings: int) -> float:
        longest = _ratio_test(point.sign, dsign) if self.signed else 1.0
        pairs = list(zip(on_cliques(point.y, self.pattern), on_cliques(dy, self.pattern), strict=True))
        return _longest(lambda a: all(not dpotrf(own + a * step, lower=1)[1] for own, step in pairs), longest, halvings)


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
