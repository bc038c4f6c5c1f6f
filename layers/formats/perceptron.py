"""What the formats of plain weight matrices share: names of activations, and networks of one layer after the other."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..activation import (
    Absolute,
    Activation,
    Arctan,
    Clip,
    Elu,
    Gelu,
    GeluTanh,
    GroupSort,
    HardSigmoid,
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
from ..errors import ModelError, ShapeError
from ..graph import Graph, sequential
from ..layer import Layer, parameter
from ..linear import Affine, Scale

ACTIVATIONS: dict[str, type[Activation]] = {
    "absolute": Absolute,
    "arctan": Arctan,
    "clip": Clip,
    "elu": Elu,
    "gelu": Gelu,
    "gelu_tanh": GeluTanh,
    "group_sort": GroupSort,
    "hard_sigmoid": HardSigmoid,
    "hard_swish": HardSwish,
    "leaky_relu": LeakyRelu,
    "mish": Mish,
    "relu": Relu,
    "sigmoid": Sigmoid,
    "silu": Silu,
    "softplus": Softplus,
    "softsign": Softsign,
    "swish": Swish,
    "tanh": Tanh,
}
"""Names of activations in files; the parameters are the fields of the class, in order."""


def activation_named(text: str) -> Activation:
    """The activation that `text` names: `relu`, or with parameters in order `leaky_relu:0.1`, `clip:-1,1`.

    **Raises:** `ModelError` if the name or its parameters are not understood.
    """
    name, _, rest = text.strip().partition(":")
    kind = ACTIVATIONS.get(name.strip().lower())
    if kind is None:
        raise ModelError(f"The activation {text!r} is not known; known are {', '.join(ACTIVATIONS)}.")
    given = [part for part in rest.split(",") if rest]
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    if len(given) > len(fields):
        raise ModelError(f"The activation {text!r} has {len(given)} parameters; {name} takes at most {len(fields)}.")
    try:
        values = [int(part) if field.type is int else float(part) for part, field in zip(given, fields, strict=False)]
    except ValueError:
        raise ModelError(f"The parameters of the activation {text!r} are no numbers.") from None
    return kind(*values)


def name_of(activation: Layer) -> str:
    """The text that `activation_named` turns back into this activation.

    **Raises:** `ModelError` if there is none, as for slopes that differ from channel to channel.
    """
    for name, kind in ACTIVATIONS.items():
        if type(activation) is kind:
            values = [np.asarray(value) for value in activation.parameters().values()]
            if any(value.ndim for value in values):
                raise ModelError(f"{activation.describe()} has one parameter per entry, which no name holds.")
            return name + ":" * bool(values) + ",".join(repr(value.item()) for value in values)
    raise ModelError(f"{activation.describe()} has no name in files of plain weights.")


def perceptron(
    weights: Sequence[np.ndarray],
    biases: Sequence[np.ndarray | None],
    activations: Sequence[Activation],
    *,
    mean: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    name: str = "network",
) -> Graph:
    """x -> W_L s(.. s(W_1 (x - mean) / scale + b_1) ..) + b_L, with W_k of shape (out, in).

    **Raises:** `ShapeError` naming the first matrix that does not fit the one before.
    """
    layers: list[Layer] = []
    width = weights[0].shape[1] if weights[0].ndim == 2 else 0
    for title, values in (("input_mean", mean), ("input_scale", scale)):
        if values is not None and values.shape != (width,):
            raise ShapeError(f"{title} has shape {values.shape}, expected ({width},) as W1 takes {width} inputs.")
    if mean is not None:
        layers.append(Scale(shift=-parameter(mean, "input_mean")))
    if scale is not None:
        layers.append(Scale(divisor=scale))
    for position, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        if weight.ndim != 2:
            raise ShapeError(f"W{position} has shape {weight.shape}, expected a matrix (out, in).")
        out, size = weight.shape
        if size != width:
            hint = "; transposed?" if out == width else ""
            raise ShapeError(f"W{position} is {out}x{size} but expects k x {width}{hint}")
        if bias is not None and bias.shape != (out,):
            raise ShapeError(f"b{position} has shape {bias.shape}, expected ({out},) as W{position} is {out}x{size}.")
        layers.append(Affine(parameter(weight, f"W{position}"), bias))
        if position < len(weights):
            layers.append(activations[position - 1])
        width = out
    return sequential((weights[0].shape[1],), layers, name)
