"""Layers that are affine: weights, element-wise scaling, sums, concatenation and changes of shape."""

import dataclasses
import math
import types

import numpy as np

from .arithmetic import FLOAT, Arithmetic, Array
from .errors import ShapeError
from .layer import Layer, LinearLayer, Shape, broadcasts, one_input, parameter
from .shift_invariant import Stencil, channel_stencil, diagonal_stencil


@dataclasses.dataclass(frozen=True, eq=False)
class Input(Layer):
    """The network's input u, of the given shape."""

    shape: Shape

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.shape

    def forward(self, *inputs: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        raise TypeError("An input has no formula; its value is given to the graph.")


class _Rearrangement(LinearLayer):
    """One input whose entries are kept in their row-major order."""

    def keeps_order(self) -> bool:
        return True

    def apply(self, x: Array, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        return x.reshape((x.shape[0], *self.output_shape(*shapes)))

    def apply_transposed(self, y: np.ndarray, position: int, shapes: tuple[Shape, ...]) -> np.ndarray:
        return y.reshape((y.shape[0], *shapes[0]))


@dataclasses.dataclass(frozen=True, eq=False)
class Output(_Rearrangement):
    """The network's output y, the sink of the graph."""

    def output_shape(self, *shapes: Shape) -> Shape:
        return one_input(self, shapes)

    def stencil(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Stencil:
        return channel_stencil(np.eye(shapes[0][0]), len(shapes[0]) - 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Reshape(_Rearrangement):
    """The same entries in row-major order (last axis fastest) under another shape; one entry may be -1."""

    shape: Shape

    def output_shape(self, *shapes: Shape) -> Shape:
        given = one_input(self, shapes)
        size, known = math.prod(given), math.prod(d for d in self.shape if d != -1)
        undivided = known != size if -1 not in self.shape else known == 0 or size % known
        if self.shape.count(-1) > 1 or min(self.shape, default=1) < -1 or undivided:
            raise ShapeError(f"Cannot reshape {given} ({size} entries) to {self.shape}.")
        return tuple(size // known if d == -1 else d for d in self.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Flatten(_Rearrangement):
    """All entries as one vector, in row-major order: C, H, W for an image stored channels first."""

    def output_shape(self, *shapes: Shape) -> Shape:
        return (math.prod(one_input(self, shapes)),)


@dataclasses.dataclass(frozen=True, eq=False)
class Affine(LinearLayer):
    """y = W x + b along one axis of the input.

    **Arguments:** `weight`: W, shape (out, in); `bias`: b, broadcastable to the output's shape, or None; `axis`: the
    axis of the input (counted without the batch axis, from the end) that W contracts.
    """

    weight: np.ndarray
    bias: np.ndarray | None = None
    axis: int = -1

    def __post_init__(self) -> None:
        weight = parameter(self.weight, "weight")
        if weight.ndim != 2 or 0 in weight.shape:
            raise ShapeError(f"The weight of an affine layer is a non-empty matrix (out, in), got {weight.shape}.")
        if self.axis >= 0:
            raise ShapeError(f"`axis` is counted from the end: -1 is the last, got {self.axis}.")
        object.__setattr__(self, "weight", weight)
        if self.bias is not None:
            object.__setattr__(self, "bias", parameter(self.bias, "bias"))

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = one_input(self, shapes)
        out, size = self.weight.shape
        if len(shape) < -self.axis or shape[self.axis] != size:
            hint = " Is the weight transposed?" if len(shape) >= -self.axis and shape[self.axis] == out else ""
            raise ShapeError(f"The weight is {out} x {size}, so axis {self.axis} must have {size} entries, "
                             f"but the input has shape {shape}.{hint}")
        result = list(shape)
        result[self.axis] = out
        if self.bias is not None and not broadcasts(self.bias.shape, tuple(result)):
            raise ShapeError(f"The bias of shape {self.bias.shape} does not fit the output {tuple(result)}.")
        return tuple(result)

    def apply(self, x: Array, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        return np.moveaxis(arithmetic.matmul(np.moveaxis(x, self.axis, -1), self.weight.T), -1, self.axis)

    def apply_transposed(self, y: np.ndarray, position: int, shapes: tuple[Shape, ...]) -> np.ndarray:
        return np.moveaxis(np.moveaxis(y, self.axis, -1) @ self.weight, -1, self.axis)

    def unrolled(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array | None:
        return self.weight.T if len(shapes[0]) == 1 else None

    def offset(self) -> np.ndarray | None:
        return self.bias

    def describe(self) -> str:
        return f"Affine {self.weight.shape[1]} -> {self.weight.shape[0]}"


class _Diagonal(LinearLayer):
    """y = s * x + offset entrywise, where s may be no float64 and is stated as a formula."""

    def scale(self, arithmetic: Arithmetic) -> Array:
        """s, broadcastable to the input's shape."""
        raise NotImplementedError

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = one_input(self, shapes)
        scale = self.scale(FLOAT)
        for name, array in (("scale", scale), ("offset", self.offset())):
            if array is not None and not broadcasts(np.shape(array), shape):
                raise ShapeError(f"The {name} of shape {np.shape(array)} does not fit the input {shape}.")
        return shape

    def apply(self, x: Array, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        return x * self.scale(arithmetic)

    def apply_transposed(self, y: np.ndarray, position: int, shapes: tuple[Shape, ...]) -> np.ndarray:
        adjoint: np.ndarray = y * self.scale(FLOAT)
        return adjoint

    def stencil(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Stencil | None:
        return diagonal_stencil(self.scale(arithmetic), shapes[0], arithmetic)


@dataclasses.dataclass(frozen=True, eq=False)
class Scale(_Diagonal):
    """y = x * multiplier / divisor + shift, entrywise; every array broadcasts to the input's shape.

    The quotient is kept as written: 1/divisor is rarely a float64, so the checker encloses it.
    """

    multiplier: np.ndarray | float = 1.0
    divisor: np.ndarray | float = 1.0
    shift: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "multiplier", parameter(self.multiplier, "multiplier"))
        object.__setattr__(self, "divisor", parameter(self.divisor, "divisor"))
        if np.any(self.divisor == 0):
            raise ShapeError("`divisor` has zero entries: the map is not defined there.")
        if self.shift is not None:
            object.__setattr__(self, "shift", parameter(self.shift, "shift"))

    def scale(self, arithmetic: Arithmetic) -> Array:
        return arithmetic.constant(self.multiplier) / arithmetic.constant(self.divisor)

    def keeps_order(self) -> bool:
        return bool(np.all(np.asarray(self.multiplier) == self.divisor))

    def offset(self) -> np.ndarray | None:
        return self.shift


@dataclasses.dataclass(frozen=True, eq=False)
class BatchNormalization(_Diagonal):
    """y = (x - mean) * gamma / sqrt(variance + epsilon) + beta per channel, in inference mode.

    **Arguments:** four arrays of shape (channels,); `trailing`: how many axes of the input follow the channel axis.
    """

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float = 1e-5
    trailing: int = 0

    def __post_init__(self) -> None:
        for name in ("gamma", "beta", "mean", "variance"):
            object.__setattr__(self, name, parameter(getattr(self, name), name))
        shapes = {getattr(self, name).shape for name in ("gamma", "beta", "mean", "variance")}
        if len(shapes) != 1 or self.gamma.ndim != 1:
            raise ShapeError(f"Batch normalisation needs four vectors of one length, got shapes {sorted(shapes)}.")
        if np.any(self.variance + self.epsilon <= 0):
            raise ShapeError("Batch normalisation needs variance + epsilon > 0 in every channel.")

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = super().output_shape(*shapes)
        if shape[-1 - self.trailing] != len(self.gamma):  # one channel must not broadcast to several
            raise ShapeError(f"{len(self.gamma)} channels were normalised, the input {shape} has "
                             f"{shape[-1 - self.trailing]}.")
        return shape

    def _column(self, values: Array) -> Array:
        return values.reshape(values.shape + (1,) * self.trailing)

    def scale(self, arithmetic: Arithmetic) -> Array:
        variance = arithmetic.constant(self.variance) + arithmetic.constant(self.epsilon)
        return self._column(arithmetic.constant(self.gamma) / arithmetic.sqrt(variance))

    def forward(self, *inputs: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        mean, beta = self._column(arithmetic.constant(self.mean)), self._column(arithmetic.constant(self.beta))
        return (inputs[0] - mean) * self.scale(arithmetic) + beta


@dataclasses.dataclass(frozen=True, eq=False)
class Add(LinearLayer):
    """The sum of inputs of one shape, each with sign +1 or -1."""

    signs: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.signs or any(sign not in (1, -1) for sign in self.signs):
            raise ShapeError(f"`signs` holds +1 or -1 for each input, got {self.signs}.")

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != len(self.signs) or len(set(shapes)) != 1:
            raise ShapeError(f"An addition of {len(self.signs)} inputs needs as many of one shape, got {shapes}.")
        return shapes[0]

    def apply(self, x: Array, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        return x if self.signs[position] == 1 else -x

    def apply_transposed(self, y: np.ndarray, position: int, shapes: tuple[Shape, ...]) -> np.ndarray:
        return self.signs[position] * y

    def stencil(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Stencil:
        return channel_stencil(self.signs[position] * np.eye(shapes[0][0]), len(shapes[0]) - 1)

    def keeps_order(self) -> bool:
        return all(sign == 1 for sign in self.signs)


@dataclasses.dataclass(frozen=True, eq=False)
class Concatenate(LinearLayer):
    """Inputs side by side along `axis`, counted from the end (-1 is the last)."""

    axis: int = -1

    def __post_init__(self) -> None:
        if self.axis >= 0:
            raise ShapeError(f"`axis` is counted from the end: -1 is the last, got {self.axis}.")

    def output_shape(self, *shapes: Shape) -> Shape:
        rests = {shape[: self.axis] + (shape[self.axis + 1 :] if self.axis != -1 else ()) for shape in shapes}
        if not shapes or len(rests) != 1 or any(len(shape) < -self.axis for shape in shapes):
            raise ShapeError(f"Cannot concatenate shapes {shapes} along axis {self.axis}.")
        result = list(shapes[0])
        result[self.axis] = sum(shape[self.axis] for shape in shapes)
        return tuple(result)

    def _slice(self, position: int, shapes: tuple[Shape, ...]) -> tuple[slice | types.EllipsisType, ...]:
        start = sum(shape[self.axis] for shape in shapes[:position])
        return (..., slice(start, start + shapes[position][self.axis]), *(slice(None),) * (-self.axis - 1))

    def apply(self, x: Array, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        result = np.zeros((x.shape[0], *self.output_shape(*shapes)), dtype=x.dtype)
        result[self._slice(position, shapes)] = x
        return result

    def apply_transposed(self, y: np.ndarray, position: int, shapes: tuple[Shape, ...]) -> np.ndarray:
        return y[self._slice(position, shapes)]

    def stencil(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Stencil | None:
        if -self.axis != len(shapes[0]):
            return None
        channels = [shape[0] for shape in shapes]
        matrix = np.eye(sum(channels))[:, sum(channels[:position]) : sum(channels[: position + 1])]
        return channel_stencil(matrix, len(shapes[0]) - 1)

    def forward(self, *inputs: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        return arithmetic.concatenate(inputs, self.axis)


@dataclasses.dataclass(frozen=True, eq=False)
class Select(LinearLayer):
    """Entries of the flattened input, by index: slices, gathers, transposes and broadcasts.

    **Arguments:** `indices`: y[j] = x.ravel()[indices[j]], of the output's shape; `source`: the input's shape.
    """

    indices: np.ndarray
    source: Shape

    def __post_init__(self) -> None:
        indices = np.array(self.indices, dtype=np.int64)
        if indices.size and not (indices.min() >= 0 and indices.max() < math.prod(self.source)):
            raise ShapeError(f"Indices run from {indices.min()} to {indices.max()}, outside an input of {self.source}.")
        indices.setflags(write=False)
        object.__setattr__(self, "indices", indices)

    def output_shape(self, *shapes: Shape) -> Shape:
        if one_input(self, shapes) != self.source:
            raise ShapeError(f"This selection is for inputs of shape {self.source}, got {shapes[0]}.")
        return self.indices.shape

    def apply(self, x: Array, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        return x.reshape((x.shape[0], -1))[:, self.indices]

    def apply_transposed(self, y: np.ndarray, position: int, shapes: tuple[Shape, ...]) -> np.ndarray:
        result = np.zeros((y.shape[0], math.prod(self.source)))
        np.add.at(result.T, self.indices.ravel(), y.reshape((y.shape[0], -1)).T)
        return result.reshape((y.shape[0], *self.source))
