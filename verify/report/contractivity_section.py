"""Results of `netgain contractivity`: bounds of the logarithmic norm, and the slope intervals that keep a level."""

from collections.abc import Sequence
from typing import Any

from ..contractivity.json_form import CONTRACTIVITY_RESULT
from ..rounding import rounded_up
from .bounds_figure import bounds_figure
from .content import Block, Bound, CertificateStatus, Note, Section, Side
from .fields import Fields
from .section import (
    Context,
    Model,
    bounds_table,
    certificate_of,
    computation_facts,
    contradiction,
    interval_text,
    model_of,
    notes_of,
    remaining,
)
from .slope_interval_figure import SlopeInterval, slope_interval_figure

SCHEMA = CONTRACTIVITY_RESULT
_MU, _M = "μ", "m"


def contractivity_section(context: Context) -> Section:
    """The section of one result."""
    fields, identifier = context.fields, context.identifier
    model = model_of(fields)
    worst, interval = fields.object("worst"), fields.object("interval")
    proved, level, slopes = fields.flag("proved"), fields.number("level"), fields.numbers("slopes")
    bounds = log_norm_bounds(worst, proved)
    of_m = _lower_slope_bounds(interval)
    upper = worst.number_or_none("upper") if proved else None
    intervals = slope_intervals(fields, interval)
    steepest = max(slopes, default=1.0)
    caption = f"Bounds on m: slopes in [m, {steepest:g}] keep μ ≤ {level:g}"
    blocks: list[Block] = contradiction(bounds, _MU)
    blocks += [block for block in (
        bounds_figure(f"{identifier}-sandwich", "Where the logarithmic norm μ lies", _MU, bounds, level),
        bounds_table(f"Bounds on μ, the largest logarithmic norm of f′ over slopes in {interval_text(slopes)}: "
                     "|u(t) − v(t)| ≤ exp(μ t) |u(0) − v(0)|", _MU, bounds),
        slope_interval_figure(f"{identifier}-slopes", f"Slope intervals χ = [m, {steepest:g}] that keep μ ≤ {level:g}",
                              intervals),
        bounds_table(caption, _M, of_m) if of_m else None,
    ) if block is not None]
    blocks += notes_of(fields)
    if fields.flag("gradient_is_wrong"):
        blocks.append(_gradient_is_wrong(level))
    facts = [("verdict", fields.text("verdict").replace("_", " ")), *model.facts]
    search = fields.object_or_none("search")
    if search is not None:
        facts.append(("branch and bound", f"{search.integer('nodes')} boxes, {search.text('status')}"))
    if (growth := fields.number_or_none("log_gain")) is not None:
        facts.append(("log |u(T) − v(T)| / |u(0) − v(0)|", f"at most {rounded_up(growth)} over the time of the file"))
    facts += computation_facts(fields)
    certificates = _certificates(context, model, upper, level, slopes, interval.number_or_none("high"))
    fields.ignore("schema", "question", "norm")
    headline = ("μ ≤", rounded_up(upper)) if upper is not None else ("μ", "no bound was proved")
    return Section(identifier, model.name, "contractivity of a neural ODE", headline, facts,
                   [*blocks, *remaining(fields)], certificates, proved)


def log_norm_bounds(worst: Fields, proved: bool) -> list[Bound]:
    """The bounds of mu under `worst`."""
    worst.ignore("upper_decimal", "lower_decimal")
    found = []
    for name, label, side, is_proved, loose in (
            ("norm_bound", "norm bound", Side.UPPER, False, True),
            ("closed_form", "closed form", Side.UPPER, False, True),
            ("semidefinite", "semidefinite", Side.UPPER, proved, False),
            ("upper", "certified", Side.UPPER, proved, False),
            ("lower", "worst slopes", Side.LOWER, True, False),
            ("gradient", "gradient system", Side.LOWER, False, False)):
        value = worst.number_or_none(name)
        if value is not None:
            found.append(Bound(label, value, side, is_proved, _MEANINGS[name], loose))
    return found


_MEANINGS = {
    "norm_bound": "from norms of the weights",
    "closed_form": "a formula",
    "semidefinite": "one matrix inequality",
    "upper": "the best proof",
    "lower": "these slopes reach it",
    "gradient": "a local maximum, optimistic",
}


def _lower_slope_bounds(interval: Fields) -> list[Bound]:
    found = []
    for name, label, side, proved, note in (
            ("semidefinite", "semidefinite", Side.UPPER, True, "one matrix inequality"),
            ("high", "certified", Side.UPPER, True, "the best proof"),
            ("low", "not below", Side.LOWER, False, "slopes there reach the level"),
            ("gradient", "gradient system", Side.LOWER, False, "local maxima, optimistic")):
        value = interval.number_or_none(name)
        if value is not None:
            found.append(Bound(label, value, side, proved, note))
    return found


def slope_intervals(fields: Fields, interval: Fields) -> list[SlopeInterval]:
    """What each method says of chi = [m, high], the slopes that keep the level."""
    high = max(fields.numbers("slopes"), default=1.0)
    found = []
    for name, label, proved in (("high", "certified", True), ("semidefinite", "semidefinite", True),
                                ("gradient", "gradient system", False)):
        m = interval.number_or_none(name)
        if m is not None and m < high:
            found.append(SlopeInterval(label, m, high, proved))
    return found


def _gradient_is_wrong(level: float) -> Block:
    return Note(f"The gradient system suggests that the level {level:g} is kept, and is wrong: it ended in a local "
                "maximum, and slopes are known that exceed the level.", warning=True)


def _certificates(context: Context, model: Model, upper: float | None, level: float, slopes: Sequence[float],
                  m: float | None) -> list[CertificateStatus]:
    """Of the logarithmic norm, and of the slope interval."""
    fields = context.fields
    high = max(slopes, default=1.0)
    low = min(slopes, default=0.0)
    of_norm = certificate_of(
        context, model, fields.text_or_none("certificate"),
        "" if upper is None else f"μ ≤ {rounded_up(upper)} for slopes in [{low:g}, {high:g}]",
        lambda body: _covers(body, upper, low, high))
    of_interval = certificate_of(
        context, model, fields.text_or_none("interval_certificate"),
        "" if m is None else f"μ ≤ {level:g} for slopes in [{rounded_up(m)}, {high:g}]",
        lambda body: _covers(body, level, m, high))
    return [*of_norm, *of_interval]


def _covers(body: dict[str, Any], level: float | None, low: float | None, high: float) -> str | None:
    value, slopes = body.get("value"), body.get("slopes")
    if level is None or low is None:
        return "the result claims nothing of this kind."
    if not isinstance(value, int | float) or not (isinstance(slopes, list) and len(slopes) == 2):
        return "the checker names no level and slopes."
    if value > level:
        return f"it proves μ ≤ {value!r}, the result claims μ ≤ {level!r}."
    if slopes[0] > low or high > slopes[1]:
        return f"it is for slopes in {slopes}, the result for [{low!r}, {high!r}]."
    return None
