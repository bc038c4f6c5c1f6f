"""Small networks of every kind the verifier knows, by name, for laws that hold for all of them."""

import itertools

import numpy as np
from netgain.layers import (
    Absolute,
    Add,
    Affine,
    Arctan,
    BatchNormalization,
    Clip,
    Concatenate,
    Elu,
    Flatten,
    Gelu,
    GeluTanh,
    GraphBuilder,
    GroupSort,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Mish,
    Relu,
    Reshape,
    Scale,
    Select,
    Sigmoid,
    Silu,
    Softmax,
    Softplus,
    Softsign,
    Swish,
    Tanh,
    selu,
    sequential,
)

ACTIVATIONS = {
    "relu": Relu(),
    "abs": Absolute(),
    "tanh": Tanh(),
    "sigmoid": Sigmoid(),
    "hard_sigmoid": HardSigmoid(),
    "arctan": Arctan(),
    "softsign": Softsign(),
    "silu": Silu(),
    "swish": Swish(1.7),
    "gelu": Gelu(),
    "gelu_tanh": GeluTanh(),
    "mish": Mish(),
    "hard_swish": HardSwish(),
    "softplus": Softplus(2.0),
    "clip": Clip(-1.0, 1.0),
    "elu": Elu(),
    "steep_elu": Elu(4.0),
    "selu": selu(),
    "leaky_relu": LeakyRelu(0.1),
    "steep_leaky_relu": LeakyRelu(3.0),
    "falling_leaky_relu": LeakyRelu(-0.5),
    "linear_leaky_relu": LeakyRelu(1.0),
    "prelu": LeakyRelu([0.2, 1.0, 3.0]),
    "group_sort": GroupSort(3),
    "softmax": Softmax(1.5),
}


def _random(rng, out, size, scale=1.0):
    return Affine(scale * rng.standard_normal((out, size)) / np.sqrt(size), rng.standard_normal(out))


def _perceptron(activation, seed):
    rng = np.random.default_rng(seed)
    return sequential((2,), [_random(rng, 3, 2), activation, _random(rng, 3, 3), activation, _random(rng, 2, 3)])


def _residual(outer):
    rng = np.random.default_rng(1)
    builder = GraphBuilder()
    start = builder.add(_random(rng, 2, 2), builder.input((2,)))
    branch = builder.add(_random(rng, 2, 3), builder.add(Relu(), builder.add(_random(rng, 3, 2), start)))
    total = builder.add(Add((1, 1)), start, branch)
    return builder.build(builder.add(_random(rng, 2, 2), builder.add(Relu(), total)) if outer else total)


def _skips():
    """Skips that overlap, with a subtraction, and a layer fed by blocks of three ages."""
    rng = np.random.default_rng(2)
    builder = GraphBuilder()
    u = builder.input((2,))
    first = builder.add(Tanh(), builder.add(_random(rng, 2, 2), u))
    second = builder.add(Absolute(), builder.add(Add((1, -1)), builder.add(_random(rng, 2, 2), first), u))
    joined = builder.add(Concatenate(), u, first, second)
    third = builder.add(Relu(), builder.add(_random(rng, 2, 6), joined))
    return builder.build(builder.add(Add((1, 1, -1)), third, first, u))


def _branches():
    rng = np.random.default_rng(3)
    builder = GraphBuilder()
    u = builder.input((3,))
    left = builder.add(Relu(), builder.add(_random(rng, 2, 3), u))
    right = builder.add(Sigmoid(), builder.add(_random(rng, 3, 3), u))
    return builder.build(builder.add(_random(rng, 2, 5), builder.add(Concatenate(), left, right)))


def _step():
    """relu(x + 1) - relu(x - 1): slope 1 on (-1, 1), where multipliers across neurons would prove 0."""
    return sequential((1,), [Affine([[1.0], [1.0]], [1.0, -1.0]), Relu(), Affine([[1.0, -1.0]])])


def _normalised(before):
    rng = np.random.default_rng(4)
    normalisation = BatchNormalization(
        rng.standard_normal(3), rng.standard_normal(3), rng.standard_normal(3), rng.uniform(0.01, 2.0, 3)
    )
    affine = _random(rng, 3, 3)
    head = [normalisation, affine] if before else [affine, normalisation]
    return sequential((3,), [*head, Relu(), _random(rng, 2, 3)])


def _divided():
    rng = np.random.default_rng(5)
    scale = Scale(multiplier=0.7, divisor=rng.uniform(0.1, 3.0, (2,)), shift=np.array([-0.1]))
    return sequential((2,), [scale, _random(rng, 3, 2), Gelu(), _random(rng, 2, 3), Scale(divisor=3.0)])


def _images():
    """A 2 x 3 array weighted along its first axis, normalised by channel, transposed, soft-maxed by rows."""
    rng = np.random.default_rng(6)
    normalisation = BatchNormalization(
        rng.standard_normal(2), np.zeros(2), np.zeros(2), rng.uniform(0.5, 2.0, 2), trailing=1
    )
    transposition = Select(np.arange(6).reshape(2, 3).T, (2, 3))
    along = Affine(rng.standard_normal((2, 2)), axis=-2)
    return sequential((2, 3), [along, normalisation, Relu(), transposition, Softmax(), Flatten(), Reshape((2, 3))])


def _zero_layer():
    rng = np.random.default_rng(7)
    zero = Affine(np.zeros((2, 2)), [1.0, 2.0])
    return sequential((2,), [_random(rng, 2, 2), Relu(), zero, Relu(), _random(rng, 1, 2)])


def _zero_neuron():
    rng = np.random.default_rng(8)
    weight = rng.standard_normal((3, 2))
    weight[1] = 0.0
    return sequential((2,), [Affine(weight), Relu(), _random(rng, 2, 3)])


def _deep(scale, depth):
    rng = np.random.default_rng(9)
    layers = [layer for _ in range(depth) for layer in (_random(rng, 3, 3, scale), Relu())]
    return sequential((3,), [*layers, _random(rng, 3, 3, scale)])


def _across(activation):
    """The first entry of a group as a function of the second: entry by entry nothing would reach it."""
    return sequential((1,), [Affine([[0.0], [1.0]]), activation, Affine([[1.0, 0.0]])])


def _two_linear():
    rng = np.random.default_rng(10)
    return sequential((2,), [_random(rng, 3, 2), _random(rng, 2, 3), Relu(), _random(rng, 3, 2), _random(rng, 1, 3)])


def _of_widths(*widths):
    rng = np.random.default_rng(11)
    layers = []
    for size, out in itertools.pairwise(widths):
        layers += [Affine(rng.standard_normal((out, size)) / np.sqrt(size)), Relu()]
    return sequential((widths[0],), layers[:-1])


# Few enough neurons that every slope pattern can be tried, and every rational matrix decided.
TINY = {f"mlp_{name}": _perceptron(activation, seed) for seed, (name, activation) in enumerate(ACTIVATIONS.items())} | {
    "residual": _residual(outer=False),
    "residual_outer": _residual(outer=True),
    "skips": _skips(),
    "branches": _branches(),
    "step": _step(),
    "batch_norm_after": _normalised(before=False),
    "batch_norm_before": _normalised(before=True),
    "divided": _divided(),
    "images": _images(),
    "zero_layer": _zero_layer(),
    "zero_neuron": _zero_neuron(),
    "two_linear": _two_linear(),
    "single": _of_widths(3, 2),
    "no_bias": _of_widths(2, 3, 2),
    "activation_last": sequential((2,), [Affine([[1.0, 2.0], [-0.5, 1.0]]), Relu()]),
    "activation_only": sequential((2,), [Silu()]),
    "softmax_across": _across(Softmax()),
    "group_sort_across": _across(GroupSort(2)),
    "huge": _deep(1e30, 1),
    "minute": _deep(1e-30, 1),
}

LARGER = {
    "deep": _deep(1e-3, 40),
    "deep_huge": _deep(1e30, 8),
    "wide_input": _of_widths(60, 3, 2),
    "wide_output": _of_widths(2, 3, 60),
    "wide_hidden": _of_widths(3, 40, 2),
}

BANK = TINY | LARGER
