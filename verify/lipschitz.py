"""The question of feedforward networks: how much can the map amplify a change of its input?"""

import dataclasses
import enum
import math
import time
from collections.abc import Callable
from typing import Protocol

import psutil
from netgain.layers import Graph, MaxPool
from netgain.layers.dynamics import lower
from netgain.solvers.closed_form import ClosedForm, Scaled, compress, norm_product, scale
from netgain.solvers.dual_scaling import DualScaling
from netgain.solvers.gradient_system import GradientSystem
from netgain.solvers.interior_point import InteriorPoint
from netgain.solvers.result import Limits, OnProgress, Solution, Status
from netgain.solvers.structure import structure
from threadpoolctl import threadpool_limits

from .certificate import Certificate
from .constraints import Rows, constraint_rows, to_inequality
from .lower_bound import UndecidedError, Witness, WitnessSearch
from .proof import prove
from .rounding import rounded_down, rounded_up

_LONGEST_SEARCH = 20.0
# Of the rows and of the blocks of M: what the scaling and the checker hold at a time. An M of order 7292 with a block
# of order 4704 was measured to take 2.8 GB.
_COPIES = 8
MEMORY_SHARE = 0.8
# From this order of M on the barrier method is faster where the pattern is wide.
_LARGE = 1000


class Solver(Protocol):
    """What turns an inequality into multipliers."""

    def memory(self, scaled: Scaled) -> int:
        """Bytes a solve will need, to within a factor of about two."""

    def solve(self, scaled: Scaled, limits: Limits, on_progress: OnProgress | None = None) -> Solution: ...


class Stage(enum.Enum):
    """The parts of a verification, in order; the value is what a progress display says."""

    SOLVE = "solving"
    PROVE = "proving"
    WITNESS = "searching a witness"


class TooLargeError(MemoryError):
    """The solver asked for would need more memory than there is; the text names one that does not."""


@dataclasses.dataclass(frozen=True, eq=False)
class LipschitzReport:
    """What is known of the Lipschitz constant L of f from l2 to l2, over all inputs and in real arithmetic.

    lower <= L <= upper, where `upper` is proved by `certificate` and `lower` exhibited by `witness`, both rigorously;
    `slope_bound` <= upper is what no method that only knows the slope intervals can beat (floating point), and
    `norm_product` the bound of composition (floating point).

    **Attributes:** `upper`: inf where nothing could be proved; `solution`: the solver's view, unproved; `seconds`: by
    stage; `notes`: what a reader should know.
    """

    name: str
    upper: float
    lower: float
    slope_bound: float
    norm_product: float
    certificate: Certificate | None
    witness: Witness | None
    solution: Solution
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()

    @property
    def proved(self) -> bool:
        return self.certificate is not None

    @property
    def gap(self) -> float:
        """(upper - lower) / upper: how much of the bound no input pair has been found for."""
        return 1 - self.lower / self.upper if 0 < self.upper < math.inf else math.nan

    def __str__(self) -> str:
        upper = f"{rounded_up(self.upper)} (proved)" if self.proved else "not proved"
        lines = [
            f"{self.name}: l2 Lipschitz constant, all inputs",
            f"  upper bound   {upper}",
            f"  lower bound   {rounded_down(self.lower)} (input pair)",
            f"  slope bound   {rounded_down(self.slope_bound)} (best possible from slopes, floating point)",
            f"  norm product  {rounded_up(self.norm_product)} (floating point)",
            f"  solver        {self.solution.solver} {self.solution.version}: {self.solution.status.value}",
        ]
        return "\n".join(lines + [f"  note          {note}" for note in self.notes])


def lipschitz(
    graph: Graph,
    solver: Solver | None = None,
    limits: Limits | None = None,
    *,
    seed: int = 0,
    lower_bounds: bool = True,
    on_progress: OnProgress | None = None,
    on_stage: Callable[[Stage], None] | None = None,
) -> LipschitzReport:
    """Bounds the l2 Lipschitz constant of a network from above, with proof, and from below, with witnesses.

    **Arguments:** `solver`: `default_solver` unless it would not fit into memory, then `ClosedForm()`, and a note
    says so; `limits`: tolerance and seconds for everything; `seed`: of the search for lower bounds.

    **Raises:** `TooLargeError` if the solver asked for cannot fit into memory; `ModelError` if the
    graph has a layer without an incremental constraint.

    **Source:** the inequality of arXiv 2405.01125 with one multiplier per neuron, as in Fazlyab et al. (2019).
    """
    limits = limits or Limits()
    announce = on_stage or (lambda stage: None)
    begin = time.perf_counter()
    seconds: dict[str, float] = {}
    notes: list[str] = []

    # numpy and scipy each bring a pool of BLAS threads; taking turns, they wait for each other ten times as long as one
    # thread works.
    with threadpool_limits(limits=1, user_api="blas"):
        require_memory_for_rows(graph)
        rows = constraint_rows(graph)
        scaled = scale(compress(to_inequality(rows)))
        chosen = _choose(solver, scaled, notes)
        announce(Stage.SOLVE)
        share = dataclasses.replace(limits, time_limit=0.8 * limits.time_limit)
        try:
            solution = chosen.solve(scaled, share, on_progress)
        except KeyboardInterrupt:
            # Only solvers of others let this through: they keep no point to go on with.
            solution = dataclasses.replace(ClosedForm().solve(scaled, limits), status=Status.INTERRUPTED)
        seconds["solve"] = time.perf_counter() - begin

        announce(Stage.PROVE)
        certificate = prove(graph, scaled, solution) if solution.status.has_multipliers else None
        if certificate is None and not isinstance(chosen, ClosedForm):
            notes.append(f"The multipliers of {solution.solver} prove nothing; the bound is that of the closed form.")
            certificate = prove(graph, scaled, ClosedForm().solve(scaled, limits))
        seconds["prove"] = time.perf_counter() - begin - seconds["solve"]

        slope_bound, witness = 0.0, None
        if lower_bounds and solution.status is not Status.INTERRUPTED:
            remaining = max(limits.time_limit - (time.perf_counter() - begin), 1e-3)
            try:
                announce(Stage.WITNESS)
                slope_bound, witness = _lower_bounds(graph, rows, scaled, seed, min(remaining, _LONGEST_SEARCH))
            except KeyboardInterrupt:
                notes.append("Interrupted during the search for lower bounds.")
            except UndecidedError as error:
                notes.append(f"The witness was not proved: {error}")
            seconds["lower"] = time.perf_counter() - begin - sum(seconds.values())
    seconds["total"] = time.perf_counter() - begin
    return LipschitzReport(
        name=graph.name,
        upper=certificate.value if certificate else math.inf,
        lower=witness.ratio if witness else 0.0,
        slope_bound=slope_bound,
        norm_product=norm_product(scaled),
        certificate=certificate,
        witness=witness,
        solution=solution,
        seconds=seconds,
        notes=tuple(notes),
    )


def _lower_bounds(graph: Graph, rows: Rows, scaled: Scaled, seed: int, time_limit: float) -> tuple[float, Witness]:
    """The gain of the best slopes, and the better of two witnesses: one sought near these slopes, one freely."""
    slopes = GradientSystem(seed=seed, time_limit=time_limit / 2).solve(scaled.inequality)
    layers = zip(rows.activations, slopes.slopes, strict=True)
    wanted = {layer.node: values for layer, values in layers if layer.coupled == 1}
    search = WitnessSearch(seed=seed, time_limit=time_limit / 4)
    witnesses = [search.find(graph, wish) for wish in ((wanted, None) if wanted else (None,))]
    return scaled.unscale(slopes.value), max(witnesses, key=lambda witness: witness.ratio)


def _choose(solver: Solver | None, scaled: Scaled, notes: list[str]) -> Solver:
    chosen = solver or default_solver(scaled)
    needed, available = chosen.memory(scaled), available_memory()
    if needed <= MEMORY_SHARE * available:
        return chosen
    text = (
        f"{chosen} would need {needed / 2**30:.1f} GiB for {scaled.inequality.multipliers} multipliers; "
        f"{available / 2**30:.1f} GiB are free."
    )
    if solver is None:
        notes.append(f"{text} The bound is that of the closed form.")
        return ClosedForm()
    others: tuple[Solver, ...] = (InteriorPoint(), DualScaling(), ClosedForm())
    fitting = [other for other in others if other.memory(scaled) <= MEMORY_SHARE * available]
    names = ", ".join(map(str, fitting)) or "none"
    raise TooLargeError(f"{text} These solvers fit: {names}; without a choice (--solver auto) the first is used.")


def default_solver(scaled: Scaled) -> InteriorPoint | DualScaling:
    """The solver for an inequality of this size and shape: the one with few iterations, or the one with cheap ones.

    Deep narrow networks stay with the former whatever their size: their pattern keeps its iterations cheap.
    """
    order, entries = sum(scaled.inequality.sizes), structure(scaled.inequality).factor_entries
    return DualScaling() if order > _LARGE and 8 * entries > order**2 else InteriorPoint()


def require_memory_for_rows(graph: Graph) -> None:
    """Refuses a network whose rows, one dense matrix for each pair of coupled layers, and blocks of M would not fit.

    **Raises:** `TooLargeError`, before anything is allocated.
    """
    sizes = {node: math.prod(graph.shape(node)) for node in graph.order}
    system = lower(graph)
    entries = sizes[graph.output] * sum(sizes[node] for node in system.output_reads)
    for step in system.steps:
        layer = graph.layer(step.node)
        rows = sizes[step.node] * (math.prod(layer.kernel) if isinstance(layer, MaxPool) else 1)
        entries += rows * sum(sizes[node] for node in step.reads) + sizes[step.node] ** 2
    needed, available = _COPIES * 8 * entries, available_memory()
    if needed > MEMORY_SHARE * available:
        raise TooLargeError(
            f"Unrolled to matrices, the layers of this network would need {needed / 2**30:.1f} GiB; "
            f"{available / 2**30:.1f} GiB are free. Large images are out of reach of this version."
        )


def available_memory() -> int:
    """Bytes that can still be allocated without swapping."""
    return int(psutil.virtual_memory().available)
