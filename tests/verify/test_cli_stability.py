"""`netgain stability`: exit codes, what is printed, JSON, and certificates that `netgain check` accepts or refuses."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from netgain import layers
from netgain.layers.formats import save_stable_npz
from netgain.layers.stable_block import StableBlock, StableNetwork
from netgain.verify import cli
from netgain.verify.outcomes import ExitCode
from netgain.verify.sealed_json import sealed
from typer.testing import CliRunner

A = np.array([[-0.7, 0.1], [0.1, -0.6]])
B = np.array([[1.0], [0.5]])


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def block(a=A, activation=None, depth=4):
    return StableBlock((a,), (B,), (), activation or layers.LeakyRelu(0.2), 1.0, depth)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def save(name, *parts):
    save_stable_npz(name, StableNetwork(parts, (1,), name))
    return name


def test_a_contracting_block_and_its_certificate():
    model = save("one.npz", block())
    result = run("stability", model, "--json")
    content = json.loads(result.stdout)
    assert (result.exit_code, content["stable"]) == (ExitCode.PROVED, True)
    found = content["blocks"][0]
    assert found["outcome"] == "contracting"
    least = np.linalg.eigvalsh(-A)[0]
    assert found["rate"] <= 1 - 0.2 * least + 1e-9
    kinds = {claim["kind"]: claim["value"] for claim in found["claims"]}
    exact = np.linalg.norm(np.linalg.solve(A, B), 2)
    assert kinds["equilibrium gain, l2"] == pytest.approx(exact, rel=1e-9)
    assert found["gain_at_least"] <= kinds["gain of the unrolled block, l2"] <= found["norm_product"]
    assert content["network"]["gain"] == kinds["gain of the unrolled block, l2"]
    checked = run("check", "one.stability.json", model, "--json")
    assert checked.exit_code == ExitCode.PROVED
    assert json.loads(checked.stdout)["proved"]
    assert "anew from the weights" in run("check", "one.stability.json", model).stdout


def test_a_claim_of_a_rate_decides_the_exit_code():
    model = save("one.npz", block())
    assert run("stability", model, "--rate", 0.95, "-q").exit_code == ExitCode.PROVED
    assert run("stability", model, "--rate", 0.5, "-q").exit_code == ExitCode.NOT_PROVED
    assert run("stability", model, "--rate", "-1").exit_code == ExitCode.USAGE


@pytest.mark.parametrize(("activation", "says"), [
    (layers.Relu(), "limits depend on the start"),
    (layers.Tanh(), "converge to the one equilibrium"),
    (layers.LeakyRelu(0.2), "exactly one equilibrium for every input"),
])
def test_what_holds_of_each_activation_is_said(activation, says):
    result = run("stability", save("one.npz", block(activation=activation)))
    assert result.exit_code == ExitCode.PROVED
    assert says in result.stdout


def test_an_unstable_block_comes_with_slopes_and_trajectories():
    result = run("stability", save("bad.npz", block(np.diag([0.2, -0.5]))))
    assert result.exit_code == ExitCode.NOT_PROVED
    assert "Disproved" in result.stdout
    assert "growth        1.19999" in result.stdout
    assert "trajectories" in result.stdout
    assert run("check", "bad.stability.json", "bad.npz").exit_code == ExitCode.PROVED


def test_a_stack_is_bounded_as_a_whole_and_by_its_parts():
    readout = layers.Affine(np.array([[1.0, -2.0]]))
    model = save("stack.npz", block(), readout, block(activation=layers.Relu()), readout)
    content = json.loads(run("stability", model, "--json").stdout)
    whole = content["network"]
    assert len(content["blocks"]) == 2
    assert 0 < whole["gain_at_least"] <= whole["gain"] <= whole["product_of_parts"] * (1 + 1e-6)
    expected = np.prod([min(c["value"] for c in b["claims"] if c["kind"].startswith("gain") and "l_inf" in c["kind"])
                        for b in content["blocks"]]) * 9
    assert whole["product_of_parts_infinity"] == pytest.approx(expected)
    assert run("check", "stack.stability.json", model).exit_code == ExitCode.PROVED


def altered(change):
    body = json.loads(Path("one.stability.json").read_text())
    body.pop("sha256")
    change(body)
    Path("altered.json").write_text(json.dumps(sealed(body)))
    return run("check", "altered.json", "one.npz", "--json")


def test_certificates_that_were_tampered_with_are_refused():
    model = save("one.npz", block())
    assert run("stability", model, "-q").exit_code == ExitCode.PROVED
    assert altered(lambda body: None).exit_code == ExitCode.PROVED
    text = Path("one.stability.json").read_text()
    Path("cut.json").write_text(text[: len(text) // 2])
    assert run("check", "cut.json", model).exit_code == ExitCode.REFUSED
    Path("unsealed.json").write_text(text.replace('"value": 0.', '"value": 0.0', 1))
    assert run("check", "unsealed.json", model).exit_code == ExitCode.REFUSED
    count = len(json.loads(text)["blocks"][0])
    for index in range(count):
        claim = json.loads(text)["blocks"][0][index]
        if claim["kind"] in ("convergence of every trajectory", "paper conditions"):
            continue

        def better(body, index=index):
            claim = body["blocks"][0][index]
            claim["value"] *= 1.1 if claim["kind"].startswith("growth") else 0.9

        result = altered(better)
        assert result.exit_code == ExitCode.REFUSED, claim["kind"]
        assert json.loads(result.stdout)["failed"] == [{"block": 1, "kind": claim["kind"]}]


@pytest.mark.parametrize("change", [
    lambda body: body["blocks"].append([]),
    lambda body: body["blocks"][0][0].pop("value"),
    lambda body: body["blocks"][0][0].update(kind="a kind that is not known"),
    lambda body: body["blocks"][0][0].update(value="1"),
    lambda body: body["blocks"][0][0].update(data={"eta": {"shape": [3], "numbers": [1.0]}}),
    lambda body: body.update(whole={"schema": "other"}),
    lambda body: body.update(model_digest="0" * 64),
])
def test_certificates_of_another_form_are_refused(change):
    run("stability", save("one.npz", block()), "-q")
    assert altered(change).exit_code == ExitCode.REFUSED


@pytest.mark.parametrize("where", [
    "netgain.verify.stability.search.prove_least_rate",  # in a search
    "netgain.verify.stability.unrolled.lipschitz",  # where the gain is bounded
    "netgain.verify.lipschitz.best_witness",  # where it is bounded from below
])
def test_ctrl_c_leaves_no_row_that_does_not_hold(where, monkeypatch):
    """What was not found has no row; later blocks are hurried, and all of them say why they know less."""
    module, name = where.rsplit(".", 1)
    original, pressed = getattr(sys.modules[module], name), []

    def press(*arguments, **options):
        if not pressed:
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments, **options)

    monkeypatch.setattr(sys.modules[module], name, press)
    readout = layers.Affine(np.array([[1.0, -2.0]]))
    model = save("stack.npz", block(), readout, block(activation=layers.Tanh()), readout)
    result = run("stability", model, "--certificate", "cut.json")
    assert pressed
    assert result.exit_code == ExitCode.INTERRUPTED
    assert "witness       0.0 " not in result.stdout
    assert result.stdout.count("Interrupted") >= 3  # of two blocks and the whole
    assert "inactive unit" not in result.stdout  # tanh has none
    assert "--time-limit" not in result.stdout
    assert run("check", "cut.json", model).exit_code == ExitCode.PROVED


def test_a_certificate_of_another_network_is_refused():
    run("stability", save("one.npz", block()), "-q")
    save("other.npz", block(depth=5))
    result = run("check", "one.stability.json", "other.npz")
    assert result.exit_code == ExitCode.REFUSED
    assert "digests differ" in result.stderr


def test_models_without_blocks_are_refused():
    np.savez("plain.npz", W1=np.eye(2))
    result = run("stability", "plain.npz")
    assert result.exit_code == ExitCode.MODEL
    assert "no block" in result.stderr
