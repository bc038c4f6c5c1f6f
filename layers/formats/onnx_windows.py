"""ONNX operators with windows: convolution, pooling, means and maxima over axes, and padding."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..convolution import Convolution, Pad
from ..layer import Shape
from ..linear import Scale
from ..pooling import AveragePool, MaxPool, Mean
from ..windows import Padding
from .onnx_values import Operation, Refusal, Tensor, Value, indices


def _spatial(op: Operation) -> tuple[Tensor, Tensor]:
    """The activation as in the file, and as one sample of shape (channels, *spatial axes)."""
    x = op.activation()
    if op.rank(x) < 3:
        raise Refusal(f"its input has {op.rank(x)} axes, expected samples, channels and at least one more")
    if op.leading(x):
        return x, x
    if x.shape[0] != 1:
        raise Refusal(f"its input of shape {x.shape} holds several images, and the model has no batch axis")
    sample = op.rearrange(x, indices(x)[0])
    assert isinstance(sample, Tensor)
    return x, sample


def _restored(op: Operation, x: Tensor, result: Tensor) -> Value:
    """The result for one sample with the leading axes of x."""
    return result if op.leading(x) else op.rearrange(result, indices(result)[None])


def _per_axis(op: Operation, name: str, axes: int, default: int | None, least: int) -> tuple[int, ...]:
    values = op.integers(name, None if default is None else [default] * axes)
    if values is None or len(values) != axes or min(values) < least:
        raise Refusal(f"{name} = {values}, expected {axes} numbers from {least} on")
    return tuple(values)


def _same_padding(size: Shape, kernel: Shape, strides: Shape, dilations: Shape) -> list[int]:
    """What each axis lacks for ceil(size / stride) windows; negative where these do not reach its end."""
    axes = zip(size, kernel, strides, dilations, strict=True)
    return [((n - 1) // s) * s + (k - 1) * d + 1 - n for n, k, s, d in axes]


def _padding(op: Operation, mode: str, size: Shape, kernel: Shape, strides: Shape, dilations: Shape) -> Padding:
    """`pads`, or what the `mode` of auto_pad makes of the size of the input."""
    axes = len(size)
    pads = op.integers("pads", [0] * 2 * axes)
    if len(pads) != 2 * axes or min(pads) < 0:
        raise Refusal(f"pads = {pads}, expected {2 * axes} numbers from 0 on")
    if mode == "NOTSET":
        return tuple(pads[:axes]), tuple(pads[axes:])
    if mode not in ("VALID", "SAME_UPPER", "SAME_LOWER"):
        raise Refusal(f"auto_pad = {mode!r}")
    if any(pads):
        raise Refusal(f"auto_pad = {mode} and pads = {pads} exclude each other")
    if mode == "VALID":
        return (0,) * axes, (0,) * axes
    total = [max(0, lacking) for lacking in _same_padding(size, kernel, strides, dilations)]
    less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (less, more) if mode == "SAME_UPPER" else (more, less)


def convolution(op: Operation) -> Value:
    op.count(3, 2)
    x, sample = _spatial(op)
    weight, bias = op.constant(1), op.constant(2)
    axes = len(sample.shape) - 1
    if weight is None or weight.ndim != axes + 2 or weight.dtype.kind != "f":
        found = "missing" if weight is None else f"of shape {weight.shape} and type {weight.dtype}"
        raise Refusal(f"its weight is {found}, expected {axes + 2} axes of floating-point numbers")
    kernel = weight.shape[2:]
    if op.integers("kernel_shape", list(kernel)) != list(kernel):
        raise Refusal(f"kernel_shape differs from the weight's shape {weight.shape}")
    strides, dilations = _per_axis(op, "strides", axes, 1, 1), _per_axis(op, "dilations", axes, 1, 1)
    padding = _padding(op, op.text("auto_pad", "NOTSET"), sample.shape[1:], kernel, strides, dilations)
    layer = Convolution(weight, bias, strides, dilations, padding, op.integer("group", 1))
    return _restored(op, x, op.emit(layer, sample))


def _pool(op: Operation, kind: Callable[..., AveragePool | MaxPool], *options: bool) -> Value:
    x, sample = _spatial(op)
    axes = len(sample.shape) - 1
    kernel, strides = _per_axis(op, "kernel_shape", axes, None, 1), _per_axis(op, "strides", axes, 1, 1)
    dilations = _per_axis(op, "dilations", axes, 1, 1)
    mode, ceil_mode = op.text("auto_pad", "NOTSET"), bool(op.integer("ceil_mode", 0))
    padding = _padding(op, mode, sample.shape[1:], kernel, strides, dilations)
    layer = kind(kernel, strides, dilations, padding, ceil_mode, *options)
    # The standard says what these combinations mean, but runtimes do something else, each in its own way.
    if mode != "NOTSET":
        plain = kind(kernel, strides, dilations, padding, False, *options)
        if plain.output_shape(sample.shape) != layer.output_shape(sample.shape):
            raise Refusal(f"auto_pad = {mode} with ceil_mode = 1, which runtimes read differently; write pads instead")
        lacking = _same_padding(sample.shape[1:], kernel, strides, dilations)
        if set(dilations) != {1} or (mode != "VALID" and min(lacking) < 0):
            raise Refusal(f"auto_pad = {mode} with dilations, or with windows that leave a gap at the end, which "
                          "runtimes read differently; write pads instead")
    return _restored(op, x, op.emit(layer, sample))


def average_pool(op: Operation) -> Value:
    op.count(1)
    return _pool(op, AveragePool, bool(op.integer("count_include_pad", 0)))


def max_pool(op: Operation) -> Value:
    op.count(1)
    op.integer("storage_order", 0)  # that of the second output, which must not be used
    return _pool(op, MaxPool)


def global_average_pool(op: Operation) -> Value:
    op.count(1)
    x, sample = _spatial(op)
    return _restored(op, x, op.emit(Mean(tuple(range(1 - len(sample.shape), 0))), sample))


def global_max_pool(op: Operation) -> Value:
    op.count(1)
    x, sample = _spatial(op)
    return _restored(op, x, op.emit(MaxPool(sample.shape[1:]), sample))


def _reduced(op: Operation, x: Tensor) -> tuple[int, ...]:
    """The axes of x that a reduction runs over, counted from the end; none if it leaves x as it is."""
    op.count(1 if op.opset < 18 else 2)
    axes = op.integers("axes") if op.opset < 18 else op.whole_numbers(1)
    empty_is_none = op.opset >= 18 and bool(op.integer("noop_with_empty_axes", 0))
    if not axes:
        axes = [] if empty_is_none else list(range(op.rank(x)))
    places = tuple(op.axis(x, axis) - len(x.shape) for axis in axes)
    if len(set(places)) != len(places):
        raise Refusal(f"axes {axes} repeat")
    return places


def reduce_mean(op: Operation) -> Value:
    x = op.activation()
    axes, keep = _reduced(op, x), bool(op.integer("keepdims", 1))
    return op.emit(Mean(axes, keep), x) if axes else x


def reduce_max(op: Operation) -> Value:
    x = op.activation()
    axes, keep = _reduced(op, x), bool(op.integer("keepdims", 1))
    if not axes:
        return x
    rank = len(x.shape)
    # A window as long as each of these axes; the first axis is for channels, so one is put in front if it is reduced.
    images = x if rank > 1 and -rank not in axes else op.rearrange(x, indices(x)[None])
    assert isinstance(images, Tensor)
    spatial = images.shape[1:]
    kernel = tuple(n if axis in axes else 1 for axis, n in enumerate(spatial, -len(spatial)))
    result = op.emit(MaxPool(kernel), images)
    places = indices(result).reshape(tuple(1 if axis in axes else n for axis, n in enumerate(x.shape, -rank)))
    return op.rearrange(result, places if keep else places.squeeze(axes))


def pad(op: Operation) -> Value:
    """Zeros or another number around an activation; a negative amount cuts entries off."""
    x = op.activation()
    rank = op.rank(x)
    mode = op.text("mode", "constant")
    axes: Any = list(range(rank))
    if op.opset < 11:
        op.count(1)
        amounts, value = op.integers("paddings" if op.opset < 2 else "pads"), op.floating("value", 0.0)
    else:
        op.count(4 if op.opset >= 18 else 3, 2)
        amounts, given = op.whole_numbers(1), op.constant(2)
        value = 0.0 if given is None or given.size == 0 else float(given.ravel()[0])
        axes = axes if op.optional(3) is None else op.whole_numbers(3)
    if mode != "constant":
        raise Refusal(f"mode = {mode!r}: only padding with a constant is supported")
    if amounts is None or len(amounts) != 2 * len(axes) or len({axis % rank for axis in axes}) != len(axes):
        raise Refusal(f"pads {amounts} do not fit axes {axes}")
    begins, ends = [0] * len(x.shape), [0] * len(x.shape)
    for axis, begin, end in zip(axes, amounts[: len(axes)], amounts[len(axes) :], strict=True):
        if begin or end:  # files list the batch axis too, with zeros
            place = op.axis(x, axis)
            begins[place], ends[place] = begin, end
    if any(max(0, -b) + max(0, -e) >= n for b, n, e in zip(begins, x.shape, ends, strict=True)):
        raise Refusal(f"pads {amounts} cut off everything")
    cut = tuple(slice(max(0, -b), n - max(0, -e)) for b, n, e in zip(begins, x.shape, ends, strict=True))
    inner = op.rearrange(x, indices(x)[cut])
    assert isinstance(inner, Tensor)
    padding = tuple(max(0, b) for b in begins), tuple(max(0, e) for e in ends)
    if not any(padding[0]) and not any(padding[1]):
        return inner
    result = op.emit(Pad(padding), inner)
    if value == 0:
        return result
    border = np.full(result.shape, value)
    border[tuple(slice(b, b + n) for b, n in zip(padding[0], inner.shape, strict=True))] = 0
    return op.emit(Scale(shift=border), result)


OPERATORS: dict[str, Callable[[Operation], Value | list[Value]]] = {
    "Conv": convolution,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "MaxPool": max_pool,
    "ReduceMax": reduce_max,
    "ReduceMean": reduce_mean,
    "Pad": pad,
}
