r"""From a layer graph to the rows of the matrix inequality.

Walking the graph once, every node's increment is written as sum_j T_j x_j over the input (block 0) and the outputs of
the nonlinear layers before it (blocks 1, 2, ..). At a nonlinear layer the T_j of its input are the A_kj of the
inequality, and the walk goes on with a block of its own. Shared weights, branches, skips and an activation after a
sum need no rule of their own. An implicit layer x = s(A x + v) has A in addition, from its own block.

The same walk serves the solver, in float64, and the checker, in ball arithmetic. Under balls a coefficient that is a
float64 array stands for exactly these numbers: a weight that no arithmetic has touched. Where the checker is content
with double precision, matrices that have been multiplied are enclosures, since as balls they would take gigabytes.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from netgain.layers import (
    FLOAT,
    Activation,
    Arithmetic,
    BatchNormalization,
    FixedPoint,
    Graph,
    Layer,
    LinearLayer,
    MaxPool,
    ModelError,
    Scale,
)
from netgain.layers.arithmetic import Array
from netgain.layers.layer import Shape
from netgain.layers.state_space import StateSpace
from netgain.solvers.inequality import Inequality, SlopeConstraint

from .enclosure import QUOTIENTS, Enclosure


class _Identity:
    """The coefficient of a node that is its own block, entry by entry."""


_IDENTITY = _Identity()
_Coefficients = dict[int, Array | _Identity]

# A neuron whose slope interval is one point is linear; a wider interval is still true of it.
_WIDENING = 2.0**-20


@dataclasses.dataclass(frozen=True, eq=False)
class ActivationRows:
    """One nonlinear layer: its node, A_kj by source block as (rows, n_j) matrices, and its slopes as vectors.

    `coupled` and `kept` are those of `SlopeConstraint`; `loop` is A of an implicit layer, which `maps` has too.
    """

    node: str
    maps: Mapping[int, Array]
    lower: np.ndarray
    upper: np.ndarray
    coupled: int
    kept: np.ndarray | None = None
    loop: np.ndarray | None = None

    @property
    def size(self) -> int:
        """n_k."""
        return len(self.lower) if self.kept is None else len(self.kept)

    @property
    def answering(self) -> slice | np.ndarray:
        """The rows that have an answer, as an index."""
        return slice(None) if self.kept is None else self.kept

    @property
    def has_products(self) -> bool:
        """Whether lower * upper != 0 for some neuron; their floating-point product might underflow."""
        return bool(np.any((self.lower != 0) & (self.upper != 0)))


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """All rows of a graph; `output` holds C_j by block as (n_y, n_j) matrices."""

    input_size: int
    activations: tuple[ActivationRows, ...]
    output: Mapping[int, Array]

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.input_size, *(rows.size for rows in self.activations))

    @property
    def loops(self) -> tuple[ActivationRows, ...]:
        """The implicit layers."""
        return tuple(rows for rows in self.activations if rows.loop is not None)


def constraint_rows(graph: Graph, arithmetic: Arithmetic = FLOAT, in_double: bool = False) -> Rows:
    """The rows of a graph in the given arithmetic; with balls and `in_double`, products and sums are enclosures.

    **Raises:** `ModelError` if a layer is neither linear nor an activation with a slope interval nor a maximum.
    """
    unknown = [
        f"{node!r} ({graph.layer(node).describe()})"
        for node in graph.order[1:]
        if not isinstance(graph.layer(node), LinearLayer | Activation | MaxPool | FixedPoint)
    ]
    if unknown:
        raise ModelError("No incremental constraint is known for " + ", ".join(unknown) + ".")
    sizes = [math.prod(graph.shape(graph.input))]
    coefficients: dict[str, _Coefficients] = {graph.input: {0: _IDENTITY}}
    activations: list[ActivationRows] = []
    for node in graph.order[1:]:
        layer, shapes = graph.layer(node), graph.input_shapes(node)
        sources = [coefficients[name] for name in graph.inputs(node)]
        if isinstance(layer, LinearLayer):
            coefficients[node] = _combine(layer, sources, shapes, sizes, arithmetic, in_double)
            continue
        slope = _only_slope(layer, shapes[0])
        if slope is not None:
            coefficients[node] = _combine(Scale(multiplier=slope), sources, shapes, sizes, arithmetic, in_double)
            continue
        if isinstance(layer, FixedPoint):
            # Even where nothing reaches it, it has rows: whether it has a solution is to be proved.
            fed = sources[0] or {0: np.zeros((sizes[0], *shapes[0]))}
            maps = _matrices(fed, math.prod(shapes[0]), sizes)
            loop = layer.matrix(shapes[0])
            rows = _activation_rows(node, layer.activation, shapes[0], {**maps, len(sizes): loop})
            activations.append(dataclasses.replace(rows, loop=loop))
            sizes.append(activations[-1].size)
            coefficients[node] = {len(activations): _IDENTITY}
            continue
        if all(_is_zero(coefficient) for coefficient in sources[0].values()):
            # Nothing reaches this layer, so that its output never changes.
            coefficients[node] = {}
            continue
        maps = _matrices(sources[0], math.prod(shapes[0]), sizes)
        if isinstance(layer, MaxPool):
            activations.append(_max_pool_rows(node, layer, shapes[0], maps, arithmetic))
        else:
            assert isinstance(layer, Activation)
            activations.append(_activation_rows(node, layer, shapes[0], maps))
        sizes.append(activations[-1].size)
        coefficients[node] = {len(activations): _IDENTITY}
    output = _matrices(coefficients[graph.output], math.prod(graph.shape(graph.output)), sizes)
    return Rows(sizes[0], tuple(activations), output or {0: np.zeros((math.prod(graph.shape(graph.output)), sizes[0]))})


def to_inequality(rows: Rows) -> Inequality:
    """The inequality of float64 rows."""
    constraints = tuple(SlopeConstraint(r.maps, r.lower, r.upper, r.coupled, r.kept) for r in rows.activations)
    return Inequality(rows.input_size, constraints, rows.output)


def _only_slope(layer: Layer, shape: Shape) -> np.ndarray | float | None:
    """The slope of an activation that is linear; None for any other layer."""
    slopes = layer.slopes(shape) if isinstance(layer, Activation) else None
    linear = slopes is not None and slopes.coupled == 1 and np.array_equal(slopes.lower, slopes.upper)
    return slopes.lower if slopes is not None and linear else None


def _activation_rows(node: str, layer: Activation, shape: Shape, maps: Mapping[int, Array]) -> ActivationRows:
    slopes = layer.slopes(shape)
    lower, upper = (np.broadcast_to(end, shape).ravel().astype(np.float64) for end in (slopes.lower, slopes.upper))
    upper = np.where(lower == upper, upper + _WIDENING * np.maximum(np.abs(upper), 1.0), upper)
    return ActivationRows(node, maps, lower, upper, slopes.coupled)


def _max_pool_rows(
    node: str, layer: MaxPool, shape: Shape, maps: Mapping[int, Array], arithmetic: Arithmetic
) -> ActivationRows:
    """One group of rows for each window, one row for each tap, zero where it lies in the padding.

    A maximum moves by no more than the entry that moves most, so dz^2 is at most the sum of all dv^2 in the window:
    slopes in [-1, 1], coupled, and the answer is put into the first row.
    """
    windows, size = layer.windows(shape), math.prod(shape[1:])
    window, tap, entry = windows.taps()
    count, taps = math.prod(windows.counts), math.prod(windows.kernel)
    group = np.concatenate([channel * count + window for channel in range(shape[0])])
    rows = group * taps + np.tile(tap, shape[0])
    read = np.concatenate([channel * size + entry for channel in range(shape[0])])
    unrolled = {}
    for block, a in maps.items():
        # One row more than there are, for the taps that read none of them.
        taken = np.full(shape[0] * count * taps, len(a.mid if isinstance(a, Enclosure) else a))
        taken[rows] = read
        unrolled[block] = _with_a_row_of_zeros(a, arithmetic)[taken]
    ones = np.ones(shape[0] * count * taps)
    return ActivationRows(node, unrolled, -ones, ones, taps, np.arange(shape[0] * count) * taps)


def _with_a_row_of_zeros(a: Array, arithmetic: Arithmetic) -> Array:
    if isinstance(a, Enclosure):
        return Enclosure(_with_a_row_of_zeros(a.mid, arithmetic), _with_a_row_of_zeros(a.rad, arithmetic))
    blank = np.zeros((1, a.shape[1]))
    return np.concatenate([a, arithmetic.constant(blank) if a.dtype == object else blank])


def _combine(
    layer: LinearLayer,
    sources: list[_Coefficients],
    shapes: tuple[Shape, ...],
    sizes: list[int],
    arithmetic: Arithmetic,
    in_double: bool,
) -> _Coefficients:
    """The coefficients after a linear layer; columns of T_j travel through it as a batch."""
    result: _Coefficients = {}
    for position, (source, shape) in enumerate(zip(sources, shapes, strict=True)):
        for block, coefficient in source.items():
            image = _image(layer, coefficient, position, shapes, sizes[block], shape, arithmetic, in_double)
            if block not in result:
                result[block] = image
            else:
                whole = (_materialise(result[block], sizes[block], layer.output_shape(*shapes)),
                         _materialise(image, sizes[block], layer.output_shape(*shapes)))
                # Summing exact float64 numbers would round: under balls both are taken as balls first.
                if in_double:
                    whole = (Enclosure.of(whole[0]), whole[1])
                elif arithmetic is not FLOAT:
                    whole = (_as_balls(whole[0], arithmetic), _as_balls(whole[1], arithmetic))
                result[block] = whole[0] + whole[1]
    return result


def _image(
    layer: LinearLayer,
    coefficient: Array | _Identity,
    position: int,
    shapes: tuple[Shape, ...],
    size: int,
    shape: Shape,
    arithmetic: Arithmetic,
    in_double: bool,
) -> Array | _Identity:
    if isinstance(coefficient, _Identity) and layer.keeps_order():
        return coefficient
    if isinstance(coefficient, _Identity) or in_double:
        # An impulse response takes products of products, which enclosures do not offer: it stays in balls.
        quotients = in_double and not isinstance(layer, StateSpace)
        unrolled = layer.unrolled(position, shapes, QUOTIENTS if quotients else arithmetic)
        if unrolled is not None and isinstance(coefficient, _Identity):
            return unrolled
        if unrolled is not None:
            rows, columns = Enclosure.of(coefficient).reshape((size, -1)), unrolled.reshape((math.prod(shape), -1))
            return (rows @ columns).reshape((size, *layer.output_shape(*shapes)))
    whole = _materialise(coefficient, size, shape)
    if in_double and isinstance(layer, Scale | BatchNormalization):
        return Enclosure.of(whole) * np.broadcast_to(layer.scale(arithmetic), shape)
    if isinstance(whole, Enclosure):
        if layer.keeps_order():
            return whole.reshape((size, *layer.output_shape(*shapes)))
        whole = whole.balls()
    return layer.apply(whole, position, shapes, arithmetic)


def _materialise(coefficient: Array | _Identity, size: int, shape: Shape) -> Array:
    return np.eye(size).reshape((size, *shape)) if isinstance(coefficient, _Identity) else coefficient


def _is_zero(coefficient: Array | _Identity) -> bool:
    return not isinstance(coefficient, _Identity) and is_zero(coefficient)


def is_zero(coefficient: Array) -> bool:
    """Whether a coefficient is zero, exactly."""
    return coefficient.is_zero if isinstance(coefficient, Enclosure) else bool(np.all(coefficient == 0))


def _as_balls(array: Array, arithmetic: Arithmetic) -> Array:
    return array if array.dtype == object else arithmetic.constant(array)


def _matrices(coefficients: _Coefficients, size: int, sizes: list[int]) -> dict[int, Array]:
    return {
        block: np.eye(size) if isinstance(coefficient, _Identity) else coefficient.reshape((sizes[block], size)).T
        for block, coefficient in coefficients.items()
    }
