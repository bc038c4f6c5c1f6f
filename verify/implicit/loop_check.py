r"""Proves that implicit layers have exactly one solution for whatever they are fed, from diagonal metrics. No solver.

For z = s(A z + v) with slopes in [alpha, beta] and a diagonal L >= 0, H(L) = (I - alpha A)^T L (I - beta A) + its
transpose > 0 suffices; the argument is at the head of `netgain.solvers.loop`, and uses nothing but the slopes. The
matrix inequality of a network cannot take its place: it speaks of pairs of trajectories, and would be true of a layer
that has no solution at all.

H(L) is the block that the layer's slope constraints put on its own coordinates. So it is assembled by what assembles
the inequality, from the layer alone beside an input of one number that it does not read.
"""

import dataclasses

import numpy as np

from ..assembly import Terms, matrix_in_balls, matrix_in_double
from ..constraints import ActivationRows, Rows
from ..positive_definite import proved_in_balls, proved_in_double


def loop_proved_in_double(layer: ActivationRows, metric: np.ndarray) -> bool:
    """Whether H(L) > 0 is shown for L = diag(metric) in double precision; False means undecided."""
    terms = _terms(layer, metric)
    if terms is None:
        return False
    matrix = matrix_in_double(terms)
    return matrix is not None and proved_in_double(*matrix, 2)


def loop_proved_in_balls(layer: ActivationRows, metric: np.ndarray) -> bool:
    """The same in balls of the working precision."""
    terms = _terms(layer, metric)
    return terms is not None and proved_in_balls(matrix_in_balls(terms), 2)


def _terms(layer: ActivationRows, metric: np.ndarray) -> Terms | None:
    """The identity on the input, and H(L); None if L is no diagonal metric for this layer."""
    if layer.loop is None:
        raise ValueError(f"The layer {layer.node!r} does not feed itself.")
    metric = np.asarray(metric, dtype=np.float64)
    if metric.shape != layer.lower.shape or not (np.all(np.isfinite(metric)) and np.all(metric >= 0)):
        return None
    alone = dataclasses.replace(layer, maps={1: layer.loop})
    return Terms(Rows(1, (alone,), {}), (metric,), (0, 0), 0, (1.0, 0))
