"""Results of `netgain compare`: every method side by side, and where they disagree."""

from ..comparison import COMPARISON, Severity
from .bounds_figure import bounds_figure
from .content import Block, Bound, Note, Section, Side, Table
from .drawing import decimal_of
from .fields import FieldError, Fields
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
    for number, (quantity, (bounds, rows)) in enumerate(groups.items(), start=1):
        meaning = meanings.text_or_none(quantity) or ""
        blocks += contradiction(bounds, quantity)
        figure = bounds_figure(f"{identifier}-quantity{number}-sandwich", f"All bounds on {quantity}", quantity, bounds)
        blocks += [figure] if figure else []
        if quantity == "m":
            # Slopes in [m, 1] keep the level: the interval chi of the literature.
            intervals = [SlopeInterval(bound.label, bound.value, 1.0, bound.proved and bound.side is Side.UPPER)
                         for bound in bounds if bound.value < 1]
            chi = slope_interval_figure(f"{identifier}-quantity{number}-slopes", "Slope intervals [m, 1]", intervals)
            blocks += [chi] if chi else []
        caption = f"{quantity}: {meaning}" if meaning else quantity
        blocks.append(Table(caption, ("view", "method", "value", "", "proved", "verdict", "time", "note"), rows,
                            numeric=frozenset({2})))
    for quantity in meanings.names():
        if quantity not in groups:
            blocks.append(Note(f"{quantity}: {meanings.text(quantity)}. No method gave a value."))
    facts = [("kind", fields.text("kind")), *model.facts, *computation_facts(fields)]
    fields.ignore("schema")
    proved = any(bound.proved for bounds, _ in groups.values() for bound in bounds)
    return Section(identifier, model.name, "comparison of methods", _headline(groups), facts,
                   [*blocks, *remaining(fields)], (), proved)


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
