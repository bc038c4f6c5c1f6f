"""Reads the benchmark folder: trained weights of arXiv 2405.01125 and the bounds published for them.

The folder holds `mlp/mlp_L*_W*.mat`, `cnn/cnn_C*_CH*.mat`, `digits/fnn*_weights.mat`, `digits/cnn*_weights.mat`,
`versatility/FC-R18.mat` and `published.csv`, and is no part of this package. **Source:** Pauli, Gramlich, Allgoewer,
"Lipschitz constant estimation for general neural network architectures using control tools", arXiv 2405.01125, and its
data sets.
"""

import csv
import dataclasses
import functools
import itertools
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.io
import scipy.io.matlab
from netgain.layers import Add, Affine, Graph, GraphBuilder, Layer, Relu, Scale, sequential

from ..idx import DataError
from .convolutional_networks import (
    TRAINED_ACTIVATION,
    TRAINED_GAIN,
    Flattening,
    Weights,
    convolution_chain,
    digits_network,
    trained_network,
)

DIGITS_CLASS = 7
_TRAINED_OUTPUT_GAIN = 1.1
# Numbers of convolutions in the published table. Networks with 16 lie in the same folder, but were not trained alike:
# with the gain and the activation of the others they do not reach the accuracy stated in their files.
_CONVOLUTIONS = (3, 5, 9, 17)


@dataclasses.dataclass(frozen=True)
class Published:
    """A row of published.csv. `seconds` is on the authors' machine, None if not stated."""

    method: str
    bound: float
    seconds: float | None


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of the folder, read when it is built. `published`: SDP bounds only, those of the same map."""

    name: str
    build: Callable[[], Graph]
    published: tuple[Published, ...] = ()


def read_folder(folder: Path) -> tuple[Network, ...]:
    """Every network of the folder, small ones first within each family.

    **Raises:** `DataError` if there is none.
    """
    table = _published(folder / "published.csv")
    families = (_digits, _digits_convolutional, _perceptrons, _convolutional, _residual)
    networks = [network for family in families for network in family(folder, table)]
    if not networks:
        raise DataError(f"{folder}: no mlp/mlp_L*_W*.mat, cnn/cnn_C*_CH*.mat, digits/fnn*_weights.mat, "
                        "digits/cnn*_weights.mat or versatility/FC-R18.mat.")
    return tuple(networks)


def perceptron(pairs: Sequence[tuple[np.ndarray, np.ndarray]], name: str) -> Graph:
    """W_k relu(.. relu(W_1 u + b_1) ..) + b_k, without activation after the last."""
    layers: list[Layer] = []
    for weight, bias in pairs:
        layers += [Affine(weight, bias), Relu()]
    return sequential((pairs[0][0].shape[1],), layers[:-1], name)


def trained_perceptron(pairs: Sequence[tuple[np.ndarray, np.ndarray]], name: str) -> Graph:
    """The perceptron of these weights as it was trained: with a gain of each affine map, and not with ReLU."""
    layers: list[Layer] = []
    for weight, bias in pairs[:-1]:
        layers += [Affine(TRAINED_GAIN * weight, TRAINED_GAIN * bias), TRAINED_ACTIVATION]
    return sequential((pairs[0][0].shape[1],), [*layers, Affine(*pairs[-1]), Scale(_TRAINED_OUTPUT_GAIN)], name)


def residual_network(weights: Weights, relu_after_sum: bool, name: str) -> Graph:
    """x = relu(W u + b), then blocks x -> s(x + W2 relu(W1 x + b1) + b2), then an affine output.

    As trained, s = relu. The SDP published for this network leaves s out, so its bound is one of the network with s
    the identity, which is another map.
    """
    builder = GraphBuilder()
    node = builder.add(Affine(weights["input_layer_weight"], weights["input_layer_bias"].ravel()),
                       builder.input((weights["input_layer_weight"].shape[1],)))
    node = builder.add(Relu(), node)
    for block in itertools.takewhile(lambda k: f"blocks_{k}_fc1_weight" in weights, itertools.count()):
        inner, outer = (Affine(weights[f"blocks_{block}_fc{i}_weight"], weights[f"blocks_{block}_fc{i}_bias"].ravel())
                        for i in (1, 2))
        branch = builder.add(outer, builder.add(Relu(), builder.add(inner, node)))
        node = builder.add(Add((1, 1)), node, branch)
        node = builder.add(Relu(), node) if relu_after_sum else node
    output = Affine(weights["output_layer_weight"], weights["output_layer_bias"].ravel())
    return builder.build(builder.add(output, node), name)


def digits_perceptron(weights: Weights, output: int, name: str) -> Graph:
    """fc1, .., with ReLU between them, and one output of the last. Weights are (in, out)."""
    pairs = [(weights[f"fc{k}_weight"].T, weights[f"fc{k}_bias"].ravel())
             for k in itertools.takewhile(lambda k: f"fc{k}_weight" in weights, itertools.count(1))]
    if not pairs:
        raise DataError(f"{name}: no variable `fc1_weight`.")
    weight, bias = pairs[-1]
    one = slice(output, output + 1)
    return perceptron([*pairs[:-1], (weight[one], bias[one])], name)


def affine_chain(graph: Graph) -> tuple[np.ndarray, ...] | None:
    """W_1, .., W_k if the graph is `perceptron`'s; None if it is anything else. For tools that take only these."""
    layers = [graph.layer(node) for node in graph.order[1:-1]]
    if any(graph.digraph.in_degree(node) != 1 for node in graph.order[1:]) or len(layers) % 2 == 0:
        return None
    affine = [layer for layer in layers[::2] if isinstance(layer, Affine) and layer.axis == -1]
    if len(affine) != len(layers[::2]) or not all(isinstance(layer, Relu) for layer in layers[1::2]):
        return None
    return tuple(layer.weight for layer in affine)


def _digits(folder: Path, table: Mapping[str, tuple[Published, ...]]) -> Iterable[Network]:
    """The published figures are for the logit of one class, without the input normalisation stored with the weights.

    Which class is not stated; the published products of norms are those of this one, for all ten files.
    """
    for path in sorted((folder / "digits").glob("fnn*_weights.mat")):
        name = path.name.removesuffix("_weights.mat")
        yield Network(name, functools.partial(_build_digits, path, name), _sdp(table.get(name, ())))


def _build_digits(path: Path, name: str) -> Graph:
    return digits_perceptron(_load(path), DIGITS_CLASS, name)


def _digits_convolutional(folder: Path, table: Mapping[str, tuple[Published, ...]]) -> Iterable[Network]:
    """The published GLipSDP figures are bounds of the map that was trained, the LipSDP figures of another."""
    maps = {"as trained": (Flattening.ROWS_OF_CHANNELS, "GLipSDP"),
            "flattened column-major": (Flattening.COLUMN_MAJOR, "LipSDP")}
    for path in sorted((folder / "digits").glob("cnn*_weights.mat")):
        stem = path.name.removesuffix("_weights.mat")
        for suffix, (flattening, method) in maps.items():
            name = f"{stem} {suffix}"
            published = tuple(row for row in table.get(stem, ()) if row.method == method)
            yield Network(name, functools.partial(_build_digits_convolutional, path, flattening, name), published)


def _build_digits_convolutional(path: Path, flattening: Flattening, name: str) -> Graph:
    return digits_network(_load(path), DIGITS_CLASS, flattening, name)


def _convolutional(folder: Path, table: Mapping[str, tuple[Published, ...]]) -> Iterable[Network]:
    """The published figures of a file with C convolutions are those of the C - 1 after the first, ReLU between them.

    They do not depend on the size of the images; here it is that of the training.
    """
    found = [(count, path) for count, path in _by_width(folder / "cnn", r"cnn_C(\d+)_CH(\d+)")
             if count in _CONVOLUTIONS]
    for count, path in found:
        name = f"{path.stem} conv_1..conv_{count - 1}"
        yield Network(name, functools.partial(_build_chain, path, count - 1, name), _sdp(table.get(name, ())))
    for count, path in found:
        name = f"{path.stem} as trained"
        yield Network(name, functools.partial(_build_convolutional, path, count, name))


def _build_chain(path: Path, count: int, name: str) -> Graph:
    return convolution_chain(_fields(path), count, _image(path), name)


def _build_convolutional(path: Path, count: int, name: str) -> Graph:
    return trained_network(_fields(path), count, _image(path), name)


def _image(path: Path) -> tuple[int, int]:
    """Rows and columns of the images of the training."""
    shape = _struct(path, "metadata")["input_shape"].ravel()
    if shape.size != 3:
        raise DataError(f"{path}: `metadata.input_shape` is {shape}, expected channels, rows, columns.")
    return int(shape[1]), int(shape[2])


def _by_width(folder: Path, pattern: str) -> list[tuple[int, Path]]:
    """Depth and path of the .mat files with this pattern of (depth, width), in order of width, then depth."""
    matches = [(re.fullmatch(pattern, path.stem), path) for path in folder.glob("*.mat")]
    found = sorted((int(match[2]), int(match[1]), path) for match, path in matches if match)
    return [(depth, path) for _, depth, path in found]


def _perceptrons(folder: Path, table: Mapping[str, tuple[Published, ...]]) -> Iterable[Network]:
    """The published figures of a file with L hidden layers, so L + 1 weights, are those of another network.

    It is made of the L - 1 square weights, from one hidden layer to the next, each *transposed* and in the order of the
    file, without the weights of the input and the output. published.csv does not say so; the products of norms, the
    ECLipsE-Fast bounds and the SDP optima measured beside them agree with this network and with no other order or
    orientation tried. Depth, widths and, up to a gain of 2, the norm of each weight are those of the trained network.
    """
    found = _by_width(folder / "mlp", r"mlp_L(\d+)_W(\d+)")
    for hidden, path in found:
        count = hidden - 1
        name = f"{path.stem} first {count} weights"
        yield Network(name, functools.partial(_build_square_weights, path, count, name), _sdp(table.get(name, ())))
    for hidden, path in found:
        name = f"{path.stem} as trained"
        yield Network(name, functools.partial(_build_trained, path, hidden + 1, name))


def _build_square_weights(path: Path, count: int, name: str) -> Graph:
    fields = _fields(path)
    weights = [fields[f"linear_{k}_weight"].T for k in range(1, count + 1)]
    # No bound depends on the biases, and those of the file have the lengths of the untransposed weights.
    return perceptron([(weight, np.zeros(len(weight))) for weight in weights], name)


def _build_trained(path: Path, count: int, name: str) -> Graph:
    fields = _fields(path)
    pairs = [(fields[f"linear_{k}_weight"], fields[f"linear_{k}_bias"].ravel()) for k in range(count)]
    return trained_perceptron(pairs, name)


def _fields(path: Path) -> Weights:
    return _struct(path, "params")


def _struct(path: Path, name: str) -> Weights:
    """The fields of a struct of a .mat file."""
    struct = _load(path).get(name)
    if struct is None or struct.dtype.names is None:
        raise DataError(f"{path}: no struct `{name}`.")
    return {field: struct[0, 0][field] for field in struct.dtype.names}


def _residual(folder: Path, table: Mapping[str, tuple[Published, ...]]) -> Iterable[Network]:
    path = folder / "versatility" / "FC-R18.mat"
    if not path.is_file():
        return
    omitting = tuple(row for row in table.get("FC-R18", ()) if "omits the ReLU" in row.method)
    yield Network("FC-R18 as trained", functools.partial(_build_residual, path, True, "FC-R18 as trained"))
    name = "FC-R18 without the ReLU after each sum"
    yield Network(name, functools.partial(_build_residual, path, False, name), omitting)


def _build_residual(path: Path, relu_after_sum: bool, name: str) -> Graph:
    return residual_network(_load(path), relu_after_sum, name)


class _Variables(dict[str, np.ndarray]):
    """The variables of a file; one that is not there is an error of the file."""

    path: Path

    def __missing__(self, name: str) -> np.ndarray:
        raise DataError(f"{self.path}: no variable `{name}`.")


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        found = _Variables(scipy.io.loadmat(path))
    # scipy's errors of damaged files are of many kinds.
    except (OSError, ValueError, LookupError, TypeError, NotImplementedError, zlib.error,
            scipy.io.matlab.MatReadError) as error:
        raise DataError(f"{path}: not a readable .mat file ({error}).") from None
    found.path = path
    return found


def _published(path: Path) -> dict[str, tuple[Published, ...]]:
    """By network; empty without the file."""
    if not path.is_file():
        return {}
    rows: dict[str, tuple[Published, ...]] = {}
    with path.open(newline="") as stream:
        for row in csv.DictReader(stream):
            entry = Published(row["method"], float(row["bound"]), float(row["seconds"]) if row["seconds"] else None)
            rows[row["network"]] = (*rows.get(row["network"], ()), entry)
    return rows


def _sdp(rows: Iterable[Published]) -> tuple[Published, ...]:
    return tuple(row for row in rows if row.method in ("LipSDP", "GLipSDP", "CLipSDP"))
