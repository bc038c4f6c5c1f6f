"""Random blocks of every kind."""

import numpy as np
from netgain import layers
from netgain.layers.stable_block import Border, StableBlock

ACTIVATIONS = (layers.Tanh(), layers.Relu(), layers.LeakyRelu(0.1))


def dense_block(seed, n=4, m=3, depth=5, shared=True, activation=None, step=0.7):
    rng = np.random.default_rng(seed)
    count = 1 if shared else depth
    return StableBlock(
        tuple(0.4 * rng.standard_normal((n, n)) - np.eye(n) for _ in range(count)),
        tuple(rng.standard_normal((n, m)) for _ in range(count)),
        tuple(rng.standard_normal(n) for _ in range(count)),
        activation or ACTIVATIONS[seed % 3], step, depth,
    )


def image_block(seed, channels=2, source=1, taps=(3, 3), depth=3, shared=True, border=Border.ZEROS, activation=None):
    rng = np.random.default_rng(seed)
    count = 1 if shared else depth
    size = channels * int(np.prod(taps))
    return StableBlock(
        tuple(rng.standard_normal((channels, channels, *taps)) / size for _ in range(count)),
        tuple(rng.standard_normal((channels, source, *taps)) for _ in range(count)),
        tuple(rng.standard_normal(channels) for _ in range(count)),
        activation or ACTIVATIONS[seed % 3], 0.8, depth, border,
    )


def stack(seed, activation=None):
    """An image block, a projection that halves the image, a second block, and a linear read-out."""
    rng = np.random.default_rng(seed)
    first, second = image_block(seed, activation=activation), image_block(seed + 1, 3, 3, activation=activation)
    projection = layers.Convolution(rng.standard_normal((3, 2, 2, 2)), rng.standard_normal(3), strides=(2, 2))
    readout = layers.Affine(rng.standard_normal((4, 27)), rng.standard_normal(4))
    return layers.StableNetwork((first, projection, second, layers.Flatten(), readout), (1, 6, 6), "stack")
