r"""The logarithmic norm of several layers, J = D_k A_k ... D_1 A_1, as a function of all slopes.

This is the Jacobian of u' = sigma(A_k ... sigma(A_1 u + b_1) ... + b_k) (Guglielmi et al., arXiv 2402.13092). For the
top eigenvector x of sym J let B_1 = A_1 x, B_{j+1} = A_{j+1} D_j B_j forward and y_k = x, y_{j-1} = A_j^T D_j y_j
backward; then d mu / d (D_j)_ii = (y_j)_i (B_j)_i. mu is convex in each D_j alone, so it is largest at a vertex.
"""

import dataclasses
import itertools

import numpy as np

from .logarithmic_norm import Array


@dataclasses.dataclass(frozen=True, eq=False)
class MultilayerField:
    """The Jacobians D_k A_k ... D_1 A_1 with all slopes in [lower, upper].

    **Attributes:** `weights`: A_1, .., A_k, of shapes (n_1, n), (n_2, n_1), .., (n, n_{k-1}).

    **Raises:** `ValueError` for weights that cannot be chained or numbers that are not finite.
    """

    weights: tuple[Array, ...]
    lower: float
    upper: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(np.asarray(weight, dtype=np.float64) for weight in self.weights))
        shapes = [weight.shape for weight in self.weights]
        chained = all(len(shape) == 2 for shape in shapes) and all(
            after[1] == before[0] for before, after in itertools.pairwise(shapes)
        )
        if not shapes or not chained or shapes[0][1] != shapes[-1][0]:
            raise ValueError("The weights A_1, .., A_k must have shapes (n_1, n), (n_2, n_1), .., (n, n_{k-1}); got "
                             f"{shapes}.")
        if not all(np.all(np.isfinite(weight)) for weight in self.weights):
            raise ValueError("The weights hold numbers that are not finite.")
        if not -np.inf < self.lower <= self.upper < np.inf:
            raise ValueError(f"The slope interval must satisfy lower <= upper, both finite; got [{self.lower!r}, "
                             f"{self.upper!r}].")

    @property
    def size(self) -> int:
        """n, the dimension of the state."""
        return int(self.weights[0].shape[1])

    def with_lower(self, lower: float) -> "MultilayerField":
        return dataclasses.replace(self, lower=lower)

    def jacobian(self, slopes: list[Array]) -> Array:
        """J for slopes D_1, .., D_k, one array per layer."""
        product = np.eye(self.size)
        for weight, d in zip(self.weights, slopes, strict=True):
            product = d[:, None] * (weight @ product)
        return product

    def top(self, slopes: list[Array]) -> tuple[float, Array]:
        """mu(J) and the unit top eigenvector of sym J."""
        jacobian = self.jacobian(slopes)
        values, vectors = np.linalg.eigh((jacobian + jacobian.T) / 2)
        return float(values[-1]), vectors[:, -1]

    def gradient(self, slopes: list[Array], x: Array) -> list[Array]:
        """d mu / d D_j by layer, where x is the top eigenvector."""
        forward, z = [], x
        for weight, d in zip(self.weights, slopes, strict=True):
            forward.append(weight @ z)
            z = d * forward[-1]
        result, y = [], x
        for weight, d, b in reversed(list(zip(self.weights, slopes, forward, strict=True))):
            result.append(y * b)
            y = weight.T @ (d * y)
        return result[::-1]
