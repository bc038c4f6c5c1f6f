r"""Decides bounds on what neurons can change by, for |du_j| <= 1: the checker of l_inf claims on graphs of layers.

A vector t > 0 bounds |dz| for z = s(A z + v), |dv| <= w and slopes in [alpha, beta] if both ends d of every interval
satisfy

    d a_ii t_i + |d| sum_{j != i} |a_ij| t_j < t_i,
    d a_ii t_i + |d| (sum_{j != i} |a_ij| t_j + w_i) <= t_i.

The first says mu_t(D A) < 1, so that each v has exactly one solution. Let r be the largest |dz_i| / t_i, at i. Then for
some d in the interval r t_i (1 - d a_ii) <= |d| (r sum |a_ij| t_j + w_i). Were r > 1, the right side would be below
r |d| (sum |a_ij| t_j + w_i) <= r t_i (1 - d a_ii), or, if |d| w_i = 0, by the first inequality below that too. Both
inequalities are convex in d, so the ends of the interval suffice.

Rows are decided in double precision with a bound on the rounding where that suffices, the others in rational numbers.
"""

from fractions import Fraction

import numpy as np

from ..constraints import ActivationRows, Rows
from ..enclosure import Enclosure
from ..positive_definite import gamma
from .weighted_log_norm_check import largest_row

_SLACK = 1 + 1e-9
_UNDERFLOW = 2.0**-1040


def proves_state_bound(A: np.ndarray, lower: np.ndarray, upper: np.ndarray, inputs: np.ndarray, bound: np.ndarray
                       ) -> bool:
    """Whether t = `bound` satisfies both inequalities for w = `inputs`. Exact: False means it does not.

    **Arguments:** `A`: shape (n, n); the others shape (n,), `inputs` >= 0.

    **Raises:** `ValueError` for shapes that do not fit or numbers that are not finite.
    """
    A, lower, upper, w, t = (np.asarray(array, dtype=np.float64) for array in (A, lower, upper, inputs, bound))
    n = len(t)
    if A.shape != (n, n) or not n or any(array.shape != (n,) for array in (lower, upper, w, t)):
        raise ValueError(f"A, slopes, inputs and bound do not fit: {A.shape}, {lower.shape}, {upper.shape}, {w.shape}, "
                         f"{t.shape}.")
    if not all(np.all(np.isfinite(array)) for array in (A, lower, upper, w, t)) or np.any(w < 0):
        raise ValueError("A, slopes, inputs and bound must be finite, and inputs at least 0.")
    if not np.all(t > 0):
        return False
    diagonal, beside = np.diagonal(A), np.abs(A)
    np.fill_diagonal(beside, 0)
    open_rows = np.zeros(n, dtype=bool)
    for d in (lower, upper):
        with np.errstate(over="ignore", invalid="ignore"):
            own, others = d * diagonal * t, np.abs(d) * (beside @ t + w)
            size = np.abs(own) + others + t
            error = (gamma(n + 8) * size + (n + 8) * _UNDERFLOW * (1 + np.abs(d)) * (1 + t)) * _SLACK
            surely = (own + others + error <= t) & (own + np.abs(d) * (beside @ t) + error < t)
            open_rows |= ~(surely & np.isfinite(size))
    return all(_holds(A[i], i, lower[i], upper[i], w[i], t) for i in np.flatnonzero(open_rows).tolist())


def _holds(row: np.ndarray, i: int, lower: float, upper: float, w: float, t: np.ndarray) -> bool:
    own, more = Fraction(float(t[i])), Fraction(float(w))
    for d in (float(lower), float(upper)):
        inner = largest_row(row, i, t, d, d)
        if not inner < own or not inner + abs(Fraction(d)) * more <= own:
            return False
    return True


def proved_output_bound(rows: Rows, bounds: tuple[np.ndarray, ...]) -> tuple[float, np.ndarray] | None:
    """The l_inf gain of a graph, rounded up, and the bounds |dy_k| it is the largest of, for |du_j| <= 1.

    **Arguments:** `rows`: of the graph, in balls or as enclosures; `bounds`: t for each implicit layer, in order.

    None if some t is no bound, or where a layer has constraints for groups of neurons that say nothing of each.
    """
    changes, given = [np.ones(rows.input_size)], iter(bounds)
    for layer in rows.activations:
        fed = _reach(layer, changes)
        if fed is None or not np.all(np.isfinite(fed)):
            return None
        if layer.loop is not None:
            t = next(given, None)
            if t is None or t.shape != fed.shape or not np.all(np.isfinite(t)):
                return None
            if not proves_state_bound(layer.loop, layer.lower, layer.upper, fed, t):
                return None
            changes.append(t)
        elif layer.coupled == 1:
            steepest = np.maximum(np.abs(layer.lower), np.abs(layer.upper))
            changes.append(steepest * fed * _SLACK + _UNDERFLOW)
        elif layer.kept is not None:  # a maximum moves by no more than the entry that moves most
            changes.append(np.max(fed.reshape((-1, layer.coupled)), axis=1))
        else:
            return None
    output = sum((_above(c, changes[j]) for j, c in rows.output.items()), np.zeros(1)) * _SLACK
    return (float(np.max(output)), output) if np.all(np.isfinite(output)) else None


def _reach(layer: ActivationRows, changes: list[np.ndarray]) -> np.ndarray | None:
    """What a layer is fed, without its own answer, can change by."""
    total = np.zeros(len(layer.lower))
    for j, a in layer.maps.items():
        if j < len(changes):
            total = (total + _above(a, changes[j])) * (1 + gamma(4))
    return np.asarray(total)


def _above(a: object, change: np.ndarray) -> np.ndarray:
    """|a| change, rounded up."""
    enclosed = Enclosure.of(a)
    size = (np.abs(enclosed.mid) + enclosed.rad) * _SLACK
    return np.asarray((size @ change) * _SLACK + len(change) * _UNDERFLOW)

