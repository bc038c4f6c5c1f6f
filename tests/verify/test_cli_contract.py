"""`netgain contract`: what is written and proved, options, exit codes, and its JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
from netgain import layers
from netgain.verify import cli
from netgain.verify.contractivity import contract as contract_module
from netgain.verify.outcomes import ExitCode
from typer.testing import CliRunner

A3 = np.array([[-1, 2, 0], [0, -1, 1.5], [-1, 0, -0.5]])


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def model(tmp_path):
    np.savez(tmp_path / "ode.npz", A=A3, b=np.arange(3.0), B=-0.01 * np.eye(3), activation="leaky_relu:0.1",
             about="a text")
    return Path("ode.npz")


@pytest.mark.parametrize("level", ["0", "-0.1"])
def test_the_weights_written_are_proved_to_keep_the_level(model, level):
    result = run("contract", model, "--output", "new.npz", "--level", level)
    assert result.exit_code == ExitCode.PROVED
    assert result.stderr == ""
    for text in ("cutting planes", "one inequality", "shift", "new.npz, by the method cutting planes"):
        assert text in result.stdout
    checked = run("check", "new.contractivity.json", "new.npz", "--json")
    assert json.loads(checked.stdout)["value"] == float(level)
    assert json.loads(checked.stdout)["proved"]
    verdict = json.loads(run("contractivity", "new.npz", "--level", level, "--json").stdout)
    assert verdict["verdict"] == "contractive"
    assert verdict["worst"]["upper"] == pytest.approx(float(level), abs=2e-4)


def test_only_the_weights_change(model):
    run("contract", model, "-o", "new.npz", "--method", "one-inequality")
    with np.load(model) as before, np.load("new.npz") as after:
        assert set(before) == set(after)
        for key in set(before) - {"A"}:
            assert np.array_equal(before[key], after[key])
        assert not np.array_equal(before["A"], after["A"])
    assert layers.load_field("new.npz").name == "new"


def test_the_json_fits_its_schema(model):
    content = json.loads(run("contract", model, "-o", "new.npz", "--certificate", "c.json", "--json").stdout)
    assert content.keys() == {"schema", "tool", "model", "question", "norm", "slopes", "level", "before", "size",
                              "methods", "proved", "written", "output", "certificate", "seconds"}
    assert content["schema"] == "netgain-contract-result/1"
    assert content["size"] == pytest.approx(np.linalg.norm(A3))
    assert (content["output"], content["certificate"], content["written"]) == ("new.npz", "c.json", "cutting planes")
    with np.load("new.npz") as after:
        distances = {found["method"]: found["distance"] for found in content["methods"]}
        assert np.linalg.norm(after["A"] - A3) == pytest.approx(distances["cutting planes"])
        assert distances["cutting planes"] == min(distances.values())


def test_what_was_found_before_an_interruption_is_written(model, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(contract_module, "nearest_contractive_weights", interrupted)
    content = json.loads(run("contract", model, "-o", "new.npz", "--json").stdout)
    assert content["written"] == "one inequality"
    assert content["methods"][-1]["note"] == "interrupted"
    assert run("check", "new.contractivity.json", "new.npz").exit_code == ExitCode.PROVED


def test_nothing_is_written_where_nothing_is_proved(tmp_path):
    np.savez(tmp_path / "relu.npz", A=A3, B=np.eye(3), activation="relu")
    result = run("contract", "relu.npz", "-o", "new.npz")
    assert result.exit_code == ExitCode.NOT_PROVED
    assert "slopes zero" in result.stderr
    assert not Path("new.npz").exists()


@pytest.mark.parametrize("options", [
    ["--level", "nan"], ["--output", "new.onnx"], ["--method", "banana"], ["--time-limit", "0"], ["--bogus"]])
def test_wrong_options_are_usage_errors(model, options):
    given = options if "--output" in options else [*options, "--output", "new.npz"]
    result = run("contract", model, *given)
    assert result.exit_code == ExitCode.USAGE
    assert options[0] in result.stderr
    assert not Path("new.npz").exists()
    assert run("contract", model).exit_code == ExitCode.USAGE


def test_nothing_is_written_over_the_model(model):
    before = model.read_bytes()
    assert run("contract", model, "-o", model).exit_code == ExitCode.USAGE
    assert run("contract", model, "-o", "new.npz", "--certificate", model).exit_code == ExitCode.USAGE
    assert run("contract", model, "-o", "none/new.npz").exit_code == ExitCode.USAGE
    assert model.read_bytes() == before


@pytest.mark.parametrize(("arrays", "text"), [
    ({"W1": np.ones((2, 3)), "layer2": "relu"}, "netgain verify"),
    ({"W1": A3, "layer2": "leaky_relu:0.1"}, "netgain contractivity"),
    ({"A1": A3, "A2": A3, "activation": "tanh"}, "netgain contractivity"),
])
def test_other_models_are_refused_with_the_command_for_them(tmp_path, arrays, text):
    np.savez(tmp_path / "other.npz", **arrays)
    result = run("contract", "other.npz", "-o", "new.npz")
    assert result.exit_code == ExitCode.MODEL
    assert text in result.stderr
    assert not Path("new.npz").exists()
