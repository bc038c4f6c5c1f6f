r"""The nearest contractive weights: least ||Delta||_F with max_D mu(B + D (A + Delta)) <= c over a box of slopes.

A convex problem: a supremum of convex functions of Delta is bounded. Two ways:

- `contractive_weights`: one semidefinite problem, jointly linear in Delta and Gamma = diag(lam)^{-1}. With A' = A +
Delta,

      [ cI - sym(B) - r0 sym(A') - (r^2 / 4) Gamma    A'^T  ]
      [ A'                                            Gamma ]  >= 0

  is the Schur complement of the bound of `slope_relaxation`: whatever it returns is contractive, up to rounding,
  and its Gamma gives the multipliers. Its distance is at or a few per cent above the least.

- `nearest_contractive_weights`: cutting planes. mu(B + D_j (A + Delta)) <= c for a list of patterns D_j gives a
distance
  from below; the worst pattern of the answer, by branch and bound, is appended until none is worse than c.

For a single pattern D = I and B = 0 the answer is A - (sym A - c I)_+, which leaves other patterns above c.
"""

import dataclasses
import math
import time

import numpy as np

from ..convex_problem import cp, solve
from .logarithmic_norm import Array, SlopeField
from .sdp import evaluate
from .slope_branch_and_bound import SlopeBranchAndBound, WorstLogNorm

_MARGINS = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)


@dataclasses.dataclass(frozen=True, eq=False)
class ContractiveWeights:
    """Weights A + Delta with a semidefinite bound of at most c in floating point; `distance`: ||Delta||_F."""

    field: SlopeField
    distance: float
    multipliers: Array


def _require_plain(field: SlopeField) -> None:
    if field.outputs is not None:
        raise ValueError("The weights are changed in u' = B u + sigma(A u + b); with an output matrix E, two matrices "
                         "would change. Pass a field without `outputs`.")


def contractive_weights(field: SlopeField, level: float = 0.0) -> ContractiveWeights:
    """Contractive weights near A, by one semidefinite problem.

    **Raises:** `ValueError` with an output matrix, or where slopes of zero exceed the level already; `RuntimeError` if
    Clarabel fails.
    """
    _require_plain(field)
    n = field.size
    linear = np.zeros((n, n)) if field.linear is None else (field.linear + field.linear.T) / 2
    alone = float(np.linalg.eigvalsh(linear)[-1])
    if alone > level and field.lower <= 0 <= field.upper:
        raise ValueError(f"No weights are contractive at the level {level!r}: with all slopes zero, which the interval "
                         f"[{field.lower!r}, {field.upper!r}] allows, the logarithmic norm is {alone!r}.")
    change, gamma, margin = cp.Variable((n, n)), cp.Variable(n, nonneg=True), cp.Parameter(nonneg=True)
    scaled, exponent = field.normalised()
    weights, aim = scaled.inputs + change, float(np.ldexp(level, -exponent))
    corner = (aim - margin) * np.eye(n) - np.ldexp(linear, -exponent) - field.centre * (weights + weights.T) / 2
    corner = corner - field.radius**2 / 4 * cp.diag(gamma)
    block = cp.bmat([[corner, weights.T], [weights, cp.diag(gamma)]])
    problem = cp.Problem(cp.Minimize(cp.norm(change, "fro")), [(block + block.T) / 2 >> 0])
    # Clarabel's answer misses the inequality by its tolerance: the level is lowered until the answer satisfies it.
    for relative in _MARGINS:
        margin.value = relative * (abs(aim) + float(np.linalg.norm(scaled.inputs, 2)))
        solve(problem, f"contractive weights of order {n}")
        moved = np.ldexp(change.value, exponent)
        projected = dataclasses.replace(field, inputs=field.inputs + moved)
        multipliers = 1 / np.maximum(gamma.value, 1e-12 * max(1.0, float(np.max(gamma.value))))
        multipliers = np.ldexp(multipliers, -exponent)
        if evaluate(projected, multipliers) <= level:
            return ContractiveWeights(projected, float(np.linalg.norm(moved)), multipliers)
    raise RuntimeError(f"Clarabel's weights of order {n} stay above the level {level!r} by their own multipliers.")


@dataclasses.dataclass(frozen=True, eq=False)
class NearestWeights:
    """Weights at the least distance: `distance` is below the least one by the solver's error at most.

    **Attributes:** `patterns`: the slopes that had to be ruled out, shape (cuts, k); `worst`: the last search, which
    found the worst logarithmic norm at most level + tolerance.
    """

    field: SlopeField
    distance: float
    patterns: Array
    worst: WorstLogNorm


def nearest_contractive_weights(field: SlopeField, level: float = 0.0, tolerance: float = 1e-6,
                                search: SlopeBranchAndBound | None = None, most_cuts: int = 200,
                                time_limit: float = math.inf) -> NearestWeights:
    """The nearest weights with the worst logarithmic norm at most level + tolerance, by cutting planes.

    **Arguments:** `time_limit`: seconds, looked at before each cut.

    **Raises:** `ValueError` with an output matrix; `RuntimeError` if the solver fails, a search stops early, or neither
    the cuts nor the time suffice.
    """
    _require_plain(field)
    search, begin = search or SlopeBranchAndBound(), time.perf_counter()
    n = field.size
    scaled, exponent = field.normalised()
    linear = np.zeros((n, n)) if scaled.linear is None else scaled.linear
    aim = float(np.ldexp(level, -exponent))
    patterns, change = [np.full(n, field.upper)], cp.Variable((n, n))
    for _ in range(most_cuts):
        constraints = []
        for d in patterns:
            jacobian = linear + cp.diag(d) @ (scaled.inputs + change)
            constraints.append((jacobian + jacobian.T) / 2 << aim * np.eye(n))
        problem = cp.Problem(cp.Minimize(cp.norm(change, "fro")), constraints)
        solve(problem, f"the nearest weights of order {n} after {len(patterns)} cuts")
        moved = np.ldexp(change.value, exponent)
        candidate = dataclasses.replace(field, inputs=field.inputs + moved)
        worst = search.solve(candidate, level + tolerance)
        if worst.upper <= level + tolerance:
            return NearestWeights(candidate, float(np.linalg.norm(moved)), np.array(patterns), worst)
        if worst.lower <= level + tolerance:
            raise RuntimeError(f"A search stopped undecided with the status {worst.status.name}; raise its time limit.")
        patterns.append(worst.slopes)
        if time.perf_counter() - begin > time_limit:
            raise RuntimeError(f"After {time_limit:.3g} s and {len(patterns)} cuts the worst logarithmic norm is still "
                               f"{worst.lower:.7g}, and the distance at least {np.linalg.norm(moved):.7g}.")
    raise RuntimeError(f"After {most_cuts} cuts the worst logarithmic norm is still {worst.lower!r}; "
                       "raise `most_cuts`.")
