r"""The chain of dissipation inequalities to the optimum: the primal-dual method of `netgain.solvers.cone_problem`.

The Schur matrix couples a stage with its neighbours alone, and is formed from congruences of Z and Y with a few rows
(`netgain.solvers.family_cone`): a stage with n unknowns takes some n^2 operations to form and n^3 / 3 to factorise,
where conic solvers treat a matrix of order N as a cone of N (N + 1) / 2 dense entries.

It starts from formulas, then from the least gain of every stage alone, found roughly, which are multiplied. All points
are strictly feasible: a run that is stopped returns a valid bound.
"""

import dataclasses
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from .closed_form import scale
from .dissipation import DissipationProblem, DissipationSolution
from .dissipation_cones import ChainCones, chain_cones
from .dissipation_start import StagePoint, stage_start
from .family_cone import Metric
from .inequality import Inequality
from .result import Cost, Limits, OnProgress, Progress, Status

# Measured: operations of BLAS 3 and entries of Schur matrices by second, and what a stage takes however small it is.
_FLOPS, _ENTRIES, _OVERHEAD = 2.4e10, 2.2e7, 2e-3
_ITERATIONS = 22
# Stages alone are solved to this accuracy of their gains.
_ROUGH = 0.1
# What storages, multipliers and metrics may exceed those of the formulas by.
_FAR = 1e6
# What rho may exceed its start by.
_CAP = 2.0
# As in `netgain.solvers.family`: by how much each step of the head's formula keeps more than the next one takes.
_HEAD_SLACK, _HEAD_GROWTH = 1.3, 1.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class DissipationInteriorPoint:
    """The solver. `max_iterations`: 15 to 40 are typical."""

    max_iterations: int = 100

    def predict(self, problem: DissipationProblem) -> Cost:
        """What a solve will take, before it starts; from sizes alone, whatever the units."""
        cones = chain_cones(problem)
        counts = [place.stop - place.start for place in cones.chain.places]
        # The Schur matrix of each cone, and its factor or, beside it, what couples it with the next.
        memory = 8 * sum(2.2 * n**2 for n in counts)
        # While it is formed: products of congruences, on as many cores as there are.
        widest = max(metric.channels for cone in cones.cones for metric in cone.metrics)
        memory += 8 * (os.cpu_count() or 1) * 3 * widest**4
        memory += 8 * sum(30 * cone.order**2 for cone in cones.cones)
        work = sum(n**3 / 3 + 25 * cone.order**3 for n, cone in zip(counts, cones.cones, strict=True))
        seconds = work / _FLOPS + sum(n**2 for n in counts) / _ENTRIES + _OVERHEAD * len(counts)
        places = [place for place in (*cones.multipliers, *cones.head) if place is not None]
        return Cost(sum(place.stop - place.start for place in places), max(cone.order for cone in cones.cones),
                    round(memory), _ITERATIONS * seconds)

    def closed_form(self, problem: DissipationProblem) -> DissipationSolution:
        """The formulas' point; the status is FAILED if there is none."""
        run = _Run(problem, Limits(), None)
        return run.solution(Status.FAILED if run.failure else Status.CLOSED_FORM)

    def solve(self, problem: DissipationProblem, limits: Limits | None = None,
              on_progress: OnProgress | None = None) -> DissipationSolution:
        """A point within `limits.tolerance` of the optimum, or the best found when stopped, by Ctrl-C too.

        The status is FAILED if a system is not stable, so that no formula bounds its storage.
        """
        run = _Run(problem, limits or Limits(), on_progress)
        if run.failure:
            return run.solution(Status.FAILED)
        # Threads work at stages side by side; those of BLAS would only wait for them.
        with threadpool_limits(limits=1, user_api="blas"), run.pool:
            try:
                status = run.iterate(self.max_iterations)
            except KeyboardInterrupt:
                run.stopped, status = True, Status.INTERRUPTED
                run.offer(run.joined(run.points)[0])
        return run.solution(status)


class _Run:
    """One solve; rho is the first of the unknowns."""

    def __init__(self, problem: DissipationProblem, limits: Limits, on_progress: OnProgress | None):
        self.problem, self.limits, self.on_progress = problem, limits, on_progress
        self.begin = time.perf_counter()
        self.history: list[Progress] = []
        self.iteration, self.dual_bound = 0, 0.0
        self.cones = chain_cones(problem)
        self.pool = ThreadPoolExecutor(os.cpu_count())
        self.failure, self.best = "", np.full(self.cones.unknowns, math.inf)
        formulas = [stage_start(stage) for stage in problem.stages]
        self.formulas = [point for point in formulas if point is not None]
        if len(self.formulas) < len(formulas):
            unstable = [str(k) for k, point in enumerate(formulas, 1) if point is None]
            self.failure = f"no storage bounds the state of stage {', '.join(unstable)}: is A stable?"
            return
        # Of every stage alone, the best so far.
        self.points, self.stopped = list(self.formulas), False
        self.best, _ = self.joined(self.formulas)
        self.vanishes = any(not (np.any(stage.C) or np.any(stage.D)) for stage in problem.stages)
        self.vanishes |= problem.head is not None and not any(map(np.any, problem.head.output.values()))
        self.report()

    def joined(self, points: Sequence[StagePoint]) -> tuple[np.ndarray, list[float]]:
        """The point of the whole chain in which Q_(k-1) is rho_k times Q_k, and q by stage, where Q_k = q I."""
        levels = []
        x, cones = np.zeros(self.cones.unknowns), self.cones
        level = 1.0
        if self.problem.head is not None:
            level, multipliers = _head_start(self.problem.head)
            for place, lam in zip(cones.head, multipliers, strict=True):
                x[place] = lam
        for k in range(len(points) - 1, -1, -1):
            if k < len(cones.metrics):
                _put(x, cones.metrics[k], level * np.eye(cones.metrics[k].channels))
            for metric, storage in zip(cones.storages[k], points[k].storages, strict=True):
                _put(x, metric, level * storage)
            own, found = cones.multipliers[k], points[k].multipliers
            if own is not None and found is not None:
                x[own] = level * found
            levels.append(level)
            level *= points[k].rho
        x[0] = level
        return x, levels[::-1]

    def offer(self, x: np.ndarray) -> None:
        """A strictly feasible point."""
        if x[0] < self.best[0]:
            self.best = x

    @property
    def out_of_time(self) -> bool:
        return self.stopped or time.perf_counter() - self.begin > self.limits.time_limit

    def solve_alone(self, k: int) -> None:
        """The least gain of stage k, roughly."""
        stage, formula = self.problem.stages[k], self.formulas[k]
        cones = chain_cones(DissipationProblem((stage,), None))
        problem = cones.problem(_CAP * formula.rho, [_limit(formula)], map)
        x = np.concatenate([[formula.rho], *(p[np.triu_indices(len(p))] for p in formula.storages),
                            [] if formula.multipliers is None else formula.multipliers])
        m = problem.matrices(x)
        point = None if m is None else problem.central(x, m)
        while point is not None:
            x, forms = point.x, problem.forms(point)
            if x[0] < self.points[k].rho:
                self.points[k] = _stage_point(cones, x)
            if 1 - math.sqrt(problem.dual(point, forms) / x[0]) <= _ROUGH or self.out_of_time:
                break
            point = problem.step(point, forms)

    def iterate(self, max_iterations: int) -> Status:
        """From the stages' own gains on, multiplied, to the optimum."""
        if self.vanishes:
            self.best[0] = 0.0
            self.report()
            return Status.OPTIMAL
        list(self.pool.map(self.solve_alone, range(len(self.formulas))))
        start, levels = self.joined(self.points)
        limits = [level * _limit(formula) for level, formula in zip(levels, self.formulas, strict=True)]
        problem = self.cones.problem(_CAP * start[0], limits, self.pool.map)
        m = problem.matrices(start)
        if m is None:
            return Status.STALLED
        point = problem.central(start, m)
        for _ in range(max_iterations):
            self.offer(point.x)
            forms = problem.forms(point)
            self.dual_bound = max(self.dual_bound, math.sqrt(problem.dual(point, forms)))
            self.report()
            bound = math.sqrt(self.best[0])
            if bound - self.dual_bound <= self.limits.tolerance * bound:
                return Status.OPTIMAL
            if self.out_of_time:
                return Status.TIME_LIMIT
            self.iteration += 1
            moved = problem.step(point, forms)
            if moved is None:
                return Status.STALLED
            point = moved
        return Status.ITERATION_LIMIT

    def report(self) -> None:
        progress = Progress(math.sqrt(self.best[0]), self.dual_bound, self.iteration, time.perf_counter() - self.begin)
        self.history.append(progress)
        if self.on_progress:
            self.on_progress(progress)

    def solution(self, status: Status) -> DissipationSolution:
        x, cones, last = self.best, self.cones, self.problem.stages[-1].channels
        metrics = [metric.symmetric(x) for metric in cones.metrics]
        if self.problem.head is None:
            metrics.append(np.eye(last))
        return DissipationSolution(
            status=status,
            rho=float(x[0]),
            metrics=tuple(metrics),
            storages=tuple(tuple(p.symmetric(x) for p in parts) for parts in cones.storages),
            multipliers=tuple(None if place is None else x[place] for place in cones.multipliers),
            head=tuple(x[place] for place in cones.head),
            iterations=self.iteration,
            seconds=time.perf_counter() - self.begin,
            solver="dissipation_interior_point",
            version="",
            detail=self.failure,
            history=tuple(self.history),
        )


def _limit(formula: StagePoint) -> float:
    """Far beyond what a stage needs with Q_k = I."""
    parts = [np.ones(1), *map(np.diagonal, formula.storages)]
    parts += [] if formula.multipliers is None else [formula.multipliers]
    return _FAR * float(np.concatenate(parts).max())


def _put(x: np.ndarray, metric: Metric, value: np.ndarray) -> None:
    x[metric.unknowns] = value[metric.triangle]


def _stage_point(cones: ChainCones, x: np.ndarray) -> StagePoint:
    (place,), (storages,) = cones.multipliers, cones.storages
    return StagePoint(float(x[0]), tuple(p.symmetric(x) for p in storages), None if place is None else x[place])


def _head_start(head: Inequality) -> tuple[float, list[np.ndarray]]:
    """The closed form with some slack at every step: q with Q = q I, and multipliers by layer."""
    scaled = scale(head)
    layers, exponent = len(scaled.start), scaled.output_exponent
    multipliers = [math.ldexp(_HEAD_SLACK * _HEAD_GROWTH ** (layers - k), 2 * (exponent - scaled.exponents[k])) * lam
                   for k, lam in enumerate(scaled.start, 1)]
    return math.ldexp(_HEAD_SLACK * _HEAD_GROWTH**layers * scaled.bound**2, 2 * exponent), multipliers
