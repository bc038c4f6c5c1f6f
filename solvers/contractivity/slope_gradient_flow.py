r"""The gradient system over slopes: a local maximum of mu(J(D)), and the slope interval it suggests.

Inner level: the projected gradient flow d_i' = g_i(D) = (e_i^T x)(a_i^T x), where x is the top eigenvector of sym J(D).
A slope that sits at an end of its interval and would leave it is held there (the active set) until its g_i changes
sign. Along the flow d/dt mu = sum of g_i^2 over the slopes that are not held, so mu never decreases. Explicit
Euler steps are accepted if mu does not drop, else halved, and grow by half after success; the eigenvector
of the step before starts the next eigenvalue computation.

Outer level: the least m for which the inner maximum on [m, upper]^k does not exceed c, by Newton's method safeguarded
by bisection, with d mu / d m = sum of g_i over the slopes at m.

This is the two-level method of Guglielmi, De Marinis, Savostianov and Tudisco (arXiv 2402.13092). The flow ends in one
of many local maxima: its value is a *lower* bound of the worst logarithmic norm, so the interval [m, upper] it
suggests is optimistic, and nothing is proved by it.
"""

import dataclasses

import numpy as np

from .logarithmic_norm import Array, SlopeField, TopPair, top_pair
from .slope_interval import Tangent, newton_bisection

_GROWTH = 1.5
_SHORTEST_STEP = 1e-14


@dataclasses.dataclass(frozen=True, eq=False)
class LogNormLowerBound:
    """Slopes within the box with mu(J(D)) = `value` up to rounding: the worst logarithmic norm is at least that.

    **Attributes:** `slopes`: D, shape (k,); `vector`: the top eigenvector; `iterations`: accepted steps; `history`: mu
    after each, never decreasing.
    """

    value: float
    slopes: Array
    vector: Array
    iterations: int
    history: tuple[float, ...]

    def lower_slope_derivative(self, field: SlopeField) -> float:
        """d value / d lower: the sum of the gradient over the slopes at the lower end, never positive if stationary."""
        gradient = field.gradient(self.vector)
        return float(gradient[self.slopes <= field.lower].sum())


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlopeGradientFlow:
    """The inner gradient system.

    **Arguments:** `first_step`: relative to 1 / size of the gradient; `tolerance`: ends when the projected gradient is
    smaller, relative to the gradient itself; `steps`: the most Euler steps tried.
    """

    first_step: float = 0.1
    tolerance: float = 1e-9
    steps: int = 5000

    def __post_init__(self) -> None:
        for name in ("first_step", "tolerance", "steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)!r}.")

    def solve(self, field: SlopeField, start: Array | None = None, vector: Array | None = None) -> LogNormLowerBound:
        """Follows the flow from `start` (default: the middle of the box) to a stationary point.

        **Arguments:** `start`: slopes, shape (k,), clipped to the box; `vector`: an eigenvector to start Lanczos from.
        """
        slopes = np.full(field.neurons, field.centre) if start is None else np.clip(start, field.lower, field.upper)
        pair = top_pair(field, slopes, vector)
        gradient = field.gradient(pair.vector)
        # Time is measured so that the first step moves slopes by `first_step` of the box.
        largest = float(np.max(np.abs(gradient), initial=0.0))
        step = self.first_step * 2 * field.radius / largest if largest > 0 else 0.0
        history = [pair.value]
        for _ in range(self.steps):
            held = held_slopes(field, slopes, gradient)
            size = np.linalg.norm(gradient)
            if step == 0 or np.linalg.norm(gradient[~held]) <= self.tolerance * size:
                break
            moved, pair, step = self._advance(field, slopes, pair, np.where(held, 0.0, gradient), step)
            if moved is None:
                break
            slopes, gradient = moved, field.gradient(pair.vector)
            history.append(pair.value)
        return LogNormLowerBound(pair.value, slopes, pair.vector, len(history) - 1, tuple(history))

    def _advance(
        self, field: SlopeField, slopes: Array, pair: TopPair, direction: Array, step: float
    ) -> tuple[Array | None, TopPair, float]:
        """The next accepted Euler step and the step length after it; None where no step raises mu any more."""
        while step * np.max(np.abs(direction)) > _SHORTEST_STEP * max(abs(field.lower), abs(field.upper)):
            trial = np.clip(slopes + step * direction, field.lower, field.upper)
            if np.array_equal(trial, slopes):
                break
            reached = top_pair(field, trial, pair.vector)
            if reached.value >= pair.value:
                return trial, reached, _GROWTH * step
            step /= 2
        return None, pair, step


def held_slopes(field: SlopeField, slopes: Array, gradient: Array) -> np.ndarray:
    """The active set: slopes at an end of the interval which the gradient pushes outward."""
    return ((slopes >= field.upper) & (gradient > 0)) | ((slopes <= field.lower) & (gradient < 0))


@dataclasses.dataclass(frozen=True, eq=False)
class OptimisticLowerSlope:
    """The two-level method's answer: `lower_slope` is at most the true one, up to the tolerance, and nothing is proved.

    **Attributes:** `lower_slope`: None where the level is exceeded even at D = upper I; `worst`: the inner result
    there; `history`: (m, mu) of each outer step.
    """

    lower_slope: float | None
    worst: LogNormLowerBound
    history: tuple[tuple[float, float], ...]


def optimistic_lower_slope(
    field: SlopeField,
    level: float = 0.0,
    flow: SlopeGradientFlow | None = None,
    tolerance: float = 1e-9,
    start: Array | None = None,
) -> OptimisticLowerSlope:
    """The least m in [lower, upper] with the flow's maximum on [m, upper]^k at most `level`.

    **Arguments:** `start`: slopes where the inner flow starts at every m, clipped to the box (default: its middle).
    """
    flow = flow or SlopeGradientFlow()
    found: dict[float, LogNormLowerBound] = {}

    def inner(m: float) -> Tangent:
        here = field.with_lower(m)
        vector = next(reversed(found.values())).vector if found else None
        found[m] = flow.solve(here, start, vector)
        return Tangent(found[m].value, found[m].lower_slope_derivative(here))

    result = newton_bisection(inner, field.lower, field.upper, level, tolerance)
    return OptimisticLowerSlope(result.root, found[field.upper if result.root is None else result.root], result.history)
