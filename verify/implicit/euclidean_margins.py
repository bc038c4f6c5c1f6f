r"""Margins of an implicit classifier y = C x + c, x = s(A x + B u + b), proved by a diagonal metric, for many inputs.

For any x and its residual r = x - s(A x + B u + b) the solution lies within rho |r| of x, rho being that of
`solution_enclosure`. So y_label - y_j is at least (C_label - C_j) x + c_label - c_j - |C_label - C_j| rho |r|. All in
double precision with rounding accounted for: what is fed to s is off by at most gamma_k times the same sums of absolute
values, and s passes this on by its steepest slope.
"""

import numpy as np
from netgain.layers import Affine, FixedPoint, sequential
from netgain.layers.activation import Elementwise

from ..constraints import constraint_rows
from ..positive_definite import gamma
from .reachability_check import Boxes, activation_values, margins
from .solution_enclosure import solver

_SLACK = 1 + 1e-9
_UNDERFLOW = 2.0**-1000


def euclidean_margins(A: np.ndarray, B: np.ndarray, b: np.ndarray, C: np.ndarray, c: np.ndarray,
                      activation: Elementwise, metric: np.ndarray, u: np.ndarray, x: np.ndarray, labels: np.ndarray
                      ) -> np.ndarray | None:
    """Lower bounds of y_label - y_j, shape (batch, q), infinite at the label; None if the metric proves nothing.

    **Arguments:** `metric`: the diagonal of L, shape (n,); `u`: shape (batch, m); `x`: approximate solutions, shape
    (batch, n); `labels`: integers of shape (batch,).

    **Raises:** `ValueError` for shapes that do not fit or numbers that are not finite.
    """
    A, B, b, C, c, u, x = (np.asarray(array, dtype=np.float64) for array in (A, B, b, C, c, u, x))
    n = len(b)
    if A.shape != (n, n) or B.shape[0] != n or u.shape != (len(x), B.shape[1]) or x.shape != (len(u), n):
        raise ValueError(f"A, B, b, u and x do not fit: {A.shape}, {B.shape}, {b.shape}, {u.shape}, {x.shape}.")
    if not all(np.all(np.isfinite(array)) for array in (A, B, b, C, c, u, x)):
        raise ValueError("Weights, inputs and approximate solutions must be finite.")
    layer = FixedPoint(Affine(A), activation)
    rows = constraint_rows(sequential((B.shape[1],), [Affine(B), layer])).loops[0]
    enclosing = solver(layer, rows, np.asarray(metric, dtype=np.float64))
    if enclosing is None:
        return None
    inner = x @ A.T + u @ B.T + b
    size = np.abs(x) @ np.abs(A).T + np.abs(u) @ np.abs(B).T + np.abs(b)
    doubt = (gamma(n + B.shape[1] + 8) * size + _UNDERFLOW) * _SLACK
    low, high = activation_values(activation, inner)
    steepest = np.maximum(np.abs(rows.lower), np.abs(rows.upper))
    residual = (np.maximum(np.abs(x - low), np.abs(high - x)) * _SLACK + steepest * doubt * _SLACK)
    distance = enclosing.ratio * np.linalg.norm(residual, axis=1) * _SLACK + _UNDERFLOW
    at_points = margins(C, c, Boxes(x, x), labels)
    lost = np.linalg.norm(C[labels][:, None] - C[None], axis=2) * _SLACK * distance[:, None] + _UNDERFLOW
    found = np.nextafter(at_points - lost * _SLACK, -np.inf)
    found[np.arange(len(x)), labels] = np.inf
    return np.asarray(found)


def margin_radii(found: np.ndarray, gain: float) -> np.ndarray:
    """Radii in l2 within which the label stays the largest output: the least margin over sqrt(2) times the l2 gain.

    **Arguments:** `found`: margins as above; `gain`: proved for the network.
    """
    room = np.maximum(np.min(found, axis=1), 0.0)
    # |dy_i - dy_j| is at most sqrt(2) |dy|.
    return np.asarray(room / (gain * np.sqrt(2.0) * _SLACK) / _SLACK)
