"""The convolutional networks of the benchmark folder, from their weights.

**Source:** arXiv 2405.01125 and its data sets; which maps its figures belong to was found by computing them.
"""

import enum
import itertools
from collections.abc import Mapping

import numpy as np
from netgain.layers import (
    Affine,
    Convolution,
    Flatten,
    Graph,
    GraphBuilder,
    Layer,
    LeakyRelu,
    Mean,
    Relu,
    Select,
    sequential,
)

Weights = Mapping[str, np.ndarray]

DIGITS_IMAGE = (8, 8)
# The networks trained on MNIST have a factor in front of every normalised map but the last, its bias included, which
# the weights of the files leave out, and this activation. Both stand in the ONNX files exported with them.
TRAINED_GAIN = 2.0
TRAINED_ACTIVATION = LeakyRelu(0.01)


class Flattening(enum.Enum):
    """The order in which the affine map reads an image of shape (channels, rows, columns)."""

    ROWS_OF_CHANNELS = "channels, rows, columns"
    COLUMN_MAJOR = "columns, rows, channels"


def digits_network(weights: Weights, output: int, flattening: Flattening, name: str) -> Graph:
    """3x3 convolutions of 8x8 images with ReLU, and one output of an affine map. Kernels are (rows, columns, in, out).

    The networks were trained with channels, rows, columns, the last fastest. The published LipSDP figures are those of
    the same weights behind the column-major order of MATLAB, where channels are fastest: of another map.
    """
    builder = GraphBuilder()
    node = builder.input((1, *DIGITS_IMAGE))
    for k in itertools.takewhile(lambda k: f"conv{k}_weight" in weights, itertools.count(1)):
        kernel = weights[f"conv{k}_weight"].transpose(3, 2, 0, 1)
        node = builder.add(Relu(), builder.add(_same(kernel, weights[f"conv{k}_bias"]), node))
    node = builder.add(_flatten(builder.shape(node), flattening), node)
    weight, bias = weights["fc1_weight"].T, weights["fc1_bias"].ravel()
    one = slice(output, output + 1)
    return builder.build(builder.add(Affine(weight[one], bias[one]), node), name)


def convolution_chain(weights: Weights, count: int, image: tuple[int, int], name: str) -> Graph:
    """conv_1, .., conv_count with ReLU between, of images with as many channels as conv_1 takes."""
    layers: list[Layer] = []
    for k in range(1, count + 1):
        layers += [_same(weights[f"conv_{k}_weight"], weights[f"conv_{k}_bias"]), Relu()]
    return sequential((weights["conv_1_weight"].shape[1], *image), layers[:-1], name)


def trained_network(weights: Weights, convolutions: int, image: tuple[int, int], name: str) -> Graph:
    """conv_0, .., each with the gain and the activation of its training; the mean over the image; linear_0."""
    layers: list[Layer] = []
    for k in range(convolutions):
        layers += [_same(TRAINED_GAIN * weights[f"conv_{k}_weight"], TRAINED_GAIN * weights[f"conv_{k}_bias"]),
                   TRAINED_ACTIVATION]
    layers += [Mean((-2, -1)), Flatten(), Affine(weights["linear_0_weight"], weights["linear_0_bias"].ravel())]
    return sequential((weights["conv_0_weight"].shape[1], *image), layers, name)


def _same(kernel: np.ndarray, bias: np.ndarray) -> Convolution:
    """The convolution whose output is as large as its input; kernels have odd sides."""
    margin = tuple(side // 2 for side in kernel.shape[2:])
    return Convolution(kernel, bias.ravel(), padding=(margin, margin))


def _flatten(shape: tuple[int, ...], flattening: Flattening) -> Layer:
    if flattening is Flattening.ROWS_OF_CHANNELS:
        return Flatten()
    return Select(np.arange(np.prod(shape)).reshape(shape).ravel(order="F"), shape)
