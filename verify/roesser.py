"""The mode `roesser`: a bound by dissipation inequalities of state-space realisations, whatever the image's size."""

import dataclasses
import itertools
import math
from collections.abc import Mapping

import numpy as np
from netgain.layers import FLOAT, Graph
from netgain.layers.roesser import Realisation
from netgain.layers.shift_invariant import Stencil
from netgain.solvers.availability import Backend
from netgain.solvers.closed_form import Scaled, scale
from netgain.solvers.dissipation import (
    DissipationProblem,
    DissipationSolution,
    StageData,
    memory_by,
    solve_dissipation,
)
from netgain.solvers.dissipation_interior_point import DissipationInteriorPoint
from netgain.solvers.inequality import Inequality
from netgain.solvers.result import Cost, Limits, OnProgress, Progress, Solution

from .certificate import Certificate
from .channelwise import Head
from .check import check
from .constraints import to_inequality
from .dissipation import Chain, Stage, dissipative_chain, realised
from .memory import TooLargeError, available_memory, fits, gibibytes
from .mode import Mode

# Frequencies along each axis at which gains are sampled, for scaling only.
_SAMPLED = 8
_MARGINS = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5)
_INFLATIONS = tuple(10.0**-k for k in range(9, 1, -1))


@dataclasses.dataclass(frozen=True, eq=False)
class RoesserProblem:
    """What the solver is given. `exponents`: of the input and every stage's answer; `head`: scaled, block 0 being the
    interface as it is."""

    chain: Chain
    exponents: tuple[int, ...]
    head: Scaled | None
    data: DissipationProblem

    @property
    def output_exponent(self) -> int:
        return self.exponents[-1] + (self.head.output_exponent if self.head else 0)


@dataclasses.dataclass(frozen=True, eq=False)
class _Unscaled:
    """A chain, its scaled head, and the problem in the units of the network."""

    chain: Chain
    head: Scaled | None
    data: DissipationProblem

    def scaled(self) -> RoesserProblem:
        """Every stage scaled by a power of two to a gain near 1."""
        exponents, data = [0], []
        for stage in self.chain.stages:
            size = _size(stage)
            gain = math.sqrt(stage.gain) * _gain(realised(stage, -size, FLOAT))
            if stage.upper is not None and stage.lower is not None:
                gain *= max(np.max(np.abs(stage.lower)), np.max(np.abs(stage.upper)))
            exponents.append(exponents[-1] + (size + round(math.log2(gain)) if gain > 0 else 0))
            data.append(_data(stage, realised(stage, exponents[-2] - exponents[-1], FLOAT)))
        problem = DissipationProblem(tuple(data), self.data.head)
        return RoesserProblem(self.chain, tuple(exponents), self.head, problem)


def _unscaled(graph: Graph) -> _Unscaled:
    chain = dissipative_chain(graph)
    head = scale(to_inequality(chain.head.rows)) if chain.head else None
    reduced = _on_spanned_pixels(head.inequality, chain.head) if head and chain.head else None
    data = tuple(_data(stage, realised(stage, 0, FLOAT)) for stage in chain.stages)
    return _Unscaled(chain, head, DissipationProblem(data, reduced))


def roesser_problem(graph: Graph) -> RoesserProblem:
    """The inequalities of a graph, every stage scaled by a power of two to a gain near 1.

    **Raises:** `ModeError`.
    """
    return _unscaled(graph).scaled()


def predict_roesser(graph: Graph) -> Cost:
    """What a solve will take, from sizes alone.

    **Raises:** `ModeError`.
    """
    return DissipationInteriorPoint().predict(_unscaled(graph).data)


def _data(stage: Stage, system: Realisation) -> StageData:
    return StageData(system.A, system.B, system.C, system.D, tuple(system.blocks), system.finite, stage.phases,
                     stage.lower, stage.upper, stage.gain, stage.diagonal)


def _size(stage: Stage) -> int:
    """The binary logarithm of the largest coefficient, rounded; without it, small gains drown in rounding errors."""
    parts = [stage.filter.coefficients] if isinstance(stage.filter, Stencil) else [stage.filter.C, stage.filter.D]
    largest = max(float(np.abs(part).max(initial=0.0)) for part in parts)
    return round(math.log2(largest)) if largest > 0 else 0


def _gain(system: Realisation) -> float:
    """About the largest gain over frequencies, from a few of them."""
    largest = 0.0
    for frequency in itertools.product(range(_SAMPLED), repeat=len(system.states)):
        turn = np.exp(2j * np.pi * np.repeat(np.array(frequency) / _SAMPLED, system.states) + 0.1j)
        states = np.linalg.lstsq(np.diag(turn) - system.A, system.B, rcond=None)[0]
        largest = max(largest, float(np.linalg.norm(system.C @ states + system.D, 2)))
    return largest


def _on_spanned_pixels(inequality: Inequality, head: Head) -> Inequality:
    """The same bound on fewer pixels: an orthonormal basis of what the head reads of them.

    Off that span the inequality is Q >= 0.
    """
    readers = [*(constraint.maps for constraint in inequality.constraints), inequality.output]
    rows = [maps[0].reshape((-1, head.pixels)) for maps in readers if 0 in maps]
    _, values, basis = np.linalg.svd(np.concatenate(rows), full_matrices=False)
    basis = basis[values > 1e-12 * values[0]] if values[0] > 0 else basis[:1]

    def reduced(maps: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        return {j: (a.reshape((len(a), head.channels, head.pixels)) @ basis.T).reshape((len(a), -1)) if j == 0 else a
                for j, a in maps.items()}

    constraints = tuple(dataclasses.replace(c, maps=reduced(c.maps)) for c in inequality.constraints)
    return Inequality(head.channels * len(basis), constraints, reduced(inequality.output))


@dataclasses.dataclass(frozen=True, eq=False)
class Roesser:
    """A network as one dissipation inequality for each layer, for images of any size."""

    graph: Graph
    problem: RoesserProblem
    backend: Backend | None

    @property
    def mode(self) -> Mode:
        return Mode.ROESSER

    @property
    def norm_product(self) -> float:
        """Not known here: gains of layers are those over images of every size."""
        return math.inf

    def solve(self, limits: Limits, on_progress: OnProgress | None) -> Solution:
        """The least bound our own solver finds, or one that the checker accepts from a backend.

        **Raises:** `SolverUnavailable`.
        """
        if self.backend is not None:
            return self._solve_by(self.backend, limits)

        def in_units(progress: Progress) -> None:
            if on_progress:
                on_progress(_in_units(self.problem, progress))

        found = DissipationInteriorPoint().solve(self.problem.data, limits, in_units)
        return _solution(self.problem, found, found.seconds)

    def _solve_by(self, backend: Backend, limits: Limits) -> Solution:
        """A backend's points may be infeasible to its tolerance: each solve leaves every inequality a margin, which is
        raised until the checker accepts what came out. If it accepts nothing, the first solution is returned."""
        seconds, first = 0.0, None
        for margin in _MARGINS:
            left = dataclasses.replace(limits, time_limit=max(limits.time_limit - seconds, 1e-3))
            found = solve_dissipation(self.problem.data, backend, left, margin)
            seconds += found.seconds
            solution = _solution(self.problem, found, seconds)
            first = first or solution
            if not solution.status.has_multipliers:
                break
            if self.prove(solution) is not None:
                return solution
            if seconds > limits.time_limit:
                break
        return first or solution

    def closed_form(self) -> Solution:
        """Storages by a formula; there is none if a state-space model is not stable."""
        found = DissipationInteriorPoint().closed_form(self.problem.data)
        return _solution(self.problem, found, found.seconds)

    def prove(self, solution: Solution) -> Certificate | None:
        """A certificate whose value exceeds the solver's bound by as little as the checker accepts; or None."""
        problem, head = self.problem, self.problem.head
        exponents = problem.exponents if head else problem.exponents[:-1]
        if head:
            exponents += tuple(e + problem.exponents[-1] for e in head.exponents[1:])
        for inflation in _INFLATIONS:
            candidate = Certificate(
                value=math.nextafter(solution.bound * (1 + inflation), math.inf) if solution.bound > 0 else 0.0,
                digest=self.graph.digest,
                multipliers=solution.multipliers,
                exponents=exponents,
                output_exponent=problem.output_exponent,
                solver=f"{solution.solver} {solution.version}".strip(),
                mode=Mode.ROESSER,
                metrics=solution.metrics,
            )
            verdict = check(candidate, self.graph, balls=inflation == _INFLATIONS[-1])
            if verdict.proved:
                return dataclasses.replace(candidate, arithmetic=verdict.arithmetic, seconds=verdict.seconds)
        return None


def roesser(graph: Graph, backend: Backend | None = None) -> Roesser:
    """The network as a chain of dissipation inequalities, for our own solver or a conic one.

    **Raises:** `ModeError` if the network is no chain of layers that treat every pixel alike, followed by what may be
    a head; `TooLargeError`, before anything large is allocated.
    """
    unscaled = _unscaled(graph)
    who, needed = "The mode `roesser`", DissipationInteriorPoint().predict(unscaled.data).memory
    if backend is not None:
        who, needed = f"{backend.value} in the mode `roesser`", memory_by(unscaled.data, backend)
    if not fits(needed):
        orders = [stage.order for stage in unscaled.data.stages]
        raise TooLargeError(f"{who} would need {gibibytes(needed)} for {graph.name}, whose {len(orders)} inequalities "
                            f"have orders up to {max(orders)}; {gibibytes(available_memory())} are free. The modes "
                            "`spectral` and `neuron` may fit.")
    return Roesser(graph, unscaled.scaled(), backend)


def _in_units(problem: RoesserProblem, progress: Progress) -> Progress:
    with np.errstate(over="ignore"):
        bound, dual = (float(np.ldexp(value, problem.output_exponent)) for value in
                       (progress.bound, progress.dual_bound))
    return dataclasses.replace(progress, bound=bound, dual_bound=dual)


def _solution(problem: RoesserProblem, found: DissipationSolution, seconds: float) -> Solution:
    with np.errstate(over="ignore"):
        bound = float(np.ldexp(math.sqrt(found.rho), problem.output_exponent))
    history = tuple(_in_units(problem, line) for line in found.history)
    dual = history[-1].dual_bound if history else 0.0
    if not found.status.has_multipliers:
        return Solution(found.status, bound, 0.0, (), found.iterations, seconds, found.solver, found.version,
                        detail=found.detail)
    metrics, stages = [], len(problem.chain.stages)
    for k, (metric, storages) in enumerate(zip(found.metrics, found.storages, strict=True), 1):
        metrics += [metric] if problem.head or k < stages else []
        metrics += storages
    multipliers = (*(lam for lam in found.multipliers if lam is not None), *found.head)
    return Solution(found.status, bound, dual, multipliers, found.iterations, seconds, found.solver, found.version,
                    history, found.detail, tuple(metrics))
