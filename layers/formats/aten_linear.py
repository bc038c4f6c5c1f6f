"""ATen operators that move entries, are affine in the activations, or have windows."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..convolution import Convolution
from ..linear import Affine, BatchNormalization, Scale
from ..pooling import AveragePool, MaxPool, Mean
from .aten_activations import SOFTSIGN, gated, is_softsign
from .aten_values import AtenOperation, Results, element_code
from .onnx_values import Refusal, Tensor, Value


def identity(op: AtenOperation) -> Value:
    """The same entries, perhaps of another type that holds them exactly."""
    op.ignore("dtype", "memory_format", "layout", "device", "pin_memory", "non_blocking", "copy")
    return op.onnx("Cast", op.first(), to=element_code(op.dtype()))  # type: ignore[no-any-return]


def rearrangement(op: AtenOperation) -> Results:
    """Whatever moves, repeats or leaves out entries of one value."""
    x = op.first()
    results = [op.rearrange(x, places) for places in op.moved(x)]
    return results if isinstance(op.node.meta["val"], list | tuple) else results[0]


def concatenate(op: AtenOperation) -> Value:
    return op.onnx("Concat", *op.take("tensors"), axis=op.take("dim"))  # type: ignore[no-any-return]


def stack(op: AtenOperation) -> Value:
    values, dim = op.take("tensors"), op.take("dim")
    apart = [op.onnx("Unsqueeze", value, np.array([dim])) for value in values]
    return op.onnx("Concat", *apart, axis=dim)  # type: ignore[no-any-return]


def created(op: AtenOperation) -> Value:
    """A constant made from numbers alone."""
    op.ignore(*[argument.name for argument in op.node.target._schema.arguments])
    if op.node.all_input_nodes:
        raise Refusal("it makes a constant in the shape of an activation; write the shape as numbers")
    return np.array(op.node.target(*op.node.args, **op.node.kwargs).cpu().numpy())


def _operand(op: AtenOperation, value: Any) -> Value:
    """An operand of an elementwise operator; numbers, and constant integers, as floating-point numbers."""
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, np.ndarray):
        return np.asarray(op.rounded(value))
    if value.dtype.kind not in "iu":
        return value
    widened: np.ndarray = value.astype(np.float64)
    if not np.array_equal(widened.astype(value.dtype), value):
        raise Refusal("its constant integers are too large for float64")
    return widened


def _arithmetic(kind: str) -> Callable[[AtenOperation], Value]:
    """Add, Sub, Mul or Div; a sum or difference with the factor `alpha` of torch."""

    def handle(op: AtenOperation) -> Value:
        left, right = _operand(op, op.first()), _operand(op, op.take("other"))
        if "rsub" in str(op.node.target):
            left, right = right, left
        if kind in ("Add", "Sub") and (alpha := op.number("alpha")) != 1:
            right = op.onnx("Mul", right, np.asarray(alpha))
        if isinstance(left, Tensor) and isinstance(right, Tensor):
            if kind == "Mul" and (layer := gated(op.emitter, left, right)) is not None:
                return op.emit(layer, right)
            if kind == "Mul" and (layer := gated(op.emitter, right, left)) is not None:
                return op.emit(layer, left)
            if kind == "Div" and is_softsign(op.emitter, left, right):
                return op.emit(SOFTSIGN, left)
        return op.onnx(kind, left, right)  # type: ignore[no-any-return]

    return handle


def negate(op: AtenOperation) -> Value:
    return op.onnx("Neg", op.first())  # type: ignore[no-any-return]


def linear(op: AtenOperation) -> Value:
    x, weight, bias = op.activation(), op.array("weight"), op.array("bias")
    if weight is None or weight.ndim != 2:
        raise Refusal("its weight is no matrix")
    return op.emit(Affine(weight, bias), x)


def product(op: AtenOperation) -> Value:
    """A matrix product with one constant factor."""
    second = next(name for name in ("mat2", "other") if name in _names(op))
    return op.onnx("MatMul", op.first(), op.take(second))  # type: ignore[no-any-return]


def product_and_sum(op: AtenOperation) -> Value:
    """beta C + alpha A B."""
    beta, alpha = op.number("beta"), op.number("alpha")
    if (beta, alpha) != (1, 1):
        raise Refusal(f"beta = {beta}, alpha = {alpha}, expected ones; write the factors out")
    c = op.first()
    return op.onnx("Gemm", op.take("mat1"), op.take("mat2"), c)  # type: ignore[no-any-return]


def _names(op: AtenOperation) -> set[str]:
    return {argument.name for argument in op.node.target._schema.arguments}


def _image(op: AtenOperation, axes: int) -> Tensor:
    x = op.activation()
    if len(x.shape) != axes + 1:
        raise Refusal(f"its input has {len(x.shape) + 1} axes, expected {axes + 2}: samples, channels and {axes} more")
    return x


def convolution(op: AtenOperation) -> Value:
    weight, bias = op.array("weight"), op.array("bias")
    assert weight is not None
    axes = weight.ndim - 2
    x = _image(op, axes)
    if "transposed" in _names(op) and (op.take("transposed") or any(op.take("output_padding"))):
        raise Refusal("transposed convolution is not supported yet")
    strides, dilations = op.whole("stride", axes), op.whole("dilation", axes)
    if str(op.node.target).endswith(".padding"):
        mode, extents = op.take("padding"), [d * (k - 1) for d, k in zip(dilations, weight.shape[2:], strict=True)]
        if mode not in ("same", "valid"):
            raise Refusal(f"padding = {mode!r}")
        total = extents if mode == "same" else [0] * axes
        padding = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    else:
        padding = (op.whole("padding", axes),) * 2
    return op.emit(Convolution(weight, bias, strides, dilations, padding, op.take("groups")), x)


def batch_normalization(op: AtenOperation) -> Results:
    x = op.activation()
    if "training" in _names(op) and op.take("training"):
        raise Refusal("it uses, and changes, the statistics of the batch, as in training; call module.eval()")
    mean, variance = op.array("running_mean"), op.array("running_var")
    gamma, beta = op.array("weight"), op.array("bias")
    if mean is None or variance is None:
        raise Refusal("it has no running statistics, so it always uses those of the batch")
    op.ignore("momentum", "cudnn_enabled")
    gamma = np.ones_like(mean) if gamma is None else gamma
    beta = np.zeros_like(mean) if beta is None else beta
    result = op.emit(BatchNormalization(gamma, beta, mean, variance, op.number("eps"), len(x.shape) - 1), x)
    return [result] if "no_training" in str(op.node.target) else result


def _pooling(axes: int, kind: str) -> Callable[[AtenOperation], Results]:
    def handle(op: AtenOperation) -> Results:
        x = _image(op, axes)
        kernel = op.whole("kernel_size", axes)
        strides = op.whole("stride", axes) or kernel
        padding = (op.whole("padding", axes),) * 2
        ceil_mode = bool(op.take("ceil_mode"))
        if kind == "average":
            include = bool(op.take("count_include_pad"))
            if "divisor_override" in _names(op) and op.take("divisor_override") is not None:
                raise Refusal("divisor_override is given; scale the pooling's value instead")
            return op.emit(AveragePool(kernel, strides, (), padding, ceil_mode, include), x)
        result = op.emit(MaxPool(kernel, strides, op.whole("dilation", axes), padding, ceil_mode), x)
        return [result] if "with_indices" in str(op.node.target) else result

    return handle


def _adaptive(axes: int, kind: str) -> Callable[[AtenOperation], Results]:
    """Pooling to a size that divides the input's, so that all windows are alike."""

    def handle(op: AtenOperation) -> Results:
        x = _image(op, axes)
        # What torch inferred, since entries of `output_size` may be left open.
        op.ignore("output_size")
        size, target = x.shape[1:], tuple(op.results()[0].shape)[2:]
        if any(n % t for n, t in zip(size, target, strict=True)):
            raise Refusal(f"{tuple(size)} is no multiple of the output's {target}, so windows differ in size; pool to "
                          "a divisor, or with windows of one size")
        kernel = tuple(n // t for n, t in zip(size, target, strict=True))
        if kind == "max":
            return [op.emit(MaxPool(kernel, kernel), x)]
        whole = set(target) == {1}
        return op.emit(Mean(tuple(range(-axes, 0))) if whole else AveragePool(kernel, kernel), x)

    return handle


def _axes(op: AtenOperation, x: Tensor) -> tuple[int, ...]:
    dim = op.take("dim") if "dim" in _names(op) else None
    dims = [dim] if isinstance(dim, int) else list(dim or range(len(x.shape) + 1))
    return tuple(op.axis(x, axis) for axis in dims)


def _reduction(kind: str) -> Callable[[AtenOperation], Results]:
    def handle(op: AtenOperation) -> Results:
        x = op.activation()
        axes = _axes(op, x)
        keep = bool(op.take("keepdim")) if "keepdim" in _names(op) else False
        op.ignore("dtype")
        if kind == "maximum":
            result = op.onnx("ReduceMax", x, axes=list(axes), keepdims=int(keep))
            return [result] if str(op.node.target) == "aten.max.dim" else result  # type: ignore[no-any-return]
        mean = op.emit(Mean(axes, keep), x)
        count = math.prod(x.shape[axis] for axis in axes)
        return op.emit(Scale(multiplier=float(count)), mean) if kind == "sum" else mean

    return handle


def pad(op: AtenOperation) -> Value:
    """A constant around an activation, or its own entries, repeated (`circular`, `reflect` and `replicate`)."""
    if "mode" in _names(op) and (mode := op.take("mode")) != "constant":
        op.ignore("value")
        x = op.first()
        if not isinstance(mode, str):
            raise Refusal(f"mode = {mode!r}")
        return op.rearrange(x, op.moved(x)[0])
    x, amounts = op.activation(), op.take("pad")
    value = op.number("value", 0.0)
    rank = len(x.shape) + 1
    # torch lists the last axis first, begin and end side by side.
    begins, ends = ([0] * (rank - len(side)) + side[::-1] for side in (list(amounts[::2]), list(amounts[1::2])))
    return op.onnx("Pad", x, np.array(begins + ends), np.array(value))  # type: ignore[no-any-return]


def _same(handler: Callable[[AtenOperation], Results], *names: str) -> dict[str, Callable[[AtenOperation], Results]]:
    return {f"aten.{name}": handler for name in names}


OPERATORS: dict[str, Callable[[AtenOperation], Results]] = {
    **_same(identity, "alias.default", "clone.default", "detach.default", "contiguous.default",
            "lift_fresh_copy.default", "_to_copy.default", "to.dtype", "to.dtype_layout", "to.device"),
    **_same(rearrangement, "view.default", "_unsafe_view.default", "reshape.default", "flatten.using_ints",
            "unflatten.int", "squeeze.default", "squeeze.dim", "squeeze.dims", "unsqueeze.default", "permute.default",
            "transpose.int", "t.default", "numpy_T.default", "mT.default", "movedim.int", "movedim.intlist",
            "slice.Tensor", "select.int", "narrow.default", "index_select.default", "split.Tensor",
            "split_with_sizes.default", "chunk.default", "unbind.int", "repeat.default", "flip.default", "roll.default",
            "expand.default", "index.Tensor",
            "pixel_shuffle.default", "pixel_unshuffle.default", "channel_shuffle.default", "tile.default"),
    **_same(concatenate, "cat.default", "concat.default"),
    **_same(stack, "stack.default"),
    **_same(created, "zeros.default", "ones.default", "full.default", "arange.default", "arange.start",
            "arange.start_step", "scalar_tensor.default", "eye.default"),
    **_same(_arithmetic("Add"), "add.Tensor", "add.Scalar"),
    **_same(_arithmetic("Sub"), "sub.Tensor", "sub.Scalar", "rsub.Scalar", "rsub.Tensor"),
    **_same(_arithmetic("Mul"), "mul.Tensor", "mul.Scalar"),
    **_same(_arithmetic("Div"), "div.Tensor", "div.Scalar"),
    **_same(negate, "neg.default"),
    **_same(linear, "linear.default"),
    **_same(product, "matmul.default", "mm.default"),
    **_same(product_and_sum, "addmm.default"),
    **_same(convolution, "conv1d.default", "conv2d.default", "conv3d.default", "conv1d.padding", "conv2d.padding",
            "conv3d.padding", "convolution.default"),
    **_same(batch_normalization, "batch_norm.default", "_native_batch_norm_legit_no_training.default"),
    **_same(_pooling(1, "average"), "avg_pool1d.default"),
    **_same(_pooling(2, "average"), "avg_pool2d.default"),
    **_same(_pooling(3, "average"), "avg_pool3d.default"),
    **_same(_pooling(1, "max"), "max_pool1d.default", "max_pool1d_with_indices.default"),
    **_same(_pooling(2, "max"), "max_pool2d.default", "max_pool2d_with_indices.default"),
    **_same(_pooling(3, "max"), "max_pool3d.default", "max_pool3d_with_indices.default"),
    **_same(_adaptive(1, "average"), "adaptive_avg_pool1d.default"),
    **_same(_adaptive(2, "average"), "adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default"),
    **_same(_adaptive(3, "average"), "adaptive_avg_pool3d.default", "_adaptive_avg_pool3d.default"),
    **_same(_adaptive(1, "max"), "adaptive_max_pool1d.default"),
    **_same(_adaptive(2, "max"), "adaptive_max_pool2d.default"),
    **_same(_adaptive(3, "max"), "adaptive_max_pool3d.default"),
    **_same(_reduction("mean"), "mean.dim", "mean.default"),
    **_same(_reduction("sum"), "sum.dim_IntList", "sum.default"),
    **_same(_reduction("maximum"), "amax.default", "max.dim"),
    **_same(pad, "pad.default", "constant_pad_nd.default"),
}
