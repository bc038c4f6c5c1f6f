"""The architectures trained here, as data; torch is imported where a network is built."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from netgain.layers.layer import Shape

if TYPE_CHECKING:
    from torch import nn


class Architecture(Protocol):
    """A family of classifiers, of images with one channel; its fields are recorded with what is trained."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def input_shape(self, image: Shape) -> Shape:
        """What the network takes of an image of shape (rows, columns)."""

    def build(self, image: Shape, classes: int) -> "nn.Module":
        """The untrained network, with weights as torch leaves them."""

    def describe(self, image: Shape, classes: int) -> str:
        """A few words."""


@dataclasses.dataclass(frozen=True)
class Perceptron:
    """Affine maps with ReLU between them. `hidden`: widths of the hidden layers."""

    hidden: tuple[int, ...] = (64, 32)

    def __post_init__(self) -> None:
        _require_widths("hidden", self.hidden)

    def input_shape(self, image: Shape) -> Shape:
        rows, columns = image
        return (rows * columns,)

    def _sizes(self, image: Shape, classes: int) -> tuple[int, ...]:
        return (*self.input_shape(image), *self.hidden, classes)

    def build(self, image: Shape, classes: int) -> "nn.Module":
        from torch import nn

        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(self._sizes(image, classes)):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def describe(self, image: Shape, classes: int) -> str:
        return f"ReLU perceptron {'-'.join(map(str, self._sizes(image, classes)))}"


@dataclasses.dataclass(frozen=True)
class ConvolutionalNetwork:
    """Strided convolutions with ReLU, then an affine map of the flattened image.

    `channels`: one convolution each; 6x6 with stride 4 first, so that few neurons are left to verify, 3x3 with stride 2
    from then on, all with one row of padding on each side.
    """

    channels: tuple[int, ...] = (8, 16)

    def __post_init__(self) -> None:
        _require_widths("channels", self.channels)

    def input_shape(self, image: Shape) -> Shape:
        return (1, *image)

    def build(self, image: Shape, classes: int) -> "nn.Module":
        from torch import nn

        layers = [nn.Conv2d(1, self.channels[0], 6, stride=4, padding=1), nn.ReLU()]
        for before, after in itertools.pairwise(self.channels):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        return _with_head(layers, self.input_shape(image), classes)

    def describe(self, image: Shape, classes: int) -> str:
        return f"Convolutional ReLU network with {', '.join(map(str, self.channels))} channels"


@dataclasses.dataclass(frozen=True)
class ResidualNetwork:
    """Residual blocks of two 3x3 convolutions with batch normalisation, then an affine map of the flattened image.

    `channels`: of the first convolution (6x6 with stride 4, normalised, ReLU) and a block of as many with the identity
    as its shortcut; each further number is one more block, which has stride 2 and a normalised 1x1 convolution as its
    shortcut if the number is another than before. ReLU inside each block and after each sum. Convolutions in front of a
    normalisation have no bias.

    **Source:** He, Zhang, Ren, Sun, CVPR 2016, section 3.3 and option B.
    """

    channels: tuple[int, ...] = (4, 8)

    def __post_init__(self) -> None:
        _require_widths("channels", self.channels)

    def input_shape(self, image: Shape) -> Shape:
        return (1, *image)

    def build(self, image: Shape, classes: int) -> "nn.Module":
        from torch import nn

        from .modules import Residual

        def normalised(before: int, after: int, kernel: int, stride: int = 1) -> nn.Sequential:
            # Only the 1x1 kernel is not centred with one row of padding.
            padding = 0 if kernel == 1 else 1
            return nn.Sequential(nn.Conv2d(before, after, kernel, stride, padding, bias=False), nn.BatchNorm2d(after))

        def block(before: int, after: int) -> nn.Sequential:
            stride = 1 if before == after else 2
            body = nn.Sequential(normalised(before, after, 3, stride), nn.ReLU(), normalised(after, after, 3))
            shortcut = nn.Identity() if stride == 1 else normalised(before, after, 1, stride)
            return nn.Sequential(Residual(body, shortcut), nn.ReLU())

        first = self.channels[0]
        blocks = [block(before, after) for before, after in itertools.pairwise((first, *self.channels))]
        return _with_head([normalised(1, first, 6, 4), nn.ReLU(), *blocks], self.input_shape(image), classes)

    def describe(self, image: Shape, classes: int) -> str:
        return f"Residual network with {', '.join(map(str, self.channels))} channels and batch normalisation"


ARCHITECTURES: Mapping[str, type[Perceptron] | type[ConvolutionalNetwork] | type[ResidualNetwork]] = {
    "mlp": Perceptron,
    "cnn": ConvolutionalNetwork,
    "resnet": ResidualNetwork,
}


def _require_widths(name: str, widths: tuple[int, ...]) -> None:
    if not widths or min(widths) < 1:
        raise ValueError(f"`{name}` needs at least one entry, each at least 1, got {widths}.")


def _with_head(features: list["nn.Module"], shape: Shape, classes: int) -> "nn.Module":
    """The features of an input of this shape, flattened, and an affine map of them."""
    import torch
    from torch import nn

    network = nn.Sequential(*features, nn.Flatten())
    # In training mode batch normalisation would take these zeros into its averages.
    network.eval()
    width = network(torch.zeros(1, *shape)).shape[1]
    return network.append(nn.Linear(width, classes)).train()
