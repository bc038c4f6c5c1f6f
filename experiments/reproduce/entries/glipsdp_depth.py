"""Bounds and times over depth and width, of affine and of convolutional chains."""

import functools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from netgain.layers import Graph
from netgain.verify.mode import Mode

from ...benchmarks.convolutional_networks import convolution_chain
from ...benchmarks.networks import perceptron, read_folder
from ...training.classifier import Recipe
from ..context import Context, NeedsError
from ..published import load_published
from ..registry import Entry, Needs
from ..table import Axis, Cell, Column, Figure, Kind, Series, Shape, Source, Table
from .lipschitz_jobs import bounded, cell, trained

NAME = "glipsdp-depth"
_TIME_LIMIT = 1800.0
_IMAGES = 4000
_DEPTHS = {"W16": (2, 4, 8, 16, 32, 64), "W64": (2, 4, 8, 16), "CH8": (2, 4, 8), "CH16": (2, 4)}
_FULL = {"W64": (32, 64), "CH8": (16,), "CH16": (8, 16)}
_COLUMNS = (
    Column("network", Kind.LABEL),
    Column("width", Kind.LABEL),
    Column("depth", Kind.VALUE),
    Column("witness", Kind.LOWER, proved=True),
    Column("optimum at least", Kind.LOWER, proved=False),
    Column("certified", Kind.UPPER, proved=True),
    Column("roesser", Kind.UPPER, proved=True),
    Column("norm product", Kind.UPPER, proved=False),
    Column("solving", Kind.SECONDS, "s"),
    Column("proving", Kind.SECONDS, "s"),
)


def run(context: Context) -> Table:
    """Every chain's bound, and the time it took."""
    published = load_published(NAME)
    authors = context.request.weights is not None
    chains = _published_chains(context.request.weights) if context.request.weights else _own_chains(context)
    rows: list[list[Cell]] = []
    for name, width, depth, graph in chains:
        images = width.startswith("CH")
        found = bounded(context, name, graph, Mode.SPECTRAL if images else Mode.NEURON, _TIME_LIMIT, not images) \
            if graph else None
        shared = bounded(context, name, graph, Mode.ROESSER, _TIME_LIMIT, lower_bounds=False) \
            if graph and images else None
        rows.append([name, width, depth, *(cell(found, key) for key in ("witness", "optimum", "certified")),
                     cell(shared, "certified"), *(cell(found, key) for key in (
                         "norm_product", "solve_seconds", "prove_seconds")),
                     *(published.cells(name) if authors else ())])
    columns = [*_COLUMNS, *(published.columns() if authors else ())]
    notes = [
        "Depth counts affine maps or convolutions, with ReLU between them. W: width; CH: channels, one multiplier per "
        "channel, exact on a torus around the image (mode spectral); roesser: the inequality of the paper. No witness "
        "is sought for convolutions.",
        "Seconds are of this machine under whatever else it does; published ones are of the authors' machine.",
    ]
    if not authors:
        notes.append("Weights of ours: networks trained on MNIST with normalised weights, of which these are the maps "
                     "between hidden layers. Published values belong to other weights and are shown with --weights.")
    figures = [_figure(columns, rows, "Bound over depth", "l2 Lipschitz constant",
                       {"certified": False, "published LipSDP": True, "published GLipSDP": True}),
               _figure(columns, rows, "Time over depth", "seconds",
                       {"solving": False, "published LipSDP time": True, "published GLipSDP time": True,
                        "published CLipSDP time": True})]
    return Table(NAME, ENTRY.title, ENTRY.source, context.made((context.request.seed,)), columns, rows,
                 published.deviations(columns, rows) if authors else (), [*notes, *context.notes], figures)


def _published_chains(folder: Path) -> Iterator[tuple[str, str, int, Graph]]:
    """**Raises:** `NeedsError` if the folder has none of them."""
    pattern = re.compile(r"(?:mlp|cnn)_[LC]\d+_(?P<width>\w+) (?:first |conv_1..conv_)(?P<depth>\d+)")
    found = [(network, match) for network in read_folder(folder) if (match := pattern.match(network.name))]
    if not found:
        raise NeedsError(f"{folder}: no mlp/mlp_L*_W*.mat or cnn/cnn_C*_CH*.mat.")
    return ((network.name, match["width"], int(match["depth"]), network.build()) for network, match in found)


def _own_chains(context: Context) -> Iterator[tuple[str, str, int, Graph | None]]:
    for width, depths in _DEPTHS.items():
        for depth in (*depths, *(_FULL.get(width, ()) if context.request.full else ())):
            name = f"{width} depth {depth}"
            recipe = Recipe(epochs=2, seed=context.request.seed, rate=1e-3, decay=0.0)
            build = functools.partial(_module, width, depth, math.prod(context.dataset.image))
            weights = trained(context, name, recipe, build, _exported, _IMAGES)
            yield (name, width, depth,
                   None if weights is None else _chain(weights, width, depth, context.dataset.image, name))


def _module(width: str, depth: int, pixels: int) -> Any:
    from ..modules import NormalisedConvolutional, NormalisedPerceptron

    if width.startswith("CH"):
        return NormalisedConvolutional(depth + 1, int(width[2:]), 10)
    return NormalisedPerceptron(pixels, depth + 1, int(width[1:]), 10)


def _exported(network: Any) -> Mapping[str, np.ndarray]:
    """The maps between hidden layers, normalised as they are used."""
    kind, count = ("conv", network.convolutions) if hasattr(network, "convolutions") else ("linear", network.hidden)
    found = {}
    for k in range(1, count):
        found[f"{kind}_{k}_weight"] = network.normalised(k).detach().double().numpy()
        found[f"{kind}_{k}_bias"] = network.get_submodule(f"{kind}_{k}").bias.detach().double().numpy()
    return found


def _chain(weights: Mapping[str, np.ndarray], width: str, depth: int, image: tuple[int, int], name: str) -> Graph:
    if width.startswith("CH"):
        return convolution_chain(weights, depth, image, name)
    return perceptron([(weights[f"linear_{k}_weight"], weights[f"linear_{k}_bias"]) for k in range(1, depth + 1)], name)


def _figure(columns: list[Column], rows: list[list[Cell]], title: str, label: str, shown: Mapping[str, bool]) -> Figure:
    places = {column.name: place for place, column in enumerate(columns)}
    series = []
    for width in dict.fromkeys(str(row[1]) for row in rows):
        group = [row for row in rows if row[1] == width]
        for name, published in shown.items():
            if name in places and any(row[places[name]] is not None for row in group):
                values = [value if isinstance(value, float) else None for value in (row[places[name]] for row in group)]
                series.append(Series(f"{width}, {name}", Shape.LINE, [float(row[2] or 0) for row in group], values,
                                     published=published))
    return Figure(title, Axis("depth", log=True), Axis(label, log=True), series)


ENTRY = Entry(
    NAME, "Bounds and times over depth and width, fully connected and convolutional",
    Source("Pauli, Gramlich, Allgöwer: Lipschitz constant estimation for general neural network architectures using "
           "control tools", "2405.01125", "figures of bounds and times over the number of layers"),
    Needs(data="MNIST", extras=("torch",), minutes=2, memory=2),
    weights="a folder with mlp/mlp_L*_W*.mat and cnn/cnn_C*_CH*.mat (25 minutes)",
    full="depths of 32 and 64 at width 64, of 16 with 8 channels, of 8 and 16 with 16 channels", run=run)
