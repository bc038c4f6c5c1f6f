"""ONNX operators that are activations."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..activation import (
    Absolute,
    Activation,
    Arctan,
    Clip,
    Elu,
    Gelu,
    GeluTanh,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Mish,
    Relu,
    Sigmoid,
    Silu,
    Softmax,
    Softplus,
    Softsign,
    Swish,
    Tanh,
)
from ..linear import Reshape, Scale
from .onnx_linear import per_sample
from .onnx_values import Operation, Refusal, Tensor, Value, indices


def _plain(layer: Activation) -> Callable[[Operation], Value]:
    """The handler of an activation without parameters."""

    def handle(op: Operation) -> Value:
        op.count(1)
        return op.emit(layer, op.activation())

    return handle


def _simple(make: Callable[[Operation], Activation]) -> Callable[[Operation], Value]:
    """The handler of an activation whose parameters are attributes."""

    def handle(op: Operation) -> Value:
        op.count(1)
        return op.emit(make(op), op.activation())

    return handle


def prelu(op: Operation) -> Value:
    op.count(2, 2)
    x, slope = op.activation(), op.constant(1)
    assert slope is not None
    if op.opset < 7 and slope.size > 1:
        # Then one slope per channel, whatever the number of axes behind.
        slope = slope.reshape(slope.shape + (1,) * (op.rank(x) - 2)) if slope.ndim == 1 else slope
    slope = per_sample(op, x, slope)
    if np.broadcast_shapes(x.shape, slope.shape) != x.shape:
        raise Refusal(f"slopes of shape {slope.shape} do not broadcast to {x.shape} (of one sample)")
    return op.emit(LeakyRelu(slope), x)


def celu(op: Operation) -> Value:
    """max(0, x) + min(0, a (exp(x/a) - 1)) = a elu(x/a), for a > 0."""
    op.count(1)
    a, x = op.floating("alpha", 1.0), op.activation()
    if not (a > 0 and math.isfinite(a)):
        raise Refusal(f"alpha = {a}: only positive values are a scaled ELU")
    if a == 1:
        return op.emit(Elu(), x)
    return op.emit(Scale(multiplier=a), op.emit(Elu(), op.emit(Scale(divisor=a), x)))


def clip(op: Operation) -> Value:
    x = op.activation()
    if op.opset < 11:
        op.count(1)
        return op.emit(Clip(op.floating("min", -math.inf), op.floating("max", math.inf)), x)
    op.count(3)
    low, high = (_bound(op, position, free) for position, free in ((1, -math.inf), (2, math.inf)))
    return op.emit(Clip(low, high), x)


def _bound(op: Operation, position: int, free: float) -> float:
    values = op.constant(position)
    if values is None:
        return free
    if values.size != 1 or values.dtype.kind != "f":
        raise Refusal(f"its bound has shape {values.shape} and type {values.dtype}, expected one floating-point number")
    return float(values.ravel()[0])


def one_sided(op: Operation) -> Value:
    """Max or Min of an activation and one constant number; Relu if that number is zero and it is the lower bound."""
    op.count(2, 2)
    place = int(isinstance(op.operand(0), np.ndarray))
    x, values = op.activation(place), op.constant(1 - place)
    assert values is not None
    if values.size != 1 or values.dtype.kind != "f" or values.ndim > op.rank(x):
        raise Refusal(f"only one floating-point number can be compared with, got shape {values.shape}")
    bound = float(values.ravel()[0])
    if op.kind == "Max":
        return op.emit(Relu() if bound == 0 else Clip(low=bound), x)
    return op.emit(Clip(high=bound), x)


def softmax(op: Operation) -> Value:
    """Over the last axis; over others by moving them there. Before operator set 13 all axes from `axis` on are one."""
    op.count(1)
    x = op.activation()
    last = op.rank(x) - 1
    if op.opset < 13:
        place = op.axis(x, op.integer("axis", 1))
        if place == len(x.shape) - 1:
            return op.emit(Softmax(), x)
        merged = op.emit(Reshape((*x.shape[:place], math.prod(x.shape[place:]))), x)
        return op.emit(Reshape(x.shape), op.emit(Softmax(), merged))
    place = op.axis(x, op.integer("axis", -1))
    if place + op.leading(x) == last:
        return op.emit(Softmax(), x)
    moved = op.rearrange(x, np.moveaxis(indices(x), place, -1))
    assert isinstance(moved, Tensor)
    result = op.emit(Softmax(), moved)
    return op.rearrange(result, np.moveaxis(indices(result), -1, place))


def _gelu(op: Operation) -> Activation:
    form = op.text("approximate", "none")
    if form not in ("none", "tanh"):
        raise Refusal(f"approximate = {form!r}")
    return Gelu() if form == "none" else GeluTanh()


def _swish(op: Operation) -> Activation:
    alpha = op.floating("alpha", 1.0)
    return Silu() if alpha == 1 else Swish(alpha)


def _elu(op: Operation) -> Activation:
    return Elu(op.floating("alpha", 1.0))


def _selu(op: Operation) -> Activation:
    # The defaults of operator set 6 and later; set 1 had others, rounded to four digits.
    alpha, gamma = (1.67326319217681884765625, 1.05070102214813232421875) if op.opset >= 6 else (1.6732, 1.0507)
    return Elu(op.floating("alpha", alpha), op.floating("gamma", gamma))


def _hard_sigmoid(op: Operation) -> Activation:
    return HardSigmoid(op.floating("alpha", 0.2), op.floating("beta", 0.5))


def _leaky_relu(op: Operation) -> Activation:
    return LeakyRelu(np.asarray(op.floating("alpha", 0.01)))


OPERATORS: dict[str, Callable[[Operation], Any]] = {
    "Relu": _plain(Relu()),
    "Tanh": _plain(Tanh()),
    "Sigmoid": _plain(Sigmoid()),
    "Softplus": _plain(Softplus()),
    "Softsign": _plain(Softsign()),
    "Atan": _plain(Arctan()),
    "Abs": _plain(Absolute()),
    "Mish": _plain(Mish()),
    "HardSwish": _plain(HardSwish()),
    "LeakyRelu": _simple(_leaky_relu),
    "HardSigmoid": _simple(_hard_sigmoid),
    "Elu": _simple(_elu),
    "Selu": _simple(_selu),
    "Gelu": _simple(_gelu),
    "Swish": _simple(_swish),
    "PRelu": prelu,
    "Celu": celu,
    "Clip": clip,
    "Max": one_sided,
    "Min": one_sided,
    "Softmax": softmax,
}
