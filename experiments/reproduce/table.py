"""A reproduced table with its figures, and its JSON of schema netgain-table/1, from which all other views are made."""

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any

SCHEMA = "netgain-table/1"

Cell = str | float | int | None


class Kind(enum.Enum):
    """What a column holds; `LOWER` and `UPPER` are bounds and rounded to the safe side where they are shortened."""

    LABEL = "label"
    VALUE = "value"
    LOWER = "lower"
    UPPER = "upper"
    PUBLISHED = "published"
    SECONDS = "seconds"
    NOTE = "note"

    @property
    def is_text(self) -> bool:
        return self in (Kind.LABEL, Kind.NOTE)


class Shape(enum.Enum):
    """How a series is drawn."""

    LINE = "line"
    BARS = "bars"
    INTERVALS = "intervals"


@dataclasses.dataclass(frozen=True)
class Column:
    """`proved`: whether a checker proved the numbers of the column; None where that means nothing."""

    name: str
    kind: Kind
    unit: str = ""
    proved: bool | None = None


@dataclasses.dataclass(frozen=True)
class Axis:
    label: str
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Series:
    """Numbers over numbers or names; of intervals `low` and `high` are the ends and `y` a value within."""

    label: str
    shape: Shape
    x: Sequence[float | str]
    y: Sequence[float | None]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None
    published: bool = False

    def __post_init__(self) -> None:
        parts = [part for part in (self.x, self.y, self.low, self.high) if part is not None]
        if len({len(part) for part in parts}) != 1:
            raise ValueError(f"Series {self.label!r}: lengths {[len(part) for part in parts]} differ.")
        if (self.low is None) != (self.high is None) or (self.shape is Shape.INTERVALS and self.low is None):
            raise ValueError(f"Series {self.label!r}: `low` and `high` go together, and intervals need them.")


@dataclasses.dataclass(frozen=True)
class Figure:
    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]


@dataclasses.dataclass(frozen=True)
class Deviation:
    """A published value that ours does not agree with. `explanation` is None if there is none: a finding to look at."""

    row: str
    column: str
    ours: float
    published: float
    explanation: str | None

    @property
    def relative(self) -> float | None:
        """(ours - published) / |published|; None of zero."""
        return (self.ours - self.published) / abs(self.published) if self.published else None


@dataclasses.dataclass(frozen=True)
class Source:
    """`arxiv`: the paper's number; `table`: which table or figure of it."""

    paper: str
    arxiv: str
    table: str


@dataclasses.dataclass(frozen=True)
class Table:
    """`made`: netgain's version, date, machine, seconds and seeds; every row has a cell for each column, the first of
    which is its label.

    **Raises:** `ValueError` for rows of another length, or cells that are no finite number in a column of numbers.
    """

    name: str
    title: str
    source: Source
    made: Mapping[str, Any]
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    deviations: Sequence[Deviation] = ()
    notes: Sequence[str] = ()
    figures: Sequence[Figure] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.name}: {len(row)} cells for {len(self.columns)} columns in {list(row)}.")
            for column, cell in zip(self.columns, row, strict=True):
                if cell is None:
                    continue
                if isinstance(cell, str) != column.kind.is_text or (not isinstance(cell, str)
                                                                    and not math.isfinite(cell)):
                    raise ValueError(f"{self.name}: {cell!r} does not belong into the column {column.name!r}.")

    @property
    def explained(self) -> bool:
        """Whether no deviation lacks an explanation."""
        return all(deviation.explanation is not None for deviation in self.deviations)

    def to_json(self) -> dict[str, Any]:
        """As schema netgain-table/1."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "title": self.title,
            "source": dataclasses.asdict(self.source),
            "made": dict(self.made),
            "columns": [dataclasses.asdict(column) | {"kind": column.kind.value} for column in self.columns],
            "rows": [list(row) for row in self.rows],
            "deviations": [dataclasses.asdict(part) | {"relative": part.relative} for part in self.deviations],
            "notes": list(self.notes),
            "figures": [_figure(figure) for figure in self.figures],
        }


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "title": figure.title,
        "x": dataclasses.asdict(figure.x),
        "y": dataclasses.asdict(figure.y),
        "series": [_series(series) for series in figure.series],
    }


def _series(series: Series) -> dict[str, Any]:
    found: dict[str, Any] = {"label": series.label, "kind": series.shape.value, "x": list(series.x),
                             "y": list(series.y), "published": series.published}
    if series.low is not None and series.high is not None:
        found |= {"low": list(series.low), "high": list(series.high)}
    return found
