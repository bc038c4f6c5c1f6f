r"""Diagonal metrics L > 0 for x = Phi(A x + B u + b): well-posedness and l2 gain by one inequality.

For slopes in [0, 1], if H(L) = L (I - A) + (I - A)^T L > 0 for some diagonal L > 0, the network is well-posed, and
with y = C x,

    [[H(L) - C^T C, -L B], [-B^T L, tau I]] >= 0      gives      |y - y'| <= sqrt(tau) |u - u'|

(Revay, Wang, Manchester, arXiv 2010.01732; L = I is the monotone network of arXiv 2006.08591). Both are solved by a
barrier method on F_i = e_i p_i^T + p_i e_i^T, whose Newton equations are entrywise products of n x n matrices. Only
B B^T matters, so B is replaced by a factor of at most n columns.

Other slopes are brought to [0, 1] by the loop transformation, which adds a direct term D u to y: -C^T D beside -L B,
and -D^T D beside tau I. The metric is then that of the constraint (dx - lower dv)^T L (upper dv - dx) >= 0.

For Y >= 0 with ((I - A) Y)_ii <= 0 for all i, Y != 0, the trace of Y H(L) is not positive for any L: no metric exists.
"""

import dataclasses

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from .loop_transformation import unit_slopes
from .weighted_log_norm import Array, SlopeBox, metzler_majorant, square

_GROWTH = 10.0
_MOST_STEPS = 300
# Metrics at the boundary of l > 0 leave Newton's equations too ill-conditioned for much less.
_MARGIN = 1e-4
# Newton decrements, squared: where it converges quadratically, and where the duality gap is that of the centre.
_NEAR, _CENTRED = 0.05, 1e-13


@dataclasses.dataclass(frozen=True, eq=False)
class DiagonalStability:
    """The largest margin of H(L) >= margin I with L > 0 and trace n, enclosed in floating point.

    **Attributes:** `metric`: the diagonal of L, shape (n,); `margin`: its least eigenvalue of H(L); `most`: no metric
    of trace n has a larger one; `obstruction`: the Y that shows it, of trace 1.
    """

    metric: Array
    margin: float
    most: float
    obstruction: Array


@dataclasses.dataclass(frozen=True, eq=False)
class EuclideanGain:
    """The gain from u to y that a diagonal metric gives, in floating point.

    **Attributes:** `gain`: sqrt(tau); `metric`: L for `gain`^2 as tau; `gap`: how much less, relatively, any other
    metric can give.
    """

    gain: float
    metric: Array
    gap: float


def metric_matrix(A: Array, metric: Array, slopes: SlopeBox | None = None) -> Array:
    """H(L) = (I - diag(lower) A)^T L (I - diag(upper) A) + its transpose; L (I - A) + .. for slopes in [0, 1]."""
    identity = np.eye(len(A))
    if slopes is None:
        left = metric[:, None] * (identity - A)
    else:
        left = (identity - slopes.lower[:, None] * A).T @ (metric[:, None] * (identity - slopes.upper[:, None] * A))
    return np.asarray(left + left.T)


def perron_metric(A: Array) -> Array:
    """A metric in closed form where the spectral abscissa of the Metzler majorant of A is below 1.

    With eta = (I - A^M)^-1 1 and xi = (I - A^M)^-T 1, L = diag(xi_i / eta_i): H(L) with the majorant in place of A maps
    eta to a positive vector, so that H(L) is diagonally dominant in the weights eta.

    **Raises:** `ValueError` if I - A^M is no nonsingular M-matrix.
    """
    A = square(A)
    matrix, ones = np.eye(len(A)) - metzler_majorant(A), np.ones(len(A))
    try:
        eta, xi = np.linalg.solve(matrix, ones), np.linalg.solve(matrix.T, ones)
    except np.linalg.LinAlgError:
        eta = xi = np.zeros(len(A))
    if not (np.all(eta > 0) and np.all(xi > 0)):
        raise ValueError("The spectral abscissa of the Metzler majorant of A is not below 1, so this formula has no "
                         "metric; diagonal_stability(A) may.")
    return np.asarray(xi / eta)


def diagonal_stability(A: Array, slopes: SlopeBox | None = None) -> DiagonalStability:
    """The metric of trace n with the largest margin, to about 1e-4 |I - A|; `most` says how close it came.

    Slopes other than [0, 1] are transformed to these first, and margin and obstruction are those of the A transformed.
    """
    A = square(A)
    n = len(A)
    loop = unit_slopes(A, np.zeros((n, 1)), np.zeros((1, n)), slopes)
    A, n = loop.A, len(loop.A)
    if not n:
        return DiagonalStability(loop.full_metric(np.empty(0)), np.inf, np.inf, np.empty((0, 0)))
    scale = float(np.linalg.norm(np.eye(n) - A, 2)) or 1.0
    problem = _Problem((np.eye(n) - A) / scale, np.zeros((n, n)), np.ones(n), fixed_trace=True)
    start = 1 - float(np.linalg.eigvalsh(problem.matrix(np.ones(n), 0.0))[0])
    metric, last, _ = problem.minimise(np.ones(n), start, _MARGIN, relative=False)
    margin = float(np.linalg.eigvalsh(metric_matrix(A, metric))[0])
    inverse = np.linalg.inv(problem.matrix(metric, last))
    obstruction = inverse / np.trace(inverse)
    most = 2 * n * float(np.max(np.diagonal((np.eye(n) - A) @ obstruction)))
    return DiagonalStability(loop.full_metric(metric), margin, max(most, margin), obstruction)


def euclidean_gain(A: Array, B: Array, C: Array, tolerance: float = 1e-5, start: Array | None = None,
                   slopes: SlopeBox | None = None) -> EuclideanGain:
    """The least l2 gain any diagonal metric gives for x = Phi(A x + B u + b), y = C x; slopes in [0, 1] if not given.

    **Arguments:** `B`: shape (n, m); `C`: shape (q, n); `start`: a metric with H(L) > 0, searched for if not given.

    **Raises:** `ValueError` for shapes that do not fit, or if no metric with H(L) > 0 was given or found.
    """
    loop = unit_slopes(A, B, C, slopes)
    A, B, C, D = loop.A, loop.B, loop.C, loop.D
    n = len(A)
    if not n:
        return EuclideanGain(float(np.linalg.norm(D, 2)), loop.full_metric(np.empty(0)), 0.0)
    start = diagonal_stability(A).metric if start is None else start[loop.kept]
    least = float(np.linalg.eigvalsh(metric_matrix(A, start))[0])
    if not (least > 0 and np.all(start > 0)):
        raise ValueError("No diagonal metric L with L (I - A) + (I - A)^T L > 0 is at hand (least eigenvalue "
                         f"{least!r}): this inequality gives no l2 bound.")
    size_b, size_c, size_d = (float(np.linalg.norm(matrix, 2)) for matrix in (B, C, D))
    if not (size_b and size_c):
        return EuclideanGain(size_d, loop.full_metric(start), 0.0)
    through = size_d / (size_b * size_c)
    stacked = np.vstack([B / size_b, D / (size_b * size_c)])
    factor = np.asarray(np.linalg.qr(stacked.T, mode="r"), dtype=np.float64).T
    r = factor.shape[1]
    outputs = np.hstack([C / size_c, factor[n:]])
    problem = _Problem(np.hstack([np.eye(n) - A, -factor[:n]]), -outputs.T @ outputs, np.repeat([0.0, 1.0], [n, r]),
                       fixed_trace=False)
    metric = start * (2 / least)
    # H >= 2 I leaves at least I, against which tau covers the square of what is beside it.
    tau = 2 * (float(np.max(metric)) + through) ** 2 + through**2 + 1
    metric, tau, gap = problem.minimise(metric, tau, 2 * tolerance, relative=True)
    return EuclideanGain(size_b * size_c * float(np.sqrt(tau)), loop.full_metric(metric * size_c**2),
                         1 - float(np.sqrt(max(1 - gap, 0))))


class _Problem:
    """Minimise tau over lam > 0 with M = M_0 + sum_i lam_i (e_i p_i^T + p_i e_i^T) + tau diag(shift) >= 0.

    p_i are the rows of `rows`, shape (n, order). With `fixed_trace`, the sum of lam stays what it is at the start.
    """

    def __init__(self, rows: Array, constant: Array, shift: Array, fixed_trace: bool):
        self.rows, self.constant, self.shift, self.fixed_trace = rows, constant, shift, fixed_trace
        self.n, self.order = rows.shape

    def matrix(self, lam: Array, tau: float) -> Array:
        M = self.constant.copy()
        scaled = lam[:, None] * self.rows
        M[:self.n] += scaled
        M[:, :self.n] += scaled.T
        M[np.diag_indices(self.order)] += tau * self.shift
        return M

    def minimise(self, lam: Array, tau: float, tolerance: float, relative: bool) -> tuple[Array, float, float]:
        """lam, tau and a bound on how far tau is above its minimum, relatively or not, from strictly inside."""
        parameter = self.order + self.n
        t = parameter / max(abs(tau), 1e-12)
        while True:
            lam, tau, centred = self._centre(lam, tau, t)
            gap = 2 * parameter / t / (tau if relative else 1.0)
            if not centred:
                return lam, tau, np.inf
            if gap <= tolerance:
                return lam, tau, gap
            t *= _GROWTH

    def _centre(self, lam: Array, tau: float, t: float) -> tuple[Array, float, bool]:
        """Newton's method on t tau - log det M - sum log lam."""
        value, last = self._value(lam, tau, t), np.inf
        for _ in range(_MOST_STEPS):
            gradient, hessian = self._derivatives(lam, tau, t)
            try:
                factor = cho_factor(hessian)
            except LinAlgError:
                return lam, tau, False
            direction = -cho_solve(factor, gradient)
            if self.fixed_trace:
                normal = np.append(np.ones(self.n), 0.0)
                across = cho_solve(factor, normal)
                direction -= across * (normal @ direction) / (normal @ across)
            decrement = float(-(gradient @ direction))
            # Near the centre a full step is safe, and its decrease lost in the rounding of the value.
            near = decrement <= _NEAR
            if decrement <= _CENTRED or (near and decrement >= last):
                return lam, tau, near
            last, step = decrement if near else np.inf, 1.0
            while True:
                candidate = lam + step * direction[:-1], tau + step * float(direction[-1])
                there = self._value(*candidate, t)
                if there <= value - 0.1 * step * decrement or (near and np.isfinite(there)):
                    break
                step /= 2
                if step < 1e-8:
                    return lam, tau, False
            (lam, tau), value = candidate, there
        return lam, tau, False

    def _value(self, lam: Array, tau: float, t: float) -> float:
        if np.min(lam) <= 0:
            return np.inf
        try:
            factor = np.linalg.cholesky(self.matrix(lam, tau))
        except np.linalg.LinAlgError:
            return np.inf
        return float(t * tau - 2 * np.sum(np.log(np.diagonal(factor))) - np.sum(np.log(lam)))

    def _derivatives(self, lam: Array, tau: float, t: float) -> tuple[Array, Array]:
        n, shift = self.n, self.shift
        inverse = np.linalg.inv(self.matrix(lam, tau))
        across = self.rows @ inverse
        gradient = np.append(-2 * np.diagonal(across) - 1 / lam, t - shift @ np.diagonal(inverse))
        hessian = np.empty((n + 1, n + 1))
        w = across[:, :n]
        hessian[:n, :n] = 2 * (w * w.T + (across @ self.rows.T) * inverse[:n, :n])
        hessian[np.arange(n), np.arange(n)] += 1 / lam**2
        hessian[:n, n] = hessian[n, :n] = 2 * np.sum(across * shift * inverse[:n], axis=1)
        hessian[n, n] = shift @ (inverse * inverse) @ shift
        return gradient, hessian
