"""One application of an ATen operator, as the operator table sees it. Nothing here imports torch before it is used."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ..layer import Layer
from . import onnx_activations, onnx_linear, onnx_shapes, onnx_windows
from .onnx_values import Emitter, Operation, Refusal, Tensor, Value, indices

if TYPE_CHECKING:
    import torch

_OPSET = 17
_ONNX: dict[str, Callable[[Operation], Any]] = {
    **onnx_shapes.OPERATORS, **onnx_linear.OPERATORS, **onnx_windows.OPERATORS, **onnx_activations.OPERATORS,
}

Results = Value | list[Value]
"""What a handler returns; a list for an operator with several results."""


def element_code(dtype: Any) -> int:
    """ONNX's number for a type of torch.

    **Raises:** `Refusal` for a type in which a network computes another function.
    """
    import torch

    codes = {torch.float32: onnx.TensorProto.FLOAT, torch.float64: onnx.TensorProto.DOUBLE,
             torch.int64: onnx.TensorProto.INT64, torch.int32: onnx.TensorProto.INT32,
             torch.bool: onnx.TensorProto.BOOL}
    if dtype not in codes:
        raise Refusal(f"its result is {dtype}: a network in this type computes another function")
    return int(codes[dtype])


class AtenOperation:
    """A node of an exported program with its arguments, bound to the names of the operator's schema.

    Arguments that are values of other nodes are given as such. Every argument that is read is crossed off; `finish`
    refuses the node if one is left that is not at its default, since it is a part of the map that nobody modelled.
    """

    def __init__(self, node: Any, values: dict[str, Any], emitter: Emitter, samples: int) -> None:
        self.node = node
        self.label: str = node.name
        self.emitter = emitter
        self.samples = samples
        """The size of the batch axis in the program."""
        self._values = values
        self._schema = node.target._schema.arguments
        given = {argument.name: value for argument, value in zip(self._schema, node.args, strict=False)}
        self._arguments = {**given, **node.kwargs}

    def finish(self) -> None:
        defaults = {a.name: a.default_value for a in self._schema if a.has_default_value()}
        left = {name: value for name, value in self._arguments.items()
                if name not in defaults or value != defaults[name]}
        if left:
            raise Refusal("argument(s) not understood: " + ", ".join(f"{n} = {v}" for n, v in sorted(left.items())))

    def ignore(self, *names: str) -> None:
        """Crosses off arguments that do not change the result."""
        for name in names:
            self._arguments.pop(name, None)

    def take(self, name: str) -> Any:
        """An argument, its default if it is not given; a value, or a list of values, if it is made by other nodes."""
        if name in self._arguments:
            return self._resolved(self._arguments.pop(name))
        return next(argument.default_value for argument in self._schema if argument.name == name)

    def _resolved(self, argument: Any) -> Any:
        if isinstance(argument, list | tuple):
            return [self._resolved(part) for part in argument]
        return self._values[argument.name] if hasattr(argument, "users") else argument

    def first(self) -> Value:
        """The argument in front."""
        value: Value = self.take(self._schema[0].name)
        return value

    def activation(self) -> Tensor:
        """The argument in front, which must depend on the network's input."""
        value = self.first()
        if not isinstance(value, Tensor):
            raise Refusal(CONSTANT)
        return value

    def array(self, name: str) -> np.ndarray | None:
        """An argument that must be a constant of real numbers; None if it is left out."""
        value = self.take(name)
        if isinstance(value, Tensor):
            raise Refusal(f"{name} depends on the network's input and must be a constant")
        if value is not None and value.dtype.kind != "f":
            raise Refusal(f"{name} is of type {value.dtype}, expected floating-point numbers")
        return None if value is None else np.asarray(value)

    def number(self, name: str, default: float | None = None) -> float:
        """A number in the code of the module, rounded to the type in which torch computes with it."""
        value = self.take(name)
        return self.rounded(default if value is None and default is not None else value)

    def rounded(self, value: Any) -> float:
        import torch

        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refusal(f"{value!r} is no real number")
        return float(np.float32(value)) if self.dtype() == torch.float32 else float(value)

    def whole(self, name: str, axes: int) -> tuple[int, ...]:
        """One whole number for each of so many axes; () if the argument is empty."""
        value = self.take(name)
        numbers = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not all(isinstance(n, int) for n in numbers) or len(numbers) not in (0, 1, axes):
            raise Refusal(f"{name} = {value}, expected one whole number, or {axes}")
        return numbers * axes if len(numbers) == 1 else numbers

    def results(self) -> list["torch.Tensor"]:
        """What torch says of the results: their shapes, batch axis included, and types."""
        value = self.node.meta["val"]
        return list(value) if isinstance(value, list | tuple) else [value]

    def dtype(self) -> Any:
        return self.results()[0].dtype

    def emit(self, layer: Layer, *inputs: Tensor) -> Tensor:
        return self.emitter.emit(layer, self.label, *inputs)

    def onnx(self, kind: str, *values: Value | None, **attributes: Any) -> Any:
        """What the importer of ONNX makes of an operator of the standard; attributes are whole numbers or texts."""
        operation = self._operation(kind, *values, **attributes)
        result = _ONNX[kind](operation)
        operation.finish()
        return result

    def rearrange(self, x: Value, rearranged: np.ndarray) -> Value:
        """x with its entries at the places that `rearranged`, made from `indices(x)`, says."""
        return self._operation("Identity", x).rearrange(x, rearranged)

    def axis(self, x: Tensor, axis: int) -> int:
        """An axis of the program as one of `x.shape`, counted from the end."""
        return self._operation("Identity", x).axis(x, axis) - len(x.shape)

    def _operation(self, kind: str, *values: Value | None, **attributes: Any) -> Operation:
        names = [f"argument {position}" for position in range(len(values))]
        node = onnx.helper.make_node(kind, names, [self.label], self.label, **attributes)
        shared = any(len(fed.users) > 1 for fed in self.node.all_input_nodes
                     if isinstance(self._values.get(fed.name), Tensor))
        return Operation(node, list(values), _OPSET, self.emitter, shared)

    def moved(self, x: Value) -> list[np.ndarray]:
        """Where the operator, applied to x in front and to constants, puts the entries of x: torch moves their indices.

        Returns, for every result, an array made from `indices(x)`.

        **Raises:** `Refusal` if a result has no batch axis in front, or one in which samples do not stay apart.
        """
        import torch

        places = indices(x)
        if isinstance(x, Tensor):
            places = np.stack([places + sample * places.size for sample in range(self.samples)])
        source = self.node.all_input_nodes[0]

        def argument(fed: Any) -> Any:
            value = places.astype(np.float64) if fed is source else self._values[fed.name]
            if isinstance(value, Tensor):
                raise Refusal("where it moves entries depends on the network's input")
            return torch.from_numpy(np.array(value))

        arguments, options = torch.fx.node.map_arg((self.node.args, self.node.kwargs), argument)
        self.ignore(*list(self._arguments))
        value = self.node.target(*arguments, **options)
        found = [part.numpy().astype(np.int64) for part in (value if isinstance(value, list | tuple) else [value])]
        return [self._per_sample(part, x) for part in found] if isinstance(x, Tensor) else found

    def _per_sample(self, moved: np.ndarray, x: Tensor) -> np.ndarray:
        size = indices(x).size
        apart = moved.ndim > 0 and len(moved) == self.samples and all(
            np.array_equal(moved[sample] - sample * size, moved[0]) for sample in range(self.samples))
        if not apart:
            raise Refusal(f"it moves or mixes the batch axis: {self.samples} samples of shape {tuple(x.shape)} become "
                          f"{moved.shape}")
        return np.array(moved[0])


CONSTANT = ("it computes constants from constants, which is not done exactly here. If it is a part of a weight or "
            "spectral normalisation, call torch.nn.utils.parametrize.remove_parametrizations(module, name) first")
