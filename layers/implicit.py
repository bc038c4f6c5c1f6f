r"""Layers whose output is the solution of an equation: x = s(A x + v), v being what the layer is fed.

In the networks of NEMON, MON and LBEN v = B u + b and y = C x + c, which are ordinary linear layers before and after.
Slopes of s between two solutions: with w = A x + v and D = diag(s'(w)),

    dx = D (A dx + dv) = (I - D A)^{-1} D dv.

That there is exactly one solution is not known from the layer alone: `netgain.solvers.loop` says what is sufficient.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from .activation import Elementwise
from .arithmetic import FLOAT, Arithmetic, Array
from .convolution import Convolution
from .errors import ConvergenceError, ModelError, ShapeError
from .layer import NonlinearLayer, Shape, one_input
from .linear import Affine
from .windows import wrapped_indices

# Newton's steps are tried after every so many of the splitting's.
_BETWEEN, _NEWTON = 10, 8


@dataclasses.dataclass(frozen=True, eq=False)
class FixedPoint(NonlinearLayer):
    """x = s(A x + v) for the input v; the output has the shape of v.

    **Arguments:** `recurrence`: A, a matrix or a convolution without bias that keeps the shape; `activation`: s;
    `tolerance`: of the residual |x - s(A x + v)| in float64, relative to max(1, |x|), largest entries;
    `max_iterations`: of `forward`; `circular`: whether the image goes on around its border for a convolution, which
    then has no padding and a kernel of odd size, at most that of the image.

    **Raises:** `ModelError` for another recurrence, or if `tolerance` or `max_iterations` is not positive.
    """

    recurrence: Affine | Convolution
    activation: Elementwise
    tolerance: float = 1e-12
    max_iterations: int = 2000
    circular: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.recurrence, Affine | Convolution):
            raise ModelError("The recurrence of an implicit layer is a matrix or a convolution, not "
                             f"{self.recurrence.describe()}.")
        if self.recurrence.offset() is not None:
            raise ModelError("The recurrence of an implicit layer is linear: give its bias to the layer that feeds it.")
        if not isinstance(self.activation, Elementwise):
            raise ModelError(f"An implicit layer needs an activation that acts on each entry alone, not "
                             f"{self.activation.describe()}.")
        if self.circular and not (isinstance(self.recurrence, Convolution) and not any(
                map(any, self.recurrence.padding)) and all(size % 2 for size in self.recurrence.weight.shape[2:])):
            raise ModelError("Only convolutions with kernels of odd size and without padding are circular, not "
                             f"{self.recurrence.describe()}.")
        if not (0 < self.tolerance < math.inf and self.max_iterations > 0):
            raise ModelError("An implicit layer needs a positive tolerance and iteration limit, got "
                             f"{self.tolerance!r} and {self.max_iterations!r}.")

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = one_input(self, shapes)
        if isinstance(self.recurrence, Affine) and len(shape) != 1:
            raise ShapeError(f"An implicit layer with a matrix takes vectors, got an input of shape {shape}.")
        if self.circular and any(n < k for n, k in zip(shape[1:], self.recurrence.weight.shape[2:], strict=False)):
            raise ShapeError(f"A circular kernel {self.recurrence.weight.shape[2:]} is larger than the image of shape "
                             f"{shape}, so that its taps would meet.")
        image = self.recurrence.output_shape(self._read(shape))
        if image != shape:
            raise ShapeError(f"The recurrence of an implicit layer has to keep the shape of its input, {shape}, and "
                             f"gives {image}.")
        return shape

    def _read(self, shape: Shape) -> Shape:
        """The shape of what the recurrence reads of an input of this shape."""
        if not self.circular:
            return shape
        return (shape[0], *(n + k - 1 for n, k in zip(shape[1:], self.recurrence.weight.shape[2:], strict=True)))

    def parameters(self) -> dict[str, Any]:
        # How a solution is looked for does not change which it is.
        return {
            "recurrence": [type(self.recurrence).__name__, self.recurrence.parameters()],
            "activation": [type(self.activation).__name__, self.activation.parameters()],
            **({"circular": True} if self.circular else {}),
        }

    def describe(self) -> str:
        return f"Fixed point of {self.activation.describe()}, {self.recurrence.describe()}"

    def matrix(self, shape: Shape) -> np.ndarray:
        """A for an input of this shape, flattened: shape (n, n); its entries are weights, exactly."""
        size = math.prod(shape)
        read = np.asarray(self.recurrence.unrolled(0, (self._read(shape),))).reshape((-1, size))
        if not self.circular:
            return read.T
        result = np.zeros((size, size))
        reach = tuple(k // 2 for k in self.recurrence.weight.shape[2:])
        # No two taps of one output read the same pixel, so that nothing but zeros is added to a weight.
        np.add.at(result, wrapped_indices(shape, reach).ravel(), read)
        return result.T

    def forward(self, *inputs: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        """The solution for each member of a batch, in float64.

        Iterates of the Peaceman-Rachford splitting with step 1, z+ = R (2 s(z) - z) with R the reflected resolvent of
        x -> (I - A) x - v, converge for slopes in [0, 1] wherever a diagonal metric exists (arXiv 2010.01732). From
        x = s(z) Newton's method is tried now and then; members it does not bring to the tolerance go on as before.

        **Raises:** `ConvergenceError` if a member has not come to the tolerance at the iteration limit; `ModelError` in
        any arithmetic but float64: an enclosure needs a proof that there is one solution.
        """
        v = inputs[0]
        if arithmetic is not FLOAT:
            raise ModelError("The solution of an implicit layer is enclosed from a proof of its well-posedness, not by "
                             "evaluating the layer; see `netgain.verify.implicit`.")
        shape = tuple(v.shape[1:])
        self.output_shape(shape)
        flat = np.asarray(v, dtype=np.float64).reshape((len(v), -1))
        return self._solved(self.matrix(shape), flat).reshape(v.shape)

    def _solved(self, A: np.ndarray, v: np.ndarray) -> np.ndarray:
        n = len(A)
        try:
            resolvent = np.linalg.inv(2 * np.eye(n) - A)
        except np.linalg.LinAlgError:
            raise ConvergenceError("2 I - A of an implicit layer is singular: with slopes of 1/2 it has no unique "
                                   "solution, so it is not well-posed.") from None
        solution, z = np.zeros_like(v), np.zeros_like(v)
        left = np.arange(len(v))
        with np.errstate(over="ignore", invalid="ignore"):
            for iteration in range(self.max_iterations):
                if iteration % _BETWEEN == 0 or iteration == self.max_iterations - 1:
                    x, done = self._polished(A, v[left], self.activation.value(z[left]))
                    solution[left[done]] = x[done]
                    left = left[~done]
                    if not left.size:
                        return solution
                reflected = 2 * self.activation.value(z[left]) - z[left]
                z[left] = 2 * (reflected + v[left]) @ resolvent.T - reflected
        worst = self._residual(A, v[left], self.activation.value(z[left])).max()
        raise ConvergenceError(f"{len(left)} of {len(v)} inputs: the iteration for x = s(A x + v) came to a relative "
                               f"residual of {worst:.3g}, not to {self.tolerance:g}, in {self.max_iterations} steps. "
                               "The layer may not be well-posed; `netgain implicit` tells what can be proved.")

    def _residual(self, A: np.ndarray, v: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The relative residual of each member."""
        size = np.maximum(np.max(np.abs(x), axis=1), 1.0)
        return np.asarray(np.max(np.abs(x - self.activation.value(x @ A.T + v)), axis=1) / size)

    def _polished(self, A: np.ndarray, v: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Newton's iterates from x, and which of them came to the tolerance."""
        x = x.copy()
        residual = self._residual(A, v, x)
        going = np.flatnonzero(residual > self.tolerance)
        for _ in range(_NEWTON):
            if not going.size:
                break
            w = x[going] @ A.T + v[going]
            slopes = self.activation.derivative(w)
            system = np.eye(len(A)) - slopes[:, :, None] * A
            try:
                step = np.linalg.solve(system, (x[going] - self.activation.value(w))[:, :, None])[:, :, 0]
            except np.linalg.LinAlgError:
                break
            x[going] -= step
            residual[going] = self._residual(A, v[going], x[going])
            going = going[residual[going] > self.tolerance]
        return x, residual <= self.tolerance

    def linearised(self, v: np.ndarray, x: np.ndarray, width: float = 0.0) -> "LinearisedFixedPoint":
        """The derivative at v, where the solution is x; slopes of s are quotients over +-`width` if that is not 0."""
        shape = tuple(v.shape[1:])
        A = self.matrix(shape)
        w = x.reshape((len(x), -1)) @ A.T + v.reshape((len(v), -1))
        if width > 0:
            above, below = w + width, w - width
            slopes = (self.activation.value(above) - self.activation.value(below)) / (2 * width)
            bends = (self.activation.derivative(above) - self.activation.derivative(below)) / (2 * width)
        else:
            slopes, bends = self.activation.derivative(w), np.zeros_like(w)
        inverse = np.linalg.inv(np.eye(len(A)) - slopes[:, :, None] * A)
        return LinearisedFixedPoint(A, slopes, bends, inverse, shape)

    def apply_derivative(self, x: np.ndarray, dx: np.ndarray) -> Array:
        return self.linearised(x, self.forward(x)).apply(dx)

    def apply_derivative_transposed(self, x: np.ndarray, dy: np.ndarray) -> Array:
        return self.linearised(x, self.forward(x)).transpose(dy)


@dataclasses.dataclass(frozen=True, eq=False)
class LinearisedFixedPoint:
    """(I - D A)^{-1} D at each member of a batch.

    **Attributes:** `matrix`: A; `slopes`, `bends`: s' and s'' at w, shape (batch, n); `inverse`: (I - D A)^{-1}, shape
    (batch, n, n); `shape`: of one input.
    """

    matrix: np.ndarray
    slopes: np.ndarray
    bends: np.ndarray
    inverse: np.ndarray
    shape: Shape

    def _flat(self, x: np.ndarray) -> np.ndarray:
        flat: np.ndarray = x.reshape((len(x), -1))
        return flat

    def _shaped(self, x: np.ndarray) -> np.ndarray:
        shaped: np.ndarray = x.reshape((len(x), *self.shape))
        return shaped

    def apply(self, dv: np.ndarray) -> np.ndarray:
        """dx, shape (batch, *shape)."""
        return self._shaped(np.einsum("bij,bj->bi", self.inverse, self.slopes * self._flat(dv)))

    def transpose(self, dx: np.ndarray) -> np.ndarray:
        """The adjoint of `apply`."""
        return self._shaped(self.slopes * self._pulled(self._flat(dx)))

    def _pulled(self, dx: np.ndarray) -> np.ndarray:
        """(I - D A)^{-T} dx."""
        return np.asarray(np.einsum("bji,bj->bi", self.inverse, dx))

    def gradient(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The gradient of left^T apply(right) with respect to v, through the slopes.

        If slopes move by dD, apply(right) moves by (I - D A)^{-1} dD (A dx + right); and w by (I - A D)^{-1} dv.
        """
        entering = self._flat(self.apply(right)) @ self.matrix.T + self._flat(right)
        bent = self._pulled(self._flat(left)) * self.bends * entering
        return self._shaped(bent + self.slopes * self._pulled(bent @ self.matrix))
