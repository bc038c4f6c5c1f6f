import dataclasses
import math

import numpy as np
import pytest
from netgain.solvers.contractivity.flow_bound import contraction_metric, flow_bound
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.verify.contractivity.check import Decision
from netgain.verify.contractivity.flow_check import FlowProof, MetricProof, check_flow, check_metric
from netgain.verify.contractivity.flow_proof import prove_flow, prove_metric
from scipy.linalg import expm

RNG = np.random.default_rng(7)
RANDOM = RNG.standard_normal((4, 4)) / 2 - np.eye(4)
LAPLACIAN = -(2 * np.eye(4) - np.eye(4, k=1) - np.eye(4, k=-1))
FIELDS = [
    SlopeField(RANDOM, 0.1),
    SlopeField(LAPLACIAN, 0.1),
    SlopeField(RANDOM, -0.1, 1.1, linear=-0.5 * np.eye(4)),
    SlopeField(RNG.standard_normal((5, 4)), 0.0, 1.0, RNG.standard_normal((4, 5)) / 2, -np.eye(4)),
]


def worst_course(field, duration):
    """The largest gain of many admissible courses of slopes."""
    rng, best = np.random.default_rng(0), 0.0
    bits = (np.arange(2**field.neurons)[:, None] >> np.arange(field.neurons)) & 1
    patterns = np.where(bits, field.upper, field.lower)
    for d in patterns:
        best = max(best, np.linalg.norm(expm(duration * field.jacobian(d)), 2))
    for _ in range(200):
        product = np.eye(field.size)
        for d in rng.permutation(len(patterns))[:3]:
            product = expm(duration / 3 * field.jacobian(patterns[d])) @ product
        best = max(best, np.linalg.norm(product, 2))
    return best


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("pieces", [1, 4])
def test_flow_bounds_are_proved_and_hold(field, pieces):
    bound = flow_bound(field, 1.5, pieces)
    proved = prove_flow(field, bound)
    assert proved is not None
    assert bound.value <= proved.claim.gain <= bound.value * (1 + 1e-5)
    assert worst_course(field, 1.5) <= proved.claim.gain


@pytest.mark.parametrize("field", FIELDS)
def test_what_is_too_good_is_not_proved(field):
    bound = flow_bound(field, 1.5, 4)
    proved = prove_flow(field, bound)
    small = dataclasses.replace(proved.claim, gain=proved.claim.gain * (1 - 1e-4))
    assert check_flow(small, proved.proof).decision is Decision.NOT_PROVED
    truth = worst_course(field, 1.5) * (1 - 1e-9)
    for rate in np.linspace(-1, 3, 9):
        gain = math.sqrt(np.linalg.eigvalsh(bound.metrics[0])[-1]) * math.exp(rate * 1.5)
        if gain < truth:
            claim = dataclasses.replace(proved.claim, gain=gain * 1.0001 if gain * 1.0001 < truth else gain)
            assert not check_flow(claim, dataclasses.replace(proved.proof, rate=float(rate))).proved
    longer = dataclasses.replace(proved.claim, duration=3.0)
    assert not check_flow(longer, proved.proof).proved or worst_course(field, 3.0) <= proved.claim.gain


def test_each_part_of_the_proof_is_needed():
    field = FIELDS[0]
    proved = prove_flow(field, flow_bound(field, 1.5, 3))
    claim, proof = proved.claim, proved.proof
    assert check_flow(claim, proof).proved
    for k in range(4):
        metrics = proof.metrics.copy()
        metrics[k] *= 0.7
        assert not check_flow(claim, dataclasses.replace(proof, metrics=metrics)).proved
    for piece in range(3):
        for end in range(2):
            multipliers = proof.multipliers.copy()
            multipliers[piece, end] *= 3
            assert not check_flow(claim, dataclasses.replace(proof, multipliers=multipliers)).proved
    asymmetric = proof.metrics.copy()
    asymmetric[0, 0, 1] += 1e-9
    assert check_flow(claim, dataclasses.replace(proof, metrics=asymmetric)).decision is Decision.MALFORMED


def test_the_closed_form_of_a_scalar_flow_in_balls():
    """x' = -d x with d in [1/2, 1] has the gain e^{-T/2}: Q = 1, c = -1/2 and lam = 1/4 leave no margin but e's."""
    field = SlopeField(np.array([[-1.0]]), 0.5)
    claim = prove_flow(field, flow_bound(field, 2.0, 1)).claim
    assert math.exp(-1) <= claim.gain <= math.exp(-1) * (1 + 1e-6)
    proof = FlowProof(-0.5 + 1e-15, np.ones((2, 1, 1)), np.full((1, 2, 1), 0.25))
    assert check_flow(dataclasses.replace(claim, gain=math.exp(-1) * (1 + 1e-14)), proof).arithmetic == "128 bits"
    assert not check_flow(dataclasses.replace(claim, gain=math.exp(-1) * (1 - 1e-14)), proof).proved


@pytest.mark.parametrize("field", FIELDS)
def test_metrics_are_proved_and_hold(field):
    found = contraction_metric(field)
    proved = prove_metric(field, found)
    assert proved is not None
    assert proved.claim.level <= found.rate + 1e-6
    assert proved.proof.condition <= found.condition * (1 + 1e-6)
    p = proved.proof.metric
    for k in range(2**field.neurons):
        product = p @ field.jacobian(np.where((k >> np.arange(field.neurons)) & 1, field.upper, field.lower))
        assert np.linalg.eigvalsh(product + product.T - 2 * proved.claim.level * p)[-1] <= 1e-9
    better = dataclasses.replace(proved.claim, level=proved.claim.level - 1e-3)
    assert not check_metric(better, proved.proof).proved
    rounder = dataclasses.replace(proved.proof, condition=0.999 * found.condition)
    assert not check_metric(proved.claim, rounder).proved
    smaller = MetricProof(0.99 * p, proved.proof.multipliers, proved.proof.condition)
    assert not check_metric(proved.claim, smaller).proved


@pytest.mark.parametrize("change", [
    lambda c, p: (dataclasses.replace(c, duration=0.0), p),
    lambda c, p: (dataclasses.replace(c, duration=math.inf), p),
    lambda c, p: (dataclasses.replace(c, gain=math.nan), p),
    lambda c, p: (dataclasses.replace(c, gain=-1.0), p),
    lambda c, p: (c, dataclasses.replace(p, rate=math.nan)),
    lambda c, p: (c, dataclasses.replace(p, metrics=p.metrics[:1], multipliers=p.multipliers[:0])),
    lambda c, p: (c, dataclasses.replace(p, metrics=p.metrics[:, :2, :2])),
    lambda c, p: (c, dataclasses.replace(p, metrics=p.metrics * np.nan)),
    lambda c, p: (c, dataclasses.replace(p, multipliers=-p.multipliers)),
    lambda c, p: (c, dataclasses.replace(p, multipliers=p.multipliers[:, :1])),
    lambda c, p: (dataclasses.replace(c, field=dataclasses.replace(c.field, lower=2.0)), p),
])
def test_what_is_malformed_is_told(change):
    proved = prove_flow(FIELDS[0], flow_bound(FIELDS[0], 1.0, 2))
    assert check_flow(*change(proved.claim, proved.proof)).decision is Decision.MALFORMED


def test_malformed_metrics_are_told():
    proved = prove_metric(FIELDS[0], contraction_metric(FIELDS[0], tolerance=1e-2))
    for changes in (dict(metric=np.eye(3)), dict(metric=np.triu(np.ones((4, 4)))), dict(condition=math.nan),
                    dict(multipliers=-np.ones(4)), dict(multipliers=np.ones(3))):
        changed = dataclasses.replace(proved.proof, **changes)
        assert check_metric(proved.claim, changed).decision is Decision.MALFORMED
