"""Tables of results as Markdown."""

import math
from collections.abc import Sequence

from netgain.verify.rounding import rounded_down, rounded_up


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in pipes; every row has as many cells as there are headings."""
    lines = [headings, ["---"] * len(headings), *rows]
    if any(len(line) != len(headings) for line in lines):
        raise ValueError(f"Every row needs {len(headings)} cells, got {[len(row) for row in rows]}.")
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(value: float | None, digits: int = 4) -> str:
    """So many significant digits; a dash for None or what is not finite."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def above(value: float | None, digits: int = 4) -> str:
    """Likewise, rounded upwards: of proved upper bounds."""
    return "-" if value is None or not math.isfinite(value) else rounded_up(value, digits)


def below(value: float | None, digits: int = 4) -> str:
    """Likewise, rounded downwards: of lower bounds."""
    return "-" if value is None or not math.isfinite(value) else rounded_down(value, digits)


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"
