"""Results of `netgain flow`: the flow of a neural ODE beside its Euler networks, over their depth."""

from typing import Any

from ..rounding import rounded_down, rounded_up
from .bounds_figure import bounds_figure
from .content import Block, Bound, Section, Side, Table
from .fields import Fields
from .lines_figure import Axis, Curve, lines_figure
from .section import (
    Context,
    bounds_table,
    certificate_of,
    computation_facts,
    duration,
    interval_text,
    model_of,
    notes_of,
    remaining,
)

SCHEMA = "netgain-flow-result/1"


def flow_section(context: Context) -> Section:
    """The section of one result."""
    fields, identifier = context.fields, context.identifier
    model = model_of(fields)
    time, proved = fields.number("time"), fields.flag("proved")
    bounds = _flow_bounds(fields)
    blocks: list[Block] = []
    figure = bounds_figure(f"{identifier}-sandwich", f"How far the flow carries solutions apart until T = {time:g}",
                           "G", bounds, level=1.0)
    if figure is not None:
        blocks += [figure, bounds_table("Bounds on G: |u(T) − v(T)| ≤ G |u(0) − v(0)| for all solutions", "G", bounds)]
    blocks += _networks(fields, identifier, time, bounds)
    blocks += notes_of(fields)
    facts = [("slopes", interval_text(fields.numbers("slopes"))), *model.facts, *computation_facts(fields)]
    if plot := fields.text_or_none("plot"):
        facts.append(("picture", plot))
    best = min((bound.value for bound in bounds if bound.proved), default=None)
    certificates = certificate_of(context, model, fields.text_or_none("certificate"),
                                  f"one of the bounds on G over the time {time:g}",
                                  lambda body: _covers(body, [bound.value for bound in bounds if bound.proved], time))
    # The rates are logarithms of the gains over the time.
    for entry in (*fields.objects("flow"), *fields.objects("networks")):
        entry.ignore("rate", "step")
    fields.ignore("schema", "question", "norm")
    headline = ("G ≤", rounded_up(best)) if best is not None else ("G", "no bound was proved")
    return Section(identifier, model.name, "flow of a neural ODE", headline, facts, [*blocks, *remaining(fields)],
                   certificates, proved)


def _flow_bounds(fields: Fields) -> list[Bound]:
    found = []
    for entry in fields.objects("flow"):
        method, value, proved = entry.text("method"), entry.number_or_none("gain"), entry.flag("proved")
        texts = (entry.text_or_none("note"), duration(entry.number("seconds")))
        if value is not None:
            found.append(Bound(method, value, Side.UPPER, proved, ", ".join(text for text in texts if text)))
    return found


def _networks(fields: Fields, identifier: str, time: float, flow: list[Bound]) -> list[Block]:
    steps: list[float] = []
    values: dict[str, list[float | None]] = {name: [] for name in ("norm_product", "upper", "slope", "lower")}
    rows = []
    for network in fields.objects("networks"):
        count, proved = network.integer("steps"), network.flag("proved")
        found = {name: network.number_or_none(name) for name in values}
        if not proved:
            found["upper"] = None
        steps.append(count)
        for name, value in found.items():
            values[name].append(value)
        rows.append((str(count), *("" if found[name] is None else rounded(found[name] or 0.0)
                                   for name, rounded in (("lower", rounded_down), ("slope", rounded_down),
                                                         ("upper", rounded_up), ("norm_product", rounded_up))),
                     duration(network.number("seconds")), " ".join(network.texts("notes"))))
    if not rows:
        return []
    curves = [Curve("certified", steps, values["upper"], "upper", marked=True),
              Curve("slope system", steps, values["slope"], "muted", dashed=True),
              Curve("witness", steps, values["lower"], "lower", marked=True)]
    best = min((bound.value for bound in flow if bound.proved), default=None)
    note = ""
    if _comparable(values):
        curves.insert(0, Curve("norm product", steps, values["norm_product"], "loose", marked=True))
    else:
        note = "; norm products are off the scale"
    levels = [("flow, best proved bound", best, "series-3")] if best is not None else []
    description = (f"Networks of {min(steps):g} to {max(steps):g} Euler steps. Their bounds say nothing of the flow, "
                   "nor the other way round.")
    figure = lines_figure(f"{identifier}-depth", f"Bound against depth: N Euler steps of {time:g}/N{note}",
                          description,
                          Axis("Euler steps N", logarithmic=max(steps) > 4 * min(steps), ticks=sorted(set(steps))[:12]),
                          Axis("L of the network"), curves, levels)
    table = Table("Networks of N Euler steps: witness ≤ L ≤ certified",
                  ("N", "witness", "slope system", "certified", "norm product", "time", "note"), rows,
                  numeric=frozenset({0, 1, 2, 3, 4}), wide=True)
    return [block for block in (figure, table) if block is not None]


def _comparable(values: dict[str, list[float | None]]) -> bool:
    """Whether the norm products leave the other bounds apart on one scale."""
    others = [value for name in ("upper", "lower") for value in values[name] if value is not None]
    products = [value for value in values["norm_product"] if value is not None]
    return bool(products) and (not others or max(products) <= max(others) + 4 * (max(others) - min(others)))


def _covers(body: dict[str, Any], gains: list[float], time: float) -> str | None:
    value = body.get("value")
    if body.get("time") != time:
        return f"it is over the time {body.get('time')!r}, the result over {time!r}."
    # The other bounds follow from logarithmic norms, which have certificates of their own.
    covered = isinstance(value, int | float) and any(value <= gain for gain in gains)
    return None if covered else f"it proves G ≤ {value!r}, which is none of the result's bounds."
