r"""The reprojections of NAIS-Net training: weights moved into the set where x+ = x + h s(A x + B u + C) is stable.

Source: Ciccone, Gallieri, Masci, Osendorfer, Gomez, NAIS-Net (arXiv 1804.07209), for slopes of s in [0, 1], 0 < h <= 1.

- Fully connected: A = -R^T R - eps I with ||R^T R||_F <= 1 - 2 eps. So the eigenvalues of A lie in [-(1 - eps), -eps].
- Convolutional: for each output channel the tap at the centre of the channel itself is -1 - delta with |delta| <= 1 -
  eta, and the moduli of all its other taps sum to at most 1 - eps - |delta|. So every row sum of moduli of I + A is at
  most 1 - eps, whatever the padding with zeros or around.

Both functions take and return float64 arrays, and what they return satisfies its conditions in exact arithmetic, not
only up to rounding: they aim a few units in the last place inside. Applied again they return the same array.
"""

import math
from fractions import Fraction

import numpy as np

from ..contractivity.logarithmic_norm import Array

_UNIT = 2.0**-53


def reproject_factor(factor: Array, epsilon: float) -> Array:
    r"""R, or where ||R^T R||_F > delta = 1 - 2 eps the multiple of R with ||R^T R||_F = delta.

    R^T R becomes the nearest matrix to the former one, in the Frobenius norm, in the ball of radius delta. (R itself
    is scaled by sqrt(delta / ||R^T R||_F); scaling R^T R by that number, as some public code does, leaves the ball.)

    **Arguments:** `factor`: R, shape (r, n); `epsilon`: in (0, 1/2).

    **Raises:** `ValueError` for another shape, numbers that are not finite, or epsilon outside its interval.
    """
    _require_finite(factor, "factor", 2)
    if not 0 < epsilon < 0.5:
        raise ValueError(f"`epsilon` must lie in (0, 1/2), so that the radius 1 - 2 epsilon is positive; "
                         f"got {epsilon!r}.")
    radius = _rounded_down(1 - 2 * Fraction(epsilon))
    largest = float(np.max(np.abs(factor), initial=0.0))
    if largest == 0:
        return factor.copy()
    # With entries of about 1 nothing overflows, and what underflows is far below the margin.
    exponent = math.frexp(largest)[1]
    scaled = np.ldexp(factor, -exponent)
    norm = float(np.linalg.norm(scaled.T @ scaled))
    rows, n = factor.shape
    # The error of each inner product is (rows + 2) u |R|^T |R|, and || |R|^T |R| ||_F <= ||R||_F^2 <= sqrt(n) norm; the
    # sum of n^2 squares adds n^2 u. Thrice that, for the rescaling and the margin's own rounding.
    margin = 3 * _UNIT * ((rows + 2) * math.sqrt(n) + n * n + 8)
    if margin >= 0.25:
        raise ValueError(f"A factor of shape {factor.shape} is too large for its norm to be bounded in float64.")
    if _times_power(norm, 2 * exponent) <= radius * (1 - margin):
        return factor.copy()
    # The margin is left twice: after rescaling, the computed norm passes the test above.
    return np.asarray(scaled * math.sqrt(radius * (1 - 2 * margin) / norm))


def stable_matrix(factor: Array, epsilon: float) -> Array:
    """A = -R^T R - eps I in float64, exactly symmetric."""
    gram = factor.T @ factor
    return np.asarray(-(gram + gram.T) / 2 - epsilon * np.eye(factor.shape[1]))


def reproject_kernel(kernel: Array, epsilon: float, eta: float) -> Array:
    r"""The kernel with delta clipped to |delta| <= 1 - eta and the other taps scaled into their l1 ball, by channel.

    delta is the nearest to the former one; given delta, the other taps are a nearest point of the ball in the l1 norm,
    whose distance is the excess of their sum of moduli over 1 - eps - |delta|.

    **Arguments:** `kernel`: shape (channels, channels, *taps) in the order out, in, every extent of taps odd, the
    centre being the tap that meets the pixel itself; `epsilon`, `eta`: 0 < epsilon < eta < 1.

    **Raises:** `ValueError` for another shape, numbers that are not finite, or parameters outside their intervals.
    """
    centre = require_kernel(kernel)
    if not 0 < epsilon < eta < 1:
        raise ValueError(f"The parameters need 0 < epsilon < eta < 1; got epsilon = {epsilon!r}, eta = {eta!r}.")
    lowest, result = -_rounded_down(2 - Fraction(eta)), kernel.copy()
    for channel in range(len(kernel)):
        own = (channel, channel, *centre)
        tap = min(max(float(kernel[own]), lowest), -eta)
        bound = _rounded_down(1 - Fraction(epsilon) - abs(1 + Fraction(tap)))
        others = kernel[channel].copy()
        others[own[1:]] = 0.0
        result[channel] = _into_l1_ball(others, bound)
        result[own] = tap
    return result


def require_kernel(kernel: Array) -> tuple[int, ...]:
    """The index of the centre among the taps.

    **Raises:** `ValueError` unless the kernel is finite, maps channels to as many, and has taps of odd extents.
    """
    if kernel.ndim < 3 or kernel.shape[0] != kernel.shape[1] or any(extent % 2 == 0 for extent in kernel.shape[2:]):
        raise ValueError("The kernel needs the shape (channels, channels, *taps) with odd extents of the taps, so that "
                         f"there is a centre; got {kernel.shape}.")
    _require_finite(kernel, "kernel", kernel.ndim)
    return tuple(extent // 2 for extent in kernel.shape[2:])


def _into_l1_ball(taps: Array, bound: float) -> Array:
    """The taps, or a multiple of them, with a sum of moduli of at most `bound` in exact arithmetic."""
    largest = float(np.max(np.abs(taps)))
    if largest == 0:
        return taps
    exponent = math.frexp(largest)[1]
    scaled = np.ldexp(taps, -exponent)
    total = math.fsum(np.abs(scaled).ravel())  # rounded correctly, so total < t means that the sum is at most t
    if _times_power(total, exponent) < bound:
        return taps
    return np.asarray(scaled * (bound * (1 - 16 * _UNIT) / total))


def _times_power(value: float, exponent: int) -> float:
    """value 2^exponent, infinite where it overflows."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def _rounded_down(value: Fraction) -> float:
    """The largest float64 not above."""
    result = float(value)
    return result if Fraction(result) <= value else math.nextafter(result, -math.inf)


def _require_finite(array: Array, name: str, dimensions: int) -> None:
    if array.ndim != dimensions or array.dtype != np.float64 or not np.all(np.isfinite(array)):
        raise ValueError(f"`{name}` must be a finite float64 array of {dimensions} dimensions; got the shape "
                         f"{array.shape} and type {array.dtype}.")
