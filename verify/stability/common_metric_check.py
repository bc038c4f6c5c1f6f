r"""The checker of a metric that all stages and pixels of a block share: does it prove the rate? No solver.

With Q on units, or the same Q on the channels of every pixel, and multipliers L_k of the stage k, the inequality of
`step_contraction_check` at every stage and every frequency of a torus (see `block_symbols`, also for borders of zeros)
proves |e+|_Q^2 <= r^2 |e|_Q^2 + sigma |v|^2 for every step of the block. With I <= Q <= kappa I

    |e_k|_2 <= sqrt(kappa) r^k |e_0|_2 for one input,
    |e_k|_2^2 <= sigma (1 + r^2 + .. + r^{2(k-1)}) max_j |v_j|_2^2 for e_0 = 0,

also where the stages have weights of their own: no stage undoes what another has done, as all are measured by one Q.
"""

import dataclasses
import math

import numpy as np

from ..balls import precision
from ..enclosed_matrix import BALLS, DOUBLE, M, Matrices
from .block_symbols import BlockSymbols
from .conditions import SlopeBox
from .facts import BlockFacts
from .step_contraction_check import Fed, step_blocks

_PRECISIONS = (128, 256)


@dataclasses.dataclass(frozen=True, eq=False)
class CommonStep:
    """|e+|_Q^2 <= rate^2 |e|_Q^2 + supply |v|^2 at every stage, with I <= Q <= condition I, and what proves it.

    **Attributes:** `supply`: sigma, or None for trajectories of one input; `metric`: Q, shape (n, n) for n units or
    channels; `multipliers`: the diagonals of L_k, shape (stages, n).
    """

    box: SlopeBox
    rate: float
    condition: float
    metric: np.ndarray
    multipliers: np.ndarray
    supply: float | None = None

    def fits(self, facts: BlockFacts) -> bool:
        n, stages = len(facts.block.states[0]), len(facts.block.states)
        numbers = (self.rate, self.condition, 0.0 if self.supply is None else self.supply)
        arrays = (self.metric, self.multipliers)
        return (
            all(math.isfinite(number) and number >= 0 for number in numbers)
            and self.metric.shape == (n, n) and self.multipliers.shape == (stages, n)
            and all(array.dtype == np.float64 and bool(np.all(np.isfinite(array))) for array in arrays)
            and bool(np.array_equal(self.metric, self.metric.T) and np.all(self.multipliers >= 0))
        )


def check_common_step(facts: BlockFacts, step: CommonStep) -> bool:
    """Proves the claim for every stage and frequency, in double precision or else in balls."""
    if not step.fits(facts):
        return False
    symbols, n = BlockSymbols(facts), len(step.metric)
    one, repeated = np.eye(n), np.eye(symbols.copies)

    def norms_hold(arithmetic: Matrices[M]) -> bool:
        metric, identity = arithmetic.exact(step.metric), arithmetic.exact(one)
        above = arithmetic.scaled(identity, step.condition) - metric
        return arithmetic.semidefinite({(0, 0): metric - identity}, 1) and arithmetic.semidefinite({(0, 0): above}, 1)

    def holds(arithmetic: Matrices[M], k: int, a: M, b: M) -> bool:
        columns = facts.block.inputs[k].shape[1] * symbols.copies
        fed = None if step.supply is None else Fed(b, columns, step.supply)
        blocks = step_blocks(arithmetic, step.box, step.rate, np.kron(repeated, step.metric),
                             np.tile(step.multipliers[k], symbols.copies), a, fed)
        return arithmetic.semidefinite(blocks, 2 if fed is None else 3)

    def in_balls(k: int, a: np.ndarray, b: np.ndarray, place: np.ndarray | None) -> bool:
        for bits in _PRECISIONS:
            with precision(bits):
                if holds(BALLS, k, symbols.in_balls(a, place), symbols.in_balls(b, place)):
                    return True
        return False

    if not norms_hold(DOUBLE):
        with precision(_PRECISIONS[-1]):
            if not norms_hold(BALLS):
                return False
    return all(
        holds(DOUBLE, k, first, second) or in_balls(k, a, b, place)
        for k, a, b in symbols.stages() for place, first, second in symbols.in_double(a, b)
    )
