"""The mode `spectral`: one multiplier per channel, and one inequality for each frequency of a torus.

Networks that would not fit into memory whole are cut into stages (`netgain.verify.stages`).
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from netgain.layers import Graph
from netgain.layers.shift_invariant import Kernel
from netgain.solvers.family import Family, Point, ScaledFamily, SharedConstraint, family_norm_product, scale_family
from netgain.solvers.family_interior_point import FamilyInteriorPoint
from netgain.solvers.result import Cost, Limits, OnProgress, Progress, Solution, Status

from .certificate import Certificate
from .channelwise import Channelwise, channelwise
from .check import check
from .check_spectral import frequencies
from .constraints import to_inequality
from .memory import TooLargeError, available_memory, fits, gibibytes
from .mode import Mode
from .stages import between, cuts, stages

_LEVELS = 5
_INFLATIONS = tuple(10.0**-k for k in range(9, 1, -1))
# Frequencies that are in play at a time, typically.
_MEMBERS = 48
# What takes longer whole is cut, into stages whose matrices have at most these orders, the first that is quick enough.
_PATIENCE = 300.0
_STAGE_ORDERS = (400, 200, 100, 50, 0)


class FamilySolver(Protocol):
    """What turns a family of inequalities into multipliers."""

    def solve(self, scaled: ScaledFamily, limits: Limits, on_progress: OnProgress | None = None) -> Solution: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Spectral:
    """A network as a family of inequalities over frequencies, and who is to solve it.

    **Attributes:** `interfaces`: the nodes where it is cut into stages.
    """

    graph: Graph
    scaled: ScaledFamily
    interfaces: tuple[str, ...] = ()
    solver: FamilySolver = dataclasses.field(default_factory=FamilyInteriorPoint)

    @property
    def mode(self) -> Mode:
        return Mode.SPECTRAL

    @property
    def norm_product(self) -> float:
        return family_norm_product(self.scaled)

    def solve(self, limits: Limits, on_progress: OnProgress | None) -> Solution:
        return self.solver.solve(self.scaled, limits, on_progress)

    def closed_form(self) -> Solution:
        """The start of the solver, as a solution."""
        point = self.scaled.strictly_feasible()
        bound = self.scaled.unscale(math.sqrt(point.rho))
        return Solution(Status.CLOSED_FORM, bound, 0.0, point.multipliers, 0, 0.0, "closed_form", "",
                        (Progress(bound, 0.0, 0, 0.0),), metrics=point.metrics)

    def prove(self, solution: Solution) -> Certificate | None:
        """A certificate that the checker accepts, with the least inflation of the bound on a ladder; or None.

        As in `netgain.verify.proof`, each candidate is mixed with a strictly feasible point: all conditions are affine.
        """
        safe = self.scaled.strictly_feasible()
        for inflation in _INFLATIONS:
            candidate = self._candidate(solution, safe, inflation)
            verdict = check(candidate, self.graph, balls=inflation == _INFLATIONS[-1])
            if verdict.proved:
                return dataclasses.replace(candidate, arithmetic=verdict.arithmetic, seconds=verdict.seconds)
        return None

    def _candidate(self, solution: Solution, safe: Point, inflation: float) -> Certificate:
        with np.errstate(over="ignore"):
            gain = float(np.ldexp(solution.bound, -self.scaled.output_exponent))
        share = min(1.0, inflation * gain**2 / safe.rho) if safe.rho > 0 else 0.0

        def mixed(found: np.ndarray, known: np.ndarray) -> np.ndarray:
            result: np.ndarray = (1 - share) * found + share * known
            return result

        multipliers = map(mixed, (np.maximum(lam, 0) for lam in solution.multipliers), safe.multipliers)
        return Certificate(
            value=math.nextafter(solution.bound * (1 + inflation), math.inf) if safe.rho > 0 else 0.0,
            digest=self.graph.digest,
            multipliers=tuple(multipliers),
            exponents=self.scaled.all_exponents,
            output_exponent=self.scaled.output_exponent,
            solver=f"{solution.solver} {solution.version}".strip(),
            mode=Mode.SPECTRAL,
            metrics=tuple(map(mixed, solution.metrics, safe.metrics)),
            interfaces=tuple(map(self.graph.order.index, self.interfaces)),
        )


def predict_spectral(stages: tuple[Channelwise, ...]) -> Cost:
    """What a solve will take, before any symbol is computed."""
    joined = [*(_entries(rows) for rows in stages[:-1]), _entries(stages[-1]) if stages[-1].head else 0]
    costs = [_predict_stage(rows, sum(joined[max(k - 1, 0) : k + 1])) for k, rows in enumerate(stages)]
    iterations = 15 + 2 * sum(len(rows.constraints) for rows in stages)
    seconds = iterations * (sum(cost.step for cost in costs) + 5e-3) + sum(cost.start for cost in costs)
    return Cost(sum(cost.multipliers for cost in costs), max(cost.order for cost in costs),
                sum(cost.memory for cost in costs), seconds)


@dataclasses.dataclass(frozen=True)
class _StageCost:
    """`step`, `start`: seconds of an iteration, and once."""

    multipliers: int
    order: int
    memory: int
    step: float
    start: float


def _predict_stage(rows: Channelwise, entries: int) -> _StageCost:
    """With so many entries of metrics on what it reads and gives."""
    total = math.prod(rows.cells) // 2 + 1
    order, members = sum(rows.sizes), min(_MEMBERS, total)
    outgoing = next(iter(rows.output.values())).rows
    multipliers = sum(layer.channels for layer in rows.constraints)
    inner = 0
    if rows.head:
        inner = sum(rows.head.rows.sizes)
        multipliers += sum(len(layer.lower) // layer.coupled for layer in rows.head.rows.activations)
    unknowns = multipliers + 1 + entries
    symbols = sum(kernel.rows * kernel.columns for layer in rows.constraints for kernel in layer.maps.values())
    height = sum(len(layer.lower) for layer in rows.constraints) + outgoing
    rank = [len(layer.lower) + sum(kernel.columns for kernel in layer.maps.values()) for layer in rows.constraints]
    widest = max([*rank, outgoing + sum(kernel.columns for kernel in rows.output.values())])
    memory = 16 * (total * (3 * symbols + 6 * widest**2) + members * (12 * order**2 + 8 * height**2))
    memory += 8 * (16 * inner**2 + 8 * unknowns**2)
    work = members * 60 * order**3 + 20 * inner**3 + unknowns**3 / 3
    return _StageCost(multipliers, order, memory, work / 2.5e10, 60 * total * (len(rows.constraints) + 1) * widest**3
                      / 2.5e10)


def _entries(rows: Channelwise) -> int:
    """Of the metric on the output."""
    channels = next(iter(rows.output.values())).rows // rows.phases
    return channels * (channels + 1) // 2


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Where to cut a network, its stages, and what solving them will take."""

    interfaces: tuple[str, ...]
    stages: tuple[Channelwise, ...]
    cost: Cost


def plan(graph: Graph, patience: float = _PATIENCE) -> Plan:
    """The network whole, if that fits into memory and into `patience` in seconds, or in as few stages as do.

    **Raises:** `ModeError` if it does not start with layers that treat every pixel alike.
    """
    found, possible = _planned(graph, ()), cuts(graph)
    for order in _STAGE_ORDERS:
        if not possible or (fits(found.cost.memory) and found.cost.seconds <= patience):
            break
        found = _planned(graph, _joined(graph, possible, order))
    return found


def _joined(graph: Graph, possible: tuple[str, ...], largest: int) -> tuple[str, ...]:
    """Those interfaces that are left when stages are joined, from the input on, while their order is not larger."""
    chosen: list[str] = []
    for node, following in itertools.pairwise((*possible, graph.inputs(graph.output)[0])):
        joint = between(graph, chosen[-1] if chosen else graph.input, following)
        if sum(channelwise(joint).sizes) > largest:
            chosen.append(node)
    return tuple(chosen)


def _planned(graph: Graph, interfaces: tuple[str, ...]) -> Plan:
    parts = stages(graph, interfaces)
    return Plan(interfaces, parts, predict_spectral(parts))


def spectral(graph: Graph, interfaces: tuple[str, ...] | None = None) -> Spectral:
    """The network with one multiplier per channel, at every frequency.

    **Arguments:** `interfaces`: where to cut it into stages, some of `netgain.verify.stages.cuts`; None chooses.

    **Raises:** `ModeError` if it does not start with layers that treat every pixel alike, or cannot be cut there;
    `TooLargeError`, before anything is allocated.
    """
    planned = plan(graph) if interfaces is None else _planned(graph, interfaces)
    needed = planned.cost.memory
    if not fits(needed):
        cells = sum(math.prod(rows.cells) for rows in planned.stages)
        raise TooLargeError(f"With multipliers per channel, the {cells} frequencies of this network "
                            f"would need {gibibytes(needed)}; {gibibytes(available_memory())} are free. "
                            "`netgain inspect` says which modes apply, and what they would take.")
    return Spectral(graph, scale_family(to_family(planned.stages)), planned.interfaces)


def coarse_first(frequencies: np.ndarray, cells: tuple[int, ...]) -> np.ndarray:
    """The same frequencies, ordered so that every leading part is spread over the torus: coarse grids come first."""
    level = np.full(cells, _LEVELS)
    for depth in range(_LEVELS - 1, -1, -1):
        sides = [np.unique(np.round(np.arange(2**depth) * side / 2**depth).astype(np.int64) % side) for side in cells]
        level[np.ix_(*sides)] = depth
    levels = level[tuple(frequencies.T)]
    return frequencies[np.argsort(levels, kind="stable")]


def symbols(kernel: Kernel, frequencies: np.ndarray, cells: tuple[int, ...]) -> np.ndarray:
    """sum_s coefficients[s] exp(i w.shifts[s]) at w = 2 pi n / cells, shape (frequencies, rows, columns), rounded."""
    period = math.lcm(*cells)
    turns = np.mod((frequencies * (period // np.array(cells))) @ kernel.shifts.T, period)
    phases = np.exp(2j * np.pi * turns / period)
    flat = kernel.coefficients.reshape((len(kernel.shifts), -1))
    result: np.ndarray = (phases @ flat).reshape((len(frequencies), kernel.rows, kernel.columns))
    return result


def to_family(stages: tuple[Channelwise, ...]) -> Family:
    """The family of float64 rows at every frequency, for stages in a chain."""
    rows, *others = stages
    ordered = coarse_first(frequencies(rows.cells), rows.cells)

    def at(maps: Mapping[int, Kernel]) -> dict[int, np.ndarray]:
        return {j: symbols(kernel, ordered, rows.cells) for j, kernel in maps.items()}

    constraints = tuple(
        SharedConstraint(at(r.maps), r.lower, r.upper, r.channel, np.arange(len(r.lower)) if r.kept is None else r.kept)
        for r in rows.constraints
    )
    outgoing = next(iter(rows.output.values())).rows
    head = to_family(tuple(others)) if others else to_inequality(rows.head.rows) if rows.head else None
    return Family(rows.input_size, constraints, at(rows.output), outgoing // rows.phases, rows.phases, head)
