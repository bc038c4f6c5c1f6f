"""From graphs to the matrices of a field: J(D) against derivatives of the graph itself, and what has no such form."""

import numpy as np
import pytest
from netgain.layers import (
    Add,
    Affine,
    Concatenate,
    GraphBuilder,
    LeakyRelu,
    ModelError,
    Relu,
    SampledWeights,
    Scale,
    Sigmoid,
    Softmax,
    Tanh,
    sequential,
)
from netgain.layers.formats.perceptron import activation_named
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.multilayer_field import MultilayerField
from netgain.verify.contractivity.slope_fields import slope_field

RANDOM = np.random.default_rng(2)
A, B = RANDOM.standard_normal((3, 3)), RANDOM.standard_normal((3, 3))
WIDE, E = RANDOM.standard_normal((5, 3)), RANDOM.standard_normal((3, 5))
b5 = RANDOM.standard_normal(5)
POINTS = RANDOM.standard_normal((4, 3))


def jacobian(graph, u, step=1e-6):
    """Central differences."""
    moves = step * np.eye(len(u))
    return (graph.forward(u + moves) - graph.forward(u - moves)).T / (2 * step)


def with_a_linear_part(linear):
    builder = GraphBuilder()
    u = builder.input((3,))
    nonlinear = builder.add(Affine(E), builder.add(Tanh(), builder.add(Affine(WIDE, b5), u)))
    return builder.build(builder.add(Add((1, 1)), nonlinear, builder.add(linear, u)))


def side_by_side():
    """u' = -u + E [tanh(..); tanh(..)], as two layers that are concatenated."""
    builder = GraphBuilder()
    u = builder.input((3,))
    halves = [builder.add(Tanh(), builder.add(Affine(part), u)) for part in (WIDE[:2], WIDE[2:])]
    sum_of_all = builder.add(Affine(E), builder.add(Concatenate(), *halves))
    return builder.build(builder.add(Add((1, -1)), sum_of_all, u))


@pytest.mark.parametrize("graph", [
    sequential((3,), [Affine(A, b5[:3]), Tanh()]),
    sequential((3,), [Affine(WIDE, b5), Tanh(), Affine(E, b5[:3])]),
    sequential((3,), [Scale(multiplier=-2.0), Tanh()]),
    with_a_linear_part(Affine(B)),
    with_a_linear_part(Scale(multiplier=-1.0)),
    side_by_side(),
])
def test_the_matrices_are_those_of_the_graph(graph):
    field = slope_field(graph)
    assert isinstance(field, SlopeField)
    for u in POINTS:
        values = graph.values(u[None])
        slopes = np.concatenate([1 - values[node].ravel() ** 2 for node in graph.order if node.startswith("tanh")])
        np.testing.assert_allclose(field.jacobian(slopes), jacobian(graph, u), atol=1e-8)


def test_a_chain_of_layers():
    graph = sequential((3,), [Affine(WIDE, b5), Tanh(), Affine(E), Tanh(), Affine(B), Tanh()])
    field = slope_field(graph)
    assert isinstance(field, MultilayerField)
    for u in POINTS:
        values = graph.values(u[None])
        slopes = [1 - values[node].ravel() ** 2 for node in graph.order if node.startswith("tanh")]
        np.testing.assert_allclose(field.jacobian(slopes), jacobian(graph, u), atol=1e-8)


@pytest.mark.parametrize("text", ["relu", "leaky_relu:0.3", "tanh", "sigmoid", "elu", "gelu", "swish:2", "softplus",
                                  "hard_sigmoid", "absolute"])
def test_slopes_are_the_activations_own(text):
    activation = activation_named(text)
    field = slope_field(sequential((3,), [Affine(A), activation]))
    interval = activation.slopes((3,))
    assert (field.lower, field.upper) == (float(interval.lower), float(interval.upper))
    sampled = slope_field(SampledWeights(np.array([0.0, 1.0]), np.stack([A, A]), activation, 0.0))
    assert (sampled.lower, sampled.upper) == (field.lower, field.upper)
    seen = activation.derivative(np.linspace(-8, 8, 4001))
    assert field.lower <= seen.min()
    assert seen.max() <= field.upper


def test_the_identity_and_zero_matrices_leave_nothing_behind():
    plain = slope_field(sequential((3,), [Affine(A), Tanh()]))
    assert plain.outputs is None
    assert plain.linear is None
    assert np.array_equal(plain.inputs, A)


def chain_with_a_skip():
    builder = GraphBuilder()
    u = builder.input((3,))
    first = builder.add(Tanh(), builder.add(Affine(A), u))
    return builder.build(builder.add(Tanh(), builder.add(Add((1, 1)), builder.add(Affine(B), first), u)))


@pytest.mark.parametrize(("graph", "text"), [
    (sequential((3,), [Affine(WIDE), Tanh()]), "takes 3 numbers and gives 5"),
    (sequential((3,), [Affine(A)]), "it is linear"),
    (sequential((3,), [Affine(WIDE), Tanh(), Affine(E), Sigmoid()]), r"share one slope .* \[0, 0.25\], \[0, 1\]"),
    (sequential((3,), [Affine(A), LeakyRelu(np.array([0.1, 0.2, 0.3]))]), "share one slope interval"),
    (sequential((3,), [Affine(A), Affine(B), Relu()]), r"the input of 'relu' \(9 of 9 entries\)"),
    (sequential((3,), [Affine(A), Relu(), Affine(B), Scale(divisor=3.0)]), "the output after 'relu'"),
    (sequential((3,), [Affine(WIDE), Tanh(), Affine(E), Tanh(), Affine(B)]), "2 layers .* more than the output"),
    (chain_with_a_skip(), "not one after the other"),
    (sequential((3,), [Affine(A), Softmax()]), "relates several neurons"),
])
def test_graphs_of_another_form_are_refused(graph, text):
    with pytest.raises(ModelError, match=text):
        slope_field(graph)


def test_sampled_activations_without_one_interval():
    with pytest.raises(ModelError, match="no slope interval in common"):
        slope_field(SampledWeights(np.array([0.0, 1.0]), np.stack([A, A]), LeakyRelu(np.array([0.1, 0.2, 0.3])), 0.0))
