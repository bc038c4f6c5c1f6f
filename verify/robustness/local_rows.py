r"""The rows of the inequality where slopes are known locally.

A neuron whose slope is one number d is linear: z = d v is put into the rows that read it, so that the inequality has
multipliers only for the neurons that are not. All is done alike on float64 rows, for solvers, and on enclosures.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from netgain.layers.arithmetic import Array

from ..constraints import ActivationRows, Rows
from ..enclosed_matrix import DOUBLE, DoubleMatrix
from ..enclosure import Enclosure
from .local_layers import LocalLayer, LocalRows, Maps, Neurons, product
from .local_slopes import Ends

_MARGINS = (1e-11, 1e-10, 1e-9, 1e-8)


def restricted(rows: LocalRows, slopes: Sequence[Ends]) -> Rows:
    """The rows with these slopes, in the order of the neurons; blocks without a neuron left are gone."""
    # What each layer answers, by block there is now: a map, or the indices of its entries.
    answers: list[Maps] = []
    kept: list[ActivationRows] = []
    given = iter(slopes)
    matrix = Enclosure.of if any(isinstance(c, Enclosure) for c in rows.output.values()) else np.asarray
    for layer in rows.layers:
        fed = {j: matrix(a) for j, a in _through(layer.maps, answers).items()}
        own = iter([next(given) for _ in layer.wiring.neurons])

        def respond(neurons: Neurons, v: Maps, layer: LocalLayer = layer, own: Iterator[Ends] = own
                    ) -> tuple[np.ndarray, Maps]:
            lower, upper = next(own)
            slope, free = np.where(lower == upper, lower, 0.0), np.flatnonzero(lower < upper)
            answer: Maps = {j: a * slope[:, None] for j, a in v.items()} if np.any(slope) else {}
            if len(free):
                kept.append(ActivationRows(layer.node, {j: a[free] for j, a in v.items()}, lower[free], upper[free], 1))
                answer[len(kept)] = free if layer.wiring.direct else matrix(np.eye(len(neurons))[:, free])
            return np.where(lower < upper, math.nan, slope), answer

        answers.append(layer.wiring.answer(fed, respond) if fed else {})
    output = _through(rows.output, answers)
    count = next(iter(rows.output.values())).shape[0]
    return Rows(rows.input_size, tuple(kept), output or {0: np.zeros((count, rows.input_size))})


def _through(maps: Mapping[int, Array], answers: list[Maps]) -> Maps:
    """Maps from the former blocks as maps from those there are now."""
    result: Maps = {}
    for j, a in maps.items():
        for i, part in ({0: a} if j == 0 else {i: product(a, own) for i, own in answers[j - 1].items()}).items():
            result[i] = result[i] + part if i in result else part
    return result


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
