"""The file: what is written is read back, and what is not a certificate is refused with the reason."""

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
from netgain.verify import Certificate, CertificateError, Outcome, check, lipschitz, load_certificate
from netgain.verify.mode import Mode
from netgain.verify.sealed_json import sealed

from .small_networks import BANK, TINY


@pytest.fixture(scope="module")
def given():
    return lipschitz(TINY["mlp_relu"], lower_bounds=False).certificate


@pytest.fixture
def path(given, tmp_path):
    target = tmp_path / "network.certificate.json"
    given.save(target)
    return target


def body_of(path):
    return json.loads(path.read_text())


def write(path, body, reseal=True):
    """What someone who has read the source could write."""
    body = {key: value for key, value in body.items() if key != "sha256"} if reseal else body
    path.write_text(json.dumps(sealed(body) if reseal else body))


def put(body, keys, value):
    body = copy.deepcopy(body)
    inner = body
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return body


@pytest.mark.parametrize("name", ["mlp_relu", "single", "deep", "zero_layer", "batch_norm_after", "wide_hidden"])
def test_what_is_written_is_read_back_exactly(name, tmp_path):
    given = lipschitz(BANK[name], lower_bounds=False).certificate
    given.save(tmp_path / "c.json")
    read = load_certificate(tmp_path / "c.json")
    for field in dataclasses.fields(Certificate):
        before, after = getattr(given, field.name), getattr(read, field.name)
        if field.name == "multipliers":
            assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(before, after, strict=True))
        elif field.name != "seconds":
            assert before == after
            assert type(before) is type(after)
    assert read.seconds == pytest.approx(given.seconds, abs=1e-6)
    assert read.to_json() == given.to_json()
    assert check(read, BANK[name]).proved


def test_the_file_is_strict_json(path):
    def refuse(constant):
        raise AssertionError(constant)

    json.loads(path.read_text(), parse_constant=refuse)
    assert not list(path.parent.glob("*.part"))


def test_a_certificate_never_proved_can_be_written_and_read(tmp_path):
    guess = Certificate(1.0, "0" * 64, (np.ones(2),), (0, 0), 0, "guess")
    guess.save(tmp_path / "guess.json")
    assert load_certificate(tmp_path / "guess.json").seconds == 0.0


@pytest.mark.parametrize("metrics", [(), (np.array([[0.1, 1 / 3], [1 / 3, 5e-324]]), np.eye(1))])
@pytest.mark.parametrize("mode", Mode)
def test_modes_and_metrics_are_read_back_exactly(mode, metrics, tmp_path):
    guess = Certificate(1.0, "0" * 64, (np.ones(2),), (0, 0), 0, "guess", mode=mode, metrics=metrics)
    guess.save(tmp_path / "guess.json")
    read = load_certificate(tmp_path / "guess.json")
    assert read.mode is mode
    assert len(read.metrics) == len(metrics)
    assert all(np.array_equal(a, b) and b.dtype == np.float64 for a, b in zip(metrics, read.metrics, strict=True))


def test_the_mode_of_another_realisation_proves_nothing(given):
    graph = TINY["mlp_relu"]
    for mode in set(Mode) - {Mode.NEURON}:
        assert check(dataclasses.replace(given, mode=mode), graph).outcome is Outcome.MALFORMED
    assert check(dataclasses.replace(given, metrics=(np.eye(2),)), graph).outcome is Outcome.MALFORMED


def test_a_missing_file_a_folder_and_other_bytes_are_refused(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00{")
    (tmp_path / "empty").write_text("")
    (tmp_path / "other").write_text("[1, 2]")
    for name, reason in (("absent", "read"), (".", "read"), ("bytes", "read"), ("empty", "JSON"), ("other", "schema")):
        with pytest.raises(CertificateError, match=reason):
            load_certificate(tmp_path / name)


def test_a_truncated_file_is_refused(path):
    text = path.read_text()
    for length in range(0, len(text.rstrip()), 7):
        path.write_text(text[:length])
        with pytest.raises(CertificateError, match="truncated"):
            load_certificate(path)


def test_one_changed_character_is_refused(path):
    """Wherever it is: nothing in the file is outside of the seal."""
    text, changed = path.read_text(), 0
    for position, old in enumerate(text):
        other = text[:position] + str((int(old) + 1) % 10) + text[position + 1 :] if old.isdigit() else text
        if json.loads(other) != json.loads(text):  # a last digit may be spared: another decimal of the same float64
            path.write_text(other)
            with pytest.raises(CertificateError):
                load_certificate(path)
            changed += 1
    assert changed > 100


def test_another_layout_of_the_same_content_is_accepted(path):
    body = body_of(path)
    path.write_text(json.dumps(dict(reversed(body.items()))))
    assert check(load_certificate(path), TINY["mlp_relu"]).proved


LEAVES = [
    ("schema",), ("claim", "question"), ("claim", "norm_in"), ("claim", "norm_out"), ("claim", "region"),
    ("claim", "value"), ("model_digest",), ("exponents",), ("exponents", 0), ("exponents", 1), ("output_exponent",),
    ("multipliers",), ("multipliers", 0), ("multipliers", 0, 0), ("evidence",), ("evidence", "seconds"),
    ("versions",), ("claim",), ("mode",), ("metrics",),
]


@pytest.mark.parametrize("keys", LEAVES, ids=str)
def test_a_change_without_the_seal_is_an_alteration(path, keys):
    write(path, put(body_of(path), keys, "other"), reseal=False)
    with pytest.raises(CertificateError, match="schema" if keys == ("schema",) else "altered"):
        load_certificate(path)


@pytest.mark.parametrize("keys", [("evidence", "solver"), ("evidence", "arithmetic"), ("versions", "numpy")], ids=str)
def test_information_is_sealed_too(path, keys):
    write(path, put(body_of(path), keys, "other"), reseal=False)
    with pytest.raises(CertificateError, match="altered"):
        load_certificate(path)


HOSTILE = [
    None, True, False, "", "1.0", "nan", [], {}, [[]], [1.0], {"0": 1.0}, -1.0, -5e-324, 0, 1e400, -1e400, math.nan,
    10**400, 2**53 + 1, 1.5, 10**9, -(10**9), 10**30, "\ud800",
]


@pytest.mark.parametrize("keys", LEAVES, ids=str)
def test_resealed_hostile_content_is_refused_and_nothing_crashes(path, keys, given):
    body, graph = body_of(path), TINY["mlp_relu"]
    for value in HOSTILE:
        write(path, put(body, keys, value))
        try:
            claim = load_certificate(path)
        except CertificateError:
            continue
        verdict = check(claim, graph)
        # What gets through claims no less than before, or has changed what proves nothing.
        assert not verdict.proved or keys[0] == "evidence" or keys[0] == "versions" or claim.value >= given.value


@pytest.mark.parametrize(("keys", "value"), [
    (("claim", "value"), math.nan), (("claim", "value"), math.inf), (("claim", "value"), "1.0"),
    (("claim", "value"), True),
    (("claim", "value"), 10**400), (("claim", "value"), 2**53 + 1), (("multipliers", 0, 0), math.nan),
    (("multipliers", 0, 0), "1.0"), (("multipliers", 0, 0), True), (("multipliers", 0, 0), None),
    (("multipliers", 0, 0), [1.0]), (("multipliers", 0, 0), 10**400), (("multipliers", 0), 1.0),
    (("exponents", 1), 0.0), (("exponents", 1), True), (("exponents", 1), "0"), (("output_exponent",), 0.5),
    (("mode",), "channel"), (("mode",), None), (("mode",), ["neuron"]), (("metrics",), None), (("metrics",), [[]]),
    (("metrics",), [[[1.0, 2.0]]]), (("metrics",), [[[1.0], [2.0]]]), (("metrics",), [1.0]), (("metrics",), {"0": []}),
    (("metrics",), [[[1.0, 2.0], [3.0, 1.0]]]), (("metrics",), [[["1"]]]), (("metrics",), [[[math.nan]]]),
    (("metrics",), "[[1.0]]"), (("metrics",), [[[True]]]),
    (("exponents",), 0), (("versions",), []), (("evidence",), []), (("claim",), "lipschitz"),
], ids=str)
def test_fields_of_another_kind_are_named_as_such(path, keys, value):
    write(path, put(body_of(path), keys, value))
    with pytest.raises(CertificateError, match="wrong kind"):
        load_certificate(path)


@pytest.mark.parametrize("key", ["claim", "model_digest", "exponents", "output_exponent", "multipliers", "evidence",
                                 "mode", "metrics"])
def test_a_missing_field_is_named(path, key):
    body = body_of(path)
    del body[key]
    write(path, body)
    with pytest.raises(CertificateError, match=key):
        load_certificate(path)


@pytest.mark.parametrize("change", [
    {"question": "contraction"}, {"norm_in": "linf"}, {"norm_out": "l1"}, {"region": "the unit ball"},
])
def test_other_claims_are_not_taken_for_this_one(path, change):
    body = body_of(path)
    write(path, put(body, ("claim",), {**body["claim"], **change}))
    with pytest.raises(CertificateError, match=r"l2.*" + next(iter(change.values()))):
        load_certificate(path)


def test_another_schema_is_refused_by_name(path):
    write(path, put(body_of(path), ("schema",), "netgain-certificate/3"))
    with pytest.raises(CertificateError, match="netgain-certificate/3"):
        load_certificate(path)


def test_a_resealed_lower_value_is_refused_by_the_proof(path, given):
    for factor in (1 - 1e-3, 1e-9, 0.0):
        write(path, put(body_of(path), ("claim", "value"), given.value * factor))
        assert check(load_certificate(path), TINY["mlp_relu"]).outcome is Outcome.NOT_PROVED


def test_a_resealed_digest_moves_the_claim_not_the_proof(path, given):
    graph = TINY["mlp_steep_elu"]
    write(path, put(body_of(path), ("model_digest",), graph.digest))
    assert check(load_certificate(path), graph).outcome is Outcome.NOT_PROVED
    assert check(load_certificate(path), TINY["mlp_relu"]).outcome is Outcome.OTHER_MODEL


@pytest.mark.parametrize("text", [
    "[" * 100_000, '{"a":' * 100_000, '{"schema": "netgain-certificate/2", "a": ' + "[" * 900 + "]" * 900 + "}",
    '{"schema": "netgain-certificate/2", "a": ' + "1" * 10_000 + "}", '{"schema": "netgain-certificate/2"}',
    "null", "NaN",
], ids=["lists", "objects", "deep", "digits", "bare", "null", "nan"])
def test_content_made_to_exhaust_the_reader_is_refused(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(CertificateError):
        load_certificate(tmp_path / "c.json")


def test_repeated_keys_cannot_hide_a_claim(path, given):
    """Python keeps the last of repeated keys, and seals that one."""
    text = path.read_text()
    path.write_text(text.replace("{", '{"claim": {"value": 1e-9},', 1))
    assert load_certificate(path).value == given.value
    path.write_text(text.rstrip()[:-1] + ', "claim": {"value": 1e-9}}')
    with pytest.raises(CertificateError, match="altered"):
        load_certificate(path)
