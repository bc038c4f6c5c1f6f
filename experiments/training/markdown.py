"""Tables of results as Markdown."""

import math
from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in pipes; every row has as many cells as there are headings."""
    lines = [headings, ["---"] * len(headings), *rows]
    if any(len(line) != len(headings) for line in lines):
        raise ValueError(f"Every row needs {len(headings)} cells, got {[len(row) for row in rows]}.")
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(value: float | None, digits: int = 4) -> str:
    """So many significant digits; a dash for None or what is not finite."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"
