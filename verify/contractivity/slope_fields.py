"""From a network to the matrices of a neural ODE: u' = f(u), where f is a graph with as many outputs as inputs.

The rows of the graph (`constraints`) say everything: one layer of activations gives B + E D A, layers fed by the input
alone count as one, and a chain of activations whose last is the output gives D_k A_k .. D_1 A_1. The matrices have to
be float64 numbers exactly, because a certificate is about them and not about numbers nearby; where linear layers that
follow each other would have to be multiplied, that is not so in general, and the graph is refused.
"""

import numpy as np
from netgain.layers import Graph, ModelError, SampledWeights
from netgain.layers.arithmetic import Array
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.multilayer_field import MultilayerField
from netgain.solvers.contractivity.time_dependent_field import SampledField

from ..balls import BALLS, precision
from ..constraints import ActivationRows, Rows, constraint_rows
from ..enclosure import Enclosure

_PRECISION = 256


def slope_field(model: Graph | SampledWeights) -> SlopeField | MultilayerField | SampledField:
    """The matrices, and the slope interval derived from the activation.

    **Raises:** `ModelError` if the graph is not of a form above, listing all that is wrong with it.
    """
    if isinstance(model, SampledWeights):
        interval = model.activation.slopes((model.size,))
        ends = [np.unique(end) for end in (interval.lower, interval.upper)]
        if interval.coupled != 1 or any(len(end) != 1 for end in ends):
            raise ModelError(f"{model.name}: {model.activation.describe()} gives neurons no slope interval in common.")
        lower, upper = (float(end[0]) for end in ends)
        sampled = SampledField(model.times, model.weights, float(model.lipschitz), lower, upper)
        for j in range(len(sampled.times)):
            try:
                sampled.at(j)
            except ValueError as error:
                raise ModelError(f"{model.name} at the time {float(sampled.times[j])!r}: {error}") from None
        return sampled
    try:
        return _of_graph(model)
    except (ModelError, ValueError) as error:
        raise ModelError(f"{model.name} is no field of a neural ODE that can be bounded: {error}") from None


def _of_graph(graph: Graph) -> SlopeField | MultilayerField:
    sizes = [int(np.prod(graph.shape(node))) for node in (graph.input, graph.output)]
    if sizes[0] != sizes[1]:
        raise ModelError(f"it takes {sizes[0]} numbers and gives {sizes[1]}; u' = f(u) needs as many of both. "
                         "`netgain verify` bounds networks.")
    with precision(_PRECISION):
        rows = constraint_rows(graph, BALLS)
    if not rows.activations:
        raise ModelError("it is linear, and has no slopes to ask about.")
    lower, upper = _interval(rows)
    if all(set(layer.maps) <= {0} for layer in rows.activations):
        return _one_layer(rows, lower, upper)
    return _several(rows, lower, upper)


def _interval(rows: Rows) -> tuple[float, float]:
    problems = [f"{layer.node!r} relates several neurons to each other, and gives each no slope of its own"
                for layer in rows.activations if layer.coupled != 1 or layer.kept is not None]
    ends = sorted({(low, high) for layer in rows.activations
                   for low, high in zip(layer.lower.tolist(), layer.upper.tolist(), strict=True)})
    if len(ends) > 1:
        few = ", ".join(f"[{low:g}, {high:g}]" for low, high in ends[:4])
        problems.append(f"its neurons must share one slope interval, but there are {few}{', ..' * (len(ends) > 4)}")
    if problems:
        raise ModelError("; ".join(problems) + ".")
    return ends[0]


def _one_layer(rows: Rows, lower: float, upper: float) -> SlopeField:
    """B + E D A; layers of activations side by side are stacked."""
    n, inexact = rows.input_size, list[str]()
    inputs = np.concatenate([_exact(layer.maps[0], f"the input of {layer.node!r}", inexact)
                             for layer in rows.activations])
    columns = [_exact(rows.output[j], f"the output after {layer.node!r}", inexact) if j in rows.output
               else np.zeros((n, layer.size)) for j, layer in enumerate(rows.activations, start=1)]
    linear = _exact(rows.output[0], "the linear part", inexact) if 0 in rows.output else None
    _require_exact(inexact)
    outputs = np.concatenate(columns, axis=1)
    # A field without outputs or a linear part has a certificate, and symmetries, of its own.
    plain = outputs.shape == (n, n) and np.array_equal(outputs, np.eye(n))
    return SlopeField(inputs, lower, upper, None if plain else outputs,
                      linear if linear is not None and np.any(linear) else None)


def _several(rows: Rows, lower: float, upper: float) -> MultilayerField:
    """D_k A_k .. D_1 A_1."""
    inexact, last = list[str](), len(rows.activations)
    if any(set(layer.maps) != {j} for j, layer in enumerate(rows.activations)):
        raise ModelError(_form(rows.activations, "which are not one after the other"))
    weights = tuple(_exact(layer.maps[j], f"the input of {layer.node!r}", inexact)
                    for j, layer in enumerate(rows.activations))
    end = _exact(rows.output[last], "the output", inexact) if set(rows.output) == {last} else np.zeros((0, 0))
    _require_exact(inexact)
    if not np.array_equal(end, np.eye(rows.input_size)):
        raise ModelError(_form(rows.activations, "after which there is more than the output"))
    return MultilayerField(weights, lower, upper)


def _form(layers: tuple[ActivationRows, ...], why: str) -> str:
    names = ", ".join(repr(layer.node) for layer in layers)
    return (f"it has {len(layers)} layers of activations ({names}), {why}. Supported are u' = B u + E s(A u + b) and "
            "u' = s(A_k .. s(A_1 u + b_1) .. + b_k).")


def _exact(matrix: Array, where: str, inexact: list[str]) -> np.ndarray:
    """The float64 matrix that the coefficient is; noted in `inexact` if it is none."""
    enclosure = Enclosure.of(matrix)
    if np.any(enclosure.rad):
        inexact.append(f"{where} ({int(np.count_nonzero(enclosure.rad))} of {enclosure.rad.size} entries)")
    return enclosure.mid + 0.0


def _require_exact(inexact: list[str]) -> None:
    if inexact:
        raise ModelError(f"linear layers follow each other, and float64 does not hold their product: "
                         f"{', '.join(inexact)}. Multiply the matrices beforehand, which gives another model.")
