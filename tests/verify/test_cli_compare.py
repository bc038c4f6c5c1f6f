"""`netgain compare`: kinds of models, options, exit codes, what is printed, and its JSON."""

import json

import numpy as np
import pytest
from netgain.verify import cli
from netgain.verify.outcomes import ExitCode
from typer.testing import CliRunner

FIRST_ROW = np.array([-1, 0.8, 0.4, 0, 0, -0.6])
CIRCULANT = np.array([np.roll(FIRST_ROW, k) for k in range(6)])


def run(*arguments):
    return CliRunner().invoke(cli.app, ["compare", *map(str, arguments)])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def field(tmp_path):
    np.savez(tmp_path / "ode.npz", A=CIRCULANT, activation="leaky_relu:0.1")
    return "ode.npz"


@pytest.fixture
def network(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "net.npz", W1=rng.standard_normal((4, 3)), W2=rng.standard_normal((2, 4)), activation="relu")
    return "net.npz"


def test_a_field_is_printed_with_its_wrong_verdict(field):
    result = run(field)
    assert result.exit_code == ExitCode.PROVED
    assert result.stderr == ""
    for text in ("gradient system", "branch and bound", "semidefinite", "cond(P)", "suggests <= 0", "exceeds 0",
                 "wrong         The gradient system ends at mu = -0.04"):
        assert text in result.stdout


def test_a_network_is_printed(network):
    result = run(network)
    assert result.exit_code == ExitCode.PROVED
    assert "none: all values agree" in result.stdout
    for text in ("witness", "slope system", "neuron", "closed form", "norm product"):
        assert text in result.stdout


@pytest.mark.parametrize("model", ["field", "network"])
def test_the_json_fits_its_schema(model, request):
    result = run(request.getfixturevalue(model), "--json")
    content = json.loads(result.stdout)
    assert content.keys() == {"schema", "tool", "model", "kind", "quantities", "rows", "findings"}
    assert content["schema"] == "netgain-comparison/1"
    assert content["model"].keys() == {"path", "sha256", "format", "name"}
    for row in content["rows"]:
        assert row.keys() == {"view", "quantity", "method", "value", "side", "proved", "seconds", "verdict", "note"}
        assert row["quantity"] in content["quantities"]
        assert row["side"] in ("lower", "upper", "exact")
        assert row["value"] is not None or (row["note"] and not row["proved"])
    assert {finding["severity"] for finding in content["findings"]} <= {"wrong", "unexpected"}


def test_options_of_fields(field):
    content = json.loads(run(field, "--json", "--level", "0.3", "--lower-slope", "0.5", "--most-condition", "1").stdout)
    rows = {(row["quantity"], row["method"]): row for row in content["rows"]}
    # In the Euclidean norm, which is what cond(P) = 1 leaves.
    assert rows["mu_P", "metric"]["value"] == pytest.approx(rows["mu", "semidefinite"]["value"], abs=1e-3)
    assert rows["mu", "branch and bound"]["verdict"] == "keeps <= 0.3"
    assert "[0.5, 1]" in content["kind"]
    assert not any("suggests that mu" in finding["text"] for finding in content["findings"])


@pytest.mark.parametrize(("model", "options"), [
    ("network", ["--level", "0"]), ("network", ["--lower-slope", "0"]), ("network", ["--most-condition", "2"]),
    ("field", ["--seed", "1"]), ("field", ["--level", "nan"]), ("field", ["--most-condition", "0.5"]),
    ("field", ["--lower-slope", "2"]), ("field", ["--time-limit", "0"]), ("field", ["--as", "banana"]),
    ("field", ["--bogus"])])
def test_wrong_options_are_usage_errors(model, options, request):
    result = run(request.getfixturevalue(model), *options)
    assert result.exit_code == ExitCode.USAGE
    assert options[0] in result.stderr
    assert result.stdout == ""


def test_a_network_is_taken_as_a_field_only_if_asked(tmp_path):
    np.savez(tmp_path / "square.npz", W1=CIRCULANT, layer2="leaky_relu:0.1")
    assert "L: the least number" in run("square.npz").stdout
    as_field = run("square.npz", "--as", "field", "--json")
    assert as_field.exit_code == ExitCode.PROVED
    np.savez(tmp_path / "ode.npz", A=CIRCULANT, activation="leaky_relu:0.1")
    values = [[row["value"] for row in json.loads(text)["rows"] if row["quantity"] == "mu"]
              for text in (as_field.stdout, run("ode.npz", "--json").stdout)]
    assert values[0] == values[1]
    assert "L: the least number" in run("ode.npz", "--as", "network").stdout


def test_models_of_the_wrong_kind_are_refused_with_the_command_for_them(network, tmp_path):
    result = run(network, "--as", "field")
    assert result.exit_code == ExitCode.MODEL
    assert "takes 3 numbers and gives 2" in result.stderr
    assert "netgain verify" in result.stderr
    np.savez(tmp_path / "time.npz", A=np.stack([CIRCULANT] * 2), times=np.arange(2.0), lipschitz=0.0, activation="relu")
    result = run("time.npz", "--as", "network")
    assert result.exit_code == ExitCode.MODEL
    assert "netgain contractivity" in result.stderr


@pytest.mark.parametrize("name", ["missing.npz", "missing.onnx", "text.txt"])
def test_files_that_cannot_be_read(name, tmp_path):
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "broken.npz").write_text("text")
    for path in (name, "broken.npz"):
        result = run(path)
        assert result.exit_code == ExitCode.MODEL
        assert path in result.stderr
        assert "Traceback" not in result.stderr
