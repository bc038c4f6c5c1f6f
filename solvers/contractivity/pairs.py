r"""A tighter bound on the worst logarithmic norm: multipliers for pairs of slopes.

Let T_i = (e_i a_i^T + a_i e_i^T) / 2 and split the radius r = sum_j s_ij over all partners j of i. For a pair i < j and
V = [e_i, e_j, a_i, a_j], a 4 x 4 matrix Y_ij that dominates the four combinations +-s_ij T_i +- s_ji T_j in these
coordinates bounds the pair's share for all slopes at once, as the share is affine in each slope. Then

    sym J(D) <= nominal + sum_{i<j} V Y_ij V^T.

With Y diagonal for each i alone it is the bound by one multiplier per neuron, which it never exceeds; measured, it is
exact or within 1 % except on convolutions. It has k (k - 1) / 2 matrix variables: for up to about ten neurons.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np

from ..convex_problem import cp, solve
from .logarithmic_norm import SlopeField


@dataclasses.dataclass(frozen=True, eq=False)
class PairsUpperBound:
    """mu(J(D)) <= `value` for every D in the box, in floating point.

    `value` is evaluated from the solver's shares Y after a shift by what they lack to dominate; it is not proved.
    """

    value: float
    shares: dict[tuple[int, int], np.ndarray]


def pairs_upper_bound(field: SlopeField) -> PairsUpperBound:
    """The least bound over all splits and shares, by Clarabel through cvxpy, of the field at a size near one.

    **Raises:** `ValueError` for fewer than two neurons; `RuntimeError` if the solver returns nothing.
    """
    field, exponent = field.normalised()
    k, n, r = field.neurons, field.size, field.radius
    if k < 2:
        raise ValueError(f"Pairs need at least two neurons, got {k}; `upper_bound` is exact for one.")
    pairs = list(itertools.combinations(range(k), 2))
    c, total = cp.Variable(), 0
    shares, splits, constraints = {}, {}, []
    sums: list[list[Any]] = [[] for _ in range(k)]
    for pair in pairs:
        y, split = cp.Variable((4, 4), symmetric=True), cp.Variable(2)
        shares[pair], splits[pair] = y, split
        v = _columns(field, pair)
        total = total + v @ y @ v.T
        constraints += [y - _combination(split, signs) >> 0 for signs in itertools.product((1, -1), repeat=2)]
        for index, part in zip(pair, split, strict=True):
            sums[index].append(part)
    constraints += [sum(parts) == r for parts in sums]
    constraints.append(c * np.eye(n) - field.nominal - total >> 0)
    problem = cp.Problem(cp.Minimize(c), constraints)
    solve(problem, f"the pairs of {k} neurons")
    values = ({pair: variables[pair].value for pair in pairs} for variables in (shares, splits))
    found = _evaluated(field, *values)
    # a_i grows by 2^exponent, and so does the sum of all V Y V^T.
    powers = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, -1, -1], [0, 0, -1, -1]]) * exponent
    return PairsUpperBound(float(np.ldexp(found.value, exponent)),
                           {pair: np.ldexp(share, powers) for pair, share in found.shares.items()})


def _columns(field: SlopeField, pair: tuple[int, int]) -> np.ndarray:
    return np.hstack([field.dense_outputs[:, list(pair)], field.inputs[list(pair)].T])


def _combination(split: Any, signs: tuple[int, ...]) -> Any:
    """sum of signs_i split_i T_i in the coordinates [e_1, e_2, a_1, a_2], of numbers or of cvxpy's variables alike."""
    total: Any = 0
    for i, sign in enumerate(signs):
        unit = np.zeros((4, 4))
        unit[i, 2 + i] = unit[2 + i, i] = 0.5
        total = total + sign * split[i] * unit
    return total


def _evaluated(field: SlopeField, shares: dict[tuple[int, int], np.ndarray],
               splits: dict[tuple[int, int], np.ndarray]) -> PairsUpperBound:
    """The bound of these shares, after mending: splits scaled to the sum r, shares shifted until they dominate."""
    sums = np.zeros(field.neurons)
    for pair, split in splits.items():
        sums[list(pair)] += split
    total, mended = field.nominal.copy(), {}
    for pair, share in shares.items():
        # What a split lacks is made up for in equal parts.
        split = splits[pair] + (field.radius - sums[list(pair)]) / (field.neurons - 1)
        lack = max(float(np.linalg.eigvalsh(_combination(split, signs) - share)[-1])
                   for signs in itertools.product((1, -1), repeat=2))
        mended[pair] = share + max(lack, 0.0) * np.eye(4)
        v = _columns(field, pair)
        total += v @ mended[pair] @ v.T
    return PairsUpperBound(float(np.linalg.eigvalsh((total + total.T) / 2)[-1]), mended)
