import dataclasses
import itertools
import math
import time
from fractions import Fraction

import flint
import numpy as np
import pytest
from netgain.layers import Absolute, Add, Affine, Gelu, GraphBuilder, GroupSort, Relu, Softmax, Tanh, sequential
from netgain.verify import lower_bound
from netgain.verify.lower_bound import UndecidedError, Witness, WitnessSearch, prove_witness

SMALL = WitnessSearch(starts=16, steps=40, trials=20)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def mlp(seed, sizes, activation):
    rng, layers = np.random.default_rng(seed), []
    for m, n in itertools.pairwise(sizes):
        layers += [Affine(rng.standard_normal((n, m)) / math.sqrt(m), 0.3 * rng.standard_normal(n)), activation]
    return sequential((sizes[0],), layers[:-1])


def exact_ratio(weights, x, x_prime):
    """|f(x) - f(x')| / |x - x'| of a bias-free ReLU network, squared, in rationals."""
    points = [[Fraction(v) for v in point] for point in (x, x_prime)]
    distance = sum((a - b) ** 2 for a, b in zip(*points, strict=True))
    for k, w in enumerate(weights):
        points = [[sum(Fraction(float(a)) * b for a, b in zip(row, z, strict=True)) for row in w] for z in points]
        if k < len(weights) - 1:
            points = [[max(v, Fraction(0)) for v in z] for z in points]
    return sum((a - b) ** 2 for a, b in zip(*points, strict=True)) / distance


KNOWN = {
    "linear": (sequential((2,), [Affine(np.array([[3.0, 4.0]]))]), 5.0),
    "orthogonal and absolute": (
        sequential((2,), [Affine(np.array([[0.6, 0.8], [-0.8, 0.6]])), Absolute(), Affine(np.eye(2) * 2)]), 2.0),
    # relu(x + 1) - relu(x - 1): slope 1 on (-1, 1)
    "difference of two": (
        sequential((1,), [Affine(np.ones((2, 1)), np.array([1.0, -1])), Relu(), Affine(np.array([[1.0, -1]]))]), 1.0),
    "sorted": (sequential((4,), [GroupSort(4)]), 1.0),
    "softmax": (sequential((2,), [Softmax()]), 0.5),
    "gelu": (sequential((1,), [Gelu()]), 1.12890414519),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_constants_are_nearly_reached_and_never_exceeded(name):
    graph, constant = KNOWN[name]
    witness = SMALL.find(graph)
    assert constant * (1 - 1e-3) <= witness.ratio <= constant
    assert witness.ratio == pytest.approx(witness.ratio_float, rel=1e-6)


@pytest.mark.parametrize("activation", [Relu(), Tanh(), Gelu()], ids=lambda activation: type(activation).__name__)
def test_search_beats_sampling(activation):
    graph = mlp(1, (8, 20, 20, 4), activation)
    sampled = WitnessSearch(starts=16, steps=0, trials=0).find(graph)
    assert WitnessSearch().find(graph).ratio > 1.05 * sampled.ratio


def test_witness_replays():
    graph = mlp(2, (5, 9, 3), Relu())
    witness = SMALL.find(graph)
    assert witness.x.shape == witness.x_prime.shape == (5,)
    assert np.all(np.isfinite([witness.x, witness.x_prime]))
    assert not np.array_equal(witness.x, witness.x_prime)
    assert prove_witness(graph, witness.x, witness.x_prime) == witness.ratio
    again = SMALL.find(graph)
    assert np.array_equal(again.x, witness.x)


def test_proved_ratio_is_just_below_the_exact_one(rng):
    weights = [rng.standard_normal((6, 3)), rng.standard_normal((5, 6)), rng.standard_normal((2, 5))]
    graph = sequential((3,), [Affine(weights[0]), Relu(), Affine(weights[1]), Relu(), Affine(weights[2])])
    for distance in (1.0, 1e-6, 1e-13):  # float64 itself has no correct digit at the last
        x = rng.standard_normal(3)
        x_prime = x + distance * rng.standard_normal(3)
        proved, exact = prove_witness(graph, x, x_prime), exact_ratio(weights, x, x_prime)
        assert Fraction(proved) ** 2 <= exact
        assert math.sqrt(exact) == pytest.approx(proved, rel=2e-9)


def test_precision_is_raised_where_needed_and_restored():
    before = flint.ctx.prec
    graph = sequential((1,), [Affine(np.array([[1.0]]), np.array([2.0**300]))])
    assert prove_witness(graph, np.array([0.0]), np.array([1.0])) == pytest.approx(1, rel=1e-8)
    assert flint.ctx.prec == before


def test_undecided_is_said(monkeypatch):
    monkeypatch.setattr(lower_bound, "_PRECISIONS", (64,))
    graph = sequential((1,), [Affine(np.array([[1.0]]), np.array([2.0**300]))])
    with pytest.raises(UndecidedError, match=r"With 64 bits .* \[0\.0, "):
        prove_witness(graph, np.array([0.0]), np.array([1.0]))


def test_constant_networks_have_ratio_zero():
    graph = sequential((2,), [Affine(np.ones((3, 2)), -np.ones(3)), Relu(), Affine(np.zeros((1, 3)))])
    witness = SMALL.find(graph)
    assert (witness.ratio, witness.ratio_float) == (0, 0)
    assert not np.array_equal(witness.x, witness.x_prime)


@pytest.mark.parametrize(("x", "x_prime", "message"), [
    ([1.0, 2.0], [1.0, 2.0], "equal"),
    ([1.0, np.inf], [1.0, 2.0], "finite"),
    ([1.0, 2.0, 3.0], [1.0, 2.0], r"two inputs of shape \(2,\), got \(3,\) and \(2,\)"),
])
def test_pairs_that_are_no_witness_are_refused(x, x_prime, message):
    graph = sequential((2,), [Affine(np.eye(2))])
    with pytest.raises(ValueError, match=message):
        prove_witness(graph, np.array(x), np.array(x_prime))


def test_wanted_slopes_are_a_start():
    graph = mlp(3, (20, 8, 3), Relu())  # more inputs than neurons: every slope pattern is reached somewhere
    patterns = np.array(np.meshgrid(*[[0.0, 1.0]] * 8)).reshape(8, -1).T
    w1, w2 = (graph.layer(node).weight for node in graph.order if isinstance(graph.layer(node), Affine))
    gains = [np.linalg.norm((w2 * pattern) @ w1, 2) for pattern in patterns]
    node = next(node for node in graph.order if isinstance(graph.layer(node), Relu))
    witness = WitnessSearch().find(graph, {node: patterns[int(np.argmax(gains))]})
    assert witness.ratio == pytest.approx(max(gains), rel=1e-6)


def test_images_and_skips():
    rng, builder = np.random.default_rng(0), GraphBuilder()
    u = builder.input((2, 3))
    h = builder.add(Relu(), builder.add(Affine(rng.standard_normal((3, 3))), u))
    graph = builder.build(builder.add(Add((1, 1)), h, u))
    witness = SMALL.find(graph)
    assert witness.x.shape == (2, 3)
    assert 1 < witness.ratio <= 1 + np.linalg.norm(graph.layer("affine").weight, 2)


def test_time_limit_is_kept():
    graph, start = mlp(4, (64, 64, 64, 64, 10), Gelu()), time.perf_counter()
    witness = WitnessSearch(steps=100_000, time_limit=0.3).find(graph)
    assert time.perf_counter() - start < 3
    assert witness.ratio > 0


def test_settings_are_checked_and_frozen():
    with pytest.raises(ValueError, match="`starts` of at least 1"):
        WitnessSearch(starts=0)
    with pytest.raises(ValueError, match="`time_limit` must be positive"):
        WitnessSearch(time_limit=-1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.seed = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        Witness(np.zeros(1), np.ones(1), 1.0, 1.0).ratio = 2.0


def test_a_network_out_of_reach_is_told_of():
    graph = sequential((2,), [Affine(1e200 * np.eye(2), None), Relu(), Affine(1e200 * np.eye(2), None)])
    with np.errstate(all="ignore"), pytest.raises(UndecidedError, match="out of its reach"):
        WitnessSearch(starts=2, steps=2, trials=1).find(graph)
