"""Perceptrons and convolutional networks for 8x8 digits: bounds of one logit by all methods."""

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from netgain.layers import Graph
from netgain.verify.mode import Mode

from ...benchmarks.convolutional_networks import Flattening, digits_network
from ...benchmarks.networks import DIGITS_CLASS, digits_perceptron, read_folder
from ...data import digits
from ...training.classifier import Recipe
from ..context import Context, NeedsError
from ..published import load_published
from ..registry import Entry, Needs
from ..table import Axis, Cell, Column, Figure, Kind, Series, Shape, Source, Table
from .lipschitz_jobs import bounded, cell, tensors, trained

NAME = "glipsdp-digits"
_SEEDS = 5
_EPOCHS = 30
_HIDDEN = {"fnn2": (32,), "fnn3": (32, 32)}
_CHANNELS = {"cnn2": (8,), "cnn3": (8, 16)}
_COLUMNS = (
    Column("network", Kind.LABEL),
    Column("witness", Kind.LOWER, proved=True),
    Column("slope system", Kind.LOWER, proved=False),
    Column("optimum at least", Kind.LOWER, proved=False),
    Column("certified", Kind.UPPER, proved=True),
    Column("per channel", Kind.UPPER, proved=True),
    Column("roesser", Kind.UPPER, proved=True),
    Column("norm product", Kind.UPPER, proved=False),
    Column("seconds", Kind.SECONDS, "s"),
)
_ORDER = (
    "A convolutional network has two rows. It was trained with images flattened as channels, rows, columns, the last "
    "fastest. MATLAB flattens arrays with the first index fastest; the script behind the published figures writes "
    "convolutions as matrices in that order, and hands them over to the weights of the affine map in the order of the "
    "training. The result is a network with the same weights at other places: another map ('column-major'). The "
    "published LipSDP is the optimum of that map, and comes out when our weights are permuted alike; only GLipSDP, "
    "which treats all pixels of a channel alike, is about the network that was trained ('as trained').",
    "per channel: one multiplier for all pixels of a channel, exact on a torus around the image; roesser: the same by "
    "state-space realisations, as in the paper. certified has a multiplier for each pixel.",
)


def run(context: Context) -> Table:
    """Bounds of every network, and their published bounds where the weights are the authors'."""
    published = load_published(NAME)
    authors = context.request.weights is not None
    networks = _published_networks(context.request.weights) if context.request.weights else _own_networks(context)
    rows: list[list[Cell]] = []
    for name, graph in networks:
        whole = bounded(context, name, graph) if graph else None
        images = name.endswith("as trained")
        shared = {mode: bounded(context, name, graph, mode, lower_bounds=False) if graph and images else None
                  for mode in (Mode.SPECTRAL, Mode.ROESSER)}
        rows.append([name, *(cell(whole, key) for key in ("witness", "slope", "optimum", "certified")),
                     *(cell(found, "certified") for found in shared.values()),
                     cell(whole, "norm_product"), cell(whole, "total_seconds"),
                     *(published.cells(name) if authors else ())])
    columns = [*_COLUMNS, *(published.columns() if authors else ())]
    notes = list(_ORDER)
    if not authors:
        notes.append(f"Networks of ours, trained on scikit-learn's digits with seeds {context.request.seed} to "
                     f"{context.request.seed + _SEEDS - 1}, in the shapes of the paper; published values belong to "
                     "other weights and are shown with --weights.")
    return Table(NAME, ENTRY.title, ENTRY.source, context.made(_seeds(context)), columns, rows,
                 published.deviations(columns, rows) if authors else (), [*notes, *context.notes],
                 [_figure(columns, rows)])


def _seeds(context: Context) -> range:
    return range(context.request.seed, context.request.seed + _SEEDS)


def _published_networks(folder: Path) -> Iterator[tuple[str, Graph]]:
    """**Raises:** `NeedsError` if the folder has none of them."""
    found = [network for network in read_folder(folder) if re.match(r"[fc]nn\d_seed\d", network.name)]
    if not found:
        raise NeedsError(f"{folder}: no digits/fnn*_weights.mat or digits/cnn*_weights.mat.")
    return ((network.name, network.build()) for network in found)


def _own_networks(context: Context) -> Iterator[tuple[str, Graph | None]]:
    # The class that the paper takes, of a data set that is not MNIST.
    context.dataset = digits()
    for kind in (*_HIDDEN, *_CHANNELS):
        few = kind in _CHANNELS and not context.request.full
        for seed in _seeds(context)[:1] if few else _seeds(context):
            name = f"{kind}_seed{seed}"
            weights = trained(context, name, Recipe(epochs=_EPOCHS, seed=seed, batch=64, decay=0.01),
                              functools.partial(_module, kind), _exported)
            if kind in _HIDDEN:
                yield name, None if weights is None else digits_perceptron(weights, DIGITS_CLASS, name)
                continue
            for suffix, order in (("as trained", Flattening.ROWS_OF_CHANNELS),
                                  ("flattened column-major", Flattening.COLUMN_MAJOR)):
                label = f"{name} {suffix}"
                yield label, None if weights is None else digits_network(weights, DIGITS_CLASS, order, label)


def _module(kind: str):  # type: ignore[no-untyped-def]
    from ..modules import DigitsConvolutional, DigitsPerceptron

    return DigitsPerceptron((64, *_HIDDEN[kind], 10)) if kind in _HIDDEN else DigitsConvolutional(_CHANNELS[kind], 10)


def _exported(network) -> Mapping[str, np.ndarray]:  # type: ignore[no-untyped-def]
    """In the layout of the authors: affine maps (in, out), kernels (rows, columns, in, out)."""
    axes = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
    return {name: array.transpose(axes[array.ndim]) for name, array in tensors(network).items()}


def _figure(columns: list[Column], rows: list[list[Cell]]) -> Figure:
    names = [str(row[0]) for row in rows]

    def of(name: str) -> list[float | None]:
        place = [column.name for column in columns].index(name)
        return [value if isinstance(value, float) else None for value in (row[place] for row in rows)]

    series = [Series("witness to certified", Shape.INTERVALS, names, of("certified"), of("witness"), of("certified")),
              Series("norm product", Shape.LINE, names, of("norm product"))]
    series += [Series(column.name, Shape.LINE, names, of(column.name), published=True) for column in columns
               if column.name in ("published LipSDP", "published GLipSDP")]
    return Figure("Bounds of one logit's Lipschitz constant", Axis("network"), Axis("l2 Lipschitz constant", log=True),
                  series)


ENTRY = Entry(
    NAME, "Digits: bounds of trained perceptrons and convolutional networks by all methods",
    Source("Pauli, Gramlich, Allgöwer: Lipschitz constant estimation for general neural network architectures using "
           "control tools", "2405.01125", "comparison on digits (fnn2, fnn3, cnn2, cnn3; five seeds)"),
    Needs(data="scikit-learn's digits", extras=("torch", "data"), minutes=2, memory=1),
    full="five seeds of the convolutional networks too, in place of one",
    weights="a folder with digits/fnn*_weights.mat and digits/cnn*_weights.mat", run=run)
