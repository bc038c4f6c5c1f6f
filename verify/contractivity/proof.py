"""From a search over slopes to a proof: the least inflation of its bound, or of its slope interval, that the checker
proves.

Solvers work in floating point, so the value they print may be missed by rounding. Here it is moved by the least step
of a ladder for which `check_log_norm` says that it is proved; only then it is called so.
"""

import dataclasses

import numpy as np
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.slope_branch_and_bound import SlopeLeaves

from .check import LogNormClaim, LogNormProof, LogNormVerdict, Symmetries, check_log_norm

_INFLATIONS = (0.0, *(10.0**-k for k in range(14, 2, -1)))
# Balls cost more than a larger inflation loses; they are for problems that double precision does not decide at all.
_WORTH_BALLS = 1e-7


@dataclasses.dataclass(frozen=True, eq=False)
class ProvedLogNorm:
    """A claim that the checker has proved, with the proof."""

    claim: LogNormClaim
    proof: LogNormProof
    verdict: LogNormVerdict


def log_norm_claim(field: SlopeField, level: float) -> LogNormClaim:
    """mu(J(D)) <= level for every D in the field's box."""
    return LogNormClaim(field.inputs, float(field.lower), float(field.upper), float(level), field.outputs, field.linear)


def one_box(field: SlopeField, multipliers: np.ndarray) -> LogNormProof:
    """The proof by the multipliers of a semidefinite bound, without branching."""
    return LogNormProof(np.zeros((1, field.neurons), dtype=np.int8), multipliers[None])


def all_boxes(leaves: SlopeLeaves) -> LogNormProof:
    """The proof by the leaves of a search tree."""
    if not len(leaves.left_out):
        return LogNormProof(leaves.signs, leaves.multipliers)
    permutations, signs = leaves.symmetries.permutations, leaves.symmetries.signs
    return LogNormProof(leaves.signs, leaves.multipliers, Symmetries(permutations, signs, leaves.left_out, leaves.by))


def prove_log_norm(field: SlopeField, proof: LogNormProof, value: float) -> ProvedLogNorm | None:
    """The least level on the ladder above `value`, in units of the field's size, that the checker proves; or None."""
    size = 2.0 ** field.normalised()[1]
    for inflation in _INFLATIONS:
        claim = log_norm_claim(field, value + inflation * size)
        verdict = check_log_norm(claim, proof, balls=inflation == _WORTH_BALLS)
        if verdict.proved:
            return ProvedLogNorm(claim, proof, verdict)
    return None


def prove_lower_slope(field: SlopeField, proof: LogNormProof, level: float) -> ProvedLogNorm | None:
    """The least lower slope at or above `field.lower` on the ladder for which the checker proves the level; or None."""
    for inflation in _INFLATIONS:
        lower = min(field.lower + inflation * max(abs(field.lower), abs(field.upper)), field.upper)
        claim = log_norm_claim(field.with_lower(lower), level)
        verdict = check_log_norm(claim, proof, balls=inflation == _WORTH_BALLS)
        if verdict.proved:
            return ProvedLogNorm(claim, proof, verdict)
    return None
