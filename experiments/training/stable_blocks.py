r"""Classifiers of one residual block whose stages share their weights, as they are trained: NAIS-Net and baselines.

    NAIS, UNCONSTRAINED:  x_{k+1} = x_k + h s(A x_k + B u + C),  x_0 = 0;
    RESIDUAL:             x_{k+1} = x_k + h s(A x_k + C),        x_0 = B u.

u is the image, averaged over squares of pixels and flattened, or after a strided convolution where the block is
convolutional; an affine map of x_K gives the logits. All three have the same number of parameters; the first two start
from the same A. Only NAIS keeps A stable: fully connected A = -R^T R - eps I with R trained, or a kernel; each
reprojected after every step of training by `netgain.solvers.stability.stable_projection`. Everything is float64, so
what is reprojected is feasible exactly.

Source: Ciccone, Gallieri, Masci, Osendorfer, Gomez, arXiv 1804.07209.
"""

import dataclasses
import enum

import numpy as np
import torch
from netgain.layers import Affine, AveragePool, Convolution, Flatten, LeakyRelu, Relu, Tanh
from netgain.layers.formats.perceptron import activation_named
from netgain.layers.layer import Layer
from netgain.layers.stable_block import StableBlock, StableNetwork
from netgain.solvers.stability.stable_projection import reproject_factor, reproject_kernel, stable_matrix
from torch.nn import functional

_TAPS = 3
_ENCODER_TAPS, _ENCODER_STRIDE = 5, 4


class Family(enum.Enum):
    """The block that is trained; the value is its name in tables."""

    NAIS = "NAIS-Net"
    UNCONSTRAINED = "unconstrained"
    RESIDUAL = "residual"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockForm:
    """Which block, and its sizes.

    **Attributes:** `width`: n, or the channels of a convolutional block; `depth`: K; `step`: h; `pool`: pixels on the
    side of the squares that a fully connected block averages over; `activation`: tanh, relu or leaky_relu with its
    slope, as files name it; `epsilon`, `eta`: of the reprojection.

    **Raises:** `ValueError` for sizes below 1, h outside (0, 1], another activation, or unless 0 < epsilon < eta < 1
    and epsilon < 1/2.
    """

    family: Family = Family.NAIS
    convolutional: bool = False
    width: int = 64
    depth: int = 10
    step: float = 1.0
    pool: int = 2
    activation: str = "tanh"
    epsilon: float = 0.01
    eta: float = 0.1

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.pool) < 1 or not 0 < self.step <= 1:
            raise ValueError("`width`, `depth` and `pool` must be at least 1 and `step` lie in (0, 1], got "
                             f"{self.width}, {self.depth}, {self.pool} and {self.step}.")
        if not 0 < self.epsilon < self.eta < 1 or not self.epsilon < 0.5:
            raise ValueError("The parameters need 0 < epsilon < eta < 1 and epsilon < 1/2, got "
                             f"{self.epsilon} and {self.eta}.")
        if not isinstance(self.layer, Tanh | Relu | LeakyRelu):
            raise ValueError(f"`activation` must be tanh, relu or leaky_relu:SLOPE, got {self.activation!r}.")

    @property
    def layer(self) -> Layer:
        """s."""
        return activation_named(self.activation)

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """s(x)."""
        match self.layer:
            case Tanh():
                return torch.tanh(x)
            case LeakyRelu(slope=slope):
                return functional.leaky_relu(x, float(slope))
        return torch.relu(x)

    def derivative(self, x: torch.Tensor) -> torch.Tensor:
        """s'(x), 1 or the lower slope at a kink."""
        match self.layer:
            case Tanh():
                return 1 - torch.tanh(x) ** 2
            case LeakyRelu(slope=slope):
                return torch.where(x > 0, 1.0, float(slope)).to(x.dtype)
        return (x > 0).to(x.dtype)


class BlockClassifier(torch.nn.Module):
    """The classifier; its parameters are drawn from `generator`, those of A from the same place for all families.

    **Arguments:** `image`: (channels, rows, columns); `classes`.

    **Raises:** `ValueError` if a fully connected block cannot divide the image into its squares.
    """

    def __init__(self, form: BlockForm, image: tuple[int, int, int], classes: int, generator: torch.Generator):
        super().__init__()
        if not form.convolutional and any(extent % form.pool for extent in image[1:]):
            raise ValueError(f"An image of {image[1]} x {image[2]} pixels has no squares of {form.pool} x {form.pool}.")
        self.form, self.image = form, image

        def drawn(*shape: int, gain: float = 1.0) -> torch.nn.Parameter:
            fed = int(np.prod(shape[1:]))
            values = torch.randn(shape, generator=generator, dtype=torch.float64) * gain / fed**0.5
            return torch.nn.Parameter(values)

        def zeros(size: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.zeros(size, dtype=torch.float64))

        n, states = form.width, form.width
        if form.convolutional:
            self.encoder, self.encoder_bias = drawn(n, image[0], _ENCODER_TAPS, _ENCODER_TAPS), zeros(n)
            raw, self.inputs = drawn(n, n, _TAPS, _TAPS, gain=0.5), drawn(n, n, _TAPS, _TAPS)
            states = int(np.prod(self.encoded(torch.zeros(1, *image, dtype=torch.float64)).shape))
        else:
            raw, self.inputs = drawn(n, n, gain=0.5), drawn(n, int(np.prod(image)) // form.pool**2)
        self.raw, self.offset = raw, zeros(n)
        self.readout, self.readout_bias = drawn(classes, states), zeros(classes)
        with torch.no_grad():
            # A stable residual block would forget x_0 = B u, which is all that it knows of the image.
            if form.family is not Family.RESIDUAL:
                if form.convolutional:
                    centre = torch.arange(n)
                    self.raw[centre, centre, _TAPS // 2, _TAPS // 2] = -1.0
                self._reproject()
            if form.family is Family.UNCONSTRAINED and not form.convolutional:
                self.raw.copy_(torch.from_numpy(stable_matrix(self.raw.numpy(), form.epsilon)))

    def encoded(self, x: torch.Tensor) -> torch.Tensor:
        """u of a batch of images, whatever shape they come in."""
        x = x.reshape(-1, *self.image)
        if not self.form.convolutional:
            return functional.avg_pool2d(x, self.form.pool).flatten(1)
        return functional.conv2d(x, self.encoder, self.encoder_bias, _ENCODER_STRIDE, _ENCODER_TAPS // 2)

    def weights(self) -> torch.Tensor:
        """A: (n, n), or the kernel."""
        if self.form.convolutional or self.form.family is not Family.NAIS:
            return self.raw
        return -self.raw.T @ self.raw - self.form.epsilon * torch.eye(self.form.width, dtype=torch.float64)

    def linear(self, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """A x or B u."""
        if self.form.convolutional:
            return functional.conv2d(x, weight, padding=_TAPS // 2)
        return functional.linear(x, weight)

    def supplied(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x_0, and what every stage adds to A x."""
        offset = self.offset.reshape(-1, 1, 1) if self.form.convolutional else self.offset
        fed = self.linear(self.inputs, u)
        return (fed, offset) if self.form.family is Family.RESIDUAL else (torch.zeros_like(fed), fed + offset)

    def advance(self, x: torch.Tensor, added: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """x_{k+1}."""
        return x + self.form.step * self.form.apply(self.linear(weights, x) + added)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of a batch of images."""
        x, added = self.supplied(self.encoded(images))
        weights = self.weights()
        for _ in range(self.form.depth):
            x = self.advance(x, added, weights)
        return functional.linear(x.flatten(1), self.readout, self.readout_bias)

    def reproject(self) -> None:
        """Moves A back into the stable set, if the family is NAIS."""
        if self.form.family is Family.NAIS:
            with torch.no_grad():
                self._reproject()

    def _reproject(self) -> None:
        before = self.raw.detach().numpy()
        form = self.form
        after = reproject_kernel(before, form.epsilon, form.eta) if form.convolutional \
            else reproject_factor(before, form.epsilon)
        self.raw.copy_(torch.from_numpy(after))

    def block(self) -> StableBlock:
        """The block as a model; A is exactly symmetric where it is fully connected and NAIS.

        **Raises:** `ValueError` for the residual family, whose state starts at B u and which is no block of this form.
        """
        form = self.form
        if form.family is Family.RESIDUAL:
            raise ValueError("A residual block does not read its input at every stage, and is not a NAIS-Net block.")
        raw = self.raw.detach().numpy()
        symmetric = form.family is Family.NAIS and not form.convolutional
        weights = stable_matrix(raw, form.epsilon) if symmetric else raw
        return StableBlock((weights.copy(),), (self._array(self.inputs),), (self._array(self.offset),),
                           activation_named(form.activation), form.step, form.depth)

    def network(self, name: str) -> StableNetwork:
        """The whole classifier as a model, of images (channels, rows, columns)."""
        readout = Affine(self._array(self.readout), self._array(self.readout_bias))
        if not self.form.convolutional:
            squares = AveragePool((self.form.pool,) * 2, (self.form.pool,) * 2)
            return StableNetwork((squares, Flatten(), self.block(), readout), self.image, name)
        reach = (_ENCODER_TAPS // 2,) * 2
        encoder = Convolution(self._array(self.encoder), self._array(self.encoder_bias), (_ENCODER_STRIDE,) * 2, (),
                              (reach, reach))
        return StableNetwork((encoder, self.block(), Flatten(), readout), self.image, name)

    @staticmethod
    def _array(tensor: torch.Tensor) -> np.ndarray:
        return np.array(tensor.detach().numpy())
