"""From a flow bound, a metric or multilayer multipliers to a proof: the least inflation that the checkers prove."""

import dataclasses
import math

import numpy as np
from netgain.solvers.contractivity.flow_bound import ContractionMetric, FlowBound
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.multilayer_field import MultilayerField
from netgain.solvers.contractivity.multilayer_sdp import MultilayerUpperBound

from .check import LogNormClaim, LogNormVerdict
from .flow_check import FlowClaim, FlowProof, MetricProof, check_flow, check_metric
from .multilayer_check import MultilayerClaim, check_multilayer
from .proof import log_norm_claim

_INFLATIONS = tuple(10.0**-k for k in range(11, 1, -1))


@dataclasses.dataclass(frozen=True, eq=False)
class ProvedFlow:
    """A proved bound of the flow map with its proof."""

    claim: FlowClaim
    proof: FlowProof
    verdict: LogNormVerdict


@dataclasses.dataclass(frozen=True, eq=False)
class ProvedMetric:
    """A proved rate of contraction in a metric with its proof."""

    claim: LogNormClaim
    proof: MetricProof
    verdict: LogNormVerdict


@dataclasses.dataclass(frozen=True, eq=False)
class ProvedMultilayer:
    """A proved level for several layers with the multipliers."""

    claim: MultilayerClaim
    multipliers: tuple[np.ndarray, ...]
    verdict: LogNormVerdict


def prove_flow(field: SlopeField, bound: FlowBound) -> ProvedFlow | None:
    """The least gain on a ladder above `bound.value` that the checker proves, by raising the rate; or None.

    A solver's matrices miss semidefiniteness by its tolerance. A higher rate adds a multiple of Q to the first block,
    more of the multipliers to the second.
    """
    size = 2.0 ** field.normalised()[1]
    largest = float(np.linalg.eigvalsh(bound.metrics[0])[-1])
    for inflation in _INFLATIONS:
        rate = bound.rate + inflation * size
        gain = math.sqrt(largest) * math.exp(rate * bound.duration) * (1 + 1e-12)
        multipliers = bound.multipliers * (1 + inflation) + inflation**2 / size
        claim = FlowClaim(log_norm_claim(field, 0.0), float(bound.duration), gain)
        proof = FlowProof(rate, bound.metrics, multipliers)
        verdict = check_flow(claim, proof, balls=False)
        if verdict.proved:
            return ProvedFlow(claim, proof, verdict)
    return None


def prove_metric(field: SlopeField, metric: ContractionMetric) -> ProvedMetric | None:
    """The least rate on a ladder above `metric.rate` that the checker proves; or None."""
    size = 2.0 ** field.normalised()[1]
    for inflation in _INFLATIONS:
        p = metric.metric * (1 + inflation)
        condition = float(np.linalg.eigvalsh(p)[-1]) * (1 + inflation)
        proof = MetricProof(p, metric.multipliers * (1 + inflation) + inflation**2 / size, condition)
        claim = log_norm_claim(field, metric.rate + inflation * size)
        verdict = check_metric(claim, proof, balls=False)
        if verdict.proved:
            return ProvedMetric(claim, proof, verdict)
    return None


def prove_multilayer(field: MultilayerField, bound: MultilayerUpperBound) -> ProvedMultilayer | None:
    """The least level on a ladder above `bound.value` that the checker proves; or None."""
    for inflation in _INFLATIONS:
        level = bound.value + inflation * (1 + abs(bound.value))
        claim = MultilayerClaim(field.weights, float(field.lower), float(field.upper), level)
        verdict = check_multilayer(claim, bound.multipliers, balls=False)
        if verdict.proved:
            return ProvedMultilayer(claim, bound.multipliers, verdict)
    return None
