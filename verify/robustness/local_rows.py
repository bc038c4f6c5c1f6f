r"""The rows of the inequality where slopes are known locally.

A neuron whose slope is one number d is linear: z = d v is put into the rows that read it, so that the inequality has
multipliers only for the neurons that are not. All is done alike on float64 rows, for solvers, and on enclosures.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from netgain.layers.arithmetic import Array

from ..constraints import ActivationRows, Rows
from ..enclosed_matrix import DOUBLE, DoubleMatrix
from ..enclosure import Enclosure
from .local_slopes import Ends

_MARGINS = (1e-11, 1e-10, 1e-9, 1e-8)


def restricted(rows: Rows, slopes: Sequence[Ends]) -> Rows:
    """The rows with these slopes, in the order of the activations; blocks without a neuron left are gone."""
    # What each former block is, by block there is now: a map, or the indices of its entries.
    answers: list[dict[int, Array]] = []
    kept: list[ActivationRows] = []
    for layer, (lower, upper) in zip(rows.activations, slopes, strict=True):
        fed = _through(layer.maps, answers)
        slope = np.where(lower == upper, lower, 0.0)
        answer: dict[int, Array] = {}
        if np.any(slope):
            answer = {j: a * slope[:, None] for j, a in fed.items()}
        free = np.flatnonzero(lower < upper)
        if len(free) and fed:
            maps = {j: a[free] for j, a in fed.items()}
            kept.append(dataclasses.replace(layer, maps=maps, lower=lower[free], upper=upper[free]))
            answer[len(kept)] = free
        answers.append(answer)
    output = _through(rows.output, answers)
    count = next(iter(rows.output.values())).shape[0]
    return Rows(rows.input_size, tuple(kept), output or {0: np.zeros((count, rows.input_size))})


def _through(maps: Array, answers: list[dict[int, Array]]) -> dict[int, Array]:
    """Maps from the former blocks as maps from those there are now."""
    result: dict[int, Array] = {}
    for j, a in maps.items():
        for i, part in ({0: a} if j == 0 else {i: _after(a, own) for i, own in answers[j - 1].items()}).items():
            result[i] = result[i] + part if i in result else part
    return result


def _after(a: Array, answer: Array) -> Array:
    """a times an answer that is a map, or the indices of those entries that a block has."""
    return a[:, answer] if answer.ndim == 1 else a @ answer


def projected(rows: Rows, row: np.ndarray | None) -> Rows:
    """The rows of the one output row^T f; for None those of all outputs."""
    if row is None:
        return rows
    output: dict[int, Array] = {}
    for j, c in rows.output.items():
        output[j] = Enclosure.of(row[None]) @ c if isinstance(c, Enclosure) else row[None] @ c
    return dataclasses.replace(rows, output=output)


def condensed(rows: Rows) -> Rows:
    """Rows of fewer inputs whose bounds hold for the enclosed rows given; these where it cannot be shown or is no use.

    With S the maps that read the input, one above the other, and S S^T <= L L^T, there is for every u a w with
    S u = L w and |w| <= |u| (Douglas, 1966): what is proved of L w for all w holds for S u.
    """
    readers = [(layer.maps[0], len(layer.lower)) for layer in rows.activations if 0 in layer.maps]
    readers += [(rows.output[0], rows.output[0].shape[0])] if 0 in rows.output else []
    count = sum(size for _, size in readers)
    if 2 * count > rows.input_size:
        return rows
    parts = [Enclosure.of(a) for a, _ in readers]
    stack = DoubleMatrix(np.concatenate([a.mid for a in parts]), np.concatenate([a.rad for a in parts]))
    root = _root(stack)
    if root is None:
        return rows
    pieces = iter(np.split(root, np.cumsum([size for _, size in readers])[:-1]))
    layers = tuple(dataclasses.replace(layer, maps={**layer.maps, 0: Enclosure.of(next(pieces))})
                   if 0 in layer.maps else layer for layer in rows.activations)
    output = {**rows.output, 0: Enclosure.of(next(pieces))} if 0 in rows.output else rows.output
    return Rows(count, layers, output)


def _root(stack: DoubleMatrix) -> np.ndarray | None:
    """L, square, with S S^T <= L L^T and nearly equal, or None."""
    gram = stack.middle @ stack.middle.T
    size = float(np.trace(gram)) / len(gram)
    if not (np.isfinite(size) and size > 0):
        return None
    for margin in _MARGINS:
        try:
            root = np.linalg.cholesky(gram + margin * size * np.eye(len(gram)))
        except np.linalg.LinAlgError:
            continue
        exact = DOUBLE.exact(root)
        if DOUBLE.semidefinite({(0, 0): exact * exact.transpose() - stack * stack.transpose()}, 1):
            return np.asarray(root)
    return None
