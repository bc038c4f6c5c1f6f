"""A small table for tests of what is made of tables."""

from netgain.experiments.reproduce.table import (
    Axis,
    Column,
    Deviation,
    Figure,
    Kind,
    Series,
    Shape,
    Source,
    Table,
)

COLUMNS = (Column("network", Kind.LABEL), Column("witness", Kind.LOWER, proved=True),
           Column("certified", Kind.UPPER, proved=True), Column("published", Kind.PUBLISHED),
           Column("time", Kind.SECONDS, "s"), Column("remark", Kind.NOTE))
ROWS = (("a|b", 1.23456789012, 1.23456789012, 1.2, 0.5, "with, a comma"), ("c", None, 3.0, None, None, None))
FOUND = (Deviation("a|b", "published", 1.23, 1.2, None),)
MADE = {"netgain": "0", "date": "2026-01-01", "machine": "m", "seconds": 1.5, "seeds": [0]}


def table(rows=ROWS, deviations=FOUND) -> Table:
    series = [Series("ours", Shape.LINE, [1, 2], [1.0, None]), Series("theirs", Shape.BARS, ["x", "y"], [None, 2.0]),
              Series("between", Shape.INTERVALS, ["x", "y"], [1.0, None], [0.5, None], [2.0, None], published=True)]
    return Table("small", "A table", Source("Somebody", "1234.5678", "table 1"), MADE, COLUMNS, rows, deviations,
                 ("a note",), (Figure("Lines", Axis("n", log=True), Axis("L"), series[:1]),
                               Figure("Bars", Axis("net"), Axis("L", log=True), series[1:])))
