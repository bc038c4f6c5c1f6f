r"""Shared multipliers to the optimum: a primal-dual interior-point method inside an exchange of frequencies.

The method is that of `netgain.solvers.cone_problem` on the stacks of `netgain.solvers.family_cone`, which are dense:
members are many and small. Few of them are active at the optimum, so it starts with some of every stage, and takes in
those that its multipliers violate most, until all hold. An optimum over some members is a lower bound on that over all;
multipliers that are mended for all members, by a step towards the closed form, give the upper bound. Both are kept, so
that a run can be stopped at any time.
"""

import dataclasses
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.linalg
from threadpoolctl import threadpool_limits

from .cone_problem import Bounds, ConeProblem, Point, positive
from .family import ScaledFamily
from .family_chain import FamilyChain
from .result import Limits, OnProgress, Progress, Solution, Status

_FIRST_ACCURACY = 0.1
# Stages alone are solved to this accuracy of their gains, and so much of the closed form keeps them inside.
_ROUGH, _INSIDE = 0.1, 0.05
_SHARPER = 0.1
_INWARDS = 1e-3
_FIRST_MEMBERS = 24
_MORE_MEMBERS = 12
_ROUNDS = 40
_CHUNK = 2**25

_Members = list[np.ndarray]
"""Ascending numbers of members, stage by stage."""


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
                status = run.finished() if scaled.bound == 0 else run.solve(self.max_iterations)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        return run.solution(status)


class _Run:
    """One solve; the unknowns are those of `netgain.solvers.family_chain`."""

    def __init__(self, scaled: ScaledFamily, limits: Limits, on_progress: OnProgress | None):
        self.scaled, self.limits, self.on_progress = scaled, limits, on_progress
        self.begin = time.perf_counter()
        self.history: list[Progress] = []
        self.iteration, self.dual_bound = 0, 0.0
        self.layout = FamilyChain.of(scaled.family)
        self.stages, head = scaled.family.stages, scaled.family.inequality
        self.start = self.layout.vector(scaled.strictly_feasible())
        self.best = self.start.copy()
        lam = [np.arange(place.start, place.stop) for place in self.layout.multipliers]
        signed = head is not None and any(np.any(c.lower * c.upper > 0) for c in head.constraints)
        self.bounds = Bounds.below(np.concatenate(lam) if signed else np.zeros(0, dtype=np.int64))
        self.pool = ThreadPoolExecutor(os.cpu_count())
        self.mended = self.start
        self.members: _Members = []
        self._report()

    def problem(self, members: _Members) -> ConeProblem:
        """With these members alone; numpy lets threads work at large stacks side by side."""
        parts = [_parts(own) for own in members]
        cones = [self.layout.stage_cone(number, stage.restrict(part))
                 for number, (stage, own) in enumerate(zip(self.stages, parts, strict=True)) for part in own]
        cones += self.layout.head_cones()
        return ConeProblem(cones, self.layout.chain([len(own) for own in parts]), 0, self.bounds, self.pool.map)

    def solve(self, max_iterations: int) -> Status:
        """From the closed form, or, in a chain, from the least gains of its stages alone, multiplied."""
        if len(self.stages) == 1:
            return self.exchange(max_iterations)
        points = [stage.strictly_feasible() for stage in self.scaled.stages]
        for k, stage in enumerate(self.scaled.stages):
            left = self.limits.time_limit - (time.perf_counter() - self.begin)
            run = _Run(stage, Limits(tolerance=_ROUGH, time_limit=max(left, 1e-3)), None)
            try:
                with run.pool:
                    run.exchange(max_iterations)
            finally:
                # Its best point so far, also when Ctrl-C was pressed.
                points[k] = run.layout.point((1 - _INSIDE) * run.best + _INSIDE * run.start)
                self.start = self.layout.vector(self.scaled.joined(points))
                self.best = self.start.copy()
                self._report()
        return self.exchange(max_iterations)

    def exchange(self, max_iterations: int) -> Status:
        """Rounds of solving for some members, ever more accurately, and taking in those violated."""
        self.members = [np.arange(min(_FIRST_MEMBERS, stage.members)) for stage in self.stages]
        point: Point | None = self.first_point(self.start, None, self.members)
        accuracy = _FIRST_ACCURACY
        for _ in range(_ROUNDS):
            status, point = self.round(point, max(accuracy, 0.25 * self.limits.tolerance), max_iterations)
            if point is None:
                return Status.STALLED
            worst = self.violations(point.x)
            joint = [np.union1d(own, more) for own, more in zip(self.members, worst, strict=True)]
            if self.gap() <= self.limits.tolerance:
                return Status.OPTIMAL
            if status is not Status.OPTIMAL:
                return status
            if _count(joint) > _count(self.members):
                former, self.members = self.members, joint
                point = self.first_point(self.mended, (former, point), self.members)
            elif accuracy <= 0.25 * self.limits.tolerance:
                return Status.STALLED
            accuracy = min(accuracy, self.gap()) * _SHARPER
        return Status.ITERATION_LIMIT

    def gap(self) -> float:
        """(bound - dual bound) / bound."""
        return 1 - self.dual_bound / math.sqrt(self.best[0])

    def violations(self, x: np.ndarray) -> _Members:
        """The members that x violates most; takes x, mended for all members, as the best point if it is."""
        depths = [self._depths(number, x) for number in range(len(self.stages))]
        # With M(x) + d M(start) >= 0, the share t = d / (1 + d) makes (1 - t) M(x) + t M(start) semidefinite.
        largest = max(float(depth.max()) for depth in depths)
        share = largest / (1 + largest) * (1 + 1e-9)
        self.mended = (1 - share) * x + share * self.start
        if self.mended[0] < self.best[0]:
            self.best = self.mended
        self._report()
        worst = [np.argsort(-depth)[:_MORE_MEMBERS] for depth in depths]
        return [own[depth[own] > 0] for own, depth in zip(worst, depths, strict=True)]

    def _depths(self, number: int, x: np.ndarray) -> np.ndarray:
        """`_depth` of every member of a stage."""
        stage, place = self.stages[number], self.layout.place(number)
        width = max(1, _CHUNK // (16 * sum(stage.sizes) ** 2))
        depth = np.empty(stage.members)
        for first in range(0, stage.members, width):
            chosen = np.arange(first, min(first + width, stage.members))
            cone = self.layout.stage_cone(number, stage.restrict(chosen))
            depth[chosen] = list(map(_depth, cone.matrix(x[place]), cone.matrix(self.start[place])))
        return depth

    def finished(self) -> Status:
        self.best[0] = 0.0
        self._report()
        return Status.OPTIMAL

    def round(
        self, point: Point | None, accuracy: float, max_iterations: int
    ) -> tuple[Status, Point | None]:
        """From a point on to the optimum over the members taken in, within a relative `accuracy`."""
        problem = self.problem(self.members)
        whole = _count(self.members) == sum(stage.members for stage in self.stages)
        for _ in range(max_iterations):
            if point is None:
                return Status.STALLED, None
            x = point.x
            if whole and x[0] < self.best[0]:
                self.best = x
            forms = problem.forms(point)
            dual = problem.dual(point, forms)
            self.dual_bound = max(self.dual_bound, math.sqrt(dual))
            self._report()
            if math.sqrt(x[0]) - math.sqrt(dual) <= accuracy * math.sqrt(x[0]):
                return Status.OPTIMAL, point
            if time.perf_counter() - self.begin > self.limits.time_limit:
                return Status.TIME_LIMIT, point
            self.iteration += 1
            point = problem.step(point, forms)
        return Status.ITERATION_LIMIT, point

    def first_point(self, x: np.ndarray, former: tuple[_Members, Point] | None, members: _Members) -> Point | None:
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
        (before, point), mu = former, problem.mean(dataclasses.replace(former[1], x=x))
        y, new, old = [], 0, 0
        for known, own in zip(before, members, strict=True):
            parts, had = _parts(own), len(_parts(known))
            stack = mu * np.concatenate(problem.inverses(m[new : new + len(parts)]))
            stack[np.searchsorted(own, known)] = np.concatenate(point.y[old : old + had])
            y += np.split(stack, np.cumsum([len(part) for part in parts])[:-1])
            new, old = new + len(parts), old + had
        return Point(x, m, y + point.y[old:], point.sign)

    def _report(self) -> None:
        bound = self.scaled.unscale(math.sqrt(max(self.best[0], 0.0)))
        seconds = time.perf_counter() - self.begin
        progress = Progress(bound, self.scaled.unscale(self.dual_bound), self.iteration, seconds)
        self.history.append(progress)
        if self.on_progress:
            self.on_progress(progress)

    def solution(self, status: Status) -> Solution:
        last, best = self.history[-1], self.layout.point(self.best)
        frequencies = sum(stage.members for stage in self.stages)
        return Solution(
            status=status,
            bound=last.bound,
            dual_bound=last.dual_bound,
            multipliers=best.multipliers,
            iterations=self.iteration,
            seconds=time.perf_counter() - self.begin,
            solver="family_interior_point",
            version="",
            history=tuple(self.history),
            detail=f"{_count(self.members)} of {frequencies} frequencies were needed",
            metrics=best.metrics,
        )


def _count(members: _Members) -> int:
    return sum(map(len, members))


def _parts(members: np.ndarray) -> list[np.ndarray]:
    return np.array_split(members, min(os.cpu_count() or 1, len(members)))


def _depth(m: np.ndarray, safe: np.ndarray) -> float:
    """The least t >= 0 with m + t safe >= 0, for positive definite `safe`."""
    if positive(m):
        return 0.0
    return max(0.0, -float(scipy.linalg.eigh(m, safe, eigvals_only=True, subset_by_index=(0, 0))[0]))
