r"""From a layer graph to an inequality with one multiplier per channel: the same rows, shift by shift.

Every image is embedded in a torus, zero outside itself. Zero padding is then no operation at all, provided the torus
is so large that no window reads past the zeros into the other side of the image, and every convolution is circular.
Outside its image a layer's answer has to be zero although its input is not: mask and activation together answer
v_i with s_i v_i, where s_i lies in the slope interval inside the image and is 0 outside. So the interval, enlarged to
contain 0, holds at every pixel of the torus, and with one multiplier per channel the sum of the constraints over all
pixels is invariant under shifts. A linear layer's output is masked the same way (slopes in [0, 1]) where a later layer
reads beyond it; where none does, what lies outside cannot matter. The network's increments are among the signals so
described, hence a gain that holds for all of these holds for the network.

By Parseval's identity the inequality falls apart into one for each frequency of the torus. Strides and pooling are
covered by polyphase components, see `netgain.layers.shift_invariant`; what follows a flattening is the *head*, bounded
with one multiplier per neuron and joined by a metric Q on the channels of the tensor between: with v that tensor,

    rho |u|^2 >= sum over pixels of v^T Q v >= |y|^2.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from netgain.layers import (
    FLOAT,
    Activation,
    Arithmetic,
    FixedPoint,
    Graph,
    GraphBuilder,
    LinearLayer,
    MaxPool,
    ModelError,
)
from netgain.layers.layer import Layer, Shape
from netgain.layers.shift_invariant import Kernel, Rate, Stencil, add, compose, identity, polyphase

from .constraints import Rows, constraint_rows


class ModeError(ModelError):
    """The realisation asked for does not apply to this network; the text names one that does."""


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelRows:
    """One nonlinear layer, or a mask.

    **Attributes:** `maps`: A_kj by source block; `lower`, `upper`: slopes of each row, 0 among them; `channel`: the
    multiplier of each row; `kept`: rows that have an answer, in the order of the block, None for all (as in
    `netgain.solvers.inequality.SlopeConstraint`).
    """

    node: str
    maps: Mapping[int, Kernel]
    lower: np.ndarray
    upper: np.ndarray
    channel: np.ndarray
    kept: np.ndarray | None = None

    @property
    def size(self) -> int:
        return len(self.lower) if self.kept is None else len(self.kept)

    @property
    def channels(self) -> int:
        """The number of multipliers."""
        return int(self.channel[-1]) + 1


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """What follows the flattening: `rows` with one multiplier per neuron, block 0 being the tensor (channels, pixels)
    at `node`, flattened."""

    node: str
    rows: Rows
    channels: int
    pixels: int


@dataclasses.dataclass(frozen=True, eq=False)
class Channelwise:
    """All rows of the shift-invariant part, and the head.

    **Attributes:** `cells`: the torus, in cells of the coarsest grid along each axis; `input_size`: components of the
    input in a cell; `output`: C_j by block of the last tensor, which the head reads if there is one; `phases`: its
    pixels in a cell, components being ordered by channel, then phase.
    """

    cells: tuple[int, ...]
    input_size: int
    constraints: tuple[ChannelRows, ...]
    output: Mapping[int, Kernel]
    phases: int
    head: Head | None

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.input_size, *(rows.size for rows in self.constraints))


def channelwise(graph: Graph, arithmetic: Arithmetic = FLOAT, in_double: bool = False) -> Channelwise:
    """The rows of a graph that starts with layers which treat every pixel alike; `in_double` is that of
    `constraint_rows`, for the head.

    **Raises:** `ModeError` if it does not start so, or if what follows reads several of their outputs.
    """
    alike = _shift_invariant(graph)
    last = _interface(graph, alike)
    rates = _rates(graph, alike)
    coarsest = tuple(int(side) for side in np.lcm.reduce([rates[node] for node in alike], axis=0))
    walk = _Walk(graph, arithmetic, {node: tuple(map(int, np.array(coarsest) // rates[node])) for node in alike})
    for node in graph.order:
        if node in alike:
            walk.visit(node)
    head = None if last == graph.output else _head(graph, last, alike, arithmetic, in_double)
    return Channelwise(tuple(map(int, walk.cells)), walk.sizes[0], tuple(walk.constraints), walk.kernels(last),
                       math.prod(walk.rates[last]), head)


def _shift_invariant(graph: Graph) -> dict[str, Layer]:
    """The nodes that depend on the input through layers that treat every pixel alike, the input included."""
    found: dict[str, Layer] = {}
    if implicit := [node for node in graph.order if isinstance(graph.layer(node), FixedPoint)]:
        raise ModeError(f"Implicit layers ({', '.join(map(repr, implicit))}) take one multiplier per neuron: the mode "
                        "`neuron`.")
    if len(graph.shape(graph.input)) < 2:
        return found
    found[graph.input] = graph.layer(graph.input)
    for node in graph.order[1:]:
        layer, shapes = graph.layer(node), graph.input_shapes(node)
        if any(name not in found for name in graph.inputs(node)) or len(graph.shape(node)) != len(shapes[0]):
            continue
        if isinstance(layer, LinearLayer):
            known = all(layer.stencil(position, shapes) is not None for position in range(len(shapes)))
        else:
            known = isinstance(layer, MaxPool) or (
                isinstance(layer, Activation) and layer.slopes(graph.shape(node)).coupled == 1)
        if known:
            found[node] = layer
    return found


def _interface(graph: Graph, alike: dict[str, Layer]) -> str:
    """The node that what follows reads: the output itself where nothing follows."""
    read = {name for node in graph.order if node not in alike for name in graph.inputs(node) if name in alike}
    if graph.output in alike:
        read.add(graph.output)
    if not read or read == {graph.input}:
        raise ModeError(f"{graph.name} does not start with layers that treat every pixel of an image (channels, ..) "
                        "alike, so it has no multipliers per channel; use the mode `neuron`.")
    if len(read) > 1:
        raise ModeError(f"What follows the convolutional part of {graph.name} reads {', '.join(sorted(read))}; with "
                        "multipliers per channel it may read one of them. Use the mode `neuron`.")
    return read.pop()


def _rates(graph: Graph, alike: dict[str, Layer]) -> dict[str, np.ndarray]:
    """Pixels of the input to one of each node, along each axis."""
    rates: dict[str, np.ndarray] = {}
    for node, layer in alike.items():
        strides = np.ones(len(graph.shape(node)) - 1, dtype=np.int64)
        sources = [rates[name] for name in graph.inputs(node)]
        if isinstance(layer, MaxPool):
            strides = np.array(layer.strides)
        elif isinstance(layer, LinearLayer):
            strides = np.array(_stencil(layer, 0, graph.input_shapes(node), FLOAT).strides)
        if any(np.any(source != sources[0]) for source in sources):
            raise ModeError(f"{node!r} joins tensors of different strides; use the mode `neuron`.")
        rates[node] = strides * sources[0] if sources else strides
    return rates


def _stencil(layer: LinearLayer, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic) -> Stencil:
    stencil = layer.stencil(position, shapes, arithmetic)
    assert stencil is not None
    return stencil


class _Walk:
    """The walk along the shift-invariant part: the kernels of every node, and what must be masked.

    `masked[node]` tells whether the node's signal on the torus is zero outside its image.
    """

    def __init__(self, graph: Graph, arithmetic: Arithmetic, rates: dict[str, Rate]):
        self.graph, self.arithmetic, self.rates = graph, arithmetic, rates
        axes = len(graph.shape(graph.input)) - 1
        self.cells = np.ones(axes, dtype=np.int64)
        self.sizes = [graph.shape(graph.input)[0] * math.prod(map(int, rates[graph.input]))]
        self.constraints: list[ChannelRows] = []
        # A node that is a block of its own is kept as the block's number.
        self.coefficients: dict[str, dict[int, Kernel] | int] = {}
        self.masked: dict[str, bool] = {}

    def visit(self, node: str) -> None:
        layer, shape = self.graph.layer(node), self.graph.shape(node)
        self.enlarge(node, np.array(shape[1:]))
        if node == self.graph.input:
            self.coefficients[node], self.masked[node] = 0, True
        elif isinstance(layer, MaxPool):
            self.pool(node, layer)
        elif isinstance(layer, Activation):
            slopes = layer.slopes(shape)
            lower, upper = (np.broadcast_to(values, shape).reshape((shape[0], -1)) for values in
                            (slopes.lower, slopes.upper))
            self.answer(node, node, np.minimum(lower.min(axis=1), 0.0), np.maximum(upper.max(axis=1), 0.0))
        else:
            assert isinstance(layer, LinearLayer)
            self.combine(node, layer)

    def enlarge(self, node: str, pixels: np.ndarray) -> None:
        """Makes the torus hold so many pixels at the node's rate."""
        self.cells = np.maximum(self.cells, -(-pixels // np.array(self.rates[node])))

    def kernels(self, node: str) -> dict[int, Kernel]:
        coefficients = self.coefficients[node]
        if isinstance(coefficients, int):
            return {coefficients: identity(self.sizes[coefficients], len(self.cells))}
        return coefficients

    def answer(self, node: str, name: str, lower: np.ndarray, upper: np.ndarray) -> None:
        """A block of answers to the signal at the node's input, or to its own if it is masked."""
        source = node if node in self.coefficients else self.graph.inputs(node)[0]
        phases = math.prod(self.rates[node])
        upper = np.where(lower == upper, 1.0, upper)  # slopes of 0 alone: any wider interval is true of them
        rows = ChannelRows(name, self.kernels(source), np.repeat(lower, phases), np.repeat(upper, phases),
                           np.repeat(np.arange(len(lower)), phases))
        self.append(node, rows)

    def append(self, node: str, rows: ChannelRows) -> None:
        self.constraints.append(rows)
        self.sizes.append(rows.size)
        self.coefficients[node], self.masked[node] = len(self.constraints), True

    def pool(self, node: str, layer: MaxPool) -> None:
        """|max_i a_i - max_i b_i|^2 is at most the window's sum of squares; no pixel counts in more than `reuse`."""
        (source,), (shape,) = self.graph.inputs(node), self.graph.input_shapes(node)
        gain = math.nextafter(math.sqrt(layer.reuse(shape)), math.inf)
        before, after = math.prod(self.rates[source]), math.prod(self.rates[node])
        rows = before * shape[0]
        kept = (np.arange(shape[0])[:, None] * before + np.arange(after)).ravel()
        self.append(node, ChannelRows(node, self.kernels(source), np.full(rows, -gain), np.full(rows, gain),
                                      np.repeat(np.arange(shape[0]), before), kept))

    def combine(self, node: str, layer: LinearLayer) -> None:
        shapes = self.graph.input_shapes(node)
        parts: dict[int, list[Kernel]] = {}
        stencils = [_stencil(layer, position, shapes, self.arithmetic) for position in range(len(shapes))]
        for name, shape, stencil in zip(self.graph.inputs(node), shapes, stencils, strict=True):
            self.make_room(name, node, shape, stencil)
        clean = all(self.masked[name] for name in self.graph.inputs(node))
        for name, stencil in zip(self.graph.inputs(node), stencils, strict=True):
            kernel = polyphase(stencil, self.rates[node], self.arithmetic)
            coefficients = self.coefficients[name]
            if isinstance(coefficients, int):
                parts.setdefault(coefficients, []).append(kernel)
                continue
            for block, inner in coefficients.items():
                parts.setdefault(block, []).append(compose(kernel, inner, self.arithmetic))
        self.coefficients[node] = {
            block: kernels[0] if len(kernels) == 1 else add(kernels, self.arithmetic)
            for block, kernels in parts.items()
        }
        # Only what mixes no pixels keeps zeros where they are.
        self.masked[node] = clean and all(not np.any(s.offsets) and set(s.strides) == {1} for s in stencils)

    def make_room(self, name: str, node: str, shape: Shape, stencil: Stencil) -> None:
        """Enlarges the torus so that no window reads around it, and masks a signal that is read outside its image."""
        pixels, windows = np.array(shape[1:]), np.array(self.graph.shape(node)[1:])
        first = stencil.offsets.min(axis=0)
        final = (windows - 1) * stencil.strides + stencil.offsets.max(axis=0)
        self.enlarge(name, np.maximum(pixels - np.minimum(first, 0), np.maximum(final + 1, pixels)))
        if not self.masked[name] and (np.any(first < 0) or np.any(final >= pixels)):
            ones = np.ones(shape[0])
            self.answer(name, f"{name} (mask)", 0 * ones, ones)


def _head(graph: Graph, last: str, alike: dict[str, Layer], arithmetic: Arithmetic, in_double: bool = False) -> Head:
    builder = GraphBuilder()
    shape = graph.shape(last)
    names = {last: builder.input(shape)}
    for node in graph.order[:-1]:
        if node not in alike:
            names[node] = builder.add(graph.layer(node), *(names[name] for name in graph.inputs(node)), name=node)
    following = builder.build(names[graph.inputs(graph.output)[0]], graph.name)
    return Head(last, constraint_rows(following, arithmetic, in_double), shape[0], math.prod(shape[1:]))
