"""Fully connected networks in MATLAB files, in the conventions of LipSDP and of GLipSDP.

- `weights`: a cell array of matrices (out, in), without biases unless a cell array `biases` goes with it;
- `fc1_weight`, `fc1_bias`, `fc2_weight`, ..: matrices of one orientation, (out, in) or (in, out);
- `params`: a struct with `linear_0_weight`, `linear_0_bias`, ..: likewise.

A missing bias is zero. The hidden layers have the activation that the variable `activation` names (see
`perceptron.activation_named`); without that variable it is ReLU, as in the tools these files come from. With
`input_mean` and `input_scale` the network maps x to f((x - input_mean) / input_scale).
"""

import itertools
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from ..errors import ModelError
from ..graph import Graph
from .perceptron import activation_named, perceptron

_NOT_THE_MAP = {"metadata", "history"}
"""Variables of GLipSDP's files about the training; a model type other than MLP in them is refused."""


def load_mat(path: Path, *, activation: str | None = None, transposed: bool | None = None,
             standardised: bool = True) -> Graph:
    """The network in a MATLAB file laid out as above.

    Whether `fc` and `linear` matrices are (out, in) or (in, out) follows from the one orientation in which all
    matrices, biases and `input_mean` fit together.

    **Arguments:** `activation`: used instead of what the file says; `transposed`: True if the matrices are (in, out),
    False for (out, in), to be given when both would fit; `standardised`: False leaves `input_mean` and `input_scale`
    out, so that the graph's input is the standardised one.

    **Raises:** `ModelError` for a damaged file, variables not understood, or an orientation that is not unique.
    """
    content = _variables(path)
    text = _text(content.pop("activation", None), path)
    mean, scale = (_vector(content.pop(key, None)) for key in ("input_mean", "input_scale"))
    if not standardised:
        mean = scale = None
    _check_metadata(content, path)
    if "weights" in content:
        weights = _cells(content.pop("weights"), "weights", path)
        biases = [_vector(b) for b in _cells(content.pop("biases"), "biases", path)] if "biases" in content else []
        biases = biases or [None] * len(weights)
        transposed = bool(transposed)
    else:
        weights, biases = _numbered(content, path)
    if content:
        raise ModelError(f"{path}: variables not understood: {', '.join(sorted(content))}. Expected is a cell array "
                         "`weights`, or fc1_weight, fc1_bias, .., or a struct `params` with linear_0_weight, ..; "
                         "networks with convolutions or residual connections can be imported as ONNX.")
    if len(biases) != len(weights) or any(w.ndim != 2 for w in weights):
        raise ModelError(f"{path}: {len(weights)} weights of shapes {[w.shape for w in weights]} and {len(biases)} "
                         "biases do not make a network.")
    if transposed is None:
        transposed = _orientation(weights, biases, mean, path)
    layer = activation_named(activation or text or "relu")
    try:
        return perceptron([w.T if transposed else w for w in weights], biases, [layer] * (len(weights) - 1),
                          mean=mean, scale=scale, name=path.stem)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from None


def _variables(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        head = stream.read(520)
    if head.startswith(b"MATLAB 7.3") or head[512:516] == b"\x89HDF" or head[:4] == b"\x89HDF":
        raise ModelError(f"{path} is a MATLAB 7.3 (HDF5) file, which is not read; save it with -v7 in MATLAB.")
    try:
        with warnings.catch_warnings():
            # scipy warns of variables that occur twice and returns one of them.
            warnings.simplefilter("error")
            content = scipy.io.loadmat(path)
    except Exception as error:  # scipy raises anything, from IndexError to zlib.error, for a damaged file
        raise ModelError(f"{path} is no MATLAB file, or it is damaged: {type(error).__name__}: {error}.") from None
    return {key: value for key, value in content.items() if not key.startswith("__")}


def _text(value: Any, path: Path) -> str | None:
    if value is None:
        return None
    if np.asarray(value).dtype.kind != "U" or np.size(value) != 1:
        raise ModelError(f"{path}: `activation` must be one string, got {value!r}.")
    return str(np.ravel(value)[0])


def _vector(value: Any) -> np.ndarray | None:
    """A row, column or flat vector, flat; matrices keep their shape, to be refused with it."""
    if value is None:
        return None
    array = np.asarray(value)
    return array.ravel() if array.size == max(array.shape, default=1) else array


def _check_metadata(content: dict[str, Any], path: Path) -> None:
    for key in _NOT_THE_MAP & content.keys():
        fields = content.pop(key)
        if fields.dtype.names and "model_type" in fields.dtype.names:
            kind = str(np.ravel(fields["model_type"].item())[0])
            if kind != "MLP":
                raise ModelError(f"{path} holds a network of type {kind}; only fully connected ones (MLP) are read.")


def _cells(value: np.ndarray, name: str, path: Path) -> list[np.ndarray]:
    if value.dtype != object or value.size != max(value.shape):
        raise ModelError(f"{path}: `{name}` must be a cell array in one row or column, got {value.dtype} "
                         f"{value.shape}.")
    return [np.asarray(cell) for cell in value.ravel()]


def _numbered(content: dict[str, Any], path: Path) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """Takes the weights and biases out of `content`; variables of a struct that are left over come back into it."""
    pattern, first = r"fc(\d+)_(weight|bias)", 1
    if "params" in content:
        params = content.pop("params")
        if params.dtype.names is None or params.size != 1:
            raise ModelError(f"{path}: `params` must be one struct, got {params.dtype} of shape {params.shape}.")
        if twice := content.keys() & set(params.dtype.names):
            raise ModelError(f"{path}: {', '.join(sorted(twice))} occur both in `params` and beside it.")
        content |= {name: params[name].item() for name in params.dtype.names}
        pattern, first = r"linear_(\d+)_(weight|bias)", 0
    found = {key: match for key in content if (match := re.fullmatch(pattern, key))}
    parts = {(match[2], int(match[1])): np.asarray(content.pop(key)) for key, match in found.items()}
    count = sum(1 for kind, _ in parts if kind == "weight")
    numbers = range(first, first + count)
    if not count or {number for _, number in parts} != set(numbers) or any(("weight", k) not in parts for k in numbers):
        raise ModelError(f"{path}: the weights are not numbered from {first} without gaps; it holds "
                         f"{', '.join(sorted(found)) or 'no weights'}"
                         f"{' and ' + ', '.join(sorted(content)) if content else ''}.")
    return [parts["weight", k] for k in numbers], [_vector(parts.get(("bias", k))) for k in numbers]


def _orientation(weights: list[np.ndarray], biases: list[np.ndarray | None], mean: np.ndarray | None,
                 path: Path) -> bool:
    """Whether the matrices are (in, out), by the only orientation in which everything fits."""
    fitting = []
    for transposed in (False, True):
        shapes = [w.shape[::-1] if transposed else w.shape for w in weights]
        chain = all(after[1] == before[0] for before, after in itertools.pairwise(shapes))
        ends = all(b is None or b.shape == shape[:1] for b, shape in zip(biases, shapes, strict=True))
        if chain and ends and (mean is None or mean.shape == (shapes[0][1],)):
            fitting.append(transposed)
    listing = ", ".join("x".join(map(str, w.shape)) for w in weights)
    if not fitting:
        sizes = [None if bias is None else bias.shape for bias in biases]
        raise ModelError(f"{path}: the matrices {listing} with biases of shapes {sizes} fit together neither as "
                         "(out, in) nor as (in, out).")
    if len(fitting) > 1:
        raise ModelError(f"{path}: the matrices {listing} fit together both as (out, in) and as (in, out); read the "
                         "file with `load_mat(path, transposed=..)`.")
    return fitting[0]
