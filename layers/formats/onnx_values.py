"""What flows along the edges of an ONNX graph, and one operator application as the operator table sees it."""

import dataclasses
from typing import Any

import numpy as np
import onnx

from ..graph import GraphBuilder
from ..layer import Layer, Shape
from ..linear import Affine, Flatten, Reshape, Select
from .onnx_file import READABLE, array_of, element_type


class Refusal(Exception):
    """Why one node cannot be imported; the importer collects these."""


class _Batch:
    """The size of the batch axis, in a constant made by `Shape`."""

    def __repr__(self) -> str:
        return "batch"


BATCH = _Batch()


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A value that depends on the network's input.

    **Attributes:** `node`: its node in the graph being built; `shape`: without the batch axis, if the model has one;
    `dtype`: the element type in the file.
    """

    node: str
    shape: Shape
    dtype: int


Value = Tensor | np.ndarray
"""An activation, or a constant known exactly: float32, float64, integers, booleans, or integers mixed with `BATCH`."""


class Emitter:
    """The graph under construction.

    **Attributes:** `batched`: whether axis 0 of every activation is the batch axis; `batch_is_one`: whether the file
    fixes it to one sample.
    """

    def __init__(self, *, batched: bool, batch_is_one: bool) -> None:
        self.builder = GraphBuilder()
        self.batched = batched
        self.batch_is_one = batch_is_one
        self.builder_input = ""
        self._layers: dict[str, tuple[Layer, tuple[str, ...]]] = {}

    def emit(self, layer: Layer, label: str, *inputs: Tensor) -> Tensor:
        """Adds a layer, under a name made from `label`."""
        nodes = tuple(tensor.node for tensor in inputs)
        name, count = label, 1
        while name in self._layers or name == self.builder_input:
            count += 1
            name = f"{label}_{count}"
        node = self.builder.add(layer, *nodes, name=name)
        self._layers[node] = (layer, nodes)
        return Tensor(node, self.builder.shape(node), inputs[0].dtype)

    def input(self, name: str, shape: Shape, dtype: int) -> Tensor:
        self.builder_input = self.builder.input(shape, name)
        return Tensor(self.builder_input, shape, dtype)

    def maker(self, node: str) -> tuple[Layer | None, tuple[str, ...]]:
        """The layer whose value the node is, and the nodes that feed it; None for the network's input."""
        return self._layers.get(node, (None, ()))

    def bare_affine(self, x: Tensor) -> tuple[Affine, Tensor] | None:
        """The affine layer without bias that makes x, and the layer's input; None if x is made otherwise."""
        layer, inputs = self.maker(x.node)
        if not isinstance(layer, Affine) or layer.bias is not None:
            return None
        return layer, Tensor(inputs[0], self.builder.shape(inputs[0]), x.dtype)


class Operation:
    """A node of the file with its values, ready for the operator table.

    Every attribute that is read is crossed off; `finish` refuses the node if one is left, since an attribute nobody
    read is a part of the map nobody modelled.
    """

    def __init__(
        self, node: onnx.NodeProto, inputs: list[Value | None], opset: int, emitter: Emitter, shared: bool
    ) -> None:
        self.node = node
        self.kind = node.op_type
        self.label = node.name or (node.output[0] if node.output else node.op_type)
        self.inputs = inputs
        self.opset = opset
        self.emitter = emitter
        self.input_is_shared = shared
        """Whether another node, or the model's output, also uses this node's activation."""
        self._attributes = {attribute.name: attribute for attribute in node.attribute}

    def finish(self) -> None:
        if self._attributes:
            names = ", ".join(f"{name} = {_show(a)}" for name, a in sorted(self._attributes.items()))
            raise Refusal(f"attribute(s) not understood in operator set {self.opset}: {names}")

    def has_attribute(self, name: str) -> bool:
        return name in self._attributes

    def _take(self, name: str, kind: int, default: Any) -> Any:
        if name not in self._attributes:
            return default
        attribute = self._attributes.pop(name)
        if attribute.type != kind or attribute.ref_attr_name:
            raise Refusal(f"attribute {name} is not of the type the standard gives it")
        return onnx.helper.get_attribute_value(attribute)

    def integer(self, name: str, default: Any = None) -> Any:
        return self._take(name, onnx.AttributeProto.INT, default)

    def integers(self, name: str, default: Any = None) -> Any:
        value = self._take(name, onnx.AttributeProto.INTS, default)
        return value if value is None else list(value)

    def floating(self, name: str, default: float) -> float:
        """A float32 attribute, widened; a default is rounded to float32 first, as the runtimes do."""
        return float(self._take(name, onnx.AttributeProto.FLOAT, float(np.float32(default))))

    def floats(self, name: str) -> Any:
        return self._take(name, onnx.AttributeProto.FLOATS, None)

    def text(self, name: str, default: str) -> str:
        return bytes(self._take(name, onnx.AttributeProto.STRING, default.encode())).decode()

    def stored(self, name: str) -> np.ndarray | None:
        tensor = self._take(name, onnx.AttributeProto.TENSOR, None)
        if tensor is None:
            return None
        if tensor.data_type not in READABLE:
            raise Refusal(f"attribute {name} holds {element_type(tensor.data_type)}")
        return array_of(tensor)

    def count(self, most: int, least: int = 1) -> None:
        given = len(self.inputs)
        if not least <= given <= most:
            raise Refusal(f"{given} inputs, expected {least} to {most}")

    def operand(self, position: int) -> Value:
        value = self.optional(position)
        if value is None:
            raise Refusal(f"input {position} is missing")
        return value

    def optional(self, position: int) -> Value | None:
        return self.inputs[position] if position < len(self.inputs) else None

    def activation(self, position: int = 0) -> Tensor:
        value = self.operand(position)
        if not isinstance(value, Tensor):
            raise Refusal(f"input {position} is a constant, and folding {self.kind} of constants is not exact")
        return value

    def constant(self, position: int) -> np.ndarray | None:
        """The constant at this input, None if there is none."""
        value = self.optional(position)
        if isinstance(value, Tensor):
            raise Refusal(f"input {position} ({self.node.input[position]!r}) must be a constant")
        return value

    def whole_numbers(self, position: int) -> list[int] | None:
        """The constant integers at this input; the batch size is none."""
        values = self.constant(position)
        if values is None:
            return None
        if values.dtype.kind not in "iu":
            raise Refusal(f"input {position} must hold integers that do not depend on the batch size, got "
                          f"{values.tolist()}")
        return [int(v) for v in values.ravel()]

    def emit(self, layer: Layer, *inputs: Tensor) -> Tensor:
        return self.emitter.emit(layer, self.label, *inputs)

    def leading(self, x: Value) -> int:
        """1 if axis 0 of x in the file is the batch axis, which `Tensor.shape` leaves out; else 0."""
        return int(self.emitter.batched) if isinstance(x, Tensor) else 0

    def rank(self, x: Value) -> int:
        """The number of axes in the file, batch axis included."""
        return len(x.shape) + self.leading(x)

    def axis(self, x: Value, axis: int, rank: int | None = None) -> int:
        """`axis` of the file as an axis of `x.shape`, in 0 .. rank.

        **Raises:** `Refusal` if it is the batch axis.
        """
        rank = self.rank(x) if rank is None else rank
        if not -rank <= axis < rank:
            raise Refusal(f"axis {axis} does not exist among {rank} axes")
        axis = axis % rank - self.leading(x)
        if axis < 0:
            raise Refusal("it acts on the batch axis, but samples must stay apart")
        return axis

    def rearrange(self, x: Value, rearranged: np.ndarray) -> Value:
        """The activation or constant with its entries at the places that `rearranged`, made from `indices(x)`, says."""
        if isinstance(x, np.ndarray):
            # Written into an array, since indexing with a scalar would return an element.
            result = np.empty(rearranged.shape, dtype=x.dtype)
            result[...] = x.ravel()[rearranged]
            return result
        if rearranged.shape == x.shape and _in_order(rearranged, x.shape):
            return x
        if 0 in rearranged.shape:
            raise Refusal(f"the result of shape {rearranged.shape} is empty")
        if _in_order(rearranged, x.shape):
            return self.emit(Flatten() if rearranged.ndim == 1 else Reshape(rearranged.shape), x)
        return self.emit(Select(rearranged, x.shape), x)


def indices(x: Value) -> np.ndarray:
    """The row-major index of every entry, in the shape of x."""
    size = int(np.prod(x.shape, dtype=np.int64))
    return np.arange(size).reshape(x.shape)


def _in_order(rearranged: np.ndarray, shape: Shape) -> bool:
    size = int(np.prod(shape, dtype=np.int64))
    return rearranged.size == size and bool(np.array_equal(rearranged.ravel(), np.arange(size)))


def _show(attribute: onnx.AttributeProto) -> str:
    return str(onnx.helper.printable_attribute(attribute)).partition("=")[2].strip()[:60] if attribute.type else "?"
