"""Convolutions as linear layers, and padding with zeros."""

import dataclasses
import math
import types

import numpy as np

from .arithmetic import FLOAT, Arithmetic, Array, zeros
from .errors import ShapeError
from .layer import LinearLayer, Shape, one_input, parameter
from .shift_invariant import Stencil
from .windows import Padding, Windows, complete


@dataclasses.dataclass(frozen=True, eq=False)
class Convolution(LinearLayer):
    r"""y[m, o] = bias[m] + sum_{c, k} weight[m, c, k] x[c', o * strides - begins + k * dilations], and 0 outside x.

    o and k run over the spatial axes, any number of them; c' = c + channels / groups * (the group of m), so that each
    of the `groups` equal parts of the output's channels reads its own part of the input's. The kernel is not flipped.

    **Arguments:** `weight`: shape (out, channels / groups, *kernel); `bias`: shape (out,), or None; `strides`,
    `dilations`: one entry for each spatial axis, () for ones; `padding`: zeros in front of and behind each spatial
    axis, all begins, then all ends.
    """

    weight: np.ndarray
    bias: np.ndarray | None = None
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    padding: Padding = ((), ())
    groups: int = 1

    def __post_init__(self) -> None:
        weight = parameter(self.weight, "weight")
        if weight.ndim < 3 or 0 in weight.shape:
            raise ShapeError("The weight of a convolution has shape (out, channels / groups, *kernel), without empty "
                             f"axes, got {weight.shape}.")
        if self.groups < 1 or weight.shape[0] % self.groups:
            raise ShapeError(f"{weight.shape[0]} channels of the output do not split into {self.groups} groups.")
        object.__setattr__(self, "weight", weight)
        if self.bias is not None:
            object.__setattr__(self, "bias", parameter(self.bias, "bias"))
            if self.bias.shape != weight.shape[:1]:
                raise ShapeError(f"The bias has shape {self.bias.shape} for {weight.shape[0]} channels.")
        strides, dilations, padding = complete(weight.shape[2:], self.strides, self.dilations, self.padding)
        object.__setattr__(self, "strides", strides)
        object.__setattr__(self, "dilations", dilations)
        object.__setattr__(self, "padding", padding)

    def windows(self, shape: Shape) -> Windows:
        """The windows over an input of this shape.

        **Raises:** `ShapeError` if it does not fit the layer.
        """
        axes, channels = self.weight.ndim - 2, self.weight.shape[1] * self.groups
        if len(shape) != axes + 1 or shape[0] != channels:
            raise ShapeError(f"A convolution with weights {self.weight.shape} in {self.groups} group(s) takes "
                             f"{channels} channels and {axes} spatial axes, got {shape}.")
        return Windows(shape[1:], self.weight.shape[2:], self.strides, self.dilations, *self.padding)

    def output_shape(self, *shapes: Shape) -> Shape:
        return (self.weight.shape[0], *self.windows(one_input(self, shapes)).counts)

    def _matrices(self) -> list[tuple[slice, slice, np.ndarray]]:
        """By group: its channels of the input, those of the output, and the weight as (out, channels * taps)."""
        out, channels = self.weight.shape[0] // self.groups, self.weight.shape[1]
        groups = (
            (slice(g * channels, (g + 1) * channels), slice(g * out, (g + 1) * out)) for g in range(self.groups)
        )
        return [(source, target, self.weight[target].reshape(out, -1)) for source, target in groups]

    def apply(self, x: Array, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        windows = self.windows(shapes[0])
        axes, images = len(windows.size), []
        for read in windows.gather(x, arithmetic):
            parts = []
            for source, _, matrix in self._matrices():
                # (batch, *counts, channels, *kernel): what one window reads is a row.
                rows = np.moveaxis(read[:, source], 1, axes + 1).reshape((-1, matrix.shape[1]))
                parts.append(arithmetic.matmul(rows, matrix.T))
            values = np.concatenate(parts, axis=1).reshape((len(read), *windows.counts, -1))
            images.append(np.moveaxis(values, -1, 1))
        return np.concatenate(images)

    def apply_transposed(self, y: np.ndarray, position: int, shapes: tuple[Shape, ...]) -> np.ndarray:
        windows = self.windows(shapes[0])
        axes = len(windows.size)
        result = np.empty((len(y), *shapes[0]))
        for source, target, matrix in self._matrices():
            taps = np.moveaxis(y[:, target], 1, -1) @ matrix
            taps = taps.reshape((len(y), *windows.counts, self.weight.shape[1], *windows.kernel))
            result[:, source] = windows.scatter(np.moveaxis(taps, axes + 1, 1))
        return result

    def unrolled(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        windows = self.windows(shapes[0])
        window, tap, entry = windows.taps()
        total, channels = self.weight.shape[:2]
        matrix = np.zeros((shapes[0][0], math.prod(windows.size), total, math.prod(windows.counts)))
        weight = self.weight.reshape((total, channels, -1))
        for source, target, _ in self._matrices():
            c, m = np.arange(channels)[:, None, None], np.arange(total)[target, None]
            matrix[source.start + c, entry, m, window] = weight[m, c, tap]
        return matrix.reshape((-1, total, *windows.counts))

    def stencil(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Stencil:
        windows, (total, channels) = self.windows(shapes[0]), self.weight.shape[:2]
        taps = self.weight.reshape((total, channels, -1))
        coefficients = np.zeros((taps.shape[2], total, shapes[0][0]))
        for source, target, _ in self._matrices():
            coefficients[:, target, source] = np.moveaxis(taps[target], -1, 0)
        return Stencil(windows.offsets(), coefficients, self.strides)

    def offset(self) -> np.ndarray | None:
        return None if self.bias is None else self.bias.reshape((-1,) + (1,) * (self.weight.ndim - 2))

    def describe(self) -> str:
        kernel = "x".join(map(str, self.weight.shape[2:]))
        stride = "" if set(self.strides) == {1} else f", stride {'x'.join(map(str, self.strides))}"
        groups = "" if self.groups == 1 else f", {self.groups} groups"
        return f"Convolution {kernel}, {self.weight.shape[1] * self.groups} -> {self.weight.shape[0]}{stride}{groups}"


@dataclasses.dataclass(frozen=True, eq=False)
class Pad(LinearLayer):
    """Zeros before and after the last axes.

    **Arguments:** `padding`: how many, all begins, then all ends; both for as many axes, counted to the last.
    """

    padding: Padding

    def __post_init__(self) -> None:
        begins, ends = (tuple(map(int, side)) for side in self.padding)
        if len(begins) != len(ends) or min((*begins, *ends), default=0) < 0:
            raise ShapeError(f"`padding` holds begins and ends from 0 on for the same axes, got {self.padding}.")
        object.__setattr__(self, "padding", (begins, ends))

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = one_input(self, shapes)
        begins, ends = self.padding
        kept = len(shape) - len(begins)
        if kept < 0:
            raise ShapeError(f"Padding of {len(begins)} axes does not fit an input of shape {shape}.")
        return (*shape[:kept], *(b + n + e for b, n, e in zip(begins, shape[kept:], ends, strict=True)))

    def _inside(self, shape: Shape) -> tuple[slice | types.EllipsisType, ...]:
        begins = self.padding[0]
        sizes = shape[len(shape) - len(begins) :]
        return (..., *(slice(b, b + n) for b, n in zip(begins, sizes, strict=True)))

    def apply(self, x: Array, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        result = zeros((len(x), *self.output_shape(*shapes)), x, arithmetic)
        result[self._inside(shapes[0])] = x
        return result

    def apply_transposed(self, y: np.ndarray, position: int, shapes: tuple[Shape, ...]) -> np.ndarray:
        return y[self._inside(shapes[0])]

    def stencil(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Stencil | None:
        begins, shape = self.padding[0], shapes[0]
        axes = len(shape) - 1
        if len(begins) > axes:
            return None
        before = (0,) * (axes - len(begins)) + begins
        return Stencil(-np.array([before], dtype=np.int64), np.eye(shape[0])[None], (1,) * axes)

    def keeps_order(self) -> bool:
        return not any(self.padding[0]) and not any(self.padding[1])
