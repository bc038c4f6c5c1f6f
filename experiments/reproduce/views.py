"""A table as CSV, with all digits, and as Markdown, shortened: bounds are rounded to the safe side."""

import csv
import io

from ..training.markdown import above, below, shown
from ..training.markdown import table as pipes
from .table import Cell, Column, Kind, Table

_DIGITS = 7


def to_csv(table: Table) -> str:
    """One line of headings and one for each row; empty where nothing is known."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([heading(column) for column in table.columns])
    writer.writerows([["" if cell is None else cell if isinstance(cell, str) else repr(cell) for cell in row]
                      for row in table.rows])
    return stream.getvalue()


def to_markdown(table: Table) -> str:
    """Title, source, table, deviations with their explanations, and notes."""
    source, made = table.source, table.made
    parts = [
        f"# {table.title}", "",
        f"{source.paper}" + (f", arXiv {source.arxiv}" if source.arxiv else "") + f"; {source.table}.", "",
        f"netgain {made['netgain']}, {made['date']}, {made['machine']}, {made['seconds']:.0f} s.", "",
        pipes([_escaped(heading(column)) for column in table.columns],
              [[_escaped(shortened(column, cell)) for column, cell in zip(table.columns, row, strict=True)]
               for row in table.rows]),
    ]
    proved = [column.name for column in table.columns if column.proved]
    if proved:
        parts += ["", f"Proved by the checker: {', '.join(proved)}."]
    if table.deviations:
        parts += ["", "## Where ours and the published value disagree", "", pipes(
            ["row", "published as", "published", "ours", "why"],
            [[_escaped(part.row), _escaped(part.column), shown(part.published, 9), shown(part.ours, 9),
              _escaped(part.explanation or UNEXPLAINED)] for part in table.deviations])]
    if table.notes:
        parts += ["", "## Notes", "", *(f"- {note}" for note in table.notes)]
    return "\n".join([*parts, ""])


UNEXPLAINED = "UNEXPLAINED"


def heading(column: Column) -> str:
    """The name with the unit."""
    return f"{column.name} ({column.unit})" if column.unit else column.name


def shortened(column: Column, cell: Cell) -> str:
    """What a person reads: a dash where nothing is known."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if column.unit == "%":  # shares are counts: the decimal fraction is exact, its float64 may lie on either side
        return shown(cell, _DIGITS)
    match column.kind:
        case Kind.UPPER:
            return above(cell, _DIGITS)
        case Kind.LOWER:
            return below(cell, _DIGITS)
        case Kind.PUBLISHED:
            return shown(cell, 9)
        case Kind.SECONDS:
            return shown(cell, 3)
    return shown(cell, _DIGITS)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
