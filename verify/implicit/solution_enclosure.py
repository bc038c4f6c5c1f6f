r"""Proved neighbourhoods of the solution of x = s(A x + v) in a Euclidean norm, from a diagonal metric.

With H = H(L) >= h I > 0 (see `loop_check`), any x and its residual r = x - s(A x + v) satisfy

    |x - x*| <= 2 c |r| / h,    c the norm of (I - alpha A)^T L + (I - beta A)^T L,

x* being the only solution: that is the estimate at the head of `netgain.solvers.loop`, for x and x*. h is proved as
positive definiteness of H - h I, and r is evaluated in balls at an x that Newton's method has brought close, so that
the radius follows the working precision. Where v is a ball the statement holds for every number in it.
"""

import dataclasses

import flint
import numpy as np
from flint import arb
from netgain.layers import ConvergenceError, FixedPoint
from netgain.layers.arithmetic import Array

from ..assembly import Terms, matrix_in_double
from ..balls import BALLS, upper
from ..constraints import ActivationRows, Rows
from ..positive_definite import proved_in_double

# Each step of Newton's method in float64 gains about forty bits, unless slopes change.
_BITS_PER_STEP, _MORE_STEPS = 30, 4
_SHARES = (0.9, 0.5, 0.1, 1e-3, 1e-6)
_SLACK = 1 + 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class Solver:
    """An implicit layer whose solutions can be enclosed.

    **Attributes:** `ratio`: 2 c / h, rounded up.
    """

    layer: FixedPoint
    matrix: np.ndarray
    ratio: float

    def enclose(self, v: Array) -> Array:
        """Balls that hold the solution for each member of a batch of balls v, at the working precision.

        **Raises:** `ConvergenceError` if no approximation of it is found.
        """
        shape = v.shape
        flat = v.reshape((len(v), -1))
        near = np.array([[float(ball.mid()) for ball in member] for member in flat])
        approximate = self.layer.forward(near.reshape(shape)).reshape(near.shape)
        members = [self._enclosed(member, x) for member, x in zip(flat, approximate, strict=True)]
        return np.stack(members).reshape(shape)

    def _residual(self, x: Array, v: Array) -> Array:
        inner = BALLS.matmul(x[None, :], BALLS.constant(self.matrix.T)) + v[None, :]
        return x - self.layer.activation.value(inner, BALLS)[0]

    def _enclosed(self, v: Array, approximate: np.ndarray) -> Array:
        x = BALLS.constant(approximate)
        exact = _midpoints(v)
        slopes = self.layer.activation.derivative(approximate @ self.matrix.T + _floats(v))
        try:
            inverse = np.linalg.inv(np.eye(len(x)) - slopes[:, None] * self.matrix)
        except np.linalg.LinAlgError:
            raise ConvergenceError("I - D A of an implicit layer is singular in float64, so that its solution cannot "
                                   "be brought closer.") from None
        for _ in range(flint.ctx.prec // _BITS_PER_STEP + _MORE_STEPS):
            residual = _midpoints(self._residual(x, exact))
            size = max(abs(ball) for ball in residual) if len(residual) else arb(0)
            if not size > 0:
                break
            # Residuals may be far below the range of float64.
            step = inverse @ _floats(residual / size)
            x = _midpoints(x - BALLS.constant(step) * _midpoint(size))
        residual = self._residual(x, v)
        largest = [abs(ball).upper() for ball in residual]
        radius = (arb(self.ratio) * sum((end * end for end in largest), arb(0)).sqrt()).upper()
        enclosed: Array = x + arb(0, radius) if radius.is_finite() else BALLS.constant(np.full(len(x), np.nan))
        return enclosed


def solver(layer: FixedPoint, rows: ActivationRows, metric: np.ndarray) -> Solver | None:
    """How to enclose the layer's solutions by L = diag(metric); None if H(L) > 0 is not shown in double precision."""
    A = np.asarray(rows.loop)
    n = len(A)
    total = metric[:, None] * ((np.eye(n) - rows.lower[:, None] * A) + (np.eye(n) - rows.upper[:, None] * A))
    size = float(np.linalg.norm(np.abs(total))) * _SLACK * (1 + 1e-12 * n) + 2.0**-1000
    left = (np.eye(n) - rows.lower[:, None] * A).T @ (metric[:, None] * (np.eye(n) - rows.upper[:, None] * A))
    least = float(np.linalg.eigvalsh(left + left.T)[0])
    if not (least > 0 and np.isfinite(size)):
        return None
    for share in _SHARES:
        root = float(np.sqrt(share * least))
        # H - root^2 I, as what an output of root times the layer's answer leaves of it.
        alone = dataclasses.replace(rows, maps={1: A})
        matrix = matrix_in_double(Terms(Rows(1, (alone,), {1: root * np.eye(n)}), (metric,), (0, 0), 0, (1.0, 0)))
        if matrix is not None and proved_in_double(*matrix, 2):
            return Solver(layer, A, upper(2 * arb(size) / arb(root) ** 2))
    return None


def _midpoint(ball: arb) -> arb:
    return ball.mid()


def _midpoints(balls: Array) -> Array:
    result = np.empty(len(balls), dtype=object)
    result[:] = [ball.mid() for ball in balls]
    return result


def _floats(balls: Array) -> np.ndarray:
    return np.array([float(ball.mid()) for ball in balls])
