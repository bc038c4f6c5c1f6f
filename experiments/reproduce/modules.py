"""The networks of arXiv 2405.01125 as torch trains them, with the parameter names of its data sets. Needs torch."""

import torch
from torch import nn

from ..benchmarks.convolutional_networks import DIGITS_IMAGE, TRAINED_ACTIVATION, TRAINED_GAIN


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


class NormalisedPerceptron(nn.Module):  # type: ignore[misc]
    """linear_0, .., linear_L with hidden layers of one width, every weight but the last divided by its spectral norm.

    Between them stand a gain of 2 and leaky ReLU, as in the networks of the paper: norms of one alone would leave
    nothing of an image behind many layers.
    """

    def __init__(self, inputs: int, hidden: int, width: int, classes: int) -> None:
        super().__init__()
        self.hidden = hidden
        for k in range(hidden):
            self.add_module(f"linear_{k}", nn.Linear(width if k else inputs, width))
        self.add_module(f"linear_{hidden}", nn.Linear(width, classes))

    def normalised(self, k: int) -> torch.Tensor:
        weight = self.get_parameter(f"linear_{k}.weight")
        out: torch.Tensor = weight / torch.linalg.matrix_norm(weight, 2)
        return out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        for k in range(self.hidden):
            x = nn.functional.linear(x, self.normalised(k), self.get_parameter(f"linear_{k}.bias"))
            x = nn.functional.leaky_relu(TRAINED_GAIN * x, float(TRAINED_ACTIVATION.slope))
        out: torch.Tensor = self.get_submodule(f"linear_{self.hidden}")(x)
        return out


class NormalisedConvolutional(nn.Module):  # type: ignore[misc]
    """conv_0, .., 3x3 and as large as the image, every kernel divided by the spectral norm of its matrix (out, in 9);
    gain and activation as above; the mean over the image, and linear_0."""

    def __init__(self, convolutions: int, channels: int, classes: int) -> None:
        super().__init__()
        self.convolutions = convolutions
        for k in range(convolutions):
            self.add_module(f"conv_{k}", nn.Conv2d(channels if k else 1, channels, 3, padding=1))
        self.linear_0 = nn.Linear(channels, classes)

    def normalised(self, k: int) -> torch.Tensor:
        weight = self.get_parameter(f"conv_{k}.weight")
        out: torch.Tensor = weight / torch.linalg.matrix_norm(weight.flatten(1), 2)
        return out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for k in range(self.convolutions):
            x = nn.functional.conv2d(x, self.normalised(k), self.get_parameter(f"conv_{k}.bias"), padding=1)
            x = nn.functional.leaky_relu(TRAINED_GAIN * x, float(TRAINED_ACTIVATION.slope))
        out: torch.Tensor = self.linear_0(x.mean((-2, -1)))
        return out


class LeNet(nn.Sequential):  # type: ignore[misc]
    """LeNet-5 with ReLU and average pooling, of 28 x 28 images."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
                         nn.AvgPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
                         nn.Linear(84, 10))


class TwoConvolutions(nn.Sequential):  # type: ignore[misc]
    """2C2F: two convolutions with stride 2 and two affine maps, of 28 x 28 images."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(),
                         nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10))


class _PerceptronBlock(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = (x + self.fc2(self.fc1(x).relu())).relu()
        return out


class ResidualPerceptron(nn.Module):  # type: ignore[misc]
    """FC-R18: an affine map, eight residual blocks of two affine maps, an affine map; ReLU after each sum."""

    def __init__(self, width: int = 64, blocks: int = 8) -> None:
        super().__init__()
        self.input_layer, self.output_layer = nn.Linear(784, width), nn.Linear(width, 10)
        self.blocks = nn.Sequential(*(_PerceptronBlock(width) for _ in range(blocks)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.output_layer(self.blocks(self.input_layer(x.flatten(1)).relu()))
        return out


class _ConvolutionBlock(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = (x + self.conv2(self.conv1(x).relu())).relu()
        return out


class ResidualConvolutional(nn.Sequential):  # type: ignore[misc]
    """C-R18: 7x7 convolution, maximum pooling, eight residual blocks of two 3x3 convolutions, average pooling."""

    def __init__(self, channels: int = 16, blocks: int = 8) -> None:
        super().__init__(nn.Conv2d(1, channels, 7, padding=3), nn.ReLU(), nn.MaxPool2d(2),
                         *(_ConvolutionBlock(channels) for _ in range(blocks)), nn.AvgPool2d(2), nn.Flatten(),
                         nn.Linear(49 * channels, 10))


def calm(network: nn.Module, share: float = 0.3) -> None:
    """Makes the last map of each residual block smaller, so that sums do not grow from the start."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, _PerceptronBlock | _ConvolutionBlock):
                (module.fc2 if isinstance(module, _PerceptronBlock) else module.conv2).weight.mul_(share)
