r"""A barrier method for the matrix inequality that works with the inverse of M alone: for large networks.

Minimises rho / mu - log det M(rho, lam) by Newton steps while mu falls (the dual-scaling algorithm of Benson, Ye and
Zhang, SIAM J. Optim. 2000). It takes two to four times as many iterations as the primal-dual method, each at a small
fraction of the cost: no dense Y is kept, completed or multiplied. With Z = M^{-1}, g_i = <F_i, Z> and
H_ij = trace(F_i Z F_j Z), the step for mu is dx = H^{-1} g - H^{-1} e / mu, and

    Y = mu (Z - Z dM Z),    dM = sum_i dx_i F_i,

satisfies <F_i, Y> = 0 and <E, Y> = 1 by the Newton equations. If M - dM >= 0, then Y >= 0 too, so that Y is dual
feasible and its objective, rho - mu (n - <dx, g>), is at most the least rho, without Y ever being formed.

Where lam >= 0 does not follow from M >= 0, its logarithms join the barrier.
"""

import dataclasses
import functools
import math

import numpy as np
import psutil
import scipy.sparse.linalg
from threadpoolctl import threadpool_limits

from .block_matrix import Blocks, Factor, apply, combine, factorise
from .closed_form import Scaled
from .course import Course
from .newton_system import NewtonSystem
from .result import Cost, Limits, OnProgress, Solution, Status
from .schur import Solve, scaled_cholesky
from .structure import diagonals_first, structure

_START_SLACK = 1.3
# The share of the way to the border; a primal method that comes too near needs many steps to get away from it.
_STEP = 0.7
_SHORTEST_STEP = 1e-6
# mu falls by this factor when the point is near the central path. Less is slower, more leaves the path too far.
_FALL = 1.3
# In the norm of H; from here on M - dM is not worth a test.
_NEAR = 2.5
# Below this order several threads of BLAS cost more than they bring.
_WORTH_THREADS = 2000


@dataclasses.dataclass(frozen=True, kw_only=True)
class DualScaling:
    """The barrier method. `max_iterations`: a solve to one per cent takes 25 to 60."""

    max_iterations: int = 400

    def predict(self, scaled: Scaled) -> Cost:
        """What a solve will take, before it starts; to within a factor of about two."""
        inequality = scaled.inequality
        pattern = structure(inequality, diagonals_first(inequality))
        m, n, flops = inequality.rows, pattern.size, inequality.multipliers**3 / 3
        # Z, M and its factor; PZ, QZ; QZP', QZQ', the Schur matrix and its factor.
        memory = 8 * (4 * n * n + 2 * m * n + 5 * m * m)
        for k, rows in enumerate(pattern.rows):
            own, later = rows.stop - rows.start, sum(part.stop - part.start for part in pattern.later_parts[k])
            after = n - rows.stop
            flops += 2 * own * later * (later + own + after)
            flops += 0 if pattern.diagonal[k] else own**2 * (own + 2 * later)
        for constraint in inequality.constraints:
            flops += 4 * n * sum(a.size for a in constraint.maps.values())
        seconds = flops / (3e10 * self._threads(n)) + 60 * n * n / 1e9 + 5e-3
        return Cost(inequality.multipliers, n, memory, 50 * seconds)

    def memory(self, scaled: Scaled) -> int:
        return self.predict(scaled).memory

    @staticmethod
    def _threads(order: int) -> int:
        """As many as there are idle cores: threads of BLAS wait for each other, and one without a core delays all."""
        idle = (psutil.cpu_count() or 1) - psutil.getloadavg()[0]
        return max(1, round(idle)) if order > _WORTH_THREADS else 1

    def solve(self, scaled: Scaled, limits: Limits, on_progress: OnProgress | None = None) -> Solution:
        """Multipliers within `limits.tolerance` of the optimum, or the best found when stopped.

        Ctrl-C ends the solve with status INTERRUPTED and the best multipliers so far.
        """
        course = Course(scaled, limits, on_progress, "dual_scaling")
        with threadpool_limits(limits=self._threads(sum(scaled.inequality.sizes)), user_api="blas"):
            return course.run(functools.partial(_iterate, course, self.max_iterations))


def _iterate(course: Course, max_iterations: int) -> Status:
    inequality = course.scaled.inequality
    pattern = structure(inequality, diagonals_first(inequality))
    system = NewtonSystem(inequality, pattern)
    signed = system.needs_sign_constraint
    order = pattern.size + signed * inequality.multipliers
    x = _START_SLACK * course.best
    matrix = system.matrix(x)
    factor, mu = factorise(matrix, pattern), math.inf
    cost = np.zeros(len(x))
    cost[-1] = 1
    for iteration in range(1, max_iterations + 1):
        if factor is None:
            return Status.STALLED
        if course.out_of_time:
            return Status.TIME_LIMIT
        gradient, solve = _newton_equations(system, factor, x, signed)
        if solve is None:
            return Status.STALLED
        towards_rho, centring = solve(cost), solve(gradient)
        # The mu for which the Newton step is shortest, and its length in the norm of H.
        nearest = towards_rho[-1] / centring[-1] if centring[-1] > 0 else mu
        distance = math.sqrt(max(gradient @ centring - centring[-1] ** 2 / towards_rho[-1], 0.0))
        dual, central = 0.0, False
        if distance < _NEAR:
            dx = centring - towards_rho / nearest
            inside = not signed or bool(np.all(dx[:-1] <= x[:-1]))
            step = system.matrix(dx, homogeneous=True)
            central = inside and factorise(combine(matrix, step, -1.0), pattern) is not None
            if central:
                dual = float(x[-1] - nearest * (order - dx @ gradient))
        if course.offer(iteration, x, dual):
            return Status.OPTIMAL
        mu = nearest / _FALL if central or distance < 1 else nearest
        dx = centring - towards_rho / mu
        step = system.matrix(dx, homogeneous=True)
        length = _step_length(matrix, factor, step, x, dx, signed)
        factor = None
        while factor is None and length > _SHORTEST_STEP:
            moved = combine(matrix, step, length)
            factor = factorise(moved, pattern)
            taken, length = length, length / 2
        x, matrix = x + taken * dx, moved
    return Status.ITERATION_LIMIT


def _newton_equations(
    system: NewtonSystem, factor: Factor, x: np.ndarray, signed: bool
) -> tuple[np.ndarray, Solve | None]:
    """The gradient of log det M (and of log lam) at x, and how to solve with its negative Hessian."""
    z = factor.inverse()
    forms = system.forms(z)
    gradient = system.gradient(z, forms)
    hessian = system.schur(z, z, forms, forms)
    if signed:
        gradient[:-1] += 1 / x[:-1]
        np.einsum("ii->i", hessian)[:-1] += 1 / x[:-1] ** 2
    return gradient, scaled_cholesky(hessian)


def _step_length(
    matrix: Blocks, factor: Factor, step: Blocks, x: np.ndarray, dx: np.ndarray, signed: bool
) -> float:
    """About _STEP of the way along dx to where M or lam stops being positive, and at most the whole step."""
    n = factor.structure.size

    def relative(v: np.ndarray) -> np.ndarray:
        return factor.solve_lower(apply(step, factor.solve_upper(v.reshape(-1, 1)), factor.structure)).ravel()

    operator = scipy.sparse.linalg.LinearOperator((n, n), matvec=relative, dtype=np.float64)
    try:
        lowest = float(scipy.sparse.linalg.eigsh(
            operator, k=1, which="SA", tol=0.03, v0=np.ones(n), ncv=min(n, 20), return_eigenvectors=False)[0])
    except scipy.sparse.linalg.ArpackNoConvergence:
        lowest = -1.0  # the factorisation will tell
    if signed:
        lowest = min(lowest, float(np.min(dx[:-1] / x[:-1])))
    return min(1.0, _STEP / -lowest) if lowest < 0 else 1.0
