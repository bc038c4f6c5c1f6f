"""Whether a graph computes what an ONNX file says, asked of evaluators that share no code with the importer."""

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from ..errors import MismatchError, ModelError
from ..graph import Graph
from ..layer import Shape

SCALES = (0.1, 1.0, 10.0, 100.0)
SAMPLES = 3
SINGLE_TOLERANCE = (1e-3, 1e-5)
DOUBLE_TOLERANCE = (1e-6, 1e-7)
"""Differences allowed, relative to the largest output and to the largest activation. The evaluator in float64 still
computes erf, and a constant of HardSwish, in float32."""

Evaluator = Callable[[np.ndarray], np.ndarray]


def check_agreement(graph: Graph, model: onnx.ModelProto, source: str) -> None:
    """Compares the graph with ONNX's reference evaluator in the file's precision and in float64, and with ONNX Runtime.

    float64 sees wrong constants that float32 rounding would hide; the file as it is guards against a mistake in
    widening it. Inputs are seeded normal samples of several sizes and zero. ONNX Runtime takes part if it is installed
    and knows the file's operator set.

    **Raises:** `MismatchError` with the figures; `ModelError` if no evaluator could run the file.
    """
    entry = model.graph.input[[i.name for i in model.graph.input].index(graph.input)]
    axes = entry.type.tensor_type.shape.dim
    batched = len(axes) > 1
    dtype = onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
    shape = graph.shape(graph.input)
    samples = sample_inputs(shape, dtype)
    with np.errstate(all="ignore"):
        values = graph.values(samples)
    expected = values[graph.output]
    one_by_one = not batched or axes[0].dim_value == 1
    single = dtype == np.float32
    failures: list[str] = []
    ran = 0
    evaluators: list[tuple[str, Any, Any]] = [("ONNX's reference evaluator", _reference, dtype),
                                              ("ONNX Runtime", _runtime, dtype)]
    if single:
        evaluators.append(("ONNX's reference evaluator in float64", _reference_float64, np.float64))
    for name, make, element in evaluators:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                evaluate = make(model, entry.name)
                if evaluate is None:
                    continue
                found = _run(evaluate, samples.astype(element), batched, one_by_one)
            except Exception as error:  # the evaluators raise anything; an evaluator that cannot run gives no verdict
                failures.append(f"{name}: {type(error).__name__}: {error}")
                continue
        tolerance = SINGLE_TOLERANCE if element == np.float32 else DOUBLE_TOLERANCE
        ran += compare(name, expected, found, values, tolerance, source)
    if not ran:
        raise ModelError(f"{source} could not be run for comparison, so it is not trusted: " + "; ".join(failures))


def sample_inputs(shape: Shape, dtype: Any) -> np.ndarray:
    """Zero and seeded normal samples of several sizes, in float64.

    Both sides of a comparison must see the same inputs, so they are rounded to the precision of the other side.
    """
    random = np.random.default_rng(20260101)
    samples = np.concatenate([np.zeros((1, *shape)), *(s * random.standard_normal((SAMPLES, *shape)) for s in SCALES)])
    return samples.astype(dtype).astype(np.float64)


def _run(evaluate: Evaluator, samples: np.ndarray, batched: bool, one_by_one: bool) -> np.ndarray:
    if not one_by_one:
        return evaluate(samples)
    if batched:
        return np.concatenate([evaluate(sample[None]) for sample in samples])
    return np.stack([evaluate(sample) for sample in samples])


def compare(name: str, expected: np.ndarray, found: np.ndarray, values: dict[str, Any],
            tolerance: tuple[float, float], source: str) -> bool:
    """Whether the evaluator gave finite values to compare with; some of its formulas overflow for large inputs.

    **Raises:** `MismatchError` if they are not those that the graph gave.
    """
    if found.shape != expected.shape:
        raise MismatchError(f"{source}: for {len(expected)} samples the graph's output has shape {expected.shape}, "
                            f"that of {name} {found.shape}.")
    found = found.astype(np.float64)
    samples = len(expected)
    rows, other = expected.reshape(samples, -1), found.reshape(samples, -1)
    finite = np.isfinite(rows).all(axis=1) & np.isfinite(other).all(axis=1)
    if not finite.any() or not finite[0]:
        return False
    size = np.abs(rows).max(axis=1)
    activations = np.max([np.abs(value.reshape(samples, -1)).max(axis=1) for value in values.values()], axis=0)
    allowed = tolerance[0] * size + tolerance[1] * activations
    error = np.abs(rows - other).max(axis=1)
    worst = int(np.argmax(np.where(finite, error / np.maximum(allowed, 1e-300), -1.0)))
    if error[worst] > allowed[worst] + 1e-30:
        entry = int(np.argmax(np.abs(rows[worst] - other[worst])))
        raise MismatchError(
            f"{source}: the imported graph and {name} disagree. For sample {worst} of {samples} output {entry} is "
            f"{rows[worst, entry]!r} against {other[worst, entry]!r}; the difference {error[worst]:.3g} exceeds "
            f"{allowed[worst]:.3g}. This is a fault of the importer or of that evaluator; please report the model.")
    return True


def _reference(model: onnx.ModelProto, name: str) -> Evaluator:
    from onnx.reference import ReferenceEvaluator

    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    session = ReferenceEvaluator(model, new_ops=_mended_operators(opset))  # type: ignore[arg-type]
    return lambda x: np.asarray(session.run(None, {name: x})[0])  # type: ignore[index]


def _mended_operators(opset: int) -> list[Any]:
    """Operators that the standard, or an older version of it, defines otherwise than the evaluator computes them.

    Before version 14 it trains in BatchNormalization whenever it can; before version 13 Softmax joins all axes from
    `axis` on, which it does not. In AveragePool, where `ceil_mode` makes windows reach beyond the padding, it moves all
    of them by half of what is lacking; in MaxPool it reads SAME_LOWER as SAME_UPPER, with a window too few, and takes
    minutes for images.
    """
    from onnx.reference.ops import op_average_pool as average
    from onnx.reference.ops import op_batch_normalization as normalization
    from onnx.reference.ops import op_max_pool as maximum
    from onnx.reference.ops import op_pool_common as pooling
    from onnx.reference.ops import op_softmax as softmax

    class BatchNormalization(normalization.BatchNormalization_14):
        def _run(self, *arrays: Any, epsilon: Any = None, **_: Any) -> Any:  # type: ignore[override]
            return super()._run(*arrays, epsilon, None, 0)  # type: ignore[no-untyped-call,call-arg]

    class Softmax(softmax.Softmax):
        def _run(self, x: Any, axis: int = 1) -> Any:  # type: ignore[override]
            rows = int(np.prod(x.shape[: axis % x.ndim]))
            return (super()._run(x.reshape(rows, -1), axis=1)[0].reshape(x.shape),)  # type: ignore[no-untyped-call]

    class AveragePool(average.AveragePool_19):
        def _run(self, x: Any, **attributes: Any) -> Any:  # type: ignore[override]
            if not attributes.get("ceil_mode") or attributes.get("auto_pad", "NOTSET") != "NOTSET":
                return super()._run(x, **attributes)  # type: ignore[no-untyped-call]
            kernel, strides, dilations = (attributes.get(name) for name in ("kernel_shape", "strides", "dilations"))
            axes, include = len(x.shape) - 2, attributes.get("count_include_pad") or 0
            pads = list(attributes.get("pads") or [0] * 2 * axes)
            counts, moved = pooling.get_output_shape_explicit_padding(
                pads, x.shape[2:], kernel, strides, dilations, True)  # type: ignore[arg-type]
            needed = pads[:axes] + [moved[i] + moved[axes + i] - pads[i] for i in range(axes)]
            around = [(0, 0), (0, 0), *zip(needed[:axes], needed[axes:], strict=True)]
            padded = np.pad(x, around, constant_values=0 if include else np.nan)
            return (pooling.pool(padded, x.shape, kernel, strides, counts, "AVG",  # type: ignore[arg-type]
                                 needed, pads, dilations, include),)

    class MaxPool(maximum.MaxPool):
        def _run(self, x: Any, **attributes: Any) -> Any:  # type: ignore[override]
            kernel, size = attributes["kernel_shape"], x.shape[2:]
            axes = range(len(kernel))
            strides, dilations = (attributes.get(name) or [1] * len(kernel) for name in ("strides", "dilations"))
            extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
            pads, mode = attributes.get("pads") or [0] * 2 * len(kernel), attributes.get("auto_pad", "NOTSET")
            if mode in ("SAME_UPPER", "SAME_LOWER"):
                lacking = [max(0, (size[i] - 1) // strides[i] * strides[i] + extents[i] - size[i]) for i in axes]
                halves = [n // 2 for n in lacking], [n - n // 2 for n in lacking]
                pads = [*halves[mode == "SAME_LOWER"], *halves[mode == "SAME_UPPER"]]
            counts, _ = pooling.get_output_shape_explicit_padding(
                pads, size, kernel, strides, dilations, bool(attributes.get("ceil_mode")))
            ends = [max(0, counts[i] * strides[i] + extents[i] - pads[i] - size[i]) for i in axes]
            padded = np.pad(x, [(0, 0), (0, 0), *zip(pads, ends, strict=False)], constant_values=-np.inf)
            result = np.full((*x.shape[:2], *counts), -np.inf, x.dtype)
            for tap in np.ndindex(*kernel):
                firsts = [t * d for t, d in zip(tap, dilations, strict=True)]
                read: list[Any] = [slice(f, f + n * s, s) for f, n, s in zip(firsts, counts, strides, strict=True)]
                result = np.maximum(result, padded[tuple([..., *read])])
            return (result,)

    return [AveragePool, MaxPool, *([BatchNormalization] if opset < 14 else []), *([Softmax] if opset < 13 else [])]


def _reference_float64(model: onnx.ModelProto, name: str) -> Evaluator:
    return _reference(_widened(model), name)


def _runtime(model: onnx.ModelProto, name: str) -> Evaluator | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # The optimiser rewrites the graph, which would compare with another file than the one given.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with contextlib.redirect_stderr(io.StringIO()):
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(None, {name: x})[0])


def _widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with every float32 read as float64."""
    single, double = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for entry in (*graph.input, *graph.output):
        if entry.type.tensor_type.elem_type == single:
            entry.type.tensor_type.elem_type = double
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == attribute.TENSOR:
                _widen_tensor(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == single:
                attribute.i = double
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                values = np.array(attribute.f if attribute.name == "value_float" else attribute.floats, np.float64)
                attribute.CopyFrom(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(values)))
    return result


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == onnx.TensorProto.FLOAT:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
