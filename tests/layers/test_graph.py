import dataclasses

import networkx as nx
import numpy as np
import pytest
from netgain.layers import (
    Add,
    Affine,
    Concatenate,
    Elu,
    Flatten,
    GraphBuilder,
    LeakyRelu,
    ModelError,
    Relu,
    Reshape,
    Select,
    ShapeError,
    Softmax,
    Tanh,
    UnsupportedModelError,
    sequential,
)
from netgain.verify.balls import BALLS, precision, to_midpoint_radius

W1, W2 = np.random.default_rng(0).standard_normal((2, 3, 3))


def residual(w1=W1, w2=W2, activation=None, signs=(1, 1), prefix="", name="network", twice=False):
    """w2 s(w1 u) +- u, or with the skip around the second map only."""
    builder = GraphBuilder()
    u = builder.input((3,), name=f"{prefix}u")
    a = builder.add(Affine(w1), u, name=f"{prefix}a")
    h = builder.add(activation or Relu(), a, name=f"{prefix}h")
    b = builder.add(Affine(w2), h, name=f"{prefix}b")
    return builder.build(builder.add(Add(signs), b, h if twice else u, name=f"{prefix}s"), name)


def test_values_are_those_of_the_layers():
    x = np.random.default_rng(1).standard_normal((5, 3))
    values = residual().values(x)
    assert list(values) == ["u", "a", "h", "b", "s", "output"]
    assert np.allclose(values["h"], np.maximum(x @ W1.T, 0))
    assert np.allclose(residual().forward(x), np.maximum(x @ W1.T, 0) @ W2.T + x)
    with precision(100):
        middle, radius = to_midpoint_radius(residual().forward(BALLS.constant(x), BALLS))
    assert np.allclose(middle, residual().forward(x), rtol=1e-13)
    assert np.all(radius < 1e-14)


def test_graph_says_what_it_holds():
    graph = residual()
    assert (graph.input, graph.output) == ("u", "output")
    assert graph.inputs("s") == ("b", "u")
    assert graph.input_shapes("s") == ((3,), (3,))
    assert graph.shape("s") == (3,)
    assert graph.layer("a").weight is not W1
    assert nx.is_directed_acyclic_graph(graph.digraph)


def test_a_node_may_be_read_twice():
    builder = GraphBuilder()
    u = builder.input((2,))
    graph = builder.build(builder.add(Concatenate(), u, u))
    assert np.array_equal(graph.forward(np.array([[1.0, 2.0]])), [[1, 2, 1, 2]])


def test_sequential_flattens_images_row_by_row():
    graph = sequential((2, 2, 3), [Flatten(), Select(np.arange(12)[::-1], (12,)), Reshape((3, 4))])
    x = np.arange(12.0).reshape(1, 2, 2, 3)
    assert np.array_equal(graph.forward(x), np.arange(12.0)[::-1].reshape(1, 3, 4))


def test_layers_that_do_not_lead_to_the_output_are_left_out():
    builder = GraphBuilder()
    u = builder.input((3,))
    h = builder.add(Relu(), u)
    builder.add(Tanh(), u)
    graph = builder.build(h)
    assert graph.order == ("input", "relu", "output")
    again = builder.build(builder.add(Tanh(), h))  # building ends nothing
    assert again.order == ("input", "relu", "tanh_2", "output")
    assert graph.order == ("input", "relu", "output")


def test_the_identity_is_a_network():
    builder = GraphBuilder()
    graph = builder.build(builder.input((3,)))
    assert np.array_equal(graph.forward(np.eye(3)), np.eye(3))


def test_digest_does_not_depend_on_names():
    digest = residual().digest
    assert len(digest) == 64
    assert residual().digest == digest
    assert residual(prefix="other_", name="another").digest == digest


def test_digest_depends_on_every_parameter_and_connection():
    nudged = W1.copy()
    nudged[1, 2] = np.nextafter(nudged[1, 2], np.inf)
    variants = [
        residual(), residual(nudged), residual(W2, W1), residual(W1.T), residual(signs=(1, -1)), residual(twice=True),
        residual(activation=Tanh()), residual(activation=LeakyRelu(0.1)), residual(activation=LeakyRelu(0.2)),
        residual(activation=LeakyRelu(np.array([0.1, 0.1, 0.1]))), residual(activation=Elu(1.0, 2.0)),
        residual(activation=Elu(2.0, 1.0)), residual(activation=Softmax(2.0)),
        sequential((3,), [Affine(W1)]), sequential((3,), [Affine(W1, np.zeros(3))]), sequential((3, 3), [Affine(W1)]),
        sequential((3, 3), [Affine(W1, axis=-2)]), sequential((6,), [Reshape((2, 3))]),
        sequential((6,), [Reshape((3, 2))]), sequential((6,), [Select(np.arange(6).reshape(2, 3), (6,))]),
    ]
    assert len({graph.digest for graph in variants}) == len(variants)


def test_digest_distinguishes_the_order_of_inputs():
    def joined(flip):
        builder = GraphBuilder()
        u = builder.input((2,))
        parts = [builder.add(Relu(), u), builder.add(Tanh(), u)]
        return builder.build(builder.add(Concatenate(), *(reversed(parts) if flip else parts)))

    assert joined(False).digest != joined(True).digest


def test_digest_is_that_of_the_format():
    # Certificates hold this; if it changes, the version in the hashed header must change too.
    graph = sequential((1,), [Affine(np.array([[2.0]]), np.array([1.0])), Relu()])
    assert graph.digest == "bc62cf22ed8eae39574e125771807289d8e8638cd54d2ac123760f1d5754e342"


def test_graphs_are_immutable():
    graph = residual()
    with pytest.raises(nx.NetworkXError, match="Frozen"):
        graph.digraph.remove_node("a")
    with pytest.raises(nx.NetworkXError, match="Frozen"):
        graph.digraph.add_edge("u", "s")
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.name = "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.layer("h").slope = 1
    with pytest.raises(ValueError, match="read-only"):
        graph.layer("a").weight[0, 0] = 1


def test_wrong_inputs_are_named():
    with pytest.raises(ShapeError, match=r"\(batch, 3\), got \(4, 2\)"):
        residual().forward(np.zeros((4, 2)))


def test_mistakes_in_building_are_named():
    builder = GraphBuilder()
    with pytest.raises(ModelError, match="needs an input"):
        builder.build("x")
    u = builder.input((3,))
    with pytest.raises(ModelError, match="'input' is declared already"):
        builder.input((3,))
    with pytest.raises(ModelError, match=r"Relu needs existing nodes as its inputs, got \['nowhere'\]"):
        builder.add(Relu(), "nowhere")
    with pytest.raises(ModelError, match="needs existing nodes"):
        builder.add(Relu())
    builder.add(Relu(), u, name="h")
    with pytest.raises(ModelError, match="Two nodes are called 'h'"):
        builder.add(Tanh(), u, name="h")
    with pytest.raises(ShapeError, match="Layer 'w' after 'h': The weight is 2 x 4"):
        builder.add(Affine(np.ones((2, 4))), "h", name="w")
    with pytest.raises(ModelError, match="'w' is no node"):
        builder.build("w")
    with pytest.raises(ShapeError, match=r"at least one entry, got \(2, 0\)"):
        GraphBuilder().input((2, 0))


def test_unsupported_models_list_every_offender():
    error = UnsupportedModelError("net.onnx", ["Loop at 'a'", "If at 'b'"])
    assert error.offenders == ("Loop at 'a'", "If at 'b'")
    assert "2 thing(s)" in str(error)
    assert "Nothing was skipped" in str(error)
