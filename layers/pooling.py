"""Averages and maxima over windows, and means over whole axes."""

import dataclasses
import math

import numpy as np

from .arithmetic import FLOAT, Arithmetic, Array
from .errors import ShapeError
from .layer import Layer, LinearLayer, NonlinearLayer, Shape, one_input
from .shift_invariant import Stencil
from .windows import Padding, Windows, complete


def _shares(ones: np.ndarray, counts: np.ndarray, arithmetic: Arithmetic) -> Array:
    """ones / counts for an array of zeros and ones: exact numbers where all quotients are float64, else enclosed."""
    if np.all(counts & (counts - 1) == 0):
        return ones / counts  # powers of two
    return arithmetic.constant(ones) / arithmetic.constant(counts)


@dataclasses.dataclass(frozen=True, eq=False)
class _Pool(Layer):
    """One number for each window of each channel.

    **Arguments:** `kernel`: the window; `strides`, `dilations`: one entry for each axis of it, () for ones; `padding`:
    entries in front of and behind each of these axes, all begins, then all ends; `ceil_mode`: whether a last window
    that is not full counts, unless it starts behind the input.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    padding: Padding = ((), ())
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        kernel = tuple(map(int, self.kernel))
        if not kernel:
            raise ShapeError("`kernel` of a pooling layer has at least one axis.")
        strides, dilations, padding = complete(kernel, self.strides, self.dilations, self.padding)
        for name, value in (("kernel", kernel), ("strides", strides), ("dilations", dilations), ("padding", padding)):
            object.__setattr__(self, name, value)

    def windows(self, shape: Shape) -> Windows:
        """The windows over an input of this shape.

        **Raises:** `ShapeError` if it does not fit the layer, or a window reads nothing.
        """
        if len(shape) != len(self.kernel) + 1:
            raise ShapeError(f"A window with {len(self.kernel)} axes takes channels and as many spatial axes, "
                             f"got {shape}.")
        windows = Windows(shape[1:], self.kernel, self.strides, self.dilations, *self.padding, self.ceil_mode)
        if not np.all(self._counted(windows)):
            raise ShapeError(f"A window of the input {shape} lies in the padding and reads nothing.")
        return windows

    def _counted(self, windows: Windows) -> np.ndarray:
        """How many entries count in each window."""
        return windows.read(padding=False)

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = one_input(self, shapes)
        return (shape[0], *self.windows(shape).counts)

    def describe(self) -> str:
        return f"{type(self).__name__} {'x'.join(map(str, self.kernel))}"


@dataclasses.dataclass(frozen=True, eq=False)
class AveragePool(_Pool, LinearLayer):
    """The mean over each window of each channel.

    The mean is over the entries of the input that the window reads, or with `count_include_pad` over these and the
    zeros of `padding`; what lies beyond, where `ceil_mode` lets the last window end, never counts. The other arguments
    are those of `_Pool`.
    """

    count_include_pad: bool = False

    def _counted(self, windows: Windows) -> np.ndarray:
        return windows.read(padding=self.count_include_pad)

    def apply(self, x: Array, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        windows = self.windows(shapes[0])
        ones = np.ones((math.prod(self.kernel), 1))
        sums = [
            arithmetic.matmul(read.reshape((-1, len(ones))), ones).reshape((*read.shape[:2], *windows.counts))
            for read in windows.gather(x, arithmetic)
        ]
        return np.concatenate(sums) / arithmetic.constant(self._counted(windows))

    def apply_transposed(self, y: np.ndarray, position: int, shapes: tuple[Shape, ...]) -> np.ndarray:
        windows = self.windows(shapes[0])
        shares = y / self._counted(windows)
        axes = len(self.kernel)
        return windows.scatter(np.broadcast_to(shares.reshape(shares.shape + (1,) * axes), shares.shape + self.kernel))

    def unrolled(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        windows, channels = self.windows(shapes[0]), shapes[0][0]
        window, _, entry = windows.taps()
        matrix = np.zeros((channels, math.prod(windows.size), channels, math.prod(windows.counts)))
        for channel in range(channels):
            matrix[channel, entry, channel, window] = 1
        matrix = matrix.reshape((-1, channels, *windows.counts))
        return _shares(matrix, self._counted(windows), arithmetic)

    def stencil(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Stencil | None:
        windows, channels = self.windows(shapes[0]), shapes[0][0]
        counts, offsets = self._counted(windows), windows.offsets()
        if np.any(counts != len(offsets)):  # a window at the border takes the mean of fewer entries
            return None
        share = _shares(np.eye(channels), np.array(len(offsets)), arithmetic)
        return Stencil(offsets, np.broadcast_to(share, (len(offsets), channels, channels)), self.strides)


@dataclasses.dataclass(frozen=True, eq=False)
class MaxPool(_Pool, NonlinearLayer):
    """The largest entry of each window of each channel; `padding` stands for -infinity, so it is never read.

    The arguments are those of `_Pool`. A kernel of the input's spatial size takes the maximum over whole channels.
    """

    def reuse(self, shape: Shape) -> int:
        """The largest number of windows that read one entry of an input of this shape.

        For dilations of one, and if the input has room for as many windows, it is the product of ceil(kernel / stride)
        over the axes. The layer's l2 gain is at most its square root: |max_i a_i - max_i b_i|^2 <= sum_i (a_i - b_i)^2
        over each window, and in the sum over all windows no entry counts more often.
        """
        return int(np.bincount(self.windows(shape).taps()[2]).max())

    def _table(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        """The entries each window reads, shape (taps, windows), in ascending order, and whether a tap does read one.

        Where it lies in the padding, an entry of the same window stands in, which changes no maximum.
        """
        windows = self.windows(shape)
        window, tap, entry = windows.taps()
        table = np.full((math.prod(windows.counts), math.prod(windows.kernel)), -1)
        table[window, tap] = entry
        # An entry before the tap, or for the first taps the first that is read: from there on, none is less.
        first = np.take_along_axis(table, np.argmax(table >= 0, axis=1)[:, None], axis=1)
        return np.maximum.accumulate(np.maximum(table, first), axis=1).T, table.T >= 0

    def forward(self, *inputs: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        (x,) = inputs
        first, *others = self._table(x.shape[1:])[0]
        flat = x.reshape((*x.shape[:2], -1))
        value = flat[:, :, first]
        for entries in others:
            value = arithmetic.maximum(value, flat[:, :, entries])
        return value.reshape((len(x), *self.output_shape(tuple(x.shape[1:]))))

    def _maximisers(self, x: np.ndarray) -> np.ndarray:
        """The entry each window takes, of several largest the first, shape (batch, channels, windows)."""
        first, *others = self._table(x.shape[1:])[0]
        flat = x.reshape((*x.shape[:2], -1))
        value, entry = flat[:, :, first], np.broadcast_to(first, (*flat.shape[:2], len(first)))
        for entries in others:
            larger = flat[:, :, entries] > value
            value, entry = np.where(larger, flat[:, :, entries], value), np.where(larger, entries, entry)
        return entry

    def softened(self, x: np.ndarray, width: float) -> "SoftMaximum":
        """The derivative at x with the maximum softened, see `SoftMaximum`."""
        table, inside = self._table(x.shape[1:])
        scores = np.where(inside, x.reshape((*x.shape[:2], -1))[:, :, table], -np.inf) / width
        shares = np.exp(scores - scores.max(axis=2, keepdims=True))
        shares /= shares.sum(axis=2, keepdims=True)
        return SoftMaximum(table, shares, width, x.shape, self.output_shape(x.shape[1:]))

    def apply_derivative(self, x: np.ndarray, dx: np.ndarray) -> Array:
        taken = np.take_along_axis(dx.reshape((*dx.shape[:2], -1)), self._maximisers(x), axis=2)
        return taken.reshape((len(x), *self.output_shape(x.shape[1:])))

    def apply_derivative_transposed(self, x: np.ndarray, dy: np.ndarray) -> Array:
        entry = self._maximisers(x)
        images = math.prod(x.shape[:2])
        result = np.zeros((images, math.prod(x.shape[2:])))
        np.add.at(result, (np.arange(images)[:, None], entry.reshape((images, -1))), dy.reshape((images, -1)))
        return result.reshape(x.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class SoftMaximum:
    """A mean over each window with shares exp(x_i / width) / sum_j exp(x_j / width), linear for given shares.

    It tends to the derivative of the maximum as `width` does to 0, but varies with x.

    **Attributes:** `table`: the entry of each tap, shape (taps, windows); `shares`: shape (batch, channels, taps,
    windows); `source`: the shape of x with its batch axis; `target`: that of one output.
    """

    table: np.ndarray
    shares: np.ndarray
    width: float
    source: Shape
    target: Shape

    def _read(self, dx: np.ndarray) -> np.ndarray:
        read: np.ndarray = dx.reshape((*self.source[:2], -1))[:, :, self.table]
        return read

    def _scattered(self, taps: np.ndarray) -> np.ndarray:
        """The adjoint of `_read`."""
        images = math.prod(self.source[:2])
        result = np.zeros((images, math.prod(self.source[2:])))
        np.add.at(result, (np.arange(images)[:, None, None], self.table), taps.reshape((images, *self.table.shape)))
        return result.reshape(self.source)

    def apply(self, dx: np.ndarray) -> np.ndarray:
        """The means of dx, shape (batch, *target)."""
        means: np.ndarray = np.sum(self.shares * self._read(dx), axis=2)
        return means.reshape((len(dx), *self.target))

    def transpose(self, dy: np.ndarray) -> np.ndarray:
        """The adjoint of `apply`."""
        return self._scattered(self.shares * dy.reshape((*self.source[:2], 1, -1)))

    def gradient(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The gradient of left^T apply(right) with respect to x, through the shares."""
        read = self._read(right)
        deviation = read - np.sum(self.shares * read, axis=2, keepdims=True)
        return self._scattered(left.reshape((*self.source[:2], 1, -1)) * self.shares * deviation / self.width)


@dataclasses.dataclass(frozen=True, eq=False)
class Mean(LinearLayer):
    """The mean over whole axes: global average pooling, where they are the spatial ones.

    **Arguments:** `axes`: counted from the end (-1 is the last); `keep`: whether they stay, with one entry each.
    """

    axes: tuple[int, ...]
    keep: bool = True

    def __post_init__(self) -> None:
        axes = tuple(sorted(map(int, self.axes)))
        if not axes or max(axes) >= 0 or len(set(axes)) != len(axes):
            raise ShapeError(f"`axes` holds different axes counted from the end: -1 is the last, got {self.axes}.")
        object.__setattr__(self, "axes", axes)

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = one_input(self, shapes)
        if len(shape) < -self.axes[0]:
            raise ShapeError(f"A mean over the axes {self.axes} does not fit an input of shape {shape}.")
        return tuple(
            1 if axis in self.axes else size for axis, size in enumerate(shape, -len(shape))
            if self.keep or axis not in self.axes
        )

    def _count(self, shape: Shape) -> np.ndarray:
        return np.array(math.prod(shape[axis] for axis in self.axes))

    def apply(self, x: Array, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        count = self._count(shapes[0])
        rows = np.moveaxis(x, self.axes, range(-len(self.axes), 0)).reshape((-1, int(count)))
        sums = arithmetic.matmul(rows, np.ones((int(count), 1)))
        return sums.reshape((len(x), *self.output_shape(*shapes))) / arithmetic.constant(count)

    def apply_transposed(self, y: np.ndarray, position: int, shapes: tuple[Shape, ...]) -> np.ndarray:
        kept = (1 if axis in self.axes else size for axis, size in enumerate(shapes[0], -len(shapes[0])))
        shares = y.reshape((len(y), *kept)) / self._count(shapes[0])
        return np.broadcast_to(shares, (len(y), *shapes[0]))

    def unrolled(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        size = math.prod(shapes[0])
        # Each entry is read once, so that the sums over unit vectors are zeros and ones.
        sums = np.eye(size).reshape((size, *shapes[0])).sum(axis=self.axes)
        return _shares(sums.reshape((size, *self.output_shape(*shapes))), self._count(shapes[0]), arithmetic)

    def describe(self) -> str:
        return f"Mean over axes {', '.join(map(str, self.axes))}"
