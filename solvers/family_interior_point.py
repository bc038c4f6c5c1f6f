r"""Shared multipliers to the optimum: a primal-dual interior-point method inside an exchange of frequencies.

The method is that of `netgain.solvers.cone_problem` on the stacks of `netgain.solvers.family_cone`, which are dense:
members are many and small. Few of them are active at the optimum, so it
starts with some, and takes in those that its multipliers violate most, until all hold. An optimum over some members is
a lower bound on that over all; multipliers that are mended for all members, by a step towards the closed form, give the
upper bound. Both are kept, so that a run can be stopped at any time.
"""

import dataclasses
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.linalg
from threadpoolctl import threadpool_limits

from .cone_problem import Bounds, ConeProblem, Point, positive, total
from .family import Family, ScaledFamily
from .family_cone import Cone, Metric, Rows
from .result import Limits, OnProgress, Progress, Solution, Status
from .schur import Solve, scaled_cholesky

_FIRST_ACCURACY = 0.1
_SHARPER = 0.1
_INWARDS = 1e-3
_FIRST_MEMBERS = 24
_MORE_MEMBERS = 12
_ROUNDS = 40
_CHUNK = 2**25


@dataclasses.dataclass(frozen=True, kw_only=True)
class FamilyInteriorPoint:
    """The solver. `max_iterations`: of one round; 10 to 30 are typical."""

    max_iterations: int = 100

    def solve(self, scaled: ScaledFamily, limits: Limits, on_progress: OnProgress | None = None) -> Solution:
        """Multipliers within `limits.tolerance` of the optimum, or the best found when stopped, by Ctrl-C too."""
        run = _Run(scaled, limits, on_progress)
        try:
            # Threads work at parts of the family; those of BLAS would only wait for them.
            with threadpool_limits(limits=1, user_api="blas"), run.pool:
                status = run.finished() if scaled.bound == 0 else run.exchange(self.max_iterations)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        return run.solution(status)


@dataclasses.dataclass(frozen=True)
class _Shared:
    """All cones have all unknowns."""

    cones: int

    def parts(self, x: np.ndarray) -> list[np.ndarray]:
        return [x] * self.cones

    def total(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return total(parts)

    def factorised(self, parts: Sequence[np.ndarray], diagonal: np.ndarray) -> Solve | None:
        matrix = np.ascontiguousarray(total(parts))
        np.einsum("ii->i", matrix)[:] += diagonal
        return scaled_cholesky(matrix)


class _Run:
    """One solve. The unknowns are lam of the family, lam of the head, rho, and the upper triangle of Q."""

    def __init__(self, scaled: ScaledFamily, limits: Limits, on_progress: OnProgress | None):
        self.scaled, self.limits, self.on_progress = scaled, limits, on_progress
        self.begin = time.perf_counter()
        self.history: list[Progress] = []
        self.iteration, self.dual_bound = 0, 0.0
        family, head = scaled.family, scaled.family.head
        self.own, self.inner = family.multipliers, head.multipliers if head else 0
        self.rho = self.own + self.inner
        self.metric = slice(self.rho + 1, self.rho + 1 + (family.channels * (family.channels + 1) // 2 if head else 0))
        self.start = self._start()
        self.best = self.start.copy()
        self.signed = head is not None and any(np.any(c.lower * c.upper > 0) for c in head.constraints)
        self.pool = ThreadPoolExecutor(os.cpu_count())
        self.members, self.mended = np.zeros(0, dtype=np.int64), self.start
        self._report()

    def _start(self) -> np.ndarray:
        point, (a, b) = self.scaled.strictly_feasible(), np.triu_indices(self.scaled.family.channels)
        metric = np.zeros(0) if point.metric is None else point.metric[a, b]
        return np.concatenate([*point.multipliers, [point.rho], metric])

    def cones(self, family: Family) -> list[Cone]:
        ends = np.cumsum([0, *(c.multipliers for c in family.constraints)])
        rows = tuple(Rows(k, c.maps, c.lower, c.upper, c.variable + ends[k - 1], c.kept)
                     for k, c in enumerate(family.constraints, start=1))
        unknowns = self.metric.stop
        energy = Metric({0: None}, 1, (1.0,) * family.input_size, self.rho)
        head = family.head
        if head is None:
            return [Cone(family.members, family.offsets, rows, (energy,), family.output, unknowns)]
        first = self.metric.start
        outgoing = Metric(family.output, family.channels, (-1.0,) * family.copies, first)
        incoming = Metric({0: None}, family.channels, (1.0,) * family.pixels, first)
        ends = self.own + np.cumsum([0, *(c.groups for c in head.constraints)])
        inner = tuple(
            Rows(k, {j: a[None] for j, a in c.maps.items()}, c.lower, c.upper,
                 np.arange(c.rows) // c.coupled + ends[k - 1], np.arange(c.rows)[c.answering])
            for k, c in enumerate(head.constraints, start=1)
        )
        output = {j: c[None] for j, c in head.output.items()}
        return [
            Cone(family.members, family.offsets, rows, (energy, outgoing), None, unknowns),
            Cone(1, head.offsets, inner, (incoming,), output, unknowns),
            Cone(1, (0, family.channels), (), (dataclasses.replace(incoming, weights=(1.0,)),), None, unknowns),
        ]

    def all_cones(self, members: np.ndarray) -> list[Cone]:
        """The cones of these members, in parts that are worked at side by side, and then those of the head."""
        first, *others = (self.cones(self.scaled.family.restrict(part)) for part in _parts(members))
        return [first[0], *(cones[0] for cones in others), *first[1:]]

    def problem(self, members: np.ndarray) -> ConeProblem:
        """With these members alone; numpy lets threads work at large stacks side by side."""
        signed = Bounds.below(np.arange(self.rho if self.signed else 0))
        cones = self.all_cones(members)
        return ConeProblem(cones, _Shared(len(cones)), self.rho, signed, self.pool.map)

    def exchange(self, max_iterations: int) -> Status:
        """Rounds of solving for some members, ever more accurately, and taking in those violated."""
        family = self.scaled.family
        self.members = np.arange(min(_FIRST_MEMBERS, family.members))
        point: Point | None = self.first_point(self.start, None, self.members)
        accuracy = _FIRST_ACCURACY
        for _ in range(_ROUNDS):
            status, point = self.round(point, max(accuracy, 0.25 * self.limits.tolerance), max_iterations)
            if point is None:
                return Status.STALLED
            fresh = np.setdiff1d(self.violations(point.x), self.members)
            if self.gap() <= self.limits.tolerance:
                return Status.OPTIMAL
            if status is not Status.OPTIMAL:
                return status
            if len(fresh):
                former, self.members = self.members, np.sort(np.concatenate([self.members, fresh]))
                point = self.first_point(self.mended, (former, point), self.members)
            elif accuracy <= 0.25 * self.limits.tolerance:
                return Status.STALLED
            accuracy = min(accuracy, self.gap()) * _SHARPER
        return Status.ITERATION_LIMIT

    def gap(self) -> float:
        """(bound - dual bound) / bound."""
        return 1 - self.dual_bound / math.sqrt(self.best[self.rho])

    def violations(self, x: np.ndarray) -> np.ndarray:
        """The members that x violates most; takes x, mended for all members, as the best point if it is."""
        family = self.scaled.family
        width = max(1, _CHUNK // (16 * sum(family.sizes) ** 2))
        depth = np.empty(family.members)
        for first in range(0, family.members, width):
            chosen = np.arange(first, min(first + width, family.members))
            cone = self.cones(family.restrict(chosen))[0]
            depth[chosen] = list(map(_depth, cone.matrix(x), cone.matrix(self.start)))
        # With M(x) + d M(start) >= 0, the share t = d / (1 + d) makes (1 - t) M(x) + t M(start) semidefinite.
        share = float(depth.max()) / (1 + float(depth.max())) * (1 + 1e-9)
        self.mended = (1 - share) * x + share * self.start
        if self.mended[self.rho] < self.best[self.rho]:
            self.best = self.mended
        self._report()
        worst = np.argsort(-depth)[:_MORE_MEMBERS]
        return worst[depth[worst] > 0]

    def finished(self) -> Status:
        self.best[self.rho] = 0.0
        self._report()
        return Status.OPTIMAL

    def round(
        self, point: Point | None, accuracy: float, max_iterations: int
    ) -> tuple[Status, Point | None]:
        """From a point on to the optimum over the members taken in, within a relative `accuracy`."""
        problem = self.problem(self.members)
        whole = len(self.members) == self.scaled.family.members
        for _ in range(max_iterations):
            if point is None:
                return Status.STALLED, None
            x = point.x
            if whole and x[self.rho] < self.best[self.rho]:
                self.best = x
            forms = problem.forms(point)
            dual = problem.dual(point, forms)
            self.dual_bound = max(self.dual_bound, math.sqrt(dual))
            self._report()
            if math.sqrt(x[self.rho]) - math.sqrt(dual) <= accuracy * math.sqrt(x[self.rho]):
                return Status.OPTIMAL, point
            if time.perf_counter() - self.begin > self.limits.time_limit:
                return Status.TIME_LIMIT, point
            self.iteration += 1
            point = problem.step(point, forms)
        return Status.ITERATION_LIMIT, point

    def first_point(
        self, x: np.ndarray, former: tuple[np.ndarray, Point] | None, members: np.ndarray
    ) -> Point | None:
        """x and some of the start, strictly inside, with Y on the central path of the wrong problem; or where a former
        round had some of the members, with its Y for these."""
        problem, share, towards = self.problem(members), _INWARDS, x
        while True:
            x = (1 - share) * towards + share * self.start
            m = problem.matrices(x)
            if m is not None:
                break
            if share >= 1:
                return None
            share = min(1.0, 4 * share)
        if former is None:
            return problem.central(x, m)
        (known, point), parts = former, len(_parts(members))
        first = problem.mean(dataclasses.replace(point, x=x)) * np.concatenate(problem.inverses(m[:parts]))
        own = len(_parts(known))
        first[np.searchsorted(members, known)] = np.concatenate(point.y[:own])
        y = [*np.split(first, np.cumsum([len(stack) for stack in m[:parts]])[:-1]), *point.y[own:]]
        return Point(x, m, y, point.sign)

    def _report(self) -> None:
        bound = self.scaled.unscale(math.sqrt(max(self.best[self.rho], 0.0)))
        seconds = time.perf_counter() - self.begin
        progress = Progress(bound, self.scaled.unscale(self.dual_bound), self.iteration, seconds)
        self.history.append(progress)
        if self.on_progress:
            self.on_progress(progress)

    def solution(self, status: Status) -> Solution:
        family, head, last = self.scaled.family, self.scaled.family.head, self.history[-1]
        counts = [c.multipliers for c in family.constraints] + [c.groups for c in (head.constraints if head else ())]
        metric = np.zeros((family.channels, family.channels))
        if head:
            a, b = np.triu_indices(family.channels)
            metric[a, b] = metric[b, a] = self.best[self.metric]
        return Solution(
            status=status,
            bound=last.bound,
            dual_bound=last.dual_bound,
            multipliers=tuple(np.split(self.best[: self.rho], np.cumsum(counts))[:-1]),
            iterations=self.iteration,
            seconds=time.perf_counter() - self.begin,
            solver="family_interior_point",
            version="",
            history=tuple(self.history),
            detail=f"{len(self.members)} of {family.members} frequencies were needed",
            metrics=(metric,) if head else (),
        )


def _parts(members: np.ndarray) -> list[np.ndarray]:
    return np.array_split(members, min(os.cpu_count() or 1, len(members)))


def _depth(m: np.ndarray, safe: np.ndarray) -> float:
    """The least t >= 0 with m + t safe >= 0, for positive definite `safe`."""
    if positive(m):
        return 0.0
    return max(0.0, -float(scipy.linalg.eigh(m, safe, eigvals_only=True, subset_by_index=(0, 0))[0]))
