import copy
import json

import numpy as np
import pytest
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.slope_branch_and_bound import SlopeBranchAndBound
from netgain.verify.contractivity.certificate import (
    ContractivityCertificate,
    check_contractivity,
    load_contractivity_certificate,
    matrices_digest,
)
from netgain.verify.contractivity.check import Decision
from netgain.verify.contractivity.proof import all_boxes, prove_log_norm
from netgain.verify.sealed_json import CertificateError, sealed

RNG = np.random.default_rng(0)
ROW = np.array([-1, 0.8, 0.4, 0, 0, 0, -0.6])
CIRCULANT = np.array([np.roll(ROW, i) for i in range(7)])
FIELDS = {
    "symmetric": SlopeField(CIRCULANT, 0.1),
    "random": SlopeField(RNG.standard_normal((6, 6)) - 2 * np.eye(6), 0.1),
    "general": SlopeField(RNG.standard_normal((5, 3)), -0.1, 1.1, RNG.standard_normal((3, 5)), -np.eye(3)),
}


def certificate_of(field):
    found = SlopeBranchAndBound().solve(field)
    proved = prove_log_norm(field, all_boxes(found.leaves), found.upper)
    return ContractivityCertificate.of(proved.claim, proved.proof, proved.verdict, "branch and bound")


@pytest.fixture(scope="module")
def certificates():
    return {name: certificate_of(field) for name, field in FIELDS.items()}


@pytest.mark.parametrize("name", FIELDS)
def test_saved_certificates_are_proved_anew(certificates, name, tmp_path):
    certificate, field, path = certificates[name], FIELDS[name], tmp_path / "c.json"
    certificate.save(path)
    loaded = load_contractivity_certificate(path)
    assert loaded.to_json() == certificate.to_json()
    assert check_contractivity(loaded, field.inputs, field.outputs, field.linear).proved
    other = field.inputs.copy()
    other[0, 0] = np.nextafter(other[0, 0], 9)
    verdict = check_contractivity(loaded, other, field.outputs, field.linear)
    assert verdict.decision is Decision.OTHER_MATRICES


def altered(certificate, path, keys, value):
    """The file with one entry changed and sealed again."""
    body = copy.deepcopy(certificate.to_json())
    del body["sha256"]
    part = body
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(sealed(body)))
    return load_contractivity_certificate(path)


@pytest.mark.parametrize(("keys", "change", "decision"), [
    (("claim", "level"), lambda level: level - 1e-3, Decision.NOT_PROVED),
    (("claim", "slopes"), lambda slopes: [slopes[0] - 0.05, slopes[1]], Decision.NOT_PROVED),
    (("claim", "slopes"), lambda slopes: slopes[::-1], Decision.MALFORMED),
    (("boxes",), lambda boxes: ["+" + box[1:] for box in boxes], Decision.NOT_COVERED),
    (("multipliers",), lambda rows: [[-value for value in row] for row in rows], Decision.MALFORMED),
    (("multipliers",), lambda rows: rows[1:], Decision.MALFORMED),
    (("symmetries",), lambda _: None, Decision.NOT_COVERED),
    (("symmetries", "by"), lambda by: [99 for _ in by], Decision.MALFORMED),
])
def test_resealed_forgeries_are_not_proved(certificates, tmp_path, keys, change, decision):
    certificate = certificates["symmetric"]
    value = certificate.to_json()
    for key in keys:
        value = value[key]
    forged = altered(certificate, tmp_path / "c.json", keys, change(value))
    assert check_contractivity(forged, CIRCULANT).decision is decision


@pytest.mark.parametrize(("keys", "value", "message"), [
    (("schema",), "netgain-certificate/1", "expected a certificate of schema 'netgain-contractivity/1'"),
    (("claim", "norm"), "linf", "only l2 logarithmic norms"),
    (("claim", "level"), "0.3", "missing or of the wrong kind"),
    (("claim", "slopes"), [0.1], "missing or of the wrong kind"),
    (("boxes",), ["+x.....", "......."], "missing or of the wrong kind"),
    (("boxes",), ["+.", "......."], "missing or of the wrong kind"),
    (("multipliers",), [[True]], "missing or of the wrong kind"),
    (("multipliers",), None, "missing or of the wrong kind"),
    (("symmetries", "permutations"), [[0.5]], "missing or of the wrong kind"),
])
def test_malformed_files_are_told(certificates, tmp_path, keys, value, message):
    with pytest.raises(CertificateError, match=message):
        altered(certificates["symmetric"], tmp_path / "c.json", keys, value)


def test_alterations_and_truncations_are_told(certificates, tmp_path):
    path = tmp_path / "c.json"
    certificates["random"].save(path)
    text = path.read_text()
    path.write_text(text.replace('"level": ', '"level": 1'))
    with pytest.raises(CertificateError, match="altered after writing"):
        load_contractivity_certificate(path)
    path.write_text(text[: len(text) // 2])
    with pytest.raises(CertificateError, match="truncated"):
        load_contractivity_certificate(path)
    with pytest.raises(CertificateError, match="cannot be read"):
        load_contractivity_certificate(tmp_path / "none.json")


def test_digests_tell_matrices_apart():
    a, e = np.arange(6.0).reshape(2, 3), np.ones((3, 2))
    digests = {matrices_digest(*arguments) for arguments in (
        (a,), (a.reshape(3, 2),), (a + 1,), (a, e), (a, None, np.eye(3)), (a, e, np.eye(3)), (np.eye(3), None, None))}
    assert len(digests) == 7
    assert matrices_digest(-0.0 * a) == matrices_digest(0.0 * a)
    assert matrices_digest(np.asfortranarray(a)) == matrices_digest(a)
