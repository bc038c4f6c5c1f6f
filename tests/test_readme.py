"""What the README names is there; that its examples print what it shows is held by `test_documentation`."""

import re
from pathlib import Path

import typer
from netgain.verify import cli
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_commands_and_options_exist() -> None:
    helps = {}
    for command in set(re.findall(r"`netgain ([a-z]+)", README)):
        result = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"})
        assert result.exit_code == 0
        helps[command] = result.stdout
    commands = README.split("## Commands")[1].split("## Models")[0]
    for option in set(re.findall(r"`(--[a-z-]+)", commands)) - {"--help"}:
        assert any(option in text for text in helps.values()), option


def test_every_command_is_in_the_table() -> None:
    named = set(re.findall(r"^\| `netgain ([a-z]+)", README, re.MULTILINE))
    program = typer.main.get_command(cli.app)
    assert named == set(program.list_commands(program.make_context("netgain", [], resilient_parsing=True)))


def test_files_that_are_linked_exist() -> None:
    linked = re.findall(r"\]\(([^):#]+)", README)
    assert linked
    named = re.findall(r"`((?:layers|solvers|verify|experiments)/[\w/.]+)`", README)
    assert all((ROOT / path).exists() for path in (*linked, *named))
