"""The layer graph as a picture: one row for each layer, edges beside the names, gains as bars.

Rows follow each other in the order of computation, so that a network of any depth stays legible; branches run in
columns of their own, as in pictures of the history of a repository.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

from .content import LayerGraph, LayerRow, Line
from .fields import FieldError, Fields

# Its exponential is a float64.
_LARGEST_REACH = 700.0


@dataclasses.dataclass(frozen=True)
class Node:
    """A layer as results list it: `gains` by input, None where unknown; `reached` by the witness."""

    name: str
    layer: str
    inputs: tuple[str, ...]
    shape: tuple[float, ...]
    slopes: str
    gains: tuple[float | None, ...]
    reached: float | None


def nodes_of(fields: Fields) -> tuple[Node, ...]:
    """The nodes under `graph`, in order; none if the result has no graph.

    **Raises:** `FieldError` if a node is fed by one that does not come before it, or gains do not fit the inputs or
    are negative.
    """
    nodes: list[Node] = []
    for entry in fields.objects("graph"):
        node = Node(entry.text("node"), entry.text("layer"), tuple(entry.texts("inputs")),
                    tuple(entry.numbers("shape")), entry.text_or_none("slopes") or "",
                    tuple(entry.optional_numbers("gains")), entry.number_or_none("reached"))
        known = {other.name for other in nodes}
        if node.name in known:
            raise FieldError(f"`graph` names the node {node.name!r} twice")
        if not set(node.inputs) <= known:
            raise FieldError(f"`graph` has the node {node.name!r} fed by {sorted(set(node.inputs) - known)}, which do "
                             "not come before it")
        if len(node.gains) != len(node.inputs):
            raise FieldError(f"`graph` has {len(node.gains)} gains for the {len(node.inputs)} inputs of {node.name!r}")
        if any(gain is not None and gain < 0 for gain in node.gains):
            raise FieldError(f"`graph` has a negative gain at {node.name!r}")
        nodes.append(node)
    return tuple(nodes)


def layer_graph(nodes: Sequence[Node]) -> LayerGraph | None:
    """The drawing; None without nodes."""
    if not nodes:
        return None
    gains = [gain for node in nodes for gain in node.gains if gain]
    reach = min(max((abs(math.log(gain)) for gain in gains), default=0.0) or 1.0, _LARGEST_REACH)
    rows = []
    previous: str | None = None
    columns = 1
    for node, (column, lines) in zip(nodes, _lanes(nodes), strict=True):
        columns = max(columns, column + 1, *(int(max(line.x1, line.x2)) + 1 for line in lines))
        start, width = _bar(node.gains, reach)
        fed_by = "" if node.inputs in ((), (previous,)) else ", ".join(node.inputs)
        rows.append(LayerRow(node.name, node.layer, " × ".join(f"{size:g}" for size in node.shape) or "scalar",
                             node.slopes, fed_by, column, tuple(lines), _gain_text(node.gains), start, width,
                             "" if node.reached is None else f"{node.reached:.4g}"))
        previous = node.name
    return LayerGraph(tuple(rows), columns, f"1/{math.exp(reach):.3g} to {math.exp(reach):.3g}, logarithmic")


def composition(nodes: Sequence[Node]) -> dict[str, float]:
    """The bound by composition at each node: gain times bound, summed over its inputs; up to the first unknown gain."""
    reached: dict[str, float] = {}
    for node in nodes:
        if not node.inputs:
            reached[node.name] = 1.0
        elif all(gain is not None for gain in node.gains) and all(name in reached for name in node.inputs):
            pairs = zip(node.gains, node.inputs, strict=True)
            reached[node.name] = sum(gain * reached[name] for gain, name in pairs if gain is not None)
    return reached


def _bar(gains: Sequence[float | None], reach: float) -> tuple[float, float]:
    """Start and width in per cent: from the middle, which is gain 1, to the logarithm of the largest gain."""
    known = [gain for gain in gains if gain is not None]
    if not known:
        return 50.0, 0.0
    share = 50 * min(1.0, max(-1.0, math.log(max(known)) / reach)) if max(known) > 0 else -50.0
    return (50.0, round(share, 2)) if share >= 0 else (round(50 + share, 2), round(-share, 2))


def _gain_text(gains: Sequence[float | None]) -> str:
    if not gains:
        return ""
    texts = ["?" if gain is None else f"{gain:.4g}" for gain in gains]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)


def _lanes(nodes: Sequence[Node]) -> Iterator[tuple[int, list[Line]]]:
    """The column of each node, and the pieces of edges in its row.

    A column holds the name of a node with readers to come; a node takes the first column that is free once its own
    inputs with no other reader have left theirs.
    """
    readers: dict[str, int] = {}
    for node in nodes:
        for name in set(node.inputs):
            readers[name] = readers.get(name, 0) + 1
    columns: list[str | None] = []
    for node in nodes:
        inputs = set(node.inputs)
        for name in inputs:
            readers[name] -= 1
        before = list(columns)
        columns = [None if name in inputs and not readers[name] else name for name in columns]
        freed = [k for k, name in enumerate(before) if name in inputs and columns[k] is None]
        own = freed[0] if freed else columns.index(None) if None in columns else len(columns)
        columns += [None] * (own + 1 - len(columns))
        lines = []
        for k, held in enumerate(before):
            if held in inputs:
                lines.append(Line(k, 0, own, 50))
            if held is not None and columns[k] == held:
                lines.append(Line(k, 0, k, 100))
        if readers.get(node.name):
            columns[own] = node.name
            lines.append(Line(own, 50, own, 100))
        while columns and columns[-1] is None:
            columns.pop()
        yield own, lines
