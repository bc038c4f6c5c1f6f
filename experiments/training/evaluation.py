"""What the training scripts share: one thread, and accuracy with and without attacks."""

import contextlib
import dataclasses
import enum
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    Logits = Callable[[torch.Tensor], torch.Tensor]

# Images at once where a classifier is evaluated.
_BATCH = 1000


class Norm(enum.Enum):
    """In which the distance of an attacked image is measured, over all its pixels."""

    LARGEST = "l_inf"
    EUCLIDEAN = "l2"


@dataclasses.dataclass(frozen=True)
class Attack:
    """Ascent of the loss within a ball around the image, pixels staying in [0, 1].

    **Attributes:** `radius`: of the ball; `steps`: 1 is the fast gradient (sign) method, more are projected gradients
    (Madry et al., arXiv 1706.06083), each of length 2.5 radius / steps along the steepest direction of the norm.

    **Raises:** `ValueError` for a negative radius or no steps.
    """

    norm: Norm
    radius: float
    steps: int

    def __post_init__(self) -> None:
        if not self.radius >= 0 or self.steps < 1:
            raise ValueError(f"An attack needs a radius of at least 0 and a step, got {self.radius} and {self.steps}.")

    @property
    def name(self) -> str:
        return f"{'fgsm' if self.steps == 1 else 'pgd'} {self.norm.value} {self.radius:g}"

    def moved(self, logits: "Logits", x: "torch.Tensor", y: "torch.Tensor") -> "torch.Tensor":
        """The images where the ascent ends; `x` has the batch first and values in [0, 1], `y` the labels."""
        import torch

        moved, length = x.clone(), self.radius if self.steps == 1 else 2.5 * self.radius / self.steps
        for _ in range(self.steps):
            moved.requires_grad_(True)
            loss = torch.nn.functional.cross_entropy(logits(moved), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, moved)
            moved = self._projected(moved.detach() + length * self._direction(gradient), x).clamp(0, 1)
        return moved.detach()

    def _direction(self, gradient: "torch.Tensor") -> "torch.Tensor":
        if self.norm is Norm.LARGEST:
            return gradient.sign()
        return gradient / _lengths(gradient).clamp(min=1e-30)

    def _projected(self, moved: "torch.Tensor", x: "torch.Tensor") -> "torch.Tensor":
        if self.norm is Norm.LARGEST:
            return moved.clamp(x - self.radius, x + self.radius)
        change = moved - x
        return x + change * (self.radius / _lengths(change).clamp(min=1e-30)).clamp(max=1)


def _lengths(batch: "torch.Tensor") -> "torch.Tensor":
    """The Euclidean norm of every image, in a shape that broadcasts against the batch."""
    lengths: torch.Tensor = batch.flatten(1).norm(dim=1)
    return lengths.reshape(-1, *(1 for _ in batch.shape[1:]))


def are_right(logits: "Logits", images: np.ndarray, labels: np.ndarray, attack: Attack | None = None) -> np.ndarray:
    """Which images are classified right, after an attack if one is given; booleans, shape (count,).

    **Arguments:** `logits`: takes a tensor of the type and shape of `images`, the batch first.
    """
    import torch

    right = []
    for k in range(0, len(images), _BATCH):
        x, y = torch.from_numpy(images[k : k + _BATCH]), torch.from_numpy(labels[k : k + _BATCH])
        seen = x if attack is None else attack.moved(logits, x, y)
        with torch.no_grad():
            right.append((logits(seen).argmax(dim=1) == y).numpy())
    return np.concatenate(right)


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Runs its body with one torch thread, so that a machine repeats itself bit by bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
