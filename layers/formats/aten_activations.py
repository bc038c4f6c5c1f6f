"""ATen operators that are activations."""

import math
from collections.abc import Callable

import numpy as np

from ..activation import (
    Absolute,
    Activation,
    Arctan,
    Clip,
    Elu,
    Gelu,
    GeluTanh,
    HardSwish,
    LeakyRelu,
    Mish,
    Relu,
    Sigmoid,
    Silu,
    Softplus,
    Softsign,
    Swish,
    Tanh,
)
from ..layer import Layer
from ..linear import Scale
from .aten_values import AtenOperation
from .onnx_values import Emitter, Refusal, Tensor, Value

SMOOTH_THRESHOLD = 20.0


def _plain(layer: Activation) -> Callable[[AtenOperation], Value]:
    def handle(op: AtenOperation) -> Value:
        return op.emit(layer, op.activation())

    return handle


def leaky_relu(op: AtenOperation) -> Value:
    return op.emit(LeakyRelu(np.asarray(op.number("negative_slope"))), op.activation())


def prelu(op: AtenOperation) -> Value:
    """One slope, or one for each channel, the axis after that of the samples."""
    x, slope = op.activation(), op.array("weight")
    assert slope is not None
    if slope.size > 1:
        slope = slope.reshape((-1,) + (1,) * (len(x.shape) - 1))
    return op.emit(LeakyRelu(slope.reshape(()) if slope.size == 1 else slope), x)


def elu(op: AtenOperation) -> Value:
    x, alpha, gain, inner = op.activation(), op.number("alpha"), op.number("scale"), op.number("input_scale")
    if inner != 1:
        raise Refusal(f"input_scale = {inner}, expected 1")
    return op.emit(Elu(alpha, gain), x)


def selu(op: AtenOperation) -> Value:
    alpha, gain = op.rounded(1.6732632423543772848170429916717), op.rounded(1.0507009873554804934193349852946)
    return op.emit(Elu(alpha, gain), op.activation())


def celu(op: AtenOperation) -> Value:
    """a elu(x / a), for a > 0."""
    x, a = op.activation(), op.number("alpha")
    if not (a > 0 and math.isfinite(a)):
        raise Refusal(f"alpha = {a}: only positive values are a scaled ELU")
    if a == 1:
        return op.emit(Elu(), x)
    return op.emit(Scale(multiplier=a), op.emit(Elu(), op.emit(Scale(divisor=a), x)))


def gelu(op: AtenOperation) -> Value:
    form = op.take("approximate")
    if form not in ("none", "tanh"):
        raise Refusal(f"approximate = {form!r}")
    return op.emit(Gelu() if form == "none" else GeluTanh(), op.activation())


def hard_sigmoid(op: AtenOperation) -> Value:
    """clip(x / 6 + 1 / 2, 0, 1), with 1 / 6 as a quotient, since it is no float64."""
    return op.emit(Clip(0.0, 1.0), op.emit(Scale(divisor=6.0, shift=np.asarray(0.5)), op.activation()))


def softplus(op: AtenOperation) -> Value:
    """torch documents its threshold as a means of evaluating the smooth function, by the identity for b x beyond it.

    At 20 the two differ by less than float32 resolves; at a lower threshold the jump is part of what torch computes.
    """
    x, beta, threshold = op.activation(), op.number("beta"), op.number("threshold")
    if threshold < SMOOTH_THRESHOLD:
        raise Refusal(f"threshold = {threshold}: it makes the function jump, so no finite number bounds its slope; use "
                      f"the default, {SMOOTH_THRESHOLD}, or more")
    return op.emit(Softplus(beta), x)


def log_sigmoid(op: AtenOperation) -> Value:
    """-softplus(-x)."""
    inner = op.emit(Scale(multiplier=-1.0), op.activation())
    return op.emit(Scale(multiplier=-1.0), op.emit(Softplus(), inner))


def clamp(op: AtenOperation) -> Value:
    names = {argument.name for argument in op.node.target._schema.arguments}
    low = op.number("min", -math.inf) if "min" in names else -math.inf
    high = op.number("max", math.inf) if "max" in names else math.inf
    return op.emit(Relu() if (low, high) == (0, math.inf) else Clip(low, high), op.activation())


def hardtanh(op: AtenOperation) -> Value:
    return op.emit(Clip(op.number("min_val"), op.number("max_val")), op.activation())


def one_sided(op: AtenOperation) -> Value:
    """The maximum or minimum of an activation and one constant number."""
    kind = "Max" if "max" in str(op.node.target) else "Min"
    return op.onnx(kind, op.first(), op.take("other"))  # type: ignore[no-any-return]


def softmax(op: AtenOperation) -> Value:
    if op.take("dtype" if "softmax.int" in str(op.node.target) else "half_to_float"):
        raise Refusal("it changes the type of its input")
    return op.onnx("Softmax", op.activation(), axis=op.take("dim"))  # type: ignore[no-any-return]


def gated(emitter: Emitter, gate: Tensor, x: Tensor) -> Layer | None:
    """The activation that `gate` times x is, where the gate is a function of x: SiLU, Swish and Mish."""
    layer, fed = emitter.maker(gate.node)
    if isinstance(layer, Sigmoid):
        if fed == (x.node,):
            return Silu()
        inner, below = emitter.maker(fed[0])
        if isinstance(inner, Scale) and below == (x.node,) and inner.shift is None and np.all(inner.divisor == 1):
            factor = np.asarray(inner.multiplier)
            return Swish(float(factor)) if factor.ndim == 0 and factor > 0 else None
    if isinstance(layer, Tanh):
        inner, below = emitter.maker(fed[0])
        return Mish() if isinstance(inner, Softplus) and inner.b == 1 and below == (x.node,) else None
    return None


def is_softsign(emitter: Emitter, x: Tensor, divisor: Tensor) -> bool:
    """Whether `divisor` is 1 + |x|, as torch divides x by for Softsign."""
    layer, fed = emitter.maker(divisor.node)
    if not isinstance(layer, Scale) or layer.shift is None:
        return False
    inner, below = emitter.maker(fed[0])
    plain = np.all(layer.multiplier == 1) and np.all(layer.divisor == 1) and np.all(layer.shift == 1)
    return bool(plain) and isinstance(inner, Absolute) and below == (x.node,)


SOFTSIGN = Softsign()

OPERATORS: dict[str, Callable[[AtenOperation], Value]] = {
    "aten.relu.default": _plain(Relu()),
    "aten.tanh.default": _plain(Tanh()),
    "aten.sigmoid.default": _plain(Sigmoid()),
    "aten.abs.default": _plain(Absolute()),
    "aten.atan.default": _plain(Arctan()),
    "aten.silu.default": _plain(Silu()),
    "aten.mish.default": _plain(Mish()),
    "aten.hardswish.default": _plain(HardSwish()),
    "aten.hardsigmoid.default": hard_sigmoid,
    "aten.leaky_relu.default": leaky_relu,
    "aten.prelu.default": prelu,
    "aten._prelu_kernel.default": prelu,
    "aten.elu.default": elu,
    "aten.selu.default": selu,
    "aten.celu.default": celu,
    "aten.gelu.default": gelu,
    "aten.softplus.default": softplus,
    "aten.log_sigmoid.default": log_sigmoid,
    "aten.clamp.default": clamp,
    "aten.clamp_min.default": clamp,
    "aten.clamp_max.default": clamp,
    "aten.hardtanh.default": hardtanh,
    "aten.relu6.default": _plain(Clip(0.0, 6.0)),
    "aten.maximum.default": one_sided,
    "aten.minimum.default": one_sided,
    "aten.softmax.int": softmax,
    "aten._softmax.default": softmax,
}
