"""`netgain robustness`: options, exit codes, certificate, and its JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
from netgain.verify import cli
from netgain.verify.outcomes import ExitCode
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--attack-steps", "10", "--attack-restarts", "2", "--radii", "0.05,0.2"]


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    rng = np.random.default_rng(0)
    np.savez("net.npz", W1=rng.standard_normal((6, 4)), b1=rng.standard_normal(6), W2=rng.standard_normal((3, 6)),
             b2=rng.standard_normal(3), activation="relu")
    np.savez("data.npz", x=rng.standard_normal((20, 4)), y=rng.integers(3, size=20))


def test_radii_are_printed_certified_and_checked():
    result = run("robustness", "net.npz", "--data", "data.npz", "--limit", "8", *QUICK)
    assert result.exit_code == ExitCode.PROVED, result.output
    assert result.stderr == ""
    assert "8 of 20 samples" in result.stdout
    assert "units of the input" in result.stdout
    checked = run("check", "net.robustness.json", "net.npz")
    assert checked.exit_code == ExitCode.PROVED
    assert "radii proved" in checked.stdout
    other = run("check", "net.robustness.json", ROOT / "experiments/models/digits_mlp.onnx")
    assert other.exit_code == ExitCode.REFUSED


def test_the_json_has_the_documented_keys_and_the_check_agrees():
    content = json.loads(run("robustness", "net.npz", "--data", "data.npz", "--json", *QUICK).stdout)
    assert content.keys() == {
        "schema", "tool", "model", "data", "question", "norm", "units", "mode", "proved", "upper", "pairs",
        "clean_accuracy", "curve", "samples", "searched_locally", "regions", "seed", "seconds",
        "certificate", "interrupted", "notes"}
    assert content["schema"] == "netgain-robustness-result/1"
    assert [pair["outputs"] for pair in content["pairs"]] == [[0, 1], [0, 2], [1, 2]]
    assert all(pair["upper"] <= 2**0.5 * content["upper"] * (1 + 1e-12) for pair in content["pairs"])
    assert [point["radius"] for point in content["curve"]] == [0.05, 0.2]
    for point in content["curve"]:
        right = [s for s in content["samples"] if s["class"] == s["label"] and s["class_proved"]]
        assert point["certified"] == sum(s["radius"] >= point["radius"] for s in right) / 20
        assert point["certified"] <= point["attacked"]
    checked = json.loads(run("check", content["certificate"], "net.npz", "--json").stdout)
    assert (checked["proved"], checked["outcome"], checked["samples"]) == (True, "proved", 20)


def test_local_slopes_raise_radii_and_bound_regions():
    arguments = ["robustness", "net.npz", "--data", "data.npz", "--limit", "4", *QUICK]
    arguments += ["--local", "2", "--radius", "0.1"]
    content = json.loads(run(*arguments, "--json").stdout)
    assert content["searched_locally"] == 2
    assert [region["index"] for region in content["regions"]] == [0, 1]
    for region in content["regions"]:
        assert (region["shape"], region["radius"]) == ("ball", 0.1)
        assert region["lower"] <= region["upper"] <= content["upper"]
    for sample in content["samples"]:
        assert sample["radius"] >= sample["global_radius"]
    shown = run(*arguments, "--region", "box")
    assert shown.exit_code == ExitCode.PROVED
    assert "L on a box of radius 0.1" in shown.stdout
    checked = run("check", "net.robustness.json", "net.npz")
    assert checked.exit_code == ExitCode.PROVED
    assert "box of radius 0.1; proved" in checked.stdout


def test_what_was_tampered_with_is_refused():
    run("robustness", "net.npz", "--data", "data.npz", *QUICK)
    path = Path("net.robustness.json")
    path.write_text(path.read_text().replace('"class": 1', '"class": 2', 1))
    result = run("check", path, "net.npz", "--json")
    assert result.exit_code == ExitCode.REFUSED
    assert not json.loads(result.stdout)["proved"]


@pytest.mark.parametrize(("options", "message"), [
    (["--radii", "0.1,x"], "--radii"), (["--radii", "-1"], "--radii"), (["--radii", "nan"], "--radii"),
    (["--limit", "0"], "--limit"), (["--scale", "0"], "--scale"), (["--time-limit", "0"], "--time-limit"),
    (["--tolerance", "2"], "--tolerance"), (["--labels", "data.npz"], "holds its own labels"),
    (["--radius", "0.1"], "--local"), (["--radius", "-1", "--local", "1"], "--radius"), (["--region", "x"], "--region"),
    (["--data", "none.npz"], "No such file"), (["--mode", "other"], "--mode"),
    (["--certificate", "nowhere/c.json"], "cannot be written"),
])
def test_misuse_is_explained(options, message):
    result = run("robustness", "net.npz", "--data", "data.npz", *options)
    assert result.exit_code == ExitCode.USAGE
    assert message in result.stderr


def test_models_that_are_none_and_data_of_other_networks():
    assert run("robustness", "data.csv", "--data", "data.npz").exit_code == ExitCode.MODEL
    np.savez("one.npz", W1=np.ones((1, 4)), b1=np.zeros(1), activation="relu")
    np.savez("zeros.npz", x=np.zeros((2, 4)), y=np.zeros(2, int))
    assert run("robustness", "one.npz", "--data", "zeros.npz").exit_code == ExitCode.MODEL
    result = run("robustness", "net.npz", "--data", ROOT / "experiments/models/digits_held_out.npz")
    assert result.exit_code == ExitCode.USAGE
    assert "do not fit the network" in result.stderr
