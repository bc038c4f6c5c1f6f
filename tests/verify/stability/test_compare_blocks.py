"""One table of a block: unrolled, at its equilibrium, and as a flow; the bounds of the three ways agree."""

import itertools
import json

import numpy as np
import pytest
from netgain import layers
from netgain.layers.formats import holds_blocks, save_stable_npz
from netgain.layers.stable_block import StableBlock, StableNetwork
from netgain.verify import cli
from netgain.verify.comparison import ComparisonRequest, Side
from netgain.verify.outcomes import ExitCode
from netgain.verify.stability.compare import compare_blocks, findings
from typer.testing import CliRunner

A = np.array([[-0.6, 0.5], [-0.3, -0.7]])
SYMMETRIC = np.array([[-0.7, 0.2], [0.2, -0.5]])
B = np.array([[1, 0.5], [-0.3, 0.8]])


def network(activation, a=A, count=1):
    block = StableBlock((a,), (B,), (), activation, 1.0, 5)
    return StableNetwork((block,) * count, (2,), "block")


def values(comparison, quantity, side):
    return [row.value for row in comparison.rows
            if row.quantity == quantity and row.side is side and row.value is not None]


def test_three_views_of_a_contracting_block():
    comparison = compare_blocks(network(layers.LeakyRelu(0.2)), ComparisonRequest(time_limit=20))
    assert not comparison.findings
    assert comparison.exit_code is ExitCode.PROVED
    exact = np.linalg.norm(np.linalg.solve(A, B), 2)
    limits = values(comparison, "E", Side.UPPER)
    assert min(limits) == pytest.approx(exact, rel=1e-9)
    assert all(value >= exact for value in limits)
    implicit = next(row for row in comparison.rows if row.method == "implicit network")
    assert "well-posed, proved" in implicit.note
    assert implicit.value == pytest.approx(exact, rel=1e-3)
    # In the Euclidean norm a step of length 1 shows at most the rate 1 + mu; every norm's rate is above the growth.
    mu = values(comparison, "mu", Side.UPPER)[0]
    vertices = itertools.product((0.2, 1), repeat=2)
    assert 1 + mu <= max(np.linalg.norm(np.eye(2) + np.diag(d) @ A, 2) for d in vertices) + 1e-9
    assert max(values(comparison, "r", Side.LOWER)) <= min(values(comparison, "r", Side.UPPER))
    assert max(values(comparison, "L", Side.LOWER)) <= min(values(comparison, "L", Side.UPPER))


@pytest.mark.parametrize(("activation", "says"), [
    (layers.Tanh(), "the only equilibrium"), (layers.Relu(), "the start decides which"),
])
def test_slopes_of_zero_leave_no_implicit_network(activation, says):
    comparison = compare_blocks(network(activation), ComparisonRequest(time_limit=20))
    row = next(row for row in comparison.rows if row.method == "implicit network")
    assert row.value is None
    assert "singular" in row.note
    assert says in row.note


@pytest.mark.parametrize("activation", [layers.Relu(), layers.LeakyRelu(0.2)])
def test_two_starts_end_up_no_farther_apart_than_said(activation):
    """Distances at depth K from any two starts with one input, also where no rate is below 1."""
    case = network(activation, SYMMETRIC)
    comparison = compare_blocks(case, ComparisonRequest(time_limit=20))
    bounds = values(comparison, "I", Side.UPPER)
    assert len(bounds) == (2 if isinstance(activation, layers.Relu) else 3)
    eigenvalues = np.linalg.eigvalsh(-SYMMETRIC)
    rate = 1 - activation.slopes(()).lower * eigenvalues[0]
    assert max(bounds) == pytest.approx(rate**5 * np.sqrt(eigenvalues[1] / eigenvalues[0]), rel=1e-6)
    assert max(values(comparison, "I", Side.LOWER)) <= min(bounds)
    block, rng = case.blocks[0][0], np.random.default_rng(0)
    for _ in range(200):
        u, starts = 3 * rng.standard_normal(2), 2 * rng.standard_normal((2, 2))
        last = block.states_of(np.stack([u, u]), starts)[-1]
        assert np.linalg.norm(last[0] - last[1]) <= min(bounds) * np.linalg.norm(starts[0] - starts[1]) * (1 + 1e-9)


def test_ctrl_c_keeps_the_rows_found(monkeypatch):
    def pressed(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("netgain.verify.stability.compare.lipschitz", pressed)
    comparison = compare_blocks(network(layers.LeakyRelu(0.2), count=2), ComparisonRequest(time_limit=20))
    cut = [(row.quantity, row.method) for row in comparison.rows if row.note == "interrupted"]
    first, second = (sum(quantity.endswith(tag) for quantity, _ in cut) for tag in ("_1", "_2"))
    assert (first, second) == (3, 3)
    assert all(values(comparison, quantity, Side.UPPER) for quantity in ("r_1", "r_2", "L_1", "L_2"))


def test_the_flow_of_a_wide_block_is_enclosed_in_the_time_given():
    """As many units as the committed block; worst slopes and proved bound enclose mu, equal here as A = -a I."""
    block = StableBlock((-0.5 * np.eye(64),), (np.eye(64),), (), layers.LeakyRelu(0.2), 1.0, 2)
    comparison = compare_blocks(StableNetwork((block,), (64,), "wide"), ComparisonRequest(time_limit=10))
    assert max(values(comparison, "mu", Side.LOWER)) == pytest.approx(-0.1, abs=1e-6)
    assert min(values(comparison, "mu", Side.UPPER)) == pytest.approx(-0.1, abs=1e-4)


def test_bounds_that_exclude_each_other_are_found():
    comparison = compare_blocks(network(layers.LeakyRelu(0.5)), ComparisonRequest(time_limit=20))
    rows = list(comparison.rows)
    low = next(row for row in rows if row.method == "witness")
    rows.append(type(low)("unrolled", "L", "wrong", low.value / 2, Side.UPPER, False))
    assert any("wrong" in finding.text for finding in findings(rows))


def test_the_command_takes_archives_with_blocks(tmp_path):
    save_stable_npz(tmp_path / "two.npz", network(layers.LeakyRelu(0.2), count=2))
    assert holds_blocks(tmp_path / "two.npz")
    result = CliRunner().invoke(cli.app, ["compare", str(tmp_path / "two.npz"), "--json", "--time-limit", "20"])
    content = json.loads(result.stdout)
    assert result.exit_code == ExitCode.PROVED
    assert {"L_1", "L_2", "E_1", "mu_2", "L_inf_1"} <= content["quantities"].keys()
