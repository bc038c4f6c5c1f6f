"""Random networks on small images: every layer that treats pixels alike, in awkward sizes, and a head or none."""

import numpy as np
from netgain.layers import (
    Add,
    Affine,
    AveragePool,
    BatchNormalization,
    Concatenate,
    Convolution,
    Flatten,
    Graph,
    GraphBuilder,
    GroupSort,
    LeakyRelu,
    MaxPool,
    Pad,
    Relu,
    Scale,
    ShapeError,
    Tanh,
)


def random_network(seed: int) -> Graph:
    """Two to six layers, drawn with replacement; those that do not fit the image are left out."""
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(1, 3))
    builder = GraphBuilder()
    shape = (int(rng.integers(1, 3)), *map(int, rng.integers(1, 7 if axes == 2 else 10, axes)))
    node = _convolution(rng, builder, builder.input(shape))
    for _ in range(rng.integers(2, 7)):
        try:
            node = _STEPS[rng.integers(len(_STEPS))](rng, builder, node)
        except ShapeError:
            continue
    if rng.random() < 0.5:
        node = builder.add(Flatten(), node)
        for size in (3, 2):
            node = builder.add(Affine(rng.standard_normal((size, builder.shape(node)[0]))), node)
            node = builder.add(Relu() if size == 3 else GroupSort(2), node)
    return builder.build(node, f"random network {seed}")


def _convolution(rng, builder, node, same=False):
    channels, *pixels = builder.shape(node)
    axes = len(pixels)
    out = channels if same else int(rng.integers(1, 3))
    groups = channels if out % channels == 0 and rng.random() < 0.2 else 1
    kernel = tuple(map(int, rng.integers(1, 4, axes)))
    dilations = tuple(map(int, rng.integers(1, 4, axes) if rng.random() < 0.3 else np.ones(axes)))
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    begins = tuple(int(rng.integers(0, r + 2)) if not same else int(rng.integers(0, r + 1)) for r in reach)
    if same:
        strides, ends = (1,) * axes, tuple(r - b for r, b in zip(reach, begins, strict=True))
    else:
        strides = tuple(map(int, rng.integers(1, 4, axes) if rng.random() < 0.4 else np.ones(axes)))
        ends = tuple(int(rng.integers(0, r + 2)) for r in reach)
        # A kernel longer than the image is made to fit by padding.
        ends = tuple(max(e, r + 1 - n - b) for e, r, n, b in zip(ends, reach, pixels, begins, strict=True))
    weight = rng.standard_normal((out, channels // groups, *kernel)) / np.sqrt(np.prod(kernel))
    return builder.add(Convolution(weight, rng.standard_normal(out), strides, dilations, (begins, ends), groups), node)


def _activation(rng, builder, node):
    slope = rng.uniform(-0.5, 2.0, (builder.shape(node)[0], *(1,) * (len(builder.shape(node)) - 1)))
    return builder.add([Relu(), Tanh(), LeakyRelu(0.3), LeakyRelu(slope)][rng.integers(4)], node)


def _pool(rng, builder, node):
    axes = len(builder.shape(node)) - 1
    kernel, strides = (tuple(map(int, rng.integers(1, 4, axes))) for _ in range(2))
    padding = tuple(tuple(int(rng.integers(0, (k + 1) // 2)) for k in kernel) for _ in range(2))
    if rng.random() < 0.5:
        dilations = tuple(map(int, rng.integers(1, 3, axes)))
        return builder.add(MaxPool(kernel, strides, dilations, padding, bool(rng.integers(2))), node)
    include = bool(rng.integers(2))
    return builder.add(AveragePool(kernel, strides, (), padding if include else ((), ()), count_include_pad=include),
                       node)


def _pad(rng, builder, node):
    axes = len(builder.shape(node)) - 1
    begins, ends = (tuple(map(int, rng.integers(0, 3, axes))) for _ in range(2))
    return builder.add(Pad((begins, ends)), node)


def _scaled(rng, builder, node):
    channels, axes = builder.shape(node)[0], len(builder.shape(node)) - 1
    if rng.random() < 0.5:
        return builder.add(Scale(multiplier=rng.standard_normal(), divisor=3.0), node)
    return builder.add(BatchNormalization(*rng.uniform(0.5, 2.0, (4, channels)), trailing=axes), node)


def _residual(rng, builder, node):
    inner = _convolution(rng, builder, node, same=True)
    if rng.random() < 0.7:
        inner = _convolution(rng, builder, builder.add(Relu(), inner), same=True)
    return builder.add(Add((1, -1) if rng.random() < 0.3 else (1, 1)), inner, node)


def _concatenation(rng, builder, node):
    other = _convolution(rng, builder, node, same=True)
    return builder.add(Concatenate(-len(builder.shape(node))), node, other)


def _two_readers(rng, builder, node):
    """Both read beyond the image of a tensor that is no answer of an activation."""
    first, second = (_convolution(rng, builder, node, same=True) for _ in range(2))
    return builder.add(Add((1, 1)), builder.add(Relu(), first), second)


_STEPS = (_convolution, _convolution, _activation, _activation, _activation, _pool, _pad, _scaled, _residual,
          _concatenation, _two_readers)
