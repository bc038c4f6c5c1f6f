r"""Bounds t on what the neurons of implicit and other layers can change by, entry by entry, for |du_j| <= 1.

For z = s(A z + v) with slopes in [alpha, beta] some d in the interval has

    |dz_i| (1 - d a_ii) <= |d| (sum_{j != i} |a_ij| |dz_j| + |dv_i|),

and where 1 - d a_ii > 0 for both ends the largest |d| / (1 - d a_ii) is taken at one of them, h_i. So if the spectral
radius of diag(h) |A_off| is below 1, which is that the least mu_eta(D A) is below 1, and |dv| <= w,

    |dz| <= t = (I - diag(h) |A_off|)^{-1} (h w).

For slopes in [0, 1] it is (I - A^M)^{-1} w, the M-matrix bound.
"""

import numpy as np

from .weighted_log_norm import Array, SlopeBox, square

# What is added so that the inequalities hold strictly; inputs that nothing reaches are given this share.
_SLACK = 1e-9


def end_gains(A: Array, slopes: SlopeBox) -> Array | None:
    """h, shape (n,); None where some 1 - d a_ii is not positive."""
    diagonal = np.diagonal(square(A))
    ends = np.stack([slopes.lower, slopes.upper])
    divisors = 1 - ends * diagonal
    return np.asarray(np.max(np.abs(ends) / divisors, axis=0)) if np.all(divisors > 0) else None


def state_bound(A: Array, slopes: SlopeBox, inputs: Array) -> Array | None:
    """A little more than t for |dv| <= `inputs`, positive; None if the spectral radius is not below 1.

    **Raises:** `ValueError` for shapes that do not fit, or inputs that are negative.
    """
    A, inputs = square(A), np.asarray(inputs, dtype=np.float64)
    if inputs.shape != (len(A),) or slopes.neurons != len(A) or not np.all(inputs >= 0):
        raise ValueError(f"Inputs of {len(A)} neurons are as many numbers from 0 on, got the shape {inputs.shape}.")
    gains = end_gains(A, slopes)
    if gains is None:
        return None
    largest = float(inputs.max())
    floor = np.maximum(inputs, _SLACK * (largest if largest > 0 else 1.0))
    beside = gains[:, None] * np.abs(A)
    np.fill_diagonal(beside, 0)
    try:
        bound = np.linalg.solve(np.eye(len(A)) - beside, gains * floor + np.where(gains > 0, 0, _SLACK * floor))
    except np.linalg.LinAlgError:
        return None
    # A positive solution for positive right sides proves an M-matrix: none is found where the radius is 1 or more.
    return np.asarray(bound * (1 + _SLACK)) if np.all(bound > 0) and np.all(np.isfinite(bound)) else None
