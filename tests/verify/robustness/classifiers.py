"""Small classifiers, some of them with constants and radii that are known exactly."""

import itertools

import numpy as np
from netgain.layers import Absolute, Affine, Flatten, Graph, GroupSort, LeakyRelu, Relu, Softplus, Tanh, sequential
from netgain.layers.convolution import Convolution
from netgain.layers.pooling import MaxPool


def random_affine(rng: np.random.Generator, out: int, size: int) -> Affine:
    return Affine(rng.standard_normal((out, size)) / np.sqrt(size), 0.3 * rng.standard_normal(out))


def perceptron(widths: tuple[int, ...], activation=None, seed: int = 0) -> Graph:
    """A random network of these widths with an activation between any two."""
    rng = np.random.default_rng(seed)
    layers = []
    for size, out in itertools.pairwise(widths):
        layers += [random_affine(rng, out, size), activation or Relu()]
    return sequential(widths[:1], layers[:-1], f"mlp{widths}")


def linear(rows: np.ndarray) -> Graph:
    return sequential((rows.shape[1],), [Affine(rows)], "linear")


def image_classifier(seed: int = 0, pool: bool = False) -> Graph:
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal((2, 1, 3, 3)) / 3
    layers = [Convolution(kernel, 0.1 * rng.standard_normal(2), padding=((1, 1), (1, 1))), Relu()]
    layers += [MaxPool((2, 2), (2, 2))] if pool else []
    size = 2 * (4 if pool else 16)
    layers += [Flatten(), random_affine(rng, 8, size), Relu(), random_affine(rng, 3, 8)]
    return sequential((1, 4, 4), layers, "cnn")


CLASSIFIERS = {
    "relu": perceptron((2, 8, 8, 3)),
    "deep": perceptron((4, 6, 6, 6, 5), seed=1),
    "tanh": perceptron((3, 6, 4), Tanh(), 2),
    "abs": perceptron((3, 5, 3), Absolute(), 3),
    "leaky": perceptron((3, 5, 3), LeakyRelu(0.2), 4),
    "softplus": perceptron((2, 6, 2), Softplus(), 5),
    "group_sort": perceptron((4, 6, 3), GroupSort(2), 6),
    "linear": linear(np.array([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])),
    "cnn": image_classifier(),
    "cnn_pool": image_classifier(1, pool=True),
}
