"""The spectral realisation: symbols of a channelwise network at every frequency, and the family they make."""

import itertools
import math
from collections.abc import Mapping

import numpy as np
from netgain.layers.shift_invariant import Kernel
from netgain.solvers.family import Family, SharedConstraint

from .channelwise import Channelwise
from .constraints import to_inequality


def half_of_frequencies(cells: tuple[int, ...]) -> np.ndarray:
    """One of n and -n (modulo `cells`) for every frequency 2 pi n / cells of the torus, shape (frequencies, axes)."""
    every = np.array(list(itertools.product(*map(range, cells))), dtype=np.int64)
    opposite = np.mod(-every, cells)
    place = np.ravel_multi_index(tuple(every.T), cells)
    return every[place <= np.ravel_multi_index(tuple(opposite.T), cells)]


def symbols(kernel: Kernel, frequencies: np.ndarray, cells: tuple[int, ...]) -> np.ndarray:
    """sum_s coefficients[s] exp(i w.shifts[s]) at w = 2 pi n / cells, shape (frequencies, rows, columns), in float64."""
    period = math.lcm(*cells)
    turns = np.mod((frequencies * (period // np.array(cells))) @ kernel.shifts.T, period)
    phases = np.exp(2j * np.pi * turns / period)
    flat = kernel.coefficients.reshape((len(kernel.shifts), -1))
    return (phases @ flat).reshape((len(frequencies), kernel.rows, kernel.columns))


def to_family(rows: Channelwise, frequencies: np.ndarray) -> Family:
    """The family of float64 rows at these frequencies."""

    def at(maps: Mapping[int, Kernel]) -> dict[int, np.ndarray]:
        return {j: symbols(kernel, frequencies, rows.cells) for j, kernel in maps.items()}

    constraints = tuple(
        SharedConstraint(at(r.maps), r.lower, r.upper, r.channel, np.arange(len(r.lower)) if r.kept is None else r.kept)
        for r in rows.constraints
    )
    outgoing = next(iter(rows.output.values())).rows
    return Family(rows.input_size, constraints, at(rows.output), outgoing // rows.phases, rows.phases,
                  to_inequality(rows.head.rows) if rows.head else None, rows.head.pixels if rows.head else 0)
