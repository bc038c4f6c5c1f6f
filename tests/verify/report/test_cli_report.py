"""`netgain report`: exit codes, what it refuses to overwrite, and that a page is written whole or not at all."""

import json
import shutil

import pytest
from netgain.verify.outcomes import ExitCode
from netgain.verify.report import drawing

from .conftest import run


@pytest.fixture
def place(folder, tmp_path, monkeypatch):
    for name in ("lipschitz.json", "table.json", "residual.onnx", "residual.certificate.json"):
        shutil.copy(folder / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_page_is_written_and_summed_up(place):
    result = run("report", "lipschitz.json", "table.json", "-o", "page.html")
    assert result.exit_code == ExitCode.PROVED
    assert result.stderr == ""
    assert result.stdout.startswith("page.html: 2 results, 5 figures, ")
    assert result.stdout.endswith("certificates: 1 not re-checked\n")
    text = (place / "page.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert text.endswith("</html>")
    assert sorted(path.name for path in place.iterdir()) == sorted(
        ["lipschitz.json", "table.json", "residual.onnx", "residual.certificate.json", "page.html"])
    assert run("report", "lipschitz.json", "table.json", "-o", "page.html").exit_code == 0
    assert (place / "page.html").read_text(encoding="utf-8") == text


CHECK = ("report", "lipschitz.json", "--check", "-o", "page.html", "--quiet")


def test_certificates_are_proved_anew(place):
    proved = run(*CHECK)
    assert proved.exit_code == ExitCode.PROVED
    assert "certificates: 1 proved anew" in proved.stdout


@pytest.mark.usefixtures("in_process")
def test_check_decides_the_exit_code(place):
    body = json.loads((place / "lipschitz.json").read_text())
    (place / "lipschitz.json").write_text(json.dumps({**body, "upper": body["upper"] / 2}))
    refused = run(*CHECK)
    assert refused.exit_code == ExitCode.REFUSED
    assert "1 refused" in refused.stdout
    assert "refused" in (place / "page.html").read_text()
    (place / "residual.certificate.json").unlink()
    assert run(*CHECK).exit_code == ExitCode.NOT_PROVED


@pytest.mark.parametrize(("arguments", "text"), [
    (("lipschitz.json", "-o", "lipschitz.json"), "is one of the files to read"),
    (("lipschitz.json", "-o", "."), "is not a regular file"),
    (("lipschitz.json", "-o", "missing/page.html"), "is no folder"),
    (("lipschitz.json", "--model", "residual.onnx"), "needed for --check alone"),
    (("missing.json", "broken.json"), "missing.json cannot be read"),
    ((), "Missing argument"),
])
def test_what_cannot_be_done_is_said_before_anything_is_written(place, arguments, text):
    (place / "broken.json").write_text("{")
    before = {path: path.read_bytes() for path in place.iterdir()}
    result = run("report", *arguments)
    assert result.exit_code == ExitCode.USAGE
    assert text in " ".join(result.stderr.replace("│", " ").split())
    assert {path: path.read_bytes() for path in place.iterdir()} == before


def test_models_to_check_with_must_be_there(place):
    result = run("report", "lipschitz.json", "--check", "--model", "gone.onnx")
    assert result.exit_code == ExitCode.MODEL
    assert "gone.onnx does not exist" in result.stderr


def test_a_missing_library_is_named_with_its_extra(place, monkeypatch):
    monkeypatch.setattr(drawing.importlib.util, "find_spec", lambda name: None)
    result = run("report", "lipschitz.json")
    assert result.exit_code == ExitCode.USAGE
    assert "jinja2 and matplotlib" in result.stderr
    assert "netgain[report]" in result.stderr
