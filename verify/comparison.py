"""Several methods on one model side by side: what each says of the same number, and where they disagree.

A kind of model (a neural ODE, a feedforward network) brings its rows; what follows from the rows alone is here. To add
a kind, write a `Kind` in a file of its own and append it to `cli_compare.KINDS`.
"""

import dataclasses
import enum
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from netgain.layers.formats import Source
from rich.console import Console
from rich.text import Text

from .outcomes import ExitCode
from .result_json import number_or_null, tool
from .rounding import rounded_down, rounded_up
from .terminal import duration_text, show_line, show_table

COMPARISON = "netgain-comparison/1"


class Side(enum.Enum):
    """On which side of the quantity a value lies; the value is how it is printed."""

    LOWER = "<="
    UPPER = ">="
    EXACT = "="


class Severity(enum.Enum):
    """What a disagreement means."""

    CONTRADICTION = "contradiction"
    """Two proved values exclude each other: a fault of netgain, nothing of the comparison can be relied on."""
    WRONG = "wrong"
    """What a method without proof suggests is false, as a proved value shows."""
    UNEXPECTED = "unexpected"
    """An order that theory gives for exact optima does not hold for the values found; nothing proved is touched."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What one method says.

    **Attributes:** `view`: how the model is looked at, such as a mode, a norm, or slopes instead of inputs; `quantity`:
    the symbol of the number asked for; `value`: None where the method gave none, `note` then says why; `proved`:
    whether a checker proved that the value lies on its `side` of the quantity; `seconds`: None where not measured
    alone; `verdict`: what the value says about a level, if one was asked about.
    """

    view: str
    quantity: str
    method: str
    value: float | None
    side: Side
    proved: bool
    seconds: float | None = None
    note: str = ""
    verdict: str = ""

    @property
    def decimal(self) -> str:
        """The value, rounded to its side."""
        if self.value is None:
            return ""
        return rounded_down(self.value) if self.side is Side.LOWER else rounded_up(self.value)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A disagreement between rows, and why it comes about."""

    severity: Severity
    text: str


@dataclasses.dataclass(frozen=True)
class Order:
    """`below` <= `above`, both methods of rows, is expected; `because` says what a violation would mean."""

    below: str
    above: str
    because: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Rows and findings of a model.

    **Attributes:** `kind`: of model; `quantities`: symbol and meaning of each number asked for.
    """

    model: str
    kind: str
    quantities: dict[str, str]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> ExitCode:
        """PROVED if some value is proved, and no two proved values contradict each other."""
        if any(finding.severity is Severity.CONTRADICTION for finding in self.findings):
            return ExitCode.NUMERICAL
        return ExitCode.PROVED if any(row.proved for row in self.rows) else ExitCode.NOT_PROVED


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonRequest:
    """What was asked, for all kinds alike; None where nothing was said."""

    level: float | None = None
    lower_slope: float | None = None
    most_condition: float | None = None
    time_limit: float = 60.0
    seed: int = 0


class RequestError(ValueError):
    """A number that was asked for does not fit the model. `option`: the attribute of the request."""

    def __init__(self, option: str, text: str):
        super().__init__(text)
        self.option = option


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of model file that can be compared.

    **Attributes:** `name`: what `--as` accepts; `what`: for people; `recognises`: whether a file is of this kind by
    its layout, without reading the weights; `load`: its content; `compare`: from the content, the request and a
    function that is told what is going on; `options`: attributes of the request that mean something for the kind.
    """

    name: str
    what: str
    recognises: Callable[[Path], bool]
    load: Callable[[Path], Any]
    compare: Callable[[Any, ComparisonRequest, Callable[[str], None]], Comparison]
    options: frozenset[str]


def crossings(rows: Iterable[Row], slack: float) -> list[Finding]:
    """Upper bounds below lower bounds of the same quantity: without tolerance if both are proved, else by `slack`."""
    found = []
    for quantity, group in _by_quantity(rows).items():
        below = [row for row in group if row.side in (Side.LOWER, Side.EXACT)]
        above = [row for row in group if row.side in (Side.UPPER, Side.EXACT)]
        for low, high in itertools.product(below, above):
            assert low.value is not None
            assert high.value is not None
            both = low.proved and high.proved
            # The rounding that makes two equal numbers differ is allowed to what is not proved.
            if low is high or low.value <= high.value + (0.0 if both else slack):
                continue
            text = (f"{quantity}: {low.method} says it is at least {low.decimal}, {high.method} that it is at most "
                    f"{high.decimal}.")
            if both:
                found.append(Finding(Severity.CONTRADICTION, f"{text} Both are called proved: this is a fault of "
                                                             "netgain. Please report it."))
            else:
                doubtful = " and ".join(row.method for row in (low, high) if not row.proved)
                found.append(Finding(Severity.WRONG, f"{text} Not proved, and hence to be doubted: {doubtful}."))
    return found


def out_of_order(rows: Iterable[Row], orders: Sequence[Order], slack: float) -> list[Finding]:
    """The orders that values of the same quantity violate by more than `slack`."""
    found = []
    for quantity, group in _by_quantity(rows).items():
        by_method = {row.method: row for row in group}
        for order in orders:
            below, above = by_method.get(order.below), by_method.get(order.above)
            if below is None or above is None:
                continue
            assert below.value is not None
            assert above.value is not None
            if below.value > above.value + slack:
                found.append(Finding(Severity.UNEXPECTED, f"{quantity}: {order.below} ({below.decimal}) is above "
                                                          f"{order.above} ({above.decimal}). {order.because}"))
    return found


def _by_quantity(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows with a finite value."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.value is not None and math.isfinite(row.value):
            groups.setdefault(row.quantity, []).append(row)
    return groups


def show_comparison(console: Console, comparison: Comparison) -> None:
    """The table, what its symbols mean, and the findings."""
    console.print(Text.assemble((comparison.model, "bold"), f": {comparison.kind}"), soft_wrap=True)
    for symbol, meaning in comparison.quantities.items():
        console.print(Text(f"{symbol}: {meaning}"), soft_wrap=True)
    console.print()
    columns = [("view", [row.view for row in comparison.rows]),
               ("method", [row.method for row in comparison.rows]),
               ("value", [row.decimal or "-" for row in comparison.rows]),
               ("", [f"{row.side.value} {row.quantity}" if row.value is not None else "" for row in comparison.rows]),
               ("proved", [("yes" if row.proved else "no") if row.value is not None else ""
                           for row in comparison.rows]),
               ("verdict", [row.verdict for row in comparison.rows]),
               ("time", ["" if row.seconds is None else duration_text(row.seconds) for row in comparison.rows]),
               ("note", [row.note for row in comparison.rows])]
    used = [(heading, cells) for heading, cells in columns if any(cells)]
    show_table(console, [heading for heading, _ in used], zip(*(cells for _, cells in used), strict=True))
    console.print()
    if not comparison.findings:
        show_line(console, "findings", "none: all values agree with each other")
    styles = {Severity.CONTRADICTION: "bold red", Severity.WRONG: "bold", Severity.UNEXPECTED: ""}
    for finding in comparison.findings:
        show_line(console, finding.severity.value, finding.text, styles[finding.severity])


def comparison_json(comparison: Comparison, source: Source) -> dict[str, Any]:
    """The comparison for machines; numbers JSON cannot hold are null."""
    return {
        "schema": COMPARISON,
        "tool": tool(),
        "model": {**dataclasses.asdict(source), "name": comparison.model},
        "kind": comparison.kind,
        "quantities": comparison.quantities,
        "rows": [
            {
                "view": row.view,
                "quantity": row.quantity,
                "method": row.method,
                "value": None if row.value is None else number_or_null(row.value),
                "side": row.side.name.lower(),
                "proved": row.proved,
                "seconds": None if row.seconds is None else round(row.seconds, 6),
                "verdict": row.verdict or None,
                "note": row.note or None,
            }
            for row in comparison.rows
        ],
        "findings": [{"severity": finding.severity.value, "text": finding.text} for finding in comparison.findings],
    }
