"""The networks of arXiv 2405.01125 as torch trains them, with the parameter names of its data sets. Needs torch."""

import torch
from torch import nn

from ..benchmarks.convolutional_networks import DIGITS_IMAGE


class DigitsPerceptron(nn.Module):  # type: ignore[misc]
    """fc1, .., ReLU between them, of flattened images."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.count = len(widths) - 1
        for k in range(self.count):
            self.add_module(f"fc{k + 1}", nn.Linear(widths[k], widths[k + 1]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        for k in range(1, self.count + 1):
            x = self.get_submodule(f"fc{k}")(x)
            x = x if k == self.count else x.relu()
        return x


class DigitsConvolutional(nn.Module):  # type: ignore[misc]
    """3x3 convolutions that keep the image, ReLU after each, and an affine map."""

    def __init__(self, channels: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.count = len(channels)
        for k, (before, after) in enumerate(zip((1, *channels), channels, strict=False)):
            self.add_module(f"conv{k + 1}", nn.Conv2d(before, after, 3, padding=1))
        self.fc1 = nn.Linear(channels[-1] * DIGITS_IMAGE[0] * DIGITS_IMAGE[1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for k in range(1, self.count + 1):
            x = self.get_submodule(f"conv{k}")(x).relu()
        out: torch.Tensor = self.fc1(x.flatten(1))
        return out
