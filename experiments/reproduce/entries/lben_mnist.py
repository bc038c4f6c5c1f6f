"""Implicit networks with a prescribed l2 Lipschitz constant: what is proved of trained ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netgain.layers import Graph, ModelError, load
from netgain.solvers.result import Limits
from netgain.verify.implicit.report import EUCLIDEAN, LARGEST, implicit

from ..context import Context, NeedsError
from ..published import load_published
from ..registry import Entry, Needs
from ..table import Axis, Cell, Column, Figure, Kind, Series, Shape, Source, Table
from .nemon_mnist import COMMITTED

NAME = "lben-mnist"
_SECONDS = 300.0
_COLUMNS = (
    Column("network", Kind.LABEL),
    Column("well-posed", Kind.NOTE),
    Column("l2 witness", Kind.LOWER, proved=True),
    Column("l2 certified", Kind.UPPER, proved=True),
    Column("l_inf witness", Kind.LOWER, proved=True),
    Column("l_inf certified", Kind.UPPER, proved=True),
    Column("seconds", Kind.SECONDS, "s"),
)


def run(context: Context) -> Table:
    """Well-posedness and gains of each network."""
    published = load_published(NAME)
    authors = context.request.weights is not None
    networks = _published_networks(context.request.weights) if context.request.weights \
        else iter([("mnist_nemon", load(COMMITTED))])
    rows: list[list[Cell]] = []
    for name, graph in networks:
        found = _bounds(context, name, graph)
        rows.append([name, *(None if found is None else found[column.name] for column in _COLUMNS[1:]),
                     *(published.cells(name) if authors else ())])
    columns = [*_COLUMNS, *(published.columns() if authors else ())]
    notes = ["x = relu(A x + B u + b), y = C x: with --weights, networks of the authors, trained to a prescribed l2 "
             "Lipschitz constant; without, the implicit network committed here. Inputs are as the network takes them."]
    return Table(NAME, ENTRY.title, ENTRY.source, context.made((context.request.seed,)), columns, rows,
                 published.deviations(columns, rows) if authors else (), [*notes, *context.notes],
                 [_figure(columns, rows)])


def _published_networks(folder: Path) -> Iterator[tuple[str, Graph]]:
    """**Raises:** `NeedsError` if the folder has no networks, or one of its files is none."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise NeedsError(f"{folder}: no .npz files with implicit networks (A, B, b, C).")
    try:
        return iter([(path.stem, load(path)) for path in paths])
    except (ModelError, OSError) as error:
        raise NeedsError(f"{folder}: {error}") from None


def _bounds(context: Context, name: str, graph: Graph) -> dict[str, Any] | None:
    def compute() -> dict[str, Any]:
        report = implicit(graph, Limits(time_limit=_SECONDS), seed=context.request.seed)
        found: dict[str, Any] = {"well-posed": report.verdict.name.lower(), "seconds": sum(report.seconds.values())}
        for label, norms in (("l2", EUCLIDEAN), ("l_inf", LARGEST)):
            for side, upper in (("certified", True), ("witness", False)):
                best = report.best(norms, upper)
                found[f"{label} {side}"] = None if best is None else best.value
        return found

    inputs = {"digest": graph.digest, "seed": context.request.seed, "seconds": _SECONDS}
    result: dict[str, Any] | None = context.job(name, inputs, compute)
    return result


def _figure(columns: list[Column], rows: list[list[Cell]]) -> Figure:
    places = {column.name: place for place, column in enumerate(columns)}
    names = [str(row[0]) for row in rows]

    def of(name: str) -> list[float | None]:
        return [value if isinstance(value, float) else None for value in (row[places[name]] for row in rows)]

    series = [Series("l2, witness to certified", Shape.INTERVALS, names, of("l2 certified"), of("l2 witness"),
                     of("l2 certified"))]
    series += [Series(column.name, Shape.LINE, names, of(column.name), published=True) for column in columns
               if column.name in ("published prescribed l2", "published l2 attack")]
    return Figure("l2 Lipschitz constants of implicit networks", Axis("network"), Axis("constant", log=True), series)


ENTRY = Entry(
    NAME, "LBEN: implicit networks with a prescribed l2 Lipschitz constant",
    Source("Revay, Wang, Manchester: Lipschitz bounded equilibrium networks", "2010.01732",
           "networks trained on MNIST with prescribed Lipschitz constants (what NEMON is compared with in l2)"),
    Needs(minutes=1, memory=1), weights="a folder with the networks as .npz (A, B, b, C)", run=run)
