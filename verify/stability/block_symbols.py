r"""The weights of a block by stage and frequency: what a metric of units, or of channels at every pixel, has to suit.

On a torus of cells a kernel acts on every plane wave exp(i w . q) by its symbol A(w), a matrix of channels, so that
quadratic forms with the same Q at every pixel split by frequency (Parseval).

- A circular border: the image is the torus, and the split is exact.
- A border of zeros: with E the embedding of the image into a torus so large that no tap reaches around it, the
  convolution is the compression A_0 = E^T A E, and likewise B_0 = E^T B E. Let D_0 be slopes on the image and D any
  slopes in the interval on the torus that extend them. As D is diagonal, E^T D = D_0 E^T, so that

      I + h D_0 A_0 = E^T (I + h D A) E,    h D_0 B_0 = E^T (h D B) E.

  Q acts on every pixel alone, so E is an isometry of its norm and E^T does not expand it. What is proved of a step on
  the torus for all slopes, |e+|_Q^2 <= r^2 |e|_Q^2 + sigma |v|^2, holds for the step on the image: (e, v) embedded, one
  step on the torus, and what lies outside the image cut off. (Pixels outside need not have the slope zero.)

A fully connected block has its matrices, and no frequencies.
"""

import functools
from collections.abc import Iterator

import numpy as np
from flint import arb_mat
from netgain.layers.shift_invariant import Kernel
from netgain.layers.stable_block import Border

from ..balls import to_matrix
from ..check_spectral import Twiddles, frequencies
from ..enclosed_matrix import BALLS, DOUBLE, DoubleMatrix
from .facts import BlockFacts

# Frequencies whose symbols are held at a time.
_STACK = 64


def torus(facts: BlockFacts) -> tuple[int, ...]:
    """The extents of a torus on which the block may be looked at, in pixels; () for a fully connected block."""
    block = facts.block
    pixels = facts.input_shape[1:] if block.convolutional else ()
    if block.border is Border.CIRCULAR:
        return pixels
    extents = zip(block.states[0].shape[2:], block.inputs[0].shape[2:], strict=True)
    return tuple(size + max(pair) // 2 for size, pair in zip(pixels, extents, strict=True))


def kernel_of(weight: np.ndarray) -> Kernel:
    """y[q] = sum of taps times x at q + shift, the middle tap at the shift 0."""
    extents = weight.shape[2:]
    places = np.stack(np.unravel_index(np.arange(int(np.prod(extents))), extents), axis=-1)
    taps = weight.reshape((*weight.shape[:2], -1))
    return Kernel(places - np.array(extents) // 2, np.ascontiguousarray(np.moveaxis(taps, -1, 0)))


class BlockSymbols:
    """A and B of every stage, at all frequencies up to sign, as enclosures: X + iY as [[X, -Y], [Y, X]]."""

    def __init__(self, facts: BlockFacts):
        self.facts, self.cells = facts, torus(facts)

    @property
    def copies(self) -> int:
        """How often each unit or channel appears: twice, for real and imaginary parts, or once."""
        return 2 if self.cells else 1

    @functools.cached_property
    def twiddles(self) -> Twiddles:
        return Twiddles(self.cells)

    def stages(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Each stage with its A and B."""
        block = self.facts.block
        yield from zip(range(len(block.states)), block.states, block.inputs, strict=True)

    def in_double(self, a: np.ndarray, b: np.ndarray) -> Iterator[tuple[np.ndarray | None, DoubleMatrix, DoubleMatrix]]:
        """Each frequency with A and B there; None as the frequency of matrices."""
        if not self.cells:
            yield None, DOUBLE.exact(a), DOUBLE.exact(b)
            return
        kernels, places = (kernel_of(a), kernel_of(b)), frequencies(self.cells)
        for start in range(0, len(places), _STACK):
            stack = places[start : start + _STACK]
            first, second = (self.twiddles.symbols(kernel, stack) for kernel in kernels)
            for k, n in enumerate(stack):
                yield n, DoubleMatrix(first.mid[k], first.rad[k]), DoubleMatrix(second.mid[k], second.rad[k])

    def at(self, weight: np.ndarray, n: np.ndarray) -> DoubleMatrix:
        """A or B at one frequency, in double precision."""
        found = self.twiddles.symbols(kernel_of(weight), n[None])
        return DoubleMatrix(found.mid[0], found.rad[0])

    def in_balls(self, weight: np.ndarray, n: np.ndarray | None) -> arb_mat:
        """A or B at one frequency, at the current precision."""
        if n is None:
            return BALLS.exact(weight)
        return to_matrix(self.twiddles.symbol_in_balls(kernel_of(weight), n))
