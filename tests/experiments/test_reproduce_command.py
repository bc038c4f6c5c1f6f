"""`netgain reproduce`: what is listed, what is refused and why, and a small entry from end to end."""

import csv
import io
import json

import numpy as np
import pytest
import scipy.io
from netgain.experiments.reproduce import context, registry
from netgain.experiments.reproduce.entries import contractivity_chi
from netgain.experiments.reproduce.registry import Entry, entries
from netgain.experiments.reproduce.table import Source
from netgain.layers import Affine, Relu, sequential
from netgain.verify import cli, lipschitz
from netgain.verify.outcomes import ExitCode
from typer.testing import CliRunner


def run(*arguments):
    return CliRunner().invoke(cli.app, ["reproduce", *map(str, arguments)], env={"COLUMNS": "300"})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def authors(tmp_path):
    """A folder in the layout of the authors', with two small networks that are generated here."""
    folder = tmp_path / "weights"
    (folder / "digits").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for seed in (0, 1):
        weights = {"fc1_weight": rng.standard_normal((64, 4)), "fc1_bias": rng.standard_normal((1, 4)),
                   "fc2_weight": rng.standard_normal((4, 10)), "fc2_bias": rng.standard_normal((1, 10))}
        scipy.io.savemat(folder / "digits" / f"fnn2_seed{seed}_weights.mat", weights)
    return folder


@pytest.mark.parametrize("entry", entries().values(), ids=lambda entry: entry.name)
def test_every_entry_says_where_it_is_from_and_what_it_takes(entry):
    assert entry.source.paper
    assert entry.source.table
    assert entry.source.arxiv
    if entry.run is None:
        assert entry.obstacle
    else:
        assert entry.needs.minutes > 0
        assert entry.needs.memory > 0
        assert set(entry.needs.extras) <= set(registry.EXTRAS)


def test_an_entry_can_be_run_or_says_why_not():
    with pytest.raises(ValueError, match="obstacle"):
        Entry("x", "X", Source("P", "1", "T"))


def test_all_default_tables_fit_into_half_an_hour():
    assert sum(entry.needs.minutes for entry in entries().values() if entry.run) <= 30


def test_the_list_names_everything():
    result = run("--list")
    assert result.exit_code == ExitCode.PROVED
    for entry in entries().values():
        assert entry.name in result.stdout
        assert entry.source.arxiv in result.stdout
    content = [json.loads(line) for line in run("--list", "--json").stdout.splitlines()]
    assert [part["name"] for part in content] == list(entries())


@pytest.mark.parametrize(("arguments", "said"), [
    ((), "--list"),
    (("nothing",), "no such entry"),
    (("contractivity-chi", "--all"), "--all"),
    (("--all", "--weights", "."), "--weights"),
    (("contractivity-chi", "--weights", "."), "takes no --weights"),
    (("glipsdp-digits", "--weights", "."), "digits/fnn"),
    (("glipsdp-digits", "--weights", "missing"), "does not exist"),
    (("nais-cifar",), "not reproduced"),
])
def test_usage_is_refused_with_a_reason(arguments, said):
    result = run(*arguments)
    assert result.exit_code == ExitCode.USAGE
    assert said in " ".join(result.stderr.replace("│", " ").split())


def test_a_missing_extra_is_named_before_anything_is_run(monkeypatch, tmp_path):
    found = context.importlib.util.find_spec
    monkeypatch.setattr(context.importlib.util, "find_spec",
                        lambda name: None if name in ("torch", "matplotlib") else found(name))
    result = run("glipsdp-digits")
    assert result.exit_code == ExitCode.USAGE
    assert "netgain[torch]" in result.stderr
    result = run("contractivity-chi")
    assert result.exit_code == ExitCode.USAGE
    assert "netgain[plot]" in result.stderr
    assert not (tmp_path / "reproduce").exists()


def test_weights_of_others_from_end_to_end(authors, tmp_path):
    first = run("glipsdp-digits", "--weights", authors, "--json", "--no-figures")
    folder = tmp_path / "reproduce" / "glipsdp-digits-weights"
    content = json.loads(first.stdout)
    assert content == json.loads((folder / "table.json").read_text())
    names = [column["name"] for column in content["columns"]]
    assert [row[0] for row in content["rows"]] == ["fnn2_seed0", "fnn2_seed1"]
    for seed, row in enumerate(content["rows"]):
        weights = scipy.io.loadmat(authors / "digits" / f"fnn2_seed{seed}_weights.mat")
        layers = [Affine(weights["fc1_weight"].T), Relu(), Affine(weights["fc2_weight"].T[7:8])]
        expected = lipschitz(sequential((64,), layers), lower_bounds=False).upper
        row = dict(zip(names, row, strict=True))
        assert row["certified"] == pytest.approx(expected, rel=2e-6)
        assert row["witness"] <= row["certified"] <= row["norm product"]
    # These are not the weights that the published values belong to, which is seen.
    assert first.exit_code == ExitCode.NOT_PROVED
    unexplained = [part for part in content["deviations"] if part["explanation"] is None]
    assert {part["row"] for part in unexplained} == {"fnn2_seed0", "fnn2_seed1"}
    again = run("glipsdp-digits", "--weights", authors, "--no-figures")
    assert "UNEXPLAINED" in again.stdout
    assert json.loads((folder / "table.json").read_text())["rows"] == content["rows"]
    lines = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    assert [float(line["certified"]) for line in lines] == [row[names.index("certified")] for row in content["rows"]]


@pytest.mark.parametrize("damage", ["no MATLAB", "cut off", "other variables"])
def test_damaged_weights_are_named(authors, damage):
    path = authors / "digits" / "fnn2_seed1_weights.mat"
    if damage == "other variables":
        scipy.io.savemat(path, {"x": np.eye(2)})
    else:
        path.write_bytes(b"not a file of MATLAB" if damage == "no MATLAB" else path.read_bytes()[:300])
    result = run("glipsdp-digits", "--weights", authors, "--no-figures")
    assert result.exit_code == ExitCode.USAGE
    assert "fnn2_seed1" in result.stderr


def test_the_slope_intervals_of_examples_with_their_closed_form(monkeypatch, tmp_path):
    """u' = s(A u + b) with A = [[-a, b], [-b, -a]] keeps mu <= 0 for slopes from (r - a) / (r + a), r = |(a, b)|."""
    a, b = 0.3, 2.0
    monkeypatch.setattr(contractivity_chi, "examples", lambda seed: {
        "rotation": np.array([[-a, b], [-b, -a]]), "three neurons": -np.eye(3)})
    monkeypatch.setattr(contractivity_chi, "_GRID", (0.0, 1.0))
    result = run("contractivity-chi")
    assert result.exit_code == ExitCode.PROVED
    folder = tmp_path / "reproduce" / "contractivity-chi"
    assert {path.name for path in folder.iterdir()} == {
        "journal.jsonl", "table.json", "table.csv", "table.md", "figure-1.svg", "figure-1.png", "figure-2.svg",
        "figure-2.png"}
    content = json.loads((folder / "table.json").read_text())
    rotation, decay = (dict(zip([column["name"] for column in content["columns"]], row, strict=True))
                       for row in content["rows"])
    exact = (np.hypot(a, b) - a) / (np.hypot(a, b) + a)
    assert rotation["m not below"] - 1e-6 <= exact <= rotation["m certified"]
    assert rotation["m certified"] == pytest.approx(exact, abs=1e-5)
    assert decay["mu certified"] == pytest.approx(-0.1, abs=1e-5)
    assert decay["distance, shift"] == pytest.approx(0, abs=1e-12)
    assert "abstract" in content["notes"][0]
    assert content["made"]["seconds"] > 0
