"""The mode `spectral`: one multiplier per channel, and one inequality for each frequency of a torus."""

import dataclasses
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

_LEVELS = 5
_INFLATIONS = tuple(10.0**-k for k in range(9, 1, -1))
# Frequencies that are in play at a time, typically.
_MEMBERS = 48


class FamilySolver(Protocol):
    """What turns a family of inequalities into multipliers."""

    def solve(self, scaled: ScaledFamily, limits: Limits, on_progress: OnProgress | None = None) -> Solution: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Spectral:
    """A network as a family of inequalities over frequencies, and who is to solve it."""

    graph: Graph
    scaled: ScaledFamily
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
                        (Progress(bound, 0.0, 0, 0.0),), metrics=() if point.metric is None else (point.metric,))

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
        head, joint = self.scaled.head, self.scaled.interface_exponent
        return Certificate(
            value=math.nextafter(solution.bound * (1 + inflation), math.inf) if safe.rho > 0 else 0.0,
            digest=self.graph.digest,
            multipliers=tuple(multipliers),
            exponents=self.scaled.exponents + tuple(joint + e for e in (head.exponents if head else ())),
            output_exponent=self.scaled.output_exponent,
            solver=f"{solution.solver} {solution.version}".strip(),
            mode=Mode.SPECTRAL,
            metrics=() if safe.metric is None else (mixed(solution.metrics[0], safe.metric),),
        )


def predict_spectral(rows: Channelwise) -> Cost:
    """What a solve will take, before any symbol is computed."""
    total = math.prod(rows.cells) // 2 + 1
    order, members = sum(rows.sizes), min(_MEMBERS, total)
    outgoing = next(iter(rows.output.values())).rows
    channels = outgoing // rows.phases
    multipliers = sum(layer.channels for layer in rows.constraints)
    inner, entries = 0, 0
    if rows.head:
        inner, entries = sum(rows.head.rows.sizes), channels * (channels + 1) // 2
        multipliers += sum(len(layer.lower) // layer.coupled for layer in rows.head.rows.activations)
    unknowns = multipliers + 1 + entries
    symbols = sum(kernel.rows * kernel.columns for layer in rows.constraints for kernel in layer.maps.values())
    height = sum(len(layer.lower) for layer in rows.constraints) + outgoing
    rank = [len(layer.lower) + sum(kernel.columns for kernel in layer.maps.values()) for layer in rows.constraints]
    widest = max([*rank, outgoing + sum(kernel.columns for kernel in rows.output.values())])
    memory = 16 * (total * (3 * symbols + 6 * widest**2) + members * (12 * order**2 + 8 * height**2))
    memory += 8 * (16 * inner**2 + 8 * unknowns**2)
    work = members * 60 * order**3 + 20 * inner**3 + unknowns**3 / 3
    start = 60 * total * (len(rows.constraints) + 1) * widest**3
    iterations = 15 + 2 * len(rows.constraints)
    return Cost(multipliers, order, memory, iterations * (work / 2.5e10 + 5e-3) + start / 2.5e10)


def spectral(graph: Graph) -> Spectral:
    """The network with one multiplier per channel, at every frequency.

    **Raises:** `ModeError` if it does not start with layers that treat every pixel alike; `TooLargeError`, before
    anything is allocated.
    """
    rows = channelwise(graph)
    needed = predict_spectral(rows).memory
    if not fits(needed):
        raise TooLargeError(f"With multipliers per channel, the {math.prod(rows.cells)} frequencies of this network "
                            f"would need {gibibytes(needed)}; {gibibytes(available_memory())} are free. "
                            "`netgain inspect` says which modes apply, and what they would take.")
    return Spectral(graph, scale_family(to_family(rows, coarse_first(frequencies(rows.cells), rows.cells))))


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


def to_family(rows: Channelwise, frequencies: np.ndarray) -> Family:
    """The family of float64 rows at these frequencies."""

    def at(maps: Mapping[int, Kernel]) -> dict[int, np.ndarray]:
        return {j: symbols(kernel, frequencies, rows.cells) for j, kernel in maps.items()}

    constraints = tuple(
        SharedConstraint(at(r.maps), r.lower, r.upper, r.channel, np.arange(len(r.lower)) if r.kept is None else r.kept)
        for r in rows.constraints
    )
    outgoing = next(iter(rows.output.values())).rows
    return Family(rows.input_size, constraints, at(rows.output), outgoing // rows.phases, rows.phases,
                  to_inequality(rows.head.rows) if rows.head else None, rows.head.pixels if rows.head else 0)
