"""Networks of several architectures: LeNet-5, 2C2F, and residual networks of affine maps and of convolutions."""

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from netgain.layers import Graph, from_torch

from ...benchmarks.networks import read_folder, residual_network
from ...training.classifier import Recipe
from ..context import Context, NeedsError
from ..published import load_published
from ..registry import Entry, Needs
from ..table import Axis, Cell, Column, Figure, Kind, Series, Shape, Source, Table
from .lipschitz_jobs import bounded, cell, tensors, trained

NAME = "glipsdp-versatility"
_TIME_LIMIT = 900.0
_ARCHITECTURES = ("LeNet-5", "2C2F", "FC-R18", "C-R18")
# Training images and epochs: the last takes as long as the others together.
_IMAGES, _EPOCHS = 10_000, 2
_COLUMNS = (
    Column("network", Kind.LABEL),
    Column("mode", Kind.NOTE),
    Column("test accuracy", Kind.VALUE, "%"),
    Column("witness", Kind.LOWER, proved=True),
    Column("optimum at least", Kind.LOWER, proved=False),
    Column("certified", Kind.UPPER, proved=True),
    Column("norm product", Kind.UPPER, proved=False),
    Column("solving", Kind.SECONDS, "s"),
    Column("total", Kind.SECONDS, "s"),
)


def run(context: Context) -> Table:
    """Bounds of each network by the mode that is chosen for it."""
    published = load_published(NAME)
    authors = context.request.weights is not None
    networks = _published_networks(context.request.weights) if context.request.weights else _own_networks(context)
    rows: list[list[Cell]] = []
    for name, graph, accuracy in networks:
        found = bounded(context, name, graph, None, _TIME_LIMIT) if graph else None
        rows.append([name, cell(found, "mode"), accuracy,
                     *(cell(found, key) for key in ("witness", "optimum", "certified", "norm_product", "solve_seconds",
                                                    "total_seconds")),
                     *(published.cells(name) if authors else ())])
    columns = [*_COLUMNS, *(published.columns() if authors else ())]
    notes = [published.unavailable] if authors else [
        "Networks of ours in the shapes of the paper, trained on MNIST for a few epochs; published values belong to "
        "other weights and are shown with --weights.",
    ]
    notes.append("FC-R18 and C-R18 have ReLU after each sum, which counts. mode: neuron has a multiplier for each "
                 "neuron, spectral one for each channel.")
    return Table(NAME, ENTRY.title, ENTRY.source, context.made((context.request.seed,)), columns, rows,
                 published.deviations(columns, rows) if authors else (), [*notes, *context.notes],
                 [_figure(columns, rows)])


def _published_networks(folder: Path) -> Iterator[tuple[str, Graph, None]]:
    """**Raises:** `NeedsError` if the folder has none of them."""
    found = [network for network in read_folder(folder) if re.match(r"FC-R18", network.name)]
    if not found:
        raise NeedsError(f"{folder}: no versatility/FC-R18.mat.")
    return ((network.name, network.build(), None) for network in found)


def _own_networks(context: Context) -> Iterator[tuple[str, Graph | None, float | None]]:
    for kind in _ARCHITECTURES:
        recipe = Recipe(epochs=5 * _EPOCHS if context.request.full else _EPOCHS, seed=context.request.seed, rate=1e-3,
                        decay=0.01)
        weights = trained(context, kind, recipe, functools.partial(_module, kind), tensors,
                          None if context.request.full else _IMAGES, _calm)
        if weights is None:
            yield kind, None, None
            continue
        accuracy = 100 * float(weights.pop("test_accuracy"))
        yield f"{kind}, ours", _graph(kind, weights), accuracy


def _module(kind: str) -> Any:
    from ..modules import LeNet, ResidualConvolutional, ResidualPerceptron, TwoConvolutions

    return {"LeNet-5": LeNet, "2C2F": TwoConvolutions, "FC-R18": ResidualPerceptron,
            "C-R18": ResidualConvolutional}[kind]()


def _calm(network: Any) -> None:
    from ..modules import calm

    calm(network)


def _graph(kind: str, weights: Mapping[str, np.ndarray]) -> Graph:
    """The network of these weights, through torch's export where its layers are no plain chain of matrices."""
    import torch

    if kind == "FC-R18":
        return residual_network(weights, True, kind)
    module = _module(kind)
    state = module.state_dict()
    with torch.no_grad():
        for key, value in state.items():
            value.copy_(torch.from_numpy(weights[key.replace(".", "_")]))
    return from_torch(module.eval(), torch.zeros(1, 1, 28, 28))


def _figure(columns: list[Column], rows: list[list[Cell]]) -> Figure:
    places = {column.name: place for place, column in enumerate(columns)}
    names = [str(row[0]) for row in rows]

    def of(name: str) -> list[float | None]:
        return [value if isinstance(value, float) else None for value in (row[places[name]] for row in rows)]

    series = [Series(name, Shape.BARS, names, of(name), published=name.startswith("published"))
              for name in ("witness", "certified", "norm product", "published GLipSDP", "published norm product")
              if name in places]
    return Figure("Bounds of several architectures", Axis("network"), Axis("l2 Lipschitz constant", log=True), series)


ENTRY = Entry(
    NAME, "Versatility: LeNet-5, 2C2F, residual networks of affine maps and of convolutions",
    Source("Pauli, Gramlich, Allgöwer: Lipschitz constant estimation for general neural network architectures using "
           "control tools", "2405.01125", "table of architectures (LeNet-5, 2C2F, FC-R18, C-R18)"),
    Needs(data="MNIST", extras=("torch",), minutes=8, memory=4),
    weights="a folder with versatility/FC-R18.mat",
    full="five times as many epochs, on all images", run=run)
