"""The matrix inequality in rational numbers, straight from its definition: the reference for both provers.

It shares no code with the checker: layers are evaluated, not walked by their linear parts, nothing is scaled, and
semidefiniteness is decided by exact elimination.
"""

import math
from fractions import Fraction

import numpy as np
from netgain.layers import Activation
from netgain.layers.arithmetic import Arithmetic

# A neuron of one slope in a layer of many is given an interval; slopes in the tests are at most 1 there.
WIDENING = Fraction(1, 2**20)

_fraction = np.frompyfunc(Fraction, 1, 1)


class _Rationals(Arithmetic):
    """Exact numbers; only what affine layers need."""

    def constant(self, values):
        return _fraction(np.asarray(values, dtype=np.float64))

    def matmul(self, left, right):
        return left @ _fraction(right)

    def exp(self, x):
        raise NotImplementedError

    expm1 = log1p = tanh = erf = arctan = sqrt = sort = exp

    def maximum(self, x, y):
        raise NotImplementedError

    minimum = maximum


def is_rational(graph):
    """Whether all linear layers have rational coefficients: batch normalisation has roots."""
    return not any(type(graph.layer(node)).__name__ == "BatchNormalization" for node in graph.order)


def _slope(graph, node):
    """The slope of an activation that is linear, the same number for all neurons; None for any other."""
    slopes = graph.layer(node).slopes(graph.shape(node))
    only = slopes.coupled == 1 and np.array_equal(slopes.lower, slopes.upper)
    return float(slopes.lower) if only else None


def _linear_part(layer, inputs):
    zeros = [np.zeros_like(x) + Fraction(0) for x in inputs]
    return layer.forward(*inputs, arithmetic=_Rationals()) - layer.forward(*zeros, arithmetic=_Rationals())


def rational_rows(graph):
    """(block sizes, [(v, lower, upper)] by activation, y): rows of v and y are coefficients over all blocks stacked."""
    activations = [node for node in graph.order if isinstance(graph.layer(node), Activation)]
    activations = [node for node in activations if _slope(graph, node) is None]
    sizes = [math.prod(graph.shape(node)) for node in (graph.input, *activations)]
    unit = _fraction(np.eye(sum(sizes)))
    starts = np.cumsum([0, *sizes])

    def block(index, node):
        return unit[:, starts[index] : starts[index + 1]].reshape((len(unit), *graph.shape(node)))

    coefficients, rows = {graph.input: block(0, graph.input)}, []
    for node in graph.order[1:]:
        layer, inputs = graph.layer(node), [coefficients[name] for name in graph.inputs(node)]
        if not isinstance(layer, Activation):
            coefficients[node] = _linear_part(layer, inputs)
            continue
        if node not in activations:
            coefficients[node] = inputs[0] * Fraction(_slope(graph, node))
            continue
        slopes = layer.slopes(graph.shape(node))
        ends = [_fraction(np.broadcast_to(end, graph.shape(node)).ravel()) for end in (slopes.lower, slopes.upper)]
        ends[1] = np.where(ends[0] == ends[1], ends[1] + WIDENING, ends[1])
        rows.append((inputs[0].reshape((len(unit), -1)).T, *ends))
        coefficients[node] = block(len(rows), node)
    return sizes, rows, coefficients[graph.output].reshape((len(unit), -1)).T


def rational_matrix(graph, certificate):
    """M of the certificate's multipliers in the network's own units, times 2^(-2 output_exponent)."""
    sizes, rows, y = rational_rows(graph)
    starts = np.cumsum([0, *sizes])
    total = starts[-1]
    unit = _fraction(np.eye(total))

    def power(exponent):
        return Fraction(2) ** int(exponent)

    outer = certificate.output_exponent
    gain = Fraction(certificate.value) * power(-outer)
    matrix = -(y.T @ y) * power(-2 * outer)
    for i in range(sizes[0]):
        matrix[i, i] += gain**2
    for k, (v, lower, upper) in enumerate(rows, start=1):
        z = unit[starts[k] : starts[k + 1]]
        p, q = z - lower[:, None] * v, z - upper[:, None] * v
        given = certificate.multipliers[k - 1]
        multipliers = _fraction(np.repeat(given, sizes[k] // len(given))) * power(-2 * certificate.exponents[k])
        matrix = matrix + p.T @ (multipliers[:, None] * q) + q.T @ (multipliers[:, None] * p)
    return matrix


def scaled_matrix(graph, certificate):
    """The same in the certificate's coordinates, where both provers work."""
    sizes, _, _ = rational_rows(graph)
    powers = np.repeat([Fraction(2) ** e for e in certificate.exponents], sizes)
    return powers[:, None] * rational_matrix(graph, certificate) * powers


def is_semidefinite(matrix):
    """Whether a symmetric rational matrix is positive semidefinite, by exact elimination."""
    matrix = matrix.copy()
    for k in range(len(matrix)):
        pivot = matrix[k, k]
        if pivot < 0 or (pivot == 0 and any(entry != 0 for entry in matrix[k, k:])):
            return False
        if pivot > 0:
            column = matrix[k + 1 :, k]
            matrix[k + 1 :, k + 1 :] -= column[:, None] * (column / pivot)
    return True
