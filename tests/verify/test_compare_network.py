"""Networks compared: bounds in order, modes that do not apply or take too long named, disagreements explained."""

import itertools

import numpy as np
import pytest
from netgain import layers
from netgain.verify.compare_network import SLOPES, WITNESS, compare_network, findings
from netgain.verify.comparison import ComparisonRequest, Row, Severity, Side


def perceptron(sizes, seed=0):
    rng = np.random.default_rng(seed)
    parts = []
    for before, after in itertools.pairwise(sizes):
        parts += [layers.Affine(rng.standard_normal((after, before)) / before**0.5, rng.standard_normal(after)),
                  layers.Relu()]
    return layers.sequential((sizes[0],), parts[:-1])


def small_images(seed=0):
    rng = np.random.default_rng(seed)
    kernels = rng.standard_normal((2, 1, 3, 3)), rng.standard_normal((2, 2, 3, 3))
    head = rng.standard_normal((3, 2 * 8 * 8)) / 8
    return layers.sequential((1, 8, 8), [
        layers.Convolution(kernels[0], None, padding=((1, 1), (1, 1))), layers.Relu(),
        layers.Convolution(kernels[1], None, padding=((1, 1), (1, 1))), layers.Relu(),
        layers.Flatten(), layers.Affine(head, None)])


def values(comparison):
    return {row.method: row.value for row in comparison.rows if row.value is not None}


@pytest.mark.parametrize("seed", range(3))
def test_bounds_are_in_order(seed):
    comparison = compare_network(perceptron([4, 6, 5, 3], seed), ComparisonRequest())
    found = values(comparison)
    assert 0 < found[WITNESS] <= found[SLOPES] + 1e-9
    assert found[SLOPES] <= found["neuron"] * (1 + 1e-6)
    assert found["neuron"] <= min(found["closed form"], found["norm product"]) * (1 + 1e-6)
    assert comparison.findings == ()
    assert {row.method for row in comparison.rows if row.proved} == {WITNESS, "neuron", "closed form"}


def test_the_witness_and_the_norm_product_of_a_linear_chain_meet():
    """Orthogonal layers and slopes of one: L = 1, and every method says so."""
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    graph = layers.sequential((5,), [layers.Affine(q, None), layers.LeakyRelu(1.0), layers.Affine(q.T, None)])
    for value in values(compare_network(graph, ComparisonRequest())).values():
        assert value == pytest.approx(1.0, rel=1e-5)


def test_modes_that_do_not_apply_say_why():
    rows = {row.method: row for row in compare_network(perceptron([4, 6, 3]), ComparisonRequest()).rows}
    for mode in ("spectral", "roesser"):
        assert rows[mode].value is None
        assert not rows[mode].proved
        assert "pixel" in rows[mode].note


def test_all_modes_of_a_convolutional_network_are_run_and_in_order():
    comparison = compare_network(small_images(), ComparisonRequest(time_limit=120.0))
    found = values(comparison)
    assert found[WITNESS] <= found[SLOPES] + 1e-9
    assert found[SLOPES] <= found["neuron"] * (1 + 1e-5)
    assert found["neuron"] <= found["spectral"] * (1 + 1e-5) <= found["roesser"] * (1 + 2e-5)
    assert not any(finding.severity is Severity.CONTRADICTION for finding in comparison.findings)


def test_modes_predicted_to_take_too_long_are_named_with_the_prediction_and_not_run():
    comparison = compare_network(small_images(), ComparisonRequest(time_limit=0.02))
    skipped = {row.method: row.note for row in comparison.rows if row.value is None}
    assert "neuron" in skipped
    for note in skipped.values():
        assert "predicted to take" in note
        assert "--time-limit" in note


def row(method, value, side, proved, quantity="L"):
    return Row("", quantity, method, value, side, proved)


@pytest.mark.parametrize(("rows", "severity", "words"), [
    ([row(WITNESS, 2.0, Side.LOWER, True), row("neuron", 1.0, Side.UPPER, True)], Severity.CONTRADICTION, "fault"),
    ([row(WITNESS, 2.0, Side.LOWER, True), row(SLOPES, 1.0, Side.LOWER, False, "S"),
      row("neuron", 3.0, Side.UPPER, True)], Severity.UNEXPECTED, "local maxima"),
    ([row(SLOPES, 2.0, Side.LOWER, False, "S"), row("neuron", 1.0, Side.UPPER, True)], Severity.WRONG, "doubted"),
    ([row("neuron", 2.0, Side.UPPER, True), row("spectral", 1.0, Side.UPPER, True)], Severity.UNEXPECTED, "early"),
    ([row("spectral", 2.0, Side.UPPER, True), row("roesser", 1.0, Side.UPPER, True)], Severity.UNEXPECTED, "border"),
    ([row("neuron", 2.0, Side.UPPER, True), row("closed form", 1.0, Side.UPPER, True)], Severity.UNEXPECTED, "early"),
])
def test_disagreements_are_explained(rows, severity, words):
    (finding,) = findings(tuple(rows))
    assert finding.severity is severity
    assert words in finding.text


def test_values_in_order_are_no_disagreement():
    names = [(WITNESS, Side.LOWER, "L"), (SLOPES, Side.LOWER, "S"), ("neuron", Side.UPPER, "L"),
             ("spectral", Side.UPPER, "L"), ("roesser", Side.UPPER, "L")]
    rows = [row(name, 1.0 + k, side, True, quantity) for k, (name, side, quantity) in enumerate(names)]
    assert findings(tuple(rows)) == []
