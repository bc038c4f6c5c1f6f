"""A page says `proved anew` of nothing but what the checker proved, for the model and the numbers of the result."""

import json
import shutil

import pytest
from netgain.verify.report import (
    bounds_figure,
    course_figure,
    lines_figure,
    slope_interval_figure,
)
from netgain.verify.report.certificates import Checker, models_by_hash
from netgain.verify.report.content import Figure, Standing
from netgain.verify.report.page import SECTIONS, page, sections_of
from netgain.verify.report.reading import read_documents
from netgain.verify.sealed_json import sealed

from .conftest import save_residual

CERTIFIED = ("lipschitz", "contractivity", "implicit", "stability", "flow", "robustness")
DATE = "2026-11-22"


@pytest.fixture
def place(folder, tmp_path, monkeypatch):
    """A copy of the results, to be changed, away from the current folder."""
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "copy"


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch):
    """Figures take most of the time, and none is looked at here."""
    for module in (bounds_figure, course_figure, lines_figure, slope_interval_figure):
        monkeypatch.setattr(module, "drawn", lambda name, title, text, height, paint: Figure("none", title, text, ""))


def statuses(place, name, checker=None, change=None):
    path = place / f"{name}.json"
    if change is not None:
        body = json.loads(path.read_text())
        change(body)
        path.write_text(json.dumps(body))
    documents = read_documents([path], SECTIONS)
    sections = sections_of(documents, checker or Checker(DATE))
    text = page(sections, documents, DATE)
    assert ("proved anew" in text) is any(
        certificate.standing is Standing.PROVED_ANEW for certificate in sections[0].certificates)
    return sections[0].certificates


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", CERTIFIED)
def test_certificates_beside_the_results_are_proved_anew(name, place):
    found = statuses(place, name)
    assert [status.standing for status in found] == [Standing.PROVED_ANEW] * (2 if name == "contractivity" else 1)
    assert all(DATE in status.text for status in found)


@pytest.mark.parametrize("name", CERTIFIED)
def test_nothing_is_checked_unasked(name, place):
    found = statuses(place, name, Checker())
    assert {status.standing for status in found} == {Standing.NOT_CHECKED}


def _of_lipschitz(body):
    body["upper"] *= 1 - 1e-12


def _of_level(body):
    body["worst"]["upper"] -= 1e-9


def _of_slopes(body):
    body["slopes"] = [body["slopes"][0] - 0.05, body["slopes"][1]]


def _of_interval(body):
    body["level"] -= 1e-6


def _of_gain(body):
    for gain in body["gains"]:
        if gain["norms"] == "l2 -> l2" and gain["proved"] and gain["side"] == "upper":
            gain["value"] *= 0.999


def _of_claim(body):
    body["blocks"][0]["claims"][0]["value"] *= 0.99


def _of_kind(body):
    body["blocks"][0]["claims"][0]["kind"] = "gain for constant inputs, l7"


def _of_block(body):
    body["blocks"].append(body["blocks"][0])


def _of_network(body):
    body["network"]["gain"] *= 0.99


def _of_flow(body):
    for bound in body["flow"]:
        bound["gain"] *= 0.5


def _of_time(body):
    body["time"] = 0.5


def _of_constant(body):
    body["upper"] *= 0.999


def _of_pair(body):
    body["pairs"][0]["upper"] *= 0.999


def _of_radius(body):
    body["samples"][0]["radius"] += 1e-6


@pytest.mark.parametrize(("name", "change"), [
    ("lipschitz", _of_lipschitz), ("contractivity", _of_level), ("contractivity", _of_slopes),
    ("contractivity", _of_interval), ("implicit", _of_gain), ("stability", _of_claim), ("stability", _of_kind),
    ("stability", _of_block), ("stability", _of_network), ("flow", _of_flow), ("flow", _of_time),
    ("robustness", _of_constant), ("robustness", _of_pair), ("robustness", _of_radius)])
@pytest.mark.usefixtures("in_process")
def test_results_that_claim_more_than_the_certificate_proves_are_refused(name, change, place):
    found = statuses(place, name, change=change)
    assert Standing.REFUSED in {status.standing for status in found}
    refused = next(status for status in found if status.standing is Standing.REFUSED)
    assert "is not of this result" in refused.text


@pytest.mark.usefixtures("in_process")
def test_certificates_that_do_not_hold_are_refused(place):
    path = place / "residual.certificate.json"
    body = json.loads(path.read_text())
    path.write_text(json.dumps(body)[:-20])
    cut, = statuses(place, "lipschitz")
    assert cut.standing is Standing.REFUSED
    assert "was it truncated?" in cut.text
    del body["sha256"]
    body["claim"]["value"] *= 0.99
    path.write_text(json.dumps(sealed(body)))
    wrong, = statuses(place, "lipschitz")
    assert wrong.standing is Standing.REFUSED
    assert "do not prove the claimed value" in wrong.text


def test_what_is_not_there_is_not_checked(place):
    (place / "residual.certificate.json").unlink()
    gone, = statuses(place, "lipschitz")
    assert gone.standing is Standing.NOT_CHECKED
    assert "residual.certificate.json is neither in" in gone.text


@pytest.mark.usefixtures("in_process")
def test_the_model_must_be_the_one_of_the_result(place):
    right = place / "moved.onnx"
    shutil.move(place / "residual.onnx", right)
    gone, = statuses(place, "lipschitz")
    assert gone.standing is Standing.NOT_CHECKED
    assert "Name its file with --model" in gone.text
    found, = statuses(place, "lipschitz", Checker(DATE, models_by_hash([right, place / "ode.npz"])))
    assert found.standing is Standing.PROVED_ANEW
    save_residual(place / "residual.onnx", blocks=1)
    other, = statuses(place, "lipschitz")
    assert other.standing is Standing.NOT_CHECKED
    assert "another file than the result is about" in other.text
