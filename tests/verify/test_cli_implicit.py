"""`netgain implicit` and `netgain check` on what it writes."""

import json

import numpy as np
import pytest
from netgain.verify import cli
from typer.testing import CliRunner

from ..solvers.implicit.implicit_bank import A1, B1, C1


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path):
    np.savez(tmp_path / "net.npz", A=A1, B=B1, C=C1, activation="relu")
    return tmp_path / "net.npz"


def test_everything_is_said_and_the_certificate_holds(model, tmp_path):
    target = tmp_path / "c.json"
    result = run("implicit", model, "--certificate", target)
    assert result.exit_code == 0
    for text in ("well-posed: exactly one solution", "mu_eta(D A) <= 0.56739", "1 - least mu_eta(A) > 0", "Picard",
                 "M-matrix", "semidefinite, by output", "semidefinite (LBEN)", "witness"):
        assert text in result.stdout
    checked = run("check", target, model)
    assert checked.exit_code == 0
    assert "8.6000" in checked.stdout
    assert "2.2742" in checked.stdout


def test_json_holds_the_same(model, tmp_path):
    target = tmp_path / "c.json"
    body = json.loads(run("implicit", model, "--json", "--certificate", target).stdout)
    assert body["schema"] == "netgain-implicit-result/1"
    assert body["verdict"] == "proved"
    assert body["layers"][0]["log_norm"] == pytest.approx(0.567399, abs=1e-6)
    conditions = {entry["condition"]: entry["holds"] for entry in body["layers"][0]["conditions"]}
    assert conditions == {"absolute": False, "log_norm": True, "monotone": True, "diagonal": True}
    gains = [gain for gain in body["gains"] if gain["norms"] == "l_inf -> l_inf" and gain["proved"]]
    upper = min(gain["value"] for gain in gains if gain["side"] == "upper")
    lower = max(gain["value"] for gain in gains if gain["side"] == "lower")
    assert lower <= 23 / 9 <= upper <= 2.63
    checked = json.loads(run("check", target, model, "--json").stdout)
    assert checked["proved"]
    assert checked["gains"]["linf_of_outputs"] == upper


@pytest.mark.parametrize(("option", "kept", "broken"), [("--below", 2.3, 2.2), ("--below-linf", 2.7, 2.5)])
def test_claims_decide_the_exit_code(model, tmp_path, option, kept, broken):
    for value, code in ((kept, 0), (broken, 1)):
        assert run("implicit", model, "--certificate", tmp_path / "c.json", option, value).exit_code == code


def test_ill_posed_networks_are_refuted_and_get_no_certificate(tmp_path):
    np.savez(tmp_path / "net.npz", A=[[2.0]], B=[[1.0]], C=[[1.0]])
    result = run("implicit", tmp_path / "net.npz", "--certificate", tmp_path / "c.json")
    assert result.exit_code == 1
    assert "not well-posed" in result.stdout
    assert "no diagonal metric exists" in result.stdout
    assert not (tmp_path / "c.json").exists()
    plain = run("verify", tmp_path / "net.npz", "--certificate", tmp_path / "v.json")
    assert plain.exit_code == 1
    assert "not proved well-posed" in plain.stdout
    assert "`netgain implicit` tells" in plain.stdout
    assert not (tmp_path / "v.json").exists()


def test_certificates_of_others_and_altered_ones_are_refused(model, tmp_path):
    target = tmp_path / "c.json"
    run("implicit", model, "--certificate", target)
    np.savez(tmp_path / "other.npz", A=A1 / 2, B=B1, C=C1)
    other = run("check", target, tmp_path / "other.npz")
    assert other.exit_code == 5
    assert "another network" in other.stderr
    body = json.loads(target.read_text())
    body["claim"]["linf_gain"] /= 2
    target.write_text(json.dumps(body))
    assert run("check", target, model).exit_code == 5


def test_usage(model, tmp_path):
    assert run("implicit", model, "--below", -1).exit_code == 2
    np.savez(tmp_path / "plain.npz", W1=np.eye(2))
    plain = run("implicit", tmp_path / "plain.npz", "--certificate", tmp_path / "c.json")
    assert plain.exit_code == 3
    assert "no implicit layer" in plain.stderr


def test_files_that_are_no_networks_are_refused_in_plain_words(tmp_path):
    np.savez(tmp_path / "nan.npz", A=np.full((2, 2), np.nan), B=B1, C=C1, activation="relu")
    (tmp_path / "text.npz").write_text("hello")
    for name, said in (("nan.npz", "file is damaged.\n"), ("text.npz", "it holds none.\n")):
        result = run("implicit", tmp_path / name)
        assert result.exit_code == 3
        assert result.stderr.endswith(said)
        assert "allow_pickle" not in result.stderr


def test_weights_whose_norms_leave_the_range_of_float64_are_open_in_valid_json(tmp_path):
    A = np.array([[0.02, -0.03, 0.13], [0.02, -0.11, 0.07], [0.26, 0.19, -0.14]]) * 1e300
    np.savez(tmp_path / "net.npz", A=A, B=np.eye(3), C=np.eye(3), activation="relu")
    result = run("implicit", tmp_path / "net.npz", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["verdict"] == "open"
