"""Results of `netgain compare`: every method side by side, and where they disagree."""

import re

from ..comparison import COMPARISON, Severity
from .bounds_figure import bounds_figure
from .content import Block, Bound, Figure, Note, Section, Side, Table
from .drawing import decimal_of
from .fields import FieldError, Fields
from .lines_figure import Axis, Curve, lines_figure
from .section import Context, computation_facts, contradiction, duration, model_of, remaining
from .slope_interval_figure import SlopeInterval, slope_interval_figure

SCHEMA = COMPARISON
_SIDES = {"upper": Side.UPPER, "lower": Side.LOWER, "exact": Side.EXACT}


def comparison_section(context: Context) -> Section:
    """The section of one result."""
    fields, identifier = context.fields, context.identifier
    model = model_of(fields)
    meanings = fields.object("quantities")
    groups = _groups(fields)
    blocks: list[Block] = []
    for finding in fields.objects("findings"):
        severity, text = finding.text("severity"), finding.text("text")
        blocks.append(Note(f"{severity}: {text}", warning=severity != Severity.UNEXPECTED.value))
    if not blocks:
        blocks.append(Note("All values agree with each other."))
    depths = _depths(f"{identifier}-depth", groups)
    blocks += [depths] if depths else []
    for number, (quantity, (bounds, rows)) in enumerate(groups.items(), start=1):
        meaning = meanings.text_or_none(quantity) or ""
        blocks += contradiction(bounds, quantity)
        figures = [_slope_intervals(f"{identifier}-quantity{number}-slopes", meaning, bounds)]
        if len(bounds) > 1:
            figures.insert(0, bounds_figure(f"{identifier}-quantity{number}-sandwich", f"All bounds on {quantity}",
                                            quantity, bounds))
        blocks += [figure for figure in figures if figure is not None]
        blocks.append(_table(f"{quantity}: {meaning}" if meaning else quantity, rows))
    for quantity in meanings.names():
        if quantity not in groups:
            blocks.append(Note(f"{quantity}: {meanings.text(quantity)}. No method gave a value."))
    facts = [("kind", fields.text("kind")), *model.facts, *computation_facts(fields)]
    fields.ignore("schema")
    proved = any(bound.proved for bounds, _ in groups.values() for bound in bounds)
    return Section(identifier, model.name, "comparison of methods", _headline(groups), facts,
                   [*blocks, *remaining(fields)], (), proved)


def _table(caption: str, rows: list[tuple[str, ...]]) -> Table:
    """The rows, without columns in which nothing stands."""
    headings = ("view", "method", "value", "", "proved", "verdict", "time", "note")
    used = [k for k in range(len(headings)) if any(row[k] for row in rows)]
    return Table(caption, [headings[k] for k in used], [[row[k] for k in used] for row in rows],
                 numeric=frozenset(position for position, k in enumerate(used) if k == 2), wide=True)


def _depths(identifier: str, groups: dict[str, tuple[list[Bound], list[tuple[str, ...]]]]) -> Figure | None:
    """Quantities L_1, L_2, L_4, ... are those of as many steps unrolled: the best bounds over depth."""
    numbered = [(match[1], int(match[2]), bounds) for quantity, (bounds, _) in groups.items()
                if (match := re.fullmatch(r"(\w+)_(\d{1,6})", quantity))]
    stems = {stem for stem, _, _ in numbered}
    if len(numbered) < 2 or len(stems) != 1:
        return None
    stem, = stems
    depths = [depth for _, depth, _ in numbered]
    upper = [min((b.value for b in bounds if b.proved and b.side is Side.UPPER), default=None)
             for _, _, bounds in numbered]
    lower = [max((b.value for b in bounds if b.proved and b.side is Side.LOWER), default=None)
             for _, _, bounds in numbered]
    whole = groups.get(stem, ([], []))[0]
    best = min((b.value for b in whole if b.proved and b.side is Side.UPPER), default=None)
    levels = [(f"{stem}, best proved bound", best, "series-3")] if best is not None else []
    return lines_figure(identifier, f"Bound against depth: {stem} of N steps",
                        f"Networks of {min(depths)} to {max(depths)} steps.",
                        Axis("steps N", logarithmic=max(depths) > 4 * min(depths), ticks=depths[:12]),
                        Axis(f"{stem} of N steps"), [
                            Curve("proved upper bound", depths, upper, "upper", marked=True),
                            Curve("proved lower bound", depths, lower, "lower", marked=True)], levels)


def _slope_intervals(identifier: str, meaning: str, bounds: list[Bound]) -> Figure | None:
    """The slope intervals [m, high] that keep a level, where this is what the quantity is about."""
    match = re.search(r"slopes in \[m, ([\d.]+)\]", meaning)
    if match is None:
        return None
    high = float(match[1])
    intervals = [SlopeInterval(bound.label, bound.value, high, bound.proved and bound.side is Side.UPPER)
                 for bound in bounds if bound.value < high]
    return slope_interval_figure(identifier, f"Slope intervals χ = [m, {high:g}]", intervals)


def _groups(fields: Fields) -> dict[str, tuple[list[Bound], list[tuple[str, ...]]]]:
    """Bounds and lines of the table, by quantity."""
    groups: dict[str, tuple[list[Bound], list[tuple[str, ...]]]] = {}
    for row in fields.objects("rows"):
        quantity, method, side = row.text("quantity"), row.text("method"), row.text("side")
        if side not in _SIDES:
            raise FieldError(f"`rows` has the side {side!r}, expected one of {', '.join(_SIDES)}")
        view, value, proved = row.text("view"), row.number_or_none("value"), row.flag("proved")
        note, seconds = row.text_or_none("note") or "", row.number_or_none("seconds")
        bounds, lines = groups.setdefault(quantity, ([], []))
        bound = Bound(method, 0.0 if value is None else value, _SIDES[side], proved, note)
        if value is not None:
            bounds.append(bound)
        cells = ("–", "", "") if value is None else (decimal_of(bound), f"{bound.side.value} {quantity}",
                                                     "yes" if proved else "no")
        lines.append((view, method, *cells, row.text_or_none("verdict") or "",
                      "" if seconds is None else duration(seconds), note))
    return groups


def _headline(groups: dict[str, tuple[list[Bound], list[tuple[str, ...]]]]) -> tuple[str, str]:
    for quantity, (bounds, _) in groups.items():
        best = min((bound for bound in bounds if bound.proved and bound.side is not Side.LOWER),
                   key=lambda bound: bound.value, default=None)
        if best is not None:
            return f"{quantity} ≤", decimal_of(best)
    return "", "no bound was proved"
