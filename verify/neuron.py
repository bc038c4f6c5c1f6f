"""The mode `neuron`: the network unrolled to matrices, with one multiplier per neuron."""

import dataclasses
import math
import time
from typing import Protocol

import numpy as np
from netgain.layers import Graph, MaxPool
from netgain.layers.dynamics import lower
from netgain.solvers.closed_form import ClosedForm, Scaled, compress, norm_product, scale
from netgain.solvers.dual_scaling import DualScaling
from netgain.solvers.interior_point import InteriorPoint
from netgain.solvers.loop import NoMetricError
from netgain.solvers.result import Cost, Limits, OnProgress, Solution, Status
from netgain.solvers.structure import structure

from .certificate import Certificate
from .constraints import Rows, constraint_rows, to_inequality
from .memory import TooLargeError, available_memory, fits, gibibytes
from .mode import Mode
from .proof import prove

# Of the rows and of the blocks of M: what the scaling and the checker hold at a time. An M of order 7292 with a block
# of order 4704 was measured to take 2.8 GB.
_COPIES = 8
# From this order of M on the barrier method is faster where the pattern is wide.
_LARGE = 1000


class Solver(Protocol):
    """What turns an inequality into multipliers."""

    def memory(self, scaled: Scaled) -> int:
        """Bytes a solve will need, to within a factor of about two."""

    def solve(self, scaled: Scaled, limits: Limits, on_progress: OnProgress | None = None) -> Solution: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Neuron:
    """A network as one inequality. `rows`: of the graph; `scaled`: what solvers are given; `solver`: who will be;
    `asked`: whether by somebody's choice."""

    graph: Graph
    rows: Rows
    scaled: Scaled
    solver: Solver
    asked: bool = False

    @property
    def mode(self) -> Mode:
        return Mode.NEURON

    @property
    def norm_product(self) -> float:
        return norm_product(self.scaled)

    @property
    def loop_metrics(self) -> dict[str, np.ndarray]:
        """The metrics of implicit layers by node."""
        return {layer.node: metric for layer, metric in zip(self.rows.loops, self.scaled.metrics, strict=True)}

    def predict(self) -> Cost:
        """What the default solver will take."""
        return default_solver(self.scaled).predict(self.scaled)

    def with_solver(self, solver: Solver | None, notes: list[str]) -> "Neuron":
        """With the solver asked for, or the default; without a choice the closed form where that would not fit.

        **Raises:** `TooLargeError` if the solver asked for cannot fit into memory.
        """
        chosen = solver or self.solver
        needed = chosen.memory(self.scaled)
        if fits(needed):
            return dataclasses.replace(self, solver=chosen, asked=solver is not None)
        text = (f"{chosen} would need {gibibytes(needed)} for {self.scaled.inequality.multipliers} multipliers; "
                f"{gibibytes(available_memory())} are free.")
        if solver is None:
            notes.append(f"{text} The bound is that of the closed form.")
            return dataclasses.replace(self, solver=ClosedForm())
        others: tuple[Solver, ...] = (InteriorPoint(), DualScaling(), ClosedForm())
        names = ", ".join(str(other) for other in others if fits(other.memory(self.scaled))) or "none"
        raise TooLargeError(f"{text} These solvers fit: {names}; without a choice (--solver auto) the first is used.")

    def solve(self, limits: Limits, on_progress: OnProgress | None) -> Solution:
        """The solver's solution; of the default one, if it stalls, the better of it and the interior-point method's."""
        begin = time.perf_counter()
        solution = self.solver.solve(self.scaled, limits, on_progress)
        other = InteriorPoint()
        stalled = isinstance(self.solver, DualScaling) and solution.status is Status.STALLED
        if self.asked or not stalled or not fits(other.memory(self.scaled)):
            return solution
        left = max(limits.time_limit - (time.perf_counter() - begin), 1e-3)
        second = other.solve(self.scaled, dataclasses.replace(limits, time_limit=left), on_progress)
        return second if second.status.has_multipliers and second.bound <= solution.bound else solution

    def closed_form(self) -> Solution:
        return ClosedForm().solve(self.scaled, Limits())

    def prove(self, solution: Solution) -> Certificate | None:
        return prove(self.graph, self.scaled, solution)


def unrolled(graph: Graph) -> Neuron:
    """The network with one multiplier per neuron.

    **Raises:** `TooLargeError` if the matrices would not fit into memory; `ModelError` if a layer has no constraint;
    `NoMetricError` if an implicit layer is not proved well-posed.
    """
    require_memory_for_rows(graph)
    rows = constraint_rows(graph)
    try:
        scaled = scale(compress(to_inequality(rows)))
    except NoMetricError as error:
        raise error.named(repr(rows.activations[error.layer - 1].node)) from None
    return Neuron(graph, rows, scaled, default_solver(scaled))


def default_solver(scaled: Scaled) -> InteriorPoint | DualScaling:
    """The solver for an inequality of this size and shape: the one with few iterations, or the one with cheap ones.

    Deep narrow networks stay with the former whatever their size: their pattern keeps its iterations cheap.
    """
    order, entries = sum(scaled.inequality.sizes), structure(scaled.inequality).factor_entries
    return DualScaling() if order > _LARGE and 8 * entries > order**2 else InteriorPoint()


def memory_for_rows(graph: Graph) -> int:
    """Bytes for the rows, one dense matrix for each pair of coupled layers, and the blocks of M."""
    sizes = {node: math.prod(graph.shape(node)) for node in graph.order}
    system = lower(graph)
    entries = sizes[graph.output] * sum(sizes[node] for node in system.output_reads)
    for step in system.steps:
        layer = graph.layer(step.node)
        rows = sizes[step.node] * (math.prod(layer.kernel) if isinstance(layer, MaxPool) else 1)
        entries += rows * sum(sizes[node] for node in step.reads) + sizes[step.node] ** 2
    return _COPIES * 8 * entries


def require_memory_for_rows(graph: Graph) -> None:
    """Refuses a network that would not fit unrolled.

    **Raises:** `TooLargeError`, before anything is allocated.
    """
    needed = memory_for_rows(graph)
    if not fits(needed):
        raise TooLargeError(
            f"Unrolled to matrices, the layers of this network would need {gibibytes(needed)}; "
            f"{gibibytes(available_memory())} are free. Convolutional networks may fit with multipliers per channel: "
            "the mode `spectral`."
        )
