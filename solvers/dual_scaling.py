r"""A barrier method for the matrix inequality that works with the inverse of M alone: for large networks.

Minimises rho / mu - log det M(rho, lam) by Newton steps while mu falls (the dual-scaling algorithm of Benson, Ye and
Zhang, SIAM J. Optim. 2000). With Z = M^{-1}, g_i = <F_i, Z> and H_ij = trace(F_i Z F_j Z), the Newton step for mu is
H^{-1} g - H^{-1} e / mu. It costs a fraction of a primal-dual step: no dense Y is kept, completed or multiplied. Alone
it would need many more: a few eigenvalues of M want to change by large factors, and shorten it. The model of
`netgain.solvers.barrier_model`, which is exact on these, gives steps as long as primal-dual ones, and with them a dual
feasible Y that is never formed. Its objective, rho - mu (n - <dx, g> + tr R), is at most the least rho.

Where lam >= 0 does not follow from M >= 0, its logarithms join the barrier.
"""

import dataclasses
import functools
import math

import numpy as np
import psutil
from threadpoolctl import threadpool_limits

from .barrier_model import Directions, is_positive, relative, ritz, root_of
from .block_matrix import Blocks, Factor, apply, combine, factorise
from .closed_form import Scaled
from .course import Course
from .newton_system import NewtonSystem
from .result import Cost, Limits, OnProgress, Solution, Status
from .schur import Solve, scaled_cholesky
from .structure import diagonals_first, structure

_START_SLACK, _START_GROWTH = 1.3, 1.02
# The share of the way to the border; a primal method that comes too near needs many steps to get away from it.
_STEP = 0.8
_SHORTEST_STEP = 1e-6
# mu falls by a factor that grows as long as steps are long.
_FIRST_FALL, _LARGEST_FALL = 1.5, 20.0
# In the norm of H; from here on centring comes first.
_FAR = 5.0
# Directions treated exactly: of the path's tangent at each end, of the Newton step at each end, and of what shortens
# the step that these give.
_OF_TANGENT, _OF_NEWTON, _OF_STEP = 8, 4, 8
_LANCZOS_STEPS = 30
_APART = 0.4
# Below this order several threads of BLAS cost more than they bring.
_WORTH_THREADS = 2000
# Seconds of looking how busy the cores are.
_GLANCE = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class DualScaling:
    """The barrier method. `max_iterations`: a solve to one per cent takes 15 to 30."""

    max_iterations: int = 100

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
        return Cost(inequality.multipliers, n, memory, 25 * seconds)

    def memory(self, scaled: Scaled) -> int:
        return self.predict(scaled).memory

    @staticmethod
    def _threads(order: int) -> int:
        """As many as there are idle cores: threads of BLAS wait for each other, and one without a core delays all."""
        if order <= _WORTH_THREADS:
            return 1
        idle = (psutil.cpu_count() or 1) * (1 - psutil.cpu_percent(interval=_GLANCE) / 100)
        return max(1, round(idle))

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
    x, fall = _start(course), _FIRST_FALL
    matrix = system.matrix(x)
    factor = factorise(matrix, pattern)
    for iteration in range(1, max_iterations + 1):
        if course.out_of_time:
            return Status.TIME_LIMIT
        here = _neighbourhood(system, matrix, factor, x) if factor is not None else None
        if here is None:
            return Status.STALLED
        found = here.step(here.mu / fall) or here.step(here.mu)
        if found is None:
            return Status.STALLED
        dx, dual, lowest = found
        if course.offer(iteration, x, dual):
            return Status.OPTIMAL
        step = system.matrix(dx, homogeneous=True)
        length, factor = min(1.0, _STEP / -lowest) if lowest < 0 else 1.0, None
        fall = _next_fall(fall, length, here.distance)
        while factor is None and length > _SHORTEST_STEP:
            moved = combine(matrix, step, length)
            factor = factorise(moved, pattern)
            taken, length = length, length / 2
        x, matrix = x + taken * dx, moved
    return Status.ITERATION_LIMIT


def _start(course: Course) -> np.ndarray:
    """The closed form with some slack at every step: larger by as much at all of them, it would be near the border."""
    layers = course.scaled.start
    levels = [np.full(len(lam), _START_GROWTH ** (len(layers) - k)) for k, lam in enumerate(layers, 1)]
    result: np.ndarray = _START_SLACK * course.best * np.concatenate([*levels, [_START_GROWTH ** len(layers)]])
    return result


def _next_fall(fall: float, length: float, distance: float) -> float:
    if length > 0.9:
        return min(1.5 * fall, _LARGEST_FALL)
    if length < 0.6:
        return max(1 + 0.6 * (fall - 1), 1.0 if distance > _FAR else 1.1)
    return fall


@dataclasses.dataclass(frozen=True, eq=False)
class _Neighbourhood:
    """A strictly feasible x, the Newton equations there, and steps from it.

    **Attributes:** `towards_rho`, `centring`: H^{-1} e and H^{-1} g; `mu`: the one for which the Newton step is
    shortest; `distance`: its length in the norm of H.
    """

    system: NewtonSystem
    matrix: Blocks
    factor: Factor
    x: np.ndarray
    gradient: np.ndarray
    solve: Solve
    towards_rho: np.ndarray
    centring: np.ndarray
    mu: float
    distance: float

    def newton(self, mu: float) -> np.ndarray:
        return self.centring - self.towards_rho / mu

    def ritz(self, dx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        step = self.system.matrix(dx, homogeneous=True)
        return ritz(relative(step, self.factor), self.factor.structure.size, _LANCZOS_STEPS)

    def step(self, target: float) -> tuple[np.ndarray, float, float] | None:
        """The step for mu = `target`; a lower bound on the least rho, 0 if none was found; and how far M and lam may
        shrink along the step, relative to themselves: -1 if some direction vanishes."""
        directions = Directions.none(self.system, self.factor, self.solve, len(self.x))
        for dx, count in ((-self.towards_rho / self.mu, _OF_TANGENT), (self.newton(self.mu), _OF_NEWTON)):
            vectors = self.ritz(dx)[1]
            directions = directions.extended(vectors[:, :count]).extended(vectors[:, count:][:, -count:])
        found = directions.step(self.newton(target))
        if found is None:
            return None
        values, vectors = self.ritz(found[0])
        if values[0] < -_STEP:
            more = directions.extended(vectors[:, :_OF_STEP][:, values[:_OF_STEP] < -_APART])
            better = more.step(self.newton(target))
            if better is not None:
                directions, found = more, better
                values = self.ritz(found[0])[0]
        dual = self.dual(*found, target, directions)
        if dual == 0:
            central = directions.step(self.newton(self.mu))
            dual = self.dual(*central, self.mu, directions) if central is not None else 0.0
        lowest = float(values[0])
        if self.system.needs_sign_constraint:
            lowest = min(lowest, float(np.min(found[0][:-1] / self.x[:-1])))
        return found[0], dual, lowest

    def dual(self, dx: np.ndarray, r: np.ndarray, mu: float, directions: Directions) -> float:
        """The objective of Y if it is feasible, otherwise 0."""
        signed = self.system.needs_sign_constraint
        if signed and np.any(dx[:-1] > self.x[:-1]):
            return 0.0
        change = combine(self.matrix, self.system.matrix(dx, homogeneous=True), -1.0)
        u = apply(self.matrix, directions.v, self.factor.structure) @ root_of(r)
        if not is_positive(change, u, self.factor.structure):
            return 0.0
        order = self.factor.structure.size + signed * (len(dx) - 1)
        return max(float(self.x[-1] - mu * (order - dx @ self.gradient + np.trace(r))), 0.0)


def _neighbourhood(system: NewtonSystem, matrix: Blocks, factor: Factor, x: np.ndarray) -> _Neighbourhood | None:
    """The gradient and the negative Hessian of log det M (and of log lam) at x; None if H cannot be solved with."""
    z = factor.inverse()
    forms = system.forms(z)
    gradient = system.gradient(z, forms)
    hessian = system.schur(z, z, forms, forms)
    del z, forms
    if system.needs_sign_constraint:
        gradient[:-1] += 1 / x[:-1]
        np.einsum("ii->i", hessian)[:-1] += 1 / x[:-1] ** 2
    solve = scaled_cholesky(hessian)
    if solve is None:
        return None
    cost = np.zeros(len(x))
    cost[-1] = 1
    towards_rho, centring = solve(cost), solve(gradient)
    if not centring[-1] > 0:
        return None
    mu = towards_rho[-1] / centring[-1]
    distance = math.sqrt(max(gradient @ centring - centring[-1] / mu, 0.0))
    return _Neighbourhood(system, matrix, factor, x, gradient, solve, towards_rho, centring, mu, distance)
