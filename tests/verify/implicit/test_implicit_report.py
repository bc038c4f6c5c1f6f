"""`implicit`: what is proved of networks whose constants are known, and certificates that are refused."""

import dataclasses
import functools
import itertools
import json

import numpy as np
import pytest
from netgain.layers import Affine, FixedPoint, LeakyRelu, ModelError, Relu, Scale, Tanh, sequential
from netgain.solvers.implicit import row_gain
from netgain.solvers.implicit.fixed_point import FixedPointStatus
from netgain.solvers.implicit.gain import exact_gain
from netgain.solvers.implicit.well_posedness import Condition
from netgain.solvers.result import Limits
from netgain.verify.certificate import CertificateError
from netgain.verify.implicit.certificate import (
    ImplicitCertificate,
    LayerProof,
    Refusal,
    WeightedNorm,
    check_implicit,
    load_implicit_certificate,
)
from netgain.verify.implicit.layer_report import WellPosedness
from netgain.verify.implicit.report import EUCLIDEAN, LARGEST, MIXED, WEIGHTED, implicit
from netgain.verify.lower_bound import prove_witness

from ...solvers.implicit.implicit_bank import A1, B1, C1, HIERARCHY, random_matrix


def network(A, B, C, activation=None, b=None):
    return sequential((B.shape[1],), [Affine(B, b), FixedPoint(Affine(A), activation or Relu()), Affine(C)])


def random_network(seed, activation):
    rng = np.random.default_rng(seed)
    return network(random_matrix(seed, 5, 0.7), rng.standard_normal((5, 3)), rng.standard_normal((2, 5)), activation,
                   rng.standard_normal(5))


BANK = {
    "published": network(A1, B1, C1),
    "rotation": network(HIERARCHY[0][0], np.eye(2), np.eye(2)),
    "tanh": random_network(1, Tanh()),
    "leaky": random_network(2, LeakyRelu(0.1)),
    "scaled": sequential((3,), [Scale(divisor=np.full(3, 0.3)), Affine(np.ones((2, 3))),
                                FixedPoint(Affine(A1), Relu())]),
    "two": sequential((2,), [Affine(B1), FixedPoint(Affine(A1), Relu()), Affine(C1.T @ C1),
                             FixedPoint(Affine(A1 / 2), Tanh()), Affine(C1)]),
}


@functools.cache
def report(name):
    return implicit(BANK[name])


@pytest.mark.parametrize("name", BANK)
def test_all_claims_are_proved_anew_from_the_file(name, tmp_path):
    found = report(name)
    assert found.verdict is WellPosedness.PROVED
    found.certificate.save(tmp_path / "c.json")
    assert check_implicit(load_implicit_certificate(tmp_path / "c.json"), BANK[name]).outcome is Refusal.PROVED


@pytest.mark.parametrize("name", BANK)
def test_witnesses_are_below_all_upper_bounds(name):
    found = report(name)
    norms = {gain.norms for gain in found.gains}
    assert {LARGEST, EUCLIDEAN, *MIXED} <= norms
    for norm in norms:
        below = [gain.value for gain in found.gains if gain.norms == norm and not gain.upper]
        above = [gain.value for gain in found.gains if gain.norms == norm and gain.upper]
        assert max(below, default=0.0) <= min(above) * (1 + 1e-9)
    assert found.best(LARGEST, upper=False).value > 0
    metrics = {layer.node: layer.proof.metric for layer in found.layers}
    pair = found.witness.x, found.witness.x_prime
    assert prove_witness(BANK[name], *pair, metrics, order=np.inf) == found.best(LARGEST, upper=False).value
    y, y_prime = BANK[name].forward(np.stack(pair))
    change = np.abs(y - y_prime).max() / np.abs(pair[0] - pair[1]).max()
    assert change == pytest.approx(found.witness.ratio, rel=1e-6)


def test_the_published_example():
    found = report("published")
    values = {(gain.norms, gain.method): gain.value for gain in found.gains}
    assert values[LARGEST, "M-matrix"] == pytest.approx(8.6, rel=1e-6)
    assert values[LARGEST, "NEMON, best weights"] == pytest.approx(9.402197, rel=1e-5)
    assert values[LARGEST, "semidefinite, by output"] == pytest.approx(2.628384, rel=1e-3)
    assert values[LARGEST, "all vertices"] == pytest.approx(23 / 9, rel=1e-9)
    assert values[EUCLIDEAN, "semidefinite (LBEN)"] == pytest.approx(2.27427, abs=2e-5)
    assert values[EUCLIDEAN, "all vertices"] == pytest.approx(2.24708, abs=1e-4)
    norm = found.layers[0].proof.norm
    assert norm.log_norm == pytest.approx(0.567399, abs=1e-6)
    assert norm.weights[1] / norm.weights[0] == pytest.approx(1.711599, rel=1e-5)
    holds = {finding.condition: finding.holds for finding in found.layers[0].findings}
    assert not holds[Condition.ABSOLUTE]
    assert holds[Condition.LOG_NORM]
    assert holds[Condition.DIAGONAL]


def test_the_weighted_bound_holds_for_all_vertices():
    found = report("published")
    gain, eta = found.best(WEIGHTED), found.layers[0].proof.norm.weights
    exact, _ = exact_gain(A1, B1, np.diag(1 / eta))
    assert exact <= gain.value


@pytest.mark.parametrize("name", BANK)
def test_measured_factors_stay_below_the_guaranteed(name):
    for layer in report(name).layers:
        assert layer.iterations
        for iteration in layer.iterations:
            if iteration.guaranteed is not None and iteration.guaranteed < 1:
                assert iteration.measured <= iteration.guaranteed * (1 + 1e-6)
                assert iteration.status is FixedPointStatus.CONVERGED


def test_steps_of_the_average_iteration():
    """Best step and that of the paper are both 1/3 here, with the factor 0.8558 of the enumeration of vertices."""
    steps = {iteration.name: iteration for iteration in report("published").layers[0].iterations}
    for name in ("average, best step", "average, step of NEMON"):
        assert steps[name].step == pytest.approx(1 / 3)
        assert steps[name].guaranteed == pytest.approx(0.855800, abs=1e-6)


@pytest.mark.parametrize(("A", "expected"), [
    (HIERARCHY[3][0], WellPosedness.DISPROVED),
    (np.array([[2.0]]), WellPosedness.DISPROVED),
    (np.array([[0.0, 1.5], [1.5, 0.0]]), WellPosedness.DISPROVED),
])
def test_what_is_not_well_posed_has_a_witness_and_no_certificate(A, expected):
    found = implicit(network(A, np.eye(len(A)), np.eye(len(A))))
    assert found.verdict is expected
    assert found.certificate is None
    assert not found.gains
    z = found.layers[0].witness
    x, other = np.maximum(z, 0), np.maximum(-z, 0)
    # With v such that both are solutions: x - other = z = D A z.
    v = np.where(z > 0, x - A @ x, np.where(z < 0, other - A @ other, np.minimum(-A @ x, -A @ other)))
    for solution in (x, other):
        np.testing.assert_allclose(np.maximum(A @ solution + v, 0), solution, atol=1e-9)


def test_not_proved_is_not_disproved():
    """Well-posed by its determinants, all of I - D A being positive, but without a diagonal metric."""
    rng = np.random.default_rng(0)
    for _ in range(20000):
        A = rng.standard_normal((3, 3)) * 2
        vertices = [np.linalg.det(np.eye(3) - np.diag(d) @ A) for d in np.ndindex(2, 2, 2)]
        if min(vertices) > 0.05 and implicit_layer(A).findings[3].reached < -0.05:
            break
    found = implicit(network(A, np.eye(3), np.eye(3)))
    assert found.verdict is WellPosedness.OPEN
    assert found.certificate is None


def implicit_layer(A):
    from netgain.verify.constraints import constraint_rows
    from netgain.verify.implicit.layer_report import layer_report

    return layer_report(constraint_rows(network(A, np.eye(len(A)), np.eye(len(A)))).loops[0])


def test_a_graph_without_implicit_layers_is_refused():
    with pytest.raises(ModelError, match="no implicit layer"):
        implicit(sequential((2,), [Affine(np.eye(2)), Relu()]))


@pytest.mark.parametrize("name", ["published", "tanh", "leaky", "two"])
def test_tampered_certificates_are_refused(name):
    found, graph = report(name).certificate, BANK[name]

    def outcome(**changes):
        return check_implicit(dataclasses.replace(found, **changes), graph).outcome

    proof, rest = found.layers[0], found.layers[1:]
    norm = proof.norm
    assert outcome(layers=(LayerProof(None, None), *rest)) is Refusal.NOT_WELL_POSED
    assert outcome(layers=(LayerProof(None, 0 * proof.metric), *rest)) is Refusal.NOT_WELL_POSED
    assert outcome(layers=(LayerProof(None, proof.metric), *rest)) is Refusal.PROVED
    assert outcome(layers=(LayerProof(norm, None), *rest)) is Refusal.PROVED
    assert outcome(layers=(LayerProof(norm, -proof.metric), *rest)) is Refusal.NOT_WELL_POSED
    lower = WeightedNorm(norm.weights, norm.log_norm - 1e-3)
    assert outcome(layers=(LayerProof(lower, proof.metric), *rest)) is Refusal.LOG_NORM
    above = WeightedNorm(norm.weights, 1.0)
    assert outcome(layers=(LayerProof(above, None), *rest)) is Refusal.LOG_NORM
    assert outcome(layers=(LayerProof(WeightedNorm(-norm.weights, 0.9), None), *rest)) is Refusal.MALFORMED
    assert outcome(layers=(LayerProof(norm, proof.metric[:-1]), *rest)) is Refusal.MALFORMED
    assert outcome(layers=rest) is Refusal.MALFORMED
    assert outcome(digest="0" * 64) is Refusal.OTHER_MODEL
    largest = found.largest
    assert outcome(largest=dataclasses.replace(largest, value=largest.value * 0.999)) is Refusal.LARGEST_NORM_GAIN
    shrunk = tuple(bound * 0.999 for bound in largest.bounds)
    assert outcome(largest=dataclasses.replace(largest, bounds=shrunk)) is Refusal.LARGEST_NORM_GAIN
    euclidean = dataclasses.replace(found.euclidean, value=found.euclidean.value * 0.999)
    assert outcome(euclidean=euclidean) is Refusal.EUCLIDEAN_GAIN
    assert outcome(euclidean=dataclasses.replace(found.euclidean, loop_metrics=())) is Refusal.EUCLIDEAN_GAIN
    if found.outputs is not None:
        outputs = found.outputs
        assert outcome(outputs=dataclasses.replace(outputs, value=outputs.value * 0.99)) is Refusal.OUTPUT_GAINS
        assert outcome(outputs=dataclasses.replace(outputs, metrics=outputs.metrics[1:])) is Refusal.OUTPUT_GAINS
        small = tuple(t * 0.99 for t in outputs.inputs)
        assert outcome(outputs=dataclasses.replace(outputs, inputs=small)) is Refusal.OUTPUT_GAINS


def test_a_certificate_of_another_network_is_refused():
    assert check_implicit(report("tanh").certificate, BANK["leaky"]).outcome is Refusal.OTHER_MODEL
    plain = sequential((2,), [Affine(np.eye(2)), Relu()])
    assert check_implicit(ImplicitCertificate(plain.digest, ()), plain).outcome is Refusal.MALFORMED


@pytest.mark.parametrize("change", [
    lambda body: body["claim"].update(well_posed=False),
    lambda body: body["claim"].update(l2_gain=body["claim"]["l2_gain"] / 2),
    lambda body: body["claim"].update(linf_gain="small"),
    lambda body: body.pop("weights"),
    lambda body: body["euclidean"].update(schema="netgain-certificate/1"),
    lambda body: body["metrics"].append([1.0]),
])
def test_files_that_say_something_else(change, tmp_path):
    """Altered ones are refused for their seal; with a new seal for what they say."""
    from netgain.verify.sealed_json import sealed

    body = report("published").certificate.to_json()
    change(body)
    (tmp_path / "altered.json").write_text(json.dumps(body))
    with pytest.raises(CertificateError, match="altered"):
        load_implicit_certificate(tmp_path / "altered.json")
    del body["sha256"]
    (tmp_path / "sealed.json").write_text(json.dumps(sealed(body)))
    with pytest.raises(CertificateError):
        load_implicit_certificate(tmp_path / "sealed.json")


@pytest.mark.parametrize("place", ["row_gain", "largest_norm_witness"])
def test_what_was_proved_before_an_interruption_is_kept(place, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"netgain.verify.implicit.report.{place}", interrupt)
    found = implicit(BANK["published"])
    assert any("Interrupted" in note for note in found.notes)
    assert found.best(EUCLIDEAN).value == pytest.approx(2.27427, abs=1e-4)
    assert found.best(EUCLIDEAN, upper=False).value > 2.2
    assert check_implicit(found.certificate, BANK["published"]).proved


@pytest.mark.parametrize("steps", [0, 30])
def test_an_interruption_within_an_output_keeps_a_gain_for_all_outputs(steps, monkeypatch):
    derivatives, calls = row_gain._Problem._derivatives, itertools.count()

    def interrupted(self, *point):
        if next(calls) == steps:
            raise KeyboardInterrupt
        return derivatives(self, *point)

    monkeypatch.setattr(row_gain._Problem, "_derivatives", interrupted)
    found = implicit(BANK["tanh"])
    assert any("ended by Ctrl-C" in note for note in found.notes)
    assert not any(gain.method == "witness" and gain.norms == LARGEST for gain in found.gains)
    least = report("tanh").certificate.outputs.value
    assert least < found.certificate.outputs.value
    assert check_implicit(found.certificate, BANK["tanh"]).proved


def test_a_time_limit_within_an_output_is_kept_and_said(monkeypatch):
    """Outputs share the time that is left; where it ends after the first step, all have a gain that is proved."""
    given = []

    def hurried(A, B, c, slopes, limits, start):
        given.append(limits.time_limit)
        return row_gain.row_gain(A, B, c, slopes, dataclasses.replace(limits, time_limit=1e-9), start)

    monkeypatch.setattr("netgain.verify.implicit.report.row_gain", hurried)
    found = implicit(BANK["tanh"], Limits(time_limit=20.0), lower_bounds=False)
    assert given[0] < given[1] < 20.0
    assert any("ended by the time limit for 2 of 2 outputs" in note for note in found.notes)
    assert report("tanh").certificate.outputs.value < found.certificate.outputs.value
    assert check_implicit(found.certificate, BANK["tanh"]).proved


@pytest.mark.parametrize(("B", "C"), [(0 * B1, C1), (B1, 0 * C1)])
def test_a_network_that_does_not_depend_on_its_input_has_the_gain_zero(B, C):
    found = implicit(network(A1, B, C))
    assert found.verdict is WellPosedness.PROVED
    assert found.best(LARGEST).value < 1e-6
    assert all(gain.value == 0 for gain in found.gains if not gain.upper)
