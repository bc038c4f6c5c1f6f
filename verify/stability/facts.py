"""What provers and the checker of stability share: a block for one input, as matrices where they are not too large."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import scipy.sparse
from netgain.layers import StableBlock
from netgain.layers.layer import Shape
from netgain.layers.stable_block import Border

from .conditions import SlopeBox
from .rows import Rows, rows_of

DENSE = 400
"""States up to this size are treated as vectors under dense matrices."""

MOST = 2048
"""Growth is proved of states up to this size."""

_WIDEST = 8192


@dataclasses.dataclass(frozen=True, eq=False)
class BlockFacts:
    """A block for inputs of one shape."""

    block: StableBlock
    input_shape: Shape

    @functools.cached_property
    def box(self) -> SlopeBox:
        """Step and slopes of the block's own activation."""
        return SlopeBox(self.block.step, *self.block.slopes)

    @property
    def size(self) -> int:
        """n, the entries of the state."""
        return math.prod(self.block.state_shape(self.input_shape))

    @property
    def dense(self) -> bool:
        """Whether matrices may be written out, and are exact."""
        return not self.obstacle

    @property
    def obstacle(self) -> str:
        """Why matrices are not written out, as a clause; empty if they are."""
        if self.size > DENSE:
            return f"the state has {self.size} entries, and matrices are written out up to {DENSE}"
        if (read := math.prod(self.input_shape)) > _WIDEST:
            return f"the input has {read} entries, and matrices are written out up to {_WIDEST}"
        if self.wraps:
            a, b = self.block.states[0], self.block.inputs[0]
            reach = [max(x, y) for x, y in zip(a.shape[2:], b.shape[2:], strict=True)]
            return f"the kernel of extents {tuple(reach)} is larger than the image {tuple(self.input_shape[1:])}"
        return ""

    @functools.cached_property
    def matrices(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A, B and C of the first stage."""
        return self.block.matrices(self.input_shape)

    @property
    def wraps(self) -> bool:
        """Whether taps of a small image wrapped around might be added to each other, and round."""
        a, b = self.block.states[0], self.block.inputs[0]
        reach = [max(x, y) for x, y in zip(a.shape[2:], b.shape[2:], strict=True)]
        return any(extent > size for extent, size in zip(reach, self.input_shape[1:], strict=True))

    def state_matrix(self) -> Any:
        """A of the first stage as a sparse array, exactly.

        **Raises:** `ValueError` where taps of a small image meet.
        """
        weight = self.block.states[0]
        if not self.block.convolutional:
            return scipy.sparse.csr_array(weight)
        circular, image = self.block.border is Border.CIRCULAR, self.input_shape[1:]
        if circular and self.wraps:
            raise ValueError(f"The taps of extents {weight.shape[2:]} meet on a circular image {image}.")
        channels, pixels = len(weight), math.prod(image)
        places = np.stack(np.unravel_index(np.arange(pixels), image), axis=-1)
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        own, read = np.indices((channels, channels)).reshape(2, -1)
        for tap in np.ndindex(weight.shape[2:]):
            source = places + np.array(tap) - np.array(weight.shape[2:]) // 2
            inside = np.all((source >= 0) & (source < image), axis=1) | circular
            target = np.flatnonzero(inside)
            found = np.ravel_multi_index(tuple(np.mod(source[inside], image).T), image)
            values = weight[(slice(None), slice(None), *tap)].ravel()
            parts.append((np.repeat(values, len(target)), np.add.outer(own * pixels, target).ravel(),
                          np.add.outer(read * pixels, found).ravel()))
        entries, rows, columns = (np.concatenate(part) for part in zip(*parts, strict=True))
        size = channels * pixels
        return scipy.sparse.csr_array((entries, (rows, columns)), shape=(size, size))

    @functools.cached_property
    def rows(self) -> list[Rows]:
        """By stage, or the one that all share: of units, or of channels for kernels."""
        return [rows_of(a, b) for a, b in zip(self.block.states, self.block.inputs, strict=True)]

    def with_slopes(self, lower: float, upper: float) -> SlopeBox:
        return SlopeBox(self.block.step, lower, upper)
