r"""The inequality of the layers behind an interface, cut into one small matrix inequality for each pixel.

With x_j the channels of pixel j and Z = (z, y, s) all other coordinates,

    M = Q kron I_pixels - C^T C + sum_i lam_i (p_i q_i^T + q_i p_i^T) >= 0

is lifted to a matrix without entries between two pixels: -C^T C by y, of which [M_0, -C^T; -C, I] is the Schur
complement's origin, and -c lam a a^T, where a slope interval has ends of both signs, by s in the same way. An arrow
remains, which is semidefinite if and only if there are symmetric T_j on the coordinates N of Z next to any pixel with

    [Q, X_j^T; X_j, T_j] >= 0 for every pixel j,    R - sum_j T_j >= 0 on Z                         (Agler et al. 1988).

Rows that read pixels with slopes of one sign lose the positive term 2 lam alpha beta a a^T, which only strengthens M.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp

from .inequality import Inequality, SlopeConstraint


@dataclasses.dataclass(frozen=True, eq=False)
class Arrow:
    """reshape(matrix lam) + constant for every pixel, on (x_j, N), without Q and T_j, and for `rest`, on Z, without T.

    **Attributes:** `neighbours`: where N lies in Z.
    """

    channels: int
    neighbours: np.ndarray
    pixels: tuple[tuple[sp.csr_array, np.ndarray], ...]
    rest: tuple[sp.csr_array, np.ndarray]

    @property
    def pixel_order(self) -> int:
        return self.channels + len(self.neighbours)

    @property
    def rest_order(self) -> int:
        return len(self.rest[1])


class _Entries:
    """Entries of the lifted matrix, by row, column and multiplier; multiplier -1 is the constant part."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []

    def add(self, row: np.ndarray, column: np.ndarray, variable: np.ndarray, value: np.ndarray) -> None:
        """These entries, and those across the diagonal."""
        across = row != column
        self.parts.append(np.stack([row, column, variable, value]))
        self.parts.append(np.stack([column, row, variable, value])[:, across])

    def add_rows(self, first: np.ndarray, matrix: np.ndarray, variable: np.ndarray) -> None:
        """Row r of `matrix` against coordinate first[r]."""
        r, column = np.nonzero(matrix)
        self.add(first[r], column, variable[r], matrix[r, column])

    def all(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        row, column, variable, value = np.concatenate(self.parts, axis=1)
        return row.astype(np.int64), column.astype(np.int64), variable.astype(np.int64), value


def arrow(inequality: Inequality, channels: int) -> Arrow:
    """The arrow of an inequality whose block 0 is (channels, pixels), flattened."""
    size, pixels = inequality.input_size, inequality.input_size // channels
    offsets = np.cumsum([0, *inequality.sizes])
    lifted = [np.flatnonzero(c.lower * c.upper < 0) for c in inequality.constraints]
    answer = int(offsets[-1])
    following = answer + inequality.output_size
    order = following + sum(map(len, lifted))
    entries, group = _Entries(), 0
    for k, (constraint, rows) in enumerate(zip(inequality.constraints, lifted, strict=True), 1):
        a = _beside(constraint.maps, offsets, constraint.rows, order)
        variable = group + np.arange(constraint.rows) // constraint.coupled
        _add_constraint(entries, constraint, a, variable, int(offsets[k]), size)
        places, product = following + np.arange(len(rows)), -2 * (constraint.lower * constraint.upper)[rows]
        entries.add(places, places, variable[rows], 1 / product)
        entries.add_rows(places, a[rows], variable[rows])
        following, group = following + len(rows), group + constraint.groups
    own = answer + np.arange(inequality.output_size)
    entries.add(own, own, np.full(len(own), -1), np.ones(len(own)))
    entries.add_rows(own, -_beside(inequality.output, offsets, len(own), order), np.full(len(own), -1))
    row, column, variable, value = entries.all()

    beside = (row < size) & (column >= size)
    neighbours = np.unique(column[beside]) - size
    cuts = []
    for pixel in range(pixels):
        mine = beside & (row % pixels == pixel)
        above, left = row[mine] // pixels, channels + np.searchsorted(neighbours, column[mine] - size)
        cuts.append(_assembled(np.concatenate([above, left]), np.concatenate([left, above]),
                               np.tile(variable[mine], 2), np.tile(value[mine], 2), channels + len(neighbours), group))
    inner = (row >= size) & (column >= size)
    rest = _assembled(row[inner] - size, column[inner] - size, variable[inner], value[inner], order - size, group)
    return Arrow(channels, neighbours, tuple(cuts), rest)


def _beside(maps: Mapping[int, np.ndarray], offsets: np.ndarray, rows: int, order: int) -> np.ndarray:
    """The maps as one matrix on all coordinates."""
    whole = np.zeros((rows, order))
    for j, a in maps.items():
        whole[:, offsets[j] : offsets[j] + a.shape[1]] = a
    return whole


def _add_constraint(entries: _Entries, constraint: SlopeConstraint, a: np.ndarray, variable: np.ndarray, own: int,
                    size: int) -> None:
    """All of lam (p q^T + q p^T) but for what is lifted or lost."""
    answering, places = constraint.answering, own + np.arange(constraint.size)
    entries.add(places, places, variable[answering], np.full(constraint.size, 2.0))
    total = constraint.lower + constraint.upper
    entries.add_rows(places, (-total[:, None] * a)[answering], variable[answering])
    product = constraint.lower * constraint.upper
    for row in np.flatnonzero((product > 0) & ~np.any(a[:, :size], axis=1)):
        support = np.flatnonzero(a[row])
        i, j = np.meshgrid(support, support, indexing="ij")
        upper = i <= j
        value = 2 * product[row] * a[row, i[upper]] * a[row, j[upper]]
        entries.add(i[upper], j[upper], np.full(len(value), variable[row]), value)


def _assembled(row: np.ndarray, column: np.ndarray, variable: np.ndarray, value: np.ndarray, order: int,
               groups: int) -> tuple[sp.csr_array, np.ndarray]:
    fixed, position = variable < 0, row * order + column
    constant = np.zeros(order * order)
    np.add.at(constant, position[fixed], value[fixed])
    free = ~fixed
    matrix = sp.coo_array((value[free], (position[free], variable[free])), shape=(order**2, groups))
    return sp.csr_array(matrix), constant.reshape(order, order)
