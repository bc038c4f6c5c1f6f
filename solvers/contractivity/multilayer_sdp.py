r"""Upper bounds of the worst logarithmic norm of several layers, by semidefinite programming.

With y_0 = x and y_j = D_j A_j y_{j-1} the slope constraints of every neuron and multipliers lam_j >= 0 give

    x^T y_k - c |x|^2 + sum_j (y_j - lower A_j y_{j-1})^T diag(lam_j) (upper A_j y_{j-1} - y_j) <= 0,

a matrix inequality in (c, lam) under which mu(D_k A_k ... D_1 A_1) <= c for all slopes.
"""

import dataclasses
import math
import time

import numpy as np

from ..convex_problem import cp, solve
from .logarithmic_norm import Array
from .multilayer_field import MultilayerField


@dataclasses.dataclass(frozen=True, eq=False)
class MultilayerUpperBound:
    """mu(J) <= `value` for all slopes by the multipliers, one array per layer; in floating point."""

    value: float
    multipliers: tuple[Array, ...]


def multilayer_matrix(field: MultilayerField, multipliers: tuple[Array, ...]) -> Array:
    """The symmetric matrix of the quadratic form without the term in c, in the coordinates (x, y_1, .., y_k)."""
    starts = np.cumsum([0, field.size, *(len(weight) for weight in field.weights)])
    total = np.zeros((starts[-1], starts[-1]))
    x, last = slice(0, field.size), slice(starts[-2], starts[-1])
    total[x, last] += np.eye(field.size)
    for j, (weight, lam) in enumerate(zip(field.weights, multipliers, strict=True)):
        before, here = slice(starts[j], starts[j + 1]), slice(starts[j + 1], starts[j + 2])
        weighted = lam[:, None] * weight
        total[here, before] += (field.lower + field.upper) * weighted
        total[here, here] -= np.diag(lam)
        total[before, before] -= field.lower * field.upper * (weight.T @ weighted)
    return (total + total.T) / 2


def multilayer_upper_bound(field: MultilayerField) -> MultilayerUpperBound:
    """The least c over all multipliers, by Clarabel through cvxpy; evaluated anew at the multipliers returned.

    **Raises:** `RuntimeError` if the solver returns no multipliers that give a bound.
    """
    lams = [cp.Variable(len(weight), nonneg=True) for weight in field.weights]
    c = cp.Variable()
    sizes = [field.size, *(len(weight) for weight in field.weights)]
    starts, order = np.cumsum([0, *sizes]), sum(sizes)
    place = [np.eye(order)[:, starts[j] : starts[j + 1]] for j in range(len(sizes))]
    form = place[0] @ place[-1].T - c * (place[0] @ place[0].T)
    for j, (weight, lam) in enumerate(zip(field.weights, lams, strict=True)):
        v, y = weight @ place[j].T, place[j + 1].T
        form = form + (y - field.lower * v).T @ cp.diag(lam) @ (field.upper * v - y)
    problem = cp.Problem(cp.Minimize(c), [(form + form.T) / 2 << 0])
    solve(problem, f"the multilayer inequality of order {order}")
    # The optimum may lie at a singular block of the y_j; a little more of every multiplier keeps the evaluation finite.
    best = MultilayerUpperBound(math.inf, ())
    for share in (0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5):
        multipliers = tuple(np.maximum(lam.value, 0) + share * (1 + np.max(lam.value)) for lam in lams)
        value = evaluate_multilayer(field, multipliers)
        if value < best.value:
            best = MultilayerUpperBound(value, multipliers)
    if best.value == math.inf:
        raise RuntimeError(f"Clarabel's multipliers give no bound (status {problem.status!r}, objective {c.value!r}).")
    return best


def evaluate_multilayer(field: MultilayerField, multipliers: tuple[Array, ...]) -> float:
    """The least c these multipliers give, by the Schur complement of the blocks y_j; inf where there is none."""
    matrix, n = multilayer_matrix(field, multipliers), field.size
    inner = -matrix[n:, n:]
    values = np.linalg.eigvalsh(inner)
    if values[0] <= 1e-13 * max(1.0, values[-1]):
        return math.inf
    side = matrix[n:, :n]
    return float(np.linalg.eigvalsh(matrix[:n, :n] + side.T @ np.linalg.solve(inner, side))[-1])


def certified_multilayer_lower_slope(
    field: MultilayerField, level: float, tolerance: float = 1e-6, time_limit: float = math.inf
) -> float | None:
    """The least m in [lower, upper] with the upper bound on [m, upper] at most `level`, by bisection; None if there is
    none.

    Boxes are nested, so the bound is nonincreasing in m; it need not be convex. When the time is up, after a solve, the
    m reached is returned, which keeps the level all the same.
    """
    begin = time.perf_counter()
    if multilayer_upper_bound(field).value <= level:
        return field.lower
    if multilayer_upper_bound(field.with_lower(field.upper)).value > level:
        return None
    low, high = field.lower, field.upper
    while high - low > tolerance and time.perf_counter() - begin < time_limit:
        middle = (low + high) / 2
        if multilayer_upper_bound(field.with_lower(middle)).value <= level:
            high = middle
        else:
            low = middle
    return high
