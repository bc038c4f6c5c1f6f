"""`netgain contractivity`: options, exit codes, certificates, what is printed, and its JSON against the schema."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
from netgain.verify import cli
from netgain.verify.outcomes import ExitCode
from typer.testing import CliRunner

A3 = np.array([[-1, 2, 0], [0, -1, 1.5], [-1, 0, -0.5]])
# The worst logarithmic norm of A3 over slopes in [0.1, 1], by all eight vertices.
WORST = 0.5902598224862
NUMBER = (int, float)
RESULT = {
    "schema": str,
    "tool": {"name": str, "version": str},
    "model": {"path": str, "sha256": str, "format": str, "digest": str, "size": int, "form": str,
              "activation_slopes": list},
    "question": str,
    "norm": str,
    "slopes": list,
    "level": NUMBER,
    "verdict": str,
    "proved": bool,
    "worst": {"upper": NUMBER, "upper_decimal": str, "lower": NUMBER, "lower_decimal": str, "slopes": list,
              "semidefinite": NUMBER, "gradient": NUMBER, "closed_form": NUMBER, "norm_bound": NUMBER},
    "gradient_is_wrong": bool,
    "interval": {"high": NUMBER, "low": NUMBER, "semidefinite": NUMBER, "gradient": NUMBER},
    "search": {"status": str, "nodes": int},
    "log_gain": type(None),
    "seconds": {stage: NUMBER for stage in ("import", "gradient", "relax", "search", "interval", "total")},
    "certificate": str,
    "interval_certificate": str,
    "notes": list,
}


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def asked(*arguments):
    result = run("contractivity", *arguments, "--json")
    return json.loads(result.stdout), result.exit_code


def fits(content, schema):
    if isinstance(schema, dict):
        return content.keys() == schema.keys() and all(fits(content[key], schema[key]) for key in schema)
    return isinstance(content, schema)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def model(tmp_path):
    np.savez(tmp_path / "ode.npz", A=A3, b=np.ones(3), activation="leaky_relu:0.1")
    return tmp_path / "ode.npz"


def test_all_bounds_are_printed_and_certified(model):
    result = run("contractivity", model)
    assert result.exit_code == ExitCode.PROVED
    assert result.stderr == ""
    found = {label: float(value) for label, value in re.findall(r"^([a-z ]+?) {2,}(\d\S+) +\S", result.stdout, re.M)}
    assert found["gradient"] <= found["worst slopes"] <= WORST <= found["certified"] <= found["semidefinite"]
    assert found["semidefinite"] <= min(found["closed form"], found["norm bound"])
    for text in ("slopes in [0.1, 1]", "optimistic", "Disproved", "ode.contractivity.json"):
        assert text in result.stdout
    checked = run("check", "ode.contractivity.json", model)
    assert checked.exit_code == ExitCode.PROVED
    assert "within, so it holds for f" in checked.stdout


def test_the_json_result_fits_its_schema(model):
    content, code = asked(model, "--level", "0.6")
    assert code == ExitCode.PROVED
    assert fits(content, RESULT)
    assert content["schema"] == "netgain-contractivity-result/1"
    assert content["worst"]["lower"] <= WORST + 1e-12
    assert float(content["worst"]["upper_decimal"]) >= content["worst"]["upper"] >= WORST
    slopes = np.array(content["worst"]["slopes"][0])
    matrix = slopes[:, None] * A3
    assert np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1] == pytest.approx(content["worst"]["lower"], abs=1e-9)


@pytest.mark.parametrize(("level", "code", "verdict"), [
    (0.6, ExitCode.PROVED, "contractive"), (0.59, ExitCode.NOT_PROVED, "not_contractive"),
    (-1.0, ExitCode.NOT_PROVED, "not_contractive")])
def test_the_exit_code_is_about_the_level(model, level, code, verdict):
    content, ended = asked(model, "--level", level)
    assert (ended, content["verdict"]) == (code, verdict)
    assert content["proved"]


def test_without_a_claim_a_bound_is_enough(model):
    content, code = asked(model)
    assert (code, content["verdict"], content["level"]) == (ExitCode.PROVED, "not_contractive", 0.0)
    assert content["interval_certificate"] is None  # mu(A3) > 0: no slope interval up to 1 keeps the level 0


def test_other_slopes_than_the_activations(model):
    """mu*(0.5) of A3 is 0.336029519; below the activation's lower slope it says nothing of f, and that is said."""
    content, _ = asked(model, "--lower-slope", "0.5")
    assert content["slopes"] == [0.5, 1.0]
    assert content["model"]["activation_slopes"] == [0.1, 1.0]
    assert content["worst"]["lower"] <= 0.336029519 + 1e-9
    assert content["worst"]["upper"] == pytest.approx(0.336029519, abs=1e-5)
    assert "reach over [0.1, 1]" in run("contractivity", model, "--lower-slope", "0.5").stdout
    assert "not all within" in run("check", "ode.contractivity.json", model).stdout
    assert "reach over" not in run("contractivity", model, "--lower-slope", "0").stdout


def test_the_slope_interval_is_certified(tmp_path):
    """A3 - 0.9 I keeps the level 0 from m = 0.304985519 on."""
    np.savez(tmp_path / "shifted.npz", A=A3 - 0.9 * np.eye(3), activation="relu")
    content, _ = asked("shifted.npz", "--certificate", "c.json")
    assert content["interval"]["low"] <= 0.304985519 + 1e-8
    assert 0.304985519 - 1e-8 <= content["interval"]["high"] <= 0.304985519 + 3e-6
    assert content["interval"]["high"] <= content["interval"]["semidefinite"] <= 0.30676
    assert content["interval"]["gradient"] <= content["interval"]["high"]
    assert (content["certificate"], content["interval_certificate"]) == ("c.json", "c.interval.json")
    for name, value in (("c.json", content["worst"]["upper"]), ("c.interval.json", 0.0)):
        checked = json.loads(run("check", name, "shifted.npz", "--json").stdout)
        assert (checked["schema"], checked["proved"], checked["value"]) == ("netgain-check/1", True, value)
    assert checked["slopes"] == [content["interval"]["high"], 1.0]


def test_a_feedforward_network_is_a_field(tmp_path):
    nodes = [onnx.helper.make_node("Gemm", ["u", "A", "b"], ["v"], transB=1),
             onnx.helper.make_node("LeakyRelu", ["v"], ["y"], alpha=0.125)]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3]) for name in "uy"]
    arrays = [onnx.numpy_helper.from_array(values.astype(np.float32), name)
              for name, values in (("A", A3), ("b", np.ones(3)))]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], arrays)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), "ode.onnx")
    np.savez(tmp_path / "same.npz", A=A3, activation="leaky_relu:0.125")
    results = [asked(name)[0] for name in ("ode.onnx", "same.npz")]
    assert results[0]["worst"] == results[1]["worst"]
    assert results[0]["slopes"] == [0.125, 1.0]
    assert run("check", "same.contractivity.json", "ode.onnx").exit_code == ExitCode.PROVED


@pytest.mark.parametrize("options", [
    ["--level", "nan"], ["--level", "inf"], ["--lower-slope", "nan"], ["--lower-slope", "1.5"], ["--tolerance", "2"],
    ["--time-limit", "0"], ["--jobs", "0"], ["--bogus"]])
def test_wrong_options_are_usage_errors(model, options):
    result = run("contractivity", model, *options)
    assert result.exit_code == ExitCode.USAGE
    assert options[0] in result.stderr
    assert result.stdout == ""
    assert not list(Path.cwd().glob("*.json"))


@pytest.mark.parametrize(("arrays", "text"), [
    ({"A": A3}, "`activation` is missing"),
    ({"W1": np.ones((2, 3)), "layer2": "relu"}, "takes 3 numbers and gives 2"),
    ({"A": A3, "activation": "group_sort:3"}, "relates several neurons"),
    ({"nothing": A3}, "not understood"),
])
def test_models_that_are_no_field(tmp_path, arrays, text):
    np.savez(tmp_path / "wrong.npz", **arrays)
    result = run("contractivity", "wrong.npz")
    assert result.exit_code == ExitCode.MODEL
    assert text in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("arrays", "code"), [
    ({"A": 1e120 * A3}, ExitCode.MODEL),
    ({"A": np.stack([1e120 * A3, 1e120 * A3]), "times": np.arange(2.0), "lipschitz": 1.0}, ExitCode.MODEL),
    ({"A1": 1e200 * A3, "A2": 1e200 * A3}, ExitCode.NUMERICAL),
])
def test_numbers_out_of_reach_are_told(tmp_path, arrays, code):
    np.savez(tmp_path / "large.npz", activation="leaky_relu:0.1", **arrays)
    result = run("contractivity", "large.npz")
    assert result.exit_code == code
    assert "fault of netgain" not in result.stderr
    assert result.stderr


def test_certificates_are_not_written_over_the_model(model):
    before = model.read_bytes()
    assert run("contractivity", model, "--certificate", model).exit_code == ExitCode.USAGE
    assert run("contractivity", model, "--certificate", "none/c.json").exit_code == ExitCode.USAGE
    assert model.read_bytes() == before


def test_certificates_of_other_matrices_or_altered_are_refused(model, tmp_path):
    asked(model)
    np.savez(tmp_path / "other.npz", A=A3 + np.eye(3), activation="leaky_relu:0.1")
    result = run("check", "ode.contractivity.json", "other.npz", "--json")
    assert result.exit_code == ExitCode.REFUSED
    assert json.loads(result.stdout)["outcome"] == "other_matrices"
    assert "digests differ" in result.stderr
    text = Path("ode.contractivity.json").read_text()
    Path("altered.json").write_text(re.sub(r'"level": [\d.]+', '"level": 0.1', text))
    result = run("check", "altered.json", model, "--json")
    assert result.exit_code == ExitCode.REFUSED
    assert json.loads(result.stdout)["outcome"] == "unreadable"


def test_the_gradient_systems_wrong_verdict_is_told(tmp_path):
    """The circulant for which the gradient system ends at -0.04, although the worst slopes reach 0.1748."""
    row = np.array([-1, 0.8, 0.4, 0, 0, -0.6])
    np.savez(tmp_path / "circulant.npz", A=np.array([np.roll(row, k) for k in range(6)]), activation="leaky_relu:0.1")
    content, _ = asked("circulant.npz")
    assert content["gradient_is_wrong"]
    assert content["worst"]["gradient"] == pytest.approx(-0.04)
    assert content["worst"]["upper"] == pytest.approx(0.174782145, abs=1e-5)
    assert "verdict is wrong" in run("contractivity", "circulant.npz").stdout
