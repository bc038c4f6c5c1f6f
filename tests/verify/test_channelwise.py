"""The torus describes the network: true increments, embedded, satisfy every relation that the rows state."""

import itertools

import numpy as np
import pytest
from netgain.layers import Add, Convolution, Flatten, Graph, GraphBuilder, Relu, sequential
from netgain.layers.shift_invariant import Kernel
from netgain.verify.balls import BALLS, precision
from netgain.verify.channelwise import Channelwise, ModeError, _rates, _shift_invariant, channelwise
from netgain.verify.enclosure import Enclosure

from .image_networks import random_network


def values(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every node's value for one input."""
    found = {graph.input: x[None]}
    for node in graph.order[1:]:
        found[node] = graph.layer(node).forward(*(found[name] for name in graph.inputs(node)))
    return {node: value[0] for node, value in found.items()}


class Torus:
    """The torus of a model, written without its polyphase code: signals are arrays (channels, *pixels) at each rate."""

    def __init__(self, graph: Graph, model: Channelwise):
        rates = _rates(graph, _shift_invariant(graph))
        coarsest = np.lcm.reduce(list(rates.values()), axis=0)
        self.cells = model.cells
        self.rates = {node: tuple(map(int, coarsest // rate)) for node, rate in rates.items()}

    def embed(self, image: np.ndarray, node: str) -> np.ndarray:
        """Components by cell of an image, zero outside of it; shape (channels * phases, *cells)."""
        rate = self.rates[node]
        result = np.zeros((len(image), int(np.prod(rate)), *self.cells))
        phases = list(itertools.product(*map(range, rate)))
        for place in itertools.product(*map(range, image.shape[1:])):
            cell = tuple(p // r for p, r in zip(place, rate, strict=True))
            phase = phases.index(tuple(p % r for p, r in zip(place, rate, strict=True)))
            result[(slice(None), phase, *cell)] = image[(slice(None), *place)]
        return result.reshape((-1, *self.cells))

    def inside(self, shape: tuple[int, ...], node: str) -> np.ndarray:
        return self.embed(np.ones(shape), node) == 1

    def apply(self, maps: dict[int, Kernel], blocks: list[np.ndarray]) -> np.ndarray:
        axes = tuple(range(1, 1 + len(self.cells)))
        return sum(
            np.tensordot(c, np.roll(blocks[j], tuple(-shift), axes), axes=(1, 0))
            for j, kernel in maps.items() for shift, c in zip(kernel.shifts, kernel.coefficients, strict=True)
        )


def check_increments(graph: Graph, model: Channelwise, dx: dict[str, np.ndarray], torus: Torus) -> None:
    blocks = [torus.embed(dx[graph.input], graph.input)]
    scale = 1e-9 * (1 + max(np.abs(d).max() for d in dx.values()) ** 2)
    for rows in model.constraints:
        masks = rows.node.endswith(" (mask)")
        node = rows.node.removesuffix(" (mask)")
        source = node if masks else graph.inputs(node)[0]
        v, inside = torus.apply(rows.maps, blocks), torus.inside(graph.shape(source), source)
        assert np.allclose(v[inside], torus.embed(dx[source], source)[inside], atol=1e-9)
        z = torus.embed(dx[node], node)
        answers = np.zeros(v.shape)
        answers[slice(None) if rows.kept is None else rows.kept] = z
        lower, upper = (end.reshape((-1, *(1,) * len(torus.cells))) for end in (rows.lower, rows.upper))
        product = np.sum((answers - lower * v) * (answers - upper * v), axis=tuple(range(1, v.ndim)))
        assert np.all(np.bincount(rows.channel, product) <= scale)
        blocks.append(z)
    last = model.head.node if model.head else graph.output
    v, inside = torus.apply(model.output, blocks), torus.inside(graph.shape(last), last)
    assert np.allclose(v[inside], torus.embed(dx[last], last)[inside], atol=1e-9)


def modelled(seeds: range) -> list[tuple[Graph, Channelwise]]:
    found = []
    for seed in seeds:
        graph = random_network(seed)
        try:
            found.append((graph, channelwise(graph)))
        except ModeError:
            continue
    return found


@pytest.mark.parametrize("batch", range(10))
def test_increments_of_random_networks_are_signals_on_the_torus(batch: int) -> None:
    rng = np.random.default_rng(batch)
    known = modelled(range(30 * batch, 30 * batch + 30))
    assert len(known) > 15
    for graph, model in known:
        torus = Torus(graph, model)
        for size in (0.1, 1.0, 10.0):
            x = rng.standard_normal(graph.shape(graph.input))
            y = x + size * rng.standard_normal(x.shape)
            before, after = values(graph, x), values(graph, y)
            check_increments(graph, model, {node: after[node] - before[node] for node in before}, torus)


@pytest.mark.parametrize("batch", range(3))
def test_balls_enclose_the_rows(batch: int) -> None:
    for graph, model in modelled(range(20 * batch, 20 * batch + 20)):
        with precision(64):
            exact = channelwise(graph, BALLS)
        assert exact.cells == model.cells
        assert exact.sizes == model.sizes
        pairs = [(model.output, exact.output)]
        pairs += [(a.maps, b.maps) for a, b in zip(model.constraints, exact.constraints, strict=True)]
        for floats, balls in pairs:
            assert floats.keys() == balls.keys()
            for j, kernel in floats.items():
                enclosed = Enclosure.of(balls[j].coefficients)
                assert np.array_equal(kernel.shifts, balls[j].shifts)
                size = 1e-13 * (1 + np.abs(kernel.coefficients).max())
                assert np.all(np.abs(kernel.coefficients - enclosed.mid) <= enclosed.rad + size)


def test_what_does_not_apply_is_said() -> None:
    one = Convolution(np.ones((1, 1, 2)))
    with pytest.raises(ModeError, match="neuron"):
        channelwise(sequential((1, 4), [Flatten(), Relu()]))
    builder = GraphBuilder()
    node = builder.input((1, 5))
    left = builder.add(Convolution(np.ones((1, 1, 1)), strides=(2,)), node)
    right = builder.add(one, builder.add(one, node))
    with pytest.raises(ModeError, match="strides"):
        channelwise(builder.build(builder.add(Add((1, 1)), left, right)))
    builder = GraphBuilder()
    node = builder.add(one, builder.input((1, 5)))
    flat = [builder.add(Flatten(), name) for name in (node, builder.add(Relu(), node))]
    with pytest.raises(ModeError, match="one of them"):
        channelwise(builder.build(builder.add(Add((1, 1)), *flat)))
