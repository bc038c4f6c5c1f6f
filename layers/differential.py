r"""Derivatives of a graph at points: Jacobian times vector, its adjoint, and how the gain changes with the point."""

from collections.abc import Mapping

import numpy as np

from .activation import Elementwise
from .errors import ModelError
from .graph import Graph
from .implicit import FixedPoint, LinearisedFixedPoint
from .layer import LinearLayer, NonlinearLayer
from .pooling import MaxPool, SoftMaximum

_TINY = float(np.finfo(np.float64).tiny)


class Linearisation:
    """The Jacobian J(x) of a graph at a batch of points, one per member, in float64.

    **Arguments:** `x`: the points, shape (batch, *input shape); `smoothing`: 0 for the derivative (at a kink, that of
    one side). Otherwise the slope of every elementwise activation s at v is the quotient (s(v + w) - s(v - w)) / 2w,
    with w `smoothing` times the root mean square of all v of that layer: a slope that varies with x even where s is
    piecewise linear. A maximum over windows becomes a mean with shares that vary likewise, see `SoftMaximum`;
    within an implicit layer slopes are smoothed by the root mean square of its output.

    **Raises:** `ModelError` if a layer is neither linear nor known to have a derivative.
    """

    def __init__(self, graph: Graph, x: np.ndarray, smoothing: float = 0.0):
        unknown = [node for node in graph.order[1:] if not isinstance(graph.layer(node), LinearLayer | NonlinearLayer)]
        if unknown:
            names = ", ".join(f"{node!r} ({graph.layer(node).describe()})" for node in unknown)
            raise ModelError(f"No derivative is known for {names}.")
        self.graph = graph
        self.values = graph.values(x)
        self._slopes: dict[str, np.ndarray] = {}
        self._bends: dict[str, np.ndarray] = {}
        self._pools: dict[str, SoftMaximum | LinearisedFixedPoint] = {}
        for node in graph.order[1:]:
            layer = graph.layer(node)
            if not isinstance(layer, Elementwise | MaxPool | FixedPoint):
                continue
            v = self.values[graph.inputs(node)[0]]
            if isinstance(layer, FixedPoint):
                width = smoothing * float(np.sqrt(np.mean(self.values[node] ** 2)))
                self._pools[node] = layer.linearised(v, self.values[node], width if width > _TINY else 0.0)
                continue
            width = smoothing * float(np.sqrt(np.mean(v**2)))
            smooth = width > _TINY
            if isinstance(layer, MaxPool):
                if smooth:
                    self._pools[node] = layer.softened(v, width)
            elif smooth:
                above, below = v + width, v - width
                self._slopes[node] = (layer.value(above) - layer.value(below)) / (2 * width)
                self._bends[node] = (layer.derivative(above) - layer.derivative(below)) / (2 * width)
            else:
                self._slopes[node] = layer.derivative(v)

    def apply(self, dx: np.ndarray) -> np.ndarray:
        """J(x) dx, shape (batch, *output shape)."""
        return self.tangents(dx)[self.graph.output]

    def transpose(self, dy: np.ndarray) -> np.ndarray:
        """J(x)^T dy, shape (batch, *input shape)."""
        return self.adjoints(dy)[self.graph.input]

    def tangents(self, dx: np.ndarray) -> dict[str, np.ndarray]:
        """The increment of every node for the increment dx of the input."""
        graph = self.graph
        tangents = {graph.input: dx}
        for node in graph.order[1:]:
            layer, names, shapes = graph.layer(node), graph.inputs(node), graph.input_shapes(node)
            if isinstance(layer, LinearLayer):
                tangent = layer.apply(tangents[names[0]], 0, shapes)
                for position in range(1, len(names)):
                    tangent = tangent + layer.apply(tangents[names[position]], position, shapes)
            elif node in self._slopes:
                tangent = self._slopes[node] * tangents[names[0]]
            elif node in self._pools:
                tangent = self._pools[node].apply(tangents[names[0]])
            else:
                assert isinstance(layer, NonlinearLayer)
                tangent = layer.apply_derivative(self.values[names[0]], tangents[names[0]])
            tangents[node] = tangent
        return tangents

    def adjoints(self, dy: np.ndarray, bends: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The gradient of dy^T y with respect to every node; plus `bends` with respect to the input of activations."""
        graph = self.graph
        adjoints = {node: np.zeros_like(self.values[node]) for node in graph.order}
        adjoints[graph.output] = dy
        for node in reversed(graph.order[1:]):
            layer, names, shapes = graph.layer(node), graph.inputs(node), graph.input_shapes(node)
            if isinstance(layer, LinearLayer):
                for position, name in enumerate(names):
                    adjoints[name] = adjoints[name] + layer.apply_transposed(adjoints[node], position, shapes)
                continue
            if node in self._slopes:
                adjoint = self._slopes[node] * adjoints[node]
            elif node in self._pools:
                adjoint = self._pools[node].transpose(adjoints[node])
            else:
                assert isinstance(layer, NonlinearLayer)
                adjoint = layer.apply_derivative_transposed(self.values[names[0]], adjoints[node])
            if bends is not None and node in bends:
                adjoint = adjoint + bends[node]
            adjoints[names[0]] = adjoints[names[0]] + adjoint
        return adjoints

    def gain_gradient(self, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        """The gradient of p^T J(x) q with respect to x, through slopes of elementwise activations and shares of maxima.

        With left_k the adjoint of activation k for p and right_k the tangent of its input for q, the gain changes by
        sum_k left_k right_k s_k''(v_k) dv_k, and likewise at a maximum. It needs `smoothing`, whose quotients stand for
        s_k'' and for dv_k / dx.
        """
        right, left = self.tangents(q), self.adjoints(p)
        entering = {node: right[self.graph.inputs(node)[0]] for node in (*self._bends, *self._pools)}
        bends = {node: left[node] * entering[node] * bend for node, bend in self._bends.items()}
        bends |= {node: pool.gradient(left[node], entering[node]) for node, pool in self._pools.items()}
        return self._bent(bends)

    def slope_gradient(self, weights: Mapping[str, np.ndarray]) -> np.ndarray:
        """The gradient of sum_k weights_k^T slopes_k(x) with respect to x, over elementwise activations k."""
        return self._bent({node: weights[node] * bend for node, bend in self._bends.items() if node in weights})

    def _bent(self, bends: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.adjoints(np.zeros_like(self.values[self.graph.output]), bends)[self.graph.input]
