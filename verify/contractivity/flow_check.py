r"""The checker of flow bounds: do metrics and multipliers prove how far the flow carries two solutions apart? No
solver.

Differences x of two solutions of u' = B u + E sigma(A u + b) follow x' = B x + E y, where y_i = d_i (A x)_i with
slopes d_i in [lower, upper], that is y = r0 A x + r w with w_i^2 <= (A x)_i^2. For a symmetric Q, a rate c and lam >=
0 let

    R(Q, lam) = [ 2cQ - Q (B + r0 E A) - (.)^T - A^T diag(lam) A    -r Q E    ]
                [ .                                                 diag(lam) ].

Metric: R(P, lam) >= 0 and I <= P <= kappa I give |x(T)| <= sqrt(kappa) e^{cT} |x(0)| for all T.

Flow map: with Q_0, .., Q_K at the times k T / K and lam at both ends of each piece, R(Q, lam) - [[Q', 0], [0, 0]] >= 0
at both ends of a piece holds throughout it, as Q and lam run linearly and Q' is constant there. Then e^{2c(T-t)} x^T Q
x never increases; with Q_K >= I and Q_0 <= rho I follows |x(T)|^2 <= rho e^{2cT} |x(0)|^2.
"""

import dataclasses
import math
import time

import numpy as np
from flint import arb

from ..balls import lower, precision
from ..enclosed_matrix import BALLS, DOUBLE, M, Matrices
from .check import Decision, LogNormClaim, LogNormVerdict

_PRECISIONS = (128, 256)


@dataclasses.dataclass(frozen=True, eq=False)
class FlowClaim:
    """|x(duration)| <= gain |x(0)| for differences x of solutions of the field in `field`, whose level is not used."""

    field: LogNormClaim
    duration: float
    gain: float


@dataclasses.dataclass(frozen=True, eq=False)
class FlowProof:
    """`rate`: c; `metrics`: Q_0, .., Q_K, shape (K + 1, n, n); `multipliers`: lam by piece and end, shape (K, 2, k)."""

    rate: float
    metrics: np.ndarray
    multipliers: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class MetricProof:
    """R(P, lam) >= 0 at the rate `field.level`, and I <= P <= condition I."""

    metric: np.ndarray
    multipliers: np.ndarray
    condition: float


def check_flow(claim: FlowClaim, proof: FlowProof, balls: bool = True) -> LogNormVerdict:
    """Proves the bound of the flow map, or says why it does not hold up."""
    begin = time.perf_counter()
    k, n = claim.field.inputs.shape if claim.field.well_formed else (0, 0)
    pieces = len(proof.metrics) - 1
    fits = (
        n > 0
        and all(isinstance(value, float) for value in (claim.duration, claim.gain, proof.rate))
        and 0 < claim.duration < math.inf
        and 0 < claim.gain < math.inf
        and math.isfinite(proof.rate)
        and pieces >= 1
        and proof.metrics.shape == (pieces + 1, n, n)
        and proof.multipliers.shape == (pieces, 2, k)
        and _symmetric(proof.metrics)
        and _not_negative(proof.multipliers)
    )
    if not fits:
        return LogNormVerdict(Decision.MALFORMED, "", time.perf_counter() - begin)
    with precision(_PRECISIONS[0]):
        rho = lower(arb(claim.gain) ** 2 * (-2 * arb(proof.rate) * arb(claim.duration)).exp())

    def holds(arithmetic: Matrices[M]) -> bool:
        q = [arithmetic.exact(metric) for metric in proof.metrics]
        one = arithmetic.exact(np.eye(n))
        if not arithmetic.semidefinite({(0, 0): q[-1] - one}, 1) and not np.array_equal(proof.metrics[-1], np.eye(n)):
            return False
        if not arithmetic.semidefinite({(0, 0): arithmetic.scaled(one, rho) - q[0]}, 1):
            return False
        for piece, ends in enumerate(proof.multipliers):
            rise = arithmetic.scaled(q[piece + 1] - q[piece], float(pieces))
            for end, lam in enumerate(ends):
                blocks = _rate_blocks(claim.field, proof.rate, q[piece + end], lam, arithmetic)
                blocks = {key: arithmetic.scaled(block, claim.duration) for key, block in blocks.items()}
                blocks[0, 0] = blocks[0, 0] - rise
                if not arithmetic.semidefinite(blocks, 2):
                    return False
        return True

    return _decided(begin, holds(DOUBLE), lambda: holds(BALLS), balls)


def check_metric(claim: LogNormClaim, proof: MetricProof, balls: bool = True) -> LogNormVerdict:
    """Proves x^T P J(D) x <= level x^T P x for all D in the box and I <= P <= condition I, or says why it does not."""
    begin = time.perf_counter()
    k, n = claim.inputs.shape if claim.well_formed else (0, 0)
    fits = (
        n > 0
        and proof.metric.shape == (n, n)
        and proof.multipliers.shape == (k,)
        and isinstance(proof.condition, float)
        and math.isfinite(proof.condition)
        and _symmetric(proof.metric[None])
        and _not_negative(proof.multipliers)
    )
    if not fits:
        return LogNormVerdict(Decision.MALFORMED, "", time.perf_counter() - begin)

    def holds(arithmetic: Matrices[M]) -> bool:
        p, one = arithmetic.exact(proof.metric), arithmetic.exact(np.eye(n))
        return (
            arithmetic.semidefinite({(0, 0): p - one}, 1)
            and arithmetic.semidefinite({(0, 0): arithmetic.scaled(one, proof.condition) - p}, 1)
            and arithmetic.semidefinite(_rate_blocks(claim, claim.level, p, proof.multipliers, arithmetic), 2)
        )

    return _decided(begin, holds(DOUBLE), lambda: holds(BALLS), balls)


def _decided(begin: float, in_double: bool, in_balls, balls: bool) -> LogNormVerdict:  # type: ignore[no-untyped-def]
    if in_double:
        return LogNormVerdict(Decision.PROVED, "double", time.perf_counter() - begin)
    for bits in _PRECISIONS if balls else ():
        with precision(bits):
            if in_balls():
                return LogNormVerdict(Decision.PROVED, f"{bits} bits", time.perf_counter() - begin)
    return LogNormVerdict(Decision.NOT_PROVED, "", time.perf_counter() - begin)


def _rate_blocks(
    claim: LogNormClaim, rate: float, q: M, multipliers: np.ndarray, arithmetic: Matrices[M]
) -> dict[tuple[int, int], M]:
    """The lower blocks of R(Q, lam)."""
    a, lam = arithmetic.exact(claim.inputs), arithmetic.diagonal(multipliers)
    outputs = q if claim.outputs is None else q * arithmetic.exact(claim.outputs)
    product = outputs * a
    low, high = (arithmetic.scaled(arithmetic.scaled(product, end), 0.5) for end in (claim.lower, claim.upper))
    drift = low + high
    if claim.linear is not None:
        drift = drift + q * arithmetic.exact(claim.linear)
    corner = arithmetic.scaled(arithmetic.scaled(q, rate), 2.0) - drift - drift.transpose() - a.transpose() * (lam * a)
    low, high = (arithmetic.scaled(arithmetic.scaled(outputs, end), 0.5) for end in (claim.lower, claim.upper))
    return {(0, 0): corner, (1, 0): (low - high).transpose(), (1, 1): lam}


def _symmetric(matrices: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(matrices)) and np.array_equal(matrices, np.swapaxes(matrices, 1, 2)))


def _not_negative(multipliers: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(multipliers)) and np.all(multipliers >= 0))
