"""Implicit networks x = Phi(A x + B u + b), y = C x whose constants are known."""

import itertools

import numpy as np

A1 = np.array([[-2.0, 1.5], [0.8, 0.1]])
B1 = np.array([[1.0, -0.5], [0.3, 2.0]])
C1 = np.array([[1.0, -1.0]])
# rho(|A|), spectral abscissa of the majorant, least eigenvalue of the symmetric part of I - A, diagonally stable?
HIERARCHY = [
    (np.array([[0.0, 4.0], [-4.0, 0.0]]), 4.0, 4.0, 1.0, True),
    (np.array([[-0.5, 3.0], [0.2, 0.0]]), 1.064, 0.564, -0.369, True),
    (np.array([[0.0, 8.0], [-2.0, 0.5]]), 4.258, 4.258, -2.26, True),
    (np.array([[0.5, 2.0], [2.0, 0.5]]), 2.5, 2.5, -1.5, False),
]


def random_matrix(seed: int, n: int = 4, most: float = 0.9) -> np.ndarray:
    """Normal entries, shifted so that the abscissa of the majorant is uniform in [-0.5, most]."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n))
    majorant = np.abs(A)
    np.fill_diagonal(majorant, np.diagonal(A))
    return A - (np.linalg.eigvals(majorant).real.max() - rng.uniform(-0.5, most)) * np.eye(n)


def vertices(lower, upper):
    """All D with every slope at an end."""
    for ends in itertools.product(*zip(lower, upper, strict=True)):
        yield np.diag(np.array(ends, dtype=float))
