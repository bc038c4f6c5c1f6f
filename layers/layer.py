"""What every layer of a network states about itself."""

import abc
import dataclasses
from typing import Any

import numpy as np

from .arithmetic import FLOAT, Arithmetic, Array
from .errors import ModelError, ShapeError
from .shift_invariant import Stencil

Shape = tuple[int, ...]


def parameter(values: Any, name: str) -> np.ndarray:
    """`values` as a read-only float64 array; widening from float32 is exact.

    **Raises:** `ModelError` if an entry is not finite or not a real floating-point number.
    """
    given = np.asarray(values)
    if given.dtype.kind not in "fiu":
        raise ModelError(f"`{name}` has dtype {given.dtype}, expected real floating-point numbers.")
    array = np.array(given, dtype=np.float64)
    if given.dtype.kind in "iu" and any(int(float(v)) != v for v in given[np.abs(array) >= 2.0**53].tolist()):
        raise ModelError(f"`{name}` holds integers beyond 2^53, which float64 cannot represent exactly.")
    if given.dtype.itemsize > 8 and not np.array_equal(array.astype(given.dtype), given, equal_nan=True):
        raise ModelError(f"`{name}` has dtype {given.dtype} and holds numbers longer than float64.")
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        entries = "1 entry that is" if bad == 1 else f"{bad} entries that are"
        raise ModelError(
            f"`{name}` of shape {array.shape} has {entries} NaN or infinite; a bound needs finite weights. Perhaps the "
            "training diverged, or the file is damaged."
        )
    array.setflags(write=False)
    return array


class Layer(abc.ABC):
    """A map from one or more arrays to one array.

    Shapes exclude the batch axis; every array a layer is given or returns has one leading batch axis.
    """

    @abc.abstractmethod
    def output_shape(self, *shapes: Shape) -> Shape:
        """Shape of the output for inputs of these shapes.

        **Raises:** `ShapeError` if they do not fit the layer.
        """

    @abc.abstractmethod
    def forward(self, *inputs: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        """The layer's value, batch first."""

    def parameters(self) -> dict[str, Any]:
        """Everything besides its type that determines the layer's map, in a fixed order."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: getattr(self, field.name) for field in fields}

    def describe(self) -> str:
        """A few words for tables: the layer's kind."""
        return type(self).__name__


class LinearLayer(Layer):
    """An affine map; its linear part is stated input by input.

    With inputs x_0, .., x_p the value is sum_i T_i x_i + offset: `apply` is T_i, `apply_transposed` its adjoint.
    """

    @abc.abstractmethod
    def apply(self, x: Array, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        """T_position x for a batch x of shape (batch, *shapes[position])."""

    @abc.abstractmethod
    def apply_transposed(self, y: np.ndarray, position: int, shapes: tuple[Shape, ...]) -> np.ndarray:
        """The adjoint T_position^T y for a batch y of the output's shape."""

    def unrolled(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array | None:
        """T_position of every unit vector, shape (entries of the input, *output shape), written down from the weights.

        A float64 array holds exactly these numbers, whatever the arithmetic. None where `apply` is no worse.
        """
        return None

    def stencil(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Stencil | None:
        """T_position of an input (channels, *spatial axes) where it treats every pixel alike; None where it does not.

        The stencil agrees with the layer at every pixel of the output, given an input that is zero outside its image.
        """
        return None

    def offset(self) -> np.ndarray | None:
        """The constant part, broadcastable to the output's shape; None for zero."""
        return None

    def keeps_order(self) -> bool:
        """Whether the linear part of a single input is the identity on the flattened array."""
        return False

    def forward(self, *inputs: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        shapes = tuple(tuple(x.shape[1:]) for x in inputs)
        value = self.apply(inputs[0], 0, shapes, arithmetic)
        for position in range(1, len(inputs)):
            value = value + self.apply(inputs[position], position, shapes, arithmetic)
        offset = self.offset()
        return value if offset is None else value + arithmetic.constant(offset)


class NonlinearLayer(Layer):
    """A layer of one input with a derivative almost everywhere.

    Where there is none, it is the limit of those at some points nearby.
    """

    @abc.abstractmethod
    def apply_derivative(self, x: np.ndarray, dx: np.ndarray) -> Array:
        """The derivative at x along dx, both of shape (batch, *input shape)."""

    @abc.abstractmethod
    def apply_derivative_transposed(self, x: np.ndarray, dy: np.ndarray) -> Array:
        """The adjoint of `apply_derivative`, for dy of shape (batch, *output shape)."""


def one_input(layer: Layer, shapes: tuple[Shape, ...]) -> Shape:
    """The only shape in `shapes`, for layers of one input.

    **Raises:** `ShapeError` otherwise.
    """
    if len(shapes) != 1:
        raise ShapeError(f"{layer.describe()} takes one input, got {len(shapes)}.")
    return shapes[0]


def broadcasts(shape: Shape, to: Shape) -> bool:
    """Whether an array of this shape broadcasts to the shape `to` without enlarging it."""
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False))
