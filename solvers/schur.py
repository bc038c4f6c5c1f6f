"""The dense symmetric positive definite systems of interior-point methods."""

from collections.abc import Callable

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

Solve = Callable[[np.ndarray], np.ndarray]

_STRIP = 256


def scaled_cholesky(matrix: np.ndarray) -> Solve | None:
    """Solves, for vectors or columns, with a positive definite matrix given by its lower triangle; that is overwritten.

    Its factorisation is regularised as far as rounding demands; None if that does not suffice.
    """
    diagonal = np.einsum("ii->i", matrix)
    if not (np.all(np.isfinite(diagonal)) and np.all(diagonal > 0)):
        return None
    scale = 1 / np.sqrt(diagonal)
    for first in range(0, len(scale), _STRIP):
        strip = matrix[first : first + _STRIP, : first + _STRIP]
        strip *= scale[first : first + _STRIP, None]
        strip *= scale[: first + _STRIP]
    shift = 0.0
    while shift < 1e-6:
        diagonal[:] = 1 + shift
        # The transpose is in the order LAPACK wants, so that its upper triangle is read where it lies.
        root, failed = dpotrf(matrix.T, lower=0, clean=0)
        if not failed:
            return lambda right: (scale * dpotrs(root, (scale * right.T).T, lower=0)[0].T).T
        shift = max(10 * shift, 1e-15)
    return None
