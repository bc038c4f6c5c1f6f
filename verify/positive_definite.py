r"""Proofs that a block matrix is positive semidefinite: in double precision with rounding bounds, or in balls.

Both eliminate block after block, which for a layered network is the recursion of the cost-to-go. A matrix is a
dictionary of its lower blocks (i, j), i >= j; absent blocks are zero. Of a diagonal block in double precision only the
lower triangle is meant: rounding may have left the upper one a little different. In double precision blocks may also be
stacks of shape (count, rows, columns), for as many matrices that are decided one by one.
"""

import numpy as np
from flint import arb_mat
from scipy.linalg.lapack import dpotrf, dtrtrs

Blocks = dict[tuple[int, int], np.ndarray]

UNIT = 2.0**-53
# Covers the rounding errors of the error bounds themselves, which are sums of non-negative numbers.
_SLACK = 1 + 1e-9
# Covers underflow: entries are scaled to about 1, and no row has 1e12 operations.
_TINY = 1e-290
# Far more than what rounding does to the eigenvalues of a matrix with a diagonal of about 1.
_CLEARLY = 1e-6


def gamma(operations: int) -> float:
    """n u / (1 - n u): |fl(a^T b) - a^T b| <= gamma_n |a|^T |b| for n terms in any order, fused or not (Higham)."""
    return operations * UNIT / (1 - operations * UNIT)


def proved_in_double(middle: Blocks, radius: Blocks, count: int) -> bool:
    """Whether every symmetric matrix within `radius` (entrywise) of `middle` is shown positive semidefinite.

    False means undecided; for stacks, that one of them is.
    """
    return bool(np.all(decided_in_double(middle, radius, count)))


def decided_in_double(middle: Blocks, radius: Blocks, count: int) -> np.ndarray:
    r"""For which matrices of a stack `proved_in_double` holds: the blocks have the same leading axis, or none.

    With exact power-of-two scaling, shifts e, s >= 0 and any matrix L (from a floating-point Cholesky factorisation),

        M = L L^T + [Res + diag(s)] + [Err + diag(e)],    Res = middle - diag(e) - diag(s) - L L^T.

    The last two brackets are diagonally dominant, hence positive semidefinite, once e and s are at least the row sums
    of |Err| <= radius and of |Res|. The residual is computed after the fact and its own rounding bounded, so nothing is
    assumed of the factorisation; of the matrix product only that it is made of inner products (no Strassen scheme).
    This is Rump's verified Cholesky (BIT 46, 2006) with a computed residual.
    """
    stack = np.broadcast_shapes(*(block.shape[:-2] for blocks in (middle, radius) for block in blocks.values()))
    middle, radius = (
        {key: np.broadcast_to(block, stack + block.shape[-2:]) for key, block in blocks.items()}
        for blocks in (middle, radius)
    )
    sizes = [middle[k, k].shape[-1] for k in range(count)]
    diagonal = [np.diagonal(middle[k, k], axis1=-2, axis2=-1) for k in range(count)]
    fit = np.ones(stack, dtype=bool)
    for entries in diagonal:
        fit &= np.all((entries > 0) & (entries < np.inf), axis=-1)
    # Others take no part any more: their numbers could be such as to warn of.
    with np.errstate(over="ignore", invalid="ignore"):
        exponents = [
            -np.round(np.log2(np.where(fit[..., None], entries, 1.0)) / 2).astype(np.intc) for entries in diagonal
        ]
        work, errors = _scaled(middle, exponents), _scaled(radius, exponents)
    # Diagonal entries are now at most 2, so no entry of a semidefinite matrix exceeds 2; NaN fails this too.
    for blocks in (work, errors):
        for block in blocks.values():
            fit &= np.all(np.abs(block) <= 4, axis=(-2, -1))
    if not np.any(fit):
        return fit
    if not np.all(fit):
        decided = np.zeros(stack, dtype=bool)
        work, errors = ({key: block[fit] for key, block in blocks.items()} for blocks in (work, errors))
        decided[fit] = _dominated(work, errors, sizes)
        return decided
    return _dominated(work, errors, sizes)


def refuted_in_double(middle: Blocks, radius: Blocks, count: int) -> bool:
    """Whether all the matrices have an eigenvalue far below zero, relative to their diagonals.

    It spares attempts in balls that must fail. Nothing rests on it: it only ever refuses.
    """
    sizes = [len(middle[k, k]) for k in range(count)]
    diagonal = [np.diagonal(middle[k, k]) for k in range(count)]
    if not all(np.all(np.isfinite(block)) for blocks in (middle, radius) for block in blocks.values()):
        return False
    if any(np.any(entries < -2 * np.diagonal(radius[k, k])) for k, entries in enumerate(diagonal)):
        return True
    if any(np.any(entries <= 0) for entries in diagonal):
        return False
    exponents = [-np.round(np.log2(entries) / 2).astype(np.intc) for entries in diagonal]
    work, errors = _scaled(middle, exponents), _scaled(radius, exponents)
    if any(np.any(sums > _CLEARLY / 10) for sums in _row_sums(errors, sizes, ())):
        return False
    shifted = {(k, k): _less_diagonal(work[k, k], np.full(sizes[k], -_CLEARLY)) for k in range(count)}
    return _cholesky(work | shifted, sizes) is None


def _dominated(work: Blocks, errors: Blocks, sizes: list[int]) -> np.ndarray:
    """Which matrices have shifts that cover errors and residual; the entries of all are at most 4."""
    stack = work[0, 0].shape[:-2]
    error = _row_sums(errors, sizes, stack)
    for k in range(len(sizes)):
        work[k, k] = _less_diagonal(work[k, k], error[k] * _SLACK + _TINY)
    # The first residual, of a matrix barely shifted, tells how large a shift its rounding takes; one retry suffices.
    shifts = [np.full((*stack, size), 8 * UNIT) for size in sizes]
    decided = np.zeros(stack, dtype=bool)
    for _ in range(3):
        needed = _residual(work, shifts, sizes)
        if needed is None:
            break
        covered = np.ones(stack, dtype=bool)
        for need, shift in zip(needed, shifts, strict=True):
            covered &= np.all(need <= shift, axis=-1)
        decided |= covered
        if np.all(decided):
            break
        shifts = [2 * need + 8 * UNIT for need in needed]
    return decided


def _less_diagonal(block: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """block - diag(diagonal)."""
    result = block.copy()
    places = np.arange(block.shape[-1])
    result[..., places, places] -= diagonal
    return result


def _scaled(blocks: Blocks, exponents: list[np.ndarray]) -> Blocks:
    """2^(exponents of the row + exponents of the column) times each entry: exact, but for over- and underflow."""
    with np.errstate(over="ignore"):
        return {
            (i, j): np.ldexp(block, exponents[i][..., :, None] + exponents[j][..., None, :])
            for (i, j), block in blocks.items()
        }


def _residual(matrix: Blocks, shifts: list[np.ndarray], sizes: list[int]) -> list[np.ndarray] | None:
    """Bounds on the row sums of |matrix - diag(shifts) - L L^T| for a Cholesky factor L.

    None, or in a stack NaN, where there is none.
    """
    count = len(sizes)
    work = matrix | {(k, k): _less_diagonal(matrix[k, k], shifts[k]) for k in range(count)}
    factor = _cholesky(work, sizes)
    if factor is None:
        return None
    bounds = [np.zeros(shift.shape) for shift in shifts]
    # Inner products that reach block i run over the columns that touch it.
    lengths = [sum(sizes[k] for k in range(count) if i in factor[k]) + count + 8 for i in range(count)]
    for key, block in work.items():
        _add_row_sums(bounds, key, (count + 4) * UNIT * np.abs(block))
    residual = dict(work)
    for column in factor:
        rows = list(column)
        total = sum(np.abs(block).sum(axis=-2) for block in column.values())
        for a, i in enumerate(rows):
            bounds[i] += gamma(lengths[i]) * (np.abs(column[i]) @ total[..., None])[..., 0]
            for j in rows[: a + 1]:
                residual[i, j] = residual.get((i, j), 0.0) - column[i] @ column[j].swapaxes(-1, -2)
    sums = _row_sums({key: np.abs(block) for key, block in residual.items()}, sizes, shifts[0].shape[:-1])
    return [(sums[k] + bounds[k]) * _SLACK + _TINY for k in range(count)]


def _cholesky(matrix: Blocks, sizes: list[int]) -> list[dict[int, np.ndarray]] | None:
    """Columns of a floating-point block Cholesky factor; None, or in a stack NaN, where a pivot is not positive."""
    work, columns = dict(matrix), []
    for k in range(len(sizes)):
        root = _root(work[k, k])
        if root is None:
            return None
        column = {k: root}
        column |= {i: _divided(block, root) for i, block in _below(work, k, len(sizes))}
        below = list(column)[1:]
        for a, i in enumerate(below):
            for j in below[: a + 1]:
                work[i, j] = work.get((i, j), 0.0) - column[i] @ column[j].swapaxes(-1, -2)
        columns.append(column)
    return columns


def _root(pivot: np.ndarray) -> np.ndarray | None:
    """A lower Cholesky factor, from the lower triangle."""
    if pivot.ndim == 2:
        root: np.ndarray
        root, failed = dpotrf(pivot, lower=1, clean=1)
        return None if failed else root
    roots = np.empty(pivot.shape)
    for index in np.ndindex(pivot.shape[:-2]):
        roots[index], failed = dpotrf(pivot[index], lower=1, clean=1)
        if failed:
            roots[index] = np.nan
    return roots


def _divided(block: np.ndarray, root: np.ndarray) -> np.ndarray:
    """block root^{-T}."""
    quotient: np.ndarray
    if block.ndim == 2:
        quotient = dtrtrs(root, block.T, lower=1)[0].T
        return quotient
    quotient = np.empty(block.shape)
    for index in np.ndindex(block.shape[:-2]):
        # In the layout of Fortran the transpose of both is what lies in memory.
        quotient[index] = dtrtrs(root[index].T, block[index].T, lower=0, trans=1)[0].T
    return quotient


def _below(matrix: dict, k: int, count: int) -> list:  # type: ignore[type-arg]
    return [(i, matrix[i, k]) for i in range(k + 1, count) if (i, k) in matrix]


def _row_sums(blocks: Blocks, sizes: list[int], stack: tuple[int, ...]) -> list[np.ndarray]:
    """Row sums of the symmetric matrix with these non-negative lower blocks."""
    sums = [np.zeros((*stack, size)) for size in sizes]
    for key, block in blocks.items():
        _add_row_sums(sums, key, block)
    return sums


def _add_row_sums(sums: list[np.ndarray], key: tuple[int, int], block: np.ndarray) -> None:
    i, j = key
    if i == j:
        sums[i] += np.tril(block).sum(axis=-1) + np.tril(block, -1).sum(axis=-2)
    else:
        sums[i] += block.sum(axis=-1)
        sums[j] += block.sum(axis=-2)


def proved_in_balls(blocks: dict[tuple[int, int], arb_mat], count: int) -> bool:
    """Whether every symmetric matrix in the balls is shown positive definite, at the current precision.

    Schur complements in ball arithmetic, block by block. False means undecided, or not positive definite.
    """
    try:
        return _eliminated(blocks, count)
    except ZeroDivisionError:  # a pivot block whose balls are too wide to be solved with
        return False


def _eliminated(blocks: dict[tuple[int, int], arb_mat], count: int) -> bool:
    work = dict(blocks)
    for k in range(count):
        pivot, below = work[k, k], _below(work, k, count)
        if not _pivots_positive(pivot):
            return False
        for a, (i, left) in enumerate(below):
            half = _solve(pivot, left.transpose())
            for j, right in below[: a + 1]:
                update = (right * half).transpose()
                work[i, j] = work[i, j] - update if (i, j) in work else -update
    return True


def _is_diagonal(matrix: arb_mat) -> bool:
    size = matrix.nrows()
    return all(entry == 0 for index, entry in enumerate(matrix.entries()) if index // size != index % size)


def _solve(matrix: arb_mat, right: arb_mat) -> arb_mat:
    """matrix^{-1} right; row by row where the matrix is diagonal, as the input's block often is."""
    if not _is_diagonal(matrix):
        return matrix.solve(right)
    table = right.tolist()
    return arb_mat([[entry / matrix[i, i] for entry in row] for i, row in enumerate(table)])


def _pivots_positive(matrix: arb_mat) -> bool:
    """Positive definiteness by halves: the leading half, and the Schur complement on the rest."""
    size = matrix.nrows()
    if size == 1:
        return bool(matrix[0, 0] > 0)
    if _is_diagonal(matrix):
        return all(bool(matrix[i, i] > 0) for i in range(size))
    half, table = size // 2, matrix.tolist()
    leading = arb_mat([row[:half] for row in table[:half]])
    if not _pivots_positive(leading):
        return False
    side = arb_mat([row[:half] for row in table[half:]])
    rest = arb_mat([row[half:] for row in table[half:]])
    return _pivots_positive(rest - side * leading.solve(side.transpose()))
