r"""Iterations for x = Phi(A x + c) with Phi diagonal, and the factors they are guaranteed to contract with.

- Average (Krasnoselskii-Mann): x+ = (1 - a) x + a Phi(A x + c). In |.|_eta over all slopes its worst factor is exactly
  max(1 - a (1 - m), a (1 + m') - 1), with m and m' the largest logarithmic norms of D A and of -D A. It is least for
  a = 2 / (2 - m + m'). The step 1 / (1 - min_i min(a_ii, 0)) of arXiv 2106.03194 is at most that. Picard is a = 1.
- Forward-backward: x+ = J_a(x - a ((I - A) x - c)), factor |I - a (I - A)| in a Euclidean norm.
- Peaceman-Rachford: z+ = R (2 J_a(z) - z), x = J_a(z), R the reflected resolvent of x -> (I - A) x - c, factor
  |(I - a (I - A)) (I + a (I - A))^-1|. Both are those of Winston, Kolter, arXiv 2006.08591.
- Anderson: mixes the last average steps by least squares, and takes the plain one instead unless the residual shrinks
  by the factor of that step. So the residual, not the distance, shrinks at least as fast as guaranteed for the average.

For slopes within [0, 1], Phi is the resolvent of a maximal monotone diagonal operator G, and J_a that of a G. It is
diagonal too, so nothing changes in the norm |L^{1/2} x| with L > 0 diagonal, which makes up for A that are not monotone
in the plain one.
"""

import dataclasses
import enum
from collections.abc import Callable, Iterator

import numpy as np
from scipy.linalg import lu_factor, lu_solve
from scipy.optimize import minimize_scalar

from .weighted_log_norm import Array, SlopeBox, largest_log_norm, positive_weights, square

Activation = Callable[[Array], Array]


class Method(enum.Enum):
    AVERAGE = "average"
    PICARD = "picard"
    FORWARD_BACKWARD = "forward-backward"
    PEACEMAN_RACHFORD = "peaceman-rachford"
    ANDERSON = "anderson"

    @property
    def is_splitting(self) -> bool:
        """Whether it needs slopes within [0, 1] and contracts in a Euclidean norm."""
        return self in (Method.FORWARD_BACKWARD, Method.PEACEMAN_RACHFORD)


class FixedPointStatus(enum.Enum):
    """Why an iteration ended. Only CONVERGED says that `x` is close to a fixed point."""

    CONVERGED = "The residual is at most the tolerance."
    ITERATION_LIMIT = "The iteration limit was reached first. Take a method with a guaranteed factor below 1."
    DIVERGED = "Iterates left the range of float64. Take a method with a guaranteed factor below 1."


@dataclasses.dataclass(frozen=True)
class Step:
    """A step size and the factor guaranteed with it for all slopes and all c; `factor` >= 1 guarantees nothing."""

    size: float
    factor: float


@dataclasses.dataclass(frozen=True, eq=False)
class FixedPoint:
    """Where an iteration ended; nothing is proved of `x`.

    **Attributes:** `x`: of the shape of c; `residual`: the largest |x - Phi(A x + c)|_eta; `step`: what was run;
    `measured`: the largest ratio of successive steps, or for Anderson of residuals, in the norm of the guarantee;
    `course`: what it compares, from the first step on; `reached`: after how many iterations the residual of each member
    first was at most the tolerance, -1 where it never was, shape (batch,).
    """

    status: FixedPointStatus
    x: Array
    residual: float
    iterations: int
    step: Step
    measured: float
    reached: np.ndarray
    course: tuple[float, ...] = ()


def average_factor(A: Array, eta: Array, slopes: SlopeBox, size: float) -> float:
    """The largest |(1 - a) I + a D A|_eta over the slopes, attained."""
    if not size > 0:
        raise ValueError(f"The step of an iteration must be positive, got {size!r}.")
    above, below = largest_log_norm(A, eta, slopes), largest_log_norm(-np.asarray(A), eta, slopes)
    return max(1 - size * (1 - above), size * (1 + below) - 1)


def average_step(A: Array, eta: Array, slopes: SlopeBox) -> Step:
    """The step of the average iteration with the least guaranteed factor.

    **Raises:** `ValueError` if the largest mu_eta(D A) is not below 1: no step contracts in this norm then.
    """
    above, below = largest_log_norm(A, eta, slopes), largest_log_norm(-np.asarray(A), eta, slopes)
    if not above < 1:
        raise ValueError(f"The largest mu_eta(D A) over the slopes is {above!r}; a step of the average iteration "
                         "contracts only if it is below 1. Minimise it over eta, or take a splitting.")
    return Step(2 / (2 - above + below), 1 - 2 * (1 - above) / (2 - above + below))


def classic_average_step(A: Array, eta: Array) -> Step:
    """1 / (1 - min_i min(a_ii, 0)) of arXiv 2106.03194, with its factor over slopes in [0, 1]."""
    A = square(A)
    size = 1 / (1 - min(0.0, float(np.min(np.diagonal(A)))))
    return Step(size, average_factor(A, eta, SlopeBox.uniform(len(A)), size))


def splitting_factor(A: Array, method: Method, size: float, metric: Array | None = None) -> float:
    """The guaranteed factor of a splitting in |L^{1/2} x|, L = diag(metric), for all slopes in [0, 1]."""
    if not method.is_splitting or not size > 0:
        raise ValueError(f"A splitting with a positive step is needed, got {method} and {size!r}.")
    monotone = np.eye(len(A)) - _in_metric(square(A), metric)
    forward: Array = np.eye(len(A)) - size * monotone
    if method is Method.PEACEMAN_RACHFORD:
        forward = np.asarray(np.linalg.solve(np.eye(len(A)) + size * monotone, forward), dtype=np.float64)
    return float(np.linalg.norm(forward, 2))


def splitting_step(A: Array, method: Method, metric: Array | None = None) -> Step:
    """The step of a splitting with the least guaranteed factor, found by search.

    **Raises:** `ValueError` if (I - A) is not strongly monotone in the metric: no step contracts in this norm then.
    """
    monotone = np.eye(len(A)) - _in_metric(square(A), metric)
    margin = float(np.linalg.eigvalsh((monotone + monotone.T) / 2)[0])
    if not margin > 0:
        raise ValueError(f"I - A is not strongly monotone in this metric: the least eigenvalue of its symmetric part "
                         f"is {margin!r}. Take a metric that proves diagonal stability, or the average iteration.")
    # Both factors are below 1 at these steps, and the norm decides: |I - a M|^2 <= 1 - 2 a m + a^2 |M|^2.
    norm = float(np.linalg.norm(monotone, 2))
    start = margin / norm**2 if method is Method.FORWARD_BACKWARD else 1 / norm
    found = minimize_scalar(lambda t: splitting_factor(A, method, float(np.exp(t)), metric), method="bounded",
                            bounds=(np.log(start) - 0.1, np.log(2 / margin)), options={"maxiter": 60})
    sizes = (start, float(np.exp(found.x)))
    return min((Step(size, splitting_factor(A, method, size, metric)) for size in sizes), key=lambda step: step.factor)


def _in_metric(A: Array, metric: Array | None) -> Array:
    """L^{1/2} A L^{-1/2}."""
    if metric is None:
        return A
    root = np.sqrt(positive_weights(metric, len(A)))
    return np.asarray(root[:, None] * A / root)


def resolvent(activation: Activation, size: float) -> Activation:
    """J_a = (I + a G)^-1 where Phi = (I + G)^-1 is nondecreasing with slopes in [0, 1].

    J_a(v) = Phi(w) with (1 - a) Phi(w) + a w = v, whose left side has slopes between min(a, 1) and max(a, 1), so that
    bisection finds w. Where w = y + (v - y) / a with y = Phi(v) solves it, as for ReLU and all projections, J_a = Phi.
    """
    if not size > 0:
        raise ValueError(f"The step of a resolvent must be positive, got {size!r}.")

    def apply(v: Array) -> Array:
        y = activation(v)
        if np.array_equal(activation(y + (v - y) / size), y):
            return y
        at_zero = (1 - size) * activation(np.zeros_like(v))
        reach = np.abs(v - at_zero) / min(size, 1.0) * (1 + 1e-12) + 1e-300
        low, high = -reach, reach
        for _ in range(64):
            middle = (low + high) / 2
            above = (1 - size) * activation(middle) + size * middle > v
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return activation((low + high) / 2)

    return apply


def fixed_point(A: Array, c: Array, activation: Activation, method: Method, slopes: SlopeBox | None = None, *,
                eta: Array | None = None, metric: Array | None = None, size: float | None = None,
                tolerance: float = 1e-10, max_iterations: int = 5000, memory: int = 5,
                start: Array | None = None) -> FixedPoint:
    r"""Iterates until |x - Phi(A x + c)|_eta <= tolerance; the status says whether it came to that.

    **Arguments:** `A`: shape (n, n); `c`: B u + b, shape (n,) or (batch, n); `activation`: Phi on arrays of the shape
    of c; `slopes`: of Phi, [0, 1] if not given; `eta`: the weights of the norm, ones if not given; `metric`: L of the
    splittings; `size`: the step, by default the one with the least guaranteed factor; `memory`: of Anderson.

    **Raises:** `ValueError` for shapes that do not fit, splittings with slopes outside [0, 1], or where no step has a
    guaranteed factor below 1 and no `size` was given.
    """
    A, c = square(A), np.asarray(c, dtype=np.float64)
    n = len(A)
    if c.ndim not in (1, 2) or c.shape[-1] != n or not np.all(np.isfinite(c)):
        raise ValueError(f"c must be finite, of shape ({n},) or (batch, {n}), got the shape {c.shape}.")
    slopes = SlopeBox.uniform(n) if slopes is None else slopes
    weights = np.ones(n) if eta is None else positive_weights(eta, n)
    if method.is_splitting and (np.min(slopes.lower) < 0 or np.max(slopes.upper) > 1):
        raise ValueError("Splittings need slopes within [0, 1]; scale the rows of A and c by the largest slopes first. "
                         f"Got slopes from {np.min(slopes.lower)!r} to {np.max(slopes.upper)!r}.")
    step = _step(A, weights, slopes, method, metric, size)
    x0 = np.zeros_like(c) if start is None else np.broadcast_to(np.asarray(start, dtype=np.float64), c.shape)
    root = np.sqrt(np.ones(n) if metric is None else positive_weights(metric, n))

    def length(v: Array) -> float:
        if method.is_splitting:
            return float(np.max(np.linalg.norm(root * v, axis=-1)))
        return float(np.max(np.abs(v) / weights))

    iterates = _ITERATIONS[method](A, c, activation, step, x0, weights, memory)
    x, residual, iteration, measured, last, before = x0, np.inf, 0, 0.0, np.nan, x0
    course: list[float] = []
    reached = np.full(len(c) if c.ndim == 2 else 1, -1)
    with np.errstate(over="ignore", invalid="ignore"):
        for iteration, (x, state) in enumerate(iterates):
            members = np.atleast_1d(np.max(np.abs(x - activation(x @ A.T + c)) / weights, axis=-1))
            residual = float(np.max(members, initial=0.0))
            reached[(reached < 0) & (members <= tolerance)] = iteration
            if not np.isfinite(residual):
                return FixedPoint(FixedPointStatus.DIVERGED, x, np.inf, iteration, step, measured, reached,
                                  tuple(course))
            moved = length(state - before) if method is not Method.ANDERSON else residual
            # Below this a difference is mostly rounding.
            if iteration > 1 and moved > 1e-7 * (length(state) + 1e-300):
                measured = max(measured, moved / last)
            last, before = moved, state
            if iteration:
                course.append(moved)
            if residual <= tolerance:
                return FixedPoint(FixedPointStatus.CONVERGED, x, residual, iteration, step, measured, reached,
                                  tuple(course))
            if iteration == max_iterations:
                break
    return FixedPoint(FixedPointStatus.ITERATION_LIMIT, x, residual, iteration, step, measured, reached, tuple(course))


def _step(A: Array, eta: Array, slopes: SlopeBox, method: Method, metric: Array | None, size: float | None
          ) -> Step:
    if method is Method.PICARD:
        size = 1.0
    if method.is_splitting:
        return splitting_step(A, method, metric) if size is None else Step(
            size, splitting_factor(A, method, size, metric))
    return average_step(A, eta, slopes) if size is None else Step(size, average_factor(A, eta, slopes, size))


# Each yields x and the vector that contracts, from the start on.
_Iterates = Iterator[tuple[Array, Array]]


def _average(A: Array, c: Array, activation: Activation, step: Step, x: Array, eta: Array, memory: int
             ) -> _Iterates:
    while True:
        yield x, x
        x = (1 - step.size) * x + step.size * activation(x @ A.T + c)


def _forward_backward(A: Array, c: Array, activation: Activation, step: Step, x: Array, eta: Array, memory: int
             ) -> _Iterates:
    size, backward = step.size, resolvent(activation, step.size)
    while True:
        yield x, x
        x = backward((1 - size) * x + size * (x @ A.T + c))


def _peaceman_rachford(A: Array, c: Array, activation: Activation, step: Step, z: Array, eta: Array, memory: int
                       ) -> _Iterates:
    size, backward, n = step.size, resolvent(activation, step.size), len(A)
    factors = lu_factor(np.eye(n) + size * (np.eye(n) - A))
    while True:
        x = backward(z)
        yield x, z
        reflected = 2 * x - z
        z = 2 * lu_solve(factors, (reflected + size * c).T).T - reflected


def _anderson(A: Array, c: Array, activation: Activation, step: Step, x: Array, eta: Array, memory: int) -> _Iterates:
    def residual(x: Array) -> Array:
        return activation(x @ A.T + c) - x

    def size(residual: Array) -> float:
        return float(np.max(np.abs(residual) / eta))

    images: list[Array] = []
    residuals: list[Array] = []
    here = residual(x)
    while True:
        yield x, x
        image = x + step.size * here
        images, residuals = [*images, image.ravel()][-memory - 1:], [*residuals, here.ravel()][-memory - 1:]
        candidate, there = image, None
        if len(images) > 1 and np.all(np.isfinite(residuals)):
            weights = np.linalg.lstsq(np.diff(residuals, axis=0).T, residuals[-1], rcond=1e-12)[0]
            candidate = (images[-1] - weights @ np.diff(images, axis=0)).reshape(c.shape)
            there = residual(candidate)
        if there is None or not size(there) <= min(step.factor, 1.0) * size(here):
            candidate, there = image, residual(image)
        x, here = candidate, there


_ITERATIONS = {Method.AVERAGE: _average, Method.PICARD: _average, Method.FORWARD_BACKWARD: _forward_backward,
               Method.PEACEMAN_RACHFORD: _peaceman_rachford, Method.ANDERSON: _anderson}
