"""Layers without weights by name: pooling, means and flattening beside the activations of `perceptron`."""

import re

from ..activation import Activation
from ..errors import ModelError
from ..layer import Layer, Shape
from ..linear import Flatten
from ..pooling import AveragePool, MaxPool, Mean
from .perceptron import ACTIVATIONS, activation_named, name_of

_POOLS: dict[str, type[AveragePool] | type[MaxPool]] = {"average_pool": AveragePool, "max_pool": MaxPool}


def layer_named(text: str, axes: int | None) -> Layer:
    """The layer that `text` names, for an input of channels and `axes` spatial axes (None where that is not known).

    - `flatten`: all entries as one vector;
    - `mean`: of each channel, over all spatial axes, which leaves a vector;
    - `max_pool:KERNEL`, `max_pool:KERNEL,STRIDE` or `max_pool:KERNEL,STRIDE,PADDING`: a maximum over windows. Each is
      a number for all spatial axes, or one for each with x between them, as 3x2; the stride is the kernel if left out;
    - `average_pool:..`: likewise, the mean over those entries of the input that a window reads;
    - an activation, see `activation_named`.

    **Raises:** `ModelError` if the name or its parameters are not understood.
    """
    name, _, rest = text.strip().partition(":")
    name = name.strip().lower()
    if name in _POOLS:
        given = [_per_axis(part, axes, text) for part in rest.split(",")]
        if len(given) > 3 or len({len(part) for part in given}) > 1:
            raise ModelError(f"The layer {text!r} takes a kernel, a stride and a padding, for as many axes each.")
        kernel, stride, padding = (*given, *[given[0], (0,) * len(given[0])][len(given) - 1 :])
        return _POOLS[name](kernel, stride, padding=(padding, padding))
    if name in ("flatten", "mean") and rest:
        raise ModelError(f"The layer {text!r} takes no parameters.")
    if name == "flatten":
        return Flatten()
    if name == "mean":
        if axes == 0:
            raise ModelError("A mean runs over spatial axes, but its input is a vector.")
        return Mean(tuple(range(-(axes or 1), 0)), keep=False)
    if name not in ACTIVATIONS:
        raise ModelError(f"The layer {text!r} is not known; known are flatten, mean, {', '.join(_POOLS)}, and the "
                         f"activations {', '.join(ACTIVATIONS)}.")
    return activation_named(text)


def name_of_layer(layer: Layer, shape: Shape) -> str:
    """The text that `layer_named` turns back into this layer, for an input of this shape.

    **Raises:** `ModelError` if there is none.
    """
    if isinstance(layer, Flatten):
        return "flatten"
    if isinstance(layer, Mean) and not layer.keep and layer.axes == tuple(range(1 - len(shape), 0)):
        return "mean"
    for name, kind in _POOLS.items():
        if isinstance(layer, kind) and layer.padding[0] == layer.padding[1]:
            parts = (layer.kernel, layer.strides, layer.padding[0])
            text = f"{name}:{','.join('x'.join(map(str, part)) for part in parts)}"
            if layer_named(text, len(layer.kernel)).parameters() == layer.parameters():
                return text
    if isinstance(layer, Activation):
        return name_of(layer)
    raise ModelError(f"{layer.describe()} has no name with all its parameters.")


def _per_axis(part: str, axes: int | None, text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\s*\d{1,9}(x\d{1,9})*\s*", part):
        raise ModelError(f"The layer {text!r} takes whole numbers, as in max_pool:3,2 or max_pool:3x2,2x1.")
    numbers = tuple(map(int, part.split("x")))
    if len(numbers) == 1:
        numbers *= 1 if axes is None else axes
    if axes is not None and len(numbers) != axes:
        raise ModelError(f"The layer {text!r} does not fit an input with {axes} spatial axes.")
    return numbers
