"""The README shows what its command prints."""

import re
from pathlib import Path

import pytest
from netgain.verify import cli
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
MODEL = "experiments/models/mnist_mlp.onnx"


def bracket(text: str) -> dict[str, float]:
    lines = re.findall(r"^([a-z][a-z ]{0,12}?) +(\d\S+) +\S", text, re.MULTILINE)
    return {label: float(value) for label, value in lines}


def test_the_main_command_prints_what_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.split("```\n")[3]
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("COLUMNS", raising=False)
    arguments = ["verify", MODEL, "--certificate", str(tmp_path / "mnist_mlp.certificate.json")]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0
    # Times differ, and the last digits of what is not certified.
    head = shown.index("norm product")
    assert result.stdout[:head] == shown[:head]
    found, expected = bracket(result.stdout), bracket(shown)
    assert found.keys() == expected.keys() >= {"norm product", "certified", "optimum", "slope system", "witness", "gap"}
    assert found["certified"] == pytest.approx(expected["certified"], rel=3e-6)
    assert found["optimum"] == pytest.approx(expected["optimum"], rel=3e-6)
    assert found["slope system"] == pytest.approx(expected["slope system"], rel=1e-2)
    assert found["witness"] == pytest.approx(expected["witness"], rel=5e-2)


def test_commands_and_options_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    helps = {}
    for command in set(re.findall(r"`netgain ([a-z]+)", readme)):
        result = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"})
        assert result.exit_code == 0
        helps[command] = result.stdout
    for section in readme.split("## Commands")[1].split("## Models")[0].split("## Neural ODEs"):
        named = [text for command, text in helps.items() if f"netgain {command}" in section]
        for option in set(re.findall(r"`(--[a-z-]+)", section)) - {"--help"}:
            assert any(option in text for text in named), option


@pytest.mark.slow
def test_contractivity_prints_what_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = (ROOT / "README.md").read_text(encoding="utf-8").split("## Neural ODEs")[1].split("```\n")[3]
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("COLUMNS", raising=False)
    arguments = ["contractivity", "experiments/models/mnist_ode.npz", "--certificate", str(tmp_path / "c.json")]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0
    found, expected = result.stdout.splitlines(), shown.splitlines()
    for line, of_readme in zip(found, expected, strict=False):
        numbers, wanted = (re.findall(r"(?<= )-?\d+\.\d{4,}", text) for text in (line, of_readme))
        assert [float(number) for number in numbers] == pytest.approx([float(number) for number in wanted], abs=2e-5)
        assert re.sub(r"-?\d+\.\d{4,}", "", line) == re.sub(r"-?\d+\.\d{4,}", "", of_readme)
