r"""Frozen slopes under which x+ = x + h s(A x + ..) grows, for states too large for all their eigenvalues.

As `frozen_growth`, but A is only multiplied with vectors: eigenvalues of largest modulus by Arnoldi's method (ARPACK),
those of the transposed operator for the gradient. What is found is a local maximum in floating point.
"""

import dataclasses
import math
import time
from typing import Any

import numpy as np
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs

from ..contractivity.logarithmic_norm import Array

_Vector = np.ndarray[Any, np.dtype[np.complex128]]
_MOST_STEPS, _MOST_RESTARTS = 30, 300


class _TimeUp(Exception):
    """No more products are wanted."""


@dataclasses.dataclass(frozen=True, eq=False)
class FrozenGrowth:
    """`value`: rho(I + h D A); `slopes`: the diagonal of D, shape (n,); `vector`: a right eigenvector to it."""

    value: float
    slopes: Array
    vector: _Vector


def sparse_frozen_growth(
    weights: Any, step: float, lower: float, upper: float, starts: int = 4, seed: int = 0, seconds: float = math.inf,
    groups: np.ndarray | None = None,
) -> FrozenGrowth | None:
    """The best of ascents from both corners and random vertices; None where no eigenvalue was found in time.

    **Arguments:** `weights`: A, a sparse array or a matrix, order at least 4; `groups`: for each entry of the state the
    number of its group, whose slopes start equal (the pixels of a channel).
    """
    end = time.perf_counter() + seconds
    rng, n = np.random.default_rng(seed), weights.shape[0]
    groups = np.arange(n) if groups is None else groups
    count = int(groups.max()) + 1
    first = [np.full(n, upper), np.full(n, lower)]
    candidates = first + [rng.choice((lower, upper), count)[groups] for _ in range(starts)]
    ascent, best = _Ascent(weights, step, rng), None
    for start in candidates:
        found = ascent.run(start, lower, upper, end)
        if found is not None and (best is None or found.value > best.value):
            best = found
        if time.perf_counter() > end:
            break
    return best


class _Ascent:
    """From slopes to better ones, along the gradient of the modulus of the largest eigenvalue."""

    def __init__(self, weights: Any, step: float, rng: np.random.Generator):
        self.weights, self.transposed, self.step = weights, weights.T, step
        self.start = rng.standard_normal(weights.shape[0])

    def run(self, slopes: Array, lower: float, upper: float, end: float) -> FrozenGrowth | None:
        self.end = end
        value, vector = self._top(slopes, False)
        for _ in range(_MOST_STEPS):
            if vector is None or time.perf_counter() > end:
                break
            gradient = self._gradient(slopes, value, vector)
            if gradient is None:
                break
            target = np.where(gradient > 0, upper, lower)
            for share in (1.0, 0.5, 0.1):
                candidate = np.clip(slopes + share * (target - slopes), lower, upper)
                there, other = self._top(candidate, False)
                if other is not None and abs(there) > abs(value) * (1 + 1e-9):
                    slopes, value, vector = candidate, there, other
                    break
            else:
                break
        return None if vector is None else FrozenGrowth(abs(value), slopes, vector)

    def _gradient(self, slopes: Array, value: complex, vector: _Vector) -> Array | None:
        other, left = self._top(slopes, True)
        if left is None or abs(abs(other) - abs(value)) > 1e-6 * abs(value):
            return None
        if abs(other - value) > abs(other - np.conj(value)):
            left = np.conj(left)
        rate = self.step * left * (self.weights @ vector)
        return np.asarray((np.conj(value) * rate * np.conj(left @ vector)).real)

    def _top(self, slopes: Array, transposed: bool) -> tuple[complex, _Vector | None]:
        """An eigenvalue of largest modulus of I + h D A or its transpose, with a vector."""
        n, scale = len(slopes), self.step * slopes

        def product(x: Array) -> Array:
            if time.perf_counter() > self.end:
                raise _TimeUp
            x = x.ravel()
            change = self.transposed @ (scale * x) if transposed else scale * (self.weights @ x)
            return np.asarray(x + change)

        try:
            values, vectors = eigs(LinearOperator((n, n), matvec=product, dtype=np.float64), k=1, v0=self.start,
                                   tol=1e-9, maxiter=_MOST_RESTARTS)
        except ArpackNoConvergence as error:
            values, vectors = error.eigenvalues, error.eigenvectors
        except (ArpackError, _TimeUp):  # the former for a start in an invariant subspace, say
            return 0.0, None
        return (complex(values[0]), vectors[:, 0]) if len(values) else (0.0, None)
