"""Which realisation of a network to solve: what each would take, and the choice among them."""

import dataclasses
import math
from typing import Protocol

from netgain.layers import Graph, LinearLayer
from netgain.solvers.loop import NoMetricError
from netgain.solvers.result import Limits, OnProgress, Solution

from .certificate import Certificate
from .channelwise import ModeError
from .memory import TooLargeError, fits, gibibytes
from .mode import Mode
from .neuron import Neuron, memory_for_rows, unrolled
from .roesser import predict_roesser
from .spectral import Spectral, plan, spectral

# Longer solves are left to those who ask for them.
_PATIENCE = 300.0
# Beyond it a solve takes days, whatever the memory.
_LARGEST_ORDER = 20_000


class Realisation(Protocol):
    """A network as one of its inequalities."""

    @property
    def mode(self) -> Mode: ...

    @property
    def norm_product(self) -> float:
        """The bound of composition, in floating point."""

    def solve(self, limits: Limits, on_progress: OnProgress | None) -> Solution: ...

    def closed_form(self) -> Solution: ...

    def prove(self, solution: Solution) -> Certificate | None: ...


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a mode would take: `multipliers`, `order` of its largest matrix, `memory` in bytes, `seconds`; or the
    `obstacle` that puts it out of the question."""

    mode: Mode
    multipliers: int = 0
    order: int = 0
    memory: int = 0
    seconds: float = 0.0
    obstacle: str = ""

    @property
    def fits(self) -> bool:
        return not self.obstacle and fits(self.memory)


def predictions(graph: Graph) -> tuple[Prediction, ...]:
    """What every mode would take."""
    return tuple(predict(graph) for predict in (_neuron, _spectral, _roesser))


def choose(graph: Graph, limits: Limits, notes: list[str]) -> tuple[Neuron | Spectral, Neuron | None]:
    """The tightest mode that is predicted to be done in time, and the unrolled network if that was built on the way.

    Notes say what was chosen and why, where there was a choice.

    **Raises:** `TooLargeError` if no mode fits.
    """
    patience = min(_PATIENCE, 0.8 * limits.time_limit)
    neuron, obstacle = None, _too_large(graph)
    if not obstacle:
        neuron = unrolled(graph)
        cost = neuron.predict()
        if fits(cost.memory) and cost.seconds <= patience:
            return neuron, neuron
        obstacle = (f"The mode neuron is predicted to take {gibibytes(cost.memory)} and {cost.seconds:.0f} s for "
                    f"{cost.multipliers} multipliers")
    try:
        planned = plan(graph, patience)
        predicted = planned.cost
        # Where neither is done in time, the tighter is left only for a faster one.
        if neuron and fits(cost.memory) and cost.seconds <= predicted.seconds:
            return neuron, neuron
        problem = spectral(graph, planned.interfaces)
    except (ModeError, TooLargeError) as error:
        if neuron is None:
            raise TooLargeError(f"{obstacle}. {error}") from None
        return neuron, neuron
    notes.append(f"Mode spectral, {predicted.multipliers} multipliers, predicted to take {predicted.seconds:.0f} s. "
                 f"{obstacle}.")
    return problem, neuron


def _too_large(graph: Graph) -> str:
    order = sum(math.prod(graph.shape(node)) for node in graph.order if not isinstance(graph.layer(node), LinearLayer))
    needed = memory_for_rows(graph)
    if fits(needed) and order <= _LARGEST_ORDER:
        return ""
    return f"Unrolled to matrices, this network would take {gibibytes(needed)}, for an inequality of order {order}"


def _neuron(graph: Graph) -> Prediction:
    if obstacle := _too_large(graph):
        return Prediction(Mode.NEURON, memory=memory_for_rows(graph), obstacle=obstacle)
    try:
        cost = unrolled(graph).predict()
    except NoMetricError as error:
        return Prediction(Mode.NEURON, obstacle=str(error))
    return Prediction(Mode.NEURON, cost.multipliers, cost.order, cost.memory, cost.seconds)


def _spectral(graph: Graph) -> Prediction:
    try:
        cost = plan(graph).cost
    except ModeError as error:
        return Prediction(Mode.SPECTRAL, obstacle=str(error))
    return Prediction(Mode.SPECTRAL, cost.multipliers, cost.order, cost.memory, cost.seconds)


def _roesser(graph: Graph) -> Prediction:
    try:
        cost = predict_roesser(graph)
    except ModeError as error:
        return Prediction(Mode.ROESSER, obstacle=str(error))
    return Prediction(Mode.ROESSER, cost.multipliers, cost.order, cost.memory, cost.seconds)
