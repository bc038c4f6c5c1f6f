"""Published values: files with sources, rules, and explanations that have to predict what is found."""

import importlib.resources
import json
import re

import pytest
from netgain.experiments import reproduce
from netgain.experiments.reproduce.published import Relation, load_published, parsed
from netgain.experiments.reproduce.table import Column, Kind

FILES = sorted(path.name.removesuffix(".json")
               for path in importlib.resources.files(reproduce).joinpath("published").iterdir())
COLUMNS = (Column("network", Kind.LABEL), Column("certified", Kind.UPPER))


def content(**changes):
    rules = [{"against": "certified", "relation": "equal", "tolerance": 1e-6}]
    reason = {"against": "certified", "explanation": "accuracy", "expected": 1.5, "tolerance": 1e-3}
    return {
        "schema": "netgain-published/1", "source": {"paper": "P", "arxiv": "1", "table": "T"}, "origin": "o",
        "url": "https://example.org", "unavailable": "", "columns": {"SDP": {"unit": "", "rules": rules}},
        "explanations": {"accuracy": "The solver lost accuracy."},
        "values": [{"row": "a", "column": "SDP", "value": 2.0}, {"row": "b", "column": "SDP", "value": 2.0,
                                                                "reasons": [reason]}],
    } | changes


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_valid_and_says_where_its_values_are_from(name):
    found = load_published(name)
    assert re.fullmatch(r"\d{4}\.\d{5}", found.source.arxiv)
    assert found.source.paper
    assert found.source.table
    assert found.origin
    assert found.url.startswith("https://")
    assert found.values or found.unavailable
    assert {value.column for value in found.values} <= set(found.units)


@pytest.mark.parametrize(("relation", "ours", "holds"), [
    (Relation.EQUAL, 2.0, True), (Relation.EQUAL, 2.0000019, True), (Relation.EQUAL, 2.00001, False),
    (Relation.EQUAL, 1.9999, False), (Relation.AT_MOST, 1.0, True), (Relation.AT_MOST, 2.00001, False),
    (Relation.AT_LEAST, 3.0, True), (Relation.AT_LEAST, 1.9999, False),
])
def test_relations_with_their_tolerance(relation, ours, holds):
    assert relation.holds(ours, 2.0, 1e-6) is holds


@pytest.mark.parametrize(("ours", "explanations"), [
    ((2.0, 2.0), []),
    ((2.1, 2.0), [None]),
    ((2.0, 1.5004), ["The solver lost accuracy."]),
    ((2.0, 1.6), [None]),
    ((1.5, 1.5), [None, "The solver lost accuracy."]),
    ((None, 1.5), ["The solver lost accuracy."]),
])
def test_a_deviation_is_explained_only_by_what_predicts_it(ours, explanations):
    found = parsed(content(), "test").deviations(COLUMNS, [("a", ours[0]), ("b", ours[1])])
    assert [deviation.explanation for deviation in found] == explanations


def test_rows_without_published_values_have_empty_cells():
    published = parsed(content(), "test")
    assert published.cells("a") == [2.0]
    assert published.cells("elsewhere") == [None]
    assert published.rows() == ["a", "b"]
    assert published.deviations(COLUMNS, [("elsewhere", 9.0)]) == []


def test_a_rule_about_a_column_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="no column"):
        parsed(content(), "test").deviations(COLUMNS[:1], [("a",)])


def broken():
    value = {"row": "a", "column": "SDP", "value": 2.0}
    reason = {"against": "certified", "explanation": "accuracy", "expected": 1.5, "tolerance": 1e-3}
    yield "schema", content(schema="netgain-published/2")
    yield "schema", {key: part for key, part in content().items() if key != "url"}
    yield "of no column", content(values=[value | {"column": "other"}])
    yield "of no column", content(values=[value | {"value": float("nan")}])
    yield "twice", content(values=[value, value])
    yield "not in the file", content(values=[value | {"reasons": [reason | {"explanation": "other"}]}])
    yield "no rule", content(values=[value | {"reasons": [reason | {"against": "other"}]}])
    yield "closest", content(columns={"SDP": {"unit": "", "rules": [
        {"against": "certified", "relation": "closest", "tolerance": 0}]}})


@pytest.mark.parametrize(("message", "wrong"), [*broken()])
def test_files_that_do_not_keep_to_the_schema_are_refused(message, wrong):
    with pytest.raises(ValueError, match=message):
        parsed(json.loads(json.dumps(wrong)), "test")
