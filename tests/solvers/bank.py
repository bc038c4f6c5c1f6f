"""Small inequalities of every kind the solvers must handle."""

import itertools
import math

import numpy as np
from netgain.solvers import Inequality, SlopeConstraint


def constraint(maps, lower=0.0, upper=1.0, coupled=1):
    size = len(next(iter(maps.values())))
    return SlopeConstraint(maps, np.full(size, lower), np.full(size, upper), coupled)


def mlp(seed, sizes, lower=0.0, upper=1.0, coupled=1, gain=1.0):
    rng = np.random.default_rng(seed)
    weights = [gain * rng.standard_normal((b, a)) / np.sqrt(a) for a, b in itertools.pairwise(sizes)]
    constraints = tuple(
        SlopeConstraint({k: w}, np.full(len(w), lower), np.full(len(w), upper), coupled)
        for k, w in enumerate(weights[:-1])
    )
    return Inequality(sizes[0], constraints, {len(sizes) - 2: weights[-1]})


def residual(seed, width, blocks, outer, lower=0.0):
    """x -> s(x + W2 s(W1 x)) repeated, or without the outer activation."""
    rng = np.random.default_rng(seed)
    state, constraints = {0: np.eye(width)}, []

    def activation(maps):
        constraints.append(SlopeConstraint(maps, np.full(width, lower), np.ones(width)))
        return len(constraints)

    for _ in range(blocks):
        w1, w2 = rng.standard_normal((2, width, width)) / np.sqrt(2 * width)
        inner = activation({j: w1 @ m for j, m in state.items()})
        state = {**state, inner: w2}
        if outer:
            state = {activation(state): np.eye(width)}
    c = rng.standard_normal((2, width))
    return Inequality(width, tuple(constraints), {j: c @ m for j, m in state.items()})


def mixed(seed):
    """Per-neuron slopes, a layer that reads three blocks, an output that reads two."""
    rng = np.random.default_rng(seed)
    first = SlopeConstraint({0: rng.standard_normal((4, 3))}, np.array([0, 0.2, -0.3, 0]), np.array([1, 1, 1, 0.25]))
    second = SlopeConstraint({1: rng.standard_normal((4, 4)) / 2}, -np.ones(4), np.ones(4), coupled=2)
    maps = {0: rng.standard_normal((2, 3)), 1: rng.standard_normal((2, 4)), 2: rng.standard_normal((2, 4))}
    third = SlopeConstraint(maps, np.zeros(2), np.full(2, 0.5), coupled=2)
    return Inequality(3, (first, second, third), {2: rng.standard_normal((3, 4)), 3: rng.standard_normal((3, 2))})


def pooled(seed, sizes, windows, lower=-1.0, upper=1.0, kept=1):
    """Slopes in [0, 1], then groups of `windows` rows that read them at random, of which the first `kept` answer."""
    rng = np.random.default_rng(seed)
    inputs, width, groups, outputs = sizes
    first = constraint({0: rng.standard_normal((width, inputs)) / np.sqrt(inputs)})
    read = np.eye(width)[rng.integers(0, width, groups * windows)]
    rows = (np.arange(groups)[:, None] * windows + np.arange(kept)).ravel()
    pool = SlopeConstraint({1: read}, np.full(len(read), lower), np.full(len(read), upper), windows, rows)
    third = constraint({2: rng.standard_normal((width, len(rows))) / np.sqrt(groups)})
    return Inequality(inputs, (first, pool, third), {3: rng.standard_normal((outputs, width))})


def pooled_input(seed, inputs, windows, outputs):
    """Maxima over disjoint windows of the input, and a matrix."""
    rng = np.random.default_rng(seed)
    rows = np.arange(0, inputs, windows)
    pool = SlopeConstraint({0: np.eye(inputs)}, -np.ones(inputs), np.ones(inputs), windows, rows)
    return Inequality(inputs, (pool,), {1: rng.standard_normal((outputs, len(rows)))})


BANK = {
    "one layer": mlp(0, (4, 6, 3)),
    "three layers": mlp(1, (5, 7, 6, 5, 2)),
    "wide input": mlp(2, (40, 6, 5, 2)),
    "wide output": mlp(3, (3, 6, 5, 40)),
    "bottleneck": mlp(4, (6, 8, 1, 8, 4)),
    "leaky": mlp(5, (4, 6, 6, 3), 0.1, 1.0),
    "negative slopes": mlp(6, (4, 6, 6, 3), -0.13, 1.13),
    "steep": mlp(7, (4, 6, 6, 3), 0.0, 3.0),
    "signed": mlp(8, (4, 6, 6, 3), -1.0, 1.0),
    "mostly negative": mlp(9, (4, 6, 6, 3), -1.0, 0.2),
    "coupled": mlp(10, (4, 6, 6, 3), -1.0, 1.0, coupled=3),
    "softmax-like": mlp(11, (4, 6, 6, 3), 0.0, 0.5, coupled=6),
    "residual": residual(12, 4, 3, outer=True),
    "residual, no outer activation": residual(13, 4, 3, outer=False),
    "signed residual": residual(18, 4, 10, outer=False, lower=-1.0),
    "mixed": mixed(14),
    "pooled": pooled(19, (5, 8, 4, 3), 3),
    "pooled, two of three answer, skewed slopes": pooled(20, (5, 8, 4, 3), 3, -0.3, 0.8, kept=2),
    "pooled, slopes [0, 1]": pooled(21, (5, 8, 4, 3), 2, 0.0, 1.0),
    "pooled input": pooled_input(22, 8, 2, 3),
    "deep": mlp(15, (4,) * 22),
    "tiny weights": mlp(16, (4,) * 42, gain=1e-7),
    "huge weights": mlp(17, (4,) * 22, gain=1e12),
}


PRINTED = Inequality(  # three printed matrices, LipSDP-Neuron 4.288174
    2,
    (
        constraint({0: np.array([[1.0, 2], [-1, 1], [1, -1]])}),
        constraint({1: np.array([[1.0, -1, 1], [1, 1, 0], [0, 1, -1]])}),
    ),
    {2: np.array([[1.0, -1, 1]])},
)

CLOSED_FORMS = {
    "no layer": (Inequality(3, (), {0: np.diag([1.0, 0.5, 0.25])}), 1.0),
    "one neuron": (Inequality(1, (constraint({0: np.array([[-1.25]])}),), {1: np.array([[0.8]])}), 1.0),
    "one neuron with slopes to 1.2": (
        Inequality(1, (constraint({0: np.array([[1.0]])}, -0.1, 1.2),), {1: np.array([[1.0]])}), 1.2),
    # relu(x + 1) - relu(x - 1): the constant is 1; the cross-neuron coupling of LipSDP-Network returns 0.
    "difference of two": (Inequality(1, (constraint({0: np.ones((2, 1))}),), {1: np.array([[1.0, -1.0]])}), 1.0),
    "residual": (Inequality(2, (constraint({0: np.eye(2)}),), {0: np.eye(2), 1: np.eye(2)}), 2.0),
    "one group": (
        Inequality(2, (constraint({0: np.diag([1.5, 1.0])}, -1.0, 1.0, 2),), {1: np.array([[1.0, 2.0]])}),
        1.5 * math.sqrt(5)),
    "printed": (PRINTED, 4.288174),
}


def dense(inequality, rho, multipliers):
    """M(rho, lam) from its definition, one constraint at a time."""
    offsets = inequality.offsets
    n = offsets[-1]
    c = np.zeros((inequality.output_size, n))
    for j, part in inequality.output.items():
        c[:, offsets[j] : offsets[j + 1]] = part
    matrix = -c.T @ c
    matrix[: inequality.input_size, : inequality.input_size] += rho * np.eye(inequality.input_size)
    for k, (layer, lam) in enumerate(zip(inequality.constraints, multipliers, strict=True), 1):
        neurons = list(range(layer.rows) if layer.kept is None else layer.kept)
        for i in range(layer.rows):
            e, a = np.zeros(n), np.zeros(n)
            if i in neurons:
                e[offsets[k] + neurons.index(i)] = 1
            for j, part in layer.maps.items():
                a[offsets[j] : offsets[j + 1]] = part[i]
            p, q = e - layer.lower[i] * a, e - layer.upper[i] * a
            matrix += lam[i // layer.coupled] * (np.outer(p, q) + np.outer(q, p))
    return matrix
