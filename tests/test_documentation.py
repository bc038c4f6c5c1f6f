"""Every example in the README and on the pages of the documentation runs, and prints what is shown."""

import inspect
import re
from pathlib import Path

import pytest
from netgain import layers, solvers, verify
from sybil import Document

from .documentation_examples import ROOT, Block, blocks, compare

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _cases() -> list:
    cases = []
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        text = page.read_text(encoding="utf-8")
        parsed: list[Block] = [region.parsed for region in blocks(Document(text, str(page)))]
        if parsed:
            cases.append(pytest.param(page, False, id=name))
        if any(block.mark == "slow" for block in parsed):
            cases.append(pytest.param(page, True, id=f"{name}, slow", marks=pytest.mark.slow))
    return cases


@pytest.mark.parametrize(("page", "slow"), _cases())
def test_examples(page: Path, slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    document = Document.parse(str(page), blocks)
    document.namespace[" "] = {"printed": None, "slow": slow}
    for example in document.examples():
        example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_formula_names_its_source_and_its_function(page: Path) -> None:
    _, *after = re.split(r"^\$\$.+?\$\$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert after or page.parent.name != "mathematics"
    for number, text in enumerate(after, start=1):
        explained = re.split(r"^## ", text, flags=re.MULTILINE)[0]
        assert re.search(r"\bSource: ", explained), f"formula {number}: no source"
        assert re.search(r"\bFunction:\s.*?\]\[netgain\.", explained, re.DOTALL), f"formula {number}: no function"


def test_the_reference_has_every_public_name_once() -> None:
    for package in (layers, solvers, verify):
        name = package.__name__
        page = (ROOT / "docs" / "reference" / f"{name.rpartition('.')[2]}.md").read_text(encoding="utf-8")
        # A function that shares its name with a module is listed by where it is defined.
        listed = re.findall(rf"^::: {name}\.(?:\w+\.)*(\w+)$", page, re.MULTILINE)
        exported = re.findall(r"^from \.\S* import \w+ as (\w+)$", inspect.getsource(package), re.MULTILINE)
        assert sorted(listed) == sorted(exported)


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("certified  19.16783  >= L", "certified 19.16784 >= L", True),
        ("certified  19.16783  >= L", "certified 19.17783 >= L", False),
        ("witness    19.00750  <= L", "witness   18.70000  <= L", True),
        ("time  import 255 ms, total 2.4 s", "time  import 3.1 s, total 60 ms", True),
        ("a\nb\nc\n", "a\n...\nc\n", True),
        ("a\nb\nc\n", "a\nc\n", False),
        ("a\nb\n", "a\n", False),
        ("a\n", "a\nb\n", False),
        ("proved in double precision", "not proved", False),
    ],
)
def test_what_counts_as_the_same_output(printed: str, shown: str, same: bool) -> None:
    assert (not compare(printed, shown)) == same
