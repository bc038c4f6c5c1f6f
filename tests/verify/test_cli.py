"""The command line in this process: options, exit codes, and what is said where."""

import dataclasses
import errno
import itertools
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import psutil
import pytest
from netgain import layers
from netgain.layers.formats import save_npz
from netgain.solvers.result import Solution, Status
from netgain.verify import Certificate, cli, lipschitz, load_certificate
from netgain.verify.outcomes import ExitCode, failures_explained
from typer.testing import CliRunner, Result

TINY = {"W1": np.array([[1.0], [1.0]]), "b1": np.array([1.0, -1.0]), "W2": np.array([[1.0, -1.0]])}


# The package exports a function of the same name as this module.
QUESTION = sys.modules["netgain.verify.neuron"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates go to the working directory by default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """f(x) = relu(x + 1) - relu(x - 1), whose constant is 1."""
    np.savez(tmp_path / "tiny.npz", activation="relu", **TINY)
    return tmp_path / "tiny.npz"


def random_model(path: Path, widths: list[int]) -> Path:
    rng = np.random.default_rng(5)
    chain: list[layers.Layer] = []
    for columns, rows in itertools.pairwise(widths):
        chain += [layers.Affine(rng.standard_normal((rows, columns)) / math.sqrt(columns)), layers.Relu()]
    save_npz(path, layers.sequential((widths[0],), chain[:-1]))
    return path


def test_verify_shows_graph_meaning_bracket_and_certificate(model: Path) -> None:
    result = run("verify", model)
    assert result.exit_code == ExitCode.PROVED
    assert result.stderr == ""
    for text in ("Affine 1 -> 2", "Relu", "for all inputs", "Euclidean norms", "real arithmetic", "certified",
                 "witness", "norm product", "gap", "tiny.certificate.json"):
        assert text in result.stdout
    assert run("check", "tiny.certificate.json", model).exit_code == ExitCode.PROVED


def test_lipschitz_leaves_the_graph_out(model: Path) -> None:
    result = run("lipschitz", model)
    assert result.exit_code == ExitCode.PROVED
    assert "Affine" not in result.stdout
    assert result.stdout.startswith("tiny")


def test_printed_numbers_are_on_the_safe_side(model: Path) -> None:
    content = json.loads(run("verify", model, "--json").stdout)
    assert float(content["upper_decimal"]) >= content["upper"] >= 1.0
    assert float(content["lower"]["decimal"]) <= content["lower"]["value"] <= 1.0


@pytest.mark.parametrize("solver", ["interior-point", "dual-scaling", "closed-form", "clarabel", "scs", "auto"])
def test_every_solver_is_proved_alike(model: Path, solver: str) -> None:
    result = run("lipschitz", model, "--solver", solver, "--json")
    assert result.exit_code == ExitCode.PROVED
    assert 1.0 <= json.loads(result.stdout)["upper"] <= 2.1


@pytest.mark.parametrize("form", ["chain", "one-block"])
def test_forms_of_the_conic_problem(model: Path, form: str) -> None:
    assert run("lipschitz", model, "--solver", "clarabel", "--form", form).exit_code == ExitCode.PROVED


def test_quiet_and_seed(model: Path) -> None:
    result = run("verify", model, "--quiet", "--seed", 7, "--json")
    assert result.stderr == ""
    assert json.loads(result.stdout)["seed"] == 7


@pytest.mark.parametrize(("below", "code", "verdict"), [
    (3.0, ExitCode.PROVED, "proved"), (0.5, ExitCode.NOT_PROVED, "disproved"), (1.0, ExitCode.NOT_PROVED, "open")])
def test_claims(model: Path, below: float, code: ExitCode, verdict: str) -> None:
    result = run("verify", model, "--below", below, "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout)["claim"] == {"below": below, "verdict": verdict}


@pytest.mark.parametrize("options", [
    ["--tolerance", "2"], ["--tolerance", "0"], ["--tolerance", "nan"], ["--tolerance", "x"], ["--time-limit", "0"],
    ["--time-limit", "nan"], ["--solver", "simplex"], ["--seed", "-1"], ["--below", "nan"], ["--below", "-1"],
    ["--form", "chain"], ["--bogus"]])
def test_wrong_options_are_usage_errors(model: Path, options: list[str]) -> None:
    result = run("verify", model, *options)
    assert result.exit_code == ExitCode.USAGE
    assert result.stdout == ""
    assert options[0].split("=")[0] in result.stderr
    assert not list(Path.cwd().glob("*.certificate.json"))


def test_a_solver_that_is_not_there(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netgain.solvers.availability.importlib.util.find_spec", lambda name: None)
    result = run("verify", model, "--solver", "mosek")
    assert result.exit_code == ExitCode.USAGE
    assert "pip install mosek" in result.stderr
    assert "Clarabel" in result.stderr


def unsupported(path: Path) -> None:
    make = onnx.helper.make_node
    nodes = [make("Sin", ["x"], ["a"], name="wave"), make("Cos", ["a"], ["y"], name="swell")]
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", value[:1], value[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), path)


def write(path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("not a model")
    elif kind == "nan":
        np.savez(path, W1=np.array([[np.nan]]))
    elif kind == "unsupported":
        unsupported(path)


@pytest.mark.parametrize(("name", "kind", "told"), [
    ("none.onnx", "nothing", "does not exist"), ("folder.onnx", "folder", "folder"), ("empty.onnx", "empty", "empty"),
    ("weights.pkl", "text", "pickles"), ("cut.onnx", "text", "no ONNX model"), ("cut.npz", "text", "archive"),
    ("nan.npz", "nan", "NaN"), ("odd.onnx", "unsupported", "Sin"), ("odd.onnx", "unsupported", "Cos"),
    ("model.xyz", "text", ".nnet")])
@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_models_that_cannot_be_read(command: str, name: str, kind: str, told: str) -> None:
    write(Path(name), kind)
    result = run(command, name)
    assert result.exit_code == ExitCode.MODEL
    assert result.stdout == ""
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_the_system_refuses_to_open(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(cli.layers, "load", refuse)
    result = run("verify", model)
    assert result.exit_code == ExitCode.MODEL
    assert "Permission denied" in result.stderr


@pytest.mark.parametrize(("target", "told"), [
    ("missing/c.json", "No such file"), (".", "not a regular file"), ("tiny.npz", "it is the model"),
    ("/dev/null", "not a regular file")])
def test_a_certificate_that_cannot_be_written_stops_before_the_solve(
    model: Path, target: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "bound_lipschitz", lambda *_, **__: pytest.fail("solved"))
    before = model.read_bytes()
    result = run("verify", model, "--certificate", target)
    assert result.exit_code == ExitCode.USAGE
    assert told in result.stderr
    assert model.read_bytes() == before


def test_a_full_disk_does_not_cost_the_result(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Certificate, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Certificate, "save", full)
    result = run("verify", model, "--json")
    assert result.exit_code == ExitCode.USAGE
    assert "No space left" in result.stderr
    content = json.loads(result.stdout)
    assert content["proved"]
    assert content["certificate"] is None


@pytest.mark.parametrize(("error", "code", "told"), [
    (MemoryError(), ExitCode.NUMERICAL, "--solver closed-form"),
    (OverflowError("too large"), ExitCode.NUMERICAL, "too large"),
    (np.linalg.LinAlgError("singular"), ExitCode.NUMERICAL, "singular"),
    (KeyboardInterrupt(), ExitCode.INTERRUPTED, "Interrupted"),
    (RuntimeError("odd"), ExitCode.NUMERICAL, "fault of netgain")])
def test_failures_on_the_way(
    model: Path, error: BaseException, code: ExitCode, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "bound_lipschitz", fail)
    result = run("verify", model)
    assert result.exit_code == code
    assert result.stdout == ""
    assert told in result.stderr
    assert not Path("tiny.certificate.json").exists()


def test_a_solve_that_does_not_fit_names_what_does(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=900))
    result = run("verify", model, "--solver", "interior-point")
    assert result.exit_code == ExitCode.NUMERICAL
    assert "ClosedForm" in result.stderr
    assert "--solver auto" in result.stderr
    result = run("verify", model)
    assert result.exit_code == ExitCode.PROVED
    assert "closed form" in result.stdout


def test_weights_beyond_double_precision_prove_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "huge.npz", W1=np.full((2, 2), 1e300), W2=np.full((2, 2), 1e300), activation="relu")
    result = run("verify", tmp_path / "huge.npz")
    assert result.exit_code in (ExitCode.NOT_PROVED, ExitCode.NUMERICAL)
    assert "Traceback" not in result.stderr


def test_nothing_proved_is_said_and_no_number_is_printed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QUESTION, "prove", lambda *_, **__: None)
    result = run("verify", model)
    assert result.exit_code == ExitCode.NOT_PROVED
    assert "L may be any number" in result.stdout
    content = json.loads(run("verify", model, "--json").stdout)
    assert content["upper"] is None
    assert not content["proved"]


def test_a_solver_without_multipliers_is_a_numerical_failure(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Solution(status=Status.FAILED, bound=math.inf, dual_bound=0.0, multipliers=(), iterations=0, seconds=0.0,
                      solver="scs", version="0")
    monkeypatch.setattr(QUESTION, "prove", lambda *_, **__: None)
    monkeypatch.setattr("netgain.solvers.interior_point.InteriorPoint.solve", lambda *_, **__: failed)
    assert run("verify", model).exit_code == ExitCode.NUMERICAL


def test_a_tiny_time_limit_still_proves(tmp_path: Path) -> None:
    path = random_model(tmp_path / "deep.npz", [8, *[32] * 6, 4])
    result = run("verify", path, "--time-limit", 1e-3, "--json")
    assert result.exit_code == ExitCode.PROVED
    content = json.loads(result.stdout)
    assert content["solver"]["status"] == "time_limit"
    assert content["lower"]["value"] <= content["upper"] <= content["norm_product"] * (1 + 1e-6)
    assert run("check", content["certificate"], path).exit_code == ExitCode.PROVED


def test_check_says_what_it_proved(model: Path) -> None:
    run("lipschitz", model, "--certificate", "c.json")
    result = run("check", "c.json", model)
    assert result.exit_code == ExitCode.PROVED
    assert "for all inputs" in result.stdout
    content = json.loads(run("check", "c.json", model, "--json").stdout)
    assert content["proved"]
    assert content["value"] == load_certificate("c.json").value


def test_the_certificate_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    run("lipschitz", model, "--certificate", "c.json")
    other = random_model(tmp_path / "other.npz", [1, 2, 1])
    result = run("check", "c.json", other)
    assert result.exit_code == ExitCode.REFUSED
    assert "another network" in result.stderr
    assert result.stdout == ""
    content = json.loads(run("check", "c.json", other, "--json").stdout)
    assert (content["proved"], content["outcome"]) == (False, "other_model")


def test_a_lowered_value_is_refused(model: Path) -> None:
    run("lipschitz", model, "--certificate", "c.json")
    dataclasses.replace(load_certificate("c.json"), value=0.9).save("low.json")
    result = run("check", "low.json", model)
    assert result.exit_code == ExitCode.REFUSED
    assert "do not prove" in result.stderr


@pytest.mark.parametrize("content", ["", "{}", "{", "[1]", "\\x00", '{"schema": "netgain-certificate/2"}'])
def test_damaged_certificates_are_refused(model: Path, content: str) -> None:
    Path("c.json").write_text(content)
    result = run("check", "c.json", model, "--json")
    assert result.exit_code == ExitCode.REFUSED
    assert "Traceback" not in result.stderr
    assert json.loads(result.stdout)["outcome"] == "unreadable"


def test_a_truncated_or_missing_certificate_is_refused(model: Path) -> None:
    run("lipschitz", model, "--certificate", "c.json")
    text = Path("c.json").read_text()
    Path("c.json").write_text(text[: len(text) // 2])
    assert run("check", "c.json", model).exit_code == ExitCode.REFUSED
    assert run("check", "none.json", model).exit_code == ExitCode.REFUSED


def test_inspect_and_doctor_print_json(model: Path) -> None:
    content = json.loads(run("inspect", model, "--json").stdout)
    assert content["schema"] == "netgain-inspection/1"
    assert content["predictions"][0]["multipliers"] == content["neurons"] == 2
    content = json.loads(run("doctor", "--json").stdout)
    assert content["schema"] == "netgain-doctor/1"
    assert content["solvers"]["scs"]["usable"]


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith("netgain ")
    assert run("--help").exit_code == 0
    for command in ("verify", "lipschitz", "check", "inspect", "doctor"):
        assert command in run("--help").stdout
        assert run(command, "--help").exit_code == 0


def test_the_report_is_that_of_the_library(model: Path) -> None:
    content = json.loads(run("verify", model, "--json").stdout)
    assert lipschitz(layers.load(model)).upper == content["upper"]


def test_a_broken_pipe_is_left_to_the_shell() -> None:
    with pytest.raises(BrokenPipeError), failures_explained():
        raise BrokenPipeError
