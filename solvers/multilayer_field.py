r"""Several layers: the worst logarithmic norm of J = D_k A_k ... D_1 A_1, from below and from above.

This is the Jacobian of u' = sigma(A_k ... sigma(A_1 u + b_1) ... + b_k) (Guglielmi et al., arXiv 2402.13092). For the
top eigenvector x of sym J let B_1 = A_1 x, B_{j+1} = A_{j+1} D_j B_j forward and y_k = x, y_{j-1} = A_j^T D_j y_j
backward; then d mu / d (D_j)_ii = (y_j)_i (B_j)_i. mu is convex in each D_j alone, so it is largest at a vertex.

From above: with y_0 = x and y_j = D_j A_j y_{j-1} the slope constraints of every neuron and multipliers lam_j >= 0 give

    x^T y_k - c |x|^2 + sum_j (y_j - lower A_j y_{j-1})^T diag(lam_j) (upper A_j y_{j-1} - y_j) <= 0,

a matrix inequality in (c, lam).
"""

import dataclasses
import itertools
import math

import numpy as np

from .convex_problem import cp, solve
from .logarithmic_norm import Array
from .slope_interval import Tangent, newton_bisection

_GAIN = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class MultilayerField:
    """The Jacobians D_k A_k ... D_1 A_1 with all slopes in [lower, upper].

    **Attributes:** `weights`: A_1, .., A_k, of shapes (n_1, n), (n_2, n_1), .., (n, n_{k-1}).

    **Raises:** `ValueError` for weights that cannot be chained or numbers that are not finite.
    """

    weights: tuple[Array, ...]
    lower: float
    upper: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(np.asarray(weight, dtype=np.float64) for weight in self.weights))
        shapes = [weight.shape for weight in self.weights]
        chained = all(len(shape) == 2 for shape in shapes) and all(
            after[1] == before[0] for before, after in itertools.pairwise(shapes)
        )
        if not shapes or not chained or shapes[0][1] != shapes[-1][0]:
            raise ValueError("The weights A_1, .., A_k must have shapes (n_1, n), (n_2, n_1), .., (n, n_{k-1}); got "
                             f"{shapes}.")
        if not all(np.all(np.isfinite(weight)) for weight in self.weights):
            raise ValueError("The weights hold numbers that are not finite.")
        if not -np.inf < self.lower <= self.upper < np.inf:
            raise ValueError(f"The slope interval must satisfy lower <= upper, both finite; got [{self.lower!r}, "
                             f"{self.upper!r}].")

    @property
    def size(self) -> int:
        """n, the dimension of the state."""
        return int(self.weights[0].shape[1])

    def with_lower(self, lower: float) -> "MultilayerField":
        return dataclasses.replace(self, lower=lower)

    def jacobian(self, slopes: list[Array]) -> Array:
        """J for slopes D_1, .., D_k, one array per layer."""
        product = np.eye(self.size)
        for weight, d in zip(self.weights, slopes, strict=True):
            product = d[:, None] * (weight @ product)
        return product

    def top(self, slopes: list[Array]) -> tuple[float, Array]:
        """mu(J) and the unit top eigenvector of sym J."""
        jacobian = self.jacobian(slopes)
        values, vectors = np.linalg.eigh((jacobian + jacobian.T) / 2)
        return float(values[-1]), vectors[:, -1]

    def gradient(self, slopes: list[Array], x: Array) -> list[Array]:
        """d mu / d D_j by layer, where x is the top eigenvector."""
        forward, z = [], x
        for weight, d in zip(self.weights, slopes, strict=True):
            forward.append(weight @ z)
            z = d * forward[-1]
        result, y = [], x
        for weight, d, b in reversed(list(zip(self.weights, slopes, forward, strict=True))):
            result.append(y * b)
            y = weight.T @ (d * y)
        return result[::-1]


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
    gradient = field.gradient(slopes, x)
    derivative = sum(float(g[d <= field.lower].sum()) for g, d in zip(gradient, slopes, strict=True))
    return MultilayerLowerBound(value, tuple(slopes), derivative)


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


def certified_multilayer_lower_slope(field: MultilayerField, level: float, tolerance: float = 1e-6) -> float | None:
    """The least m in [lower, upper] with the upper bound on [m, upper] at most `level`, by bisection; None if there is
    none.

    Boxes are nested, so the bound is nonincreasing in m; it need not be convex.
    """
    if multilayer_upper_bound(field).value <= level:
        return field.lower
    if multilayer_upper_bound(field.with_lower(field.upper)).value > level:
        return None
    low, high = field.lower, field.upper
    while high - low > tolerance:
        middle = (low + high) / 2
        if multilayer_upper_bound(field.with_lower(middle)).value <= level:
            high = middle
        else:
            low = middle
    return high


def optimistic_multilayer_lower_slope(field: MultilayerField, level: float, tolerance: float = 1e-9) -> float | None:
    """The least m with the alternating ascent's value on [m, upper] at most `level`: at most the true one; nothing is
    proved.

    Newton's method safeguarded by bisection, with d mu / d m = the sum of the gradients over all slopes at m.
    """

    def inner(m: float) -> Tangent:
        found = multilayer_ascent(field.with_lower(m))
        return Tangent(found.value, found.lower_slope_derivative)

    return newton_bisection(inner, field.lower, field.upper, level, tolerance).root
