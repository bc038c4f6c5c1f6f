"""A table and its views: the JSON of its schema, CSV with all digits, Markdown on the safe side, pictures."""

import csv
import io
import json
import re

import pytest
from netgain.experiments.reproduce.drawing import draw
from netgain.experiments.reproduce.table import Column, Kind, Series, Shape
from netgain.experiments.reproduce.views import UNEXPLAINED, shortened, to_csv, to_markdown

from .reproduce_table import COLUMNS, ROWS, table


def pipes(text: str) -> list[list[str]]:
    """The cells of the first table of a Markdown text, without its ruler."""
    lines = [line for line in text.split("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in lines[:1] + lines[2:]]


def test_the_json_keeps_to_its_schema():
    content = json.loads(json.dumps(table().to_json(), allow_nan=False))
    assert content.keys() == {"schema", "name", "title", "source", "made", "columns", "rows", "deviations", "notes",
                              "figures"}
    assert content["schema"] == "netgain-table/1"
    assert content["source"].keys() == {"paper", "arxiv", "table"}
    assert content["made"].keys() == {"netgain", "date", "machine", "seconds", "seeds"}
    assert all(column.keys() == {"name", "unit", "kind", "proved"} for column in content["columns"])
    assert [column["kind"] for column in content["columns"]] == ["label", "lower", "upper", "published", "seconds",
                                                                 "note"]
    (deviation,) = content["deviations"]
    assert deviation.keys() == {"row", "column", "ours", "published", "relative", "explanation"}
    assert deviation["relative"] == pytest.approx(0.03 / 1.2)
    kinds = []
    for figure in content["figures"]:
        assert figure.keys() == {"title", "x", "y", "series"}
        assert figure["x"].keys() == figure["y"].keys() == {"label", "log"}
        for series in figure["series"]:
            assert {"label", "kind", "x", "y", "published"} <= series.keys()
            assert {"low", "high"} <= series.keys() or series["kind"] != "intervals"
            kinds.append(series["kind"])
    assert kinds == ["line", "bars", "intervals"]


def test_csv_markdown_and_json_hold_the_same_numbers():
    made = table()
    rows = made.to_json()["rows"]
    lines = list(csv.reader(io.StringIO(to_csv(made))))
    shown = pipes(to_markdown(made))
    assert lines[0] == shown[0] == ["network", "witness", "certified", "published", "time (s)", "remark"]
    for row, line, cells in zip(rows, lines[1:], shown[1:], strict=True):
        for column, cell, text, short in zip(COLUMNS, row, line, cells, strict=True):
            if cell is None:
                assert (text, short) == ("", "-")
            elif column.kind.is_text:
                assert text == short == cell
            else:
                assert float(text) == cell
                assert float(short) == pytest.approx(cell, rel=1e-6)


def test_bounds_are_shortened_to_the_safe_side():
    _, lower, upper, *_ = pipes(to_markdown(table()))[1]
    assert float(lower) < ROWS[0][1] < float(upper)


def test_shares_are_not_moved_by_their_last_bit():
    assert shortened(Column("certified", Kind.LOWER, "%", True), 100 * 0.773) == "77.3"


def test_an_unexplained_deviation_is_called_so():
    assert not table().explained
    assert UNEXPLAINED in to_markdown(table())
    assert table(deviations=()).explained
    assert UNEXPLAINED not in to_markdown(table(deviations=()))


@pytest.mark.parametrize("row", [
    ("short",), ("a", "text", 1.0, 1.0, 1.0, "x"), ("a", float("inf"), 1.0, 1.0, 1.0, "x"),
    ("a", float("nan"), 1.0, 1.0, 1.0, "x"), (1.0, 1.0, 1.0, 1.0, 1.0, "x"),
])
def test_cells_that_do_not_belong_are_refused(row):
    with pytest.raises(ValueError, match="small"):
        table(rows=(row,))


@pytest.mark.parametrize("arguments", [([1.0], [1.0, 2.0]), ([1.0], [1.0], [0.0], None)])
def test_series_that_do_not_fit_are_refused(arguments):
    with pytest.raises(ValueError, match="Series"):
        Series("s", Shape.LINE, *arguments)


def test_pictures_are_drawn_the_same_each_time(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first, second = (draw(table(), tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in first] == ["figure-1.svg", "figure-1.png", "figure-2.svg", "figure-2.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert "</svg>" in first[2].read_text()
