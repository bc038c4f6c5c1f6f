"""Gains of layers against matrices, the composition bound, and what pairs of inputs show."""

import itertools
import math

import numpy as np
import pytest
from netgain.layers import Affine, AveragePool, Convolution, Flatten, GraphBuilder, MaxPool, Relu, sequential
from netgain.layers.formats import load_npz
from netgain.layers.layer import LinearLayer
from netgain.verify import layer_gains as module
from netgain.verify import lipschitz
from netgain.verify.layer_gains import layer_gains
from netgain.verify.lower_bound import Witness

from tests.verify.small_networks import BANK


def _random_witness(graph, seed):
    x, other = np.random.default_rng(seed).standard_normal((2, *graph.shape(graph.input)))
    return Witness(x, other, 0.0, 0.0)


def _images():
    rng = np.random.default_rng(0)
    return sequential((2, 9, 8), [
        Convolution(rng.standard_normal((3, 2, 3, 3)), None, strides=(2, 1), padding=((1, 0), (1, 1))), Relu(),
        MaxPool((2, 2), (1, 1)), AveragePool((3, 3), (2, 2)), Flatten(), Affine(rng.standard_normal((4, 6))),
    ])


GRAPHS = BANK | {"images": _images()}


@pytest.mark.parametrize("name", GRAPHS)
def test_no_pair_of_inputs_exceeds_what_the_gains_allow(name):
    graph = GRAPHS[name]
    for seed in range(3):
        layers = {layer.node.name: layer for layer in layer_gains(graph, _random_witness(graph, seed))}
        for layer in layers.values():
            if layer.node.inputs:
                fed = [layers[source].reached for source in layer.node.inputs]
                allowed = sum(gain * reached for gain, reached in zip(layer.gains, fed, strict=True))
                assert layer.reached <= allowed * (1 + 1e-5) + 1e-300
            else:
                assert layer.reached == 1.0
                assert layer.gains == ()


@pytest.mark.parametrize("dense", [1, 1000])
@pytest.mark.parametrize("name", GRAPHS)
def test_norms_are_those_of_the_matrices(name, dense, monkeypatch):
    monkeypatch.setattr(module, "_DENSE", dense)
    graph = GRAPHS[name]
    for found in layer_gains(graph):
        node = found.node.name
        layer, shapes = graph.layer(node), graph.input_shapes(node)
        assert found.reached is None
        if isinstance(layer, LinearLayer):
            for position, gain in enumerate(found.gains):
                size = math.prod(shapes[position])
                columns = layer.apply(np.eye(size).reshape((size, *shapes[position])), position, shapes)
                assert gain == pytest.approx(np.linalg.norm(columns.reshape((size, -1)), 2), rel=2e-5)


def test_the_product_along_a_chain_is_the_bound_of_composition():
    graph = BANK["mlp_leaky_relu"]
    gains = [layer.gains[0] for layer in layer_gains(graph) if layer.gains]
    assert math.prod(gains) == pytest.approx(lipschitz(graph, lower_bounds=False).norm_product, rel=1e-9)


def test_a_sum_has_a_gain_for_each_input_and_implicit_layers_have_none(tmp_path):
    residual = {layer.node.kind: layer for layer in layer_gains(BANK["residual"])}
    assert residual["Add"].gains == (1.0, 1.0)
    np.savez(tmp_path / "net.npz", A=-np.eye(2), B=np.eye(2), b=np.zeros(2), C=np.eye(2), c=np.zeros(2),
             activation="relu")
    implicit = layer_gains(load_npz(tmp_path / "net.npz"))
    assert [layer.gains for layer in implicit if "Fixed" in layer.node.kind] == [(None,)]


def test_layers_too_large_for_a_glance_have_no_gain(monkeypatch):
    monkeypatch.setattr(module, "_LARGEST", 4)
    gains = [layer.gains for layer in layer_gains(BANK["no_bias"])]
    assert gains == [(), (None,), (1.0,), (None,), (1.0,)]


def test_scales_beyond_the_squares_of_float64_are_kept():
    builder = GraphBuilder()
    node = builder.input((2,))
    for scale in (1e200, 1e-250, 0.0):
        node = builder.add(Affine(scale * np.eye(2)), node)
    gains = list(itertools.chain.from_iterable(layer.gains for layer in layer_gains(builder.build(node))))
    assert gains == pytest.approx([1e200, 1e-250, 0.0, 1.0], rel=1e-12)
