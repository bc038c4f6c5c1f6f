"""Pairs of inputs that show how large the l_inf gain of a graph is at least: found by ascent, proved in balls."""

import math
import time
from collections.abc import Mapping

import numpy as np
from netgain.layers import ConvergenceError, Graph
from netgain.layers.differential import Linearisation

from ..lower_bound import UndecidedError, Witness, prove_witness

_SCALES = (0.1, 1.0, 10.0)
_WIDTHS = 10.0 ** np.arange(-6.0, 1.5, 0.5)


def largest_norm_witness(graph: Graph, loop_metrics: Mapping[str, np.ndarray], *, starts: int = 12, steps: int = 60,
                         seed: int = 0, time_limit: float = math.inf) -> Witness:
    """The best pair found for |f(x) - f(x')|_inf / |x - x'|_inf, its ratio proved; 0 where that is not decided.

    At a point the gain is the largest absolute row sum of the Jacobian, reached by the signs of that row. Its gradient,
    with smoothed slopes, moves the points; from the best ones pairs of several widths are tried.

    **Arguments:** `loop_metrics`: see `prove_witness`.
    """
    deadline, rng = time.perf_counter() + time_limit, np.random.default_rng(seed)
    shape = (starts, *graph.shape(graph.input))
    scales = np.resize(_SCALES, starts).reshape(-1, *(1,) * (len(shape) - 1))
    x = scales * rng.standard_normal(shape)
    size = np.sqrt(np.mean(x.reshape((starts, -1)) ** 2, axis=1)).reshape(scales.shape)
    best, gains = x, np.full(starts, -np.inf)
    direction = np.sign(x)
    for progress in np.linspace(0, 1, steps):
        try:
            gain, row, signs = _steepest(Linearisation(graph, x))
            smooth = Linearisation(graph, x, smoothing=10.0 ** (-0.5 - 2 * progress))
        except ConvergenceError:
            break
        better = gain > gains
        mask = better.reshape(scales.shape)
        gains, best = np.where(better, gain, gains), np.where(mask, x, best)
        direction = np.where(mask, signs, direction)
        gradient = smooth.gain_gradient(row, signs)
        length = np.sqrt(np.mean(gradient.reshape((starts, -1)) ** 2, axis=1)).reshape(scales.shape)
        x = x + 10.0 ** (-0.5 - 1.6 * progress) * size * gradient / np.maximum(length, 1e-300)
        if time.perf_counter() > deadline:
            break
    # Where the gradient is zero, as in a network that does not depend on its input, any direction will do.
    still = ~np.any(direction.reshape((starts, -1)), axis=1).reshape(scales.shape)
    return _pair(graph, best, np.where(still, np.ones(shape), direction), size, loop_metrics)


def _steepest(here: Linearisation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each member the largest row sum, the unit vector of that row, and its signs."""
    graph = here.graph
    outputs, members = math.prod(graph.shape(graph.output)), len(here.values[graph.input])
    gain = np.full(members, -np.inf)
    rows = np.zeros((members, outputs))
    signs = np.zeros(here.values[graph.input].shape)
    for k in range(outputs):
        unit = np.tile(np.eye(outputs)[k], (members, 1))
        row = here.transpose(unit.reshape((members, *graph.shape(graph.output))))
        total = np.abs(row).reshape((members, -1)).sum(axis=1)
        better = total > gain
        gain = np.where(better, total, gain)
        rows[better] = unit[better]
        signs[better] = np.sign(row[better])
    return gain, rows.reshape((members, *graph.shape(graph.output))), signs


def _pair(graph: Graph, centre: np.ndarray, direction: np.ndarray, size: np.ndarray,
          loop_metrics: Mapping[str, np.ndarray]) -> Witness:
    pairs = [(centre + width * size * direction, centre - width * size * direction) for width in _WIDTHS]
    above, below = (np.concatenate(side) for side in zip(*pairs, strict=True))
    change = np.abs(graph.forward(above) - graph.forward(below)).reshape((len(above), -1)).max(axis=1)
    distance = np.abs(above - below).reshape((len(above), -1)).max(axis=1)
    ratio = np.divide(change, distance, out=np.zeros_like(change), where=distance > 0)
    # Between nearly equal ratios the wider pair is less at the mercy of rounding.
    chosen = int(np.flatnonzero(ratio >= ratio.max() * (1 - 1e-9))[-1])
    try:
        proved = prove_witness(graph, above[chosen], below[chosen], loop_metrics, order=np.inf)
    except UndecidedError:
        proved = 0.0
    return Witness(above[chosen], below[chosen], proved, float(ratio[chosen]))
