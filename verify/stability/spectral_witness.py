r"""Proved lower bounds of growth: an enclosure of rho(J(D_m) .. J(D_1))^(1/m), J(D) = I + h diag(d) A, in balls.

It bounds from below the rate that any norm can show for all slopes of the box; above 1, none shows contraction, and
where inputs over time can bring about these slopes in turn, two trajectories move apart. For a constant input it
refutes stability only if m = 1 and the slopes are those at the equilibrium: for tanh these are 1, since A x + B u + C =
0 there.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from flint import acb, acb_mat, arb, arb_mat
from netgain.layers.stable_block import Border

from ..balls import lower, precision
from ..enclosed_matrix import BALLS, DOUBLE, DoubleMatrix
from ..positive_definite import UNIT, gamma
from .block_symbols import BlockSymbols
from .conditions import SlopeBox

_PRECISIONS = (128, 256, 512)
# Enclosing all eigenvalues takes n^3 operations of high precision many times over; above this order a trace does.
_MOST_EIGENVALUES = 40
_SQUARINGS, _LEAST_SQUARINGS = 12, 6
# Covers the rounding of bounds, which are sums of up to 2048^2 non-negative numbers.
_SLACK = 1 + 1e-8
# No entry or square that underflows is larger.
_TINY = 1e-150


def proved_growth(weights: np.ndarray, box: SlopeBox, patterns: np.ndarray) -> float:
    """The largest float64 found not above the growth of these patterns, shape (m, n); the last is applied last.

    0 if the eigenvalues could not be enclosed.

    **Raises:** `ValueError` for shapes that do not fit, or slopes outside the box.
    """
    n = len(weights)
    if weights.shape != (n, n):
        raise ValueError(f"A must be square, got the shape {weights.shape}.")
    _require_patterns(patterns, n, box)
    if not patterns.any():
        return 1.0
    if n > _MOST_EIGENVALUES:
        return _growth_of_traces(DOUBLE.exact(weights), box, patterns)
    return _growth_of_eigenvalues(lambda: BALLS.exact(weights), box, patterns)


def proved_wave_growth(symbols: BlockSymbols, frequency: np.ndarray, box: SlopeBox, patterns: np.ndarray) -> float:
    """The same for slopes that are equal on a channel, shape (m, channels), and one plane wave on a circular image.

    A wave exp(i w . q) times a vector of channels stays one, so the eigenvalues of products of I + h diag(d) A(w) are
    among those of the block's own. `frequency`: n of w = 2 pi n / cells.

    **Raises:** `ValueError` for a border of zeros, shapes that do not fit, or slopes outside the box.
    """
    block = symbols.facts.block
    if block.border is not Border.CIRCULAR or not block.convolutional:
        raise ValueError("Plane waves are states of an image with a circular border alone.")
    if frequency.shape != (len(symbols.cells),) or frequency.dtype != np.int64:
        raise ValueError(f"`frequency` needs {len(symbols.cells)} integers, got {frequency!r}.")
    weight = block.states[0]
    _require_patterns(patterns, len(weight), box)
    if not patterns.any():
        return 1.0
    twice = np.tile(patterns, 2)  # real and imaginary parts
    if twice.shape[1] <= _MOST_EIGENVALUES:
        return _growth_of_eigenvalues(lambda: symbols.in_balls(weight, frequency), box, twice)
    return _growth_of_traces(symbols.at(weight, frequency), box, twice)


def _require_patterns(patterns: np.ndarray, n: int, box: SlopeBox) -> None:
    if patterns.ndim != 2 or patterns.shape[1] != n or not len(patterns):
        raise ValueError(f"The patterns need the shape (m, {n}), m > 0; got {patterns.shape}.")
    if not np.all((patterns >= box.lower) & (patterns <= box.upper)):
        raise ValueError(f"Slopes must lie in [{box.lower!r}, {box.upper!r}]; these reach from "
                         f"{float(np.min(patterns))!r} to {float(np.max(patterns))!r}.")


def _growth_of_eigenvalues(weights: Callable[[], arb_mat], box: SlopeBox, patterns: np.ndarray) -> float:
    """The growth, by balls that are proved to hold all eigenvalues of the product."""
    for bits in _PRECISIONS:
        with precision(bits):
            one, a = BALLS.exact(np.eye(patterns.shape[1])), weights()
            product = one
            for slopes in patterns:
                product = (one + BALLS.scaled(BALLS.diagonal(slopes) * a, box.step)) * product
            try:
                # With `multiple`, the balls are proved to hold all eigenvalues with their multiplicities.
                values: list[acb] = acb_mat(product).eig(multiple=True)
            except ValueError:  # not enclosed at this precision
                continue
            modulus = max(lower(abs(value)) for value in values)
            return lower(arb(max(modulus, 0.0)).root(len(patterns)))
    return 0.0


def _growth_of_traces(weights: DoubleMatrix, box: SlopeBox, patterns: np.ndarray) -> float:
    r"""max over k = 2^j of (|tr M^k| / n)^(1/k), M the product: n rho(M)^k is at least |the sum of k-th powers|.

    In double precision: M^k is known as a matrix and a bound of the Frobenius norm of its error. A product of n terms
    is off by at most gamma_n |X| |Y| entrywise (Higham), hence by gamma_n ||X||_F ||Y||_F; squaring doubles relative
    errors, while bounds by entries would grow as powers of |M|.
    """
    n = patterns.shape[1]
    power = _Powered(np.eye(n), 0.0, 0)
    for slopes in patterns:
        with np.errstate(all="ignore"):
            scaled = box.step * slopes[:, None] * weights.middle
            step = np.eye(n) + scaled
            # Two products and a sum; and what A itself is uncertain by.
            error = 4 * UNIT * (_frobenius(scaled) + _frobenius(step))
            error += box.step * float(np.abs(slopes).max()) * _frobenius(weights.radius) + n * _TINY
        power = _Powered(step, error * _SLACK, 0).times(power)
    best = 0.0
    for j in range(_SQUARINGS):
        found = power.root_of_trace(2**j * len(patterns))
        settled = j >= _LEAST_SQUARINGS and found <= best * (1 + 1e-4)
        best = max(best, found)
        if not math.isfinite(power.error) or (settled and best > 0):
            break
        power = power.times(power)
    return best


@dataclasses.dataclass(frozen=True, eq=False)
class _Powered:
    """All matrices within `error` of 2^exponent middle, in the Frobenius norm, `error` scaled likewise."""

    middle: np.ndarray
    error: float
    exponent: int

    def times(self, other: "_Powered") -> "_Powered":
        n = len(self.middle)
        with np.errstate(all="ignore"):
            product = self.middle @ other.middle
            left, right = _frobenius(self.middle), _frobenius(other.middle)
            error = gamma(n) * left * right + left * other.error + self.error * right + self.error * other.error
            error = error * _SLACK + n * _TINY
            size = float(np.max(np.abs(product)))
        if not (0 < size < math.inf and math.isfinite(error)):
            return _Powered(product, math.inf, 0)
        shift = math.frexp(size)[1]
        # Scaling by a power of two is exact, but for entries that underflow.
        return _Powered(np.ldexp(product, -shift), math.ldexp(error, -shift) + n * _TINY,
                        self.exponent + other.exponent + shift)

    def root_of_trace(self, k: int) -> float:
        """(|trace| / n)^(1/k) rounded down."""
        n, diagonal = len(self.middle), np.diagonal(self.middle)
        trace = abs(math.fsum(diagonal)) * (1 - 4 * UNIT) - math.sqrt(n) * self.error * _SLACK
        if not trace > 0:
            return 0.0
        with precision(_PRECISIONS[0]):
            return max(lower((arb(trace) / n * arb(2) ** self.exponent).root(k)), 0.0)


def _frobenius(matrix: np.ndarray) -> float:
    """Rounded up: a sum of n^2 squares is off by n^2 u, and none of these is left out by underflow but for `_TINY`."""
    return float(np.linalg.norm(matrix)) * _SLACK + len(matrix) * _TINY
