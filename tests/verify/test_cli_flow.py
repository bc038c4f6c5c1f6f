"""`netgain flow`: options, exit codes, certificate, picture, and its JSON."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from netgain.verify import cli
from netgain.verify.contractivity import flow_plot
from netgain.verify.outcomes import ExitCode
from typer.testing import CliRunner

A3 = np.array([[-1, 2, 0], [0, -1, 1.5], [-1, 0, -0.5]])
QUICK = ["--steps", "1,2", "--pieces", "2", "--time-limit", "20"]


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def model(tmp_path):
    np.savez(tmp_path / "ode.npz", A=A3, activation="leaky_relu:0.1")
    return Path("ode.npz")


def test_bounds_of_flow_and_networks_are_printed_and_certified(model):
    result = run("flow", model, "--time", "0.5", *QUICK)
    assert result.exit_code == ExitCode.PROVED
    assert result.stderr == ""
    gains = [float(value) for value in re.findall(r"(\d\.\d+) +>= G", result.stdout)]
    assert len(gains) == 3
    # The semidefinite bound and the exact value of mu, from all vertices.
    assert gains[0] == pytest.approx(np.exp(0.599506680 / 2), abs=1e-5)
    assert gains[1] == pytest.approx(np.exp(0.590259822 / 2), abs=1e-5)
    for steps, witness, slopes, certified in re.findall(r"^(\d+) +(\S+) +(\S+) +(\S+) ", result.stdout, re.M):
        assert steps in ("1", "2")
        assert float(witness) <= float(certified) * (1 + 1e-6)
        assert float(slopes) <= float(certified) * (1 + 1e-6)
    checked = run("check", "ode.flow.json", model)
    assert checked.exit_code == ExitCode.PROVED
    assert "so it holds for f" in checked.stdout


def test_the_json_fits_its_schema_and_the_check_agrees(model):
    result = run("flow", model, "--json", "--certificate", "c.json", *QUICK)
    content = json.loads(result.stdout)
    assert content.keys() == {"schema", "tool", "model", "question", "norm", "slopes", "time", "proved", "flow",
                              "networks", "seconds", "certificate", "plot", "notes"}
    assert content["schema"] == "netgain-flow-result/1"
    assert [network["steps"] for network in content["networks"]] == [1, 2]
    for bound in content["flow"]:
        assert bound["proved"]
        assert np.exp(bound["rate"] * content["time"]) == pytest.approx(bound["gain"])
    for network in content["networks"]:
        assert network["lower"] <= network["upper"]
        assert network["step"] * network["steps"] == pytest.approx(content["time"])
    checked = json.loads(run("check", "c.json", model, "--json").stdout)
    assert (checked["proved"], checked["value"], checked["time"]) == (True, content["flow"][-1]["gain"], 1.0)
    assert checked["digest"] == checked["certificate_digest"]


def test_certificates_of_other_matrices_or_forms_are_refused(model, tmp_path):
    run("flow", model, *QUICK)
    np.savez(tmp_path / "other.npz", A=1.01 * A3, activation="leaky_relu:0.1")
    np.savez(tmp_path / "layers.npz", A1=A3, A2=A3, activation="leaky_relu:0.1")
    for name in ("other.npz", "layers.npz"):
        result = run("check", "ode.flow.json", name, "--json")
        assert result.exit_code == ExitCode.REFUSED
        assert json.loads(result.stdout)["outcome"] == "other_matrices"
    np.savez(tmp_path / "wider.npz", A=A3, activation="leaky_relu:0.05")
    assert "only as far as they stay there" in run("check", "ode.flow.json", "wider.npz").stdout
    Path("cut.json").write_text(Path("ode.flow.json").read_text()[:-20])
    assert run("check", "cut.json", model).exit_code == ExitCode.REFUSED


@pytest.mark.parametrize("name", ["f.svg", "f.png"])
def test_the_picture_is_written(model, name):
    pytest.importorskip("matplotlib")
    content = json.loads(run("flow", model, "--plot", name, "--json", *QUICK).stdout)
    assert content["plot"] == name
    assert Path(name).stat().st_size > 1000


def test_without_matplotlib_a_picture_is_refused_before_the_work(model, monkeypatch):
    monkeypatch.setattr(flow_plot.importlib.util, "find_spec", lambda name: None)
    result = run("flow", model, "--plot", "f.svg")
    assert result.exit_code == ExitCode.USAGE
    assert "pip install 'netgain[plot]'" in result.stderr
    assert not Path("ode.flow.json").exists()


@pytest.mark.parametrize("options", [
    ["--time", "0"], ["--time", "nan"], ["--steps", "1,,2"], ["--steps", "0"], ["--steps", "1.5"], ["--steps", ""],
    ["--pieces", "0"], ["--plot", "f.txt"], ["--time-limit", "-1"]])
def test_wrong_options_are_usage_errors(model, options):
    result = run("flow", model, *options)
    assert result.exit_code == ExitCode.USAGE
    assert options[0] in result.stderr
    assert result.stdout == ""


def test_nothing_is_written_over_the_model(model):
    before = model.read_bytes()
    assert run("flow", model, "--certificate", model).exit_code == ExitCode.USAGE
    assert run("flow", model, "--plot", "none/f.svg").exit_code == ExitCode.USAGE
    assert model.read_bytes() == before


@pytest.mark.parametrize(("arrays", "text"), [
    ({"W1": np.ones((2, 3)), "layer2": "relu"}, "netgain verify"),
    ({"A": np.stack([A3, A3]), "times": np.arange(2.0), "lipschitz": 0.0, "activation": "tanh"},
     "netgain contractivity"),
])
def test_other_models_are_refused_with_the_command_for_them(tmp_path, arrays, text):
    np.savez(tmp_path / "other.npz", **arrays)
    result = run("flow", "other.npz")
    assert result.exit_code == ExitCode.MODEL
    assert text in result.stderr
