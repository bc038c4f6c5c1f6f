r"""Upper bounds of the worst logarithmic norm max_D mu(B + E D A): closed form, norm bound, semidefinite bound.

The semidefinite bound (`slope_relaxation`) is at most (pi/2 - 1) r max_{|x|=1} sum_i |e_i^T x| |a_i^T x| above the
truth: for z ~ N(0, X), E |e_i^T z| |a_i^T z| >= (2/pi) sqrt(e_i^T X e_i a_i^T X a_i). The same argument rounds X to
slopes. What the multipliers prove is for the checker to say: values here are in floating point.
"""

import dataclasses
import math
import time

import numpy as np

from ..result import Limits, Status
from .logarithmic_norm import Array, SlopeField, logarithmic_norm
from .slope_relaxation import RelaxationGoals, relax, starting_multipliers


@dataclasses.dataclass(frozen=True, eq=False)
class LogNormUpperBound:
    r"""mu(J(D)) <= `value` for every D in the box, by the multipliers.

    **Attributes:** `value`: lambda_max(M(lam)), in floating point; `dual_bound`: no multipliers give less;
    `multipliers`: lam > 0, shape (k,), and 0 where e_i or a_i is zero; `density`: X >= 0 of trace 1, shape (n, n), near
    an optimum of the dual.
    """

    value: float
    dual_bound: float
    multipliers: Array
    density: Array
    status: Status
    iterations: int
    seconds: float

    def rounding_factor(self, field: SlopeField) -> float:
        r"""s >= 1 with value(r) <= mu*(s r) about this field: how far the bound can be off, at most pi/2.

        With rho_i the correlation of e_i^T z and a_i^T z and w_i = sqrt(e_i^T X e_i a_i^T X a_i), it is
        sum_i w_i / sum_i h(rho_i) w_i, h(rho) = (2 / pi) (sqrt(1 - rho^2) + rho asin rho) = E |uv| for unit variances.
        """
        weights, covariances = _moments(field, self.density)
        if not np.any(weights > 0):
            return 1.0
        correlations = np.clip(np.divide(covariances, weights, out=np.zeros_like(weights), where=weights > 0), -1, 1)
        shares = 2 / np.pi * (np.sqrt(1 - correlations**2) + correlations * np.arcsin(correlations))
        return float(weights.sum() / (shares * weights).sum())

    def lower_slope_derivative(self, field: SlopeField) -> float:
        """d value / d lower, for the optimal multipliers: <sym(E A), X> / 2 - sum_i w_i / 2, never positive."""
        weights, covariances = _moments(field, self.density)
        return float((covariances - weights).sum() / 2)


def _moments(field: SlopeField, density: Array) -> tuple[Array, Array]:
    """sqrt(e_i^T X e_i a_i^T X a_i), and e_i^T X a_i, by neuron."""
    e, ax = field.dense_outputs, field.inputs @ density
    outputs = np.sum(e * (density @ e), axis=0)
    inputs = np.sum(ax * field.inputs, axis=1)
    return np.sqrt(np.maximum(outputs * inputs, 0)), np.sum(ax * e.T, axis=1)


def multiplier_matrix(field: SlopeField, multipliers: Array) -> Array:
    """M(lam) = nominal + sum_i (lam_i a_i a_i^T + r^2 / (4 lam_i) e_i e_i^T), over the neurons that act.

    **Raises:** `ValueError` unless lam_i > 0 for each of these.
    """
    acting = field.acting
    if multipliers.shape != (field.neurons,) or not np.all(multipliers[acting] > 0):
        raise ValueError(f"`multipliers` must be {field.neurons} numbers, positive for neurons that act; got the shape "
                         f"{multipliers.shape} and least entry {float(np.min(multipliers, initial=np.inf))!r}.")
    lam, a, e = multipliers[acting], field.inputs[acting], field.dense_outputs[:, acting]
    total: Array = field.nominal + (a.T * lam) @ a + (e * (field.radius**2 / (4 * lam))) @ e.T
    return total


def evaluate(field: SlopeField, multipliers: Array) -> float:
    """The bound lambda_max(M(lam)) that these multipliers give; every lam > 0 gives one."""
    return float(np.linalg.eigvalsh(multiplier_matrix(field, multipliers))[-1])


def evaluate_gradient(field: SlopeField, multipliers: Array) -> tuple[float, Array]:
    """The bound these multipliers give, and its gradient in the inputs A, shape (k, n), for training with a penalty.

    With x the top eigenvector of M(lam): d / dA = r0 E^T x x^T + 2 diag(lam) A x x^T. The multipliers are held.
    """
    values, vectors = np.linalg.eigh(multiplier_matrix(field, multipliers))
    x, lam = vectors[:, -1], np.where(field.acting, multipliers, 0.0)
    left = field.centre * field.through_outputs(x) + 2 * lam * (field.inputs @ x)
    return float(values[-1]), np.outer(left, x)


def closed_form_multipliers(field: SlopeField) -> Array:
    """lam_i = r |e_i| / (2 |a_i|), 0 where that is no number."""
    multipliers: Array = np.where(field.acting, np.exp(starting_multipliers(field)), 0.0)
    return multipliers


def closed_form_bound(field: SlopeField) -> float:
    """lambda_max(nominal + (r / 2) sum_i (|e_i| / |a_i| a_i a_i^T + |a_i| / |e_i| e_i e_i^T)): nothing is solved."""
    return evaluate(field, closed_form_multipliers(field))


def norm_bound(field: SlopeField) -> float:
    """mu(B + r0 E A) + r ||E||_2 ||A||_2."""
    outputs = 1.0 if field.outputs is None else float(np.linalg.norm(field.outputs, 2))
    top = float(np.linalg.eigvalsh(field.nominal)[-1])
    return top + field.radius * outputs * float(np.linalg.norm(field.inputs, 2))


def upper_bound(field: SlopeField, limits: Limits | None = None, start: Array | None = None) -> LogNormUpperBound:
    """The least bound over all multipliers, by the barrier method of `slope_relaxation`.

    **Arguments:** `limits`: the tolerance is relative to the size of the field (default 1e-6); every iterate is a
    bound, so that a time limit costs tightness only; `start`: multipliers to start from.
    """
    limits = limits or Limits()
    begin = time.perf_counter()
    scaled, exponent = field.normalised()
    if not np.any(field.acting):
        values, vectors = np.linalg.eigh(field.nominal)
        return LogNormUpperBound(float(values[-1]), float(values[-1]), closed_form_multipliers(field),
                                 np.outer(vectors[:, -1], vectors[:, -1]), Status.OPTIMAL, 0,
                                 time.perf_counter() - begin)
    logs = starting_multipliers(scaled)
    if start is not None:
        given = np.log(np.where(start > 0, start, 1)) + exponent * math.log(2)
        logs = np.where(scaled.acting & (start > 0), given, logs)
    goals = RelaxationGoals(tolerance=limits.tolerance, deadline=begin + limits.time_limit)
    relaxed = relax(scaled, np.zeros((1, field.neurons), dtype=np.int8), logs[None], goals)
    multipliers = np.where(field.acting, np.ldexp(np.exp(relaxed.log_multipliers[0]), -exponent), 0.0)
    gap = float(relaxed.upper[0] - relaxed.lower[0])
    if gap <= limits.tolerance:
        status = Status.OPTIMAL
    elif time.perf_counter() - begin > limits.time_limit:
        status = Status.TIME_LIMIT
    else:
        status = Status.ITERATION_LIMIT if relaxed.iterations >= goals.iterations else Status.STALLED
    return LogNormUpperBound(
        value=evaluate(field, multipliers),
        dual_bound=float(np.ldexp(relaxed.lower[0], exponent)),
        multipliers=multipliers,
        density=relaxed.densities[0],
        status=status,
        iterations=relaxed.iterations,
        seconds=time.perf_counter() - begin,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class CertifiedLowerSlope:
    """mu(J(D)) <= level for every D in [`lower_slope`, upper]^k by these multipliers; nothing below if it is None.

    **Attributes:** `lower_slope`: m_sdp, or None where not even the box of the single point `upper` satisfies the
    level; `bound`: what the multipliers give there; `history`: (m, bound) of each step.
    """

    lower_slope: float | None
    bound: LogNormUpperBound
    history: tuple[tuple[float, float], ...]


def least_lower_slope(field: SlopeField, level: float, limits: Limits | None = None) -> CertifiedLowerSlope:
    r"""The least m in [lower, upper] with the semidefinite bound on [m, upper]^k at most `level`.

    The bound is convex and nonincreasing in m, being the partial minimum over lam of a function that is convex in (m,
    lam) jointly. So Newton's method from the left increases monotonically to m_sdp; the derivative comes from X. As
    the values are bounds from above, the last step ends on the side where the multipliers do prove the level.
    """
    limits = limits or Limits()
    begin, m = time.perf_counter(), field.lower
    history: list[tuple[float, float]] = []
    at_end = logarithmic_norm(field.jacobian(np.full(field.neurons, field.upper)))
    start = None
    while True:
        m = min(m, field.upper)
        here = field.with_lower(m)
        remaining = max(limits.time_limit - (time.perf_counter() - begin), 1e-3)
        bound = upper_bound(here, dataclasses.replace(limits, time_limit=remaining), start)
        history.append((m, bound.value))
        if bound.value <= level:
            return CertifiedLowerSlope(m, bound, tuple(history))
        if m >= field.upper or at_end > level:
            return CertifiedLowerSlope(None, bound, tuple(history))
        slope, start = bound.lower_slope_derivative(here), bound.multipliers
        step = (bound.value - level) / -slope if slope < 0 else math.inf
        # The error of the bound, seen through the derivative, is the least step worth taking.
        m = m + max(step, 1e-9 * max(1.0, abs(field.upper)))
        if time.perf_counter() - begin > limits.time_limit:
            m = field.upper
