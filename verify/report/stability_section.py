"""Results of `netgain stability`: rates, equilibria and gains of NAIS-Net blocks."""

from typing import Any

from ..rounding import rounded_down, rounded_up
from ..stability.json_form import STABILITY_RESULT
from .bounds_figure import bounds_figure
from .content import Block, Bound, Note, Section, Side, Table
from .fields import Fields
from .section import (
    Context,
    bounds_table,
    certificate_of,
    computation_facts,
    contradiction,
    interval_text,
    model_of,
    remaining,
)

SCHEMA = STABILITY_RESULT


def stability_section(context: Context) -> Section:
    """The section of one result."""
    fields, identifier = context.fields, context.identifier
    model = model_of(fields)
    stable, network = fields.flag("stable"), fields.object("network")
    of_network = _network_bounds(network)
    blocks: list[Block] = contradiction(of_network, "L")
    figure = bounds_figure(f"{identifier}-sandwich", "Where the gain L of the network lies", "L", of_network)
    blocks += [figure] if figure else []
    blocks.append(bounds_table("Bounds on L: |f(u) − f(u′)| ≤ L |u − u′|, Euclidean norms", "L", of_network))
    claims: list[list[tuple[str, float, str, int | None]]] = []
    for number, block in enumerate(fields.objects("blocks"), start=1):
        shown, found = _block(block, number, f"{identifier}-block{number}")
        blocks += shown
        claims.append(found)
    about = "one block" if len(claims) == 1 else f"{len(claims)} blocks"
    certificates = certificate_of(
        context, model, fields.text_or_none("certificate"), f"{sum(map(len, claims))} claims about {about}",
        lambda body: _covers(body, claims, _value(of_network, "certified")))
    facts = [("stable", "yes, proved" if stable else "not proved"), *model.facts, *computation_facts(fields)]
    fields.ignore("schema", "question")
    gain = _value(of_network, "certified")
    headline = ("L ≤", rounded_up(gain)) if gain is not None else ("stable", "yes" if stable else "not proved")
    return Section(identifier, model.name, "stability of blocks", headline, facts, [*blocks, *remaining(fields)],
                   certificates, stable)


def _network_bounds(network: Fields) -> list[Bound]:
    found = []
    for name, label, side, proved, loose in (
            ("norm_product", "norm product", Side.UPPER, False, True),
            ("product_of_parts", "product of the blocks' gains", Side.UPPER, False, True),
            ("gain", "certified", Side.UPPER, True, False), ("gain_at_least", "witness", Side.LOWER, True, False)):
        value = network.number_or_none(name)
        if value is not None:
            found.append(Bound(label, value, side, proved, loose=loose))
    return found


def _value(bounds: list[Bound], label: str) -> float | None:
    return next((bound.value for bound in bounds if bound.label == label), None)


def _block(block: Fields, number: int, identifier: str) -> tuple[list[Block], list[tuple[str, float, str, int | None]]]:
    form, size, depth = block.text("form"), block.integer("size"), block.integer("depth")
    slopes, step = block.numbers("activation_slopes"), block.number("step")
    shared = "one stage for all depths" if block.flag("shared") else "a stage for each depth"
    stable = block.text("outcome")
    blocks: list[Block] = [
        Note(f"Block {number}: {form}, {size} units, {depth} steps of {step:g}, {shared}, slopes in "
             f"{interval_text(slopes)}. {block.text('explanation')}"),
    ]
    claims, rates, rows = [], [], []
    for claim in block.objects("claims"):
        kind, value, side = claim.text("kind"), claim.number("value"), claim.text("bound")
        at = claim.anything("depth")
        claims.append((kind, value, side, at if isinstance(at, int) else None))
        lower = side == "lower"
        if kind.startswith(("rate", "growth at")):
            rates.append(Bound(kind, value, Side.LOWER if lower else Side.UPPER, True))
        rows.append((kind, (rounded_down if lower else rounded_up)(value), "" if at is None else str(at),
                     interval_text(claim.numbers("slopes")), claim.text("meaning")))
        claim.ignore("data")
    title = f"Rates of block {number}: below 1, trajectories approach each other"
    figure = bounds_figure(f"{identifier}-rates", title, "factor of a step", rates, level=1.0)
    blocks += [figure] if figure else []
    if rows:
        blocks.append(Table(f"What is proved of block {number} ({stable})",
                            ("claim", "g", "depth", "slopes", "meaning"), rows, numeric=frozenset({1, 2}), wide=True))
    block.ignore("rate")
    blocks += [Note(text) for text in block.texts("notes")]
    return blocks, claims


def _covers(body: dict[str, Any], claims: list[list[tuple[str, float, str, int | None]]], gain: float | None
            ) -> str | None:
    """Whether the certificate holds every claim of the result, at least as strong."""
    proved = body.get("blocks")
    if not isinstance(proved, list) or len(proved) != len(claims):
        return f"it is about {len(proved) if isinstance(proved, list) else 0} blocks, the result about {len(claims)}."
    for number, (have, want) in enumerate(zip(proved, claims, strict=True), start=1):
        for kind, value, side, depth in want:
            same = [claim for claim in have if (claim.get("kind"), claim.get("bound"), claim.get("depth")) ==
                    (kind, side, depth)]
            if not any(claim["value"] >= value if side == "lower" else claim["value"] <= value for claim in same):
                return f"for block {number} it does not prove {kind!r} with {value!r}."
    whole = body.get("network_gain")
    if gain is not None and not (isinstance(whole, int | float) and whole <= gain):
        return f"it proves the gain {whole!r} of the network, the result claims {gain!r}."
    return None
