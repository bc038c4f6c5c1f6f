"""What several results say together: one line for each, and figures over all networks of a kind."""

from collections.abc import Sequence
from typing import Any

from ..contractivity.json_form import CONTRACTIVITY_RESULT
from ..result_json import RESULT
from ..rounding import rounded_down, rounded_up
from .content import Block, Section, Table
from .depth_figure import Depth, depths_figure
from .lines_figure import Axis, Curve, lines_figure
from .reading import Document
from .slope_interval_figure import SlopeInterval, slope_interval_figure

_YES_OR_NO = {True: "yes", False: "no", None: "–"}


def overview(sections: Sequence[Section], documents: Sequence[Document]) -> list[Block]:
    """Tables and figures over all results, which their sections have read and found well-formed."""
    blocks: list[Block] = [_table(sections)]
    networks = [(section, document.body) for section, document in zip(sections, documents, strict=True)
                if document.schema == RESULT]
    fields = [(section, document.body) for section, document in zip(sections, documents, strict=True)
              if document.schema == CONTRACTIVITY_RESULT]
    figures = []
    if len(networks) > 1:
        figures += [_sandwiches(networks), depths_figure("overview-depths", "Bound against depth of the network", [
            _depth(body) for _, body in networks if body.get("graph")])]
    if len(fields) > 1:
        figures.append(slope_interval_figure("overview-slopes", "Slope intervals of all fields", [
            SlopeInterval(section.title, m, max(body["slopes"]), True) for section, body in fields
            if (m := body["interval"].get("high")) is not None and m < max(body["slopes"])]))
    return blocks + [figure for figure in figures if figure is not None]


def _table(sections: Sequence[Section]) -> Table:
    rows = []
    for section in sections:
        standing = section.standing.value if section.certificates else "–"
        rows.append((section.title, section.question, " ".join(section.headline).strip() or "–",
                     _YES_OR_NO[section.proved], standing))
    return Table("All results", ("model", "question", "best proved", "proved", "certificate"), rows, wide=True)


def _sandwiches(networks: Sequence[tuple[Section, dict[str, Any]]]) -> Block | None:
    """Witness, certified and norm product of each network side by side."""
    names = [section.title for section, _ in networks]
    places = list(range(len(names)))
    upper = [body.get("upper") if body["proved"] else None for _, body in networks]
    lower = [body["lower"]["value"] or None for _, body in networks]
    product = [body.get("norm_product") for _, body in networks]
    shown = [value for value in (*upper, *lower, *product) if value]
    wide = bool(shown) and max(shown) > 12 * min(shown)
    description = "; ".join(
        f"{name}: {'?' if low is None else rounded_down(low, 5)} to {'?' if high is None else rounded_up(high, 5)}"
        for name, low, high in zip(names, lower, upper, strict=True))
    curves = [Curve("norm product", places, product, "loose", marked=True, joined=False),
              Curve("certified", places, upper, "upper", marked=True, joined=False, low=lower, high=upper),
              Curve("witness", places, lower, "lower", marked=True, joined=False)]
    return lines_figure("overview-sandwiches", "Where the Lipschitz constants lie", description,
                        Axis("network", False, labels=names), Axis("L", wide), curves)


def _depth(body: dict[str, Any]) -> Depth:
    """Nonlinear layers are those with slopes."""
    layers = sum(1 for node in body["graph"] if node.get("slopes"))
    upper = body.get("upper") if body["proved"] else None
    return Depth(layers, upper, body["lower"]["value"] or None, body.get("norm_product"))
