"""Results of `netgain verify` and `lipschitz`: the sandwich, the layer graph, the course of the solve."""

from typing import Any

from ..result_json import RESULT
from ..rounding import rounded_up
from .bounds_figure import bounds_figure
from .content import Block, Bound, Section, Side
from .course_figure import course_figure
from .depth_figure import layers_figure
from .fields import Fields
from .layer_graph import layer_graph, nodes_of
from .section import (
    Context,
    bounds_table,
    certificate_of,
    computation_facts,
    contradiction,
    missing,
    model_of,
    notes_of,
    remaining,
)

SCHEMA = RESULT


def lipschitz_section(context: Context) -> Section:
    """The section of one result."""
    fields, identifier = context.fields, context.identifier
    model = model_of(fields)
    upper, proved = fields.number_or_none("upper"), fields.flag("proved")
    solver, lower = fields.object("solver"), fields.object("lower")
    bounds = _bounds(fields, upper if proved else None, lower, solver)
    nodes = nodes_of(fields)
    course = [(line.number("seconds"), line.number_or_none("bound"), line.number_or_none("dual_bound"))
              for line in fields.objects("course")]
    for line in fields.objects("course"):
        line.ignore("iteration")
    witness = lower.number("value")
    certified = upper if proved else None

    blocks: list[Block] = contradiction(bounds, "L")
    figures = [
        bounds_figure(f"{identifier}-sandwich", "Where the Lipschitz constant L lies", "L", bounds),
        bounds_table("Bounds on L: |f(x) − f(x′)| ≤ L |x − x′| for all inputs, Euclidean norms", "L", bounds),
        layer_graph(nodes) or missing("the layers"),
        layers_figure(f"{identifier}-depth", "How the bound grows along the layers", nodes, certified),
        course_figure(f"{identifier}-course", "Bound against time", course, certified, witness or None)
        or missing("the course of the solve"),
    ]
    blocks += [figure for figure in figures if figure is not None]
    blocks += notes_of(fields)
    facts = [*model.facts, *_solver_facts(fields, solver), *computation_facts(fields)]
    claim = fields.object_or_none("claim")
    if claim is not None:
        facts.insert(0, ("claim", f"L ≤ {claim.number('below'):.17g}: {claim.text('verdict')}"))
    certificates = certificate_of(
        context, model, fields.text_or_none("certificate"),
        "" if certified is None else f"L ≤ {rounded_up(certified)}", lambda body: _covers(body, certified))
    fields.ignore("schema", "question", "upper_decimal", "norm")
    headline = ("L ≤", rounded_up(certified)) if certified is not None else ("L", "no bound was proved")
    return Section(identifier, model.name, "Lipschitz constant", headline, facts, [*blocks, *remaining(fields)],
                   certificates, certified is not None)


def _bounds(fields: Fields, certified: float | None, lower: Fields, solver: Fields) -> list[Bound]:
    """From the largest to the smallest, as far as they are known."""
    product, optimum = fields.number_or_none("norm_product"), solver.number_or_none("dual_bound")
    slope, witness = lower.number_or_none("slope"), lower.number("value")
    lower.ignore("decimal")
    pair = lower.object_or_none("witness") is not None
    found = []
    if product is not None:
        found.append(Bound("norm product", product, Side.UPPER, False, "norms multiplied along the layers", loose=True))
    if certified is not None:
        found.append(Bound("certified", certified, Side.UPPER, True, "proved by the certificate"))
    if optimum:
        found.append(Bound("optimum", optimum, Side.LIMIT, False, "no multipliers certify less"))
    if slope:
        found.append(Bound("slope system", slope, Side.LIMIT, False, "no proof by slopes says less"))
    if pair or witness > 0:
        found.append(Bound("witness", witness, Side.LOWER, True, "a pair of inputs shows it"))
    return found


def _solver_facts(fields: Fields, solver: Fields) -> list[tuple[str, str]]:
    name = f"{solver.text('name')} {solver.text_or_none('version') or ''}".strip()
    facts = [("solver", f"{name}: {solver.text('explanation')}"), ("iterations", str(solver.integer("iterations"))),
             ("multipliers", fields.text_or_none("mode") or "")]
    if detail := solver.text_or_none("detail"):
        facts.append(("detail", detail))
    solver.ignore("status", "bound")
    gap = fields.number_or_none("gap")
    if gap is not None:
        facts.insert(0, ("gap", f"{100 * gap:.3g} % = (certified − witness) / certified"))
    if method := fields.text_or_none("method"):
        facts.append(("method", method))
    if (seed := fields.anything("seed")) is not None:
        facts.append(("seed", str(seed)))
    return [(label, text) for label, text in facts if text]


def _covers(body: dict[str, Any], certified: float | None) -> str | None:
    value = body.get("value")
    proves = certified is not None and isinstance(value, float | int) and value <= certified
    return None if proves else f"it proves L ≤ {value!r}, the result claims L ≤ {certified!r}."
