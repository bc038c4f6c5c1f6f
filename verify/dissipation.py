r"""From a chain of layers to dissipative stages: state-space systems joined by metrics on channels.

A stage maps a signal u on all integer pixels to v = a linear system's answer, and z = the activation's answer to v, or
v itself. Signals are increments, zero but for finitely many pixels. With symmetric matrices Q_0 = rho I, Q_1, .., P_a
and multipliers lam >= 0, stage k is dissipative if for all x, u, z, with x^+ = A x + B u and v = C x + D u,

    sum_a x_a^T P_a x_a - x_a^+^T P_a x_a^+ + u^T (Q_{k-1} kron I_phases) u
        - gain z^T Q_k z + 2 sum_i lam_i (z_i - alpha_i v_i)(z_i - beta_i v_i) >= 0.                              (*)

Summed over all pixels the first two terms cancel or, where A never forgets and P >= 0, leave nothing positive. Hence
|u|^2 in the metric Q_{k-1} is at least |z|^2 in the metric Q_k: a chain of stages from rho I to I, or to the *head*
(see `netgain.verify.channelwise`) bounds the network by sqrt(rho).

Zero padding reads zeros outside the image, and so do these signals once they are masked: after an activation mask and
slope together are a slope in an interval enlarged to contain 0, and otherwise masking can only make |z|^2 in a metric
Q >= 0 smaller. What a layer computes outside its image is thereby taken back, whatever the image's size. A stride cuts
the input into phases. Max pooling is a stage with gain `reuse` and diagonal Q: |max a - max b|^2 is at most the sum of
squares over the window, and no pixel counts in more windows.

**Source:** Pauli, Gramlich, Allgoewer, arXiv 2405.01125; there pooling enters by one number for all channels.
"""

import dataclasses
import itertools
import math

import numpy as np
from netgain.layers import FLOAT, Activation, Arithmetic, Graph, LinearLayer, MaxPool
from netgain.layers.arithmetic import Array
from netgain.layers.layer import Shape
from netgain.layers.linear import Output
from netgain.layers.roesser import Realisation, realise_stencil
from netgain.layers.shift_invariant import Stencil, channel_stencil
from netgain.layers.state_space import StateSpace

from .channelwise import Head, ModeError, _head, _interface, _shift_invariant

Filter = Stencil | Realisation


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """(*) of this module's head.

    **Attributes:** `filter`: the linear system; `phases`: components of u for each channel of the input, ordered by
    channel, then phase; `lower`, `upper`: slopes of each channel, 0 among them, None for z = v; `gain`: of the pooling
    that follows v; `diagonal`: whether Q_k has to be.
    """

    node: str
    filter: Filter
    phases: int
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None
    gain: int = 1
    diagonal: bool = False

    @property
    def channels(self) -> int:
        """Channels of z."""
        matrix = self.filter.coefficients if isinstance(self.filter, Stencil) else self.filter.D
        return int(matrix.shape[-2])


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """The stages in order, the channels of the input, and the head, if one follows."""

    channels: int
    stages: tuple[Stage, ...]
    head: Head | None


def dissipative_chain(graph: Graph, arithmetic: Arithmetic = FLOAT, in_double: bool = False) -> Chain:
    """The stages of a graph that starts with a chain of layers which treat every pixel alike; `in_double` is that of
    `constraint_rows`, for the head.

    **Raises:** `ModeError` if it does not, or has branches there.
    """
    alike = _shift_invariant(graph)
    last = _interface(graph, alike)
    order = [node for node in graph.order if node in alike]
    for before, node in itertools.pairwise(order):
        if graph.inputs(node) != (before,):
            raise ModeError(f"{graph.name} is no chain: {node!r} reads {', '.join(map(repr, graph.inputs(node)))}. "
                            "Dissipation inequalities layer by layer need a chain; use the mode `spectral`.")
    shape = graph.shape(graph.input)
    if len(shape) > 3:
        raise ModeError(f"Dissipation inequalities are for one or two spatial axes, {graph.name} has {len(shape) - 1}; "
                        "use the mode `spectral`.")
    walk = _Walk(arithmetic, len(shape) - 1)
    for node in order[1:]:
        walk.visit(node, alike[node], graph.input_shapes(node)[0], graph.shape(node))
    head = None if last == graph.output else _head(graph, last, alike, arithmetic, in_double)
    if walk.pending is not None or not walk.stages:
        walk.close(last, shape[0])
    return Chain(shape[0], tuple(walk.stages), head)


class _Walk:
    """Gathers linear layers until one cannot be joined to them: only matrices on the channels can."""

    def __init__(self, arithmetic: Arithmetic, axes: int):
        self.arithmetic, self.axes = arithmetic, axes
        self.stages: list[Stage] = []
        self.pending: Filter | None = None

    def visit(self, node: str, layer: object, shape: Shape, after: Shape) -> None:
        if isinstance(layer, MaxPool):
            self.close(node, shape[0], gain=layer.reuse(shape), diagonal=True)
        elif isinstance(layer, Activation):
            slopes = layer.slopes(after)
            ends = (np.broadcast_to(end, after).reshape((after[0], -1)) for end in (slopes.lower, slopes.upper))
            lower, upper = next(ends).min(axis=1), next(ends).max(axis=1)
            lower, upper = np.minimum(lower, 0.0), np.maximum(upper, 0.0)
            # Slopes of 0 alone: any wider interval is true of them.
            self.close(node, shape[0], lower=lower, upper=np.where(lower == upper, 1.0, upper))
        elif not isinstance(layer, Output):
            assert isinstance(layer, LinearLayer)
            self.join(node, self.filter(layer, shape))

    def filter(self, layer: LinearLayer, shape: Shape) -> Filter:
        if isinstance(layer, StateSpace):
            D = np.zeros((len(layer.C), layer.B.shape[1])) if layer.D is None else layer.D
            return Realisation(_full(layer.A), layer.B, layer.C, D, (len(layer.B),), False)
        stencil = layer.stencil(0, (shape,), self.arithmetic)
        assert stencil is not None
        return stencil

    def join(self, node: str, following: Filter) -> None:
        matrix, product = _on_channels(following), self.arithmetic.matmul
        if self.pending is None:
            self.pending = following
        elif matrix is not None and isinstance(self.pending, Stencil):
            columns = np.moveaxis(self.pending.coefficients, 1, 0)
            answer = product(matrix, columns.reshape((len(columns), -1))).reshape((len(matrix), *columns.shape[1:]))
            self.pending = dataclasses.replace(self.pending, coefficients=np.moveaxis(answer, 1, 0))
        elif matrix is not None and isinstance(self.pending, Realisation):
            C, D = product(matrix, self.pending.C), product(matrix, self.pending.D)
            self.pending = dataclasses.replace(self.pending, C=C, D=D)
        elif (before := _on_channels(self.pending)) is not None:
            if isinstance(following, Stencil):
                coefficients = product(following.coefficients, before)
                self.pending = dataclasses.replace(following, coefficients=coefficients)
            else:
                B, D = product(following.B, before), product(following.D, before)
                self.pending = dataclasses.replace(following, B=B, D=D)
        else:
            self.close(node, 0)
            self.pending = following

    def close(self, node: str, channels: int, lower: np.ndarray | None = None, upper: np.ndarray | None = None,
              gain: int = 1, diagonal: bool = False) -> None:
        """Ends a stage with the layers gathered, or with the identity on the channels."""
        filter_ = channel_stencil(np.eye(channels), self.axes) if self.pending is None else self.pending
        phases = math.prod(filter_.strides) if isinstance(filter_, Stencil) else 1
        self.stages.append(Stage(node, filter_, phases, lower, upper, gain, diagonal))
        self.pending = None


def _on_channels(filter_: Filter) -> Array | None:
    """The matrix of a layer that is one at every pixel, up to a shift of the whole image; None for any other."""
    if isinstance(filter_, Stencil) and len(filter_.offsets) == 1 and set(filter_.strides) <= {1}:
        return filter_.coefficients[0]
    return None


def _full(A: np.ndarray) -> np.ndarray:
    """The matrix of a diagonal, or of blocks along it."""
    if A.ndim == 1:
        return np.diag(A)
    if A.ndim == 2:
        return A
    count, side = A.shape[:2]
    matrix = np.zeros((count, side, count, side))
    matrix[np.arange(count), :, np.arange(count), :] = A
    return matrix.reshape((count * side, -1))


def realised(stage: Stage, exponent: int, arithmetic: Arithmetic) -> Realisation:
    """The stage's system, its answer multiplied by 2^exponent: exactly, or enclosed."""
    if isinstance(stage.filter, Stencil):
        coefficients = _scaled(stage.filter.coefficients, exponent, arithmetic)
        return realise_stencil(dataclasses.replace(stage.filter, coefficients=coefficients), arithmetic)
    system = stage.filter
    C, D = (_scaled(matrix, exponent, arithmetic) for matrix in (system.C, system.D))
    return dataclasses.replace(system, C=C, D=D)


def _scaled(values: Array, exponent: int, arithmetic: Arithmetic) -> Array:
    if values.dtype != object:
        with np.errstate(over="ignore"):
            result = np.ldexp(values, exponent)
        if arithmetic is FLOAT or np.array_equal(np.ldexp(result, -exponent), values):
            return result
        values = arithmetic.constant(values)
    power = arithmetic.constant(np.array([2.0]))[0] ** exponent
    return values * power
