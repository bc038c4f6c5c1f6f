"""The page: every result has its figures and numbers, nothing is dropped, nothing is loaded, names stay text."""

import json
import re
import xml.etree.ElementTree as ET

import pytest
from netgain.verify.report.certificates import Checker
from netgain.verify.report.content import Bound, Side
from netgain.verify.report.drawing import COLOURS, drawn
from netgain.verify.report.page import sections_of
from netgain.verify.report.reading import Document, ReportError
from netgain.verify.report.section import contradiction
from netgain.verify.rounding import rounded_down, rounded_up

from .conftest import RESULTS, made

FIGURES = {
    "lipschitz": {"sandwich", "graph", "depth", "course"},
    "contractivity": {"sandwich", "slopes"},
    "implicit": {"graph", "convergence", "sandwich"},
    "stability": {"sandwich", "rates"},
    "flow": {"sandwich", "depth"},
    "comparison": {"sandwich", "depth"},
    "inspection": set(),
    "table": {"series"},
    "robustness": {"accuracy"},
}
"""What each result is drawn as, at least."""


def of_body(body, folder):
    return made([Document("result.json", folder / "result.json", body["schema"], body)])


def figures_in(text):
    return set(re.findall(r'data-figure="(\w+)"', text))


@pytest.mark.parametrize(("number", "name"), list(enumerate(RESULTS, start=1)))
def test_every_result_has_its_figures(number, name, whole):
    text = re.search(rf'<section id="result{number}".*?</section>', whole, re.DOTALL)[0]
    assert figures_in(text) == FIGURES[name]


def test_the_numbers_are_those_of_the_result_rounded_to_the_safe_side(body, folder):
    text = of_body(body, folder)
    for number in (rounded_up(body["upper"]), rounded_down(body["lower"]["value"]), rounded_up(body["norm_product"]),
                   rounded_down(body["lower"]["slope"])):
        # In the drawing and in the table.
        assert text.count(number) >= 2
    for node in body["graph"]:
        assert node["node"] in text
        assert all(f"{gain:.4g}" in text for gain in node["gains"])


def test_a_page_of_several_has_a_table_of_contents_and_figures_over_all(documents, whole, folder):
    for number in range(1, len(RESULTS) + 1):
        assert f'href="#result{number}"' in whole
        assert whole.count(f'id="result{number}"') == 1
    assert len(re.findall(r'<section id="result', whole)) == len(RESULTS)
    twice = made([documents[0], documents[0]])
    assert 'data-figure="sandwiches"' in twice
    assert 'data-figure="depths"' not in twice


def test_networks_of_several_depths_are_drawn_over_depth(body, folder):
    shallow = json.loads(json.dumps(body))
    shallow["graph"] = shallow["graph"][:2]
    documents = [Document("x", folder / "x", entry["schema"], entry) for entry in (body, shallow)]
    assert 'data-figure="depths"' in made(documents)


def test_nothing_is_loaded_and_nothing_runs(whole):
    assert "<script" not in whole
    assert "default-src 'none'" in whole
    links = re.findall(r'(?:href|src|action|data)="([^"]*)"', whole)
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert "@import" not in whole
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", whole))


def test_identifiers_are_unique_and_links_lead_to_them(whole):
    identifiers = re.findall(r'\bid="([^"]*)"', whole)
    assert len(identifiers) == len(set(identifiers))
    wanted = re.findall(r'href="#([^"]*)"', whole) + re.findall(r"url\(#([^)]*)\)", whole)
    labelled = [name for names in re.findall(r'aria-labelledby="([^"]*)"', whole) for name in names.split()]
    assert set(wanted + labelled) <= set(identifiers)


def test_drawings_have_titles_descriptions_and_the_colours_of_the_page(whole):
    drawings = re.findall(r"<svg [^>]*role=\"img\".*?</svg>", whole, re.S)
    assert len(drawings) >= 10
    for drawing in drawings:
        root = ET.fromstring(drawing)
        assert root[0].tag.endswith("title")
        assert root[1].tag.endswith("desc")
        assert len(root[1].text) > 10
        assert not re.search(r"(?:fill|stroke): #|DejaVu", drawing)
        used = set(re.findall(r"var\(--([\w-]+)\)", drawing))
        assert used <= set(COLOURS)


def test_the_same_results_make_the_same_page(documents):
    # Of figures of all kinds but the table's.
    assert made(documents[:3]) == made(documents[:3])


HOSTILE = '<script>alert("x")</script><img src=http://example.com/x onerror=alert(1)> $\\frac{a}{b}$ & 数据 {{ 7 * 7 }}'


def _poisoned(value, key=""):
    """Every text but those that decide how a result is read."""
    if isinstance(value, dict):
        return {name: _poisoned(entry, name) for name, entry in value.items()}
    if isinstance(value, list):
        return [_poisoned(entry, key) for entry in value]
    decisive = ("schema", "side", "bound", "inputs", "node", "kind")
    return f"{value} {HOSTILE}" if isinstance(value, str) and key not in decisive else value


@pytest.mark.parametrize("name", RESULTS)
def test_texts_stay_text_and_unknown_fields_are_listed(name, folder):
    body = _poisoned(json.loads((folder / f"{name}.json").read_text()))
    body["new_field"] = {"inner": [{"answer": 424242}]}
    body.setdefault("model", {})["preprocessing"] = "none at all"
    text = of_body(body, folder)
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;alert" in text
    assert "{{ 7 * 7 }}" in text
    assert "new_field.inner[0].answer" in text
    assert "424242" in text
    assert "none at all" in text


@pytest.mark.parametrize(("change", "message"), [
    ({"upper": "1.0"}, "`upper` is 1.0, expected a number"),
    ({"proved": None}, "`proved` is missing, expected true or false"),
    ({"solver": {}}, "`solver.name` is missing"),
    ({"course": [3]}, "`course` is 3, expected a list of objects"),
    ({"graph": [{"node": "a"}]}, r"`graph\[0\].layer` is missing"),
])
def test_fields_of_the_wrong_kind_are_named_for_all_files_at_once(body, folder, change, message):
    bad = {**body, **change}
    documents = [Document(f"{name}.json", folder / f"{name}.json", bad["schema"], bad) for name in ("one", "two")]
    with pytest.raises(ReportError, match=message) as caught:
        sections_of(documents, Checker())
    assert [line.split(" ")[0] for line in str(caught.value).splitlines()] == ["one.json", "two.json"]


def test_results_of_older_versions_have_no_picture_and_say_so(body, folder):
    for name in ("graph", "course"):
        del body[name]
    text = of_body(body, folder)
    assert figures_in(text) == {"sandwich"}
    assert "No picture of the layers" in text
    assert "No picture of the course of the solve" in text


@pytest.mark.parametrize("size", [0.0, 1e-310, 1e-200, 1e200, 1e307])
def test_numbers_of_any_size_make_a_page(body, folder, size):
    """Of those whose axes would be out of range there is no picture, and the number stays."""
    def scaled(value):
        return None if value is None else size * min(value, 5.0)

    body |= {"upper": scaled(body["upper"]), "norm_product": scaled(body["norm_product"])}
    body["lower"] |= {"value": scaled(body["lower"]["value"]), "slope": scaled(body["lower"]["slope"])}
    for line in body["course"]:
        line |= {"bound": scaled(line["bound"]), "dual_bound": scaled(line["dual_bound"])}
    for node in body["graph"]:
        node |= {"gains": [scaled(gain) for gain in node["gains"]], "reached": scaled(node["reached"])}
    text = of_body(body, folder)
    assert rounded_up(body["upper"]) in text
    assert ("sandwich" in figures_in(text)) is (size in (0.0, 1e-200, 1e200))


def test_what_was_not_proved_is_not_called_so(body, folder):
    body |= {"proved": False, "upper": 3.0, "certificate": None, "upper_decimal": None}
    text = of_body(body, folder)
    assert "no bound was proved" in text
    assert ">certified<" not in text
    assert "no certificate" in text


def test_results_that_contradict_themselves_are_marked(body, folder):
    assert "contradicts itself" not in of_body(body, folder)
    body["lower"]["value"] = 2 * body["upper"]
    assert "contradicts itself" in of_body(body, folder)


@pytest.mark.parametrize(("below", "above", "wrong"), [
    (Side.LOWER, Side.UPPER, True), (Side.EXACT, Side.UPPER, True), (Side.LOWER, Side.EXACT, True),
    (Side.LIMIT, Side.UPPER, False), (Side.UPPER, Side.UPPER, False)])
def test_only_bounds_from_opposite_sides_contradict(below, above, wrong):
    for proved in (True, False):
        bounds = [Bound("a", 2.0, below, proved), Bound("b", 1.0, above, True)]
        assert bool(contradiction(bounds, "L")) is (wrong and proved)


def test_names_in_drawings_are_no_formulas():
    figure = drawn("x-y", "t", "d", 100, lambda axes: axes.set_xlabel("$\\frac{1}{2$ <b> 数"))
    assert "$\\frac{1}{2$ &lt;b&gt; 数" in figure.svg
    assert figure.key == "y"
