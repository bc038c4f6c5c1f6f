"""Bounds over depth: along one network from layer to layer, and from one network to the next."""

import dataclasses
from collections.abc import Sequence

from .content import Figure
from .layer_graph import Node, composition
from .lines_figure import Axis, Curve, lines_figure


@dataclasses.dataclass(frozen=True)
class Depth:
    """A network among others: how many nonlinear layers it has, and its bounds."""

    layers: int
    upper: float | None
    lower: float | None
    norm_product: float | None


def layers_figure(identifier: str, title: str, nodes: Sequence[Node], upper: float | None) -> Figure | None:
    """The bound by composition, and what the witness shows, after each layer that changes lengths.

    **Arguments:** `upper`: the bound proved of the whole network, drawn at its end.
    """
    bounds = composition(nodes)
    shown = [node for node in nodes if not node.inputs or node.gains != (1.0,)]
    if shown and nodes[-1].reached != shown[-1].reached:
        shown.append(nodes[-1])
    if len(shown) < 3 or len(bounds) < 2:
        return None
    places = list(range(len(shown)))
    composed = [bounds.get(node.name) for node in shown]
    curves = [
        Curve("norms multiplied, layer by layer", places, composed, "loose", marked=True),
        Curve("the witness so far", places, [node.reached for node in shown], "lower", marked=True),
    ]
    if upper is not None:
        whole = Curve("certified for the whole network", [places[-1]], [upper], "upper", marked=True, joined=False)
        curves.append(whole)
    description = (f"After {len(shown) - 1} layers the norms multiply to {bounds.get(nodes[-1].name, float('nan')):.5g}"
                   f"{'' if nodes[-1].reached is None else f', the witness reaches {nodes[-1].reached:.5g}'}.")
    return lines_figure(identifier, title, description, Axis("layers that change lengths"), Axis("gain from the input"),
                        curves)


def depths_figure(identifier: str, title: str, networks: Sequence[Depth]) -> Figure | None:
    """Bounds over the number of nonlinear layers; None unless there are several depths."""
    if len({network.layers for network in networks}) < 2:
        return None
    ordered = sorted(networks, key=lambda network: network.layers)
    depths = [network.layers for network in ordered]
    products = [network.norm_product for network in ordered]
    curves = [
        Curve("norm product", depths, products, "loose", marked=True, joined=False),
        Curve("certified", depths, [network.upper for network in ordered], "upper", marked=True, joined=False),
        Curve("witness", depths, [network.lower for network in ordered], "lower", marked=True, joined=False),
    ]
    return lines_figure(identifier, title, f"{len(networks)} networks of {depths[0]} to {depths[-1]} nonlinear layers.",
                        Axis("nonlinear layers", ticks=sorted(set(depths))[:12]), Axis("bound"), curves)
