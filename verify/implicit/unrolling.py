"""Implicit layers replaced by finitely many steps of an iteration from x = 0: feedforward networks of growing depth."""

import dataclasses
import enum
from collections.abc import Mapping

import numpy as np
from netgain.layers import (
    Add,
    Affine,
    FixedPoint,
    Flatten,
    Graph,
    GraphBuilder,
    Layer,
    ModelError,
    Relu,
    Reshape,
    Scale,
)
from netgain.solvers.implicit.fixed_point import Method, average_step, splitting_step
from netgain.solvers.implicit.weighted_log_norm import SlopeBox, least_log_norm

from ..constraints import ActivationRows


class StepKind(enum.Enum):
    """What a step does; the value is how it is printed."""

    AVERAGE = "x+ = (1 - a) x + a s(A x + v)"
    FORWARD_BACKWARD = "x+ = s((1 - a) x + a (A x + v))"


@dataclasses.dataclass(frozen=True)
class UnrolledStep:
    """One step of size a; `factor`: what it is guaranteed to contract with in some norm, 1 or more where nothing is.

    The second kind is the forward-backward splitting of ReLU, which is its own resolvent.
    """

    kind: StepKind
    size: float
    factor: float


def converging_step(graph: Graph, rows: ActivationRows, metric: np.ndarray | None) -> UnrolledStep:
    """The average step where weights prove that it contracts, else that of the splitting in a metric for ReLU.

    Where neither is at hand it is Picard's, a = 1, which need not converge.
    """
    A, slopes = np.asarray(rows.loop), SlopeBox(rows.lower, rows.upper)
    least = least_log_norm(A, slopes)
    if least.value < 1:
        step = average_step(A, least.weights, slopes)
        return UnrolledStep(StepKind.AVERAGE, step.size, step.factor)
    layer = graph.layer(rows.node)
    if metric is not None and isinstance(layer, FixedPoint) and isinstance(layer.activation, Relu):
        step = splitting_step(A, Method.FORWARD_BACKWARD, metric)
        return UnrolledStep(StepKind.FORWARD_BACKWARD, step.size, step.factor)
    return UnrolledStep(StepKind.AVERAGE, 1.0, np.inf)


def unroll(graph: Graph, depth: int, steps: Mapping[str, UnrolledStep]) -> Graph:
    """The graph with every implicit layer replaced by `depth` steps from x = 0.

    **Raises:** `ModelError` if `depth` is not positive.
    """
    if depth < 1:
        raise ModelError(f"A network is unrolled to at least one step, got {depth}.")
    builder = GraphBuilder()
    names = {graph.input: builder.input(graph.shape(graph.input), graph.input)}
    for node in graph.order[1:-1]:
        layer, fed = graph.layer(node), [names[name] for name in graph.inputs(node)]
        if isinstance(layer, FixedPoint):
            names[node] = _steps(builder, node, layer, fed[0], depth, steps[node])
        else:
            names[node] = builder.add(layer, *fed, name=node)
    return builder.build(names[graph.inputs(graph.output)[0]], f"{graph.name}, {depth} steps")


def _steps(builder: GraphBuilder, node: str, layer: FixedPoint, v: str, depth: int, step: UnrolledStep) -> str:
    shape, a = builder.shape(v), step.size
    A = layer.matrix(shape)
    if len(shape) > 1:  # a convolution, as the matrix it is
        v = builder.add(Flatten(), v, name=f"{node}: flat 0")

    def add(kind: str, k: int, part: Layer, *fed: str) -> str:
        return builder.add(part, *fed, name=f"{node}: {kind} {k}")

    splitting = step.kind is StepKind.FORWARD_BACKWARD
    matrix = (1 - a) * np.eye(len(A)) + a * A if splitting else A
    fed = add("input", 0, Scale(a), v) if splitting else v
    x = add("answer", 1, layer.activation, fed)
    if splitting or a == 1:
        for k in range(2, depth + 1):
            x = add("answer", k, layer.activation, add("sum", k, Add((1, 1)), add("matrix", k, Affine(matrix), x), fed))
        return x if len(shape) == 1 else builder.add(Reshape(shape), x, name=node)
    x = add("step", 1, Scale(a), x)
    for k in range(2, depth + 1):
        inner = add("sum", k, Add((1, 1)), add("matrix", k, Affine(matrix), x), fed)
        answer = add("answer", k, layer.activation, inner)
        x = add("mean", k, Add((1, 1)), add("rest", k, Scale(1 - a), x), add("step", k, Scale(a), answer))
    return x if len(shape) == 1 else builder.add(Reshape(shape), x, name=node)
