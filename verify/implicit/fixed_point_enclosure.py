r"""A proved neighbourhood of the solution of x = Phi(A x + B u + b), from any approximation of it.

Let e = x - x* and r = x - Phi(A x + B u + b). Then (I - D A) e = r for some slopes D, so with m the largest logarithmic
norm of D A in |.|_eta, which is computed exactly, and m < 1,

    |x - x*|_eta <= |r|_eta / (1 - m)

and x* exists and is unique. The residual is evaluated in ball arithmetic. Nothing is assumed of how x was found.
"""

import dataclasses

import numpy as np
from flint import arb
from netgain.layers.activation import Elementwise
from netgain.layers.arithmetic import Array

from ..balls import BALLS, precision, upper
from .weighted_log_norm_check import least_proved_log_norm

_BITS = 128


@dataclasses.dataclass(frozen=True, eq=False)
class FixedPointEnclosure:
    """|x*_i - x_i| <= radius * weights_i for all i, proved; x* is the only solution.

    **Attributes:** `x`, `weights`: shape (n,); `log_norm`: m, rounded up; `residual`: |r|_eta, rounded up.
    """

    x: np.ndarray
    weights: np.ndarray
    radius: float
    log_norm: float
    residual: float


def slope_bounds(activation: Elementwise, neurons: int) -> tuple[np.ndarray, np.ndarray]:
    """The proved slope interval of each neuron, two arrays of shape (neurons,)."""
    interval = activation.slopes((neurons,))
    return tuple(np.broadcast_to(np.asarray(end, dtype=np.float64), (neurons,))  # type: ignore[return-value]
                 for end in (interval.lower, interval.upper))


def enclose_fixed_point(A: np.ndarray, c: np.ndarray, activation: Elementwise, x: np.ndarray, eta: np.ndarray, *,
                        B: np.ndarray | None = None, u: np.ndarray | None = None) -> FixedPointEnclosure | None:
    """The enclosure around x of the solution of x = Phi(A x + B u + c), or None if eta does not prove there is one.

    **Arguments:** `A`: shape (n, n); `c`, `x`, `eta`: shape (n,); `B` and `u`: shapes (n, m) and (m,), or neither.

    **Raises:** `ValueError` for shapes that do not fit or numbers that are not finite.
    """
    A, c, x, eta = (np.asarray(array, dtype=np.float64) for array in (A, c, x, eta))
    lower, upper_slopes = slope_bounds(activation, len(x))
    if c.shape != x.shape or not (np.all(np.isfinite(c)) and np.all(np.isfinite(x))):
        raise ValueError(f"c and x must be finite vectors of one length, got the shapes {c.shape} and {x.shape}.")
    if (B is None) != (u is None):
        raise ValueError("Give both B and u, or neither and c = B u + b.")
    log_norm = least_proved_log_norm(A, eta, lower, upper_slopes)
    if not log_norm < 1:
        return None
    with precision(_BITS):
        v = BALLS.constant(c)
        if B is not None and u is not None:
            B, u = np.asarray(B, dtype=np.float64), np.asarray(u, dtype=np.float64)
            if u.ndim != 1 or B.shape != (len(x), len(u)) or not (np.all(np.isfinite(B)) and np.all(np.isfinite(u))):
                raise ValueError(f"B and u must be finite, of shapes ({len(x)}, m) and (m,); got {B.shape} and "
                                 f"{u.shape}.")
            v = v + BALLS.matmul(BALLS.constant(u)[None, :], BALLS.constant(B.T))[0]
        residual = float(_residuals(A, activation, eta, x[None], v[None])[0])
        radius = upper(arb(residual) / (1 - arb(log_norm)))
    return FixedPointEnclosure(x, eta, radius, log_norm, residual)


def enclosed_in_weights(A: np.ndarray, activation: Elementwise, eta: np.ndarray, log_norm: float, x: np.ndarray,
                        v: Array) -> np.ndarray:
    """Bounds on |x - x*|_eta for each member of a batch, proved if mu_eta(D A) <= `log_norm` < 1 for all slopes is.

    x* is the solution of x = Phi(A x + v) for whatever numbers the balls hold, at the working precision.

    **Arguments:** `x`: shape (batch, n), float64; `v`: balls of this shape.
    """
    if not log_norm < 1:
        raise ValueError(f"Solutions are enclosed by a logarithmic norm below 1, got {log_norm!r}.")
    room = 1 - arb(log_norm)
    return np.array([upper(arb(residual) / room) for residual in _residuals(A, activation, eta, x, v).tolist()])


def _residuals(A: np.ndarray, activation: Elementwise, eta: np.ndarray, x: np.ndarray, v: Array) -> np.ndarray:
    """|x - Phi(A x + v)|_eta of each member, rounded up; at the working precision."""
    point = BALLS.constant(x)
    inner = BALLS.matmul(point, BALLS.constant(A.T)) + v
    weighted = abs(point - activation.value(inner, BALLS)) / BALLS.constant(eta)
    return np.asarray(np.max(np.asarray(np.frompyfunc(upper, 1, 1)(weighted), dtype=np.float64), axis=1))
