"""Proved bounds of convolutional networks, against the same networks unrolled to matrices."""

import math
from fractions import Fraction

import numpy as np
import pytest
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st
from netgain.layers import (
    Add,
    Affine,
    AveragePool,
    BatchNormalization,
    Convolution,
    Flatten,
    GraphBuilder,
    LeakyRelu,
    Mean,
    Pad,
    Relu,
    Reshape,
    ShapeError,
    Tanh,
    sequential,
)
from netgain.solvers import ClosedForm, Limits
from netgain.verify import check, lipschitz
from netgain.verify.balls import BALLS, precision
from netgain.verify.constraints import constraint_rows

RNG = np.random.default_rng(5)


def conv(*shape, **attributes):
    fan_in = math.prod(shape[1:])
    return Convolution(RNG.standard_normal(shape) * math.sqrt(2 / fan_in), RNG.standard_normal(shape[0]), **attributes)


def dense(*shape):
    return Affine(RNG.standard_normal(shape) / math.sqrt(shape[1]), RNG.standard_normal(shape[0]))


AROUND = ((1, 1), (1, 1))
NETWORKS = {
    "strided": sequential((1, 8, 8), [
        conv(4, 1, 3, 3, strides=(2, 2), padding=AROUND), Relu(),
        conv(8, 4, 3, 3, strides=(2, 2), padding=AROUND), Relu(), Flatten(), dense(10, 32)]),
    "pooled": sequential((2, 5, 7), [
        conv(4, 2, 2, 3, padding=((0, 1), (1, 0))), Tanh(), AveragePool((3, 2), (2, 2), padding=AROUND, ceil_mode=True),
        conv(2, 4, 2, 2), Relu(), Flatten(), dense(3, 12)]),
    "padded depthwise": sequential((3, 4, 4), [
        Pad(((1, 0), (0, 2))), conv(6, 1, 3, 2, dilations=(1, 2), groups=3), LeakyRelu(0.1), Mean((-2, -1), keep=False),
        dense(2, 6)]),
    "sequence": sequential((2, 12), [
        conv(3, 2, 3, strides=(2,), padding=((2,), (0,))), Relu(), conv(4, 3, 3, dilations=(2,)), Relu(), Flatten(),
        dense(2, 8)]),
    "normalised": sequential((1, 6, 6), [
        conv(3, 1, 3, 3), BatchNormalization(*RNG.uniform(0.5, 2, (4, 3)), trailing=2), Relu(), conv(2, 3, 2, 2),
        AveragePool((2, 2), (1, 1)), Flatten()]),
}


def residual():
    """A block with a stride and a projection, and one without."""
    builder = GraphBuilder()
    x = builder.input((2, 6, 6))
    for strides, channels in (((2, 2), 2), ((1, 1), 3)):
        inner = builder.add(Relu(), builder.add(conv(3, channels, 3, 3, strides=strides, padding=AROUND), x))
        inner = builder.add(conv(3, 3, 3, 3, padding=AROUND), inner)
        skip = x if channels == 3 else builder.add(conv(3, 2, 1, 1, strides=strides), x)
        x = builder.add(Relu(), builder.add(Add((1, 1)), inner, skip))
    return builder.build(builder.add(Mean((-2, -1)), x))


NETWORKS["residual"] = residual()
each = pytest.mark.parametrize("name", NETWORKS)


def unrolled(graph):
    """The same map with every convolution, pooling and padding as a dense matrix over the flattened array."""
    builder = GraphBuilder()
    names = {graph.input: builder.input(graph.shape(graph.input))}
    for node in graph.order[1:-1]:
        layer, inputs = graph.layer(node), [names[name] for name in graph.inputs(node)]
        if isinstance(layer, Convolution | AveragePool | Mean | Pad):
            shape, size = graph.input_shapes(node)[0], math.prod(graph.shape(node))
            matrix = layer.apply(np.eye(math.prod(shape)).reshape((-1, *shape)), 0, (shape,)).reshape(-1, size).T
            offset = layer.offset()
            bias = None if offset is None else np.broadcast_to(offset, graph.shape(node)).ravel()
            flat = builder.add(Affine(matrix, bias), builder.add(Flatten(), *inputs))
            names[node] = builder.add(Reshape(graph.shape(node)), flat)
        else:
            names[node] = builder.add(layer, *inputs)
    return builder.build(names[graph.inputs(graph.output)[0]])


@each
def test_rows_are_those_of_the_unrolled_network(name):
    graph = NETWORKS[name]
    rows, expected = constraint_rows(graph), constraint_rows(unrolled(graph))
    assert rows.sizes == expected.sizes
    for a, b in zip((*(r.maps for r in rows.activations), rows.output), (*(r.maps for r in expected.activations),
                                                                         expected.output), strict=True):
        assert a.keys() == b.keys()
        for block in a:
            np.testing.assert_allclose(a[block], b[block], rtol=1e-12, atol=1e-13)


@each
def test_rows_in_balls_enclose_those_in_double_precision(name):
    graph = NETWORKS[name]
    double = constraint_rows(graph)
    with precision(100):
        balls = constraint_rows(graph, BALLS)
    pairs = [(a.maps[j], b.maps[j]) for a, b in zip(double.activations, balls.activations, strict=True) for j in a.maps]
    for a, b in [*pairs, *((double.output[j], balls.output[j]) for j in double.output)]:
        if b.dtype == np.float64:
            assert np.array_equal(a, b)
        else:
            assert np.allclose(a, np.vectorize(float)(b), rtol=1e-13, atol=1e-14)
    if name in ("strided", "sequence"):
        # A convolution between two activations is a table of weights, which no arithmetic has touched.
        assert all(a.dtype == np.float64 for layer in balls.activations for a in layer.maps.values())


def test_a_convolution_of_a_convolution_is_enclosed():
    """Their matrices are exact, their product is not: every sum over taps rounds in double precision."""
    first, second = conv(3, 1, 3, 2, padding=AROUND), conv(2, 3, 2, 2, strides=(2, 1))
    graph = sequential((1, 4, 4), [first, second])
    inner, outer = graph.shape(graph.order[1]), graph.shape(graph.output)
    matrices = [layer.unrolled(0, (shape,)).reshape(math.prod(shape), -1) for layer, shape in
                ((first, (1, 4, 4)), (second, inner))]
    exact = np.dot(*(np.vectorize(Fraction, otypes=[object])(matrix) for matrix in matrices)).T
    with precision(100):
        (found,) = constraint_rows(graph, BALLS).output.values()
    assert found.shape == exact.shape == (math.prod(outer), 16)
    with precision(400):
        assert all(ball.contains(arb(q.numerator) / q.denominator) and float(ball.rad()) < 1e-25
                   for ball, q in zip(found.ravel(), exact.ravel(), strict=True))
    assert any(Fraction(a) != b for a, b in zip(constraint_rows(graph).output[0].ravel(), exact.ravel(), strict=True))


@each
def test_the_bound_is_proved_and_lies_between_witness_and_norm_product(name):
    graph = NETWORKS[name]
    report = lipschitz(graph, limits=Limits(time_limit=8.0))
    assert report.proved
    assert check(report.certificate, graph).proved
    assert not check(report.certificate, unrolled(graph)).proved  # another graph, though the same map
    assert 0 < report.lower <= report.slope_bound * (1 + 1e-6) <= report.upper * (1 + 2e-6)
    if name != "residual":
        assert report.upper <= report.norm_product * (1 + 1e-6)
    assert report.upper == pytest.approx(report.solution.bound, rel=1e-5)
    x, y = (np.random.default_rng(seed).standard_normal((200, *graph.shape(graph.input))) for seed in (0, 1))
    steps = (y - x) * np.logspace(-6, 0, 200).reshape((-1,) + (1,) * (x.ndim - 1))
    change = (graph.forward(x + steps) - graph.forward(x)).reshape(200, -1)
    assert np.all(np.linalg.norm(change, axis=1) <= report.upper * np.linalg.norm(steps.reshape(200, -1), axis=1) *
                  (1 + 1e-6))


@st.composite
def convolutions(draw):
    axes, groups = draw(st.integers(1, 2)), draw(st.integers(1, 2))

    def numbers(least, most):
        return tuple(draw(st.lists(st.integers(least, most), min_size=axes, max_size=axes)))

    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = draw(st.integers(1, 2))
    weight = rng.standard_normal((draw(st.integers(1, 2)) * groups, channels, *numbers(1, 3)))
    layer = Convolution(weight, None, numbers(1, 3), numbers(1, 2), (numbers(0, 2), numbers(0, 2)), groups)
    return layer, (channels * groups, *numbers(3, 5))


@given(convolutions())
@settings(max_examples=40, deadline=None)
def test_the_certified_norm_of_an_operator_is_that_of_its_matrix(case):
    """Not that of the kernel as a matrix, which padding, strides and the size of the input do not enter."""
    layer, shape = case
    try:
        graph = sequential(shape, [layer])
    except ShapeError:
        return
    # Sums over taps, written out.
    target = graph.shape(graph.output)
    matrix = np.zeros((*target, *shape))
    per_group, channels = len(layer.weight) // layer.groups, layer.weight.shape[1]
    for out in np.ndindex(target):
        for c, *tap in np.ndindex(layer.weight.shape[1:]):
            entry = [o * s - b + k * d for o, s, b, k, d in zip(
                out[1:], layer.strides, layer.padding[0], tap, layer.dilations, strict=True)]
            if all(0 <= e < n for e, n in zip(entry, shape[1:], strict=True)):
                matrix[(*out, out[0] // per_group * channels + c, *entry)] += layer.weight[(out[0], c, *tap)]
    norm = np.linalg.norm(matrix.reshape(math.prod(target), -1), 2)
    report = lipschitz(graph, ClosedForm(), lower_bounds=False)
    assert report.proved
    assert norm * (1 - 1e-12) <= report.upper <= norm * (1 + 1e-6)


def test_a_convolution_that_reads_only_padding_is_constant():
    graph = sequential((1, 2), [Convolution(np.ones((1, 1, 1)), np.ones(1), (9,), padding=((3,), (0,)))])
    assert graph.shape(graph.output) == (1, 1)
    assert lipschitz(graph, lower_bounds=False).upper == 0
