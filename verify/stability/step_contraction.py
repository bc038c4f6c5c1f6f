"""Proved contraction rates and input gains of x+ = x + h s(A x + B u + C): the search joined to the checker."""

import dataclasses

import numpy as np
from netgain.solvers.stability.frequency_contraction import least_rate
from netgain.solvers.stability.step_contraction import StepContraction, StepMetric

from ..contractivity.check import Decision
from .conditions import SlopeBox
from .step_contraction_check import StepClaim, StepProof, check_step

# What the solver's answers miss the inequality by, at most: the claim is widened until the checker proves it.
_MARGINS = (0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5)


@dataclasses.dataclass(frozen=True, eq=False)
class ProvedStep:
    """A claim and the metric and multipliers by which the checker has proved it."""

    claim: StepClaim
    proof: StepProof


def prove_contraction(weights: np.ndarray, box: SlopeBox, tolerance: float = 1e-6) -> ProvedStep | None:
    """The least rate, up to `tolerance`, in an optimised constant metric with a multiplier for each neuron.

    Every rate tried is proved before it counts. A rate of 1 or more is returned where no smaller one was proved; None
    if none below 1 + h max(|lower|, |upper|) ||A||_2 was, which bounds the rate in the Euclidean norm.

    **Raises:** `ValueError` for weights that are not square; `RuntimeError` if Clarabel fails.
    """
    problem = StepContraction(weights, box.step, box.lower, box.upper)

    def proved(rate: float) -> ProvedStep | None:
        found = problem.metric(rate)
        return None if found is None else _checked(StepClaim(weights, box, rate, _condition(found)), found)

    widest = 1 + box.step * max(abs(box.lower), abs(box.upper)) * float(np.linalg.norm(weights, 2))
    low, best = 0.0, None
    for high in (1.0, widest * (1 + 1e-6)):
        best = proved(high)
        if best is not None:
            break
        low = high
    while best is not None and best.claim.rate - low > tolerance:
        middle = (low + best.claim.rate) / 2
        better = proved(middle)
        if better is None:
            low = middle
        else:
            best = better
    return best


def prove_least_rate(
    weights: np.ndarray, box: SlopeBox, tolerance: float = 1e-6, seconds: float = np.inf
) -> ProvedStep | None:
    """The least rate below 1 in an optimised constant metric with a multiplier for each neuron, or None.

    The same optimum as that of `prove_contraction`, by frequencies: for hundreds of units. `seconds`: after which the
    best rate so far is proved.

    **Raises:** `ValueError` for weights that are not square and finite.
    """
    found = least_rate(weights, box.step, box.lower, box.upper, tolerance, seconds)
    if found is None:
        return None
    for margin in _MARGINS:
        rate = found.rate * (1 + margin)
        proved = _checked(StepClaim(weights, box, rate, _condition(found.metric)), found.metric) if rate < 1 else None
        if proved is not None:
            return proved
    return None


def prove_gain(
    weights: np.ndarray, inputs: np.ndarray, box: SlopeBox, rates: tuple[float, ...], depth: int | None = None
) -> ProvedStep | None:
    """Of the given rates, the claim with the least gain from inputs to states at `depth`, or for all depths.

    None if no rate admits a proof.

    **Raises:** `ValueError` for shapes that do not fit; `RuntimeError` if Clarabel fails.
    """
    problem = StepContraction(weights, box.step, box.lower, box.upper, inputs)
    best: ProvedStep | None = None
    for rate in rates:
        found = problem.least_supply(rate)
        if found is None:
            continue
        for margin in _MARGINS:
            supply = found.supply * (1 + margin) + margin
            proved = _checked(StepClaim(weights, box, rate, _condition(found), inputs, supply), found)
            if proved is None:
                continue
            if best is None or proved.claim.gain(depth) < best.claim.gain(depth):
                best = proved
            break
    return best


def gain_by_metric(contraction: ProvedStep, inputs: np.ndarray, depth: int | None = None) -> ProvedStep | None:
    """The least gain found at `depth`, or at every depth, with the metric and multipliers of a proved contraction.

    At a rate r' above the proved one the inequality is strict without inputs, and the least supply is that of a Schur
    complement. None where none was proved.

    **Raises:** `ValueError` if B has another number of rows.
    """
    claim, proof = contraction.claim, contraction.proof
    n, box, lam = len(claim.weights), claim.box, proof.multipliers
    if inputs.ndim != 2 or len(inputs) != n:
        raise ValueError(f"B needs {n} rows, got the shape {inputs.shape}.")
    a, q = claim.weights, proof.metric
    centre, product = (box.lower + box.upper) / 2, box.lower * box.upper
    side = -box.step * q - centre * (a.T * lam)
    fed = inputs.T * lam
    row = np.hstack([-centre * fed, product * (fed @ a)])
    best: ProvedStep | None = None
    for share in np.geomspace(1e-3, 0.9, 10):
        rate = float(np.sqrt(claim.rate**2 + share * (1 - claim.rate**2)))
        block = (rate**2 - 1) * q + product * ((a.T * lam) @ a)
        main = np.block([[np.diag(lam) - box.step**2 * q, side.T], [side, block]])
        schur = row @ np.linalg.solve(main, row.T) - product * (fed @ inputs)
        least = float(np.linalg.eigvalsh((schur + schur.T) / 2)[-1])
        for margin in _MARGINS[1:]:
            supply = max(least, 0.0) * (1 + margin) + 1e-12
            stated = StepClaim(a, box, rate, claim.condition, inputs, supply)
            if best is not None and stated.gain(depth) >= best.claim.gain(depth):
                break
            if check_step(stated, proof) is Decision.PROVED:
                best = ProvedStep(stated, proof)
                break
    return best


def _condition(found: StepMetric) -> float:
    return float(np.linalg.eigvalsh(found.metric)[-1]) * (1 + 1e-9)


def _checked(claim: StepClaim, found: StepMetric) -> ProvedStep | None:
    proof = StepProof(found.metric, found.multipliers)
    return ProvedStep(claim, proof) if check_step(claim, proof) is Decision.PROVED else None
