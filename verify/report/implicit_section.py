"""Results of `netgain implicit`: well-posedness, convergence of iterations, gains in several norms."""

from typing import Any

from ..implicit.json_form import IMPLICIT_RESULT
from ..rounding import rounded_up
from .bounds_figure import bounds_figure
from .content import Block, Bound, Note, Section, Side, Table
from .convergence_figure import Convergence, convergence_figure
from .fields import FieldError, Fields
from .layer_graph import layer_graph, nodes_of
from .section import (
    Context,
    bounds_table,
    certificate_of,
    computation_facts,
    contradiction,
    interval_text,
    missing,
    model_of,
    notes_of,
    remaining,
)

SCHEMA = IMPLICIT_RESULT
_CHECKED = {"l_inf -> l_inf": ("linf", "linf_of_outputs"), "l2 -> l2": ("l2",)}


def implicit_section(context: Context) -> Section:
    """The section of one result."""
    fields, identifier = context.fields, context.identifier
    model = model_of(fields)
    proved, verdict = fields.flag("proved"), fields.text("verdict")
    blocks: list[Block] = [layer_graph(nodes_of(fields)) or missing("the layers")]
    for number, layer in enumerate(fields.objects("layers"), start=1):
        blocks += _layer_blocks(layer, f"{identifier}-layer{number}")
    by_norms = _gains(fields)
    for number, (norms, bounds) in enumerate(by_norms.items(), start=1):
        symbol = f"g ({norms})"
        blocks += contradiction(bounds, symbol)
        title = f"Gain from {norms.replace(' -> ', ' to ')}"
        if len(bounds) > 1 and (figure := bounds_figure(f"{identifier}-gain{number}-sandwich", title, symbol, bounds)):
            blocks.append(figure)
        blocks.append(bounds_table(f"{title}: the least g with |f(u) − f(u′)| ≤ g |u − u′|", "g", bounds))
    blocks += notes_of(fields)
    witness = fields.object_or_none("witness")
    if witness is not None:
        witness.ignore("norms", "ratio")
    best = {norms: _best(bounds) for norms, bounds in by_norms.items()}
    statement = "; ".join(f"{norms}: g ≤ {rounded_up(value)}" for norms, value in best.items()
                          if value is not None and norms in _CHECKED)
    certificates = certificate_of(context, model, fields.text_or_none("certificate"),
                                  f"exactly one output for each input; {statement}".rstrip("; "),
                                  lambda body: _covers(body, best))
    facts = [("well-posed", verdict), *model.facts, *computation_facts(fields)]
    fields.ignore("schema", "question")
    euclidean = best.get("l2 -> l2")
    headline = ("l2 gain ≤", rounded_up(euclidean)) if euclidean is not None else ("well-posed", verdict)
    return Section(identifier, model.name, "implicit network", headline, facts, [*blocks, *remaining(fields)],
                   certificates, proved)


def _layer_blocks(layer: Fields, identifier: str) -> list[Block]:
    node, neurons = layer.text("node"), layer.integer("neurons")
    verdict = layer.text("verdict")
    slopes = interval_text(layer.numbers("slopes"))
    blocks: list[Block] = [Note(f"Layer {node}: {neurons} neurons, slopes in {slopes}; well-posed: {verdict}.",
                                warning=verdict != "proved")]
    conditions = [(entry.text("condition").replace("_", " "), _number(entry.number_or_none("margin")),
                   _number(entry.number_or_none("most")), "yes" if entry.flag("holds") else "no")
                  for entry in layer.objects("conditions")]
    if conditions:
        blocks.append(Table(f"Conditions that make {node} well-posed (floating point)",
                            ("condition", "margin", "at most", "holds"), conditions, numeric=frozenset({1, 2})))
    iterations, rows = [], []
    for entry in layer.objects("iterations"):
        name, guaranteed = entry.text("name"), entry.number_or_none("guaranteed")
        course = entry.anything("course")
        iterations.append(Convergence(name, _pairs(course), guaranteed))
        rows.append((name, entry.text("norm"), _number(entry.number_or_none("step")), _number(guaranteed),
                     _number(entry.number_or_none("measured")), str(entry.integer("iterations")),
                     entry.text("status").replace("_", " ")))
    if rows:
        title = f"Convergence of {node}; dashed: guaranteed"
        figure = convergence_figure(f"{identifier}-convergence", title, iterations)
        blocks.append(figure or missing("the convergence"))
        blocks.append(Table(f"Iterations that lead to the solution of {node}",
                            ("iteration", "norm", "step", "guaranteed factor", "measured", "iterations", "status"),
                            rows, numeric=frozenset({2, 3, 4, 5}), wide=True))
    return blocks


def _pairs(course: Any) -> list[tuple[float, float]]:
    """**Raises:** `FieldError` for what is no list of pairs."""
    if course is None:
        return []
    if not isinstance(course, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in course):
        raise FieldError("`course` of an iteration is no list of pairs of iteration and length")
    if not all(isinstance(value, int | float) or value is None for pair in course for value in pair):
        raise FieldError("`course` of an iteration holds something else than numbers")
    return [(float(k), float(length)) for k, length in course if k is not None and length is not None]


def _gains(fields: Fields) -> dict[str, list[Bound]]:
    groups: dict[str, list[Bound]] = {}
    for gain in fields.objects("gains"):
        norms, method, note = gain.text("norms"), gain.text("method"), gain.text_or_none("note") or ""
        side = {"upper": Side.UPPER, "lower": Side.LOWER}.get(gain.text("side"))
        if side is None:
            raise FieldError(f"`gains` has the side {gain.text('side')!r}, expected upper or lower")
        value, proved = gain.number_or_none("value"), gain.flag("proved")
        gain.ignore("decimal")
        if value is not None:
            groups.setdefault(norms, []).append(Bound(method, value, side, proved, note))
    return groups


def _best(bounds: list[Bound]) -> float | None:
    return min((bound.value for bound in bounds if bound.proved and bound.side is Side.UPPER), default=None)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _covers(body: dict[str, Any], best: dict[str, float | None]) -> str | None:
    """Whether the certificate proves gains as small as the best that the result calls proved."""
    gains = body.get("gains")
    if not isinstance(gains, dict):
        return "the checker names no gains."
    for norms, names in _CHECKED.items():
        claimed = best.get(norms)
        shown = [gains[name] for name in names if isinstance(gains.get(name), int | float)]
        if claimed is not None and (not shown or min(shown) > claimed):
            proves = f"a gain of {min(shown)!r}" if shown else "none"
            return f"for {norms} it proves {proves}, the result claims {claimed!r}."
    return None
