"""Proved bounds of networks with max pooling: against its definition, and against every choice of entries."""

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest
from netgain.layers import Affine, Convolution, Flatten, MaxPool, Relu, Scale, sequential
from netgain.solvers import ClosedForm, GradientSystem
from netgain.verify import lipschitz
from netgain.verify.assembly import matrix_in_balls, matrix_in_double
from netgain.verify.balls import BALLS, precision
from netgain.verify.check import check, neuron_terms
from netgain.verify.constraints import constraint_rows, to_inequality
from netgain.verify.positive_definite import proved_in_balls

POOLS = {
    "disjoint": ((2, 4, 4), MaxPool((2, 2), (2, 2))),
    "overlapping": ((1, 4, 4), MaxPool((2, 2), (1, 1))),
    "padded": ((1, 3, 3), MaxPool((2, 2), (2, 2), padding=((1, 1), (0, 0)))),
    "ceiling": ((1, 3, 3), MaxPool((2, 2), (2, 2), ceil_mode=True)),
    "dilated": ((1, 4, 4), MaxPool((2, 2), (1, 1), (2, 2))),
    "one axis": ((2, 7), MaxPool((3,), (2,))),
    "whole": ((3, 2, 2), MaxPool((2, 2))),
}


def pool_only(name):
    shape, pool = POOLS[name]
    return sequential(shape, [pool])


def between(name):
    """Divided, pooled, and weighted: balls on the way in, exact weights on the way out."""
    shape, pool = POOLS[name]
    rng = np.random.default_rng(list(POOLS).index(name))
    size = math.prod(pool.output_shape(shape))
    return sequential(shape, [
        Scale(rng.uniform(0.5, 1.5, shape), 3.0), pool, Flatten(),
        Affine(rng.standard_normal((3, size)) / math.sqrt(size), np.zeros(3)), Relu(),
        Affine(rng.standard_normal((2, 3)), np.zeros(2))])


def convolutional():
    rng = np.random.default_rng(7)
    return sequential((1, 6, 6), [
        Convolution(rng.standard_normal((2, 1, 3, 3)) / 3, padding=((1, 1), (1, 1))), Relu(), MaxPool((2, 2), (2, 2)),
        Convolution(rng.standard_normal((2, 2, 2, 2)) / 3), Relu(), MaxPool((2, 2)), Flatten(),
        Affine(rng.standard_normal((2, 2)), np.zeros(2))])


NETWORKS = {f"pool {name}": pool_only(name) for name in POOLS} | {f"between {name}": between(name) for name in POOLS}
NETWORKS["convolutional"] = convolutional()
each = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def report(name):
    return lipschitz(NETWORKS[name], lower_bounds=False)


@pytest.mark.parametrize("name", POOLS)
def test_each_window_reads_its_entries_and_nothing_else(name):
    graph = pool_only(name)
    rows = constraint_rows(graph).activations[0]
    assert set(np.unique(rows.maps[0])) <= {0.0, 1.0}
    assert rows.lower.tolist() == [-1.0] * len(rows.lower)
    assert rows.upper.tolist() == [1.0] * len(rows.upper)
    assert rows.kept.tolist() == list(range(0, len(rows.lower), rows.coupled))
    # Of positive entries, the maximum is that over the rows of a group: rows in the padding are zero.
    for x in np.random.default_rng(0).uniform(1, 2, (20, *graph.shape(graph.input))):
        read = (rows.maps[0] @ x.ravel()).reshape(-1, rows.coupled)
        assert np.array_equal(read.max(axis=1), graph.forward(x[None])[0].ravel())


@each
def test_increments_satisfy_the_constraints(name):
    graph, rng = NETWORKS[name], np.random.default_rng(1)
    rows = constraint_rows(graph)
    shape = graph.shape(graph.input)
    x = rng.standard_normal((300, *shape))
    step = np.exp(rng.uniform(-6, 2, (300,) + (1,) * len(shape))) * rng.standard_normal((300, *shape))
    values = [graph.values(point) for point in (x, x + step)]
    nodes = [graph.input, *(layer.node for layer in rows.activations)]
    blocks = [(values[1][node] - values[0][node]).reshape(300, -1) for node in nodes]
    for k, layer in enumerate(rows.activations, start=1):
        v = sum(blocks[j] @ a.T for j, a in layer.maps.items())
        z = np.zeros_like(v)
        z[:, layer.answering] = blocks[k]
        products = ((z - layer.lower * v) * (z - layer.upper * v)).reshape(300, -1, layer.coupled).sum(axis=2)
        assert np.all(products <= 1e-12 * np.max(v**2))


@each
def test_both_solvers_are_proved_and_no_inputs_exceed_them(name):
    graph, rng = NETWORKS[name], np.random.default_rng(2)
    best, fast = report(name), lipschitz(NETWORKS[name], ClosedForm(), lower_bounds=False)
    assert best.proved
    assert fast.proved
    assert best.upper <= fast.upper * (1 + 1e-6)
    assert check(best.certificate, graph).proved
    slopes = GradientSystem(restarts=8, rounds=4).solve(to_inequality(constraint_rows(graph))).value
    assert 0 < slopes <= best.upper * (1 + 1e-6)
    assert not check(dataclasses.replace(best.certificate, value=0.99 * slopes), graph, balls=False).proved
    for x in rng.standard_normal((100, 2, *graph.shape(graph.input))):
        before, after = graph.forward(x)
        assert np.linalg.norm(before - after) <= best.upper * np.linalg.norm(x[0] - x[1])


@pytest.mark.parametrize("name", ["convolutional", "between overlapping"])
def test_witnesses_lie_between(name):
    found = lipschitz(NETWORKS[name])
    assert 0 < found.lower <= found.slope_bound * (1 + 1e-6)
    assert found.slope_bound <= found.upper * (1 + 1e-6)


@pytest.mark.parametrize("name", POOLS)
def test_one_pooling_layer_is_as_steep_as_windows_share_an_entry(name):
    shape, pool = POOLS[name]
    expected = math.sqrt(pool.reuse(shape))
    upper = report(f"pool {name}").upper
    assert upper == pytest.approx(expected, rel=1e-5)
    assert upper >= expected


def selections(rows):
    """Every choice of one entry per window, as a matrix."""
    for choice in itertools.product(range(rows.coupled), repeat=len(rows.kept)):
        yield rows.maps[0][rows.kept + np.array(choice)]


@pytest.mark.parametrize("name", ["between padded", "between ceiling", "between one axis"])
def test_no_choice_of_entries_is_steeper_than_proved(name):
    graph = NETWORKS[name]
    rows = constraint_rows(graph)
    second = rows.activations[1].maps[1]
    steepest = max(
        np.linalg.norm(rows.output[2] @ (np.array(slopes)[:, None] * second) @ chosen, 2)
        for chosen in selections(rows.activations[0]) for slopes in itertools.product((0, 1), repeat=3)
    )
    # A combination of the entries of a window is admissible too, so the slope system reaches at least this.
    assert steepest <= GradientSystem().solve(to_inequality(rows)).value * (1 + 1e-9)
    assert steepest <= report(name).upper


@each
def test_both_provers_see_the_matrix_of_the_definition(name):
    graph = NETWORKS[name]
    given = report(name).certificate
    with precision(128):
        enclosed = constraint_rows(graph, BALLS)
        blocks = matrix_in_balls(neuron_terms(given, enclosed))
        middle, radius = matrix_in_double(neuron_terms(given, enclosed))
        assert proved_in_balls(blocks, len(enclosed.sizes))
    inequality = to_inequality(constraint_rows(graph))
    powers = np.repeat(2.0 ** np.array(given.exponents), inequality.sizes)
    offsets = inequality.offsets
    expected = np.zeros((offsets[-1],) * 2)
    expected[: offsets[1], : offsets[1]] = given.value**2 * np.eye(offsets[1])
    c = np.zeros((inequality.output_size, offsets[-1]))
    for j, part in inequality.output.items():
        c[:, offsets[j] : offsets[j + 1]] = part
    expected -= c.T @ c
    for k, layer in enumerate(inequality.constraints, start=1):
        z, v = np.zeros((2, layer.rows, offsets[-1]))
        z[layer.answering, offsets[k] : offsets[k + 1]] = np.eye(layer.size)
        for j, a in layer.maps.items():
            v[:, offsets[j] : offsets[j + 1]] = a
        unit = 4.0 ** (given.output_exponent - given.exponents[k])
        lam = unit * np.repeat(given.multipliers[k - 1], layer.coupled)[:, None]
        p, q = z - layer.lower[:, None] * v, z - layer.upper[:, None] * v
        expected += p.T @ (lam * q) + q.T @ (lam * p)
    expected *= 4.0**-given.output_exponent * powers[:, None] * powers
    for (i, j), block in blocks.items():
        part = expected[offsets[i] : offsets[i + 1], offsets[j] : offsets[j + 1]]
        in_balls = np.array([[float(entry.mid()) for entry in row] for row in block.tolist()]).reshape(part.shape)
        np.testing.assert_allclose(in_balls, part, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(middle[i, j], part, rtol=1e-11, atol=1e-11)
        assert np.all(radius[i, j] <= 1e-9)
