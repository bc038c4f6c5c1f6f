"""How the parameters of an implicit classifier make its matrices: entry by entry, or as kernels of convolutions."""

from typing import Protocol

import torch


class Geometry(Protocol):
    """Shapes of parameters, and the matrices they stand for.

    **Attributes:** `square`: the shape of T and S; `injection`: of B; `units`: of one number per unit that shares its
    weights, as b; `neurons`: n.
    """

    square: tuple[int, ...]
    injection: tuple[int, ...]
    units: int
    neurons: int

    def squared(self, T: torch.Tensor) -> torch.Tensor:
        """The matrix (n, n)."""
        ...

    def injected(self, B: torch.Tensor) -> torch.Tensor:
        """The matrix (n, inputs)."""
        ...

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """One number per neuron from one per unit."""
        ...

    def row_sums(self, T: torch.Tensor) -> torch.Tensor:
        """At least the sums of |T| over rows of the matrix, shape (n,)."""
        ...


class Dense:
    """Every entry is a parameter."""

    def __init__(self, inputs: int, size: int) -> None:
        self.square: tuple[int, ...] = (size, size)
        self.injection: tuple[int, ...] = (size, inputs)
        self.units = self.neurons = size

    def squared(self, T: torch.Tensor) -> torch.Tensor:
        return T

    def injected(self, B: torch.Tensor) -> torch.Tensor:
        return B

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        return values

    def row_sums(self, T: torch.Tensor) -> torch.Tensor:
        return T.abs().sum(1)


class Convolutional:
    """Square images of one colour: B takes `channels` kernels to every `stride`-th pixel, T goes around each of these.

    Both pad with zeros. All rows of T have the sum of the whole kernel as their bound, also at the border, so that
    T - diag(sums) is a convolution.
    """

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int) -> None:
        side = round(inputs**0.5)
        if side * side != inputs or side < stride:
            raise ValueError(f"Convolutions need square images of at least {stride} pixels a side, got {inputs} "
                             "pixels.")
        self.pixels, self.channels = side // stride, channels
        wide = 2 * (stride // 2) + 3
        self.square: tuple[int, ...] = (channels, channels, kernel, kernel)
        self.injection: tuple[int, ...] = (channels, 1, wide, wide)
        self.units, self.neurons = channels, channels * self.pixels**2
        self._around = _taps(self.pixels, self.pixels, 1, kernel, kernel // 2)
        self._into = _taps(self.pixels, side, stride, wide, (wide - stride) // 2)

    def squared(self, T: torch.Tensor) -> torch.Tensor:
        return _unrolled(T, self._around)

    def injected(self, B: torch.Tensor) -> torch.Tensor:
        return _unrolled(B, self._into)

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        return values.repeat_interleave(self.pixels**2)

    def row_sums(self, T: torch.Tensor) -> torch.Tensor:
        return self.spread(T.abs().sum((1, 2, 3)))


def _taps(outputs: int, inputs: int, stride: int, kernel: int, padding: int) -> torch.Tensor:
    """For each pixel of the output and of the input the tap between them, and kernel^2 where there is none."""
    along = torch.arange(inputs) - (torch.arange(outputs) * stride - padding)[:, None]
    rows, columns = along[:, None, :, None], along[None, :, None, :]
    inside = (rows >= 0) & (rows < kernel) & (columns >= 0) & (columns < kernel)
    return torch.where(inside, rows * kernel + columns, kernel**2).reshape(outputs**2, inputs**2)


def _unrolled(kernel: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """The matrix of a convolution, shape (channels of the output * pixels, channels of the input * pixels)."""
    flat = kernel.flatten(2)
    entries = torch.cat([flat, torch.zeros_like(flat[..., :1])], 2)[..., taps]
    return entries.permute(0, 2, 1, 3).reshape(len(kernel) * len(taps), -1)
