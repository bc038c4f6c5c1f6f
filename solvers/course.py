"""The course of an iterative solve: its best bounds so far, when it ends, and what it reports."""

import math
import time
from collections.abc import Callable

import numpy as np

from .closed_form import Scaled
from .result import Limits, OnProgress, Progress, Solution, Status


class Course:
    """One solve: the best point (lam, rho), the best dual bound, and the lines of progress.

    Points are feasible, so that each of them is a valid bound, up to rounding, whenever the solve is stopped.
    """

    def __init__(self, scaled: Scaled, limits: Limits, on_progress: OnProgress | None, solver: str):
        self.scaled, self.limits, self.on_progress, self.solver = scaled, limits, on_progress, solver
        self.begin = time.perf_counter()
        self.history: list[Progress] = []
        self.best = np.append(np.concatenate(scaled.start) if scaled.start else [], scaled.bound**2)
        self.dual_bound = 0.0
        self._report(0)

    @property
    def out_of_time(self) -> bool:
        return time.perf_counter() - self.begin > self.limits.time_limit

    def run(self, iterate: Callable[[], Status]) -> Solution:
        """What `iterate` ends with; Ctrl-C ends it with the status INTERRUPTED."""
        try:
            if self.scaled.bound == 0 or not self.scaled.inequality.constraints:
                # Without nonlinear layers the closed form is the norm itself, and no gain is less than none.
                self.dual_bound = self.scaled.bound
                self._report(0)
                return self._solution(Status.OPTIMAL)
            if self._content:
                return self._solution(Status.ENOUGH)
            status = iterate()
            return self._solution(Status.ENOUGH if status is Status.OPTIMAL and not self._met else status)
        except KeyboardInterrupt:
            return self._solution(Status.INTERRUPTED)

    @property
    def _met(self) -> bool:
        best = math.sqrt(max(self.best[-1], 0.0))
        return best - self.dual_bound <= self.limits.tolerance * best

    @property
    def _content(self) -> bool:
        return self.history[-1].bound <= self.limits.enough

    def offer(self, iteration: int, x: np.ndarray, dual: float) -> bool:
        """Records a point and a lower bound on the least rho; whether the bounds meet the tolerance, or are enough."""
        if x[-1] < self.best[-1]:
            self.best = x
        self.dual_bound = max(self.dual_bound, math.sqrt(max(dual, 0.0)))
        self._report(iteration)
        return self._met or self._content

    def _report(self, iteration: int) -> None:
        bound = self.scaled.unscale(math.sqrt(max(self.best[-1], 0.0)))
        seconds = time.perf_counter() - self.begin
        progress = Progress(bound, self.scaled.unscale(self.dual_bound), iteration, seconds)
        self.history.append(progress)
        if self.on_progress:
            self.on_progress(progress)

    def _solution(self, status: Status) -> Solution:
        last = self.history[-1]
        ends = np.cumsum([constraint.groups for constraint in self.scaled.inequality.constraints])
        return Solution(
            status=status,
            bound=last.bound,
            dual_bound=last.dual_bound,
            multipliers=tuple(np.split(self.best[:-1], ends[:-1])) if len(ends) else (),
            iterations=last.iteration,
            seconds=time.perf_counter() - self.begin,
            solver=self.solver,
            version="",
            history=tuple(self.history),
        )
