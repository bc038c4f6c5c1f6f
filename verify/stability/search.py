"""Searches the claims of `claims` for one block, and keeps those that the checker proves."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
from netgain.layers import StableNetwork, Tanh
from netgain.solvers.implicit.weighted_log_norm import SlopeBox as NeuronSlopes
from netgain.solvers.implicit.weighted_log_norm import least_log_norm
from netgain.solvers.result import Limits

from ..lipschitz import LipschitzReport
from .claims import Claim, Kind, applicable, holds
from .common_metric import common_gain, gain_of, obstacle_to_common_metric, prove_common_rate
from .conditions import fully_connected_conditions
from .depth_gain import constant_input_gain, constant_input_gain_infinity
from .equilibrium import equilibrium_gain_infinity, least_slope_infinity, least_slope_symmetric, vanishes_at_zero_alone
from .facts import BlockFacts
from .growth import growth
from .rows import depth_gain_infinity, infinity_rate_of, uniform_gain_candidate
from .step_contraction import ProvedStep, gain_by_metric, prove_least_rate
from .unrolled import kept_lipschitz_of, shortened

# Up to this many units rates are sought as closely as the JSON shows them.
_SMALL = 40
# What recomputing on another machine may differ by; the checker computes these numbers anew.
_SLACK = 1 + 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class BlockSearch:
    """Claims proved of a block, the bounds of its unrolled graph, and what a reader should know.

    **Attributes:** `interrupted`: by Ctrl-C; what was found by then is kept.
    """

    facts: BlockFacts
    claims: tuple[Claim, ...]
    unrolled: LipschitzReport
    notes: tuple[str, ...]
    interrupted: bool = False


def search_block(
    facts: BlockFacts, limits: Limits, radius: float, seed: int = 0, on_stage: Callable[[str], None] | None = None,
    hurried: bool = False,
) -> BlockSearch:
    """All claims that could be proved.

    **Arguments:** `limits`: of the unrolled block's inequality; `radius`: inputs |u| <= radius for rates on bounded
    sets; `on_stage`: told what is being done; `hurried`: Ctrl-C was pressed, and only closed forms are sought.

    **Raises:** as `lipschitz`.
    """
    announce = on_stage or (lambda text: None)
    notes: list[str] = []
    claims: list[Claim] = []

    def keep(found: Iterator[Claim]) -> None:
        for claim in found:
            if applicable(claim.kind, facts) and holds(claim, facts):
                claims.append(claim)

    interrupted = hurried
    if hurried:
        announce("closed forms")
        _closed_forms(facts, keep)
        notes.append("Interrupted before: only closed forms were sought, and the gain is what a second finds.")
    else:
        try:
            _search(facts, limits, radius, seed, announce, keep, notes)
        except KeyboardInterrupt:
            interrupted = True
            notes.append("Interrupted: not all rates were sought, and the gain is what a second finds.")
    announce("gain of the unrolled block")
    network = StableNetwork((facts.block,), facts.input_shape, "block")
    unrolled, pressed = kept_lipschitz_of(network, shortened(limits) if interrupted else limits, seed)
    notes += unrolled.notes
    if unrolled.certificate is not None:
        proof = unrolled.certificate
        claims.append(Claim(Kind.UNROLLED_GAIN, proof.value, facts.block.slopes, facts.block.depth, {}, proof))
    if pressed and not interrupted:
        notes.append("Interrupted: the gain and its witness are the best found by then.")
    return BlockSearch(facts, tuple(claims), unrolled, tuple(notes), interrupted or pressed)


def _closed_forms(facts: BlockFacts, keep: Callable[[Iterator[Claim]], None]) -> None:
    """What takes no search."""
    keep(_conditions(facts))
    keep(_infinity(facts))
    if facts.dense and facts.block.shared:
        keep(_symmetric(facts))


def _search(
    facts: BlockFacts, limits: Limits, radius: float, seed: int, announce: Callable[[str], None],
    keep: Callable[[Iterator[Claim]], None], notes: list[str],
) -> None:
    """All but the unrolled block, the cheapest first."""
    announce("closed forms")
    _closed_forms(facts, keep)
    if facts.block.convolutional or not facts.block.shared:
        announce("contraction in a metric that all stages and pixels share")
        keep(_common(facts, notes, limits.time_limit / 4))
    if not facts.dense:
        unit = "channels" if facts.block.convolutional else "units"
        notes.append(f"Not treated as dense matrices, as {facts.obstacle}: rates are those of norms of {unit}, and "
                     "equilibria were not sought.")
        if facts.block.shared:
            announce("searching slopes of growth")
            keep(growth(facts, notes, seed, limits.time_limit / 4))
    elif not facts.block.shared:
        notes.append("The stages have weights of their own: there is no equilibrium, and rates are stated in norms "
                     "that all stages share.")
    else:
        keep(_equilibrium(facts))
        keep(_constant_infinity(facts))
        keep(_bounded_set(facts, radius))
        announce("contraction by a semidefinite program")
        keep(_metric(facts, notes, limits.time_limit / 2))
        announce("searching slopes of growth")
        keep(growth(facts, notes, seed, limits.time_limit / 4))


def _conditions(facts: BlockFacts) -> Iterator[Claim]:
    """The paper's conditions, with the largest epsilon for which they hold."""
    block, slopes = facts.block, facts.block.slopes
    if block.convolutional:
        free = min(float(np.min(1 - np.abs(1 + rows.diagonal) - rows.others.sum(axis=1))) for rows in facts.rows)
        eta = min(float(np.min(1 - np.abs(1 + rows.diagonal))) for rows in facts.rows)
        for margin in (1e-12, 1e-9, 1e-6):
            at, epsilon = eta * (1 - margin), min(free, eta) * (1 - 4 * margin)
            if 0 < epsilon < at < 1:
                yield Claim(Kind.PAPER_CONDITIONS, epsilon, slopes, None, {"eta": np.array([at])})
                return
    elif (found := _largest_epsilon(block.states)) is not None:
        yield Claim(Kind.PAPER_CONDITIONS, found, slopes)


def _largest_epsilon(states: tuple[np.ndarray, ...]) -> float | None:
    """The largest epsilon with P = -A >= epsilon I and ||P - epsilon I||_F <= 1 - 2 epsilon at every stage, inside."""
    if not all(np.array_equal(a, a.T) for a in states):
        return None
    values = [np.linalg.eigvalsh(-a) for a in states]
    high = min(0.5, *(float(each[0]) for each in values))

    def excess(epsilon: float) -> float:
        return max(float(np.linalg.norm(each - epsilon)) - 1 + 2 * epsilon for each in values)

    # The excess is convex in epsilon; a grid finds where it is negative, bisection the upper end of that interval.
    grid = high * np.linspace(0, 1, 201)[1:] * (1 - 1e-9)
    inside = [epsilon for epsilon in grid if excess(epsilon) <= 0] if high > 0 else []
    if not inside:
        return None
    low, above = float(inside[-1]), min(float(inside[-1] + high / 200), high * (1 - 1e-9))
    for _ in range(50):
        middle = (low + above) / 2
        low, above = (middle, above) if excess(middle) <= -1e-13 else (low, middle)
    return low


def _symmetric(facts: BlockFacts) -> Iterator[Claim]:
    a, b, _ = facts.matrices
    if not np.array_equal(a, a.T):
        return
    found = fully_connected_conditions(a, 0.25, facts.box)
    if found.rate < math.inf:
        yield Claim(Kind.SYMMETRIC_RATE, found.rate, facts.block.slopes)
        yield Claim(Kind.CONVERGENCE, 1.0, facts.block.slopes)
        gain = constant_input_gain(a, b, facts.box) * _SLACK
        yield Claim(Kind.CONSTANT_GAIN, gain, facts.block.slopes)


def best_weights(facts: BlockFacts, lower: float, upper: float) -> tuple[float, np.ndarray]:
    """The least l_inf rate found over slopes in [lower, upper], and its weights eta."""
    box = facts.with_slopes(lower, upper)
    n = len(facts.rows[0].diagonal)
    largest = np.max([rows.majorant for rows in facts.rows], axis=0)
    slopes = NeuronSlopes.uniform(n, lower, upper)
    candidates = [np.ones(n)]
    if n <= 400:
        candidates.append(np.maximum(least_log_norm(largest, slopes).weights, 1e-6))
    rated = [(infinity_rate_of(facts.rows, box, eta), eta) for eta in candidates]
    return min(rated, key=lambda pair: pair[0])


def _infinity(facts: BlockFacts) -> Iterator[Claim]:
    slopes, depth = facts.block.slopes, facts.block.depth
    rate, eta = best_weights(facts, *slopes)
    yield Claim(Kind.INFINITY_RATE, rate, slopes, None, {"eta": eta})
    yield Claim(Kind.DEPTH_GAIN_INFINITY, depth_gain_infinity(facts.rows, facts.box, depth), slopes, depth)
    if facts.block.shared and (z := uniform_gain_candidate(facts.rows[0])) is not None:
        yield Claim(Kind.UNIFORM_GAIN_INFINITY, float(np.max(z)), slopes, None, {"bounds": z})


def _constant_infinity(facts: BlockFacts) -> Iterator[Claim]:
    """The l_inf gain of constant inputs, where a weighted l_inf norm is kept."""
    a, b, _ = facts.matrices
    rate, eta = best_weights(facts, *facts.block.slopes)
    if rate <= 1:
        gain = constant_input_gain_infinity(a, b, np.repeat(eta, len(a) // len(eta))) * _SLACK
        if gain < math.inf:
            yield Claim(Kind.CONSTANT_GAIN_INFINITY, gain, facts.block.slopes, None, {"eta": eta})


def _bounded_set(facts: BlockFacts, radius: float) -> Iterator[Claim]:
    """Rates of tanh to its equilibrium for bounded inputs."""
    if not isinstance(facts.block.activation, Tanh):
        return
    a, b, c = facts.matrices
    if np.array_equal(a, a.T):
        least = least_slope_symmetric(a, b, c, radius) * (1 - 1e-9)
        rate = fully_connected_conditions(a, 0.25, facts.with_slopes(least, 1.0)).rate
        if least > 0 and rate < 1:
            yield Claim(Kind.TANH_RATE_SYMMETRIC, rate, (least, 1.0), None, {"radius": np.array([radius])})
    _, eta = best_weights(facts, 0.0, 1.0)
    by_unit = np.repeat(eta, len(a) // len(eta))
    least = least_slope_infinity(a, b, c, radius, by_unit) * (1 - 1e-9)
    if least > 0:
        rate = infinity_rate_of(facts.rows, facts.with_slopes(least, 1.0), eta)
        if rate < 1:
            yield Claim(Kind.TANH_RATE_INFINITY, rate, (least, 1.0), None, {"radius": np.array([radius]), "eta": eta})


def _metric(facts: BlockFacts, notes: list[str], seconds: float) -> Iterator[Claim]:
    a, b, _ = facts.matrices
    slopes = facts.block.slopes
    if slopes[0] <= 0 <= slopes[1]:
        notes.append("The slope zero is among the activation's, at which a step is the identity: the contraction of "
                     "all slopes is disproved, and a rate of 1 is the best that there can be.")
        return
    begin = time.perf_counter()
    found = prove_least_rate(a, facts.box, 1e-6 if len(a) <= _SMALL else 1e-4, seconds)
    late = time.perf_counter() - begin > seconds
    if found is None:
        why = "the time ended before one was found" if late else "none exists, up to rounding"
        notes.append(f"There is no constant metric in which every step was shown to contract: {why}.")
        return
    if late:
        notes.append("The time ended the search for a metric; the rate may be improved by a larger --time-limit.")
    yield metric_claim(found, Kind.METRIC_RATE, found.claim.rate, slopes, None)
    for depth in (facts.block.depth, None):
        gained = gain_by_metric(found, b, depth)
        if gained is not None:
            yield metric_claim(gained, Kind.METRIC_GAIN, gained.claim.gain(depth), slopes, depth)


def _common(facts: BlockFacts, notes: list[str], seconds: float) -> Iterator[Claim]:
    """The rate and gains in one metric of units or channels."""
    if obstacle := obstacle_to_common_metric(facts):
        notes.append(f"No metric that all stages and pixels share was sought, as {obstacle}.")
        return
    block, begin = facts.block, time.perf_counter()
    found = prove_common_rate(facts, 1e-5, seconds)
    if found is None:
        late = time.perf_counter() - begin > seconds
        notes.append("No metric that all stages and pixels share was found in which every step contracts"
                     + (" within the time." if late else "."))
        return
    data = {"condition": np.array([found.condition]), "metric": found.metric, "multipliers": found.multipliers}
    yield Claim(Kind.COMMON_RATE, found.rate, block.slopes, None, data)
    for depth in (block.depth, None) if block.shared else (block.depth,):
        gained = common_gain(facts, found, depth)
        if gained is not None and gained.supply is not None:
            numbers = {"rate": np.array([gained.rate]), "supply": np.array([gained.supply])}
            yield Claim(Kind.COMMON_GAIN, gain_of(gained, depth), block.slopes, depth, data | numbers)


def metric_claim(
    found: ProvedStep, kind: Kind, value: float, slopes: tuple[float, float], depth: int | None
) -> Claim:
    """The claim with the metric and multipliers of a proved step."""
    numbers = {"condition": found.claim.condition}
    if kind is Kind.METRIC_GAIN:
        numbers |= {"rate": found.claim.rate, "supply": found.claim.supply}
    data = {name: np.array([number]) for name, number in numbers.items()}
    return Claim(kind, value, slopes, depth,
                 data | {"metric": found.proof.metric, "multipliers": found.proof.multipliers})


def _equilibrium(facts: BlockFacts) -> Iterator[Claim]:
    a, b, _ = facts.matrices
    if not vanishes_at_zero_alone(facts.block.activation) or np.linalg.matrix_rank(a) < len(a):
        return
    gain = float(np.linalg.norm(np.linalg.solve(a, b), 2))
    for margin in (1e-12, 1e-9, 1e-6):
        claim = Claim(Kind.EQUILIBRIUM, gain * (1 + margin), facts.block.slopes)
        if holds(claim, facts):
            yield claim
            break
    if (bound := equilibrium_gain_infinity(a, b) * _SLACK) < math.inf:
        yield Claim(Kind.EQUILIBRIUM_INFINITY, bound, facts.block.slopes)
