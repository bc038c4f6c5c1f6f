"""Implicit networks beside their unrolled steps and the flow that leads to their solutions."""

import numpy as np
import pytest
from netgain.layers import Affine, FixedPoint, ModelError, Relu, Tanh, sequential
from netgain.verify.cli_compare import kind_of
from netgain.verify.comparison import ComparisonRequest, Side
from netgain.verify.constraints import constraint_rows
from netgain.verify.implicit.compare import DEPTHS, FLOW, GAIN, IMPLICIT, compare_implicit
from netgain.verify.implicit.layer_report import layer_report
from netgain.verify.implicit.unrolling import StepKind, UnrolledStep, converging_step, unroll

from ...solvers.implicit.implicit_bank import A1, B1, C1, HIERARCHY, random_matrix


def network(A, B, C, activation=None):
    return sequential((B.shape[1],), [Affine(B, np.ones(len(B)) / 4), FixedPoint(Affine(A), activation or Relu()),
                                      Affine(C)])


def steps_of(graph):
    rows = constraint_rows(graph)
    return {layer.node: converging_step(graph, layer, layer_report(layer).proof.metric) for layer in rows.loops}


def random_network(seed, activation):
    rng = np.random.default_rng(seed)
    return network(random_matrix(seed, 5, 0.5), rng.standard_normal((5, 3)), rng.standard_normal((2, 5)), activation)


BANK = {"published": network(A1, B1, C1), "rotation": network(HIERARCHY[0][0], np.eye(2), np.eye(2)),
        "tanh": random_network(0, Tanh()), "relu": random_network(1, Relu())}


@pytest.mark.parametrize("name", BANK)
def test_steps_that_contract_lead_to_the_solution(name):
    graph, steps = BANK[name], steps_of(BANK[name])
    step = steps["fixedpoint"]
    assert step.factor < 1
    assert step.kind is (StepKind.FORWARD_BACKWARD if name == "rotation" else StepKind.AVERAGE)
    u = np.random.default_rng(0).standard_normal((6, graph.shape("input")[0]))
    depth = int(np.ceil(np.log(1e-8) / np.log(step.factor)))
    distance = [np.abs(unroll(graph, k, steps).forward(u) - graph.forward(u)).max() for k in (1, 4, depth)]
    assert distance[2] < 1e-5
    assert distance[2] < distance[0]


@pytest.mark.parametrize("step", [UnrolledStep(StepKind.AVERAGE, 0.3, 1.0), UnrolledStep(StepKind.AVERAGE, 1.0, 1.0),
                                  UnrolledStep(StepKind.FORWARD_BACKWARD, 0.3, 1.0)])
def test_the_unrolled_network_is_the_iteration(step):
    graph, a = BANK["published"], step.size
    u = np.random.default_rng(1).standard_normal((4, 2))
    v, x = u @ B1.T + 0.25, np.zeros((4, 2))
    for depth in range(1, 5):
        if step.kind is StepKind.AVERAGE:
            x = (1 - a) * x + a * np.maximum(x @ A1.T + v, 0)
        else:
            x = np.maximum((1 - a) * x + a * (x @ A1.T + v), 0)
        value = unroll(graph, depth, {"fixedpoint": step}).forward(u)
        np.testing.assert_allclose(value, x @ C1.T, atol=1e-12)
    with pytest.raises(ModelError, match="at least one step"):
        unroll(graph, 0, {"fixedpoint": step})


@pytest.mark.parametrize("name", BANK)
def test_all_views_agree(name):
    comparison = compare_implicit(BANK[name], ComparisonRequest(time_limit=20.0))
    assert not [finding for finding in comparison.findings if finding.severity.value != "unexpected"]
    rows = {(row.quantity, row.method): row for row in comparison.rows}
    assert rows[GAIN, "witness"].value <= rows[GAIN, "semidefinite"].value
    assert rows[FLOW, "worst slopes"].value <= rows[FLOW, "branch and bound"].value + 1e-9
    unrolled = [rows[f"L_{depth}", "semidefinite"] for depth in DEPTHS]
    assert all(row.proved and row.side is Side.UPPER for row in unrolled)
    for depth, row in zip(DEPTHS, unrolled, strict=True):
        graph, rng = unroll(BANK[name], depth, steps_of(BANK[name])), np.random.default_rng(depth)
        u, other = rng.standard_normal((2, 200, *graph.shape("input")))
        gains = np.linalg.norm(graph.forward(u) - graph.forward(other), axis=1) / np.linalg.norm(u - other, axis=1)
        assert gains.max() <= row.value
    if rows[FLOW, "branch and bound"].value < 0:
        assert rows[GAIN, "equilibria"].value >= rows[GAIN, "witness"].value


def test_a_network_that_is_not_proved_well_posed_is_still_unrolled():
    comparison = compare_implicit(network(HIERARCHY[3][0], np.eye(2), np.eye(2)), ComparisonRequest(time_limit=10.0))
    rows = {(row.quantity, row.method): row for row in comparison.rows}
    assert rows[GAIN, "semidefinite"].value is None
    assert "not well-posed" in rows[GAIN, "semidefinite"].note
    assert rows["L_1", "semidefinite"].proved


def test_archives_of_implicit_networks_are_told_from_fields(tmp_path):
    np.savez(tmp_path / "net.npz", A=A1, B=B1, C=C1)
    np.savez(tmp_path / "field.npz", A=A1, activation="tanh")
    np.savez(tmp_path / "layers.npz", W1=B1, implicit2=A1, activation2="relu")
    assert kind_of(tmp_path / "net.npz") is IMPLICIT
    assert kind_of(tmp_path / "layers.npz") is IMPLICIT
    assert kind_of(tmp_path / "field.npz") is not IMPLICIT


def test_a_bound_of_steps_that_ran_out_of_time_says_so():
    graph = network(random_matrix(3, 30, 0.5), np.ones((30, 20)), np.ones((4, 30)))
    compared = compare_implicit(graph, ComparisonRequest(time_limit=1e-2))
    deep = [row for row in compared.rows if row.quantity == f"L_{DEPTHS[-1]}"]
    assert [row.note.endswith("not the least") for row in deep] == [True]


@pytest.mark.parametrize(("A", "B", "missing"), [(1e300, 1.0, {FLOW, "L_2"}), (1.0, 1e300, {"L_1", "L_2"})])
def test_weights_beyond_what_products_can_hold_leave_rows_that_say_so(A, B, missing):
    weights = np.array([[0.02, -0.03, 0.13], [0.02, -0.11, 0.07], [0.26, 0.19, -0.14]])
    with np.errstate(all="ignore"):  # as commands do
        compared = compare_implicit(network(A * weights, B * np.eye(3), np.eye(3)), ComparisonRequest(time_limit=20.0))
    without = {row.quantity: row.note for row in compared.rows if row.value is None}
    assert missing <= set(without)
    assert all("range of float64" in without[quantity] for quantity in missing)
    assert all(row.value is None or np.isfinite(row.value) for row in compared.rows)
