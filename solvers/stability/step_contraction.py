r"""Metrics in which x+ = x + h s(A x + B u + C) contracts at a given rate, by semidefinite programming.

With differences e, y and v of states, activations and inputs, the multiplier of each slope in [lower, upper] gives

    [ L - h^2 Q                       .                                 .                          ]
    [ -h Q - (lower + upper)/2 A^T L  (r^2 - 1) Q + lower upper A^T L A .                          ]  >= 0
    [ -(lower + upper)/2 B^T L        lower upper B^T L A               sigma I + lower upper B^T L B ]

in the order (y, e, v), linear in Q, L = diag(l) >= 0 and sigma: |e+|_Q^2 <= r^2 |e|_Q^2 + sigma |v|^2. Floating point:
the answers are candidates, which a checker has to prove.
"""

import dataclasses
from typing import Any

import numpy as np

from ..contractivity.logarithmic_norm import Array
from ..convex_problem import cp, solved


@dataclasses.dataclass(frozen=True, eq=False)
class StepMetric:
    """Q with least eigenvalue 1 and the diagonal of L; `supply`: sigma, 0 where no inputs were given."""

    metric: Array
    multipliers: Array
    supply: float


class StepContraction:
    """The inequality of one block, posed once and solved for any rate.

    **Arguments:** `weights`: A, shape (n, n); `step`, `lower`, `upper`: h and the slopes; `inputs`: B, shape (n, m), or
    None for differences of trajectories of one input.

    **Raises:** `ValueError` for shapes that do not fit, or numbers that are not finite float64.
    """

    def __init__(self, weights: Array, step: float, lower: float, upper: float, inputs: Array | None = None):
        n = len(weights)
        if weights.shape != (n, n) or (inputs is not None and (inputs.ndim != 2 or len(inputs) != n)):
            raise ValueError(f"A must be square and B have as many rows; got {weights.shape} and "
                             f"{None if inputs is None else inputs.shape}.")
        arrays = [weights] if inputs is None else [weights, inputs]
        if not all(array.dtype == np.float64 and np.all(np.isfinite(array)) for array in arrays):
            raise ValueError(f"A and B must hold finite float64 numbers; got {[str(array.dtype) for array in arrays]}.")
        self._order, self._square = n, cp.Parameter(nonneg=True)
        self._metric, self._multipliers = cp.Variable((n, n), symmetric=True), cp.Variable(n, nonneg=True)
        self._margin, self._supply = cp.Variable(), cp.Variable(nonneg=True)
        q, lam, a = self._metric, cp.diag(self._multipliers), weights
        centre, product = (lower + upper) / 2, lower * upper
        side = -step * q - centre * (a.T @ lam)
        rows = [[lam - step**2 * q, side.T], [side, (self._square - 1) * q + product * (a.T @ lam @ a)]]
        if inputs is not None:
            fed = inputs.T @ lam
            corner = self._supply * np.eye(inputs.shape[1]) + product * (fed @ inputs)
            for row, entry in zip(rows, (-centre * fed, product * (fed @ a)), strict=True):
                row.append(entry.T)
            rows.append([-centre * fed, product * (fed @ a), corner])
        block = cp.bmat(rows)
        block, size = (block + block.T) / 2, sum(row[0].shape[0] for row in rows)
        self._feasibility = cp.Problem(cp.Maximize(self._margin), [
            block >> self._margin * np.eye(size), q >> self._margin * np.eye(n), cp.trace(q) == n, self._margin <= 1,
            self._supply <= 1e6,
        ])
        self._tight: Any = cp.Problem(cp.Minimize(self._supply), [block >> 1e-9 * np.eye(size), q >> np.eye(n)])

    def metric(self, rate: float) -> StepMetric | None:
        """The metric with the largest margin at this rate, or None if there is none in floating point."""
        self._square.value = rate**2
        if not solved(self._feasibility, f"the contraction inequality of order {self._order}"):
            return None
        return self._answer() if self._margin.value > -1e-7 else None

    def least_supply(self, rate: float) -> StepMetric | None:
        """The metric Q >= I with the least sigma at this rate, or None if there is none."""
        self._square.value = rate**2
        if not solved(self._tight, f"the gain inequality of order {self._order}"):
            return None
        return self._answer()

    def _answer(self) -> StepMetric | None:
        q = (self._metric.value + self._metric.value.T) / 2
        least = float(np.linalg.eigvalsh(q)[0])
        if least <= 0:
            return None
        scale = (1 + 1e-10) / least
        supply = 0.0 if self._supply.value is None else float(self._supply.value) * scale
        return StepMetric(q * scale, np.maximum(self._multipliers.value, 0) * scale, supply)
