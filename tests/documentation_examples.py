"""Runs the fenced blocks of a page one after the other, as a reader would, in one folder.

| block | what is done |
|---|---|
| `python` | run; all blocks of a page share their names |
| `bash` | each command is run; its exit code must be 0, or N after `# exit code N`; `> FILE` keeps what it prints |
| `text` | must be what the block before it printed on stdout; a line `...` stands for any lines |
| with `title="NAME"` | written to the file NAME instead |

`<!-- slow -->` in front of a block leaves it, and what it prints, to the slow tests; `<!-- not run: REASON -->` leaves
it out altogether. A fence of any other kind is an error, so that no example is left out by accident.
"""

import contextlib
import dataclasses
import io
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from netgain.verify import cli
from sybil import Document, Example, Region
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent

_LEXER = FencedCodeBlockLexer(language=r"[^\n]*", mapping={"language": "language", "source": "source"})
_MARK = re.compile(r"<!-- (slow|not run: [^>]+) -->\s*$")
_SET_UP = ("cd", "git", "mkdocs", "mypy", "pip", "pytest", "python3", "ruff", ".", "source")
"""Commands that set a machine up, or are run by `.ci/run`."""

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_EXTRAS = set(_PROJECT["optional-dependencies"])

_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
_MACHINE = re.compile(r"\d[\d.,]* ?(?:ms|s|min|minutes?|hours?|kB|MB|GB|MiB|GiB|iterations|nodes)\b")
"""What differs from machine to machine."""
_SEARCHED = re.compile(r"\b(?:witness|slope system|gap|gradient|lower bound|not below|attack)\b| <= L <= ")
"""Lines of numbers that a search found: another processor may find slightly others."""


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: `mark` is empty, "slow", or why it is not run."""

    language: str
    title: str
    source: str
    mark: str


def blocks(document: Document) -> list[Region]:
    """The fenced blocks of a page, each to be run by `run`."""
    regions = []
    for region in _LEXER(document):
        language, _, rest = region.lexemes["language"].strip().partition(" ")
        title = re.fullmatch(r'title="([^"]+)"', rest.strip())
        mark = _MARK.search(document.text[: region.start])
        block = Block(language, title[1] if title else "", region.lexemes["source"], mark[1] if mark else "")
        regions.append(Region(region.start, region.end, block, run))
    return regions


def run(example: Example) -> None:
    """Runs a block. The namespace holds the reader's names, and under `" "` the reader's screen."""
    block: Block = example.parsed
    screen: dict[str, Any] = example.namespace.setdefault(" ", {"printed": None, "slow": True})
    left_out = block.mark.startswith("not run") or (block.mark == "slow" and not screen["slow"])
    if left_out or (block.language == "text" and screen["printed"] is LEFT_OUT):
        screen["printed"] = LEFT_OUT if block.language != "text" else None
    elif block.title:
        Path(block.title).write_text(block.source, encoding="utf-8")
    elif block.language == "python":
        screen["printed"] = _run_python(block.source, example)
    elif block.language == "bash":
        screen["printed"] = "".join(_run_command(line) for line in _commands(block.source))
    elif block.language == "text":
        assert screen["printed"] is not None, f"{example!r}: nothing was run that could have printed this"
        differences = compare(screen["printed"], block.source)
        assert not differences, f"{example!r}:\n" + "\n".join(differences)
        screen["printed"] = None
    else:
        raise AssertionError(f"{example!r}: a fence of kind {block.language!r}; see tests/documentation_examples.py")


LEFT_OUT = object()
"""What a block that was not run has printed."""


def _run_python(source: str, example: Example) -> str:
    if re.search(r"^(?:import|from) torch\b", source, re.MULTILINE):
        pytest.importorskip("torch")
    # Lines of a traceback are those of the page.
    code = compile("\n" * example.line + source, example.path, "exec", dont_inherit=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, example.namespace)
    return printed.getvalue()


def _commands(source: str) -> list[str]:
    lines = source.replace("\\\n", " ").splitlines()
    return [command.strip() for line in lines for command in line.split(" && ") if command.strip()]


def _run_command(line: str) -> str:
    command, _, comment = line.partition(" # exit code ")
    words = shlex.split(command, comments=True)
    if not words:
        return ""
    if len(words) > 2 and words[-2] == ">":
        written = _run_command(f"{shlex.join(words[:-2])} # exit code {comment or 0}")
        Path(words[-1]).write_text(written, encoding="utf-8")
        return ""
    if words[0] == "netgain":
        result = CliRunner().invoke(cli.app, words[1:])
        output, code = result.stdout, result.exit_code
        message = result.output
    elif words[0] == "python":
        process = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=False)
        output, code, message = process.stdout, process.returncode, process.stderr
    else:
        assert words[0] in _SET_UP, f"{line!r}: netgain, python, or one of {', '.join(_SET_UP)} were expected"
        assert _EXTRAS.issuperset(_asked_extras(command)), f"{line!r}: the extras are {sorted(_EXTRAS)}"
        return ""
    assert code == int(comment or 0), f"{line!r} ended with exit code {code}:\n{message}"
    return output


def _asked_extras(command: str) -> list[str]:
    return [name for group in re.findall(r"\[([a-z,]+)\]", command) for name in group.split(",")]


def compare(printed: str, shown: str) -> list[str]:
    """Where the lines printed are not those shown, up to what may differ from machine to machine."""
    differences = []
    rest = [line for line in printed.splitlines() if line.strip()]
    elided = False
    for line in (line for line in shown.splitlines() if line.strip()):
        if line.strip() == "...":
            elided = True
            continue
        while elided and rest and not _same(rest[0], line):
            rest.pop(0)
        elided = False
        if not rest or not _same(rest[0], line):
            differences += [f"shown:   {line}", f"printed: {rest[0] if rest else 'nothing more'}"]
        rest = rest[1:]
    if rest and not elided:
        differences += [f"printed, not shown: {line}" for line in rest]
    return differences


def _same(printed: str, shown: str) -> bool:
    found, expected = (_NUMBER.split(_MACHINE.sub("#", " ".join(line.split()))) for line in (printed, shown))
    relative = 5e-2 if _SEARCHED.search(shown) else 1e-5
    return found[::2] == expected[::2] and [float(number) for number in found[1::2]] == pytest.approx(
        [float(number) for number in expected[1::2]], rel=relative, abs=2e-5
    )
