"""Which blocks of M and of its Cholesky factor are non-zero.

Blocks are eliminated in the order of the layers. Eliminating one couples all later blocks it touches (the cut of the
layer graph at that point), so the factor's pattern is chordal: a chain of layers gives two blocks a column, a residual
block three, and a network that keeps adding to one state a full triangle.
"""

import dataclasses

import numpy as np

from .inequality import Inequality

Index = slice | np.ndarray
"""Rows of x: a slice where they are contiguous, so that numpy takes views."""


@dataclasses.dataclass(frozen=True, eq=False)
class Structure:
    """The chordal pattern of an inequality.

    **Attributes:** `offsets`: where each block starts; `rows[k]`: block k; `later[k]`: the blocks after k in column k
    of the factor, with `later_rows[k]` their rows; `outside_rows[k]`: the rows after k that column k does not touch;
    `cliques`: rows of the maximal sets of mutually coupled blocks.
    """

    offsets: tuple[int, ...]
    rows: tuple[slice, ...]
    later: tuple[tuple[int, ...], ...]
    later_rows: tuple[Index, ...]
    outside_rows: tuple[Index | None, ...]
    cliques: tuple[Index, ...]

    @property
    def blocks(self) -> int:
        return len(self.rows)

    @property
    def size(self) -> int:
        return self.offsets[-1]

    @property
    def factor_entries(self) -> int:
        """Stored entries of the factor, a measure of its cost."""
        sizes = np.diff(self.offsets)
        return int(sum(sizes[k] * (sizes[k] + sum(sizes[j] for j in self.later[k])) for k in range(self.blocks)))


def structure(inequality: Inequality) -> Structure:
    """The pattern of M(rho, lam) and of its factor."""
    count = len(inequality.sizes)
    touched = [set[int]() for _ in range(count)]
    for k, constraint in enumerate(inequality.constraints, start=1):
        _couple(touched, [*constraint.maps, k] if np.any(constraint.lower * constraint.upper) else [], None)
        _couple(touched, list(constraint.maps), k)
    _couple(touched, list(inequality.output), None)
    for k in range(count):
        _couple(touched, sorted(touched[k]), None)
    later = tuple(tuple(sorted(blocks)) for blocks in touched)
    offsets = inequality.offsets
    cliques: list[frozenset[int]] = []
    for k in range(count):
        clique = frozenset((k, *later[k]))
        if not any(clique <= other for other in cliques):
            cliques.append(clique)
    outside = [[j for j in range(k + 1, count) if j not in touched[k]] for k in range(count)]
    return Structure(
        offsets=offsets,
        rows=tuple(slice(offsets[k], offsets[k + 1]) for k in range(count)),
        later=later,
        later_rows=tuple(block_rows(blocks, offsets) for blocks in later),
        outside_rows=tuple(block_rows(blocks, offsets) if blocks else None for blocks in outside),
        cliques=tuple(block_rows(sorted(clique), offsets) for clique in cliques),
    )


def _couple(touched: list[set[int]], blocks: list[int], centre: int | None) -> None:
    """Records the coupling of all `blocks` with each other, or of each of them with `centre` alone."""
    for i in blocks:
        partners = blocks if centre is None else (centre,)
        touched[i].update(j for j in partners if j > i)


def block_rows(blocks: tuple[int, ...] | list[int], offsets: tuple[int, ...]) -> Index:
    """Rows of x that belong to the blocks, which are in ascending order."""
    if not blocks:
        return slice(0, 0)
    if blocks[-1] - blocks[0] == len(blocks) - 1:
        return slice(offsets[blocks[0]], offsets[blocks[-1] + 1])
    return np.concatenate([np.arange(offsets[j], offsets[j + 1]) for j in blocks])
