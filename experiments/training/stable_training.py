"""Training of the classifiers of `stable_blocks`, and what is measured along the way and afterwards.

- Spectral radii of the step's Jacobian I + h D A: with all slopes 1, and the largest over some test images with the
  slopes at the last state. (NAIS-Net's condition is one on these; contraction needs more, a norm common to all slopes,
  which `netgain stability` proves.)
- Settling: the state for images it was not trained on, followed far beyond the depth trained, from x_0 and from a state
  drawn at random; where s is strictly increasing with s(0) = 0, the block's only equilibrium is -A^{-1} (B u + C), or
  -A^{-1} C for the residual family.
- Noise: accuracy with Gaussian noise on the pixels, and under projected gradients in the largest norm.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from netgain.layers import Tanh
from netgain.verify.stability.conditions import SlopeBox, convolutional_conditions, fully_connected_conditions

from ..data import Dataset
from .evaluation import Attack, Norm, are_right, single_thread
from .stable_blocks import BlockClassifier, BlockForm, Family

NOISE = (0.1, 0.2, 0.4)
ATTACKS = (Attack(Norm.LARGEST, 0.05, 20),)
MULTIPLES = (1, 2, 5, 20, 100)
_BATCH = 1000
_DIVERGED = 1e12


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockRecipe:
    """What to train, and how.

    **Attributes:** `records`: how often spectral radii are noted, evenly over the epochs; `radius_images`: images whose
    slopes they are taken at.

    **Raises:** `ValueError` for numbers below 1, or a rate that is not positive.
    """

    form: BlockForm
    epochs: int = 20
    seed: int = 0
    batch: int = 100
    rate: float = 2e-3
    records: int = 4
    radius_images: int = 3

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.records, self.radius_images) < 1 or not self.rate > 0:
            raise ValueError("`epochs`, `batch`, `records` and `radius_images` must be at least 1 and `rate` positive, "
                             f"got {self.epochs}, {self.batch}, {self.records}, {self.radius_images} and {self.rate}.")


@dataclasses.dataclass(frozen=True)
class Record:
    """After an epoch: the mean loss in it, and spectral radii of I + h D A, with D = I and at images."""

    epoch: int
    loss: float
    full: float
    visited: float


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A classifier with its records; the first one is before training, with a loss of nan."""

    classifier: BlockClassifier
    recipe: BlockRecipe
    records: tuple[Record, ...]


def train_block(dataset: Dataset, recipe: BlockRecipe, on_epoch: Callable[[int, float], None] | None = None) -> Trained:
    """Trains by Adam with a cosine schedule, reprojecting after every step; `on_epoch` is told the epoch and its loss.

    One thread and one generator, so that a machine repeats itself bit by bit.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    with single_thread():
        x, y = _images(dataset.train_images), torch.from_numpy(dataset.train_labels)
        probes = _images(dataset.test_images[: recipe.radius_images])
        rows, columns = dataset.train_images.shape[-2:]
        classifier = BlockClassifier(recipe.form, (dataset.channels, rows, columns), dataset.classes, generator)
        steps = recipe.epochs * -(-len(x) // recipe.batch)
        optimiser = torch.optim.Adam(classifier.parameters(), lr=recipe.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        noted = {round(recipe.epochs * k / recipe.records) for k in range(1, recipe.records + 1)}
        records = [Record(0, float("nan"), *spectral_radii(classifier, probes))]
        for epoch in range(1, recipe.epochs + 1):
            losses = []
            for chosen in torch.randperm(len(x), generator=generator).split(recipe.batch):  # type: ignore[no-untyped-call]
                loss = torch.nn.functional.cross_entropy(classifier(x[chosen]), y[chosen])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                classifier.reproject()
                schedule.step()
                losses.append(float(loss.detach()))
            if on_epoch is not None:
                on_epoch(epoch, float(np.mean(losses)))
            if epoch in noted:
                records.append(Record(epoch, float(np.mean(losses)), *spectral_radii(classifier, probes)))
    classifier.requires_grad_(False)
    return Trained(classifier, recipe, tuple(records))


def _images(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.astype(np.float64))


def state_matrix(classifier: BlockClassifier, shape: torch.Size) -> np.ndarray:
    """A as a matrix on flattened states of this shape, without the batch."""
    size = int(np.prod(shape))
    with torch.no_grad():
        basis = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
        return np.asarray(classifier.linear(classifier.weights(), basis).reshape(size, size).T.numpy())


def spectral_radii(classifier: BlockClassifier, images: torch.Tensor) -> tuple[float, float]:
    """The spectral radius of I + h A, and the largest one of I + h D A with the slopes at x_K of the images."""
    form = classifier.form
    with torch.no_grad():
        x, added = classifier.supplied(classifier.encoded(images))
        weights = classifier.weights()
        for _ in range(form.depth):
            x = classifier.advance(x, added, weights)
        slopes = form.derivative(classifier.linear(weights, x) + added).flatten(1).numpy()
    matrix = state_matrix(classifier, x.shape[1:])

    def radius(diagonal: np.ndarray) -> float:
        jacobian = np.eye(len(matrix)) + form.step * diagonal[:, None] * matrix
        return float(np.max(np.abs(np.linalg.eigvals(jacobian))))

    return radius(np.ones(len(matrix))), max(radius(row) for row in slopes)


def settling(classifier: BlockClassifier, images: np.ndarray, seed: int = 0) -> list[dict[str, float | None]]:
    """How states go on after k = 1, 2, .. times the depth, medians over the images.

    `update`: |x_{k+1} - x_k| / |x_k|; `apart`: the distance of the state from that with another start, divided by the
    distance of the starts; `to_equilibrium`: |x_k - x*| / |x*|, None where no equilibrium is known in closed form.
    Infinite once states have left the range of 1e12, where `diverged` is true.
    """
    form = classifier.form
    with torch.no_grad(), single_thread():
        x, added = classifier.supplied(classifier.encoded(_images(images)))
        weights = classifier.weights()
        generator = torch.Generator().manual_seed(seed)
        other = x + torch.randn(x.shape, generator=generator, dtype=torch.float64)
        apart, equilibrium = (other - x).flatten(1).norm(dim=1), _equilibrium(classifier, x, added)
        rows: list[dict[str, float | None]] = []
        done, diverged = 0, False
        for multiple in MULTIPLES:
            while done < multiple * form.depth and not diverged:
                x, other = classifier.advance(x, added, weights), classifier.advance(other, added, weights)
                done += 1
                diverged = not bool(x.abs().max() < _DIVERGED and other.abs().max() < _DIVERGED)
            if diverged:
                lost = None if equilibrium is None else np.inf
                rows.append({"stages": multiple * form.depth, "diverged": True, "update": np.inf, "apart": np.inf,
                             "to_equilibrium": lost})
                continue
            update = (classifier.advance(x, added, weights) - x).flatten(1).norm(dim=1) / _sizes(x)
            rows.append({
                "stages": multiple * form.depth,
                "diverged": False,
                "update": float(update.median()),
                "apart": float(((other - x).flatten(1).norm(dim=1) / apart).median()),
                "to_equilibrium": None if equilibrium is None else
                float(((x - equilibrium).flatten(1).norm(dim=1) / _sizes(equilibrium)).median()),
            })
    return rows


def _sizes(states: torch.Tensor) -> torch.Tensor:
    sizes: torch.Tensor = states.flatten(1).norm(dim=1)
    return sizes.clamp(min=1e-300)


def _equilibrium(classifier: BlockClassifier, x: torch.Tensor, added: torch.Tensor) -> torch.Tensor | None:
    """-A^{-1} (B u + C), where s(v) = 0 only for v = 0 and A is not nearly singular; else None."""
    if not isinstance(classifier.form.layer, Tanh):
        return None
    matrix = state_matrix(classifier, x.shape[1:])
    if np.linalg.cond(matrix) > 1e10:
        return None
    right = (torch.zeros_like(x) + added).flatten(1).numpy()
    return torch.from_numpy(-np.linalg.solve(matrix, right.T).T).reshape(x.shape)


def measured(trained: Trained, dataset: Dataset, robustness_images: int = 2000, settling_images: int = 200
             ) -> dict[str, Any]:
    """Accuracy and loss on both parts of the data and their gaps, under noise and attacks, records and settling."""
    classifier, recipe = trained.classifier, trained.recipe
    train_loss, train_accuracy = _scores(classifier, dataset.train_images, dataset.train_labels)
    test_loss, test_accuracy = _scores(classifier, dataset.test_images, dataset.test_labels)
    images = dataset.test_images[:robustness_images].astype(np.float64)
    labels = dataset.test_labels[:robustness_images]
    noise = np.random.default_rng(recipe.seed).standard_normal(images.shape)
    with single_thread():
        robust = {f"noise {size:g}": float(np.mean(are_right(classifier, images + size * noise, labels)))
                  for size in NOISE}
        robust |= {attack.name: float(np.mean(are_right(classifier, images, labels, attack))) for attack in ATTACKS}
    return {
        "family": recipe.form.family.value,
        "convolutional": recipe.form.convolutional,
        "seed": recipe.seed,
        "parameters": sum(parameter.numel() for parameter in classifier.parameters()),
        "train_accuracy": train_accuracy,
        "test_accuracy": test_accuracy,
        "accuracy_gap": train_accuracy - test_accuracy,
        "train_loss": train_loss,
        "test_loss": test_loss,
        "loss_gap": test_loss - train_loss,
        "robustness": robust,
        "records": [dataclasses.asdict(record) for record in trained.records],
        "settling": settling(classifier, dataset.test_images[:settling_images], recipe.seed),
        "conditions": conditions(classifier),
    }


def conditions(classifier: BlockClassifier) -> dict[str, Any] | None:
    """Whether the exported A satisfies the paper's conditions in exact arithmetic, and the rate proved for all slopes.

    None for the baselines, which are not asked to.
    """
    form = classifier.form
    if form.family is not Family.NAIS:
        return None
    block = classifier.block()
    box = SlopeBox(block.step, *block.slopes)
    found = convolutional_conditions(block.states[0], form.epsilon, form.eta, box) if form.convolutional \
        else fully_connected_conditions(block.states[0], form.epsilon, box)
    return {"satisfied": found.satisfied, "rate": found.rate}


def _scores(classifier: BlockClassifier, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Mean cross-entropy, and the share classified right."""
    losses, right = 0.0, 0
    with torch.no_grad(), single_thread():
        for k in range(0, len(images), _BATCH):
            logits, y = classifier(_images(images[k : k + _BATCH])), torch.from_numpy(labels[k : k + _BATCH])
            losses += float(torch.nn.functional.cross_entropy(logits, y, reduction="sum"))
            right += int((logits.argmax(dim=1) == y).sum())
    return losses / len(images), right / len(images)

