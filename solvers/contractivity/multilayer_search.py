r"""Lower bounds of the worst logarithmic norm of several layers: the gradient system, and alternating ascent.

The gradient system follows (D_j)_ii' = (y_j)_i (B_j)_i in all layers at once (see `multilayer_field`), holding slopes
that sit at an end of the interval and would leave it. The alternating ascent gives each layer in turn its best
response to the top eigenvector. Both end in local maxima: the values are lower bounds, and nothing is proved by them.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from .logarithmic_norm import Array
from .multilayer_field import MultilayerField
from .slope_interval import Tangent, newton_bisection

_GAIN = 1e-12
_GROWTH = 1.5
_SHORTEST_STEP = 1e-14


@dataclasses.dataclass(frozen=True, eq=False)
class MultilayerLowerBound:
    """Slopes with mu(J) = `value`, by layer; `lower_slope_derivative` as the lower end of the interval moves."""

    value: float
    slopes: tuple[Array, ...]
    lower_slope_derivative: float


def multilayer_ascent(field: MultilayerField, restarts: int = 20, seed: int = 0) -> MultilayerLowerBound:
    """Alternating ascent layer by layer, from the middle, the upper end, and random vertices; the best one found.

    Each layer in turn takes its best response to the top eigenvector, the others held; mu never decreases.
    """
    if restarts < 1:
        raise ValueError(f"`restarts` must be at least 1, got {restarts}.")
    rng, best = np.random.default_rng(seed), None
    for k in range(restarts):
        constant = {0: (field.lower + field.upper) / 2, 1: field.upper}.get(k)
        slopes = [
            np.full(len(weight), constant) if constant is not None
            else np.where(rng.random(len(weight)) < 0.5, field.lower, field.upper)
            for weight in field.weights
        ]
        found = _ascend(field, slopes)
        if best is None or found.value > best.value:
            best = found
    assert best is not None
    return best


def _ascend(field: MultilayerField, slopes: list[Array]) -> MultilayerLowerBound:
    value, x = field.top(slopes)
    improved = True
    while improved:
        improved = False
        for j in range(len(slopes)):
            response = np.where(field.gradient(slopes, x)[j] > 0, field.upper, field.lower)
            trial = [*slopes[:j], response, *slopes[j + 1 :]]
            reached, direction = field.top(trial)
            if reached > value + _GAIN * max(1.0, abs(value)):
                slopes, value, x, improved = trial, reached, direction, True
    return _result(field, slopes, value, x)


def _result(field: MultilayerField, slopes: list[Array], value: float, x: Array) -> MultilayerLowerBound:
    gradient = field.gradient(slopes, x)
    derivative = sum(float(g[d <= field.lower].sum()) for g, d in zip(gradient, slopes, strict=True))
    return MultilayerLowerBound(value, tuple(slopes), derivative)


def multilayer_flow(
    field: MultilayerField, start: list[Array] | None = None, steps: int = 5000, tolerance: float = 1e-9
) -> MultilayerLowerBound:
    """Follows the gradient system from `start` (default: the middle of the box) to a stationary point.

    Explicit Euler steps are accepted if mu does not drop, else halved; after success the step grows by half.
    """
    centre = (field.lower + field.upper) / 2
    slopes = [np.full(len(weight), centre) for weight in field.weights] if start is None else start
    slopes = [np.clip(d, field.lower, field.upper) for d in slopes]
    value, x = field.top(slopes)
    gradient = field.gradient(slopes, x)
    largest = max(float(np.max(np.abs(g), initial=0.0)) for g in gradient)
    step = 0.1 * (field.upper - field.lower) / largest if largest > 0 else 0.0
    for _ in range(steps):
        direction = [
            np.where(((d >= field.upper) & (g > 0)) | ((d <= field.lower) & (g < 0)), 0.0, g)
            for d, g in zip(slopes, gradient, strict=True)
        ]
        fastest = max(float(np.max(np.abs(part), initial=0.0)) for part in direction)
        if step == 0 or fastest <= tolerance * max(float(np.max(np.abs(g), initial=0.0)) for g in gradient):
            break
        while step * fastest > _SHORTEST_STEP:
            moved = zip(slopes, direction, strict=True)
            trial = [np.clip(d + step * part, field.lower, field.upper) for d, part in moved]
            reached, towards = field.top(trial)
            if reached >= value:
                break
            step /= 2
        else:
            break
        if all(np.array_equal(new, old) for new, old in zip(trial, slopes, strict=True)):
            break
        slopes, value, x, step = trial, reached, towards, _GROWTH * step
        gradient = field.gradient(slopes, x)
    return _result(field, slopes, value, x)


def optimistic_multilayer_lower_slope(
    field: MultilayerField,
    level: float,
    tolerance: float = 1e-9,
    search: Callable[[MultilayerField], MultilayerLowerBound] = multilayer_ascent,
) -> float | None:
    """The least m with the value of `search` on [m, upper] at most `level`: at most the true one; nothing is
    proved.

    Newton's method safeguarded by bisection, with d mu / d m = the sum of the gradients over all slopes at m.
    """

    def inner(m: float) -> Tangent:
        found = search(field.with_lower(m))
        return Tangent(found.value, found.lower_slope_derivative)

    return newton_bisection(inner, field.lower, field.upper, level, tolerance).root
