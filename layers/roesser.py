r"""State-space realisations of layers that treat every pixel alike: of Roesser's type in the plane.

With x1 going down and x2 going right,

    x1(i + 1, j) = A11 x1 + A12 x2 + B1 u(i, j)
    x2(i, j + 1) =          A22 x2 + B2 u(i, j)          y(i, j) = C1 x1 + C2 x2 + D u(i, j)

for i, j over all integers. Of a kernel y(i, j) = sum_{d, e} K[d, e] u(i - d, j - e), x2 holds what was read of the last
columns, r_d = sum_e K[d, e] u(i, j - e) is a function of x2 and u, and x1 holds the sums that later rows will need:
s_d(i + 1, j) = s_{d+1} + r_d, y = s_1 + r_0. States that no coefficient reads are left out. Along one axis there is one
state, the smaller of the two.

**Source:** Pauli, Gramlich, Allgoewer, "State space representations of the Roesser type for convolutional layers",
arXiv 2403.11938.
"""

import dataclasses
import itertools

import numpy as np

from .arithmetic import FLOAT, Arithmetic, Array, zeros
from .shift_invariant import Kernel, Stencil, polyphase


@dataclasses.dataclass(frozen=True, eq=False)
class Realisation:
    """x^+ = A x + B u, y = C x + D u, where block a of the state moves on along axis a.

    **Attributes:** `A`, `B`, `C`, `D`: matrices, float64 for exactly these numbers, or balls; `states`: entries of the
    state by axis; `finite`: whether A is nilpotent, so that x vanishes soon after u does.
    """

    A: Array
    B: Array
    C: Array
    D: Array
    states: tuple[int, ...]
    finite: bool

    @property
    def blocks(self) -> list[slice]:
        """Where the state of each axis lies, but for empty ones."""
        ends = np.cumsum([0, *self.states])
        return [slice(int(a), int(b)) for a, b in itertools.pairwise(ends) if a < b]


def realise_stencil(stencil: Stencil, arithmetic: Arithmetic = FLOAT) -> Realisation:
    """The realisation of a stencil along one or two axes, its input cut into one component for each phase.

    Components are ordered by channel, then phase. Input and output are shifted against each other, which does not
    change their norms: so that every window ends with its last cell, which takes the fewest states.
    """
    ending = dataclasses.replace(stencil, offsets=stencil.offsets - stencil.offsets.max(axis=0) - 1)
    return realise(polyphase(ending, (1,) * len(stencil.strides), arithmetic), arithmetic)


def realise(kernel: Kernel, arithmetic: Arithmetic = FLOAT) -> Realisation:
    """The realisation of a kernel along one or two axes, up to a shift of its output.

    **Raises:** `ValueError` if there are more axes.
    """
    delays = kernel.shifts.max(axis=0) - kernel.shifts
    axes = delays.shape[1]
    if axes not in (1, 2):
        raise ValueError(f"Kernels along one or two axes are realised, this one has {axes}.")
    if axes == 2:
        return _in_the_plane(delays, kernel, arithmetic)
    blank = np.zeros_like(delays)
    pair = (np.concatenate(order, axis=1) for order in ((blank, delays), (delays, blank)))
    found = min((_in_the_plane(both, kernel, arithmetic) for both in pair), key=lambda system: sum(system.states))
    return dataclasses.replace(found, states=(sum(found.states),))


def _in_the_plane(delays: np.ndarray, kernel: Kernel, arithmetic: Arithmetic) -> Realisation:
    rows, columns, coefficients = kernel.rows, kernel.columns, kernel.coefficients
    present = ~(coefficients == 0).astype(bool)
    depth, width = map(int, delays.max(axis=0))
    # What is held of the input for each number of columns, and of the sums for each number of rows.
    held = [np.flatnonzero(present[delays[:, 1] >= e].any(axis=(0, 1))) for e in range(1, width + 1)]
    summed = [np.flatnonzero(present[delays[:, 0] >= d].any(axis=(0, 2))) for d in range(1, depth + 1)]
    first, second = (np.cumsum([0, *map(len, parts)]) for parts in (summed, held))
    n1, n2 = int(first[-1]), int(second[-1])

    def blank(*shape: int) -> Array:
        return zeros(shape, coefficients, arithmetic)

    A, B, C, D = blank(n1 + n2, n1 + n2), blank(n1 + n2, columns), blank(rows, n1 + n2), blank(rows, columns)
    one = arithmetic.constant(np.ones(())) if coefficients.dtype == object else 1.0
    one = one.item() if isinstance(one, np.ndarray) else one
    for e, kept in enumerate(held):
        own = n1 + second[e] + np.arange(len(kept))
        if e == 0:
            B[own, kept] = one
        else:
            A[own, n1 + second[e - 1] + np.searchsorted(held[e - 1], kept)] = one
    for d, kept in enumerate(summed):
        own = first[d] + np.arange(len(kept))
        if d == 0:
            C[kept, own] = one
        else:
            A[first[d - 1] + np.searchsorted(summed[d - 1], kept), own] = one
    for (d, e), coefficient in zip(delays, coefficients, strict=True):
        # Row d of the kernel is read by the sum s_d, or by y itself; column e from the input, or from where it is held.
        for_sum, from_held = d > 0, e > 0
        into = summed[d - 1] if for_sum else np.arange(rows)
        read = held[e - 1] if from_held else np.arange(columns)
        target = (A if from_held else B) if for_sum else (C if from_held else D)
        row = (first[d - 1] if for_sum else 0) + np.arange(len(into))
        column = (n1 + second[e - 1] if from_held else 0) + np.arange(len(read))
        target[row[:, None], column] = coefficient[into[:, None], read]
    return Realisation(A, B, C, D, (n1, n2), True)
