r"""Blocks of NAIS-Net: residual stages that read the block's input again at every stage, unrolled to a graph.

    x_{k+1} = x_k + h s(A_k x_k + B_k u + C_k),    k = 0, .., K - 1,    x_0 = 0;    the block maps u to x_K.

With the same weights at every stage the block is a dynamical system with a constant input, whose states, under
conditions that `netgain stability` proves, settle at an equilibrium that depends on u. Stages with weights of their own
are a residual network that is fed its input throughout.

Source: Ciccone, Gallieri, Masci, Osendorfer, Gomez, NAIS-Net, arXiv 1804.07209.
"""

import dataclasses
import enum
import math
from typing import Any

import numpy as np

from .activation import Activation, Elementwise
from .arithmetic import FLOAT, Arithmetic, Array
from .convolution import Convolution
from .errors import ModelError, ShapeError
from .graph import Graph, GraphBuilder
from .layer import Layer, LinearLayer, Shape, parameter
from .linear import Add, Affine, Scale, Select
from .windows import wrapped_indices


class Border(enum.Enum):
    """What a convolution reads outside its image; the value is its name in files."""

    ZEROS = "zeros"
    CIRCULAR = "circular"


@dataclasses.dataclass(frozen=True, eq=False)
class StableBlock:
    """A fully connected or convolutional block.

    **Arguments:** `states`: A, one array that all stages share, or one for each of the `depth` stages: matrices (n, n),
    or kernels (channels, channels, *taps) with odd extents of the taps, their middle over the pixel itself; `inputs`:
    B, as many: (n, m), or (channels, channels of u, *taps); `offsets`: C, as many: (n,), or (channels,), or () for
    none; `activation`: s, elementwise with one slope interval for all neurons; `step`: h > 0; `depth`: K; `border`: of
    the convolutions, which keep the size of the image.

    **Raises:** `ModelError` or `ShapeError` saying what does not fit.
    """

    states: tuple[np.ndarray, ...]
    inputs: tuple[np.ndarray, ...]
    offsets: tuple[np.ndarray, ...]
    activation: Activation
    step: float
    depth: int
    border: Border = Border.ZEROS

    def __post_init__(self) -> None:
        for name, label in (("states", "A"), ("inputs", "B"), ("offsets", "C")):
            arrays = tuple(parameter(array, label) for array in getattr(self, name))
            object.__setattr__(self, name, arrays)
        if not isinstance(self.depth, int) or self.depth < 1:
            raise ModelError(f"The depth is the number of stages, a whole number from 1 on; got {self.depth!r}.")
        object.__setattr__(self, "step", float(self.step))
        if not 0 < self.step < math.inf:
            raise ModelError(f"The step h must be a positive number, got {self.step!r}.")
        count = len(self.states)
        if count not in (1, self.depth) or len(self.inputs) != count or len(self.offsets) not in (0, count):
            raise ShapeError(f"A block of {self.depth} stages has one A that they share or one for each, as many B, "
                             f"and as many C or none; got {count}, {len(self.inputs)} and {len(self.offsets)}.")
        self._require_shapes()
        slopes = self.activation.slopes(()) if isinstance(self.activation, Elementwise) else None
        if slopes is None or np.ndim(slopes.lower) or np.ndim(slopes.upper):
            raise ModelError("The activation of a block acts on each entry alone, with the same parameters for all; "
                             f"got {self.activation.describe()}.")

    def _require_shapes(self) -> None:
        a, b = self.states[0], self.inputs[0]
        if a.ndim < 2 or a.shape[0] != a.shape[1] or 0 in a.shape or any(extent % 2 == 0 for extent in a.shape[2:]):
            raise ShapeError("A must be a matrix (n, n), or a kernel (channels, channels, *taps) with odd extents of "
                             f"the taps; got the shape {a.shape}.")
        if b.ndim != a.ndim or len(b) != len(a) or 0 in b.shape or any(extent % 2 == 0 for extent in b.shape[2:]):
            what = f"({len(a)}, m)" if a.ndim == 2 else f"({len(a)}, channels of u, *taps), {a.ndim - 2} odd extents"
            raise ShapeError(f"B has the shape {b.shape}, expected {what} as A has {a.shape}.")
        for label, arrays, shape in (("A", self.states, a.shape), ("B", self.inputs, b.shape),
                                     ("C", self.offsets, a.shape[:1])):
            for array in arrays:
                if array.shape != shape:
                    raise ShapeError(f"{label} has the shape {array.shape} at some stage, expected {shape}.")

    @property
    def convolutional(self) -> bool:
        return self.states[0].ndim > 2

    @property
    def shared(self) -> bool:
        """Whether all stages have the same weights."""
        return len(self.states) == 1

    @property
    def slopes(self) -> tuple[float, float]:
        """The interval that holds every slope of s."""
        interval = self.activation.slopes(())
        return float(interval.lower), float(interval.upper)

    def state_shape(self, input_shape: Shape) -> Shape:
        """The shape of x for an input of this shape.

        **Raises:** `ShapeError` if the input does not fit.
        """
        a, b = self.states[0], self.inputs[0]
        if len(input_shape) != a.ndim - 1 or input_shape[0] != b.shape[1]:
            what = f"({b.shape[1]},)" if a.ndim == 2 else f"({b.shape[1]}, *{a.ndim - 2} spatial axes)"
            raise ShapeError(f"This block takes an input of shape {what}, got {input_shape}.")
        small = [max(x, y) // 2 for x, y in zip(a.shape[2:], b.shape[2:], strict=True)]
        circular = self.border is Border.CIRCULAR
        if circular and any(size < reach for size, reach in zip(input_shape[1:], small, strict=True)):
            raise ShapeError(f"The image {input_shape[1:]} is too small to be wrapped around these taps.")
        return (len(a), *input_shape[1:])

    def stage(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """A, B and C of stage k, counted from 0."""
        k = 0 if self.shared else k
        return self.states[k], self.inputs[k], self.offsets[k] if self.offsets else None

    def linear(self, weight: np.ndarray, offset: np.ndarray | None, shape: Shape) -> list[LinearLayer]:
        """Layers that apply A or B, with C if given, to an array of this shape."""
        if not self.convolutional:
            return [Affine(weight, offset)]
        reach = tuple(extent // 2 for extent in weight.shape[2:])
        if self.border is Border.ZEROS:
            return [Convolution(weight, offset, padding=(reach, reach))]
        return [Select(wrapped_indices(shape, reach), shape), Convolution(weight, offset)]

    def matrices(self, input_shape: Shape, k: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A, B and C of stage k as matrices (n, n), (n, m) and a vector (n,), for the flattened state and input.

        Every entry is one of the weights or zero, except where taps wrapped around a small image meet and are added.
        """
        shape = self.state_shape(input_shape)
        a, b, c = self.stage(k)
        if not self.convolutional:
            return a, b, np.zeros(len(a)) if c is None else c
        n = math.prod(shape)
        matrices = []
        for weight, source in ((a, shape), (b, input_shape)):
            value = np.eye(math.prod(source)).reshape(-1, *source)
            for layer in self.linear(weight, None, source):
                value = layer.apply(value, 0, (tuple(value.shape[1:]),))
            matrices.append(np.ascontiguousarray(value.reshape(-1, n).T))
        offset = np.zeros(shape) if c is None else c.reshape((-1,) + (1,) * (len(shape) - 1)) + np.zeros(shape)
        return matrices[0], matrices[1], offset.ravel()

    def advance(self, x: Array, u: Array, k: int = 0, arithmetic: Arithmetic = FLOAT) -> Array:
        """x_{k+1} of batches x and u."""
        a, b, c = self.stage(k)
        total: Array = None
        for weight, offset, value in ((a, None, x), (b, c, u)):
            for layer in self.linear(weight, offset, tuple(value.shape[1:])):
                value = layer.forward(value, arithmetic=arithmetic)
            total = value if total is None else total + value
        return x + self.activation.value(total, arithmetic) * arithmetic.constant(self.step)

    def states_of(self, u: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """x_0, .., x_K for a batch of inputs, shape (K + 1, batch, *state)."""
        shape = self.state_shape(tuple(u.shape[1:]))
        x = np.zeros((len(u), *shape)) if start is None else start
        states = [x]
        for k in range(self.depth):
            x = self.advance(x, u, k)
            states.append(x)
        return np.array(states)

    def add_to(self, builder: GraphBuilder, u: str, depth: int | None = None) -> str:
        """Unrolls the block, or its first `depth` stages, onto a graph; returns the node of the last state.

        **Raises:** `ModelError` for more stages than there are weights.
        """
        depth = self.depth if depth is None else depth
        if depth < 1 or not (self.shared or depth <= self.depth):
            raise ModelError(f"A block of {self.depth} stages with weights of their own has no {depth} stages.")
        input_shape = builder.shape(u)
        shape, fed, x = self.state_shape(input_shape), "", ""

        def chain(weight: np.ndarray, offset: np.ndarray | None, node: str, source: Shape) -> str:
            for layer in self.linear(weight, offset, source):
                node = builder.add(layer, node)
            return node

        for k in range(depth):
            a, b, c = self.stage(k)
            if k == 0 or not self.shared:
                fed = chain(b, c, u, input_shape)
            v = builder.add(Add((1, 1)), chain(a, None, x, shape), fed) if x else fed
            change = builder.add(self.activation, v)
            if self.step != 1:
                change = builder.add(Scale(multiplier=self.step), change)
            x = builder.add(Add((1, 1)), x, change) if x else change
        return x

    def graph(self, input_shape: Shape, depth: int | None = None, name: str = "block") -> Graph:
        """The block, or its first `depth` stages, as a network."""
        builder = GraphBuilder()
        return builder.build(self.add_to(builder, builder.input(input_shape), depth), name)

    def graph_of_start(self, input_shape: Shape, name: str = "start") -> Graph:
        """The network x_0 -> x_K for u = 0. Its incremental constraints, by slopes alone, are those for any other u."""
        shape, builder = self.state_shape(input_shape), GraphBuilder()
        x = builder.input(shape)
        for k in range(self.depth):
            a, _, c = self.stage(k)
            change = x
            for layer in (*self.linear(a, c, shape), self.activation, Scale(multiplier=self.step)):
                change = builder.add(layer, change)
            x = builder.add(Add((1, 1)), x, change)
        return builder.build(x, name)

    def parameters(self) -> dict[str, Any]:
        """What determines the block, in a fixed order."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {"activation": type(self.activation).__name__, "of it": self.activation.parameters(),
                         "border": self.border.value}

    def describe(self) -> str:
        a, weights = self.states[0], "shared" if self.shared else "their own"
        size = f"{len(a)} channels, taps {'x'.join(map(str, a.shape[2:]))}" if self.convolutional else f"{len(a)} units"
        return f"block of {self.depth} stages with {weights} weights, {size}"


@dataclasses.dataclass(frozen=True, eq=False)
class StableNetwork:
    """Blocks and the layers between them, one after the other.

    **Attributes:** `parts`: layers of one input, and blocks; `input_shape`: of the network's input.

    **Raises:** `ShapeError` where a part does not fit what comes before it.
    """

    parts: tuple[Layer | StableBlock, ...]
    input_shape: Shape
    name: str = "network"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", tuple(self._shapes()))

    shapes: tuple[Shape, ...] = dataclasses.field(init=False, default=())
    """The shape before each part, and at last that of the output."""

    def _shapes(self) -> list[Shape]:
        shapes = [self.input_shape]
        for part in self.parts:
            block = isinstance(part, StableBlock)
            shapes.append(part.state_shape(shapes[-1]) if block else part.output_shape(shapes[-1]))  # type: ignore[union-attr]
        return shapes

    @property
    def blocks(self) -> tuple[tuple[StableBlock, Shape], ...]:
        """The blocks, and the shapes of their inputs."""
        pairs = zip(self.parts, self.shapes, strict=False)
        return tuple((part, shape) for part, shape in pairs if isinstance(part, StableBlock))

    def graph(self) -> Graph:
        """The network with every block unrolled."""
        builder = GraphBuilder()
        node = builder.input(self.input_shape)
        for part in self.parts:
            node = part.add_to(builder, node) if isinstance(part, StableBlock) else builder.add(part, node)
        return builder.build(node, self.name)
