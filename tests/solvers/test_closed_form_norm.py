"""The norm that the closed form computes of large matrices, where Lanczos has little to go by."""

import numpy as np
import pytest
import scipy.linalg
from netgain.solvers.closed_form import _WORTH_LANCZOS, _norm

N = _WORTH_LANCZOS + 20


def circulant():
    """Its largest singular value, 4, belongs to alternating signs; what is equal everywhere it annihilates."""
    column = np.zeros(N)
    column[[0, 1, -1]] = 2, -1, -1
    return scipy.linalg.circulant(column)


@pytest.mark.parametrize(("matrix", "norm"), [
    (3 * np.eye(N), 3),
    (np.hstack([0.5 * np.eye(N)] * 3), np.sqrt(0.75)),
    (np.diag(np.arange(N) % 2 + 1.0), 2),
    (np.zeros((N, N)), 0),
    (circulant(), 4),
    (np.hstack([circulant(), np.eye(N)]), np.sqrt(17)),
    (np.full((N, N), np.inf), np.inf),
])
def test_norms_are_exact(matrix, norm):
    assert _norm(matrix) == pytest.approx(norm, rel=1e-9)
    assert _norm(matrix.T) == pytest.approx(norm, rel=1e-9)
