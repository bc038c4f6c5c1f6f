r"""Shared multipliers to the optimum: a primal-dual interior-point method inside an exchange of frequencies.

The method is that of `netgain.solvers.interior_point` (HKM direction, predictor and corrector) on the stacks of
`netgain.solvers.family_cone`, which are dense: members are many and small. Few of them are active at the optimum, so it
starts with some, and takes in those that its multipliers violate most, until all hold. An optimum over some members is
a lower bound on that over all; multipliers that are mended for all members, by a step towards the closed form, give the
upper bound. Both are kept, so that a run can be stopped at any time.
"""

import dataclasses
import functools
import itertools
import math
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import scipy.linalg
from scipy.linalg.lapack import dpotrf, zpotrf
from threadpoolctl import threadpool_limits

from .family import Family, ScaledFamily, adjoint
from .family_cone import Cone, Metric, Rows
from .result import Limits, OnProgress, Progress, Solution, Status
from .schur import scaled_cholesky

_STEP = 0.95
_SHORTEST_STEP = 1e-6
_FIRST_ACCURACY = 0.1
_SHARPER = 0.1
_INWARDS = 1e-3
_FIRST_MEMBERS = 24
_MORE_MEMBERS = 12
_ROUNDS = 40
_CHUNK = 2**25
_PRECISION = 0.05


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


@dataclasses.dataclass(eq=False)
class _Point:
    """A primal-dual iterate on all cones; `sign` holds the dual variables of lam >= 0 where needed, else zeros."""

    x: np.ndarray
    m: list[np.ndarray]
    y: list[np.ndarray]
    sign: np.ndarray


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
        energy = Metric({0: None}, 1, family.input_size, 1.0, self.rho)
        head = family.head
        if head is None:
            return [Cone(family.members, family.offsets, rows, (energy,), family.output, unknowns)]
        first = self.metric.start
        outgoing = Metric(family.output, family.channels, family.copies, -1.0, first)
        incoming = Metric({0: None}, family.channels, family.pixels, 1.0, first)
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
            Cone(1, (0, family.channels), (), (dataclasses.replace(incoming, copies=1),), None, unknowns),
        ]

    def all_cones(self, members: np.ndarray) -> list[Cone]:
        """The cones of these members, in parts that are worked at side by side, and then those of the head."""
        first, *others = (self.cones(self.scaled.family.restrict(part)) for part in _parts(members))
        return [first[0], *(cones[0] for cones in others), *first[1:]]

    def each(self, function: Callable[..., Any], *stacks: Iterable[Any]) -> list[Any]:
        """The function of every cone's stacks; numpy lets threads work at large stacks side by side."""
        return list(self.pool.map(function, *stacks))

    def exchange(self, max_iterations: int) -> Status:
        """Rounds of solving for some members, ever more accurately, and taking in those violated."""
        family = self.scaled.family
        self.members = np.arange(min(_FIRST_MEMBERS, family.members))
        point: _Point | None = self.first_point(self.start, None, self.members)
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
        self, point: _Point | None, accuracy: float, max_iterations: int
    ) -> tuple[Status, _Point | None]:
        """From a point on to the optimum over the members taken in, within a relative `accuracy`."""
        cones = self.all_cones(self.members)
        whole = len(self.members) == self.scaled.family.members
        for _ in range(max_iterations):
            if point is None:
                return Status.STALLED, None
            x = point.x
            if whole and x[self.rho] < self.best[self.rho]:
                self.best = x
            forms = self.each(Cone.forms, cones, point.y)
            residual = -_total(cone.gradient(f) for cone, f in zip(cones, forms, strict=True))
            residual[self.rho] += 1
            residual[: self.rho] -= point.sign
            dual = sum(cone.cost(y) for cone, y in zip(cones, point.y, strict=True))
            # A residual r changes the objective by r^T x at most, x being about the optimum.
            dual = max(dual - float(np.abs(residual * x).sum()), 0.0)
            self.dual_bound = max(self.dual_bound, math.sqrt(dual))
            self._report()
            if math.sqrt(x[self.rho]) - math.sqrt(dual) <= accuracy * math.sqrt(x[self.rho]):
                return Status.OPTIMAL, point
            if time.perf_counter() - self.begin > self.limits.time_limit:
                return Status.TIME_LIMIT, point
            self.iteration += 1
            point = self.step(cones, point, forms)
        return Status.ITERATION_LIMIT, point

    def first_point(
        self, x: np.ndarray, former: tuple[np.ndarray, _Point] | None, members: np.ndarray
    ) -> _Point | None:
        """x and some of the start, strictly inside, with Y on the central path of the wrong problem; or where a former
        round had some of the members, with its Y for these."""
        cones, share, towards = self.all_cones(members), _INWARDS, x
        while True:
            x = (1 - share) * towards + share * self.start
            m = self.each(Cone.matrix, cones, itertools.repeat(x))
            if all(_positive(matrix) for stack in m for matrix in stack):
                break
            if share >= 1:
                return None
            share = min(1.0, 4 * share)
        z = self.each(_inverse, m)
        if former is None:
            trace = _total(self.each(Cone.gradient_at, cones, z))[self.rho]
            sign = 1 / trace / x[: self.rho] if self.signed else np.zeros(self.rho)
            return _Point(x, m, [inverse / trace for inverse in z], sign)
        known, point = former
        count = sum(len(stack) * stack.shape[-1] for stack in point.m) + self.signed * self.rho
        mu = (_inner(point.m, point.y) + x[: self.rho] @ point.sign) / count
        others = len(cones) - len(_parts(members))
        first = mu * np.concatenate(z[: len(cones) - others])
        first[np.searchsorted(members, known)] = np.concatenate(point.y[: len(point.y) - others])
        y = [*np.split(first, np.cumsum([cone.members for cone in cones[: -others or None]])[:-1]),
             *point.y[len(point.y) - others :]]
        return _Point(x, m, y, point.sign)

    def step(self, cones: list[Cone], point: _Point, y_forms: list[np.ndarray]) -> _Point | None:
        lam, signed = point.x[: self.rho], float(self.signed)
        z = self.each(_inverse, point.m)
        z_forms = self.each(Cone.forms, cones, z)
        order = sum(cone.order * cone.members for cone in cones) + signed * self.rho
        gap = _inner(point.m, point.y) + lam @ point.sign
        mu = gap / order
        schur = _total(self.each(Cone.schur, cones, z_forms, y_forms))
        target_gradient = _total(cone.gradient(f) for cone, f in zip(cones, z_forms, strict=True))
        if self.signed:
            target_gradient[: self.rho] += 1 / lam
            np.einsum("ii->i", schur)[: self.rho] += point.sign / lam
        solve = scaled_cholesky(np.ascontiguousarray(schur))
        if solve is None:
            return None
        cost = np.zeros(len(point.x))
        cost[self.rho] = 1.0

        # Predictor: the affine direction, whose success decides how far mu is lowered.
        dx = solve(-cost)
        ds = self.each(lambda cone: cone.matrix(dx, homogeneous=True), cones)
        k = self.each(lambda cone, inverse: adjoint(cone.multiply(dx, inverse)), cones, z)
        dy = self.each(lambda y, a: -y - _hermitian(a @ y), point.y, k)
        dsign = -point.sign * (1 + dx[: self.rho] / lam)
        primal, dual = self.lengths(point, dx, ds, dy, dsign)
        reached = _inner([m + primal * d for m, d in zip(point.m, ds, strict=True)],
                         [y + dual * d for y, d in zip(point.y, dy, strict=True)])
        reached += (lam + primal * dx[: self.rho]) @ (point.sign + dual * dsign)
        centring = min(1.0, max((max(reached, 0.0) / gap) ** 2, 1e-3)) if min(primal, dual) > 0.1 else 0.5

        # Corrector: second-order terms of the predictor, and the target centring * mu.
        target = centring * mu
        second = self.each(lambda a, d: _hermitian(a @ d), k, dy)
        second_sign = signed * dx[: self.rho] * dsign / lam
        right = target * target_gradient - cost
        right -= _total(self.each(Cone.gradient_at, cones, second))
        right[: self.rho] -= second_sign
        dx = solve(right)
        corrected = dx
        ds = self.each(lambda cone: cone.matrix(corrected, homogeneous=True), cones)
        dy = self.each(
            lambda cone, inverse, y, s: target * inverse - y - _hermitian(inverse @ cone.multiply(corrected, y)) - s,
            cones, z, point.y, second)
        dsign = signed * (target / lam - second_sign) - point.sign * (1 + dx[: self.rho] / lam)
        primal, dual = (_STEP * length for length in self.lengths(point, dx, ds, dy, dsign))
        if not max(primal, dual) >= _SHORTEST_STEP:
            return None
        x = point.x + primal * dx
        m = self.each(lambda cone: cone.matrix(x), cones)
        if not all(_positive(matrix) for stack in m for matrix in stack):
            return None
        return _Point(x, m, [y + dual * d for y, d in zip(point.y, dy, strict=True)], point.sign + dual * dsign)

    def lengths(
        self, point: _Point, dx: np.ndarray, ds: list[np.ndarray], dy: list[np.ndarray], dsign: np.ndarray
    ) -> tuple[float, float]:
        """The longest admissible primal and dual steps up to 1."""
        primal, dual = _longest(point.m, ds), _longest(point.y, dy)
        if self.signed:
            primal = min(primal, _ratio_test(point.x[: self.rho], dx[: self.rho]))
            dual = min(dual, _ratio_test(point.sign, dsign))
        return primal, dual

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


def _total(parts: Iterable[np.ndarray]) -> np.ndarray:
    return functools.reduce(np.add, parts)


def _inverse(stack: np.ndarray) -> np.ndarray:
    return _hermitian(np.linalg.inv(stack))


def _hermitian(stack: np.ndarray) -> np.ndarray:
    result: np.ndarray = (stack + adjoint(stack)) / 2
    return result


def _inner(left: list[np.ndarray], right: list[np.ndarray]) -> float:
    """The sum of traces of products of Hermitian matrices."""
    return float(sum(np.vdot(a, b).real for a, b in zip(left, right, strict=True)))


def _positive(matrix: np.ndarray) -> bool:
    factorise = zpotrf if np.iscomplexobj(matrix) else dpotrf
    return not factorise(matrix, lower=1, clean=0)[1]


def _longest(stacks: list[np.ndarray], directions: list[np.ndarray]) -> float:
    """A step in [0, 1] within a few per cent of the largest that keeps every matrix positive definite.

    The sets of admissible steps are intervals: a member that passes at the shortest so far needs no further test.
    """
    shortest = 1.0
    for stack, direction in zip(stacks, directions, strict=True):
        for matrix, change in zip(stack, direction, strict=True):
            if _positive(matrix + shortest * change):
                continue
            low, high = 0.0, shortest
            while high - low > max(_PRECISION * low, _SHORTEST_STEP):
                middle = (low + high) / 2
                low, high = (middle, high) if _positive(matrix + middle * change) else (low, middle)
            shortest = low
    return shortest


def _ratio_test(values: np.ndarray, direction: np.ndarray) -> float:
    falling = direction < 0
    return min(1.0, float(np.min(-values[falling] / direction[falling], initial=1.0)))


def _depth(m: np.ndarray, safe: np.ndarray) -> float:
    """The least t >= 0 with m + t safe >= 0, for positive definite `safe`."""
    if _positive(m):
        return 0.0
    return max(0.0, -float(scipy.linalg.eigh(m, safe, eigvals_only=True, subset_by_index=(0, 0))[0]))
