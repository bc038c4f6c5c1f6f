"""Tables and figures of papers, as `netgain reproduce` writes them: ours beside what was published."""

from typing import Any

from ..rounding import rounded_down, rounded_up
from .content import Block, Note, Section, Table
from .fields import FieldError, Fields, flat
from .lines_figure import Axis, Curve, lines_figure
from .section import Context, remaining

SCHEMA = "netgain-table/1"
_SHORTENED = {"upper": rounded_up, "lower": rounded_down}
_NUMERIC = ("value", "lower", "upper", "published", "seconds")


def table_section(context: Context) -> Section:
    """The section of one table."""
    fields, identifier = context.fields, context.identifier
    title = fields.text("title")
    source = fields.object_or_none("source")
    facts = [("table", fields.text("name"))]
    if source is not None:
        facts += [(name, str(source.anything(name))) for name in source.names() if source.anything(name) is not None]
    facts += flat("made", fields.anything("made") or {})
    columns = fields.objects("columns")
    blocks: list[Block] = []
    for number, figure in enumerate(fields.objects("figures"), start=1):
        blocks += _figure(figure, f"{identifier}-figure{number}-series")
    names = [_heading(column) for column in columns]
    numeric = frozenset(k for k, column in enumerate(columns) if column.text_or_none("kind") in _NUMERIC)
    blocks.append(Table(title, names, _rows(fields, columns), numeric=numeric, wide=True))
    deviations = fields.anything("deviations")
    if deviations:
        blocks.append(_deviations(deviations))
    blocks += [Note(text) for text in fields.texts("notes")]
    fields.ignore("schema")
    return Section(identifier, title, "reproduced table", ("", ""), facts, [*blocks, *remaining(fields)])


def _heading(column: Fields) -> str:
    name, unit, proved = column.text("name"), column.text_or_none("unit"), column.anything("proved")
    marks = [unit] if unit else []
    if proved is True:
        marks.append("proved")
    column.ignore("kind")
    return f"{name} ({', '.join(marks)})" if marks else name


def _rows(fields: Fields, columns: list[Fields]) -> list[list[str]]:
    """**Raises:** `FieldError` for rows that do not fit the columns."""
    rows = fields.anything("rows")
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise FieldError("`rows` is no list of rows")
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            raise FieldError(f"`rows[{number}]` has {len(row)} entries for {len(columns)} columns")
    return [[_shortened(value, column) for value, column in zip(row, columns, strict=True)] for row in rows]


def _shortened(value: Any, column: Fields) -> str:
    """Bounds to the safe side; shares are counts, whose decimal fraction is exact."""
    shorten = None if column.text_or_none("unit") == "%" else _SHORTENED.get(column.text_or_none("kind") or "")
    return shorten(float(value)) if shorten and isinstance(value, int | float) else _cell(value)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:.7g}"
    return "–" if value is None else str(value)


def _deviations(deviations: Any) -> Table:
    """**Raises:** `FieldError`."""
    if not isinstance(deviations, list) or not all(isinstance(entry, dict) for entry in deviations):
        raise FieldError("`deviations` is no list of objects")
    headings = list(dict.fromkeys(name for entry in deviations for name in entry))
    rows = [[_cell(entry.get(name)) for name in headings] for entry in deviations]
    numeric = frozenset(k for k, name in enumerate(headings) if name in ("ours", "published", "relative"))
    return Table("Where ours and the published values differ", headings, rows, numeric=numeric, wide=True)


def _figure(figure: Fields, identifier: str) -> list[Block]:
    title, curves = figure.text("title"), []
    axes = [(axis.text("label"), axis.anything("log") is True) for axis in (figure.object("x"), figure.object("y"))]
    places: list[str] = []
    for series in figure.objects("series"):
        curves.append(_curve(series, places))
    (x_label, x_log), (y_label, y_log) = axes
    description = f"{len(curves)} series over {x_label}: {', '.join(curve.label for curve in curves)}."
    drawing = lines_figure(identifier, title, description, Axis(x_label, x_log and not places, labels=places),
                           Axis(y_label, y_log), curves)
    return [drawing] if drawing is not None else [Note(f"{title}: nothing to draw.")]


def _curve(series: Fields, places: list[str]) -> Curve:
    """The series; names on the axis are added to `places`, in whose order they stand."""
    label, kind = series.text("label"), series.text_or_none("kind") or "line"
    published = series.anything("published") is True
    given = series.anything("x")
    if not isinstance(given, list):
        raise FieldError(f"the series {label!r} has no list `x`")
    if any(isinstance(value, str) for value in given):
        for value in map(str, given):
            if value not in places:
                places.append(value)
        x = [float(places.index(str(value))) for value in given]
    else:
        x = series.numbers("x")
    y, low, high = (series.optional_numbers(name) for name in ("y", "low", "high"))
    y = y or [None if a is None or b is None else (a + b) / 2 for a, b in zip(low, high, strict=False)]
    if len(y) != len(x):
        raise FieldError(f"the series {label!r} has {len(x)} values of x and {len(y)} of y")
    return Curve(label, x, y, dashed=published, marked=True, joined=kind == "line", low=low, high=high)
