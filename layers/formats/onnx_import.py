"""From an ONNX file to a graph of layers: exact, or refused with every reason at once."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx

from ..errors import ModelError, UnsupportedModelError
from ..graph import Graph
from ..layer import Shape
from . import onnx_activations, onnx_linear, onnx_shapes, onnx_windows
from .agreement import check_agreement
from .onnx_expressions import Expressions
from .onnx_file import READABLE, array_of, element_type, read_onnx
from .onnx_patterns import Match, find_match
from .onnx_values import Emitter, Operation, Refusal, Tensor, Value

OPERATORS = {
    **onnx_shapes.OPERATORS, **onnx_linear.OPERATORS, **onnx_windows.OPERATORS, **onnx_activations.OPERATORS,
}
"""What each operator means. A handler gets an `Operation`, emits layers and returns the node's value or values."""

FOLDABLE = onnx_shapes.OPERATORS.keys() | {"Add", "Sub", "Mul", "Div", "Neg"}

_HINTS = {
    "ConvTranspose": "transposed convolution is not supported yet",
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearMatMul", "MatMulInteger",
                     "QLinearConv", "ConvInteger"),
                    "a quantised network is piecewise constant; import the float network it was made from"),
    **dict.fromkeys(("Erf", "Exp", "Pow", "Reciprocal"),
                    "known only as a part of a decomposed activation, and this one was not recognised"),
    "Where": "a choice between values that may jump. If this is torch's Softplus, its threshold does make it jump, so "
             "no finite number bounds its slope; use beta = 1 or threshold = inf, which export as the smooth function",
}


def load_onnx(path: Path) -> Graph:
    """The network in an ONNX file, with exact semantics: weights are widened to float64 and never rounded.

    The first axis of the input is the batch axis if the file leaves its size open or says 1; a model whose input is a
    vector has none. An initialiser that is also listed as an input (a default, since IR version 4) is a constant.
    The graph is run against ONNX's reference evaluator, and ONNX Runtime if installed, before it is returned.

    **Raises:** `ModelError` for a damaged file, several inputs or outputs, or axes of unknown size;
    `UnsupportedModelError` listing every operator without an exact meaning here; `MismatchError` if the graph's values
    differ from the file's.
    """
    model = read_onnx(path)
    graph = _Import(model, path).run()
    check_agreement(graph, model, str(path))
    return graph


class _Import:
    def __init__(self, model: onnx.ModelProto, path: Path) -> None:
        self.path = path
        self.graph = model.graph
        self.opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) if any(
            entry.domain in ("", "ai.onnx") for entry in model.opset_import) else 0
        self.offenders: list[str] = []
        if any(function.domain in ("", "ai.onnx") for function in model.functions):
            self.offenders.append("the file redefines operators of the standard (model.functions)")
        if self.graph.sparse_initializer:
            names = ", ".join(tensor.values.name for tensor in self.graph.sparse_initializer)
            self.offenders.append(f"sparse initialisers: {names}")
        self.uses = Counter(name for node in self.graph.node for name in node.input)
        self.uses.update(output.name for output in self.graph.output)
        self.values: dict[str, Value] = {}
        self.failed: dict[str, str] = {}

    def run(self) -> Graph:
        source, shape, batched, batch_is_one, dtype = self._input()
        if len(self.graph.output) != 1:
            names = ", ".join(output.name for output in self.graph.output)
            raise ModelError(f"{self.path} has {len(self.graph.output)} outputs ({names}); a network has one. Export "
                             "the model with the output you want bounded, or with outputs concatenated.")
        target = self.graph.output[0].name
        self.emitter = Emitter(batched=batched, batch_is_one=batch_is_one)
        self._constants()
        constants = {name: value for name, value in self.values.items() if isinstance(value, np.ndarray)}
        self.values[source] = self.emitter.input(source, shape, dtype)
        producers = {name: node for node in self.graph.node for name in node.output if name}
        expressions = Expressions(producers, constants, self.uses, self.opset)
        live, matches = self._live(target, expressions)
        for position, node in enumerate(self.graph.node):
            if position in live:
                self._visit(node, matches.get(position))
        if self.offenders:
            raise UnsupportedModelError(str(self.path), self.offenders)
        result = self.values.get(target)
        if not isinstance(result, Tensor):
            raise ModelError(f"{self.path}: the output {target!r} does not depend on the input {source!r}.")
        return self.emitter.builder.build(result.node, self.path.stem)

    def _input(self) -> tuple[str, Shape, bool, bool, int]:
        """Name, shape of one sample, whether there is a batch axis, whether it is fixed to 1, and element type."""
        stored = {tensor.name for tensor in self.graph.initializer}
        inputs = [entry for entry in self.graph.input if entry.name not in stored]
        if len(inputs) != 1:
            names = ", ".join(entry.name for entry in inputs) or "none"
            raise ModelError(f"{self.path} has {len(inputs)} inputs ({names}); a network has one. Fix the others to "
                             "constants, or concatenate them, before exporting.")
        entry = inputs[0]
        kind = entry.type.tensor_type.elem_type
        if kind not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
            name = element_type(kind) if entry.type.HasField("tensor_type") else "no tensor"
            raise UnsupportedModelError(str(self.path), [f"input {entry.name!r} is {name}: only FLOAT and DOUBLE "
                                                         "networks compute what the reals do, up to rounding"])
        if not entry.type.tensor_type.HasField("shape"):
            raise ModelError(f"{self.path}: input {entry.name!r} has no shape; export the model with one.")
        axes = entry.type.tensor_type.shape.dim
        sizes = [axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None for axis in axes]
        shown = [size or axis.dim_param or "?" for size, axis in zip(sizes, axes, strict=True)]
        batched = len(sizes) > 1
        if not sizes or any(size is None for size in sizes[int(batched):]):
            raise ModelError(f"{self.path}: input {entry.name!r} has shape {shown}; besides the batch axis in front "
                             "it needs axes, all of fixed size. Export the model for one input size.")
        if batched and sizes[0] not in (None, 1):
            raise ModelError(f"{self.path}: input {entry.name!r} has shape {shown}, a batch of {sizes[0]} samples. "
                             "Export the model with a batch axis of open size (dynamic axes), or with a batch of 1.")
        shape = tuple(size for size in sizes[int(batched):] if size is not None)
        return entry.name, shape, batched, sizes[0] == 1, kind

    def _constants(self) -> None:
        """Initialisers, and what the file computes from constants alone."""
        for tensor in self.graph.initializer:
            if tensor.data_type in READABLE:
                self.values[tensor.name] = array_of(tensor)
            else:
                self.failed[tensor.name] = f"initialiser {tensor.name!r} holds {element_type(tensor.data_type)}"
                self.offenders.append(self.failed[tensor.name])
        for node in self.graph.node:
            foldable = node.op_type in FOLDABLE and node.domain in ("", "ai.onnx")
            if foldable and all(name in self.values for name in node.input if name):
                try:
                    self._apply(node)
                except (Refusal, ValueError, IndexError) as error:
                    # Kept for the case that the output depends on this node.
                    self.failed[node.output[0]] = str(error)

    def _live(self, target: str, expressions: Expressions) -> tuple[set[int], dict[int, Match]]:
        """The nodes the output needs, by position, and which of them end a decomposed activation."""
        needed, live, matches = {target}, set[int](), dict[int, Match]()
        for position in range(len(self.graph.node) - 1, -1, -1):
            node = self.graph.node[position]
            names = {name for name in node.output if name}
            if not names & needed or names <= self.values.keys():
                continue
            live.add(position)
            match = find_match(expressions, node)
            if match:
                matches[position] = match
            needed |= {match.root} if match else set(node.input)
        return live, matches

    def _visit(self, node: onnx.NodeProto, match: Match | None) -> None:
        """Emits the layers of a node; what stands in the way goes to the list of offenders."""
        label = node.name or (node.output[0] if node.output else "")
        where = f"node {label!r} ({node.op_type})"
        if node.domain not in ("", "ai.onnx"):
            self.offenders.append(f"{where}: the operator belongs to {node.domain!r}, not to the ONNX standard")
        elif node.op_type not in OPERATORS and match is None:
            hint = f": {_HINTS[node.op_type]}" if node.op_type in _HINTS else ""
            self.offenders.append(f"{where}: the operator is not supported{hint}")
        elif node.output[0] in self.failed:
            self.offenders.append(f"{where}: {self.failed[node.output[0]]}")
        elif match or all(name in self.values for name in node.input if name):
            try:
                self._apply(node, match)
            except (Refusal, ValueError, IndexError) as error:
                self.offenders.append(f"{where}: {error}")

    def _apply(self, node: onnx.NodeProto, match: Match | None = None) -> None:
        inputs = [self.values[name] if name else None for name in ([match.root] if match else node.input)]
        shared = any(self.uses[name] > 1 for name in node.input if isinstance(self.values.get(name), Tensor))
        op = Operation(node, inputs, self.opset, self.emitter, shared)
        if match:
            results = [self._apply_match(op, match)]
        else:
            value = OPERATORS[node.op_type](op)
            results = value if isinstance(value, list) else [value]
            op.finish()
        for position, name in enumerate(node.output):
            if position < len(results):
                self.values[name] = results[position]
            elif self.uses[name]:
                raise Refusal(f"its output {position} ({name!r}) is used, and has no meaning here")

    def _apply_match(self, op: Operation, match: Match) -> Value:
        x = op.activation()
        if match.most_axes > op.rank(x):
            raise Refusal(f"constants with {match.most_axes} axes add axes to an activation with {op.rank(x)}")
        for layer in match.layers:
            x = op.emit(layer, x)
        return x
