import numpy as np
import pytest
from netgain.layers import (
    Absolute,
    Add,
    Affine,
    Concatenate,
    GraphBuilder,
    GroupSort,
    LeakyRelu,
    ModelError,
    Relu,
    Softmax,
    Tanh,
    sequential,
)
from netgain.layers.differential import Linearisation
from netgain.layers.layer import Layer


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def branching(rng, *activations):
    """Two branches with a shared activation, a skip from the input and a concatenation."""
    builder = GraphBuilder()
    u = builder.input((4,))
    h = builder.add(activations[0], builder.add(Affine(rng.standard_normal((6, 4)), rng.standard_normal(6)), u))
    left = builder.add(activations[1], builder.add(Affine(rng.standard_normal((4, 6))), h))
    total = builder.add(Add((1, -1)), left, u)
    both = builder.add(Concatenate(-1), total, h)
    return builder.build(builder.add(activations[2], builder.add(Affine(rng.standard_normal((4, 10))), both)))


NETWORKS = {
    "smooth": (Tanh(), Softmax(), Tanh()),
    "piecewise linear": (LeakyRelu(0.1), GroupSort(2), Relu()),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_products_are_directional_derivatives(name, rng):
    graph = branching(rng, *NETWORKS[name])
    x, dx, step = rng.standard_normal((5, 4)), rng.standard_normal((5, 4)), 1e-6
    quotient = (graph.forward(x + step * dx) - graph.forward(x - step * dx)) / (2 * step)
    assert np.allclose(Linearisation(graph, x).apply(dx), quotient, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("name", NETWORKS)
def test_transpose_is_the_adjoint(name, smoothing, rng):
    graph = branching(rng, *NETWORKS[name])
    here = Linearisation(graph, rng.standard_normal((5, 4)), smoothing)
    dx, dy = rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    assert np.allclose(np.sum(here.apply(dx) * dy, axis=1), np.sum(dx * here.transpose(dy), axis=1), rtol=1e-12)


def test_gain_gradient_is_the_derivative_of_the_gain(rng):
    graph = branching(rng, Tanh(), Tanh(), Tanh())
    x, q, p, step = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), 1e-5
    gradient = Linearisation(graph, x, smoothing=1e-4).gain_gradient(p, q)
    for i in range(4):
        shift = step * np.eye(4)[i]
        above, below = (np.sum(p * Linearisation(graph, x + s).apply(q), axis=1) for s in (shift, -shift))
        assert np.allclose(gradient[:, i], (above - below) / (2 * step), atol=1e-5)


def test_smoothed_slopes_of_a_kink_vary_with_the_point():
    graph = sequential((1,), [Absolute()])
    x = np.array([[-1.0], [-0.1], [0.1], [1.0]])
    width = 0.5 * np.sqrt(np.mean(x**2))
    here = Linearisation(graph, x, smoothing=0.5)
    assert np.allclose(here.apply(np.ones((4, 1))).ravel(), np.clip(x.ravel() / width, -1, 1))
    gradient = here.gain_gradient(np.ones((4, 1)), np.ones((4, 1))).ravel()
    assert np.allclose(gradient, [0, 1 / width, 1 / width, 0])


def test_layers_without_derivative_are_named(rng):
    class Square(Layer):
        def output_shape(self, *shapes):
            return shapes[0]

        def forward(self, *inputs, arithmetic=None):
            return inputs[0] ** 2

    builder = GraphBuilder()
    graph = builder.build(builder.add(Square(), builder.input((2,)), name="odd one"))
    with pytest.raises(ModelError, match=r"'odd one' \(Square\)"):
        Linearisation(graph, rng.standard_normal((1, 2)))
