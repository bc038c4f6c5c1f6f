"""What a network looks like to the verifier, before anything is solved."""

import dataclasses
import math

import numpy as np
from netgain.layers import Activation, FixedPoint, Graph, MaxPool
from netgain.layers.dynamics import Dynamics, lower

from .memory import available_memory
from .modes import Prediction, predictions


@dataclasses.dataclass(frozen=True)
class NodeSummary:
    """One row of the layer table; `slopes` is empty for linear layers.

    Of a maximum over windows it says how many windows read one entry; its slopes for the entries of one window are not
    negative and add up to one.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    slopes: str


@dataclasses.dataclass(frozen=True)
class Inspection:
    """The layer graph, its dynamical system, and what each mode would take."""

    name: str
    nodes: tuple[NodeSummary, ...]
    dynamics: Dynamics
    predictions: tuple[Prediction, ...]
    available_memory: int

    @property
    def neurons(self) -> int:
        return sum(math.prod(node.shape) for node in self.nodes if node.slopes)


def summarise(graph: Graph) -> tuple[NodeSummary, ...]:
    """The layer table of a graph."""
    rows = []
    for node in graph.order:
        layer, slopes = graph.layer(node), ""
        neurons = layer.activation if isinstance(layer, FixedPoint) else layer
        if isinstance(neurons, Activation):
            interval = neurons.slopes(graph.shape(node))
            low, high = float(np.min(interval.lower)), float(np.max(interval.upper))
            slopes = f"[{low:.6g}, {high:.6g}]" + (f", groups of {interval.coupled}" if interval.coupled > 1 else "")
        elif isinstance(layer, MaxPool):
            reuse = layer.reuse(graph.input_shapes(node)[0])
            slopes = "[0, 1]" + (f", windows overlap {reuse} times" if reuse > 1 else "")
        rows.append(NodeSummary(node, layer.describe(), graph.inputs(node), graph.shape(node), slopes))
    return tuple(rows)


def inspect(graph: Graph) -> Inspection:
    """Everything there is to say about a network before the solve."""
    return Inspection(graph.name, summarise(graph), lower(graph), predictions(graph), available_memory())
