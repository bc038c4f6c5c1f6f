"""Claims about one block x+ = x + h s(A x + B u + C), each with what proves it, and the checker. It knows no solver."""

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping

import numpy as np
from netgain.layers import Tanh
from netgain.layers.stable_block import Border

from ..certificate import Certificate
from ..check import check as check_lipschitz
from ..contractivity.check import Decision
from .block_symbols import BlockSymbols
from .common_metric_check import CommonStep, check_common_step
from .conditions import convolutional_conditions, fully_connected_conditions
from .depth_gain import constant_input_gain, constant_input_gain_infinity
from .equilibrium import (
    equilibrium_gain_holds,
    equilibrium_gain_infinity,
    least_slope_infinity,
    least_slope_symmetric,
    vanishes_at_zero_alone,
)
from .facts import MOST, BlockFacts
from .rows import depth_gain_infinity, infinity_rate_of, uniform_gain_holds
from .spectral_witness import proved_growth, proved_wave_growth
from .step_contraction_check import StepClaim, StepProof, check_step, supplied_gain
from .trajectories import Trajectories, proved_expansion


class Kind(enum.Enum):
    """What is claimed of the claim's `value` g; the enum's value is its name in certificates."""

    PAPER_CONDITIONS = "paper conditions"
    SYMMETRIC_RATE = "rate, norm of -A"
    INFINITY_RATE = "rate, weighted l_inf"
    METRIC_RATE = "rate, optimised metric"
    COMMON_RATE = "rate, common metric"
    TANH_RATE_SYMMETRIC = "rate to the equilibrium on a bounded set, norm of -A"
    TANH_RATE_INFINITY = "rate to the equilibrium on a bounded set, weighted l_inf"
    CONVERGENCE = "convergence of every trajectory"
    EQUILIBRIUM = "equilibrium gain, l2"
    EQUILIBRIUM_INFINITY = "equilibrium gain, l_inf"
    UNROLLED_GAIN = "gain of the unrolled block, l2"
    METRIC_GAIN = "gain by the metric, l2"
    COMMON_GAIN = "gain by the common metric, l2"
    CONSTANT_GAIN = "gain for constant inputs, l2"
    CONSTANT_GAIN_INFINITY = "gain for constant inputs, l_inf"
    DEPTH_GAIN_INFINITY = "gain of the unrolled block, l_inf"
    UNIFORM_GAIN_INFINITY = "gain at every depth, l_inf"
    GROWTH = "growth at slopes"
    EXPANSION = "growth of a distance"

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Kind.PAPER_CONDITIONS: "The conditions of arXiv 1804.07209 hold at every stage, with epsilon = g.",
    Kind.SYMMETRIC_RATE: "||I + h D A|| <= g for all slopes D, in the norm of P = -A.",
    Kind.INFINITY_RATE: "||I + h D A|| <= g for all slopes D and every stage, in the norm max |x_i| / eta_i.",
    Kind.METRIC_RATE: "||I + h D A|| <= g for all slopes D, in the norm of Q.",
    Kind.COMMON_RATE: "||I + h D A|| <= g for all slopes D and every stage, in one norm, of Q on units or on the "
    "channels of every pixel.",
    Kind.TANH_RATE_SYMMETRIC: "|x_k - x| decays by g a step, x the equilibrium, x_0 = 0 and |u| <= radius, norm of P.",
    Kind.TANH_RATE_INFINITY: "The same in the norm max |x_i| / eta_i.",
    Kind.CONVERGENCE: "For every u each trajectory has a limit, which may depend on its start.",
    Kind.EQUILIBRIUM: "For every u there is exactly one equilibrium, -A^{-1} (B u + C), and ||A^{-1} B|| <= g.",
    Kind.EQUILIBRIUM_INFINITY: "The same in the l_inf norm.",
    Kind.UNROLLED_GAIN: "|dx_K| <= g |du| in Euclidean norms, at the depth K.",
    Kind.METRIC_GAIN: "|dx_k| <= g max_j |du_j| in Euclidean norms, at the depth or at every depth, for any inputs.",
    Kind.COMMON_GAIN: "The same, by one metric of units or of the channels of every pixel that all stages share.",
    Kind.CONSTANT_GAIN: "|dx_k| <= g |du| in Euclidean norms at every depth, for constant inputs.",
    Kind.CONSTANT_GAIN_INFINITY: "|dx_k|_inf <= g |du|_inf at every depth, for constant inputs.",
    Kind.DEPTH_GAIN_INFINITY: "|dx_K|_inf <= g max_j |du_j|_inf at the depth K, for any inputs.",
    Kind.UNIFORM_GAIN_INFINITY: "|dx_k|_inf <= g max_j |du_j|_inf at every depth, for any inputs.",
    Kind.GROWTH: "Products of I + h D A over the slopes D given, in turn, grow by at least g a step.",
    Kind.EXPANSION: "Two states of one input are g times as far apart after the steps given as before.",
}

LOWER = (Kind.GROWTH, Kind.EXPANSION)
"""Claims of at least their value; the others are of at most it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Claim:
    """A statement about one block; see `Kind`.

    **Attributes:** `slopes`: D holds for all slopes in this interval; `depth`: K, None where the claim has none or is
    for every depth; `data`: what proves it, float64 arrays by name; `certificate`: of an unrolled block.
    """

    kind: Kind
    value: float
    slopes: tuple[float, float]
    depth: int | None = None
    data: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    certificate: Certificate | None = None

    @property
    def well_formed(self) -> bool:
        numbers = (self.value, *self.slopes)
        return (
            all(isinstance(value, float) and math.isfinite(value) for value in numbers)
            and self.slopes[0] <= self.slopes[1]
            and (self.depth is None or (isinstance(self.depth, int) and self.depth >= 1))
            and all(array.dtype == np.float64 and np.all(np.isfinite(array)) for array in self.data.values())
        )

    def number(self, name: str) -> float:
        """A number among the data; NaN, which nothing is proved with, where it is missing."""
        array = self.data.get(name)
        return float(array[0]) if array is not None and array.shape == (1,) else math.nan

    def array(self, name: str, *shape: int) -> np.ndarray | None:
        """An array among the data, None unless it has this shape."""
        array = self.data.get(name)
        return array if array is not None and array.shape == shape else None


def holds(claim: Claim, facts: BlockFacts) -> bool:
    """Proves the claim for this block, or does not."""
    if not claim.well_formed or not _CHECKS[claim.kind].stages(facts):
        return False
    if claim.kind not in _CONDITIONAL and claim.slopes != facts.block.slopes:
        return False
    return _CHECKS[claim.kind].check(claim, facts)


def _paper(claim: Claim, facts: BlockFacts) -> bool:
    epsilon, eta = claim.value, claim.number("eta")
    if facts.block.convolutional:
        if not 0 < epsilon < eta < 1:
            return False
        return all(convolutional_conditions(a, epsilon, eta, facts.box).satisfied for a in facts.block.states)
    if not 0 < epsilon < 0.5:
        return False
    found = [fully_connected_conditions(a, epsilon, facts.box) for a in facts.block.states]
    # R^T R = -A - eps I has to be semidefinite up to what rounding does to eps.
    return all(each.satisfied and each.least >= epsilon * (1 - 1e-9) for each in found)


def _symmetric(claim: Claim, facts: BlockFacts) -> bool:
    box = facts.with_slopes(*claim.slopes)
    return fully_connected_conditions(facts.matrices[0], 0.25, box).rate <= claim.value


def _infinity(claim: Claim, facts: BlockFacts) -> bool:
    eta = claim.array("eta", len(facts.block.states[0]))
    if eta is None or not np.all(eta > 0):
        return False
    return infinity_rate_of(facts.rows, facts.with_slopes(*claim.slopes), eta) <= claim.value


def _metric(claim: Claim, facts: BlockFacts) -> bool:
    step = step_claim(claim, facts, claim.value, None, 0.0)
    return step is not None and _step_holds(step, claim)


def _metric_gain(claim: Claim, facts: BlockFacts) -> bool:
    step = step_claim(claim, facts, claim.number("rate"), facts.matrices[1], claim.number("supply"))
    return step is not None and step.gain(claim.depth) <= claim.value and _step_holds(step, claim)


def step_claim(
    claim: Claim, facts: BlockFacts, rate: float, inputs: np.ndarray | None, supply: float
) -> StepClaim | None:
    """The claim of one step that is behind a claim with a metric; None if a number is missing."""
    condition = claim.number("condition")
    if not all(math.isfinite(number) and number >= 0 for number in (rate, supply, condition)):
        return None
    return StepClaim(facts.matrices[0], facts.with_slopes(*claim.slopes), rate, condition, inputs, supply)


def _step_holds(step: StepClaim, claim: Claim) -> bool:
    n = len(step.weights)
    metric, multipliers = claim.array("metric", n, n), claim.array("multipliers", n)
    if metric is None or multipliers is None:
        return False
    return check_step(step, StepProof(metric, multipliers)) is Decision.PROVED


def _common(claim: Claim, facts: BlockFacts) -> bool:
    step = _common_step(claim, facts, claim.value, None)
    return step is not None and check_common_step(facts, step)


def _common_gain(claim: Claim, facts: BlockFacts) -> bool:
    if not (facts.block.shared or (claim.depth is not None and claim.depth <= facts.block.depth)):
        return False
    rate, supply = claim.number("rate"), claim.number("supply")
    if not all(math.isfinite(number) and number >= 0 for number in (rate, supply)):
        return False
    step = _common_step(claim, facts, rate, supply)
    if step is None or supplied_gain(rate, supply, claim.depth) > claim.value:
        return False
    return check_common_step(facts, step)


def _common_step(claim: Claim, facts: BlockFacts, rate: float, supply: float | None) -> CommonStep | None:
    n = len(facts.block.states[0])
    metric, multipliers = claim.array("metric", n, n), claim.array("multipliers", len(facts.block.states), n)
    if metric is None or multipliers is None:
        return None
    return CommonStep(facts.box, rate, claim.number("condition"), metric, multipliers, supply)


def _tanh_symmetric(claim: Claim, facts: BlockFacts) -> bool:
    a, b, c = facts.matrices
    radius, full = claim.number("radius"), facts.with_slopes(0.0, 1.0)
    if not (isinstance(facts.block.activation, Tanh) and 0 <= radius < math.inf and claim.slopes[1] == 1):
        return False
    if not fully_connected_conditions(a, 0.25, full).rate <= 1:
        return False
    return claim.slopes[0] <= least_slope_symmetric(a, b, c, radius) and _symmetric(claim, facts)


def _tanh_infinity(claim: Claim, facts: BlockFacts) -> bool:
    a, b, c = facts.matrices
    radius, eta = claim.number("radius"), claim.array("eta", len(facts.block.states[0]))
    if not (isinstance(facts.block.activation, Tanh) and 0 <= radius < math.inf and claim.slopes[1] == 1):
        return False
    if eta is None or not np.all(eta > 0) or not infinity_rate_of(facts.rows, facts.with_slopes(0.0, 1.0), eta) <= 1:
        return False
    by_unit = eta if len(eta) == len(a) else np.repeat(eta, len(a) // len(eta))
    return claim.slopes[0] <= least_slope_infinity(a, b, c, radius, by_unit) and _infinity(claim, facts)


def _convergence(claim: Claim, facts: BlockFacts) -> bool:
    at_zero = facts.block.activation.value(np.zeros(1))[0] == 0
    return bool(at_zero) and fully_connected_conditions(facts.matrices[0], 0.25, facts.box).converges


def _equilibrium(claim: Claim, facts: BlockFacts) -> bool:
    a, b, _ = facts.matrices
    return vanishes_at_zero_alone(facts.block.activation) and equilibrium_gain_holds(a, b, claim.value)


def _equilibrium_infinity(claim: Claim, facts: BlockFacts) -> bool:
    a, b, _ = facts.matrices
    return vanishes_at_zero_alone(facts.block.activation) and equilibrium_gain_infinity(a, b) <= claim.value


def _unrolled(claim: Claim, facts: BlockFacts) -> bool:
    if claim.certificate is None or claim.depth is None or not _has_stages(facts, claim.depth):
        return False
    graph = facts.block.graph(facts.input_shape, claim.depth)
    return claim.certificate.value <= claim.value and check_lipschitz(claim.certificate, graph).proved


def _constant(claim: Claim, facts: BlockFacts) -> bool:
    a, b, _ = facts.matrices
    return constant_input_gain(a, b, facts.box) <= claim.value


def _constant_infinity(claim: Claim, facts: BlockFacts) -> bool:
    a, b, _ = facts.matrices
    eta = claim.array("eta", len(facts.block.states[0]))
    if eta is None or not np.all(eta > 0) or not infinity_rate_of(facts.rows, facts.box, eta) <= 1:
        return False
    return constant_input_gain_infinity(a, b, np.repeat(eta, len(a) // len(eta))) <= claim.value


def _depth_infinity(claim: Claim, facts: BlockFacts) -> bool:
    if claim.depth is None or not _has_stages(facts, claim.depth):
        return False
    return depth_gain_infinity(facts.rows, facts.box, claim.depth) <= claim.value


def _uniform_infinity(claim: Claim, facts: BlockFacts) -> bool:
    z = claim.array("bounds", len(facts.block.states[0]))
    return z is not None and float(np.max(z)) <= claim.value and uniform_gain_holds(facts.rows[0], facts.box, z)


def _growth(claim: Claim, facts: BlockFacts) -> bool:
    patterns, axes = claim.data.get("patterns"), len(facts.input_shape) - 1
    if patterns is None or patterns.ndim != 2 or not len(patterns) or {"frequency", "window"} <= claim.data.keys():
        return False
    if not np.all((patterns >= facts.box.lower) & (patterns <= facts.box.upper)):
        return False
    if "frequency" in claim.data:
        place = _integers(claim.array("frequency", axes))
        circular = facts.block.convolutional and facts.block.border is Border.CIRCULAR
        if place is None or not circular or patterns.shape[1] != len(facts.block.states[0]):
            return False
        return proved_wave_growth(BlockSymbols(facts), place, facts.box, patterns) >= claim.value
    within: BlockFacts | None = facts
    if "window" in claim.data:
        extents = _integers(claim.array("window", axes))
        within = None if extents is None else windowed(facts, tuple(extents.tolist()))
    if within is None or within.size > MOST or patterns.shape[1] != within.size:
        return False
    if within.block.border is Border.CIRCULAR and within.wraps:
        return False
    return proved_growth(within.state_matrix().toarray(), facts.box, patterns) >= claim.value


def _integers(values: np.ndarray | None) -> np.ndarray | None:
    """The same as integers, None unless they are: of moderate size."""
    if values is None or not np.all((np.abs(values) < 2**31) & (values == np.round(values))):
        return None
    return values.astype(np.int64)


def windowed(facts: BlockFacts, extents: tuple[int, ...]) -> BlockFacts | None:
    """What is left of the block where slopes outside a window of the image are zero: the block for that image.

    None where slopes do not reach zero, or the window does not fit: on a circular image it must not be its own
    neighbour.
    """
    block, image = facts.block, facts.input_shape[1:]
    if not (block.convolutional and facts.box.lower <= 0 <= facts.box.upper and len(extents) == len(image)):
        return None
    gap = [taps // 2 if block.border is Border.CIRCULAR else 0 for taps in block.states[0].shape[2:]]
    if not all(1 <= extent <= size - room for extent, size, room in zip(extents, image, gap, strict=True)):
        return None
    return BlockFacts(dataclasses.replace(block, border=Border.ZEROS), (facts.input_shape[0], *extents))


def _expansion(claim: Claim, facts: BlockFacts) -> bool:
    shape = facts.block.state_shape(facts.input_shape)
    starts, u = claim.array("starts", 2, *shape), claim.array("input", *facts.input_shape)
    if starts is None or u is None or claim.depth is None or not _has_stages(facts, claim.depth):
        return False
    return proved_expansion(facts.block, Trajectories(starts, u, claim.depth)) >= claim.value


def _has_stages(facts: BlockFacts, depth: int) -> bool:
    return facts.block.shared or depth <= facts.block.depth


def _any(facts: BlockFacts) -> bool:
    return True


def _one_matrix(facts: BlockFacts) -> bool:
    """Whether all stages are the same, and matrices can be written out."""
    return facts.block.shared and facts.dense


def _one_stage(facts: BlockFacts) -> bool:
    return facts.block.shared


@dataclasses.dataclass(frozen=True)
class _Check:
    """How a kind of claim is checked, and `stages`: of which blocks it can be made."""

    check: Callable[[Claim, BlockFacts], bool]
    stages: Callable[[BlockFacts], bool]


_CONDITIONAL = (Kind.TANH_RATE_SYMMETRIC, Kind.TANH_RATE_INFINITY)
_CHECKS = {
    Kind.PAPER_CONDITIONS: _Check(_paper, _any),
    Kind.SYMMETRIC_RATE: _Check(_symmetric, _one_matrix),
    Kind.INFINITY_RATE: _Check(_infinity, _any),
    Kind.METRIC_RATE: _Check(_metric, _one_matrix),
    Kind.COMMON_RATE: _Check(_common, _any),
    Kind.TANH_RATE_SYMMETRIC: _Check(_tanh_symmetric, _one_matrix),
    Kind.TANH_RATE_INFINITY: _Check(_tanh_infinity, _one_matrix),
    Kind.CONVERGENCE: _Check(_convergence, _one_matrix),
    Kind.EQUILIBRIUM: _Check(_equilibrium, _one_matrix),
    Kind.EQUILIBRIUM_INFINITY: _Check(_equilibrium_infinity, _one_matrix),
    Kind.UNROLLED_GAIN: _Check(_unrolled, _any),
    Kind.METRIC_GAIN: _Check(_metric_gain, _one_matrix),
    Kind.COMMON_GAIN: _Check(_common_gain, _any),
    Kind.CONSTANT_GAIN: _Check(_constant, _one_matrix),
    Kind.CONSTANT_GAIN_INFINITY: _Check(_constant_infinity, _one_matrix),
    Kind.DEPTH_GAIN_INFINITY: _Check(_depth_infinity, _any),
    Kind.UNIFORM_GAIN_INFINITY: _Check(_uniform_infinity, _one_stage),
    Kind.GROWTH: _Check(_growth, _one_stage),
    Kind.EXPANSION: _Check(_expansion, _any),
}


def applicable(kind: Kind, facts: BlockFacts) -> bool:
    """Whether a claim of this kind can be made of the block."""
    return _CHECKS[kind].stages(facts)


