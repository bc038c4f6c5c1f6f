r"""The logarithmic norm of J(D) = B + E D A as a function of the slopes D, and its derivatives.

For the Euclidean norm mu(M) = lambda_max((M + M^T) / 2), and a flow u' = f(u) satisfies |u(t) - v(t)| <= e^{ct} |u(0) -
v(0)| for all pairs of solutions once mu(f'(u)) <= c everywhere. The Jacobian of u' = sigma(A u + b) is D A with D_ii =
sigma'((A u + b)_i); with a linear part and an output matrix, u' = B u + E sigma(A u + b), it is B + E D A.

With e_i the columns of E and a_i the rows of A, J(D) = B + sum_i d_i e_i a_i^T is affine in D, so mu(J(D)) is convex
in D and takes its largest value over a box at a vertex. At a simple top eigenvalue with unit eigenvector x,

    d mu / d d_i = (e_i^T x) (a_i^T x)                (Guglielmi et al., arXiv 2402.13092, where E = I and B = 0).
"""

import dataclasses
import functools
from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

Array = np.ndarray[Any, np.dtype[np.float64]]

# Above this order Lanczos steps from a good start are cheaper than the dense eigenvalue decomposition.
DENSE_ORDER = 400
_WIDEST = 1e100


@dataclasses.dataclass(frozen=True, eq=False)
class SlopeField:
    r"""The Jacobians B + E D A, D = diag(d), lower <= d_i <= upper.

    **Attributes:** `inputs`: A, shape (k, n); `lower`, `upper`: the slope interval of every neuron; `outputs`: E, shape
    (n, k), or None for the identity; `linear`: B, shape (n, n), or None for zero.

    **Raises:** `ValueError` for shapes that do not fit, no neurons or states, numbers that are not finite or so large
    or small that their products leave the range of float64, or an empty interval.
    """

    inputs: Array
    lower: float
    upper: float = 1.0
    outputs: Array | None = None
    linear: Array | None = None

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "linear"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, np.asarray(given, dtype=np.float64))
        if self.inputs.ndim != 2:
            raise ValueError(f"`inputs` must be a matrix of shape (k, n), got the shape {self.inputs.shape}.")
        k, n = self.inputs.shape
        if self.outputs is None and k != n:
            raise ValueError(f"`inputs` of shape ({k}, {n}) is not square; give `outputs` of shape ({n}, {k}), as in "
                             "u' = E sigma(A u + b).")
        for name, matrix, shape in (("outputs", self.outputs, (n, k)), ("linear", self.linear, (n, n))):
            if matrix is not None and matrix.shape != shape:
                raise ValueError(f"`{name}` must have the shape {shape} for `inputs` of shape ({k}, {n}), got "
                                 f"{matrix.shape}.")
        for name, values in (("inputs", self.inputs), ("outputs", self.outputs), ("linear", self.linear)):
            if values is not None and not np.all(np.isfinite(values)):
                raise ValueError(f"`{name}` holds numbers that are not finite: {int(np.sum(~np.isfinite(values)))} of "
                                 f"{values.size}.")
        if not self.inputs.size:
            raise ValueError(f"`inputs` has the shape ({k}, {n}): there is nothing to bound.")
        if not -np.inf < self.lower <= self.upper < np.inf:
            raise ValueError(f"The slope interval must satisfy lower <= upper, both finite; got [{self.lower!r}, "
                             f"{self.upper!r}].")
        for name, size in (("inputs", _largest(self.inputs)), ("linear", _largest(self.linear)),
                           ("outputs", _largest(self.outputs)), ("lower", abs(self.lower)), ("upper", abs(self.upper))):
            if size > _WIDEST or 0 < size < 1 / _WIDEST:
                raise ValueError(f"The largest modulus in `{name}` is {size!r}, and products would leave the range of "
                                 f"float64; choose units in which it lies between {1 / _WIDEST:.0e} and {_WIDEST:.0e}.")

    @property
    def size(self) -> int:
        """n, the dimension of the state."""
        return int(self.inputs.shape[1])

    @property
    def neurons(self) -> int:
        """k, the number of slopes."""
        return int(self.inputs.shape[0])

    @property
    def centre(self) -> float:
        """r0 = (upper + lower) / 2."""
        return (self.upper + self.lower) / 2

    @property
    def radius(self) -> float:
        """r = (upper - lower) / 2."""
        return (self.upper - self.lower) / 2

    @functools.cached_property
    def acting(self) -> np.ndarray:
        """Whose slope matters: the neurons with e_i and a_i both not zero; none if the interval is a point."""
        acting: np.ndarray = np.any(self.inputs != 0, axis=1) & (self.radius > 0)
        return acting if self.outputs is None else acting & np.any(self.outputs != 0, axis=0)

    @functools.cached_property
    def dense_outputs(self) -> Array:
        """E, also where it is the identity."""
        return np.eye(self.size) if self.outputs is None else self.outputs

    @functools.cached_property
    def nominal(self) -> Array:
        """The symmetric part of J at the centre of the box: sym(B) + r0 sym(E A)."""
        return self.symmetric(np.full(self.neurons, self.centre))

    def jacobian(self, slopes: Array) -> Array:
        """J(D), shape (..., n, n), for slopes of shape (..., k)."""
        product = slopes[..., :, None] * self.inputs
        if self.outputs is not None:
            product = self.outputs @ product
        return product if self.linear is None else product + self.linear

    def symmetric(self, slopes: Array) -> Array:
        """The symmetric part of J(D), shape (..., n, n)."""
        jacobian = self.jacobian(slopes)
        return (jacobian + np.swapaxes(jacobian, -1, -2)) / 2

    def gradient(self, x: Array) -> Array:
        """(e_i^T x) (a_i^T x) for unit vectors x of shape (..., n); shape (..., k)."""
        return self.through_outputs(x) * (x @ self.inputs.T)

    def through_outputs(self, x: Array) -> Array:
        """E^T x along the last axis."""
        return x if self.outputs is None else x @ self.outputs

    def with_lower(self, lower: float) -> "SlopeField":
        """The same field on the box [lower, upper]."""
        return dataclasses.replace(self, lower=lower)

    def best_response(self, x: Array) -> Array:
        """The vertex D that maximises x^T J(D) x: `upper` where the gradient is positive, else `lower`."""
        return np.where(self.gradient(x) > 0, self.upper, self.lower)

    def normalised(self) -> tuple["SlopeField", int]:
        """The field divided by 2^exponent, of a size near 1, and the exponent; exact but for underflow."""
        reach = max(abs(self.lower), abs(self.upper))
        outputs = 1.0 if self.outputs is None else float(np.max(np.linalg.norm(self.outputs, axis=0), initial=0.0))
        sizes = [reach * outputs * float(np.max(np.linalg.norm(self.inputs, axis=1)))]
        if self.linear is not None:
            sizes.append(_largest(self.linear))
        largest = max(sizes)
        exponent = int(np.frexp(largest)[1]) if 0 < largest < np.inf else 0
        linear = None if self.linear is None else np.ldexp(self.linear, -exponent)
        return dataclasses.replace(self, inputs=np.ldexp(self.inputs, -exponent), linear=linear), exponent


def _largest(matrix: Array | None) -> float:
    """The largest modulus of an entry."""
    return 0.0 if matrix is None else float(np.max(np.abs(matrix), initial=0.0))


@dataclasses.dataclass(frozen=True, eq=False)
class TopPair:
    """The largest eigenvalue of sym(J(D)) and a unit eigenvector; the value is the vector's Rayleigh quotient.

    A Rayleigh quotient is never above the largest eigenvalue, however few Lanczos steps were taken.
    """

    value: float
    vector: Array


def logarithmic_norm(matrix: Array) -> float:
    """mu(M) = lambda_max((M + M^T) / 2) for a square matrix."""
    return float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1])


def top_pair(field: SlopeField, slopes: Array, start: Array | None = None) -> TopPair:
    """The top eigenpair of sym(J(D)) for slopes of shape (k,).

    Dense up to order 400. Beyond, Lanczos from `start`, the eigenvector at slopes nearby, with products by A, E and
    their transposes only; where these do not converge, dense again.
    """
    n = field.size
    if n > DENSE_ORDER and start is not None:
        operator = LinearOperator((n, n), matvec=lambda x: _multiply(field, slopes, x.ravel()), dtype=np.float64)
        try:
            vector = eigsh(operator, k=1, which="LA", v0=start, tol=1e-10, maxiter=50)[1][:, 0]
            vector = vector / np.linalg.norm(vector)
            return TopPair(float(vector @ _multiply(field, slopes, vector)), vector)
        except ArpackNoConvergence:
            pass  # the dense decomposition below always converges
    values, vectors = eigh(field.symmetric(slopes), subset_by_index=[n - 1, n - 1])
    return TopPair(float(values[0]), vectors[:, 0])


def _multiply(field: SlopeField, slopes: Array, x: Array) -> Array:
    """sym(J(D)) x."""
    forward = slopes * (field.inputs @ x)
    backward = field.inputs.T @ (slopes * field.through_outputs(x))
    total = (forward if field.outputs is None else field.outputs @ forward) + backward
    if field.linear is not None:
        total = total + field.linear @ x + field.linear.T @ x
    return total / 2
