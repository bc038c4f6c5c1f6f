r"""Symmetric matrices with a chordal block pattern: Cholesky factor, inverse, and completion.

A matrix is a dictionary of its lower blocks, (i, j) with i >= j. The factor is the layer-by-layer recursion of the
papers: each diagonal block it takes the root of is a cost-to-go Q_k.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs, dtrtrs

from .structure import Index, Structure, block_rows

Blocks = dict[tuple[int, int], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Factor:
    """M = L L^T: `roots[k]` is L_kk, or its diagonal where it has no other entries; `columns[k]` the rows of column k
    below it, stacked (None if there are none)."""

    structure: Structure
    roots: tuple[np.ndarray, ...]
    columns: tuple[np.ndarray | None, ...]

    def inverse(self) -> np.ndarray:
        """The dense inverse, from the last block to the first; O(n^2) times the width of the pattern."""
        s = self.structure
        inverse = np.empty((s.size, s.size))
        for k in range(s.blocks - 1, -1, -1):
            column = self.columns[k]
            own = _inverse_square(self.roots[k])
            if column is not None:
                t = _solve_triangular(self.roots[k], column.T, 1).T
                after = slice(s.offsets[k + 1], s.size)
                side = -(t.T @ inverse[s.later_rows[k], after])
                inverse[s.rows[k], after] = side
                inverse[after, s.rows[k]] = side.T
                own = own - inverse[s.rows[k], s.later_rows[k]] @ t
            elif k < s.blocks - 1:
                inverse[s.rows[k], s.offsets[k + 1] :] = 0
                inverse[s.offsets[k + 1] :, s.rows[k]] = 0
            inverse[s.rows[k], s.rows[k]] = (own + own.T) / 2
        return inverse

    def solve(self, right: np.ndarray) -> np.ndarray:
        """M^{-1} times a dense matrix."""
        return self.solve_upper(self.solve_lower(right))

    def solve_lower(self, right: np.ndarray) -> np.ndarray:
        """L^{-1} times a dense matrix."""
        s, x = self.structure, right.copy()
        for k in range(s.blocks):
            x[s.rows[k]] = _solve_triangular(self.roots[k], x[s.rows[k]], 0)
            column = self.columns[k]
            if column is not None:
                x[s.later_rows[k]] -= column @ x[s.rows[k]]
        return x

    def solve_upper(self, right: np.ndarray) -> np.ndarray:
        """L^{-T} times a dense matrix."""
        s, x = self.structure, right.copy()
        for k in range(s.blocks - 1, -1, -1):
            column = self.columns[k]
            if column is not None:
                x[s.rows[k]] -= column.T @ x[s.later_rows[k]]
            x[s.rows[k]] = _solve_triangular(self.roots[k], x[s.rows[k]], 1)
        return x


def _solve_triangular(root: np.ndarray, right: np.ndarray, transposed: int) -> np.ndarray:
    solved: np.ndarray = right / root[:, None] if root.ndim == 1 else dtrtrs(root, right, lower=1, trans=transposed)[0]
    return solved


def _inverse_square(root: np.ndarray) -> np.ndarray:
    """(L L^T)^{-1}."""
    if root.ndim == 1:
        return np.diag(1 / root**2)
    triangle: np.ndarray = np.tril(dpotri(root, lower=1)[0])
    triangle += np.tril(triangle, -1).T
    return triangle


def factorise(matrix: Blocks, structure: Structure) -> Factor | None:
    """The block Cholesky factor, or None if the matrix is not positive definite (in floating point)."""
    work = dict(matrix)
    roots: list[np.ndarray] = []
    columns: list[np.ndarray | None] = []
    for k, later in enumerate(structure.later):
        if structure.diagonal[k]:
            diagonal = np.einsum("ii->i", work[k, k])
            if not np.all(diagonal > 0):
                return None
            root = np.sqrt(diagonal)
        else:
            root, failed = dpotrf(work[k, k], lower=1, clean=1)
            if failed:
                return None
        roots.append(root)
        if not later:
            columns.append(None)
            continue
        parts = structure.later_parts[k]
        stacked = np.zeros((len(root), parts[-1].stop))
        for i, part in zip(later, parts, strict=True):
            if (i, k) in work:
                stacked[:, part] = work[i, k].T
        column = _solve_triangular(root, stacked, 0).T
        columns.append(column)
        update = column @ column.T
        for a, i in enumerate(later):
            for b, j in enumerate(later[: a + 1]):
                block = update[parts[a], parts[b]]
                work[i, j] = work[i, j] - block if (i, j) in work else -block
    return Factor(structure, tuple(roots), tuple(columns))


def on_pattern(structure: Structure, block: Callable[[Index, Index], np.ndarray]) -> np.ndarray:
    """The symmetric matrix with `block(rows, columns)` on the pattern; its entries outside are undefined."""
    result = np.empty((structure.size, structure.size))
    for own, later in zip(structure.rows, structure.later_rows, strict=True):
        if isinstance(later, slice) and later.start in (own.stop, 0):
            both = slice(own.start, max(own.stop, later.stop))
            result[own, both] = block(own, both)
        else:
            result[own, own] = block(own, own)
            result[own, later] = block(own, later)
        result[later, own] = result[own, later].T
    return result


def symmetric_product(k: np.ndarray, y: np.ndarray, rows: Index, columns: Index) -> np.ndarray:
    """A block of (K Y + Y K^T) / 2 for symmetric Y."""
    block: np.ndarray = k[rows] @ y[:, columns]
    block += (k[columns] @ y[:, rows]).T
    block *= 0.5
    return block


def on_cliques(matrix: np.ndarray, structure: Structure) -> list[np.ndarray]:
    """The fully known blocks; they are positive definite if and only if a positive completion exists."""
    return [np.ascontiguousarray(matrix[rows][:, rows]) for rows in structure.cliques]


def complete(matrix: np.ndarray, structure: Structure) -> np.ndarray:
    """Fills, in place, the entries outside the pattern by the completion of largest determinant.

    Its inverse has the pattern (Grone et al. 1984); block k is conditionally independent of what lies outside its
    column given the column: Y_k,out = Y_k,U Y_UU^{-1} Y_U,out.
    """
    for k in range(structure.blocks - 2, -1, -1):
        outside, later, own = structure.outside_rows[k], structure.later_rows[k], structure.rows[k]
        if outside is None:
            continue
        if not structure.later[k]:
            matrix[own, outside] = 0
            matrix[outside, own] = 0
            continue
        known = matrix[later]
        root, failed = dpotrf(known[:, later], lower=1)
        # Rounding may spoil a block that is all but singular; zero is a completion too, if a poorer one.
        block = np.zeros((own.stop - own.start, len(matrix[outside])))
        if not failed:
            block = dpotrs(root, known[:, own], lower=1)[0].T @ known[:, outside]
        matrix[own, outside] = block
        matrix[outside, own] = block.T
    return matrix


def multiply(matrix: Blocks, right: np.ndarray, structure: Structure) -> np.ndarray:
    """The symmetric block matrix times a dense one."""
    partners: dict[int, list[tuple[int, np.ndarray]]] = {k: [] for k in range(structure.blocks)}
    for (i, j), block in matrix.items():
        partners[i].append((j, block))
        if i != j:
            partners[j].append((i, block.T))
    result = np.empty((structure.size, right.shape[1]))
    for i, row in partners.items():
        row.sort(key=lambda pair: pair[0])
        columns = block_rows([j for j, _ in row], structure.offsets)
        np.matmul(np.concatenate([block for _, block in row], axis=1), right[columns], out=result[structure.rows[i]])
    return result


def apply(matrix: Blocks, right: np.ndarray, structure: Structure) -> np.ndarray:
    """The same for a dense matrix of few columns: nothing is gathered first."""
    result, rows = np.zeros_like(right), structure.rows
    for (i, j), block in matrix.items():
        result[rows[i]] += block @ right[rows[j]]
        if i != j:
            result[rows[j]] += block.T @ right[rows[i]]
    return result


def combine(matrix: Blocks, direction: Blocks, step: float) -> Blocks:
    """matrix + step * direction, for a direction without blocks of its own."""
    return {key: block + step * direction[key] if key in direction else block for key, block in matrix.items()}


def inner(matrix: Blocks, dense: np.ndarray, structure: Structure) -> float:
    """trace(matrix dense) for a symmetric dense matrix; only entries on the pattern are read."""
    return float(
        sum(
            (1 if i == j else 2) * np.vdot(block, dense[structure.rows[i], structure.rows[j]])
            for (i, j), block in matrix.items()
        )
    )
