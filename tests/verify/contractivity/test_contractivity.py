import dataclasses
import sys

import numpy as np
import pytest
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.slope_branch_and_bound import SlopeBranchAndBound
from netgain.solvers.result import Limits
from netgain.verify.contractivity.certificate import check_contractivity
from netgain.verify.contractivity.check import LogNormClaim, log_norm_at
from netgain.verify.contractivity.report import ContractivityStage, ContractivityVerdict, contractivity

A3 = np.array([[-1, 2, 0], [0, -1, 1.5], [-1, 0, -0.5]])


def circulant(n):
    row = np.zeros(n)
    row[[0, 1, 2, -1]] = -1, 0.8, 0.4, -0.6
    return np.array([np.roll(row, i) for i in range(n)])


def random_weights(seed, n=7):
    weights = np.random.default_rng(seed).standard_normal((n, n)) / np.sqrt(n)
    return weights - (np.linalg.eigvalsh((weights + weights.T) / 2)[-1] + 0.3) * np.eye(n)


def worst(field):
    bits = (np.arange(2**field.neurons)[:, None] >> np.arange(field.neurons)) & 1
    return np.linalg.eigvalsh(field.symmetric(np.where(bits, field.upper, field.lower)))[:, -1].max()


@pytest.mark.parametrize("seed", range(6))
def test_three_ways_in_order_and_certified(seed):
    field = SlopeField(random_weights(seed), 0.35)
    report = contractivity(field)
    exact = worst(field)
    assert report.worst.gradient <= exact + 1e-9
    assert exact - 1e-5 <= report.worst.lower <= exact + 1e-12
    assert exact <= report.worst.upper <= report.worst.semidefinite
    assert report.worst.semidefinite <= min(report.worst.closed_form, report.worst.norm_product) + 1e-5
    assert report.intervals.gradient <= report.intervals.high + 1e-8
    assert report.intervals.low <= report.intervals.high <= report.intervals.semidefinite
    assert worst(field.with_lower(report.intervals.high)) <= 0
    assert worst(field.with_lower(report.intervals.low - 1e-6)) > 0
    assert check_contractivity(report.certificate, field.inputs).proved
    assert check_contractivity(report.interval_certificate, field.inputs).proved
    assert report.certificate.level == report.worst.upper
    assert report.interval_certificate.lower == report.intervals.high
    contractive = exact <= 0
    expected = ContractivityVerdict.CONTRACTIVE if contractive else ContractivityVerdict.NOT_CONTRACTIVE
    assert report.verdict is expected


def test_wrong_verdicts_of_the_gradient_system_are_told():
    report = contractivity(SlopeField(circulant(6), 0.1))
    assert report.worst.gradient == pytest.approx(-0.04)
    assert report.gradient_is_wrong
    assert report.verdict is ContractivityVerdict.NOT_CONTRACTIVE
    assert not contractivity(SlopeField(A3, 0.1)).gradient_is_wrong


def test_the_level_decides():
    field = SlopeField(A3, 0.1)
    for level, verdict in ((0.59, ContractivityVerdict.NOT_CONTRACTIVE), (0.5903, ContractivityVerdict.CONTRACTIVE)):
        assert contractivity(field, level).verdict is verdict
    never = contractivity(field)
    assert dataclasses.astuple(never.intervals) == (None, None, None, None)
    assert never.interval_certificate is None
    always = contractivity(field, 1.0)
    assert always.intervals.high == always.intervals.gradient == 0.0


def test_negative_slopes_and_general_shapes():
    rng = np.random.default_rng(0)
    field = SlopeField(rng.standard_normal((5, 4)), -0.1, 1.1, rng.standard_normal((4, 5)) / 3, -2 * np.eye(4))
    report = contractivity(field, 1.0)
    assert worst(field) <= report.worst.upper <= worst(field) + 1e-4
    assert check_contractivity(report.certificate, field.inputs, field.outputs, field.linear).proved
    assert report.intervals.low >= -0.1


def test_slopes_down_to_zero_are_hopeless_and_that_is_said():
    """(a_ii + |a_i|) / 2 > 0 for a row with an entry off the diagonal: one neuron alone exceeds the level 0."""
    report = contractivity(SlopeField(random_weights(0), 0.0))
    assert report.verdict is ContractivityVerdict.NOT_CONTRACTIVE
    assert any("only diagonal weights" in note for note in report.notes)
    diagonal = contractivity(SlopeField(-np.diag([1.0, 2, 3]), 0.0), 1e-9)
    assert diagonal.verdict is ContractivityVerdict.CONTRACTIVE
    assert not diagonal.notes


def test_no_time_still_encloses():
    field = SlopeField(circulant(24) - 0.05 * np.eye(24), 0.1)
    report = contractivity(field, 0.2, limits=Limits(time_limit=0.5))
    assert report.verdict is ContractivityVerdict.CONTRACTIVE or report.worst.upper > 0.2
    assert report.worst.lower < report.worst.upper < report.worst.semidefinite + 1e-12
    assert report.certificate is not None
    assert report.intervals.low <= report.intervals.high


def test_an_interruption_leaves_what_was_found(monkeypatch):
    from netgain.solvers.contractivity import slope_branch_and_bound

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(slope_branch_and_bound, "expand", interrupted)
    report = contractivity(SlopeField(circulant(12), 0.1), search=SlopeBranchAndBound())
    assert any("Interrupted" in note for note in report.notes)
    assert check_contractivity(report.certificate, circulant(12)).proved


def test_an_interruption_of_the_interval_keeps_the_bound(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    # The package exports a function of the same name as this module.
    monkeypatch.setattr(sys.modules["netgain.verify.contractivity.report"], "exact_lower_slope", interrupted)
    report = contractivity(SlopeField(A3, 0.1), 0.5)
    assert any("Interrupted" in note for note in report.notes)
    assert report.worst.upper == pytest.approx(0.590259822, abs=1e-5)
    assert report.intervals.high == report.intervals.semidefinite
    assert check_contractivity(report.certificate, A3).proved


def test_stages_come_in_order():
    stages = []
    report = contractivity(SlopeField(A3, 0.1), name="A3", on_stage=stages.append)
    assert stages == list(ContractivityStage)
    assert set(report.seconds) == {"gradient", "relax", "search", "interval"}
    assert report.name == "A3"


@pytest.mark.parametrize("seed", range(5))
def test_values_at_slopes_are_rounded_downwards(seed):
    rng = np.random.default_rng(seed)
    inputs, outputs, linear = (rng.standard_normal(shape) for shape in ((5, 4), (4, 5), (4, 4)))
    field = SlopeField(inputs, -0.1, 1.1, outputs, linear)
    claim = LogNormClaim(field.inputs, -0.1, 1.1, 0.0, field.outputs, field.linear)
    d = rng.uniform(-0.1, 1.1, 5)
    values, vectors = np.linalg.eigh(field.symmetric(d))
    assert values[-1] - 1e-12 <= log_norm_at(claim, d, vectors[:, -1]) <= values[-1] + 1e-14
    assert log_norm_at(claim, d, rng.standard_normal(4)) <= values[-1]
    with pytest.raises(ValueError, match=r"must lie in \[-0.1, 1.1\]; these reach from"):
        log_norm_at(claim, d + 1, vectors[:, -1])
    with pytest.raises(ValueError, match="finite and not zero"):
        log_norm_at(claim, d, np.zeros(4))
