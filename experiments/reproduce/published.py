"""Published values, which are data files with their sources, and where ours disagree with them.

A file `published/NAME.json` of schema netgain-published/1 holds rules for each published column: with which of our
columns it is compared, and how. A value may have reasons why ours differs, each with the value ours is then expected to
have: an explanation that does not predict what is found does not count.
"""

import dataclasses
import enum
import importlib.resources
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from .table import Cell, Column, Deviation, Kind, Source

SCHEMA = "netgain-published/1"


class Relation(enum.Enum):
    """What ours has to be to the published value, up to the tolerance."""

    EQUAL = "equal"
    AT_MOST = "at most"
    AT_LEAST = "at least"

    def holds(self, ours: float, published: float, tolerance: float) -> bool:
        """`tolerance` is relative to the published value."""
        slack = tolerance * abs(published)
        match self:
            case Relation.AT_MOST:
                return ours <= published + slack
            case Relation.AT_LEAST:
                return ours >= published - slack
        return abs(ours - published) <= slack


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a published column is compared: `against` which of ours, by which relation."""

    against: str
    relation: Relation
    tolerance: float


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why our value in the column `against` differs: the name of an `explanation`, and the value it predicts, up to a
    relative `tolerance`."""

    against: str
    explanation: str
    expected: float
    tolerance: float


@dataclasses.dataclass(frozen=True)
class Value:
    """A published number, and where ours is known to differ from it."""

    row: str
    column: str
    value: float
    reasons: tuple[Reason, ...] = ()


@dataclasses.dataclass(frozen=True)
class Published:
    """What a paper says. `origin`: where the values were found, with a url; `unavailable`: why values are missing;
    `units` of the columns."""

    name: str
    source: Source
    origin: str
    url: str
    unavailable: str
    units: Mapping[str, str]
    rules: Mapping[str, tuple[Rule, ...]]
    explanations: Mapping[str, str]
    values: Sequence[Value]

    def columns(self) -> list[Column]:
        """The published columns, in the order of the file."""
        return [Column(f"published {name}", Kind.PUBLISHED, unit) for name, unit in self.units.items()]

    def cells(self, row: str) -> list[Cell]:
        """The row's cells in these columns, None where nothing was published."""
        found = {value.column: value.value for value in self.values if value.row == row}
        return [found.get(name) for name in self.units]

    def rows(self) -> list[str]:
        """The names of the rows of which something was published, in order."""
        return list(dict.fromkeys(value.row for value in self.values))

    def deviations(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> list[Deviation]:
        """Where a rule does not hold for our rows, which are told by their labels.

        **Raises:** `ValueError` for a rule about a column that the table does not have.
        """
        places = {column.name: place for place, column in enumerate(columns)}
        ours = {row[0]: row for row in rows}
        found = []
        for value in self.values:
            for rule in self.rules.get(value.column, ()):
                if rule.against not in places:
                    raise ValueError(f"{self.name}: the rule of {value.column!r} is about {rule.against!r}, which is "
                                     f"no column of {list(places)}.")
                cell = ours[value.row][places[rule.against]] if value.row in ours else None
                if isinstance(cell, float | int) and not rule.relation.holds(cell, value.value, rule.tolerance):
                    found.append(Deviation(value.row, f"{value.column}, against {rule.against}", float(cell),
                                           value.value, self._explained(value, rule, float(cell))))
        return found

    def _explained(self, value: Value, rule: Rule, ours: float) -> str | None:
        """The explanation that predicts ours, if there is one."""
        for reason in value.reasons:
            if reason.against == rule.against and math.isclose(ours, reason.expected, rel_tol=reason.tolerance):
                return self.explanations[reason.explanation]
        return None


def load_published(name: str) -> Published:
    """The file of this name.

    **Raises:** `ValueError` if it does not keep to the schema: it is a part of this package.
    """
    text = importlib.resources.files(__package__).joinpath(f"published/{name}.json").read_text(encoding="utf-8")
    return parsed(json.loads(text), name)


def parsed(content: Mapping[str, Any], name: str) -> Published:
    """**Raises:** `ValueError` if the content does not keep to the schema."""
    required = {"schema", "source", "origin", "url", "unavailable", "columns", "explanations", "values"}
    if content.get("schema") != SCHEMA or set(content) != required:
        raise ValueError(f"{name}: expected the schema {SCHEMA} with {sorted(required)}, got {sorted(content)}.")
    units, rules = {}, {}
    for column, about in content["columns"].items():
        units[column] = about["unit"]
        rules[column] = tuple(Rule(rule["against"], Relation(rule["relation"]), float(rule["tolerance"]))
                              for rule in about["rules"])
    values = [Value(value["row"], value["column"], float(value["value"]),
                    tuple(Reason(**reason) for reason in value.get("reasons", ()))) for value in content["values"]]
    explanations = content["explanations"]
    for value in values:
        if value.column not in units or not math.isfinite(value.value):
            raise ValueError(f"{name}: {value} is of no column, or no number.")
        for reason in value.reasons:
            if reason.explanation not in explanations:
                raise ValueError(f"{name}: {reason} of {value.row} has an explanation that is not in the file.")
            if reason.against not in {rule.against for rule in rules[value.column]}:
                raise ValueError(f"{name}: {reason} of {value.row} is about a column that no rule compares with.")
    if len({(value.row, value.column) for value in values}) < len(values):
        raise ValueError(f"{name}: a value is there twice.")
    return Published(name, Source(**content["source"]), content["origin"], content["url"], content["unavailable"],
                     units, rules, explanations, values)
