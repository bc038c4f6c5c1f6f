r"""Convolutional implicit layers of PyTorch state dicts: x = s(K * x + U * u + b), y = C mean(x) + c.

As in the code of MON (arXiv 2006.08591), and of NEMON, which follows it, images stand in a border of zeros as wide as
the kernels reach, convolutions go around the bordered image, and the activation puts zeros on the border again. No two
pixels inside are nearer around the border than the kernels reach, so that this is zero padding. Then means are taken
over windows of the bordered image, and an affine readout. With kernels written as correlations, 1 the unit kernel and
|.|_F the root of the sum of squares:

- MON: K = (1 - m) 1 - g F^T * F + S - S^T, F = A / |A|_F, S = h B / |B|_F, of twice the reach;
- NEMON: K = T + (m - t) 1, T = g A / |A|_F. As published t is the largest |entry| of T times the number of channels,
  which does not count the taps, so that mu(K) <= m need not hold; `shift` "row sums" takes the largest sum of |T| over
  what one channel reads, with which it does.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..activation import Elementwise
from ..convolution import Convolution
from ..errors import ModelError, ShapeError
from ..graph import Graph, sequential
from ..implicit import FixedPoint
from ..layer import parameter
from ..linear import Affine, Flatten
from ..pooling import AveragePool

FORMS = {frozenset({"A.weight", "B.weight", "g", "h"}): "convolutional MON",
         frozenset({"A.weight", "g"}): "convolutional NEMON"}
"""Forms by their keys, beside those of injection and readout."""
OPTIONS = {"image", "pool", "shift"}

_SHIFTS = ("published", "row sums")


def convolutional_network(form: str, arrays: Mapping[str, np.ndarray], m: float, options: Mapping[Any, Any],
                          activation: Elementwise, name: str) -> Graph:
    """The graph of one of `FORMS`.

    **Arguments:** `arrays`: by their keys without a prefix; `options`: `image`, rows and columns of an input without
    its border; `pool`, the side of the windows, 4 if missing; `shift`, see above.

    **Raises:** `ModelError` for options that are missing or no such; `ShapeError` for shapes that do not fit.
    """
    kernel, U, C = (arrays[key] for key in ("A.weight", "U.weight", "Wout.weight"))
    channels, size = len(kernel), kernel.shape[-1]
    expected = (channels, channels, size, size)
    for key in {"A.weight", "B.weight"} & arrays.keys():
        if arrays[key].shape != expected or not size % 2 or arrays[key].ndim != 4:
            raise ShapeError(f"{key} has the shape {arrays[key].shape}, expected (channels, channels, k, k) with an "
                             f"odd k, as A.weight has {kernel.shape}.")
    if U.ndim != 4 or U.shape[0] != channels or U.shape[2:] != (size, size):
        raise ShapeError(f"U.weight has the shape {U.shape}, expected ({channels}, channels of the image, {size}, "
                         f"{size}).")
    image, pool = _image(options), options.get("pool", 4)
    if isinstance(pool, bool) or not isinstance(pool, int) or pool < 1:
        raise ModelError(f"`pool` is the side of the windows that means are taken over, got {pool!r}.")
    reach = size // 2
    counts = tuple((side + 2 * reach) // pool for side in image)
    if C.ndim != 2 or C.shape[1] != channels * math.prod(counts):
        raise ShapeError(f"Wout.weight has the shape {C.shape}, expected (outputs, {channels * math.prod(counts)}): "
                         f"{channels} channels of {counts} windows of {pool} x {pool} in images of {image} with a "
                         f"border of {reach}.")
    recurrence = _mon(arrays, m) if form == "convolutional MON" else _nemon(arrays, m, options.get("shift", _SHIFTS[0]))
    ends = tuple(max(count * pool - side - reach, 0) for count, side in zip(counts, image, strict=True))
    wide = recurrence.shape[-1] // 2
    return sequential((U.shape[1], *image), [
        Convolution(U, arrays["U.bias"], padding=((reach, reach), (reach, reach))),
        FixedPoint(Convolution(parameter(recurrence, "K"), padding=((wide, wide), (wide, wide))), activation),
        AveragePool((pool, pool), strides=(pool, pool), padding=((reach, reach), ends), count_include_pad=True),
        Flatten(), Affine(C, arrays.get("Wout.bias"))], name)


def _image(options: Mapping[Any, Any]) -> tuple[int, int]:
    image = options.get("image")
    if not (isinstance(image, tuple | list) and len(image) == 2
            and all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in image)):
        raise ModelError("Parameters of convolutions do not say of what size the images are, without the border of "
                         f"zeros that the network puts around them (found: {image!r}). Save "
                         'torch.save({"state_dict": model.state_dict(), "m": .., "image": (28, 28)}, path).')
    return image[0], image[1]


def _unit(channels: int, reach: int) -> np.ndarray:
    kernel = np.zeros((channels, channels, 2 * reach + 1, 2 * reach + 1))
    kernel[np.arange(channels), np.arange(channels), reach, reach] = 1
    return kernel


def _factor(arrays: Mapping[str, np.ndarray], key: str) -> float:
    if arrays[key].size != 1:
        raise ShapeError(f"{key} has the shape {arrays[key].shape}, expected one number.")
    return float(arrays[key].ravel()[0])


def _normalised(arrays: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    size = float(np.linalg.norm(arrays[key]))
    if not size > 0:
        raise ModelError(f"{key} is zero, and this form divides by its norm.")
    return np.asarray(arrays[key] / size)


def _mon(arrays: Mapping[str, np.ndarray], m: float) -> np.ndarray:
    F, S = _normalised(arrays, "A.weight"), _factor(arrays, "h") * _normalised(arrays, "B.weight")
    g = _factor(arrays, "g")
    reach = F.shape[-1] // 2
    kernel = (1 - m) * _unit(len(F), 2 * reach)
    inner = slice(reach, 3 * reach + 1)
    kernel[:, :, inner, inner] += S - np.swapaxes(S, 0, 1)[:, :, ::-1, ::-1]
    taps = F.shape[2:]
    for first in np.ndindex(taps):
        for second in np.ndindex(taps):
            at = tuple(b - a + 2 * reach for a, b in zip(first, second, strict=True))
            kernel[(slice(None), slice(None), *at)] -= g * F[:, :, *first].T @ F[:, :, *second]
    return kernel


def _nemon(arrays: Mapping[str, np.ndarray], m: float, shift: object) -> np.ndarray:
    if shift not in _SHIFTS:
        raise ModelError(f"`shift` must be one of {', '.join(map(repr, _SHIFTS))}, got {shift!r}.")
    T = _factor(arrays, "g") * _normalised(arrays, "A.weight")
    largest = len(T) * np.abs(T).max() if shift == "published" else np.abs(T).sum(axis=(1, 2, 3)).max()
    return np.asarray(T + (m - largest) * _unit(len(T), T.shape[-1] // 2))
