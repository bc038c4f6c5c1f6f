"""NAIS-Net blocks and baselines of equal size on MNIST: generalisation gap, noise, spectral radii."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...data import Dataset
from ..context import Context
from ..published import load_published
from ..registry import Entry, Needs
from ..table import Axis, Cell, Column, Figure, Kind, Series, Shape, Source, Table

NAME = "nais-mnist"
_SEEDS, _FULL_SEEDS = 3, 5
_IMAGES = 5000
_NOISE = ("noise 0.1", "noise 0.2", "noise 0.4")
_COLUMNS = (
    Column("block", Kind.LABEL),
    Column("runs", Kind.VALUE),
    Column("training", Kind.VALUE, "%"),
    Column("test", Kind.VALUE, "%"),
    Column("gap", Kind.VALUE, "points"),
    Column("gap, spread", Kind.VALUE, "points"),
    Column("gap of loss", Kind.VALUE),
    *(Column(noise, Kind.VALUE, "%") for noise in _NOISE),
    Column("pgd l_inf 0.05", Kind.VALUE, "%"),
    Column("spectral radius, slopes 1", Kind.VALUE),
    Column("spectral radius, visited", Kind.VALUE),
    Column("conditions proved", Kind.VALUE, "%", proved=True),
)


def run(context: Context) -> Table:
    """Trains every family of every task with every seed."""
    from ...training.stable_network import TASKS, recipes, subset

    published = load_published(NAME)
    full = context.request.full
    dataset = context.dataset if full else subset(context.dataset, _IMAGES)
    rows: list[list[Cell]] = []
    along: dict[str, list[dict[str, Any]]] = {}
    for task in TASKS:
        groups: dict[str, list[dict[str, Any]]] = {}
        for recipe in recipes(task, _FULL_SEEDS if full else _SEEDS):
            shifted = dataclasses.replace(recipe, seed=recipe.seed + context.request.seed)
            name = f"{task.name}, {shifted.form.family.value}"
            inputs = {"task": dataclasses.asdict(task), "family": shifted.form.family.value, "seed": shifted.seed,
                      "data": dataset.digest, "images": len(dataset.train_images)}
            found = context.job(f"{name}, seed {shifted.seed}", inputs,
                                lambda shifted=shifted: _measured(dataset, shifted))  # type: ignore[misc]
            groups.setdefault(name, [])
            if found is not None:
                groups[name].append(found)
        rows += [_row(name, group) for name, group in groups.items()]
        along |= {name: group[0]["records"] for name, group in groups.items() if group}
    notes = [
        published.unavailable,
        f"{len(dataset.train_images)} training images; means over seeds. gap: training minus test accuracy, spread: "
        "its standard deviation over seeds. Spectral radius of I + h D A after the training, with slopes of 1 and with "
        "those visited by test images; the largest over seeds. conditions proved: the share of the NAIS-Net blocks "
        "whose weights satisfy the paper's conditions in exact arithmetic.",
        *_verdicts(rows),
    ]
    return Table(NAME, ENTRY.title, ENTRY.source, context.made(range(
        context.request.seed, context.request.seed + (_FULL_SEEDS if full else _SEEDS))), _COLUMNS, rows,
        published.deviations(_COLUMNS, rows), [*notes, *context.notes], _figures(rows, along))


def _measured(dataset: Dataset, recipe: Any) -> dict[str, Any]:
    from ...training.stable_training import measured, train_block

    found = measured(train_block(dataset, recipe), dataset)
    kept = {key: found[key] for key in ("train_accuracy", "test_accuracy", "accuracy_gap", "loss_gap", "robustness")}
    return kept | {
        "records": [{key: record[key] for key in ("epoch", "full", "visited")} for record in found["records"]],
        "satisfied": None if found["conditions"] is None else bool(found["conditions"]["satisfied"]),
    }


def _row(name: str, group: Sequence[Mapping[str, Any]]) -> list[Cell]:
    if not group:
        return [name, 0, *(None for _ in _COLUMNS[2:])]

    def mean(key: str) -> float:
        return float(np.mean([run[key] for run in group]))

    spread = float(np.std([100 * run["accuracy_gap"] for run in group], ddof=1)) if len(group) > 1 else None
    robust = [float(np.mean([100 * run["robustness"][kind] for run in group]))
              for kind in (*_NOISE, "pgd l_inf 0.05")]
    held = [run["satisfied"] for run in group if run["satisfied"] is not None]
    return [name, len(group), 100 * mean("train_accuracy"), 100 * mean("test_accuracy"), 100 * mean("accuracy_gap"),
            spread, mean("loss_gap"), *robust, max(run["records"][-1]["full"] for run in group),
            max(run["records"][-1]["visited"] for run in group), 100.0 * sum(held) / len(held) if held else None]


def _verdicts(rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Whether the gap of NAIS-Net is below the others', for each task."""
    gaps = {str(row[0]): row[4] for row in rows}
    said = []
    for name, gap in gaps.items():
        task, _, family = name.rpartition(", ")
        others = {other: value for other, value in gaps.items() if other.startswith(f"{task}, ") and other != name}
        if family.startswith("NAIS") and all(isinstance(value, float) for value in (gap, *others.values())):
            above = [other for other, value in others.items() if value < gap]  # type: ignore[operator]
            said.append(f"{task}: the gap of NAIS-Net is " + (f"NOT below that of {' and '.join(above)}." if above else
                                                              "below the others' on average."))
    return said


def _figures(rows: Sequence[Sequence[Cell]], along: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Figure]:
    names = [str(row[0]) for row in rows]
    gaps = [row[4] if isinstance(row[4], float) else None for row in rows]
    radii = [Series(name, Shape.LINE, [record["epoch"] for record in records],
                    [record["full"] for record in records]) for name, records in along.items()]
    return [Figure("Generalisation gap", Axis("block"), Axis("points"), [Series("gap", Shape.BARS, names, gaps)]),
            Figure("Spectral radius of I + h A along training", Axis("epoch"), Axis("spectral radius"), radii)]


ENTRY = Entry(
    NAME, "NAIS-Net: generalisation gap, robustness to noise and spectral radii of stable blocks",
    Source("Ciccone, Gallieri, Masci, Osendorfer, Gomez: NAIS-Net: Stable deep networks from non-autonomous "
           "differential equations", "1804.07209", "experiments on accuracy, generalisation gap and spectral radii"),
    Needs(data="MNIST", extras=("torch",), minutes=4, memory=2),
    full="all training images, five seeds", run=run)
