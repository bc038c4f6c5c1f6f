r"""Linear maps that treat every pixel alike: as stencils on the pixels, and as kernels between polyphase components.

A stencil states a layer as y[o] = sum_t coefficients[t] x[o * strides + offsets[t]], with x zero outside its image.
Where rates differ (strides, pooling), every signal is cut into its polyphase components: with `rate` pixels to one
cell of the coarsest grid along each axis, component (channel c, phase f) at cell q is channel c at pixel q * rate + f.
Between such signals every stencil is a kernel of stride one, y[q] = sum_s coefficients[s] x[q + shifts[s]], and
kernels add and compose like Laurent polynomials with matrix coefficients.
"""

import dataclasses
import itertools
import math

import numpy as np

from .arithmetic import Arithmetic, Array, zeros

Rate = tuple[int, ...]
"""Pixels to one cell of the coarsest grid, along each spatial axis."""


@dataclasses.dataclass(frozen=True, eq=False)
class Stencil:
    """y[:, o] = sum_t coefficients[t] x[:, o * strides + offsets[t]].

    **Attributes:** `offsets`: shape (taps, axes), integers; `coefficients`: shape (taps, channels out, channels in);
    a float64 array holds exactly these numbers, whatever the arithmetic; `strides`: one entry for each spatial axis.
    """

    offsets: np.ndarray
    coefficients: Array
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """y[:, q] = sum_s coefficients[s] x[:, q + shifts[s]] on the coarsest grid.

    **Attributes:** `shifts`: shape (terms, axes), integers without repetition; `coefficients`: shape (terms, rows,
    columns), float64 for exactly these numbers, or balls.
    """

    shifts: np.ndarray
    coefficients: Array

    @property
    def rows(self) -> int:
        return int(self.coefficients.shape[1])

    @property
    def columns(self) -> int:
        return int(self.coefficients.shape[2])


def channel_stencil(matrix: Array, axes: int) -> Stencil:
    """The stencil of one matrix (out, in) applied to the channels of every pixel."""
    return Stencil(np.zeros((1, axes), dtype=np.int64), matrix[None], (1,) * axes)


def diagonal_stencil(scale: Array, shape: tuple[int, ...], arithmetic: Arithmetic) -> Stencil | None:
    """The stencil of a multiplication by `scale`, broadcastable to `shape`; None if it differs from pixel to pixel."""
    scale = np.asarray(scale)
    full = scale.reshape((1,) * (len(shape) - scale.ndim) + scale.shape)
    if math.prod(full.shape[1:]) != 1:
        return None
    diagonal = np.broadcast_to(full.reshape(-1), (shape[0],))
    matrix = zeros((shape[0], shape[0]), scale, arithmetic)
    matrix[np.arange(shape[0]), np.arange(shape[0])] = diagonal
    return channel_stencil(matrix, len(shape) - 1)


def identity(size: int, axes: int) -> Kernel:
    return Kernel(np.zeros((1, axes), dtype=np.int64), np.eye(size)[None])


def polyphase(stencil: Stencil, rate: Rate, arithmetic: Arithmetic) -> Kernel:
    """The stencil as a kernel, the output having `rate` pixels to a cell and the input `rate` times the strides.

    Components are ordered by channel, then phase, the phases in row-major order.
    """
    coefficients = stencil.coefficients
    out, columns = coefficients.shape[1:]
    rate_in = np.array(rate) * stencil.strides
    phases = np.array(list(itertools.product(*map(range, rate))))
    read = phases[:, None] * stencil.strides + stencil.offsets
    shift, phase = np.floor_divide(read, rate_in), np.mod(read, rate_in)
    phase_in = np.ravel_multi_index(tuple(np.moveaxis(phase, -1, 0)), tuple(rate_in))
    shifts, term = np.unique(shift.reshape(-1, len(rate)), axis=0, return_inverse=True)
    result = zeros((len(shifts), out, len(phases), columns, math.prod(rate_in)), coefficients, arithmetic)
    tap = np.broadcast_to(np.arange(len(stencil.offsets)), phase_in.shape)
    own = np.broadcast_to(np.arange(len(phases))[:, None], phase_in.shape)
    # Every tap of every phase reads another component or cell, so that nothing is written twice.
    result[term.reshape(phase_in.shape), :, own, :, phase_in] = coefficients[tap]
    return Kernel(shifts, result.reshape(len(shifts), out * len(phases), -1))


def compose(outer: Kernel, inner: Kernel, arithmetic: Arithmetic) -> Kernel:
    """x -> outer(inner(x))."""
    parts = []
    for shift, coefficient in zip(outer.shifts, outer.coefficients, strict=True):
        stacked = np.moveaxis(inner.coefficients, 1, 0).reshape(inner.rows, -1)
        product = arithmetic.matmul(coefficient, stacked).reshape(outer.rows, len(inner.shifts), inner.columns)
        parts.append(Kernel(inner.shifts + shift, np.moveaxis(product, 1, 0)))
    return add(parts, arithmetic)


def add(kernels: list[Kernel], arithmetic: Arithmetic) -> Kernel:
    """The sum of kernels of one size."""
    shifts, term = np.unique(np.concatenate([kernel.shifts for kernel in kernels]), axis=0, return_inverse=True)
    term = term.reshape(-1)
    total: list[Array | None] = [None] * len(shifts)
    position = 0
    for kernel in kernels:
        for coefficient in kernel.coefficients:
            place, position = int(term[position]), position + 1
            present = total[place]
            total[place] = coefficient if present is None else _sum(present, coefficient, arithmetic)
    kinds = {part.dtype for part in total if part is not None}
    if len(kinds) > 1:
        total = [part if part is None or part.dtype == object else arithmetic.constant(part) for part in total]
    return Kernel(shifts, np.stack(total))  # type: ignore[arg-type]


def _sum(left: Array, right: Array, arithmetic: Arithmetic) -> Array:
    """A sum that never rounds under an arithmetic that encloses: float64 stands for exact numbers there."""
    left, right = (part if part.dtype == object else arithmetic.constant(part) for part in (left, right))
    return left + right
