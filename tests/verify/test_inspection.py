"""What a network is said to be, and to cost, before anything is solved."""

from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from netgain.layers import (
    Add,
    Affine,
    Convolution,
    FixedPoint,
    Flatten,
    Graph,
    GraphBuilder,
    GroupSort,
    LeakyRelu,
    Relu,
    Softmax,
    sequential,
)
from netgain.verify import inspect


def residual() -> Graph:
    builder = GraphBuilder()
    x = builder.input((3,))
    hidden = builder.add(Relu(), builder.add(Affine(np.eye(3)), x), name="act")
    return builder.build(builder.add(Add((1, 1)), hidden, x), "residual")


def test_nodes_are_listed_in_order_with_shapes_and_slopes() -> None:
    inspection = inspect(residual())
    names = [node.name for node in inspection.nodes]
    assert names[0] == "input"
    assert names.index("act") < names.index("add")
    slopes = {node.name: node.slopes for node in inspection.nodes}
    assert slopes["act"] == "[0, 1]"
    assert slopes["add"] == ""


def test_a_skip_widens_the_cut() -> None:
    chain = sequential((3,), [Affine(np.eye(3)), Relu(), Affine(np.eye(3))])
    assert inspect(chain).dynamics.output_state_width == 3
    assert inspect(residual()).dynamics.output_state_width == 6


def test_slopes_of_a_layer_are_those_of_all_its_neurons() -> None:
    graph = sequential((2,), [Affine(np.eye(2)), LeakyRelu(0.25), Affine(np.eye(2))])
    assert "[0.25, 1]" in [node.slopes for node in inspect(graph).nodes]


def test_groups_share_a_multiplier() -> None:
    inspection = inspect(sequential((4,), [Affine(np.eye(4)), GroupSort(2), Affine(np.eye(4))]))
    assert inspection.predictions[0].multipliers == 2
    assert inspection.neurons == 4
    assert any("groups of 2" in node.slopes for node in inspection.nodes)


def test_a_linear_network_has_no_steps() -> None:
    inspection = inspect(sequential((2,), [Affine(np.eye(2))]))
    assert inspection.dynamics.steps == ()
    assert inspection.predictions[0].multipliers == 0


def test_cost_grows_with_the_network_and_is_held_against_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(width: int) -> Graph:
        return sequential((width,), [Affine(np.eye(width)), Relu(), Affine(np.eye(width))])

    small, large = (inspect(network(width)).predictions[0] for width in (2, 60))
    assert small.memory < large.memory
    assert small.order < large.order
    assert large.fits
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=large.memory))
    assert not large.fits
    assert small.fits


def test_every_mode_is_predicted_or_says_why_not() -> None:
    dense = sequential((3,), [Affine(np.eye(3)), Relu(), Affine(np.eye(3))])
    assert [bool(p.obstacle) for p in inspect(dense).predictions] == [False, True, True]
    kernel = np.ones((2, 2, 3, 3))
    image = sequential((2, 6, 6), [Convolution(kernel), Relu(), Convolution(kernel), Relu(), Flatten(),
                                   Affine(np.ones((2, 8)))])
    assert [p.mode.value for p in inspect(image).predictions if not p.obstacle] == ["neuron", "spectral", "roesser"]
    assert [p.multipliers for p in inspect(image).predictions[:1]] == [2 * 16 + 2 * 4]


def test_softmax_is_one_group() -> None:
    graph = sequential((3,), [Affine(np.eye(3)), Softmax(), Affine(np.eye(3))])
    assert any("groups of 3" in node.slopes for node in inspect(graph).nodes)


def test_neurons_of_implicit_layers_are_counted() -> None:
    layers = [Affine(np.ones((4, 2))), FixedPoint(Affine(np.eye(4) / 2), LeakyRelu(0.1)), Affine(np.ones((1, 4)))]
    inspection = inspect(sequential((2,), layers))
    assert inspection.neurons == 4
    assert [node.slopes for node in inspection.nodes if node.slopes] == ["[0.1, 1]"]
