"""The question of feedforward networks: how much can the map amplify a change of its input?"""

import dataclasses
import enum
import math
import time
from collections.abc import Callable

import numpy as np
from netgain.layers import Graph
from netgain.solvers.gradient_system import GradientSystem
from netgain.solvers.loop import NoMetricError
from netgain.solvers.result import Limits, OnProgress, Solution, Status
from threadpoolctl import threadpool_limits

from .certificate import Certificate
from .channelwise import ModeError
from .lower_bound import UndecidedError, Witness, WitnessSearch
from .mode import Mode
from .modes import Realisation, choose
from .neuron import Neuron, Solver, unrolled
from .roesser import Roesser, roesser
from .rounding import rounded_down, rounded_up
from .spectral import Spectral, spectral

_LONGEST_SEARCH = 20.0


class Stage(enum.Enum):
    """The parts of a verification, in order; the value is what a progress display says."""

    SOLVE = "solving"
    PROVE = "proving"
    WITNESS = "searching a witness"

INTERRUPTED_SEARCH = "Interrupted during the search for lower bounds."
"""The note of a report that lacks a witness since Ctrl-C was pressed."""
_ASK_IMPLICIT = ("`netgain implicit` tells which conditions of well-posedness can be proved of the network, and looks "
                 "for slopes that refute it.")


@dataclasses.dataclass(frozen=True, eq=False)
class LipschitzReport:
    """What is known of the Lipschitz constant L of f from l2 to l2, over all inputs and in real arithmetic.

    lower <= L <= upper, where `upper` is proved by `certificate` and `lower` exhibited by `witness`, both rigorously;
    `slope_bound` <= upper is what no method that only knows the slope intervals can beat (floating point), and
    `norm_product` the bound of composition (floating point).

    **Attributes:** `upper`: inf where nothing could be proved; `solution`: the solver's view, unproved; `seconds`: by
    stage; `mode`: the realisation solved; `notes`: what a reader should know.
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
    mode: Mode = Mode.NEURON
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
    mode: Mode | None = None,
    seed: int = 0,
    lower_bounds: bool = True,
    on_progress: OnProgress | None = None,
    on_stage: Callable[[Stage], None] | None = None,
) -> LipschitzReport:
    """Bounds the l2 Lipschitz constant of a network from above, with proof, and from below, with witnesses.

    **Arguments:** `mode`: the realisation; None chooses the tightest that is predicted to be done in time, and a note
    says which. `solver`: of the mode `neuron`, the default being that for the size of the network, unless it would not
    fit into memory, then `ClosedForm()`, and a note says so; of the mode `roesser` its own or a `Conic`; `spectral` has
    its own. `limits`: tolerance and seconds for everything; `seed`: of the search for lower bounds.

    **Raises:** `TooLargeError` if what was asked for cannot fit into memory; `ModeError` if the mode does not apply to
    the network; `ModelError` if the graph has a layer without an incremental constraint.

    **Source:** the inequality of arXiv 2405.01125, with one multiplier per neuron as in Fazlyab et al. (2019) or one
    per channel.
    """
    limits = limits or Limits()
    announce = on_stage or (lambda stage: None)
    begin = time.perf_counter()
    seconds: dict[str, float] = {}
    notes: list[str] = []

    # numpy and scipy each bring a pool of BLAS threads; taking turns, they wait for each other ten times as long as one
    # thread works.
    with threadpool_limits(limits=1, user_api="blas"):
        try:
            realisation, neuron = _realisation(graph, solver, limits, mode, notes)
        except NoMetricError as error:
            return _not_well_posed(graph, error, time.perf_counter() - begin)
        if isinstance(realisation, Spectral) and realisation.interfaces:
            notes.append(f"Cut into {len(realisation.interfaces) + 1} stages, after "
                         f"{', '.join(map(repr, realisation.interfaces))}: whole it would take too much memory or "
                         "time. Other cuts may certify less.")
        announce(Stage.SOLVE)
        share = dataclasses.replace(limits, time_limit=0.8 * limits.time_limit)
        try:
            solution, certificate = realisation.solve(share, on_progress), None
        except KeyboardInterrupt:
            # Only solvers of others let this through: they keep no point to go on with.
            solution = dataclasses.replace(realisation.closed_form(), status=Status.INTERRUPTED)
        seconds["solve"] = time.perf_counter() - begin

        announce(Stage.PROVE)
        if solution.status.has_multipliers:
            certificate = realisation.prove(solution)
        if certificate is None:
            certificate = _proved_closed_form(realisation)
            instead = "; the bound is that of the closed form" if certificate else ""
            notes.append(f"The multipliers of {solution.solver} prove nothing{instead}.")
        if neuron and realisation.mode is not Mode.NEURON:
            certificate = _better(neuron, certificate, notes)
        seconds["prove"] = time.perf_counter() - begin - seconds["solve"]

        slope_bound, witness = 0.0, None
        if lower_bounds and solution.status is not Status.INTERRUPTED:
            remaining = max(limits.time_limit - (time.perf_counter() - begin), 1e-3)
            try:
                announce(Stage.WITNESS)
                slope_bound, witness = _lower_bounds(graph, neuron, seed, min(remaining, _LONGEST_SEARCH))
            except KeyboardInterrupt:
                notes.append(INTERRUPTED_SEARCH)
            except UndecidedError as error:
                notes.append(f"The witness was not proved: {error}")
            seconds["lower"] = time.perf_counter() - begin - sum(seconds.values())
    seconds["total"] = time.perf_counter() - begin
    return LipschitzReport(
        name=graph.name,
        upper=certificate.value if certificate else math.inf,
        lower=witness.ratio if witness else 0.0,
        slope_bound=slope_bound,
        norm_product=realisation.norm_product,
        certificate=certificate,
        witness=witness,
        solution=solution,
        seconds=seconds,
        mode=realisation.mode,
        notes=tuple(notes),
    )


def _not_well_posed(graph: Graph, error: NoMetricError, seconds: float) -> LipschitzReport:
    """Nothing is claimed of a network of which it is not known that it has exactly one output."""
    solution = Solution(Status.NO_METRIC, math.inf, 0.0, (), 0, seconds, "diagonal_stability", "")
    return LipschitzReport(graph.name, math.inf, 0.0, 0.0, math.inf, None, None, solution,
                           {"solve": seconds, "total": seconds}, notes=(str(error), _ASK_IMPLICIT))


def _realisation(
    graph: Graph, solver: Solver | None, limits: Limits, mode: Mode | None, notes: list[str]
) -> tuple[Realisation, Neuron | None]:
    """What to solve, and the network unrolled if that was built on the way."""
    if mode is None and solver is None:
        chosen, neuron = choose(graph, limits, notes)
    elif mode is None or mode is Mode.NEURON:
        chosen = neuron = unrolled(graph)
    elif mode is Mode.SPECTRAL:
        if solver is not None:
            raise ModeError(f"The mode `spectral` has a solver of its own and takes no {solver}.")
        return spectral(graph), None
    else:
        return _roesser(graph, solver), None
    return (chosen.with_solver(solver, notes), neuron) if chosen is neuron else (chosen, neuron)


def _proved_closed_form(realisation: Realisation) -> Certificate | None:
    formula = realisation.closed_form()
    return realisation.prove(formula) if formula.status.has_multipliers else None


def _roesser(graph: Graph, solver: Solver | None) -> Roesser:
    if solver is None:
        return roesser(graph)
    backend = getattr(solver, "backend", None)
    if backend is None:
        raise ModeError(f"The mode `roesser` has a solver of its own, or takes conic solvers, but not {solver}.")
    return roesser(graph, backend)


def _better(neuron: Neuron, certificate: Certificate | None, notes: list[str]) -> Certificate | None:
    """The certificate, or that of the unrolled network's closed form if it claims less: on small images it may."""
    if certificate is not None and neuron.closed_form().bound >= certificate.value:
        return certificate
    other = neuron.prove(neuron.closed_form())
    if other is None or (certificate is not None and other.value >= certificate.value):
        return certificate
    why = ", which is smaller" if certificate is not None else ""
    notes.append(f"The bound is that of the unrolled network's closed form{why}.")
    return other


def _lower_bounds(graph: Graph, neuron: Neuron | None, seed: int, time_limit: float) -> tuple[float, Witness]:
    """The gain of the best slopes, and a witness."""
    slope_bound, wanted = slope_system(neuron, seed, time_limit / 2) if neuron is not None else (0.0, None)
    witness = best_witness(graph, wanted, seed, time_limit, neuron.loop_metrics if neuron else None)
    # The slopes of the witness's secants lie in the intervals too, and reach what the witness does.
    return max(slope_bound, witness.ratio) if slope_bound > 0 else slope_bound, witness


def slope_system(neuron: Neuron, seed: int, time_limit: float) -> tuple[float, dict[str, np.ndarray]]:
    """The gain of the best slopes found, in floating point, and these slopes by node, for a witness to come near.

    It runs layer by layer: with implicit layers it finds none.
    """
    if neuron.rows.loops:
        return 0.0, {}
    slopes = GradientSystem(seed=seed, time_limit=time_limit).solve(neuron.scaled.inequality)
    layers = zip(neuron.rows.activations, slopes.slopes, strict=True)
    return neuron.scaled.unscale(slopes.value), {layer.node: values for layer, values in layers if layer.coupled == 1}


def best_witness(graph: Graph, wanted: dict[str, np.ndarray] | None, seed: int, time_limit: float,
                 loop_metrics: dict[str, np.ndarray] | None = None) -> Witness:
    """The better of two witnesses: one sought near the slopes wanted, if there are any, and one freely.

    **Arguments:** `loop_metrics`: of implicit layers, see `prove_witness`.

    **Raises:** `UndecidedError`.
    """
    search = WitnessSearch(seed=seed, time_limit=time_limit / 4)
    witnesses = [search.find(graph, wish, loop_metrics) for wish in ([wanted, None] if wanted else [None])]
    return max(witnesses, key=lambda witness: witness.ratio)
