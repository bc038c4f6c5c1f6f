r"""The checker of contraction of x+ = x + h s(A x + B u + C): do a metric and multipliers prove the rate? No solver.

Differences e of two trajectories and v of their inputs follow e+ = e + h y, y_i = d_i (A e + B v)_i with slopes d_i in
[lower, upper], another D in each step. So (y - lower w)^T L (upper w - y) >= 0 for w = A e + B v and any diagonal
L >= 0, and

    r^2 e^T Q e + sigma |v|^2 - (e + h y)^T Q (e + h y) - (y - lower w)^T L (upper w - y) >= 0  for all (e, y, v)

proves |e+|_Q^2 <= r^2 |e|_Q^2 + sigma |v|^2. With I <= Q <= kappa I this gives, for e_0 = 0,

    |e_k|^2 <= sigma (1 + r^2 + .. + r^{2(k-1)}) max_j |v_j|^2,    and for v = 0    |e_k| <= sqrt(kappa) r^k |e_0|.

With r < 1 the step is a contraction of a complete metric space: for each u exactly one equilibrium, reached from
anywhere (Banach), at |x_k - x| <= sqrt(kappa) r / (1 - r) |x_k - x_{k-1}|. With lower = 0 the choice D = 0 gives
e+ = e, so that no r < 1 can be proved, for ReLU and for tanh on unbounded states alike; and r = 1, if A has no zero
rows, only for A = -diag(c) Q with c > 0, such as symmetric A < 0: row i of the inequality at small d_i says so.

Source of the multiplier: Gokhale, Proskurnikov, Kawano, Bullo, arXiv 2604.15238.
"""

import dataclasses
import math
from typing import Generic

import numpy as np
from flint import arb

from ..balls import precision, upper
from ..contractivity.check import Decision
from ..enclosed_matrix import BALLS, DOUBLE, M, Matrices
from .conditions import SlopeBox

_PRECISIONS = (128, 256)


@dataclasses.dataclass(frozen=True, eq=False)
class StepClaim:
    """|e+|_Q^2 <= rate^2 |e|_Q^2 + supply |v|^2 for some Q with I <= Q <= condition I.

    **Attributes:** `weights`: A, shape (n, n); `inputs`: B, shape (n, m), or None for trajectories of one input, where
    `supply` is 0; `box`: step and slopes; all float64 and exact.
    """

    weights: np.ndarray
    box: SlopeBox
    rate: float
    condition: float
    inputs: np.ndarray | None = None
    supply: float = 0.0

    @property
    def contracting(self) -> bool:
        return self.rate < 1

    def distance_bound(self, update: float) -> float:
        """A bound of |x_k - equilibrium| by |x_k - x_{k-1}| = `update`, rounded up; infinite unless contracting."""
        if not self.contracting:
            return math.inf
        with precision(_PRECISIONS[0]):
            return upper(arb(self.condition).sqrt() * arb(self.rate) / (1 - arb(self.rate)) * arb(update))

    def gain(self, depth: int | None = None) -> float:
        """g with |e_k| <= g max_j |v_j| from e_0 = 0, at k = depth or for all k, rounded up.

        **Raises:** `ValueError` if the claim has no inputs.
        """
        if self.inputs is None:
            raise ValueError("This claim is about trajectories of one input; state it with `inputs` for a gain.")
        return supplied_gain(self.rate, self.supply, depth)

    @property
    def well_formed(self) -> bool:
        if self.weights.ndim != 2 or self.weights.shape[0] != self.weights.shape[1] or not len(self.weights):
            return False
        if self.inputs is not None and (self.inputs.ndim != 2 or len(self.inputs) != len(self.weights)):
            return False
        arrays = [self.weights] if self.inputs is None else [self.weights, self.inputs]
        numbers = (self.rate, self.condition, self.supply, self.box.step, self.box.lower, self.box.upper)
        return (
            all(array.dtype == np.float64 and bool(np.all(np.isfinite(array))) for array in arrays)
            and all(isinstance(value, float) and math.isfinite(value) for value in numbers)
            and self.rate >= 0
            and self.supply >= 0
        )


def supplied_gain(rate: float, supply: float, depth: int | None) -> float:
    """sqrt(sigma (1 + r^2 + .. + r^(2 (depth - 1)))), or its limit, rounded up; infinite where there is none."""
    if depth is None and not rate < 1:
        return math.inf
    with precision(_PRECISIONS[0]):
        square = arb(rate) ** 2
        if rate == 1:
            return upper((arb(supply) * int(depth or 0)).sqrt())
        steps = arb(1) if depth is None else 1 - square**depth
        return upper((arb(supply) * steps / (1 - square)).sqrt())


@dataclasses.dataclass(frozen=True, eq=False)
class StepProof:
    """`metric`: Q, shape (n, n), symmetric; `multipliers`: the diagonal of L, shape (n,), not negative."""

    metric: np.ndarray
    multipliers: np.ndarray


def check_step(claim: StepClaim, proof: StepProof, balls: bool = True) -> Decision:
    """Proves the claim by metric and multipliers, or says why they do not.

    **Arguments:** `balls`: whether to go on in ball arithmetic where double precision does not decide.
    """
    n = len(claim.weights)
    q, multipliers = proof.metric, proof.multipliers
    fits = (
        claim.well_formed
        and q.shape == (n, n)
        and multipliers.shape == (n,)
        and q.dtype == multipliers.dtype == np.float64
        and bool(np.all(np.isfinite(q)) and np.array_equal(q, q.T))
        and bool(np.all(np.isfinite(multipliers)) and np.all(multipliers >= 0))
    )
    if not fits:
        return Decision.MALFORMED

    def holds(arithmetic: Matrices[M]) -> bool:
        metric, one = arithmetic.exact(q), arithmetic.exact(np.eye(n))
        if not arithmetic.semidefinite({(0, 0): metric - one}, 1):
            return False
        if not arithmetic.semidefinite({(0, 0): arithmetic.scaled(one, claim.condition) - metric}, 1):
            return False
        return arithmetic.semidefinite(_blocks(claim, proof, arithmetic), 2 if claim.inputs is None else 3)

    if holds(DOUBLE):
        return Decision.PROVED
    for bits in _PRECISIONS if balls else ():
        with precision(bits):
            if holds(BALLS):
                return Decision.PROVED
    return Decision.NOT_PROVED


def _blocks(claim: StepClaim, proof: StepProof, arithmetic: Matrices[M]) -> dict[tuple[int, int], M]:
    fed = None if claim.inputs is None else Fed(arithmetic.exact(claim.inputs), claim.inputs.shape[1], claim.supply)
    return step_blocks(arithmetic, claim.box, claim.rate, proof.metric, proof.multipliers,
                       arithmetic.exact(claim.weights), fed)


@dataclasses.dataclass(frozen=True, eq=False)
class Fed(Generic[M]):
    """B, its columns, and sigma."""

    inputs: M
    columns: int
    supply: float


def step_blocks(
    arithmetic: Matrices[M], box: SlopeBox, rate: float, metric: np.ndarray, multipliers: np.ndarray, a: M,
    fed: Fed[M] | None = None,
) -> dict[tuple[int, int], M]:
    """The lower blocks in the order y, e, v: elimination starts with the block that is definite whatever the rate.

    A and B are enclosed already, metric and multipliers exact.
    """
    q, lam = arithmetic.exact(metric), arithmetic.diagonal(multipliers)

    def twice(matrix: M, first: float, second: float) -> M:
        return arithmetic.scaled(arithmetic.scaled(matrix, first), second)

    def centred(matrix: M) -> M:  # (lower + upper) / 2, whose sum might round
        total: M = twice(matrix, box.lower, 0.5) + twice(matrix, box.upper, 0.5)
        return total

    weighted = a.transpose() * lam
    blocks = {
        (0, 0): lam - twice(q, box.step, box.step),
        (1, 0): arithmetic.scaled(q, -box.step) - centred(weighted),
        (1, 1): twice(q, rate, rate) - q + twice(weighted * a, box.lower, box.upper),
    }
    if fed is not None:
        b = fed.inputs
        weighted = b.transpose() * lam
        blocks[2, 0] = arithmetic.scaled(centred(weighted), -1.0)
        blocks[2, 1] = twice(weighted * a, box.lower, box.upper)
        supply = arithmetic.diagonal(np.full(fed.columns, fed.supply))
        blocks[2, 2] = supply + twice(weighted * b, box.lower, box.upper)
    return blocks
