r"""Pattern-dependent depth: a block is run until its update is small, and the distance to its equilibrium is proved.

For a state y, however it was computed, let r(y) = h s(A y + B u + C) be its update. Where a norm contracts at the rate
q < 1, the equilibrium x of u satisfies |y - x| <= |r(y)| / (1 - q), as y and x are mapped to y + r(y) and x. Where s(v)
= 0 for v = 0 alone and A is invertible, x = -A^{-1} (B u + C), and the distance is enclosed itself, with no norm at
all. ReLU with slopes of zero has neither: no distance follows from an update, since another start has another limit.

r(y) is evaluated in ball arithmetic on the float64 state that was reached.
"""

import dataclasses
import math

import numpy as np
from flint import arb, arb_mat

from ..balls import BALLS, lower, precision, to_matrix, upper
from .claims import Claim, Kind, holds
from .conditions import fully_connected_conditions
from .equilibrium import vanishes_at_zero_alone
from .facts import BlockFacts

_BITS = 128


@dataclasses.dataclass(frozen=True, eq=False)
class Settled:
    """Where a block was stopped.

    **Attributes:** `state`: after `depth` stages, shape (*state); `update`: the Euclidean norm of the last update;
    `met`: whether it was at most the tolerance; `distance`: proved Euclidean distance of the state to the equilibrium,
    infinite where none follows.
    """

    state: np.ndarray
    depth: int
    update: float
    met: bool
    distance: float


def settle(
    facts: BlockFacts, u: np.ndarray, tolerance: float, most_stages: int = 1000, rate: Claim | None = None
) -> Settled:
    """Advances the block from x_0 = 0 until an update is at most `tolerance`, or for `most_stages`.

    **Arguments:** `u`: one input; `rate`: a claim of a rate below 1 for all slopes, in a metric, the norm of -A or a
    weighted l_inf norm, which is checked; without it only the enclosure of the equilibrium is used.

    **Raises:** `ValueError` for an input of another shape, a tolerance that is not positive, stages with weights of
    their own, or a claim that is of another kind or does not hold.
    """
    block = facts.block
    if tuple(u.shape) != facts.input_shape or not np.all(np.isfinite(u)):
        raise ValueError(f"`u` must be finite numbers of the shape {facts.input_shape}, got {u.shape}.")
    if not tolerance > 0 or most_stages < 1:
        raise ValueError(f"`tolerance` must be positive and `most_stages` at least 1; got {tolerance!r} and "
                         f"{most_stages!r}.")
    if not block.shared:
        raise ValueError("Stages with weights of their own have no equilibrium to stop near.")
    if rate is not None and not (rate.kind in _RATES and rate.value < 1 and holds(rate, facts)):
        raise ValueError(f"`rate` must be a proved rate below 1; got {rate.kind.value!r} at {rate.value!r}, which is "
                         "of another kind, or does not hold for this block.")
    x, batch, update, depth = np.zeros((1, *block.state_shape(facts.input_shape))), u[None], math.inf, 0
    while depth < most_stages and not update <= tolerance:
        following = block.advance(x, batch)
        update, x, depth = float(np.linalg.norm(following - x)), following, depth + 1
    distances = [math.inf]
    with precision(_BITS):
        if rate is not None:
            distances.append(_by_rate(facts, x, batch, rate))
        if facts.dense and vanishes_at_zero_alone(block.activation):
            distances.append(_by_equilibrium(facts, x, u))
    return Settled(x[0], depth, update, update <= tolerance, min(distances))


_RATES = (Kind.METRIC_RATE, Kind.COMMON_RATE, Kind.SYMMETRIC_RATE, Kind.INFINITY_RATE)


def _by_rate(facts: BlockFacts, x: np.ndarray, u: np.ndarray, rate: Claim) -> float:
    """|r(x)| / (1 - q) in the claim's norm, and what a unit ball of that norm extends to in the Euclidean one."""
    state = BALLS.constant(x)
    update = (facts.block.advance(state, BALLS.constant(u), 0, BALLS) - state).ravel()
    gap = 1 - arb(rate.value)
    if rate.kind is Kind.INFINITY_RATE:
        eta = np.repeat(rate.data["eta"], facts.size // len(rate.data["eta"]))
        largest = arb(0)
        for entry, weight in zip(update, eta, strict=True):
            largest = largest.max(abs(entry) / arb(float(weight)))
        return upper(largest / gap * sum((arb(float(weight)) * arb(float(weight)) for weight in eta), arb(0)).sqrt())
    column = arb_mat([[entry] for entry in update])
    if rate.kind in (Kind.METRIC_RATE, Kind.COMMON_RATE):  # Q >= I
        metric = rate.data["metric"]
        # One column for each pixel that has Q.
        parts = arb_mat(len(metric), len(update) // len(metric), update.tolist())
        weighted = to_matrix(metric) * parts
        square = sum((x * y for x, y in zip(parts.entries(), weighted.entries(), strict=True)), arb(0))
        least = arb(1)
    else:
        p = -facts.matrices[0]
        square, least = (column.transpose() * to_matrix(p) * column)[0, 0], arb(_least_eigenvalue(facts))
    return upper((square.max(arb(0)) / least).sqrt() / gap) if least > 0 else math.inf


def _least_eigenvalue(facts: BlockFacts) -> float:
    """A proved lower bound of that of P = -A."""
    return fully_connected_conditions(facts.matrices[0], 0.25, facts.box).least


def _by_equilibrium(facts: BlockFacts, x: np.ndarray, u: np.ndarray) -> float:
    """|x + A^{-1} (B u + C)|, from an enclosure of the solution."""
    a, b, c = facts.matrices
    fed = to_matrix(b) * to_matrix(u.reshape(-1, 1)) + to_matrix(c[:, None])
    try:
        equilibrium = to_matrix(a).solve(-fed)
    except ZeroDivisionError:  # not shown invertible
        return math.inf
    differences = [arb(float(y)) - e for y, e in zip(x.ravel(), equilibrium.entries(), strict=True)]
    total = sum((difference * difference for difference in differences), arb(0))
    return upper(total.sqrt()) if lower(total) >= 0 else upper(abs(total).sqrt())
