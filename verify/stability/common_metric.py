"""Proved rates and gains in one metric that all stages and pixels share: the search joined to the checker."""

import dataclasses

import numpy as np
from netgain.solvers.stability.common_metric import MOST_UNITS, common_metric

from ..check_spectral import frequencies
from ..spectral import coarse_first, symbols
from .block_symbols import kernel_of, torus
from .common_metric_check import CommonStep, check_common_step
from .facts import BlockFacts
from .step_contraction_check import supplied_gain

# What the solver's answers miss the inequality by, at most: the claim is widened until the checker proves it.
_MARGINS = (0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5)
# Symbols of A, B and the inequality that are held at a time, in complex numbers.
_MOST_ENTRIES = 2**27


def obstacle_to_common_metric(facts: BlockFacts) -> str:
    """Why no common metric is sought, as a clause; empty if it is."""
    n, places = len(facts.block.states[0]), int(np.prod(torus(facts)))
    lower, upper = facts.block.slopes
    unit = "channels" if facts.block.convolutional else "units"
    if lower <= 0 <= upper:
        return "the slope zero is among the activation's, at which a step is the identity"
    if n > MOST_UNITS:
        return f"there are {n} {unit}, and it is sought for up to {MOST_UNITS}"
    if len(facts.block.states) * places * 12 * n * n > _MOST_ENTRIES:
        return f"{places} frequencies of {n} channels are too many"
    return ""


def symbols_of(facts: BlockFacts, weights: tuple[np.ndarray, ...], coarse: bool = True) -> np.ndarray:
    """A or B of every stage at every frequency, in floating point, shape (stages, frequencies, rows, columns).

    **Arguments:** `coarse`: those of coarse grids first, else in the order of `frequencies`.
    """
    cells = torus(facts)
    if not cells:
        return np.stack(weights)[:, None]
    places = frequencies(cells)
    places = coarse_first(places, cells) if coarse else places
    return np.stack([symbols(kernel_of(weight), places, cells) for weight in weights])


def prove_common_rate(facts: BlockFacts, tolerance: float = 1e-6, seconds: float = np.inf) -> CommonStep | None:
    """The least rate below 1 in a metric that all stages and pixels share, or None.

    **Arguments:** `seconds`: after which the best rate so far is proved.

    **Raises:** `ValueError` where there is an obstacle, see `obstacle_to_common_metric`.
    """
    if obstacle := obstacle_to_common_metric(facts):
        raise ValueError(f"A common metric is not sought: {obstacle}.")
    box = facts.box
    found = common_metric(symbols_of(facts, facts.block.states), box.step, box.lower, box.upper, tolerance, seconds)
    if found is None:
        return None
    condition = float(np.linalg.eigvalsh(found.metric)[-1]) * (1 + 1e-9)
    for margin in _MARGINS:
        rate = found.rate * (1 + margin)
        step = CommonStep(box, rate, condition, found.metric, found.multipliers)
        if rate < 1 and check_common_step(facts, step):
            return step
    return None


def common_gain(facts: BlockFacts, contraction: CommonStep, depth: int | None) -> CommonStep | None:
    """The least gain found at `depth`, or at every depth, with the metric and multipliers of a proved contraction.

    As `gain_by_metric`; the supply is the largest that a stage or frequency asks for.
    """
    box, q = contraction.box, contraction.metric
    centre, product = (box.lower + box.upper) / 2, box.lower * box.upper
    lam = contraction.multipliers[:, None]
    a, b = symbols_of(facts, facts.block.states), symbols_of(facts, facts.block.inputs)
    adjoint, fed = a.conj().swapaxes(-1, -2) * lam[..., None, :], b.conj().swapaxes(-1, -2) * lam[..., None, :]
    side = -box.step * q - centre * adjoint
    row = np.concatenate([-centre * fed, product * (fed @ a)], axis=-1)
    head = np.zeros(a.shape) + (lam[..., None] * np.eye(len(q)) - box.step**2 * q)
    upper = np.concatenate([head, side.conj().swapaxes(-1, -2)], axis=-1)
    best: CommonStep | None = None
    for share in np.geomspace(1e-3, 0.9, 10):
        rate = float(np.sqrt(contraction.rate**2 + share * (1 - contraction.rate**2)))
        lower = np.concatenate([side, (rate**2 - 1) * q + product * (adjoint @ a)], axis=-1)
        main = np.concatenate([upper, lower], axis=-2)
        schur = row @ np.linalg.solve(main, row.conj().swapaxes(-1, -2)) - product * (fed @ b)
        least = float(np.linalg.eigvalsh((schur + schur.conj().swapaxes(-1, -2)) / 2)[..., -1].max())
        for margin in _MARGINS[1:]:
            supply = max(least, 0.0) * (1 + margin) + 1e-12
            if best is not None and supplied_gain(rate, supply, depth) >= gain_of(best, depth):
                break
            step = dataclasses.replace(contraction, rate=rate, supply=supply)
            if check_common_step(facts, step):
                best = step
                break
    return best


def gain_of(step: CommonStep, depth: int | None) -> float:
    """The gain of a step with a supply."""
    assert step.supply is not None
    return supplied_gain(step.rate, step.supply, depth)
