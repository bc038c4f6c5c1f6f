"""A graph as a time-varying dynamical system: cuts are the states, nonlinear layers the time steps.

Every nonlinear layer is one step. The state before it is a cut of the graph: the input and the outputs of those
nonlinear layers that this step or a later one still reads. Linear layers lie inside the steps. The cut's width is the
size of the cost-to-go matrix that the recursion of arXiv 2405.01125 carries, hence the measure of a network's
difficulty.
"""

import dataclasses
import math

import networkx as nx

from .graph import Graph
from .layer import NonlinearLayer


@dataclasses.dataclass(frozen=True)
class TimeStep:
    """One nonlinear layer: `reads` and `state` name nodes that hold increments (the input, outputs of nonlinear
    layers).

    **Attributes:** `node`: the layer; `reads`: what its input depends on through linear layers alone; `state`: the cut
    before the step; `width`: entries of that cut.
    """

    node: str
    reads: tuple[str, ...]
    state: tuple[str, ...]
    width: int


@dataclasses.dataclass(frozen=True)
class Dynamics:
    """The steps in order, and the cut the output reads."""

    steps: tuple[TimeStep, ...]
    output_reads: tuple[str, ...]
    output_state_width: int

    @property
    def widest_cut(self) -> int:
        return max([step.width for step in self.steps] + [self.output_state_width])


def lower(graph: Graph) -> Dynamics:
    """The dynamical system of any acyclic graph."""
    holders = [node for node in graph.order if node == graph.input or isinstance(graph.layer(node), NonlinearLayer)]
    reads = {node: _read_through_linear(graph, node, set(holders)) for node in [*holders[1:], graph.output]}
    last = {node: position for position, reader in enumerate(reads) for node in reads[reader]}

    def width(nodes: tuple[str, ...]) -> int:
        return sum(math.prod(graph.shape(node)) for node in nodes)

    steps = []
    for position, node in enumerate(holders[1:]):
        state = tuple(held for held in holders[: position + 1] if last.get(held, -1) >= position)
        steps.append(TimeStep(node, reads[node], state, width(state)))
    return Dynamics(tuple(steps), reads[graph.output], width(reads[graph.output]))


def _read_through_linear(graph: Graph, node: str, holders: set[str]) -> tuple[str, ...]:
    """Holders from which a path of linear layers leads to the node."""
    linear = nx.DiGraph(edge for edge in graph.digraph.edges if edge[1] not in holders or edge[1] == node)
    found = nx.ancestors(linear, node) & holders
    return tuple(held for held in graph.order if held in found)
