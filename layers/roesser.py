r"""State-space realisations of layers that treat every pixel alike: of Roesser's type in the plane.

With x1 going down and x2 going right,

    x1(i + 1, j) = A11 x1 + A12 x2 + B1 u(i, j)
    x2(i, j + 1) =          A22 x2 + B2 u(i, j)          y(i, j) = C1 x1 + C2 x2 + D u(i, j)

for i, j over all integers. Of a kernel y(i, j) = sum_{d, e} K[d, e] u(i - d, j - e), x2 holds what was read of the last
columns, r_d = sum_e K[d, e] u(i, j - e) is a function of x2 and u, and x1 holds the sums that later rows will need:
s_d(i + 1, j) = s_{d+1} + r_d, y = s_1 + r_0. States that no coefficient reads are left out.

Where the input has few channels, such sums are functions of few numbers, and most states could not be reached: x1 then
holds x2 and u of the last rows. Where the output has few, it is the transpose of such a system for the transposed
kernel, in which x2^+ depends on x1 and not the other way round. The fewest states are taken. Along one axis there is
one state, of inputs or of sums.

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
        turned = dataclasses.replace(kernel, coefficients=np.swapaxes(kernel.coefficients, 1, 2))
        systems = (_in_the_plane(delays, kernel, arithmetic), _holding_rows(delays, kernel, arithmetic),
                   _transposed(_holding_rows(delays, turned, arithmetic)))
        return min(systems, key=lambda system: sum(system.states))
    blank = np.zeros_like(delays)
    pair = (np.concatenate(order, axis=1) for order in ((blank, delays), (delays, blank)))
    found = min((_in_the_plane(both, kernel, arithmetic) for both in pair), key=lambda system: sum(system.states))
    return dataclasses.replace(found, states=(sum(found.states),))


def _transposed(system: Realisation) -> Realisation:
    return dataclasses.replace(system, A=system.A.T, B=system.C.T, C=system.B.T, D=system.D.T)


def _in_the_plane(delays: np.ndarray, kernel: Kernel, arithmetic: Arithmetic) -> Realisation:
    """x2 holds inputs, x1 sums."""
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
    one = _one(coefficients, arithmetic)
    _hold_columns(A, B, held, n1, one)
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


def _holding_rows(delays: np.ndarray, kernel: Kernel, arithmetic: Arithmetic) -> Realisation:
    """x2 holds inputs, x1 holds (x2, u) of the last rows."""
    rows, columns, coefficients = kernel.rows, kernel.columns, kernel.coefficients
    present = ~(coefficients == 0).astype(bool)
    depth, width = map(int, delays.max(axis=0))
    held = [np.flatnonzero(present[delays[:, 1] >= e].any(axis=(0, 1))) for e in range(1, width + 1)]
    second = np.cumsum([0, *map(len, held)])
    n2 = int(second[-1])

    def place(e: int, of: np.ndarray) -> np.ndarray:
        """Where inputs of e columns ago lie in (x2, u)."""
        return n2 + of if e == 0 else second[e - 1] + np.searchsorted(held[e - 1], of)

    read = np.zeros((depth + 1, n2 + columns), dtype=bool)
    for (d, e), used in zip(delays, present.any(axis=1), strict=True):
        read[d, place(e, np.flatnonzero(used))] = True
    kept = [np.flatnonzero(read[d:].any(axis=0)) for d in range(1, depth + 1)]
    first = np.cumsum([0, *map(len, kept)])
    n1 = int(first[-1])

    def blank(*shape: int) -> Array:
        return zeros(shape, coefficients, arithmetic)

    # Columns of (x1, x2, u).
    ahead, answer = blank(n1 + n2, n1 + n2 + columns), blank(rows, n1 + n2 + columns)
    one = _one(coefficients, arithmetic)
    _hold_columns(ahead[:, : n1 + n2], ahead[:, n1 + n2 :], held, n1, one)
    for d, part in enumerate(kept):
        own = first[d] + np.arange(len(part))
        ahead[own, n1 + part if d == 0 else first[d - 1] + np.searchsorted(kept[d - 1], part)] = one
    for (d, e), coefficient, used in zip(delays, coefficients, present.any(axis=1), strict=True):
        inputs = np.flatnonzero(used)
        where = place(e, inputs)
        answer[:, n1 + where if d == 0 else first[d - 1] + np.searchsorted(kept[d - 1], where)] = coefficient[:, inputs]
    n = n1 + n2
    return Realisation(ahead[:, :n], ahead[:, n:], answer[:, :n], answer[:, n:], (n1, n2), True)


def _hold_columns(A: Array, B: Array, held: list[np.ndarray], first: int, one: object) -> None:
    """The rows of x2, which start at `first`: inputs of the last columns."""
    second = np.cumsum([first, *map(len, held)])
    for e, kept in enumerate(held):
        own = second[e] + np.arange(len(kept))
        if e == 0:
            B[own, kept] = one
        else:
            A[own, second[e - 1] + np.searchsorted(held[e - 1], kept)] = one


def _one(coefficients: Array, arithmetic: Arithmetic) -> object:
    one = arithmetic.constant(np.ones(())) if coefficients.dtype == object else 1.0
    return one.item() if isinstance(one, np.ndarray) else one
