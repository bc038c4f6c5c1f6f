"""Constants of differences of outputs: proved, below sqrt(2) L, above what is sampled, exact where that is known."""

import dataclasses
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from netgain.layers import Affine, Relu, Reshape, sequential
from netgain.layers.differential import Linearisation
from netgain.solvers.result import Limits
from netgain.verify import check, lipschitz
from netgain.verify.mode import Mode
from netgain.verify.neuron import unrolled
from netgain.verify.robustness.margins import Margins, margins, radii, radius
from netgain.verify.robustness.outputs import all_pairs, constants, pair_graph
from netgain.verify.robustness.pairs import PairBounds, PairSearch, deciding_pairs, shared

from .classifiers import CLASSIFIERS, image_classifier, linear, perceptron


def search(graph, mode=None, seconds=60.0):
    found = lipschitz(graph, limits=Limits(tolerance=1e-4), mode=mode, lower_bounds=False)
    classes = math.prod(graph.shape(graph.output))
    bounds = PairBounds(classes, found.certificate, {}, frozenset())
    return PairSearch(graph, found.mode, bounds, 1e-4, time.perf_counter() + seconds, lambda text: None)


def steepest(graph, seed=0, count=400):
    """The largest norm of the gradient of each difference at random inputs: a lower bound of its constant."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, *graph.shape(graph.input))) * rng.choice([0.3, 1.0, 4.0], (count,)).reshape(
        -1, *(1,) * len(graph.shape(graph.input)))
    here = Linearisation(graph, x)
    classes = math.prod(graph.shape(graph.output))
    rows = []
    for k in range(classes):
        dy = np.zeros((count, classes))
        dy[:, k] = 1
        rows.append(here.transpose(dy.reshape((count, *graph.shape(graph.output)))).reshape((count, -1)))
    jacobians = np.stack(rows)
    return np.linalg.norm(jacobians[:, None] - jacobians[None], axis=-1).max(axis=-1)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_pairs_lie_between_what_is_sampled_and_the_bound_of_all_outputs(name):
    graph = CLASSIFIERS[name]
    found = search(graph)
    found.share()
    by_sharing = found.bounds.matrix()
    for pair in all_pairs(found.bounds.classes):
        found.optimise(pair)
    values, lower = found.bounds.matrix(), steepest(graph)
    off = ~np.eye(len(values), dtype=bool)
    assert np.all(values[off] <= found.bounds.from_overall)
    assert np.all(by_sharing[off] <= found.bounds.from_overall)
    assert np.all(values <= by_sharing)
    assert np.all(lower[off] <= values[off] * (1 + 1e-12))
    assert np.array_equal(values, values.T)
    for pair, certificate in found.bounds.pairs.items():
        assert check(certificate, pair_graph(graph, pair)).proved
        assert not check(certificate, graph).proved


def test_a_linear_classifier_has_the_norms_of_differences_of_its_rows():
    rows = np.random.default_rng(0).standard_normal((4, 3))
    found = search(linear(rows))
    found.share()
    np.testing.assert_allclose(found.bounds.matrix(), np.linalg.norm(rows[:, None] - rows[None], axis=2), rtol=1e-6)


def test_shared_multipliers_are_worth_less_than_own_ones_and_more_than_none():
    found = search(perceptron((6, 20, 20, 6)))
    found.share()
    by_sharing = found.bounds.matrix()
    assert np.median(by_sharing[by_sharing > 0]) < 0.95 * found.bounds.from_overall
    better = [found.optimise(pair) for pair in all_pairs(6)]
    assert any(better)
    assert found.bounds.optimised == frozenset(all_pairs(6))


def test_the_shared_bound_is_the_least_that_these_multipliers_prove():
    graph = CLASSIFIERS["relu"]
    overall = lipschitz(graph, lower_bounds=False).certificate

    neuron = unrolled(pair_graph(graph, (0, 2)))
    solution = shared(neuron.scaled, overall)
    factor = solution.bound
    certificate = neuron.prove(solution)
    assert factor <= certificate.value <= factor * (1 + 1e-6)

    assert not check(dataclasses.replace(certificate, value=factor * (1 - 1e-6)), pair_graph(graph, (0, 2))).proved


@pytest.mark.parametrize("mode", list(Mode))
def test_convolutions_have_pairs_in_every_mode(mode):
    graph = image_classifier(2)
    found = search(graph, mode)
    assert found.mode is mode
    found.optimise((0, 1))
    value = found.bounds.matrix()[0, 1]
    assert steepest(graph)[0, 1] <= value < found.bounds.from_overall


def test_outputs_of_any_shape_are_flattened():
    rng = np.random.default_rng(1)
    weights = [rng.standard_normal((4, 3)), rng.standard_normal((4, 4))]
    graph = sequential((3,), [Affine(weights[0]), Relu(), Affine(weights[1]), Reshape((2, 2))])
    x = rng.standard_normal((5, 3))
    y = graph.forward(x).reshape((5, 4))
    np.testing.assert_allclose(pair_graph(graph, (1, 3)).forward(x)[:, 0], y[:, 1] - y[:, 3], atol=1e-14)


def test_nothing_more_is_done_once_the_time_is_up():
    found = search(CLASSIFIERS["deep"], seconds=-1.0)
    found.share()
    assert not found.bounds.pairs
    assert np.all(found.bounds.matrix()[0, 1:] == found.bounds.from_overall)


def test_pairs_that_decide_come_by_how_many_samples_they_decide():
    predicted = np.array([0, 0, 1, 2, 2])
    lead = np.array([[np.inf, 1, 9], [np.inf, 2, 9], [1, np.inf, 9], [8, 1, np.inf], [-1, 1, np.inf]])
    values = np.ones((3, 3))
    assert deciding_pairs(predicted, lead, values) == [(0, 1), (1, 2)]
    values[0, 1] = values[1, 0] = 0.01
    assert deciding_pairs(predicted, lead, values)[0] == (0, 2)


@pytest.mark.parametrize(("margin", "constant", "expected"), [
    (1.0, 3.0, 1 / 3), (0.0, 1.0, 0.0), (-1.0, 1.0, 0.0), (1.0, 0.0, math.inf), (1.0, math.inf, 0.0),
    (math.inf, 2.0, math.inf), (1e-300, 1e10, 1e-310), (0.1, 0.1, 1.0),
])
def test_radii_round_to_the_safe_side(margin, constant, expected):

    found = radius(margin, constant)
    assert found == pytest.approx(expected, rel=1e-12)
    if 0 < found < math.inf:
        assert Fraction(found) * Fraction(constant) < Fraction(margin)
        assert Fraction(found) * Fraction(constant) * (1 + Fraction(1, 2**50)) >= Fraction(margin) or found < 1e-300


def test_margins_enclose_exact_ones_and_ties_are_not_decided():
    rows = np.array([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    graph = linear(rows)
    found = margins(graph, np.array([[1.0, 0.5], [4.0, 3.0], [-1.0, -1.0]]))
    assert list(found.decided) == [True, False, True]
    assert found.predicted[0] == 0
    assert found.predicted[2] == 2
    assert np.all(found.values[0, 1:] <= [1.0, 3.0])
    assert radii(found, constants(3, None, {}))[0] == 0.0
    assert radii(Margins(found.predicted, found.values), np.full((3, 3), 0.5))[0] == pytest.approx(2.0)
