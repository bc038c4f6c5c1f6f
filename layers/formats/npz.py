"""Fully connected networks as numpy archives.

An archive holds, and nothing else:

- `W1`, `W2`, .., without gaps: float matrices (out, in), so that layer k maps x to W_k x + b_k;
- `b1`, `b2`, ..: float vectors (out,); a missing one is zero;
- `activation`: a string, or an array with one string for each layer but the last, which has none. Parameters follow a
  colon: `relu`, `tanh`, `leaky_relu:0.1`, `clip:-1,1`; see `perceptron.ACTIVATIONS`. Only an archive with a single
  matrix may do without;
- `input_mean`, `input_scale`, each optional: vectors (in,). The network maps x to f((x - input_mean) / input_scale).

Archives are read with `allow_pickle=False`, always.
"""

import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..errors import ModelError
from ..graph import Graph
from ..layer import Layer
from ..linear import Affine, Scale
from .perceptron import activation_named, name_of, perceptron


def load_npz(path: Path) -> Graph:
    """The network in an archive laid out as above.

    **Raises:** `ModelError` for a damaged archive, keys not understood, or shapes that do not fit.
    """
    arrays = _arrays(path)
    count = sum(1 for key in arrays if re.fullmatch(r"W[1-9]\d*", key))
    known = {f"{letter}{k}" for letter in "Wb" for k in range(1, count + 1)}
    known |= {"activation", "input_mean", "input_scale"}
    missing = [f"W{k}" for k in range(1, count + 1) if f"W{k}" not in arrays]
    unknown = sorted(arrays.keys() - known)
    if count == 0 or missing or unknown:
        expected = f"W1 .. W{max(count, 1)}, b1 .. b{max(count, 1)}, activation, input_mean, input_scale"
        raise ModelError(f"{path}: " + "; ".join(filter(None, [
            "no weight W1" if count == 0 else "", f"missing {', '.join(missing)}" if missing else "",
            f"keys not understood: {', '.join(unknown)}" if unknown else ""])) + f". Expected are {expected}.")
    texts = _activations(arrays, count, path)
    try:
        return perceptron(
            [arrays[f"W{k}"] for k in range(1, count + 1)],
            [arrays.get(f"b{k}") for k in range(1, count + 1)],
            [activation_named(text) for text in texts],
            mean=arrays.get("input_mean"), scale=arrays.get("input_scale"), name=path.stem)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from None


def save_npz(path: str | Path, graph: Graph) -> None:
    """Writes a network that `load_npz` reads back as the same graph.

    **Raises:** `ModelError` if the graph is not affine layers with one activation between neighbours, after an
    optional shift and division of the input.
    """
    if any(len(graph.inputs(node)) > 1 for node in graph.order) or len(graph.shape(graph.input)) != 1:
        raise ModelError("Only networks of one layer after the other, of a vector, fit into an archive of weights.")
    layers = [graph.layer(node) for node in graph.order[1:-1]]
    content: dict[str, np.ndarray] = {}
    while layers and isinstance(layers[0], Scale):
        content |= _normalisation(layers.pop(0), set(content))
    texts: list[str] = []
    for position, layer in enumerate(layers):
        if position % 2 == 1:
            texts.append(name_of(layer))
        elif isinstance(layer, Affine) and (layer.bias is None or layer.bias.shape == layer.weight.shape[:1]):
            content[f"W{position // 2 + 1}"] = layer.weight
            if layer.bias is not None:
                content[f"b{position // 2 + 1}"] = layer.bias
        else:
            raise ModelError(f"Layer {position + 1} is {layer.describe()}, expected an affine layer of a vector.")
    if len(layers) % 2 == 0:
        raise ModelError("The last layer must be affine.")
    if texts:
        content["activation"] = np.array(texts)
    # Handed an open file, savez adds no extension of its own.
    with Path(path).open("wb") as stream:
        np.savez(stream, allow_pickle=False, **content)  # type: ignore[arg-type]


def _normalisation(layer: Layer, taken: set[str]) -> dict[str, np.ndarray]:
    assert isinstance(layer, Scale)
    shape = layer.divisor.shape if layer.shift is None else layer.shift.shape  # type: ignore[union-attr]
    if "input_scale" not in taken and np.all(np.asarray(layer.multiplier) == 1) and len(shape) == 1:
        if layer.shift is None:
            return {"input_scale": np.asarray(layer.divisor)}
        if np.all(np.asarray(layer.divisor) == 1) and not taken:
            return {"input_mean": -layer.shift}
    raise ModelError("A scaling of the input is kept as x - mean, then division; this one is of another form.")


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ModelError(f"{path} is a single array, not an archive of weights.")
            with archive:
                content = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} is no numpy archive of plain arrays, or it is cut short: {error}.") from None
    if bad := [key for key, value in content.items() if not isinstance(value, np.ndarray)]:
        raise ModelError(f"{path}: these members are no arrays: {', '.join(bad)}.")
    return content


def _activations(arrays: dict[str, np.ndarray], count: int, path: Path) -> list[str]:
    given = arrays.get("activation")
    if given is None:
        if count > 1:
            raise ModelError(f"{path}: the key `activation` is missing; add it, for example as 'relu'.")
        return []
    if given.dtype.kind != "U":
        raise ModelError(f"{path}: `activation` must hold strings, got {given.dtype}.")
    texts: list[str] = [str(given)] * (count - 1) if given.ndim == 0 else [str(text) for text in given.ravel()]
    if len(texts) != count - 1:
        raise ModelError(f"{path}: `activation` names {len(texts)} activations for {count - 1} hidden layers; "
                         "the last layer has none.")
    return texts
