r"""Interval reachability of x = Phi(A x + B u + b) by mixed monotonicity: boxes that hold x for all u of a box.

For nondecreasing Phi let N be the negative entries of A beside the diagonal, P = A - N, and B = B+ + B-. The embedded
network

    lower = Phi(P lower + N upper + B+ u_lower + B- u_upper + b)
    upper = Phi(P upper + N lower + B+ u_upper + B- u_lower + b)

has the matrix [[P, N], [N, P]], whose largest logarithmic norm over slopes is that of A with the weights repeated: it
has one solution wherever mu_eta(D A) < 1 proves that of the network, found at the same rate (Jafarpour, Abate, Davydov,
Bullo, Coogan, arXiv 2112.05310). Every x lies between lower and upper. That a negative diagonal stays in P is what
plain interval arithmetic lacks, which need not converge. The box is never wider than (I - A^M)^-1 |B| (u_upper -
u_lower).

Numbers here are in floating point.
"""

import dataclasses

import numpy as np

from .fixed_point import Method, Step, average_step, fixed_point
from .network import ImplicitNetwork, converged, relative_to
from .weighted_log_norm import Array, SlopeBox, least_log_norm


def mixed_monotone_parts(A: Array) -> tuple[Array, Array]:
    """P and N with A = P + N: the negative entries beside the diagonal are N's."""
    N = np.minimum(A, 0.0)
    np.fill_diagonal(N, 0.0)
    return np.where(N < 0, 0.0, A), N


def linear_bounds(matrix: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
    """The least and the largest matrix @ v over lower <= v <= upper, row by row of shape (batch, columns)."""
    positive, negative = np.maximum(matrix, 0.0), np.minimum(matrix, 0.0)
    return lower @ positive.T + upper @ negative.T, upper @ positive.T + lower @ negative.T


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
    """The embedded network of an implicit one; made by :func:`embedding`.

    **Attributes:** `matrix`: [[P, N], [N, P]]; `weights`: eta of the network, which proves it well-posed; `step`: of
    the average iteration.
    """

    network: ImplicitNetwork
    matrix: Array
    weights: Array
    step: Step

    def state_boxes(self, lower: Array, upper: Array, tolerance: float = 1e-9, start: tuple[Array, Array] | None = None
                    ) -> tuple[Array, Array]:
        """The boxes of x, two arrays of shape (batch, n), for boxes of u, two of shape (batch, m).

        **Arguments:** `start`: boxes to iterate from.

        **Raises:** `ValueError` for shapes that do not fit or empty boxes; `NotConverged` if the residual, relative
        to B u + b, stays above `tolerance`.
        """
        lower, upper = input_boxes(lower, upper, self.network.B.shape[1])
        n, slopes = len(self.weights), self.network.slopes
        below, above = linear_bounds(self.network.B, lower, upper)
        c, weights = np.hstack([below, above]) + np.tile(self.network.b, 2), np.tile(self.weights, 2)
        tolerance = relative_to(c, weights, tolerance)
        found = fixed_point(
            self.matrix, c,
            lambda v: np.asarray(self.network.activation(v.reshape(-1, n))).reshape(v.shape), Method.AVERAGE,
            SlopeBox(np.tile(slopes.lower, 2), np.tile(slopes.upper, 2)), eta=weights,
            size=self.step.size, tolerance=tolerance, start=None if start is None else np.hstack(start))
        x = converged(found, tolerance)
        return x[:, :n], x[:, n:]

    def output_boxes(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        """The boxes of y = C x + c, two arrays of shape (batch, q)."""
        below, above = linear_bounds(self.network.C, *self.state_boxes(lower, upper))
        return below + self.network.c, above + self.network.c


def input_boxes(lower: Array, upper: Array, inputs: int) -> tuple[Array, Array]:
    """Boxes of u as float64.

    **Raises:** `ValueError` unless both have shape (batch, inputs) and lower <= upper are finite.
    """
    lower, upper = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    if lower.ndim != 2 or lower.shape[1] != inputs or lower.shape != upper.shape:
        raise ValueError(f"Boxes of inputs are two arrays of shape (batch, {inputs}), got {lower.shape} and "
                         f"{upper.shape}.")
    if not (np.all(np.isfinite(lower)) and np.all(np.isfinite(upper)) and np.all(lower <= upper)):
        raise ValueError("Boxes of inputs need finite lower <= upper everywhere.")
    return lower, upper


def embedding(network: ImplicitNetwork) -> Embedding:
    """The embedded network, with the weights that make the iteration fastest.

    **Raises:** `ValueError` if slopes can be negative, or if no weights with mu_eta(D A) < 1 were found.
    """
    if np.min(network.slopes.lower) < 0:
        raise ValueError("Mixed monotonicity needs nondecreasing activations; neuron "
                         f"{int(np.argmin(network.slopes.lower))} has slopes from "
                         f"{float(np.min(network.slopes.lower))!r}.")
    found = least_log_norm(network.A, network.slopes)
    P, N = mixed_monotone_parts(network.A)
    return Embedding(network, np.block([[P, N], [N, P]]), found.weights,
                     average_step(network.A, found.weights, network.slopes))
