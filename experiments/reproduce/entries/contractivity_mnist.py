"""Neural-ODE classifiers of MNIST, trained plainly or kept contractive: slopes, accuracy attacked and certified."""

import dataclasses
from typing import Any

from ...data import Dataset
from ..context import Context
from ..published import load_published
from ..registry import Entry, Needs
from ..table import Axis, Cell, Column, Figure, Kind, Series, Shape, Source, Table

NAME = "contractivity-mnist"
_NAMES = ("plain", "projection", "penalty")
_EPOCHS, _FULL_EPOCHS = 3, 6
_IMAGES, _FULL_IMAGES = 1000, 10_000
_SECONDS = 20.0
_RADII = (0.1, 0.25, 0.5, 1.0)
_ATTACKS = ("fgsm l_inf 0.05", "pgd l_inf 0.05", "fgsm l_inf 0.1", "pgd l_inf 0.1")
_COLUMNS = (
    Column("classifier", Kind.LABEL),
    Column("clean", Kind.VALUE, "%"),
    *(Column(attack, Kind.VALUE, "%") for attack in _ATTACKS),
    Column("mu gradient", Kind.VALUE, proved=False),
    Column("mu reached", Kind.LOWER, proved=True),
    Column("mu certified", Kind.UPPER, proved=True),
    Column("m gradient", Kind.VALUE, proved=False),
    Column("m certified", Kind.UPPER, proved=True),
    *(column for radius in _RADII for column in (Column(f"pgd l2 {radius:g}", Kind.VALUE, "%"),
                                                 Column(f"certified l2 {radius:g}", Kind.LOWER, "%", True))),
    Column("seconds", Kind.SECONDS, "s"),
)


def run(context: Context) -> Table:
    """Trains, bounds and attacks each classifier."""
    published = load_published(NAME)
    full, dataset = context.request.full, context.dataset
    count = _FULL_IMAGES if full else _IMAGES
    rows, found = [], {}
    for name in (*_NAMES, *(("in time, penalty", "two layers, plain") if full else ())):
        inputs = {"data": dataset.digest, "epochs": _FULL_EPOCHS if full else _EPOCHS, "seed": context.request.seed,
                  "images": count, "seconds": _SECONDS}
        result = context.job(name, inputs, lambda name=name: _measured(  # type: ignore[misc]
            dataset, name, _FULL_EPOCHS if full else _EPOCHS, context.request.seed, count))
        found[name] = result
        rows.append(_row(name, result))
    notes = [
        published.unavailable,
        f"Fields u' = s(A u + b) in R^32 with leaky ReLU (slope 0.1), trained for "
        f"{_FULL_EPOCHS if full else _EPOCHS} epochs; accuracy and attacks on the first {count} test images. "
        "projection: A is replaced by the nearest contractive weights after each epoch; penalty: on the semidefinite "
        "bound.",
        "mu: worst logarithmic norm of D A over slopes in [0.1, 1]; m: slopes in [m, 1] keep mu <= 0, empty if none. "
        "certified l2: the share of images of which it is proved that no change of that length changes the class.",
    ]
    return Table(NAME, ENTRY.title, ENTRY.source, context.made((context.request.seed,)), _COLUMNS, rows,
                 published.deviations(_COLUMNS, rows), [*notes, *context.notes], [_figure(rows)])


def _measured(dataset: Dataset, name: str, epochs: int, seed: int, count: int) -> dict[str, Any]:
    from ...training.neural_ode import report, train_ode
    from ...training.ode_experiment import accuracies, bounded, describe, recipes

    classifier = train_ode(dataset, recipes(epochs, seed)[name])
    few = dataclasses.replace(dataset, test_images=dataset.test_images[:count], test_labels=dataset.test_labels[:count])
    bounds = bounded(classifier, 0.0, _SECONDS)
    return {"about": report(classifier, few), "contractivity": describe(bounds),
            "accuracy": accuracies(classifier, few, bounds, count)}


def _row(name: str, found: dict[str, Any] | None) -> list[Cell]:
    if found is None:
        return [name, *(None for _ in _COLUMNS[1:])]
    mu, m = found["contractivity"]["logarithmic_norm"], found["contractivity"]["least_slope"]
    attacked = found["about"]["attacked_accuracy"]
    at = {row["radius"]: row for row in found["accuracy"]["euclidean"]}
    return [name, 100 * found["accuracy"]["clean"], *(100 * attacked[attack] for attack in _ATTACKS),
            mu["gradient"], mu["reached"], mu["proved"], m["gradient"], m["high"],
            *(100 * at[radius][kind] for radius in _RADII for kind in ("pgd", "certified")),
            found["contractivity"]["seconds"]]


def _figure(rows: list[list[Cell]]) -> Figure:
    places = {column.name: place for place, column in enumerate(_COLUMNS)}
    series = []
    for row in rows:
        for kind in ("pgd", "certified"):
            values = [row[places["clean"]], *(row[places[f"{kind} l2 {radius:g}"]] for radius in _RADII)]
            series.append(Series(f"{row[0]}, {kind}", Shape.LINE, [0.0, *_RADII],
                                 [value if isinstance(value, float) else None for value in values]))
    return Figure("Accuracy within a Euclidean radius, attacked and certified", Axis("radius"), Axis("%"), series)


ENTRY = Entry(
    NAME, "Contractivity: neural-ODE classifiers of MNIST, plain and kept contractive",
    Source("Guglielmi, De Marinis, Savostianov, Tudisco: Contractivity of neural ODEs: an eigenvalue optimization "
           "problem", "2402.13092", "classification of MNIST by a one-layer neural ODE"),
    Needs(data="MNIST", extras=("torch",), minutes=4, memory=2),
    full="six epochs, all test images, a field that changes with time and one of two layers", run=run)
