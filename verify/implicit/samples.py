"""Inputs that a network is asked about, from `.npy` and `.npz` files."""

import dataclasses
import math
import zipfile
from pathlib import Path

import numpy as np
from netgain.layers.layer import Shape

from ..robustness.samples import INPUT_KEYS, LABEL_KEYS


class SampleError(ValueError):
    """A file that holds no inputs of the network."""


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Inputs of a network as float64, shape (batch, *input shape), and the outputs that ought to be the largest.

    **Attributes:** `labels`: integers of shape (batch,), or None.
    """

    inputs: np.ndarray
    labels: np.ndarray | None = None


def load_samples(path: Path, shape: Shape, outputs: int) -> Samples:
    """The inputs in a file: one array (`.npy`), or an array `x` and, if wanted, `y` (`.npz`, or other names of these).

    **Arguments:** `shape`: of one input; arrays may be a batch of these or of vectors of as many numbers, or one alone.
    `outputs`: labels are below.

    **Raises:** `SampleError` naming what the file holds instead; `OSError` if it cannot be read.
    """
    arrays = _named(path, _arrays(path))
    inputs, size = _numbers(path, "inputs", arrays["inputs"]), math.prod(shape)
    for known in (shape, (size,)):
        if inputs.shape == known:
            inputs = inputs[None]
        if inputs.shape[1:] == known and len(inputs):
            break
    else:
        wanted = " or ".join(dict.fromkeys(f"(batch, {', '.join(map(str, known))})" for known in (shape, (size,))))
        raise SampleError(f"{path}: the inputs have the shape {arrays['inputs'].shape}, expected {wanted}, with at "
                          "least one input.")
    inputs = np.ascontiguousarray(inputs, dtype=np.float64).reshape((-1, *shape))
    if not np.all(np.isfinite(inputs)):
        raise SampleError(f"{path}: {int(np.sum(~np.isfinite(inputs)))} of {inputs.size} numbers of the inputs are not "
                          "finite.")
    if "labels" not in arrays:
        return Samples(inputs)
    labels = _numbers(path, "labels", arrays["labels"])
    fit = labels.shape == (len(inputs),) and labels.dtype.kind in "iu"
    if not fit or not np.all((labels >= 0) & (labels < outputs)):
        raise SampleError(f"{path}: labels are {len(inputs)} integers from 0 to {outputs - 1}, one for each input; got "
                          f"{labels.dtype} of shape {labels.shape}"
                          + (f" from {labels.min()} to {labels.max()}." if labels.size else "."))
    return Samples(inputs, labels.astype(np.int64))


def _named(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays as `inputs` and `labels`, whichever of their names they have."""
    found = {name: [key for key in keys if key in arrays] for name, keys in
             (("inputs", INPUT_KEYS), ("labels", LABEL_KEYS))}
    if len(found["inputs"]) != 1 or len(found["labels"]) > 1 or len(arrays) > sum(map(len, found.values())):
        raise SampleError(f"{path} has the keys {', '.join(sorted(arrays)) or 'none'}; expected inputs under one of "
                          f"{', '.join(INPUT_KEYS)} and, if there are any, labels under one of "
                          f"{', '.join(LABEL_KEYS)}.")
    return {name: arrays[keys[0]] for name, keys in found.items() if keys}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix.lower() not in (".npy", ".npz"):
        raise SampleError(f"{path}: inputs are read from .npy and .npz files.")
    try:
        with path.open("rb") as stream:  # np.load leaves a damaged file open
            content = np.load(stream, allow_pickle=False)
            return {"inputs": content} if isinstance(content, np.ndarray) else {
                key: content[key] for key in content.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SampleError(f"{path} is damaged, or holds objects other than numbers, which are not read: {error}"
                          ) from None


def _numbers(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise SampleError(f"{path}: `{name}` holds {array.dtype}, expected real numbers of at most 64 bits.")
    if array.dtype.kind in "iu" and array.size and max(abs(int(array.min())), abs(int(array.max()))) > 2**53:
        raise SampleError(f"{path}: `{name}` holds integers beyond 2^53, which float64 does not hold exactly.")
    return array
