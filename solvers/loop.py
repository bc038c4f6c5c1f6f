r"""Layers that feed themselves, z = s(A z + v) with slopes in [alpha, beta]: when they are well-posed, and their gains.

Let H(L) = (I - alpha A)^T L (I - beta A) + its transpose, alpha, beta and L >= 0 diagonal. For any v and any two points
x, x' let e = x - x' and r = e - (s(A x + v) - s(A x' + v)). The answer e - r to w = A e obeys
(e - r - alpha w)_i (e - r - beta w)_i <= 0 for every neuron i; weighed with L and added up,

    e^T H e / 2 <= c |r| |e|,    c the norm of (I - alpha A)^T L + (I - beta A)^T L,

since what is left, r^T L r, is not negative. So if H(L) > 0, the map F(x) = x - s(A x + v) satisfies
|F(x) - F(x')| >= m |x - x'| with some m > 0. It is continuous and injective, hence open (invariance of domain), and its
image is closed; so it is all of R^n, and x = s(A x + v) has exactly one solution for every v. Nothing but the slopes
enters. For slopes in [0, 1] this is arXiv 2010.01732.

With d = beta - alpha and A~ = d A (I - alpha A)^{-1}, H(L) is congruent to L (I - A~) + (I - A~)^T L: the loop is one
with slopes in [0, 1] after s(w) = alpha w + d phi(w).
"""

import dataclasses

import numpy as np

from .implicit.diagonal_metric import diagonal_stability, perron_metric
from .implicit.loop_transformation import unit_slopes
from .implicit.weighted_log_norm import SlopeBox
from .inequality import SlopeConstraint


class NoMetricError(ValueError):
    """No diagonal L with H(L) > 0 was found, and how large the least eigenvalue can be at most.

    **Attributes:** `layer`: which one of the inequality, from 1 on; `name`: of the layer; `margin`: the largest least
    eigenvalue of H(L) found over L of trace n, in floating point, for slopes in [0, 1] after the shift; `most`: none is
    larger than this.
    """

    def __init__(self, layer: int, margin: float, most: float, name: str = ""):
        self.layer, self.margin, self.most, self.name = layer, margin, most, name or f"Layer {layer}"
        known = ("no diagonal metric exists" if most <= 0 else
                 f"and none has one above {most:.3g}, so that whether a metric exists is open")
        super().__init__(f"{self.name} feeds itself and is not proved well-posed: over diagonal L >= 0 of trace n the "
                         f"largest least eigenvalue of L (I - A) + (I - A)^T L is {margin:.4g}, which is not positive; "
                         f"{known}. This does not say that it is ill-posed.")

    def named(self, name: str) -> "NoMetricError":
        """The same of a layer with this name."""
        return NoMetricError(self.layer, self.margin, self.most, name)


@dataclasses.dataclass(frozen=True, eq=False)
class Loop:
    """The part of a layer that feeds itself. `matrix`: A, shape (n, n); `lower`, `upper`: alpha and beta."""

    matrix: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @classmethod
    def of(cls, constraint: SlopeConstraint, block: int) -> "Loop | None":
        """That of layer `block`, if it has one."""
        matrix = constraint.maps.get(block)
        return None if matrix is None else cls(matrix, constraint.lower, constraint.upper)

    def shifted(self) -> np.ndarray:
        """A~, for slopes in [0, 1].

        **Raises:** `ValueError` if I - alpha A is singular: then some slopes have no unique solution.
        """
        n = len(self.matrix)
        return unit_slopes(self.matrix, np.zeros((n, 1)), np.zeros((1, n)), SlopeBox(self.lower, self.upper)).A

    def metric(self, layer: int = 1) -> np.ndarray:
        """The diagonal of an L > 0 with H(L) > 0 and largest entry 1.

        **Raises:** `NoMetricError`.
        """
        try:
            shifted = self.shifted()
        except ValueError:
            raise NoMetricError(layer, -np.inf, -np.inf) from None
        try:
            metric = perron_metric(shifted)
            if np.linalg.eigvalsh(self.form(metric))[0] > 1e-9 * np.max(metric):
                return metric / np.max(metric)
        except ValueError:
            pass
        found = diagonal_stability(shifted)
        if not (found.margin > 0 and np.linalg.eigvalsh(self.form(found.metric))[0] > 0):
            raise NoMetricError(layer, found.margin, found.most)
        return found.metric / np.max(found.metric)

    def form(self, metric: np.ndarray) -> np.ndarray:
        """H(L)."""
        identity = np.eye(len(self.matrix))
        left = (identity - self.lower[:, None] * self.matrix).T @ (
            metric[:, None] * (identity - self.upper[:, None] * self.matrix))
        return np.asarray(left + left.T)

    def across(self, metric: np.ndarray) -> np.ndarray:
        """K in 2 (z - alpha w)^T L (z - beta w) = z^T H z + 2 z^T K v + 2 v^T alpha L beta v, w = A z + v."""
        total = metric * (self.lower + self.upper)
        return np.asarray(2 * self.matrix.T * (metric * self.lower * self.upper) - np.diag(total))

    def gain(self, metric: np.ndarray) -> float:
        """A bound on |dz| / |dv| in floating point, by L and the least eigenvalue of H(L); inf if that is not positive.

        With h that eigenvalue and k the norm of `across`, h |dz|^2 <= 2 k |dz| |dv| + 2 max(-alpha L beta) |dv|^2.
        """
        least = float(np.linalg.eigvalsh(self.form(metric))[0])
        if not least > 0:
            return np.inf
        across = float(np.linalg.norm(self.across(metric), 2))
        rest = 2 * max(float(np.max(-metric * self.lower * self.upper)), 0.0)
        return (across + float(np.sqrt(across**2 + least * rest))) / least


