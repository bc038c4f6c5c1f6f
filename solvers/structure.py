"""Which blocks of M and of its Cholesky factor are non-zero.

Consecutive narrow layers are merged into one block, so that the work is done by few operations on larger matrices.
Blocks are eliminated in the order of the layers. Eliminating one couples all later blocks it touches (the cut of the
layer graph at that point), so the factor's pattern is chordal: a chain of layers gives two blocks a column, a residual
block three, and a network that keeps adding to one state a full triangle.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from .inequality import Inequality

Index = slice | np.ndarray
"""Rows of x: a slice where they are contiguous, so that numpy takes views."""


@dataclasses.dataclass(frozen=True, eq=False)
class Structure:
    """The chordal pattern of an inequality.

    **Attributes:** `group[j]`: the block that holds layer j, the input being layer 0; `layers[j]`: its rows;
    `diagonal[k]`: whether block k of M is a diagonal matrix, and is so when it is eliminated; `offsets`: where each
    block starts; `rows[k]`: block k; `later[k]`: the blocks after k in column k of the factor, with `later_rows[k]`
    their rows and `later_parts[k]` where each lies when they are stacked; `outside_rows[k]`: the rows after k that
    column k does not touch; `cliques`: rows of the maximal sets of mutually coupled blocks.
    """

    group: tuple[int, ...]
    layers: tuple[slice, ...]
    diagonal: tuple[bool, ...]
    offsets: tuple[int, ...]
    rows: tuple[slice, ...]
    later: tuple[tuple[int, ...], ...]
    later_rows: tuple[Index, ...]
    later_parts: tuple[tuple[slice, ...], ...]
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


# Below this, the cost of a block operation is that of calling it.
_WORTH_A_BLOCK = 16


def diagonals_first(inequality: Inequality) -> tuple[int, ...]:
    """An order of elimination: first the layers whose block of M is diagonal and larger than all it is coupled with.

    Eliminating these costs no more than the fill-in, which is smaller than they are; the wide layers of convolutional
    networks are such. The others stay in their order.
    """
    sizes, coupled = inequality.sizes, [set[int]() for _ in inequality.sizes]
    squares = {*inequality.output}
    for k, constraint in enumerate(inequality.constraints, start=1):
        for j in constraint.maps:
            coupled[j].add(k)
            coupled[k].add(j)
        if np.any(constraint.lower * constraint.upper):
            squares |= {*constraint.maps}
    chosen = [
        j for j, near in enumerate(coupled)
        if j not in squares and sizes[j] > max(sum(sizes[i] for i in near), _WORTH_A_BLOCK)
    ]
    return (*chosen, *(j for j in range(len(sizes)) if j not in chosen))


def structure(inequality: Inequality, order: Sequence[int] | None = None) -> Structure:
    """The pattern of M(rho, lam) and of its factor, for layers in this order: their own if it is None."""
    sizes = inequality.sizes
    order = range(len(sizes)) if order is None else order
    grouped, offsets = _merge(tuple(sizes[j] for j in order))
    group, layers = [0] * len(sizes), [slice(0)] * len(sizes)
    for position, j in enumerate(order):
        start = sum(sizes[i] for i in order[:position])
        group[j], layers[j] = grouped[position], slice(start, start + sizes[j])
    count = len(offsets) - 1
    touched = [set[int]() for _ in range(count)]
    full = [grouped.count(k) > 1 for k in range(count)]
    for k, constraint in enumerate(inequality.constraints, start=1):
        sources = sorted({group[j] for j in constraint.maps})
        _couple(touched, sources, group[k])
        full[group[k]] = full[group[k]] or k in constraint.maps
        if np.any(constraint.lower * constraint.upper):
            _couple(touched, sources, None)
            full = [own or block in sources for block, own in enumerate(full)]
    read = sorted({group[j] for j in inequality.output})
    _couple(touched, read, None)
    diagonal = []
    for k in range(count):
        diagonal.append(not full[k] and k not in read and not any(k in later for later in touched[:k]))
        _couple(touched, sorted(touched[k]), None)
    later = tuple(tuple(sorted(blocks)) for blocks in touched)
    cliques: list[frozenset[int]] = []
    for k in range(count):
        clique = frozenset((k, *later[k]))
        if not any(clique <= other for other in cliques):
            cliques.append(clique)
    outside = [[j for j in range(k + 1, count) if j not in touched[k]] for k in range(count)]
    return Structure(
        group=tuple(group),
        layers=tuple(layers),
        diagonal=tuple(diagonal),
        offsets=offsets,
        rows=tuple(slice(offsets[k], offsets[k + 1]) for k in range(count)),
        later=later,
        later_rows=tuple(block_rows(blocks, offsets) for blocks in later),
        later_parts=tuple(_stacked([offsets[j + 1] - offsets[j] for j in blocks]) for blocks in later),
        outside_rows=tuple(block_rows(blocks, offsets) if blocks else None for blocks in outside),
        cliques=tuple(block_rows(sorted(clique), offsets) for clique in cliques),
    )


def _merge(sizes: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The block of each layer, and where the blocks start."""
    group, offsets = [0], [0, sizes[0]]
    for size in sizes[1:]:
        if offsets[-1] - offsets[-2] + size <= _WORTH_A_BLOCK:
            offsets[-1] += size
        else:
            offsets.append(offsets[-1] + size)
        group.append(len(offsets) - 2)
    return tuple(group), tuple(offsets)


def _couple(touched: list[set[int]], blocks: list[int], centre: int | None) -> None:
    """Records the coupling of all `blocks` with each other, or of each of them with `centre` alone."""
    pairs = itertools.combinations(blocks, 2) if centre is None else ((i, centre) for i in blocks)
    for i, j in pairs:
        if i != j:
            touched[min(i, j)].add(max(i, j))


def _stacked(sizes: list[int]) -> tuple[slice, ...]:
    ends = list(itertools.accumulate(sizes, initial=0))
    return tuple(slice(start, stop) for start, stop in itertools.pairwise(ends))


def block_rows(blocks: tuple[int, ...] | list[int], offsets: tuple[int, ...]) -> Index:
    """Rows of x that belong to the blocks, which are in ascending order."""
    if not blocks:
        return slice(0, 0)
    if blocks[-1] - blocks[0] == len(blocks) - 1:
        return slice(offsets[blocks[0]], offsets[blocks[-1] + 1])
    return np.concatenate([np.arange(offsets[j], offsets[j + 1]) for j in blocks])
