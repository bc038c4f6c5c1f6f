"""From a torch module to a graph of layers, through `torch.export`; torch is imported when it is asked for."""

import operator
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ..errors import MismatchError, ModelError, UnsupportedModelError
from ..graph import Graph
from ..linear import Select
from . import aten_activations, aten_linear
from .agreement import DOUBLE_TOLERANCE, SINGLE_TOLERANCE, compare, sample_inputs
from .aten_values import CONSTANT, AtenOperation, element_code
from .onnx_values import Emitter, Refusal, Tensor, Value

if TYPE_CHECKING:
    import torch

OPERATORS = {**aten_linear.OPERATORS, **aten_activations.OPERATORS}
"""What each ATen operator means, by its name and overload."""

_ADVICE = "write it with operators that have an exact meaning here (README.md, Models, lists them by their ONNX names)"

_HINTS = {
    **dict.fromkeys(("aten.layer_norm.default", "aten.native_layer_norm.default", "aten.group_norm.default",
                     "aten.native_group_norm.default", "aten.instance_norm.default"),
                    "it divides by a statistic of its input, which no slope interval bounds; use batch normalisation"),
    **dict.fromkeys(("aten.native_dropout.default", "aten.dropout.default", "aten.bernoulli.p",
                     "aten.bernoulli.default"),
                    "it drops entries at random, as in training; call module.eval(), or pass training=self.training to "
                    "a function"),
    **dict.fromkeys(("aten._native_batch_norm_legit_functional.default", "aten._native_batch_norm_legit.no_stats"),
                    "it uses the statistics of the batch, as in training; call module.eval(), and keep running "
                    "statistics"),
    **dict.fromkeys(("aten.rand.default", "aten.randn.default", "aten.rand_like.default", "aten.randn_like.default"),
                    "it is random; leave it out in evaluation mode"),
    "aten.scaled_dot_product_attention.default": "attention has no global Lipschitz constant",
}


def from_torch(module: "torch.nn.Module", example_input: "torch.Tensor") -> Graph:
    """The function a torch module computes, as a graph: traced by `torch.export`, exact, or refused.

    What is read is the program that `torch.export` makes of the module and an example, not the modules in it; weights
    are widened to float64 and never rounded. Numbers in the code (slopes, epsilon) count as rounded to the type torch
    computes in, as in an ONNX file. Control flow by values that do not depend on the input is followed, for the shape
    of the example. The graph is compared with the module itself on zero and random inputs before it is returned: as it
    is, and for float32, if it can be run so, with its parameters and buffers in float64.

    The module is neither changed nor switched to evaluation mode. Dropout and batch normalisation in training mode
    are refused, since what they compute is random or depends on the batch; call `module.eval()` first.

    **Arguments:** `example_input`: float32 or float64, shape (samples, *shape of one sample); one sample is enough.

    **Raises:** `ModelError` if torch is not installed, the module or the example is something else, the module cannot
    be traced with the example, has several outputs, or none that depends on the input; `UnsupportedModelError` listing
    every operator without an exact meaning here; `MismatchError` if the graph's values differ from the module's.
    """
    try:
        import torch
    except ImportError:
        raise ModelError("from_torch needs torch, which is not installed: pip install '.[torch]'.") from None
    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"from_torch takes a torch.nn.Module, got {type(module).__name__}.")
    name = type(module).__name__
    if not isinstance(example_input, torch.Tensor) or example_input.dtype not in (torch.float32, torch.float64):
        given = getattr(example_input, "dtype", type(example_input).__name__)
        raise ModelError(f"{name}: the example input is {given}, expected one torch.Tensor of float32 or float64.")
    if example_input.ndim < 2 or 0 in example_input.shape:
        raise ModelError(f"{name}: the example input has shape {tuple(example_input.shape)}, expected (samples, *shape "
                         "of one sample) without empty axes; give one sample a batch axis by example_input[None].")
    example = example_input.detach()
    graph = _Import(_program(module, example, name), example, name).run()
    _check_agreement(graph, module, example, name)
    return graph


def _program(module: "torch.nn.Module", example: "torch.Tensor", name: str) -> Any:
    """The exported program, free of changes in place; operators that torch composes of others are kept."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about its own code
        try:
            return torch.export.export(module, (example,), strict=False).run_decompositions({})
        except Exception as error:  # tracing runs the module, which may raise anything
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(
                f"{name}: torch.export cannot trace the module with an example input of shape {tuple(example.shape)} "
                f"and type {example.dtype}: {type(error).__name__}: {reason}. See that module(example_input) runs, and "
                "that its control flow does not depend on values of the input.") from error


class _Import:
    def __init__(self, program: Any, example: "torch.Tensor", name: str) -> None:
        self.program = program
        self.example = example
        self.name = name
        self.offenders: list[str] = []
        self.values: dict[str, Any] = {}
        self.source: Tensor | None = None
        self.emitter = Emitter(batched=True, batch_is_one=len(example) == 1)

    def run(self) -> Graph:
        import torch

        signature = self.program.graph_signature
        kinds = torch.export.graph_signature
        changed = [spec.target for spec in signature.output_specs
                   if spec.kind in (kinds.OutputKind.BUFFER_MUTATION, kinds.OutputKind.PARAMETER_MUTATION)]
        if changed:
            self.offenders.append(f"the module changes {', '.join(map(repr, changed))} whenever it is called, as in "
                                  "training; call module.eval() first")
        results = [spec.arg for spec in signature.output_specs if spec.kind == kinds.OutputKind.USER_OUTPUT]
        if len(results) != 1:
            raise ModelError(f"{self.name} returns {len(results)} values; a network has one output. Wrap the module in "
                             "one that returns the value you want bounded, or all of them concatenated.")
        nodes = {node.name: node for node in self.program.graph.nodes}
        target = getattr(results[0], "name", None)
        live = _ancestors(nodes[target]) if target in nodes else set()
        for node in self.program.graph.nodes:
            if node.name in live:
                self._visit(node)
        if self.offenders:
            raise UnsupportedModelError(self.name, self.offenders)
        result = self.values.get(target) if target else None
        if not isinstance(result, Tensor):
            raise ModelError(f"{self.name}: the output does not depend on the input.")
        return self.emitter.builder.build(result.node, self.name)

    def _visit(self, node: Any) -> None:
        """Emits the layers of a node; what stands in the way goes to the list of offenders."""
        where = f"node {node.name!r} ({node.target}){_place(node)}"
        try:
            if node.op == "placeholder":
                self.values[node.name] = self._given(node)
            elif node.target is operator.getitem:
                source, position = node.args
                self.values[node.name] = self._part(self.values.get(source.name), position)
            elif node.op != "call_function" or str(node.target) not in OPERATORS:
                raise Refusal(self._reason(node))
            elif all(self.values.get(fed.name) is not None for fed in node.all_input_nodes):
                self.values[node.name] = self._apply(node)
        except MismatchError:
            raise
        except (Refusal, ValueError, IndexError) as error:
            self.offenders.append(f"{where}: {error}")
            self.values[node.name] = self._stand_in(node)

    def _reason(self, node: Any) -> str:
        fed = [self.values.get(source.name) for source in node.all_input_nodes]
        if fed and all(isinstance(value, np.ndarray) for value in fed):
            return CONSTANT
        hint = _HINTS.get(str(node.target), _ADVICE)
        return f"the operator is not supported; {hint}"

    def _given(self, node: Any) -> Value:
        import torch

        signature = self.program.graph_signature
        if node.name in signature.user_inputs:
            code = element_code(self.example.dtype)
            self.source = self.emitter.input(node.name, tuple(self.example.shape[1:]), code)
            return self.source
        target = next(spec.target for spec in signature.input_specs if spec.arg.name == node.name)
        held = self.program.state_dict.get(target, self.program.constants.get(target))
        if not isinstance(held, torch.Tensor):
            raise Refusal(f"{target!r} is no tensor")
        if held.is_complex() or (held.is_floating_point() and held.dtype not in (torch.float32, torch.float64)):
            raise Refusal(f"{target!r} is {held.dtype}, expected float32 or float64; call module.float() first")
        return np.array(held.detach().cpu().numpy())

    def _part(self, value: Any, position: int) -> Value | None:
        if value is None:
            return None
        if position >= len(value):
            raise Refusal(f"result {position} of an operator is used, which has no meaning here")
        part: Value | None = value[position]
        return part

    def _apply(self, node: Any) -> Any:
        op = AtenOperation(node, self.values, self.emitter, len(self.example))
        value = OPERATORS[str(node.target)](op)
        op.finish()
        if not isinstance(value, list):
            return self._typed(value, op.results()[0])
        return [self._typed(part, told) for part, told in zip(value, op.results(), strict=False)]

    def _typed(self, value: Value, told: "torch.Tensor") -> Value:
        """The value with the type torch gives it.

        **Raises:** `Refusal` if torch rounds it to a shorter one; `MismatchError` if its shape is not torch's.
        """
        if isinstance(value, np.ndarray):
            return value
        code = element_code(told.dtype)
        if code not in (value.dtype, onnx.TensorProto.DOUBLE):
            raise Refusal(f"its result is {told.dtype}, which rounds or changes every entry")
        if value.shape != tuple(told.shape[1:]):
            raise MismatchError(f"{self.name}: a sample in {value.node!r} has shape {value.shape} where torch says "
                                f"{tuple(told.shape[1:])}. This is a fault of the importer; please report the module.")
        return Tensor(value.node, value.shape, code)

    def _stand_in(self, node: Any) -> Any:
        """A value of the right shape for a node that was refused, so that what comes after it is looked at as well.

        The graph is not returned then. None if the batch axis is lost.
        """
        told = node.meta.get("val")
        if isinstance(told, list | tuple):
            return [self._made_up(node, part) for part in told]
        return self._made_up(node, told)

    def _made_up(self, node: Any, told: Any) -> Value | None:
        shape = tuple(getattr(told, "shape", ()))
        fed = [self.values.get(source.name) for source in node.all_input_nodes]
        if fed and all(isinstance(value, np.ndarray) for value in fed):
            return np.ones(shape)
        if len(shape) == 0 or shape[0] != len(self.example) or 0 in shape or self.source is None:
            return None
        places = np.zeros(shape[1:], dtype=np.int64)
        return self.emitter.emit(Select(places, self.source.shape), node.name, self.source)


def _ancestors(node: Any) -> set[str]:
    """The names of a node and of all it is made from."""
    found, waiting = {node.name}, [node]
    while waiting:
        for fed in waiting.pop().all_input_nodes:
            if fed.name not in found:
                found.add(fed.name)
                waiting.append(fed)
    return found


def _place(node: Any) -> str:
    """Where in the module a node comes from, for messages."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return f" in {stack[-1][0]!r}" if stack and stack[-1][0] else ""


def _check_agreement(graph: Graph, module: "torch.nn.Module", example: "torch.Tensor", name: str) -> None:
    """Compares the graph with the module, as it is and with float64 for float32.

    **Raises:** `MismatchError` with the figures; `ModelError` if the module gave no finite values to compare with.
    """
    import torch

    samples = sample_inputs(graph.shape(graph.input), str(example.dtype).removeprefix("torch."))
    with np.errstate(all="ignore"):
        values = graph.values(samples)
    expected = values[graph.output]
    single = example.dtype == torch.float32
    try:
        found = _evaluated(module, {}, samples, example)
    except RuntimeError as error:  # tracing does not notice everything
        raise ModelError(f"{name} can be traced, but not run on inputs of shape {tuple(example.shape)} and type "
                         f"{example.dtype}: {error}") from error
    ran = compare("the module", expected, found, values, SINGLE_TOLERANCE if single else DOUBLE_TOLERANCE, name)
    if single:
        held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        widened = {key: value.detach().double() for key, value in held.items() if value.is_floating_point()}
        try:
            precise = _evaluated(module, widened, samples, example.double())
        except RuntimeError:  # types that the module's code fixes, so that it gives no verdict in float64
            precise = None
        if precise is not None:
            compare("the module in float64", expected, precise, values, DOUBLE_TOLERANCE, name)
    if not ran:
        raise ModelError(f"{name} does not give finite values at zero, so the graph cannot be compared with it.")


def _evaluated(module: "torch.nn.Module", held: dict[str, "torch.Tensor"], samples: np.ndarray,
               example: "torch.Tensor") -> np.ndarray:
    """The module's values, in batches as large as the example, the last one filled up with zeros."""
    import torch

    size = len(example)
    filled = np.concatenate([samples, np.zeros((-len(samples) % size, *samples.shape[1:]))])
    inputs = torch.from_numpy(filled).to(example)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = [torch.func.functional_call(module, held, (part.clone(),)) for part in torch.split(inputs, size)]
    return np.asarray(torch.cat([_only(part) for part in parts]).cpu().numpy())[: len(samples)]


def _only(value: Any) -> Any:
    """The tensor in a value that `torch.export` found to hold one."""
    import torch

    leaves = torch.utils._pytree.tree_leaves(value)
    return next(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
