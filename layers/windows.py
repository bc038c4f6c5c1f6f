"""Windows that slide over the trailing axes of an array, as convolutions and poolings read them."""

import dataclasses
import itertools
import math
import types
from collections.abc import Iterator

import numpy as np

from .arithmetic import Arithmetic, Array, zeros
from .errors import ShapeError
from .layer import Shape

Padding = tuple[tuple[int, ...], tuple[int, ...]]
"""Zeros before and after each spatial axis: all begins, then all ends."""

Place = tuple[slice | types.EllipsisType, ...]

# Entries of the windows that are gathered at a time: 8 MB of float64, some 100 MB of balls.
_GATHERED = 2**20


@dataclasses.dataclass(frozen=True)
class Windows:
    """Where windows lie over spatial axes of the given size: tap k of window o reads entry o * stride - begin + k *
    dilation, and zero outside the axis.

    **Attributes:** `ends`: zeros after each axis that belong to the padding; with `ceil_mode` the last window may reach
    beyond them. All tuples have one entry for each spatial axis.

    **Raises:** `ShapeError` if an axis is too short for one window.
    """

    size: Shape
    kernel: Shape
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        if min(self.counts) < 1:
            raise ShapeError(f"A window of {_by(self._extents())} entries does not fit into an input of "
                             f"{_by(self.size)} padded to {_by(self._padded())}.")

    def _extents(self) -> Shape:
        """From the first to the last tap of a window, both included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def _padded(self) -> Shape:
        return tuple(b + n + e for b, n, e in zip(self.begins, self.size, self.ends, strict=True))

    @property
    def counts(self) -> Shape:
        """How many windows there are along each axis; none starts behind the input, in the padding after it."""
        counts = []
        for axis, (padded, extent) in enumerate(zip(self._padded(), self._extents(), strict=True)):
            stride, room = self.strides[axis], padded - extent
            count = 1 + (-(-room // stride) if self.ceil_mode else room // stride)
            if self.ceil_mode and (count - 1) * stride >= self.begins[axis] + self.size[axis]:
                count -= 1
            counts.append(count)
        return tuple(counts)

    def _buffer(self) -> Shape:
        """The size of an array in which every window lies."""
        return tuple(
            max(begin + size, (count - 1) * stride + extent)
            for begin, size, count, stride, extent in zip(
                self.begins, self.size, self.counts, self.strides, self._extents(), strict=True)
        )

    def _inside(self) -> Place:
        return (..., *(slice(begin, begin + size) for begin, size in zip(self.begins, self.size, strict=True)))

    def gather(self, x: Array, arithmetic: Arithmetic) -> Iterator[Array]:
        """What the windows read in x of shape (batch, channels, *size), as (batch, channels, *counts, *kernel).

        The batch comes in parts, one after the other, so that memory stays bounded.
        """
        axes = len(self.size)
        each = math.prod((x.shape[1], *self.counts, *self.kernel))
        step = max(1, _GATHERED // each)
        # The window that starts at every entry, thinned out to the strides and then to the dilations.
        starts = tuple(slice(0, n * s, s) for n, s in zip(self.counts, self.strides, strict=True))
        taps = tuple(slice(None, None, d) for d in self.dilations)
        for start in range(0, len(x), step):
            part = x[start : start + step]
            padded = zeros((*part.shape[:2], *self._buffer()), part, arithmetic)
            padded[self._inside()] = part
            views = np.lib.stride_tricks.sliding_window_view(padded, self._extents(), tuple(range(2, 2 + axes)))
            yield views[(slice(None), slice(None), *starts, *taps)]

    def scatter(self, taps: np.ndarray) -> np.ndarray:
        """The adjoint of `gather`: the sum of what each entry of x was read as."""
        result = np.zeros((*taps.shape[:2], *self._buffer()))
        for tap in itertools.product(*map(range, self.kernel)):
            read: Place = (..., *(slice(k * d, k * d + n * s, s) for k, d, n, s in zip(
                tap, self.dilations, self.counts, self.strides, strict=True)))
            written: tuple[int | types.EllipsisType, ...] = (..., *tap)
            result[read] += taps[written]
        return result[self._inside()]

    def taps(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The window o, the tap k and the entry i, all in row-major order, of every tap that reads an entry.

        No window reads an entry twice, so (o, i) determines k.
        """
        inside, entry = np.ones((1, 1), dtype=bool), np.zeros((1, 1), dtype=np.int64)
        for axis, size in enumerate(self.size):
            places = self._places(axis)
            fits = (places >= 0) & (places < size)
            inside = np.kron(inside, fits)
            entry = np.kron(entry, np.full(places.shape, size)) + np.kron(np.ones_like(entry), places)
        windows, taps = np.nonzero(inside)
        return windows, taps, entry[windows, taps]

    def offsets(self) -> np.ndarray:
        """Where tap k of window 0 reads, before or in the input, shape (taps, axes), the taps in row-major order."""
        axes = zip(self.kernel, self.dilations, self.begins, strict=True)
        places = [np.arange(taps) * dilation - begin for taps, dilation, begin in axes]
        return np.stack([axis.ravel() for axis in np.meshgrid(*places, indexing="ij")], axis=-1)

    def read(self, *, padding: bool) -> np.ndarray:
        """How many entries each window reads, of the input or with `padding` of the padded input; shape `counts`."""
        result = np.ones((), dtype=np.int64)
        for axis, size in enumerate(self.size):
            places = self._places(axis)
            before, after = (self.begins[axis], self.ends[axis]) if padding else (0, 0)
            along = np.count_nonzero((places >= -before) & (places < size + after), axis=1)
            result = np.multiply.outer(result, along)
        return result

    def _places(self, axis: int) -> np.ndarray:
        """The entry that tap k of window o reads along one axis, shape (counts, kernel)."""
        window, tap = np.arange(self.counts[axis]), np.arange(self.kernel[axis])
        return np.add.outer(window * self.strides[axis] - self.begins[axis], tap * self.dilations[axis])


def complete(
    kernel: Shape, strides: tuple[int, ...], dilations: tuple[int, ...], padding: Padding
) -> tuple[tuple[int, ...], tuple[int, ...], Padding]:
    """Strides, dilations and padding with one entry for each axis of the kernel; () stands for ones, or no padding.

    **Raises:** `ShapeError` if one has another length, or holds numbers without meaning.
    """
    axes = len(kernel)
    strides, dilations = tuple(map(int, strides)) or (1,) * axes, tuple(map(int, dilations)) or (1,) * axes
    begins, ends = (tuple(map(int, side)) or (0,) * axes for side in padding)
    for name, values, least in (("strides", strides, 1), ("dilations", dilations, 1), ("padding", begins, 0),
                                ("padding", ends, 0), ("kernel", kernel, 1)):
        if len(values) != axes or min(values, default=least) < least:
            raise ShapeError(f"`{name}` holds whole numbers from {least} on for {axes} axes, got {values}.")
    return strides, dilations, (begins, ends)


def _by(sizes: Shape) -> str:
    return " x ".join(map(str, sizes))


def wrapped_indices(shape: tuple[int, ...], reach: tuple[int, ...]) -> np.ndarray:
    """Indices of the flattened image (channels, *spatial axes) with `reach` pixels wrapped around on each side."""
    indices = np.arange(math.prod(shape)).reshape(shape)
    return np.pad(indices, [(0, 0), *((r, r) for r in reach)], mode="wrap")
