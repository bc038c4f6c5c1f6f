r"""The linear algebra of one interior-point iteration, in terms of the rows p_i, q_i only.

No constraint matrix F_i = p_i q_i^T + q_i p_i^T is formed. With Z = M^{-1} and the dual matrix Y,

    <F_i, X> = 2 p_i^T X q_i,
    trace(F_i Z F_j Y) = (QZP')_ij (PYQ')_ij + (PZQ')_ij (QYP')_ij + (QZQ')_ij (PYP')_ij + (PZP')_ij (QYQ')_ij,

and P, Q are block-sparse, so everything is products of narrow blocks and entrywise products of m x m matrices.
"""

import dataclasses
import functools
import itertools

import numpy as np

from .block_matrix import Blocks
from .inequality import Inequality
from .structure import Structure

Rows = list[dict[int, np.ndarray]]

_TILE = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Forms:
    """PX, QX (rows x n) and PXP', QXP', QXQ' (rows x rows) for a symmetric X; of QXQ' the lower triangle."""

    p: np.ndarray
    q: np.ndarray
    pp: np.ndarray
    qp: np.ndarray
    qq: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class NewtonSystem:
    """The data of M(rho, lam) arranged for an interior-point iteration. A point is the vector (lam, rho)."""

    inequality: Inequality
    structure: Structure

    @functools.cached_property
    def _input(self) -> int:
        return self.inequality.input_size

    @functools.cached_property
    def _layers(self) -> list[slice]:
        """Rows of x by layer, the input being layer 0."""
        return list(self.structure.layers)

    def _neurons(self, x: np.ndarray, axis: int) -> np.ndarray:
        """The rows or columns of X that belong to neurons, in the order of the layers; a view where that can be."""
        parts = self._layers[1:]
        if all(a.stop == b.start for a, b in itertools.pairwise(parts)):
            parts = [slice(parts[0].start, parts[-1].stop)]
        taken = [x[part] if axis == 0 else x[:, part] for part in parts]
        return taken[0] if len(taken) == 1 else np.concatenate(taken, axis=axis)

    @functools.cached_property
    def _rows(self) -> list[slice]:
        """Rows of P and Q by layer."""
        ends = itertools.accumulate((c.rows for c in self.inequality.constraints), initial=0)
        return [slice(start, stop) for start, stop in itertools.pairwise(ends)]

    @functools.cached_property
    def _answering(self) -> np.ndarray | None:
        """The row of every neuron; None where each row has one."""
        constraints = self.inequality.constraints
        if all(c.kept is None for c in constraints):
            return None
        layers = zip(constraints, self._rows, strict=True)
        return np.concatenate([np.arange(row.start, row.stop)[c.answering] for c, row in layers])

    @functools.cached_property
    def _lower_maps(self) -> Rows | None:
        """alpha A by layer; None where P selects blocks: alpha is zero throughout, and each row has a neuron."""
        if self._answering is None and not any(np.any(c.lower) for c in self.inequality.constraints):
            return None
        return [{j: c.lower[:, None] * a for j, a in c.maps.items()} for c in self.inequality.constraints]

    @functools.cached_property
    def _upper_maps(self) -> Rows:
        return [{j: c.upper[:, None] * a for j, a in c.maps.items()} for c in self.inequality.constraints]

    @functools.cached_property
    def _output_blocks(self) -> Blocks:
        output = self.inequality.output
        return {(i, j): output[i].T @ output[j] for i in output for j in output if i >= j}

    @functools.cached_property
    def _group_starts(self) -> np.ndarray | None:
        """Where each multiplier's rows start; None when there is one row each."""
        constraints = self.inequality.constraints
        if all(c.coupled == 1 for c in constraints):
            return None
        layers = zip(constraints, self._rows, strict=True)
        return np.concatenate([np.arange(c.groups) * c.coupled + row.start for c, row in layers])

    @functools.cached_property
    def _row_group(self) -> np.ndarray:
        counts = np.concatenate([np.full(c.groups, c.coupled) for c in self.inequality.constraints])
        return np.repeat(np.arange(len(counts)), counts)

    @functools.cached_property
    def needs_sign_constraint(self) -> bool:
        """Whether lam >= 0 is not implied by M >= 0: only products alpha beta > 0 and implicit layers add to diagonal
        blocks more than multiples of the identity."""
        layers = enumerate(self.inequality.constraints, start=1)
        return any(k in c.maps or np.any(c.lower * c.upper > 0) for k, c in layers)

    def matrix(self, point: np.ndarray, homogeneous: bool = False) -> Blocks:
        """M(rho, lam); without its constant part -C^T C if `homogeneous`."""
        blocks: Blocks = {}
        if not homogeneous:
            for (i, j), value in self._output_blocks.items():
                self._add(blocks, i, j, -value)
        self._add_diagonal(blocks, 0, np.full(self._input, point[-1]))
        by_row = point[:-1][self._row_group]
        for k, (c, row) in enumerate(zip(self.inequality.constraints, self._rows, strict=True), start=1):
            multipliers = by_row[row]
            self._add_diagonal(blocks, k, 2 * multipliers[c.answering])
            coupling, product = multipliers * (c.lower + c.upper), 2 * multipliers * c.lower * c.upper
            for j, a in c.maps.items():
                coupled = (-coupling[:, None] * a)[c.answering]
                self._add(blocks, k, j, coupled + coupled.T if j == k else coupled)
                if np.any(product):
                    for i, b in c.maps.items():
                        if i >= j:
                            self._add(blocks, i, j, b.T @ (product[:, None] * a))
        return blocks

    def _add(self, blocks: Blocks, i: int, j: int, value: np.ndarray) -> None:
        """Adds what couples layers i >= j to the block that holds them."""
        block, place, across = self._part(blocks, i, j)
        block[place, across] += value
        if self.structure.group[i] == self.structure.group[j] and i != j:
            block[across, place] += value.T

    def _add_diagonal(self, blocks: Blocks, k: int, values: np.ndarray) -> None:
        block, place, _ = self._part(blocks, k, k)
        np.einsum("ii->i", block)[place] += values

    def _part(self, blocks: Blocks, i: int, j: int) -> tuple[np.ndarray, slice, slice]:
        """The block that holds what couples layers i and j, and where; it may be above the diagonal."""
        key = self.structure.group[i], self.structure.group[j]
        if key[0] < key[1]:
            block, across, place = self._part(blocks, j, i)
            return block.T, place, across
        rows, columns = self.structure.rows[key[0]], self.structure.rows[key[1]]
        if key not in blocks:
            blocks[key] = np.zeros((rows.stop - rows.start, columns.stop - columns.start))
        own, other = self._layers[i], self._layers[j]
        place = slice(own.start - rows.start, own.stop - rows.start)
        return blocks[key], place, slice(other.start - columns.start, other.stop - columns.start)

    def forms(self, x: np.ndarray) -> Forms:
        q = self._rows_times(self._upper_maps, x)
        qq = self._times_rows(q, self._upper_maps, lower=True)
        if self._lower_maps is None:
            p = self._neurons(x, 0)
            return Forms(p, q, self._neurons(p, 1), self._neurons(q, 1), qq)
        p = self._rows_times(self._lower_maps, x)
        return Forms(p, q, self._times_rows(p, self._lower_maps), self._times_rows(q, self._lower_maps), qq)

    def _rows_times(self, maps: Rows, x: np.ndarray) -> np.ndarray:
        """(S - D A) X, where S puts neurons into their rows and `maps` holds D A."""
        if self._answering is None:
            result = self._neurons(x, 0).copy()
        else:
            result = np.zeros((self._rows[-1].stop, x.shape[1]))
            result[self._answering] = self._neurons(x, 0)
        for row, layer in zip(self._rows, maps, strict=True):
            for j, a in layer.items():
                result[row] -= a @ x[self._layers[j]]
        return result

    def _times_rows(self, x: np.ndarray, maps: Rows, lower: bool = False) -> np.ndarray:
        """X (S - D A)^T; if `lower`, entries above the diagonal may be anything."""
        if self._answering is None:
            result = self._neurons(x, 1).copy()
        else:
            result = np.zeros((len(x), self._rows[-1].stop))
            result[:, self._answering] = self._neurons(x, 1)
        for row, layer in zip(self._rows, maps, strict=True):
            for j, a in layer.items():
                below = slice(row.start if lower else 0, None)
                result[below, row] -= x[below, self._layers[j]] @ a.T
        return result

    def gradient(self, x: np.ndarray, forms: Forms) -> np.ndarray:
        """<F_i, X> for every multiplier, then <E, X>."""
        u = self._layers[0]
        return np.append(self._by_group(2 * np.einsum("ii->i", forms.qp)), np.trace(x[u, u]))

    def pairs(self, v: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """<F_i, v_a v_b^T> for pairs of columns of V and every multiplier, then for E, by rows."""
        q = self._rows_times(self._upper_maps, v)
        p = self._neurons(v, 0) if self._lower_maps is None else self._rows_times(self._lower_maps, v)
        u = v[self._layers[0]]
        products = self._by_group(p[:, a] * q[:, b] + p[:, b] * q[:, a])
        return np.vstack([products, np.einsum("ip,ip->p", u[:, a], u[:, b])])

    def gradient_on_pattern(self, x: np.ndarray) -> np.ndarray:
        """The same for an X known on the chordal pattern only."""
        result = np.empty(self._rows[-1].stop)
        rows = self._layers
        for k, (c, row) in enumerate(zip(self.inequality.constraints, self._rows, strict=True), start=1):
            value, own = np.zeros(c.rows), c.answering
            value[own] = np.einsum("ii->i", x[rows[k], rows[k]])
            for j, a in c.maps.items():
                value[own] -= (c.lower + c.upper)[own] * np.einsum("ij,ij->i", x[rows[k], rows[j]], a[own])
                if np.any(c.lower * c.upper):
                    for i, b in c.maps.items():
                        value += c.lower * c.upper * np.einsum("ij,ij->i", b @ x[rows[i], rows[j]], a)
            result[row] = 2 * value
        return np.append(self._by_group(result), np.trace(x[self._layers[0], self._layers[0]]))

    def schur(self, z: np.ndarray, y: np.ndarray, z_forms: Forms, y_forms: Forms) -> np.ndarray:
        """trace(F_i Z F_j Y) for all pairs of multipliers and rho: the lower triangle; the rest is of no use."""
        m = len(z_forms.q)
        full = np.zeros((m + 1, m + 1))
        # By tiles that stay in cache while their products are summed; the transposed ones would leave it otherwise.
        for start in range(0, m, _TILE):
            for other in range(0, start + 1, _TILE):
                r, c = slice(start, start + _TILE), slice(other, other + _TILE)
                tile = full[start : min(start + _TILE, m), other : min(other + _TILE, m)]
                np.multiply(z_forms.qp[r, c], y_forms.qp[c, r].T, out=tile)
                tile += z_forms.qq[r, c] * y_forms.pp[r, c]
                if y_forms is z_forms:
                    tile *= 2
                else:
                    tile += z_forms.qp[c, r].T * y_forms.qp[r, c]
                    tile += z_forms.pp[r, c] * y_forms.qq[r, c]
        u = self._layers[0]
        full[m, :m] = np.einsum("ij,ij->i", z_forms.p[:, u], y_forms.q[:, u])
        full[m, :m] += np.einsum("ij,ij->i", z_forms.q[:, u], y_forms.p[:, u])
        full[m, m] = np.vdot(z[u, u], y[u, u])
        if self._group_starts is None:
            return full
        whole = np.tril(full) + np.tril(full, -1).T
        starts = np.append(self._group_starts, m)
        return np.add.reduceat(np.add.reduceat(whole, starts, axis=0), starts, axis=1)

    def _by_group(self, values: np.ndarray) -> np.ndarray:
        return values if self._group_starts is None else np.add.reduceat(values, self._group_starts)
