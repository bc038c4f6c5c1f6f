"""Matrices whose worst logarithmic norm is known, or small enough to be found by trying every vertex."""

import numpy as np
from netgain.solvers.contractivity.logarithmic_norm import SlopeField

# Numbers of the unit facts belong to this matrix with slopes in [0.1, 1] unless said otherwise.
A3 = np.array([[-1, 2, 0], [0, -1, 1.5], [-1, 0, -0.5]])
ROTATION = np.array([[-0.3, 2], [-2, -0.3]])


def circulant(n):
    """Rows -1, 0.8, 0.4, 0, .., 0, -0.6, shifted: a convolution with cyclic boundary."""
    row = np.zeros(n)
    row[[0, 1, 2, -1]] = -1, 0.8, 0.4, -0.6
    return np.array([np.roll(row, i) for i in range(n)])


def laplacian(n):
    return -(2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1))


def random_weights(n, seed):
    return np.random.default_rng(seed).standard_normal((n, n)) / np.sqrt(n) - np.eye(n)


def structured(n, seed):
    """Named matrices of order n, some with degenerate top eigenvalues, some that trap local searches."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, n)) / np.sqrt(n)
    skew, orthogonal = (z - z.T) / np.sqrt(2), np.linalg.qr(z)[0]
    u = rng.standard_normal((n, 1))
    return {
        "random": z - np.eye(n),
        "skew": skew - 0.5 * np.eye(n),
        "negative definite": -z @ z.T - 0.01 * np.eye(n),
        "symmetric": (z + z.T) / np.sqrt(2) - 2 * np.eye(n),
        "orthogonal": -orthogonal,
        "circulant": circulant(n),
        "Laplacian": laplacian(n),
        "triangular": np.triu(2 * z) - np.eye(n),
        "rank one": u @ rng.standard_normal((1, n)) / n - np.eye(n),
        "Metzler": np.abs(z) - (1 + np.sqrt(n) / 2) * np.eye(n),
        "nonnegative": np.abs(z),
        "rotations": np.kron(np.eye(n // 2), ROTATION) if n % 2 == 0 else skew,
        "rows scaled": np.exp(rng.normal(0, 2, (n, 1))) * skew,
        "zero row": np.where(np.arange(n)[:, None] == 1, 0.0, z - np.eye(n)),
        "diagonal": np.diag(rng.standard_normal(n)),
        "repeated": np.kron(np.ones((n // 2, n // 2)), A3[:2, :2]) if n % 2 == 0 else z,
    }


def general_field(seed, n=4, k=5, lower=-0.2, upper=1.1):
    """B + E D A with another number of neurons than states."""
    rng = np.random.default_rng(seed)
    return SlopeField(rng.standard_normal((k, n)), lower, upper, rng.standard_normal((n, k)) / 2,
                      rng.standard_normal((n, n)) - np.eye(n))


def brute_force(field):
    """The worst logarithmic norm by trying all vertices, and the slopes that attain it."""
    k = field.neurons
    patterns = (np.arange(2**k)[:, None] >> np.arange(k)) & 1
    best, slopes = -np.inf, None
    for part in np.array_split(patterns, max(1, len(patterns) // 1024)):
        d = np.where(part, field.upper, field.lower)
        values = np.linalg.eigvalsh(field.symmetric(d))[:, -1]
        if values.max() > best:
            best, slopes = float(values.max()), d[values.argmax()]
    return best, slopes
