"""Writes networks of one layer after the other as the numpy archives that `npz` reads."""

import itertools
from pathlib import Path

import numpy as np

from ..activation import Activation
from ..convolution import Convolution
from ..errors import ModelError
from ..graph import Graph
from ..implicit import FixedPoint
from ..layer import Layer, Shape
from ..linear import Affine, Scale
from ..state_space import StateSpace
from .layer_names import name_of_layer
from .perceptron import name_of

_WEIGHTED = (Affine, Convolution, StateSpace)


def save_npz(path: str | Path, graph: Graph) -> None:
    """Writes a network that `load_npz` reads back as the same graph.

    **Raises:** `ModelError` if the graph is not one layer after the other, or listing all layers that have no place in
    an archive.
    """
    if any(graph.inputs(after) != (before,) for before, after in itertools.pairwise(graph.order)):
        raise ModelError("Only networks of one layer after the other fit into an archive of weights.")
    layers = [(graph.layer(node), graph.input_shapes(node)[0]) for node in graph.order[1:-1]]
    content: dict[str, np.ndarray] = {}
    while layers and isinstance(first := layers[0][0], Scale):
        content |= normalisation_parts(first, set(content))
        layers.pop(0)
    weighted = [isinstance(layer, _WEIGHTED) for layer, _ in layers]
    activations = [isinstance(layer, Activation) for layer, _ in layers]
    # Where activations alternate with weights, they are listed apart, as in archives of perceptrons.
    alternate = len(layers) % 2 == 1 and all(weighted[::2]) and all(activations[1::2])
    steps: list[dict[str, np.ndarray]] = []
    between: list[str] = []
    problems = [] if layers else ["there is no layer but a scaling of the input"]
    for layer, shape in layers:
        try:
            if alternate and not isinstance(layer, _WEIGHTED):
                between.append(name_of_layer(layer, shape))
            else:
                steps.append(parts_of_layer(layer, shape))
        except ModelError as error:
            problems.append(str(error).rstrip("."))
    if problems:
        raise ModelError(f"This network does not fit into an archive of weights: {'; '.join(problems)}.")
    content |= {f"{name}{k}": value for k, parts in enumerate(steps, 1) for name, value in parts.items()}
    if between or (sum(weighted) > 1 and not any(activations)):
        content["activation"] = np.array(between or "none")
    if not isinstance(layers[0][0], Affine):
        content["input_shape"] = np.array(graph.shape(graph.input))
    # Handed an open file, savez adds no extension of its own.
    with Path(path).open("wb") as stream:
        np.savez(stream, allow_pickle=False, **content)  # type: ignore[arg-type]


def parts_of_layer(layer: Layer, shape: Shape) -> dict[str, np.ndarray]:
    """The arrays of a layer for an input of this shape, named as in an archive, without the layer's number.

    **Raises:** `ModelError` if it has no place there.
    """
    if isinstance(layer, _WEIGHTED):
        return _weights(layer, shape)
    if isinstance(layer, FixedPoint):
        return _implicit(layer)
    return {"layer": np.array(name_of_layer(layer, shape))}


def _weights(layer: Affine | Convolution | StateSpace, shape: Shape) -> dict[str, np.ndarray]:
    """The arrays of a layer with weights, without its number."""
    bias = {} if layer.bias is None else {"b": layer.bias}
    if isinstance(layer, Affine):
        if len(shape) != 1 or (bias and layer.bias.shape != layer.weight.shape[:1]):  # type: ignore[union-attr]
            raise ModelError(f"{layer.describe()} of an input {shape} is not a matrix and a bias for a vector.")
        return {"W": layer.weight} | bias
    if isinstance(layer, Convolution):
        options = {"stride": layer.strides, "dilation": layer.dilations, "padding": layer.padding,
                   "groups": layer.groups}
        return {"W": layer.weight} | bias | {name: np.array(value) for name, value in options.items()}
    if layer.initial_state is not None:
        raise ModelError(f"{layer.describe()} has an initial state, for which archives have no key.")
    matrices = {name: getattr(layer, name) for name in "ABCD"}
    return {name: matrix for name, matrix in matrices.items() if matrix is not None} | bias


def _implicit(layer: FixedPoint) -> dict[str, np.ndarray]:
    parts = {"implicit": layer.recurrence.weight, "activation": np.array(name_of(layer.activation))}
    if isinstance(layer.recurrence, Affine):
        return parts
    reach = tuple(n // 2 for n in layer.recurrence.weight.shape[2:])
    kept = Convolution(layer.recurrence.weight, padding=((), ()) if layer.circular else (reach, reach))
    if any(n % 2 == 0 for n in layer.recurrence.weight.shape[2:]) or any(
            getattr(kept, name) != getattr(layer.recurrence, name)
            for name in ("strides", "dilations", "padding", "groups")):
        raise ModelError(f"{layer.describe()} has a kernel of even size, or strides, dilations or its own padding.")
    return parts | {"border": np.array("circular" if layer.circular else "zeros")}


def normalisation_parts(layer: Scale, taken: set[str]) -> dict[str, np.ndarray]:
    """The key of a scaling in front of the layers, those in `taken` being there already.

    **Raises:** `ModelError` for another form than (x - mean) / scale.
    """
    if "input_scale" not in taken and np.all(np.asarray(layer.multiplier) == 1):
        if layer.shift is None:
            return {"input_scale": np.asarray(layer.divisor)}
        if np.all(np.asarray(layer.divisor) == 1) and not taken:
            return {"input_mean": -layer.shift}
    raise ModelError("A scaling of the input is kept as x - mean, then division; this one is of another form.")
