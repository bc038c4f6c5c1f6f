"""What each layer of a network does to lengths: the norms the composition bound multiplies, and what a pair of inputs
meets on its way. Floating point, for pictures; no proof rests on it."""

import contextlib
import dataclasses
import math

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from netgain.layers import Activation, ConvergenceError, Graph, MaxPool
from netgain.layers.layer import LinearLayer

from .inspection import NodeSummary, summarise
from .lower_bound import Witness

# The smaller side of a linear map up to which its matrix is written down.
_DENSE = 128
_MOST_ITERATIONS = 100
# Entries of input and output together; the norms of larger layers would take seconds.
_LARGEST = 2_000_000


@dataclasses.dataclass(frozen=True)
class LayerGain:
    """A node and its gains.

    **Attributes:** `gains`: by input, the Euclidean norm of the layer's linear map, or the steepest slope; None where
    it is not known without a solve (implicit layers) or would take long; empty for the network's input. `reached`:
    |difference here| / |difference of the inputs| for the witness; None without one, and where the iteration of an
    implicit layer does not end.
    """

    node: NodeSummary
    gains: tuple[float | None, ...]
    reached: float | None


def layer_gains(graph: Graph, witness: Witness | None = None) -> tuple[LayerGain, ...]:
    """The gains of all nodes, in the graph's order."""
    reached: dict[str, float | None] = {node: None for node in graph.order}
    if witness is not None:
        pair = np.stack([witness.x, witness.x_prime]).reshape((2, *graph.shape(graph.input)))
        distance = _length(pair[0] - pair[1])
        # The solve is done by now: its result is not lost to a picture.
        with contextlib.suppress(ConvergenceError):
            values = graph.values(pair) if 0 < distance < math.inf else {}
            reached |= {node: _length(value[0] - value[1]) / distance for node, value in values.items()}
    return tuple(LayerGain(node, _gains(graph, node.name), reached[node.name]) for node in summarise(graph))


def _length(values: np.ndarray) -> float:
    """The Euclidean norm, also where the squares are out of range."""
    return float(scipy.linalg.norm(values.ravel(), check_finite=False))


def _gains(graph: Graph, node: str) -> tuple[float | None, ...]:
    layer, shapes = graph.layer(node), graph.input_shapes(node)
    if not shapes:
        return ()
    if isinstance(layer, MaxPool):
        # An entry is the largest of at most so many windows.
        return (math.sqrt(layer.reuse(shapes[0])),)
    if isinstance(layer, LinearLayer):
        return tuple(_norm(graph, node, layer, position) for position in range(len(shapes)))
    if isinstance(layer, Activation):
        interval = layer.slopes(graph.shape(node))
        return (float(max(np.max(np.abs(interval.lower)), np.max(np.abs(interval.upper)))),)
    return (None,) * len(shapes)


def _norm(graph: Graph, node: str, layer: LinearLayer, position: int) -> float | None:
    """|T_position|, from the matrix if it is small, else by Lanczos' method."""
    shapes, output = graph.input_shapes(node), graph.shape(node)
    shape = shapes[position]
    columns, rows = math.prod(shape), math.prod(output)
    if layer.keeps_order():
        return 1.0
    if rows + columns > _LARGEST:
        return None

    def forward(x: np.ndarray) -> np.ndarray:
        return np.asarray(layer.apply(x.T.reshape((-1, *shape)), position, shapes)).reshape((-1, rows)).T

    def backward(y: np.ndarray) -> np.ndarray:
        return np.asarray(layer.apply_transposed(y.T.reshape((-1, *output)), position, shapes)).reshape((-1, columns)).T

    if min(rows, columns) <= _DENSE:
        small = forward(np.eye(columns)) if columns <= rows else backward(np.eye(rows))
        # Powers of two keep the squares within range.
        scale = float(np.max(np.abs(small), initial=0.0))
        if not 0 < scale < math.inf:
            return scale if scale == 0 else None
        shift = -math.frexp(scale)[1]
        scaled = np.ldexp(small, shift)
        return math.ldexp(math.sqrt(max(float(np.linalg.eigvalsh(scaled.T @ scaled)[-1]), 0.0)), -shift)
    operator = scipy.sparse.linalg.LinearOperator(
        (columns, columns), matvec=lambda x: backward(forward(x.reshape((-1, 1)))).ravel(), dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(columns)
    if not np.any(operator @ start):
        return 0.0
    try:
        largest = scipy.sparse.linalg.eigsh(operator, 1, v0=start, tol=1e-5, maxiter=_MOST_ITERATIONS,
                                            return_eigenvectors=False)
    except scipy.sparse.linalg.ArpackNoConvergence:
        return None
    return math.sqrt(max(float(largest[0]), 0.0))
