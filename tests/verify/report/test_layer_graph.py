"""The drawing of the layer graph: every edge is a path from row to row, and bars say what the gains are."""

import itertools
import math

import networkx as nx
import pytest
from netgain.verify.layer_gains import layer_gains
from netgain.verify.report.content import Line
from netgain.verify.report.depth_figure import layers_figure
from netgain.verify.report.fields import FieldError, Fields
from netgain.verify.report.layer_graph import Node, composition, layer_graph, nodes_of
from netgain.verify.result_json import graph_json

from tests.verify.small_networks import BANK


def node(name, *inputs, gains=None, reached=None):
    return Node(name, "Layer", inputs, (2,), "", gains or (1.0,) * len(inputs), reached)


DENSE = tuple(node(str(k), *(str(j) for j in range(k))) for k in range(6))
DEEP = (node("0"), *(node(str(k), str(k - 1)) for k in range(1, 400)))
GRAPHS = {name: nodes_of(Fields({"graph": graph_json(graph, None)})) for name, graph in BANK.items()}
GRAPHS |= {"dense": DENSE, "deep_chain": DEEP}


def edges_drawn(graph):
    """Edges as a reader sees them: from the bottom of a node's row down, along lines that meet, to a node."""
    drawing = nx.DiGraph()
    for row, layer in enumerate(graph.rows):
        for line in layer.lines:
            ends = []
            for x, y in ((line.x1, line.y1), (line.x2, line.y2)):
                # The bottom of a row is the top of the next.
                ends.append(("node", row) if y == 50 else ("border", row + y // 100, x))
                if y == 50:
                    assert x == layer.column
            drawing.add_edge(*ends)
    found = set()
    for row in range(len(graph.rows)):
        if ("node", row) not in drawing:
            continue
        seen, open_ = set(), list(drawing.successors(("node", row)))
        while open_:
            place = open_.pop()
            if place[0] == "node":
                found.add((graph.rows[row].name, graph.rows[place[1]].name))
            elif place not in seen:
                seen.add(place)
                open_ += drawing.successors(place)
    return found


@pytest.mark.parametrize("name", GRAPHS)
def test_the_edges_drawn_are_those_of_the_graph(name):
    nodes = GRAPHS[name]
    graph = layer_graph(nodes)
    assert edges_drawn(graph) == {(source, layer.name) for layer in nodes for source in layer.inputs}
    assert all(0 <= row.column < graph.columns for row in graph.rows)


def test_a_chain_takes_one_column_and_a_skip_one_more():
    assert layer_graph(DEEP).columns == 1
    skip = layer_graph((node("a"), node("b", "a"), node("c", "b"), node("d", "c", "a"), node("e", "d")))
    assert skip.columns == 2
    assert [row.column for row in skip.rows] == [0, 1, 1, 0, 0]
    assert Line(0, 0, 0, 100) in skip.rows[1].lines
    assert [row.fed_by for row in skip.rows] == ["", "", "", "c, a", ""]


@pytest.mark.parametrize("name", ["mlp_relu", "residual", "deep_huge", "zero_layer"])
def test_bars_are_logarithms_of_gains(name):
    nodes = GRAPHS[name]
    reach = max(abs(math.log(gain)) for layer in nodes for gain in layer.gains if gain) or 1.0
    for layer, row in zip(nodes, layer_graph(nodes).rows, strict=True):
        assert 0 <= row.start <= row.start + row.width <= 100.01
        if layer.gains:
            gain = max(layer.gains)
            drawn = (row.start + row.width - 50) if gain >= 1 else row.start - 50
            assert drawn == pytest.approx(50 * math.log(gain) / reach if gain else -50, abs=0.02)


@pytest.mark.parametrize("name", [name for name, graph in BANK.items() if len(graph.order) > 2])
def test_composition_is_never_below_a_pair_of_inputs(name):
    nodes = GRAPHS[name]
    bounds = composition(nodes)
    assert bounds[nodes[-1].name] == pytest.approx(_by_paths(BANK[name]), rel=1e-6)


def _by_paths(graph):
    """The sum over all paths from input to output of the products of gains."""
    gains = {layer.node.name: layer for layer in layer_gains(graph)}
    total = 0.0
    for path in nx.all_simple_paths(graph.digraph, graph.input, graph.output):
        product = 1.0
        for before, here in itertools.pairwise(path):
            layer = gains[here]
            product *= sum(gain for gain, name in zip(layer.gains, layer.node.inputs, strict=True) if name == before)
        total += product
    return total


def test_unknown_gains_end_the_composition_and_are_marked():
    nodes = (node("a"), node("b", "a", gains=(2.0,)), node("c", "b", gains=(None,)), node("d", "c"))
    assert composition(nodes) == {"a": 1.0, "b": 2.0}
    assert [row.gain for row in layer_graph(nodes).rows] == ["", "2", "?", "1"]
    assert layers_figure("r-depth", "t", nodes[:1], None) is None


@pytest.mark.parametrize(("entries", "message"), [
    ([{"node": "a", "layer": "L"}, {"node": "a", "layer": "L"}], "twice"),
    ([{"node": "a", "layer": "L", "inputs": ["b"], "gains": [1.0]}], "do not come before"),
    ([{"node": "a", "layer": "L"}, {"node": "b", "layer": "L", "inputs": ["a"], "gains": []}], "0 gains for the 1"),
    ([{"node": "a", "layer": "L"}, {"node": "b", "layer": "L", "inputs": ["a"], "gains": [-1.0]}], "negative gain"),
])
def test_graphs_that_are_none_are_refused(entries, message):
    with pytest.raises(FieldError, match=message):
        nodes_of(Fields({"graph": entries}))
