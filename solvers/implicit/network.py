r"""y = C x + c with x = Phi(A x + B u + b) as arrays and functions: outputs, and gradients by implicit differentiation.

With D = Phi'(A x + B u + b), increments satisfy dx = D (A dx + B du). So the gradient of g^T y in u is B^T w where

    w = D (A^T w + C^T g),

the same kind of equation with A^T for A and D for Phi, whose slopes lie in the same intervals: the iteration that finds
x finds w. Weights eta that prove the contraction of the first are right Perron vectors of the Metzler majorant of A,
those of the second left ones; a metric L of the first gives L^-1 of the second.
"""

import dataclasses

import numpy as np

from .diagonal_metric import diagonal_stability
from .fixed_point import (
    Activation,
    FixedPoint,
    FixedPointStatus,
    Method,
    Step,
    average_step,
    fixed_point,
    splitting_step,
)
from .weighted_log_norm import Array, SlopeBox, least_log_norm, square


class NotConverged(ArithmeticError):
    """An iteration ended before it came to a fixed point."""


@dataclasses.dataclass(frozen=True, eq=False)
class ImplicitNetwork:
    """y = C x + c with x = Phi(A x + B u + b).

    **Arguments:** `A`: shape (n, n); `B`: (n, m); `b`: (n,); `C`: (q, n); `c`: (q,); `activation` and `derivative`: Phi
    and Phi' on arrays of shape (batch, n); `slopes`: of Phi.

    **Raises:** `ValueError` for shapes that do not fit or numbers that are not finite.
    """

    A: Array
    B: Array
    b: Array
    C: Array
    c: Array
    activation: Activation
    derivative: Activation
    slopes: SlopeBox

    def __post_init__(self) -> None:
        A = square(self.A)
        B, b, C, c = (np.asarray(array, dtype=np.float64) for array in (self.B, self.b, self.C, self.c))
        n = len(A)
        if (B.ndim != 2 or len(B) != n or b.shape != (n,) or C.ndim != 2 or C.shape[1] != n or c.shape != (len(C),)
                or self.slopes.neurons != n):
            raise ValueError(f"A, B, b, C, c and the slopes need the shapes ({n}, {n}), ({n}, m), ({n},), (q, {n}), "
                             f"(q,) and ({n},); got {A.shape}, {B.shape}, {b.shape}, {C.shape}, {c.shape} and "
                             f"({self.slopes.neurons},).")
        if not all(np.all(np.isfinite(array)) for array in (B, b, C, c)):
            raise ValueError("B, b, C and c must be finite.")
        for name, array in (("A", A), ("B", B), ("b", b), ("C", C), ("c", c)):
            object.__setattr__(self, name, array)


def relu_network(A: Array, B: Array, b: Array, C: Array, c: Array) -> ImplicitNetwork:
    """The network with Phi = ReLU."""
    return ImplicitNetwork(A, B, b, C, c, lambda v: np.maximum(v, 0.0), lambda v: (v > 0).astype(np.float64),
                           SlopeBox.uniform(len(np.asarray(A))))


@dataclasses.dataclass(frozen=True, eq=False)
class Equilibria:
    """Finds x and the gradients of y in u for batches of u; made by :func:`equilibria`.

    **Attributes:** `method`, `step`, `weights` or `metric`: of the iteration for x; `adjoint_*`: of the one for w.
    """

    network: ImplicitNetwork
    method: Method
    step: Step
    adjoint_step: Step
    weights: Array | None
    adjoint_weights: Array | None
    metric: Array | None

    def states(self, u: Array, tolerance: float = 1e-10) -> Array:
        """x, shape (batch, n), for u of shape (batch, m).

        **Raises:** `NotConverged` if the residual, relative to B u + b, stays above the tolerance.
        """
        net, c = self.network, self._inputs(u)
        tolerance = relative_to(c, self.weights, tolerance)
        found = fixed_point(net.A, c, net.activation, self.method, net.slopes, eta=self.weights, metric=self.metric,
                            size=self.step.size, tolerance=tolerance)
        return converged(found, tolerance)

    def outputs(self, u: Array, tolerance: float = 1e-10) -> Array:
        """y, shape (batch, q)."""
        return self.states(u, tolerance) @ self.network.C.T + self.network.c

    def gradients(self, u: Array, x: Array, g: Array, tolerance: float = 1e-10) -> Array:
        """The gradients of g^T y in u, shape (batch, m), for the x of u and g of shape (batch, q).

        **Raises:** `NotConverged` as :meth:`states`.
        """
        net = self.network
        slopes = net.derivative(x @ net.A.T + self._inputs(u))
        metric = None if self.metric is None else 1 / self.metric
        inner = g @ net.C
        tolerance = relative_to(inner, self.adjoint_weights, tolerance)
        found = fixed_point(net.A.T, inner, lambda v: slopes * v, self.method, net.slopes, eta=self.adjoint_weights,
                            metric=metric, size=self.adjoint_step.size, tolerance=tolerance)
        return converged(found, tolerance) @ net.B

    def _inputs(self, u: Array) -> Array:
        return np.asarray(u, dtype=np.float64) @ self.network.B.T + self.network.b


def equilibria(network: ImplicitNetwork) -> Equilibria:
    """The iterations guaranteed to converge for this network: the average one where the least mu_eta(D A) over the
    slopes is below 1, else Peaceman-Rachford splitting in a diagonal metric.

    **Raises:** `ValueError` if neither weights nor a metric were found.
    """
    A, slopes = network.A, network.slopes
    right, left = least_log_norm(A, slopes), least_log_norm(A.T, slopes)
    if max(right.value, left.value) < 1:
        return Equilibria(network, Method.AVERAGE, average_step(A, right.weights, slopes),
                          average_step(A.T, left.weights, slopes), right.weights, left.weights, None)
    found = diagonal_stability(A)
    if not found.margin > 0 or np.min(slopes.lower) < 0 or np.max(slopes.upper) > 1:
        raise ValueError(f"No iteration is guaranteed to converge: the least mu_eta(D A) found is {right.value!r}, the "
                         f"largest margin of a diagonal metric for slopes in [0, 1] {found.margin!r}.")
    method = Method.PEACEMAN_RACHFORD
    return Equilibria(network, method, splitting_step(A, method, found.metric),
                      splitting_step(A.T, method, 1 / found.metric), None, None, found.metric)


def relative_to(c: Array, weights: Array | None, tolerance: float) -> float:
    """The tolerance for x = Phi(A x + c) whose c is not of the size of 1."""
    return tolerance * max(float(np.max(np.abs(c) / (1.0 if weights is None else weights), initial=0.0)), 1e-300)


def converged(found: FixedPoint, tolerance: float) -> Array:
    """x.

    **Raises:** `NotConverged` unless the iteration did.
    """
    if found.status is not FixedPointStatus.CONVERGED:
        raise NotConverged(f"{found.status.value} The residual is {found.residual!r} after {found.iterations} "
                           f"iterations; {tolerance!r} was asked for.")
    return found.x
