"""Differences of outputs, as networks and as constants: what search and checker share."""

import math

import numpy as np
from flint import arb
from netgain.layers import Affine, Flatten, Graph, GraphBuilder

from ..balls import upper
from ..certificate import Certificate

Pair = tuple[int, int]
"""Classes (i, j) with i < j."""


def pair_graph(graph: Graph, pair: Pair) -> Graph:
    """The network with the one output f_i - f_j."""
    builder = GraphBuilder()
    builder.input(graph.shape(graph.input), graph.input)
    for node in graph.order[1:-1]:
        builder.add(graph.layer(node), *graph.inputs(node), name=node)
    (node,) = graph.inputs(graph.output)
    if len(graph.shape(node)) != 1:
        node = builder.add(Flatten(), node)
    row = difference(math.prod(graph.shape(graph.output)), *pair)
    return builder.build(builder.add(Affine(row[None]), node), f"{graph.name}, output {pair[0]} - {pair[1]}")


def difference(classes: int, i: int, j: int) -> np.ndarray:
    """e_i - e_j."""
    row = np.zeros(classes)
    row[i], row[j] = 1.0, -1.0
    return row


def all_pairs(classes: int) -> list[Pair]:
    return [(i, j) for j in range(classes) for i in range(j)]


def constants(classes: int, overall: Certificate | None, pairs: dict[Pair, Certificate]) -> np.ndarray:
    """The least constant of each difference that follows from these certificates, 0 on the diagonal."""
    values = np.full((classes, classes), root_two_times(overall.value) if overall else math.inf)
    for (i, j), certificate in pairs.items():
        values[i, j] = values[j, i] = min(values[i, j], certificate.value)
    np.fill_diagonal(values, 0.0)
    return values


def root_two_times(value: float) -> float:
    return upper(arb(2).sqrt() * arb(value))
