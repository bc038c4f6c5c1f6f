"""An immutable graph of layers, and the builder that makes one."""

import dataclasses
import hashlib
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import networkx as nx
import numpy as np

from .arithmetic import FLOAT, Arithmetic, Array
from .errors import ModelError, ShapeError
from .layer import Layer, Shape
from .linear import Input, Output


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A network: an acyclic directed graph with one input, one output, and a layer at each node.

    Build one with `GraphBuilder`, `sequential` or `load`.

    **Attributes:** `digraph`: a frozen `networkx.DiGraph`; node attributes are `layer`, `inputs` (names, in the order
    the layer takes them) and `shape` (without the batch axis). `order`: the nodes, every one after its inputs.
    """

    digraph: nx.DiGraph
    order: tuple[str, ...]
    name: str = "network"

    @property
    def input(self) -> str:
        return self.order[0]

    @property
    def output(self) -> str:
        return self.order[-1]

    def layer(self, node: str) -> Layer:
        layer: Layer = self.digraph.nodes[node]["layer"]
        return layer

    def inputs(self, node: str) -> tuple[str, ...]:
        names: tuple[str, ...] = self.digraph.nodes[node]["inputs"]
        return names

    def shape(self, node: str) -> Shape:
        shape: Shape = self.digraph.nodes[node]["shape"]
        return shape

    def input_shapes(self, node: str) -> tuple[Shape, ...]:
        return tuple(self.shape(name) for name in self.inputs(node))

    def values(self, x: Array, arithmetic: Arithmetic = FLOAT) -> dict[str, Array]:
        """The value of every node for a batch of inputs of shape (batch, *input shape)."""
        expected = self.shape(self.input)
        if tuple(x.shape[1:]) != expected:
            raise ShapeError(f"The network takes a batch of inputs of shape (batch, {', '.join(map(str, expected))}), "
                             f"got {tuple(x.shape)}.")
        values = {self.input: x}
        for node in self.order[1:]:
            inputs = (values[name] for name in self.inputs(node))
            values[node] = self.layer(node).forward(*inputs, arithmetic=arithmetic)
        return values

    def forward(self, x: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        """The network's value for a batch of inputs."""
        return self.values(x, arithmetic)[self.output]

    @property
    def digest(self) -> str:
        """SHA-256 over the layers, their parameters and their connections; names do not enter.

        Computed anew each time: nodes' attributes can be assigned to, and a stale digest would name another network.
        """
        index = {node: str(position) for position, node in enumerate(self.order)}
        state = hashlib.sha256(b"netgain graph 1")
        for node in self.order:
            layer = self.layer(node)
            absorb(state, type(layer).__name__)
            absorb(state, [index[name] for name in self.inputs(node)])
            absorb(state, layer.parameters())
        return state.hexdigest()


def absorb(state: Any, value: Any) -> None:
    """Feeds a value to the hash, with its type and length, so that no two values share an encoding."""
    if isinstance(value, np.ndarray):
        kind, payload = f"array {value.dtype.str} {value.shape}", np.ascontiguousarray(value).tobytes()
    elif isinstance(value, bool | int | str) or value is None:
        kind, payload = type(value).__name__, str(value).encode()
    elif isinstance(value, float):
        kind, payload = "float", struct.pack("<d", value)
    elif isinstance(value, Mapping):
        kind, payload = "mapping", b""
        value = [item for pair in value.items() for item in pair]
    elif isinstance(value, list | tuple):
        kind, payload = "sequence", b""
    else:
        raise TypeError(f"A layer's parameter of type {type(value).__name__} has no canonical encoding.")
    state.update(f"{kind}:{len(payload) or len(value) if hasattr(value, '__len__') else len(payload)};".encode())
    state.update(payload)
    if kind in ("mapping", "sequence"):
        for item in value:
            absorb(state, item)


class GraphBuilder:
    """Collects layers in order; each is checked against the shapes it is fed.

    ```
    builder = GraphBuilder()
    u = builder.input((784,))
    h = builder.add(Relu(), builder.add(Affine(W1, b1), u))
    graph = builder.build(builder.add(Affine(W2, b2), h))
    ```
    """

    def __init__(self) -> None:
        self._digraph = nx.DiGraph()
        self._order: list[str] = []

    def input(self, shape: Iterable[int], name: str = "input") -> str:
        """The network's input, of this shape (without the batch axis).

        **Raises:** `ModelError` if there is one already, or an axis is empty.
        """
        if self._order:
            raise ModelError(f"A network has one input; {self._order[0]!r} is declared already.")
        shape = tuple(int(size) for size in shape)
        if any(size < 1 for size in shape):
            raise ShapeError(f"Every axis of the input needs at least one entry, got {shape}.")
        return self._insert(Input(shape), (), shape, name)

    def add(self, layer: Layer, *inputs: str, name: str | None = None) -> str:
        """Adds a layer fed by the named nodes and returns its name.

        **Raises:** `ModelError` for an unknown input or a name in use; `ShapeError` if shapes do not fit.
        """
        unknown = [node for node in inputs if node not in self._digraph]
        if unknown or not inputs:
            raise ModelError(f"{layer.describe()} needs existing nodes as its inputs, got {list(inputs)}.")
        name = name or self._fresh(type(layer).__name__.lower())
        if name in self._digraph:
            raise ModelError(f"Two nodes are called {name!r}; names must be unique.")
        try:
            shape = layer.output_shape(*(self.shape(node) for node in inputs))
        except ShapeError as error:
            raise ShapeError(f"Layer {name!r} after {', '.join(map(repr, inputs))}: {error}") from None
        return self._insert(layer, inputs, shape, name)

    def shape(self, node: str) -> Shape:
        shape: Shape = self._digraph.nodes[node]["shape"]
        return shape

    def build(self, output: str, name: str = "network") -> Graph:
        """The graph whose output is `output`; layers that do not lead to it are left out."""
        if not self._order:
            raise ModelError("A network needs an input.")
        if output not in self._digraph:
            raise ModelError(f"The output {output!r} is no node of the network.")
        if not nx.has_path(self._digraph, self._order[0], output):
            raise ModelError(f"The output {output!r} does not depend on the input {self._order[0]!r}.")
        sink = self.add(Output(), output, name=self._fresh("output"))
        kept = nx.ancestors(self._digraph, sink) | {sink}
        digraph = nx.freeze(self._digraph.subgraph(kept).copy())
        order = tuple(node for node in self._order if node in kept)
        self._digraph.remove_node(sink)
        self._order.remove(sink)
        return Graph(digraph, order, name)

    def _fresh(self, stem: str) -> str:
        name, count = stem, 1
        while name in self._digraph:
            count += 1
            name = f"{stem}_{count}"
        return name

    def _insert(self, layer: Layer, inputs: tuple[str, ...], shape: Shape, name: str) -> str:
        self._digraph.add_node(name, layer=layer, inputs=inputs, shape=shape)
        self._digraph.add_edges_from((node, name) for node in inputs)
        self._order.append(name)
        return name


def sequential(shape: Iterable[int], layers: Iterable[Layer], name: str = "network") -> Graph:
    """The graph of layers applied one after the other to an input of this shape."""
    builder = GraphBuilder()
    node = builder.input(shape)
    for layer in layers:
        node = builder.add(layer, node)
    return builder.build(node, name)
