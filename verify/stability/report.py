"""The question of stable networks: do their blocks contract, where do they settle, how much do they amplify?"""

import dataclasses
import enum
import functools
import math
import time
from collections.abc import Callable

import numpy as np
from netgain.layers import LinearLayer, Relu, StableBlock, StableNetwork, sequential
from netgain.layers.layer import Layer, Shape
from netgain.solvers.result import Limits
from threadpoolctl import threadpool_limits

from ..lipschitz import LipschitzReport, lipschitz
from .certificate import StabilityCertificate
from .claims import LOWER, Claim, Kind
from .facts import BlockFacts
from .search import BlockSearch, search_block
from .unrolled import kept_lipschitz_of, shortened

DEFAULT_TIME_LIMIT = 120.0
DEFAULT_RADIUS = 1.0
_WIDEST = 4096


class StabilityOutcome(enum.Enum):
    """What is known of a block, the strongest that was proved. The value says what it means."""

    CONTRACTING = (
        "Proved: with the same input any two trajectories approach each other at the rate; there is exactly one "
        "equilibrium for every input, reached from anywhere."
    )
    CONTRACTING_STAGES = (
        "Proved: with the same input any two trajectories approach each other at the rate, in every stage and in one "
        "norm. The stages have weights of their own, so that there is no equilibrium."
    )
    ATTRACTED = (
        "Proved: with the same input no two trajectories move apart, in the norm named, and all converge to the one "
        "equilibrium of that input. No rate holds everywhere, as slopes come close to zero far out."
    )
    CONVERGING = (
        "Proved: with the same input no two trajectories move apart, in the norm named, and each has a limit. That the "
        "limit is the same for every start is not shown."
    )
    CONVERGING_BY_START = (
        "Proved: with the same input no two trajectories move apart, in the norm named, and each has a limit. Not "
        "asymptotically stable: an inactive unit keeps its state, so that limits depend on the start."
    )
    NONEXPANSIVE = (
        "Proved: with the same input no two trajectories move apart, in the norm named. That they approach each other, "
        "or have limits, is not shown."
    )
    UNSTABLE = (
        "Disproved: with the slopes given, which are within the interval, a difference of two states grows in every "
        "step by the factor given, as long as the slopes last. No norm is kept."
    )
    SWITCHED = (
        "Disproved: with the slopes given in turn, which are within the interval, a difference of two states grows. So "
        "no norm is kept, and inputs that vary may drive two trajectories apart; of a constant input nothing is said."
    )
    UNDECIDED = "Undecided: neither a norm that is kept was found, nor slopes for which differences grow."
    OWN_WEIGHTS = "The stages have weights of their own, and no norm that all keep was found. Gains hold at depth K."


KEPT = (
    StabilityOutcome.CONTRACTING, StabilityOutcome.CONTRACTING_STAGES, StabilityOutcome.ATTRACTED,
    StabilityOutcome.CONVERGING, StabilityOutcome.CONVERGING_BY_START, StabilityOutcome.NONEXPANSIVE,
)
"""Outcomes that show some norm to be kept."""


@dataclasses.dataclass(frozen=True, eq=False)
class BlockReport:
    """One block: what was proved, and the bounds of its unrolled graph."""

    search: BlockSearch

    @property
    def facts(self) -> BlockFacts:
        return self.search.facts

    def best(self, *kinds: Kind, every_depth: bool = False) -> Claim | None:
        """The claim of these kinds with the least value, or the greatest of lower bounds."""
        found = [claim for claim in self.search.claims if claim.kind in kinds]
        if every_depth:
            found = [claim for claim in found if claim.depth is None]
        sign = -1 if kinds[0] in LOWER else 1
        return min(found, key=lambda claim: sign * claim.value, default=None)

    @property
    def rate(self) -> Claim | None:
        """The least rate for all slopes of the activation."""
        return self.best(Kind.SYMMETRIC_RATE, Kind.INFINITY_RATE, Kind.METRIC_RATE, Kind.COMMON_RATE)

    @property
    def gain(self) -> Claim | None:
        """The least l2 gain at the block's depth, for a constant input."""
        return self.best(Kind.UNROLLED_GAIN, Kind.METRIC_GAIN, Kind.COMMON_GAIN, Kind.CONSTANT_GAIN)

    @property
    def gain_infinity(self) -> Claim | None:
        """The least l_inf gain at the block's depth, for a constant input."""
        return self.best(Kind.DEPTH_GAIN_INFINITY, Kind.UNIFORM_GAIN_INFINITY, Kind.CONSTANT_GAIN_INFINITY)

    @property
    def outcome(self) -> StabilityOutcome:
        rate, growth = self.rate, self.best(Kind.GROWTH)
        if rate is not None and rate.value < 1:
            shared = self.facts.block.shared
            return StabilityOutcome.CONTRACTING if shared else StabilityOutcome.CONTRACTING_STAGES
        if rate is not None and rate.value <= 1:
            if self.best(Kind.CONVERGENCE) is None:
                return StabilityOutcome.NONEXPANSIVE
            if isinstance(self.facts.block.activation, Relu):
                return StabilityOutcome.CONVERGING_BY_START
            one = self.best(Kind.EQUILIBRIUM) is not None
            return StabilityOutcome.ATTRACTED if one else StabilityOutcome.CONVERGING
        if growth is not None and growth.value > 1:
            frozen = len(growth.data["patterns"]) == 1
            return StabilityOutcome.UNSTABLE if frozen else StabilityOutcome.SWITCHED
        return StabilityOutcome.UNDECIDED if self.facts.block.shared else StabilityOutcome.OWN_WEIGHTS


@dataclasses.dataclass(frozen=True, eq=False)
class StabilityReport:
    """All blocks of a network, and gains of the whole.

    **Attributes:** `whole`: the Lipschitz bounds of the unrolled network, those of the block if there is only that;
    `product`, `product_infinity`: the gains of the parts multiplied, l2 and l_inf, in floating point where layers
    between blocks take part; infinite where one is not known.
    """

    name: str
    network: StableNetwork
    blocks: tuple[BlockReport, ...]
    whole: LipschitzReport
    product: float
    product_infinity: float
    certificate: StabilityCertificate
    seconds: dict[str, float]

    @property
    def stable(self) -> bool:
        """Whether every block was shown to keep a norm."""
        return all(block.outcome in KEPT for block in self.blocks)


def stability(
    network: StableNetwork,
    *,
    limits: Limits | None = None,
    radius: float = DEFAULT_RADIUS,
    seed: int = 0,
    on_stage: Callable[[str], None] | None = None,
) -> StabilityReport:
    """Proves what it can of every block: conditions, rates, equilibria, gains, or slopes of growth.

    **Arguments:** `limits`: of the inequalities of unrolled blocks, together (default 120 s); `radius`: rates of tanh
    on bounded sets are for inputs |u|_2 <= radius of the block.

    **Raises:** `ValueError` for a network without blocks; as `lipschitz`.
    """
    if not network.blocks:
        raise ValueError(f"{network.name} has no block x+ = x + h s(A x + B u + C).")
    limits = limits or Limits(time_limit=DEFAULT_TIME_LIMIT)
    begin, seconds = time.perf_counter(), dict[str, float]()
    alone = len(network.parts) == 1
    share = dataclasses.replace(limits, time_limit=limits.time_limit / (len(network.blocks) + (not alone)))
    announce = on_stage or (lambda text: None)
    with threadpool_limits(limits=1, user_api="blas"):
        blocks, interrupted = [], False
        for number, (block, shape) in enumerate(network.blocks, 1):
            label = "" if len(network.blocks) == 1 else f"block {number}: "
            announced = functools.partial(_announce, announce, label)
            found = search_block(BlockFacts(block, shape), share, radius, seed, announced, interrupted)
            blocks.append(BlockReport(found))
            interrupted = found.interrupted
            seconds[f"block {number}"] = time.perf_counter() - begin - sum(seconds.values())
        whole = blocks[0].search.unrolled
        if not alone:
            announce("gain of the whole network")
            whole, pressed = kept_lipschitz_of(network, shortened(share) if interrupted else share, seed)
            if interrupted or pressed:
                said = "Interrupted: the gain of the whole is what was found by then, or in a second."
                whole = dataclasses.replace(whole, notes=(*whole.notes, said))
            seconds["network"] = time.perf_counter() - begin - sum(seconds.values())
    certificate = StabilityCertificate(
        network.graph().digest, tuple(block.search.claims for block in blocks),
        None if alone else whole.certificate, sum(seconds.values()),
    )
    product, product_infinity = _products(network, blocks)
    return StabilityReport(network.name, network, tuple(blocks), whole, product, product_infinity, certificate, seconds)


def _announce(announce: Callable[[str], None], label: str, text: str) -> None:
    announce(label + text)


def _products(network: StableNetwork, blocks: list[BlockReport]) -> tuple[float, float]:
    """Gains of all parts multiplied, l2 and l_inf."""
    remaining, l2, infinity = iter(blocks), 1.0, 1.0
    for part, shape in zip(network.parts, network.shapes, strict=False):
        if isinstance(part, StableBlock):
            block = next(remaining)
            gains = [claim.value if claim else math.inf for claim in (block.gain, block.gain_infinity)]
        else:
            gains = [lipschitz(sequential(shape, [part]), lower_bounds=False).upper, _infinity_norm(part, shape)]
        l2, infinity = l2 * gains[0], infinity * gains[1]
    return l2, infinity


def _infinity_norm(layer: Layer, shape: Shape) -> float:
    """The l_inf gain of a linear layer, infinite where it is not linear or too wide to be written out."""
    size = math.prod(shape)
    if not isinstance(layer, LinearLayer) or size > _WIDEST:
        return math.inf
    matrix = layer.apply(np.eye(size).reshape(-1, *shape), 0, (shape,)).reshape(size, -1)
    return float(np.max(np.abs(matrix).sum(axis=0)))
