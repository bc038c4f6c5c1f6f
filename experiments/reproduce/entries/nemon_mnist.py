"""Implicit classifiers of MNIST: accuracy, Lipschitz constants, accuracy under attack and certified."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...data import Dataset, sha256
from ..context import Context
from ..published import load_published
from ..registry import Entry, Needs
from ..table import Axis, Cell, Column, Figure, Kind, Series, Shape, Source, Table

NAME = "nemon-mnist"
COMMITTED = Path(__file__).parents[2] / "models" / "mnist_nemon.npz"
_DEFAULT = ("nemon, no penalty", "mon", "norm", "plain")
_EPOCHS = 2
_ATTACKED, _FULL_ATTACKED = 200, 1000
_RADII = ("0.01", "0.05", "0.1")
_COLUMNS = (
    Column("model", Kind.LABEL),
    Column("epochs", Kind.VALUE),
    Column("clean", Kind.VALUE, "%"),
    Column("least mu(A)", Kind.UPPER, proved=True),
    Column("l_inf witness", Kind.LOWER, proved=False),
    Column("l_inf certified", Kind.UPPER, proved=True),
    Column("l_inf M-matrix", Kind.UPPER, proved=True),
    Column("l_inf formula", Kind.UPPER, proved=False),
    Column("l2 witness", Kind.LOWER, proved=False),
    Column("l2 certified", Kind.UPPER, proved=True),
    *(Column(f"pgd {radius}", Kind.VALUE, "%") for radius in _RADII),
    *(Column(f"certified {radius}", Kind.LOWER, "%", True) for radius in _RADII),
)


def run(context: Context) -> Table:
    """Measures the committed model, and trains and measures the others."""
    from ...training.implicit_network import RECIPES

    published = load_published(NAME)
    full, dataset = context.request.full, context.dataset
    attacked = _FULL_ATTACKED if full else _ATTACKED
    digest = sha256(COMMITTED.read_bytes())
    found = {"nemon": context.job("nemon", {"model": digest, "data": dataset.digest, "attacked": attacked},
                                  lambda: _committed(dataset, attacked))}
    epochs = {"nemon": RECIPES["nemon"].epochs}
    for name, recipe in RECIPES.items():
        if name == "nemon" or not (full or name in _DEFAULT):
            continue
        recipe = dataclasses.replace(recipe, seed=context.request.seed, epochs=recipe.epochs if full else _EPOCHS)
        inputs = {"recipe": recipe.settings(), "data": dataset.digest, "attacked": attacked}
        found[name] = context.job(name, inputs, lambda recipe=recipe: _trained(dataset, recipe, attacked))  # type: ignore[misc]
        epochs[name] = recipe.epochs
    names = list(dict.fromkeys([*found, *published.rows()]))
    rows = [[*_row(name, epochs.get(name), found.get(name)), *published.cells(name)] for name in names]
    columns = [*_COLUMNS, *published.columns()]
    notes = [
        published.unavailable,
        "nemon is the model committed here (experiments/models/mnist_nemon.npz); the others are trained anew. All have "
        f"100 neurons; pixels are in [0, 1]; attacked and certified are the first {attacked} test images, in the "
        "largest norm, by 20 steps of projected gradients.",
        "l_inf certified: the least of what is proved by semidefinite programming for each output and by the M-matrix "
        "bound; l_inf formula: |C| |B| / (1 - mu) at the best weights. mon and plain have no l_inf condition; of plain "
        "networks nothing is proved.",
    ]
    return Table(NAME, ENTRY.title, ENTRY.source, context.made((context.request.seed,)), columns, rows,
                 published.deviations(columns, rows), [*notes, *context.notes], _figures(columns, rows))


def _committed(dataset: Dataset, attacked: int) -> dict[str, Any]:
    with np.load(COMMITTED, allow_pickle=False) as archive:
        return _measured({key: archive[key] for key in ("A", "B", "b", "C", "c")}, dataset, attacked)


def _trained(dataset: Dataset, recipe: Any, attacked: int) -> dict[str, Any]:
    from ...training.implicit_network import train_implicit

    return _measured(train_implicit(dataset, recipe), dataset, attacked)


def _measured(parts: Mapping[str, np.ndarray], dataset: Dataset, attacked: int) -> dict[str, Any]:
    from ...training.implicit_report import measure

    found = measure(parts, dataset, attacked, pairs=False)
    kept = ("log_norm", "log_norm_below_one", "test_accuracy", "witness_inf", "bound_inf", "majorant_inf",
            "weighted_inf", "witness_2", "bound_2", "pgd", "certified_boxes", "certified_gains")
    return {key: found.get(key) for key in kept}


def _row(name: str, epochs: int | None, found: Mapping[str, Any] | None) -> list[Cell]:
    if found is None:
        return [name, epochs, *(None for _ in _COLUMNS[2:])]
    pgd = found["pgd"] or {}
    certified = {radius: max(found[kind][radius] for kind in ("certified_boxes", "certified_gains"))
                 for radius in _RADII} if found["certified_boxes"] else {}
    return [name, epochs, _percent(found["test_accuracy"]), *(found[key] for key in (
        "log_norm", "witness_inf", "bound_inf", "majorant_inf", "weighted_inf", "witness_2", "bound_2")),
        *(_percent(pgd.get(radius)) for radius in _RADII), *(_percent(certified.get(radius)) for radius in _RADII)]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _figures(columns: list[Column], rows: list[list[Cell]]) -> list[Figure]:
    places = {column.name: place for place, column in enumerate(columns)}
    names = [str(row[0]) for row in rows]

    def of(row: list[Cell], name: str) -> float | None:
        value = row[places[name]] if name in places else None
        return float(value) if isinstance(value, float | int) else None

    accuracy = []
    for row in rows:
        for kind in ("pgd", "certified", "published pgd", "published certified"):
            values = [of(row, f"{kind} {radius}") for radius in _RADII]
            if any(value is not None for value in values):
                start = of(row, "published clean" if kind.startswith("published") else "clean")
                accuracy.append(Series(f"{row[0]}, {kind}", Shape.LINE, [0.0, *map(float, _RADII)], [start, *values],
                                       published=kind.startswith("published")))
    bounds = [Series(name, Shape.BARS, names, [of(row, name) for row in rows])
              for name in ("l_inf witness", "l_inf certified", "l_inf M-matrix", "l_inf formula")]
    return [Figure("Accuracy under perturbation", Axis("radius in the largest norm"), Axis("%"), accuracy),
            Figure("l_inf Lipschitz constants", Axis("model"), Axis("constant", log=True), bounds)]


ENTRY = Entry(
    NAME, "NEMON: implicit classifiers of MNIST, their Lipschitz constants and their accuracy under attack",
    Source("Jafarpour, Davydov, Proskurnikov, Bullo: Robust implicit networks via non-Euclidean contractions",
           "2106.03194", "experiments on MNIST: accuracy, Lipschitz constants, accuracy under perturbation"),
    Needs(data="MNIST", extras=("torch",), minutes=3, memory=2),
    full="all recipes with 12 epochs, 1000 images attacked (16 minutes of one core)", run=run)
