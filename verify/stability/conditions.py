r"""NAIS-Net's sufficient conditions for x+ = x + h s(A x + B u + C), decided on the weights as they are stored.

Two solutions with the same u differ by e+ = (I + h D A) e, D = diag(d), with slopes d_i of s in [lower, upper]. The
rates below bound ||I + h D A|| in one norm for all D at once, so they hold along trajectories, for other D in each
step, which a spectral radius below 1 for every frozen D does not give.

- A = -P symmetric and negative definite: in the norm of P, I + h D A is similar to I - h P^{1/2} D P^{1/2}, symmetric
  with eigenvalues in [1 - h upper lambda_max(P), 1 - h lower lambda_min(P)] for lower >= 0.
- Any A, in the norm max_i |x_i| / eta_i: row i gives |1 + h d_i a_ii| + h |d_i| sum_{j != i} |a_ij| eta_j / eta_i,
  convex in d_i, so greatest at an end. This is the exact supremum.

A rate below 1 is a contraction: for every u one equilibrium, reached from everywhere. ReLU and tanh have the lower
slope 0, where D = 0 gives I and no rate is below 1. A rate of at most 1 then says that no two trajectories with the
same u move apart, in that norm; see `Asymptotics` for what follows.

Source: Ciccone et al., arXiv 1804.07209. Rationals and balls, rounded outwards; no solver.
"""

import dataclasses
import enum
import math
from fractions import Fraction

import numpy as np
from flint import arb

from ..balls import precision
from ..enclosed_matrix import BALLS, DOUBLE, M, Matrices

_BITS = 128


class Asymptotics(enum.Enum):
    """What a proved rate means for the trajectories of a constant input."""

    CONTRACTION = (
        "Any two trajectories approach each other at the rate; there is exactly one equilibrium, reached from anywhere."
    )
    NONEXPANSIVE = (
        "No two trajectories move apart, in the norm named; nothing is said of a rate. With a slope of zero this is "
        "the best possible: an inactive unit keeps its state. With ReLU the equilibria are all x with A x + B u + C "
        "<= 0, and which one is reached depends on the start; with tanh and A invertible there is only -A^{-1} (B u + "
        "C)."
    )
    NOT_SHOWN = "The norm named may grow in a step, so this condition shows nothing; another metric may."

    @classmethod
    def of(cls, rate: float) -> "Asymptotics":
        if rate < 1:
            return cls.CONTRACTION
        return cls.NONEXPANSIVE if rate == 1 else cls.NOT_SHOWN


@dataclasses.dataclass(frozen=True)
class SlopeBox:
    """x+ = x + step s(A x + ..) with every slope of s in [lower, upper].

    **Raises:** `ValueError` unless step > 0 and the interval is finite and not empty.
    """

    step: float
    lower: float
    upper: float

    def __post_init__(self) -> None:
        if not (0 < self.step < math.inf and -math.inf < self.lower <= self.upper < math.inf):
            raise ValueError("A slope box needs a finite step > 0 and finite lower <= upper; "
                             f"got step = {self.step!r}, [{self.lower!r}, {self.upper!r}].")
        for name in ("step", "lower", "upper"):  # integers and numpy's scalars are welcome
            object.__setattr__(self, name, float(getattr(self, name)))


@dataclasses.dataclass(frozen=True)
class FullyConnectedConditions:
    """Of A = -R^T R - eps I as stored.

    **Attributes:** `symmetric`: A equals A^T in every bit; `negative_definite`: proved that P = -A > 0 on its symmetric
    part; `least`, `greatest`: proved lambda_min(P) >= least and lambda_max(P) <= greatest, of the symmetric part of P;
    `in_frobenius_ball`: ||A + eps I||_F <= 1 - 2 eps in exact arithmetic; `step_in_range`: 0 < h <= 1; `rate`: proved
    ||I + h D A||_P <= rate for every D of the box, infinite if A is not symmetric or not shown negative definite;
    `converges`: every trajectory of a constant input has a limit, for every s with s(0) = 0 and slopes in the box. The
    limit may depend on the start. It is shown for slopes in [0, upper] with h upper lambda_max(P) < 2: -s(-P x + c)
    is then 1 / (upper lambda_max(P))-cocoercive in the inner product of P, so the step is an averaged operator
    (Krasnoselskii and Mann), and P^{-1} c is one of its fixed points.
    """

    symmetric: bool
    negative_definite: bool
    least: float
    greatest: float
    in_frobenius_ball: bool
    step_in_range: bool
    rate: float
    converges: bool

    @property
    def satisfied(self) -> bool:
        """Whether the paper's conditions hold, with A < 0 for A <= -eps I: float64 may leave the latter by an ulp."""
        return self.symmetric and self.negative_definite and self.in_frobenius_ball and self.step_in_range

    @property
    def asymptotics(self) -> Asymptotics:
        return Asymptotics.of(self.rate)


def fully_connected_conditions(weights: np.ndarray, epsilon: float, box: SlopeBox) -> FullyConnectedConditions:
    """Decides the fully connected conditions for A in `weights`, shape (n, n).

    The eigenvalue bounds are as close as about 1e-12 lambda_max. The Frobenius ball is that of the matrix stored.

    **Raises:** `ValueError` for another shape, numbers that are not finite, or epsilon outside (0, 1/2).
    """
    _require_square(weights)
    if not 0 < epsilon < 0.5:
        raise ValueError(f"`epsilon` must lie in (0, 1/2); got {epsilon!r}.")
    symmetric = bool(np.array_equal(weights, weights.T))
    least, greatest = _eigenvalue_bounds(weights)
    negative = least > 0
    with precision(_BITS):
        shifted = BALLS.exact(weights) + BALLS.diagonal(np.full(len(weights), epsilon))
        squares = sum((entry**2 for entry in shifted.entries()), arb(0))
        in_ball = bool(squares <= (1 - 2 * arb(epsilon)) ** 2)
    rate = _symmetric_rate(least, greatest, box) if symmetric and negative else math.inf
    averaged = Fraction(box.step) * Fraction(box.upper) * _fraction(greatest) < 2 and box.lower >= 0
    return FullyConnectedConditions(
        symmetric, negative, least, greatest, in_ball, box.step <= 1, rate, symmetric and negative and averaged
    )


@dataclasses.dataclass(frozen=True)
class ConvolutionalConditions:
    """Of a kernel as stored; one entry per output channel.

    **Attributes:** `centre`: -1 - delta_c; `centre_in_range`: |delta_c| <= 1 - eta; `others`: the sum of moduli of the
    other taps, rounded up; `others_in_range`: that sum is at most 1 - eps - |delta_c|; `step_in_range`: 0 < h <= 1;
    `rate`: proved ||I + h D A||_inf <= rate for every D of the box, for images of any size, zero or circular padding.
    """

    centre: np.ndarray
    centre_in_range: np.ndarray
    others: np.ndarray
    others_in_range: np.ndarray
    step_in_range: bool
    rate: float

    @property
    def satisfied(self) -> bool:
        """Whether the paper's conditions hold."""
        return bool(np.all(self.centre_in_range) and np.all(self.others_in_range)) and self.step_in_range

    @property
    def asymptotics(self) -> Asymptotics:
        return Asymptotics.of(self.rate)


def convolutional_conditions(
    kernel: np.ndarray, epsilon: float, eta: float, box: SlopeBox
) -> ConvolutionalConditions:
    """Decides the convolutional conditions in rational arithmetic.

    **Arguments:** `kernel`: shape (channels, channels, *taps) in the order out, in, extents odd.

    **Raises:** `ValueError` for another shape, numbers that are not finite, or unless 0 < epsilon < eta < 1.
    """
    odd = kernel.ndim >= 3 and all(extent % 2 for extent in kernel.shape[2:])
    if not odd or kernel.shape[0] != kernel.shape[1] or not _finite(kernel):
        raise ValueError("The kernel needs finite float64 numbers in the shape (channels, channels, *taps), extents of "
                         f"the taps odd; got {kernel.shape} of type {kernel.dtype}.")
    if not 0 < epsilon < eta < 1:
        raise ValueError(f"The conditions need 0 < epsilon < eta < 1; got epsilon = {epsilon!r}, eta = {eta!r}.")
    middle = tuple(extent // 2 for extent in kernel.shape[2:])
    centres = [Fraction(float(kernel[(c, c, *middle)])) for c in range(len(kernel))]
    sums = [
        sum((Fraction(float(tap)) for tap in np.abs(channel).ravel()), Fraction(0)) - abs(centre)
        for channel, centre in zip(kernel, centres, strict=True)
    ]
    deltas = [-1 - centre for centre in centres]
    return ConvolutionalConditions(
        centre=np.array([float(centre) for centre in centres]),
        centre_in_range=np.array([abs(delta) <= 1 - Fraction(eta) for delta in deltas]),
        others=np.array([_rounded_up(total) for total in sums]),
        others_in_range=np.array(
            [total <= 1 - Fraction(epsilon) - abs(delta) for total, delta in zip(sums, deltas, strict=True)]
        ),
        step_in_range=box.step <= 1,
        rate=_rounded_up(max(_row_rate(*row, box) for row in zip(centres, sums, strict=True))),
    )


def infinity_rate(weights: np.ndarray, box: SlopeBox, scale: np.ndarray | None = None) -> float:
    """max ||I + h D A|| over the box, rounded up, in the norm max_i |x_i| / scale_i; scale 1 if not given.

    **Raises:** `ValueError` unless A is square and finite, and scale positive and finite of fitting length.
    """
    _require_square(weights)
    eta = np.ones(len(weights)) if scale is None else scale
    if eta.shape != (len(weights),) or not _finite(eta) or not np.all(eta > 0):
        raise ValueError(f"`scale` must be {len(weights)} positive float64 numbers; got {eta!r}.")
    exact = [Fraction(float(value)) for value in eta]
    worst = Fraction(0)
    for i, row in enumerate(weights):
        others = sum((abs(Fraction(float(a))) * exact[j] for j, a in enumerate(row) if j != i), Fraction(0)) / exact[i]
        worst = max(worst, _row_rate(Fraction(float(row[i])), others, box))
    return _rounded_up(worst)


def _row_rate(diagonal: Fraction, others: Fraction, box: SlopeBox) -> Fraction:
    """max over both ends d of |1 + h d diagonal| + h |d| others."""
    ends = [Fraction(box.step) * Fraction(end) for end in (box.lower, box.upper)]
    return max(abs(1 + end * diagonal) + abs(end) * others for end in ends)


def _symmetric_rate(least: float, greatest: float, box: SlopeBox) -> float:
    """A bound of |1 - lambda| over the eigenvalues lambda of h P^{1/2} D P^{1/2}, rounded up.

    They lie in h [lower p, upper q], where a slope of either sign meets the eigenvalue of P that makes it extreme.
    """
    h, p, q = Fraction(box.step), Fraction(least), _fraction(greatest)
    low, high = Fraction(box.lower), Fraction(box.upper)
    return _rounded_up(max(1 - h * low * (p if low >= 0 else q), h * high * (q if high >= 0 else p) - 1))


def _eigenvalue_bounds(weights: np.ndarray) -> tuple[float, float]:
    """Proved bounds (least, greatest) of the eigenvalues of the symmetric part of -A."""
    middle = -(weights + weights.T) / 2
    values = np.linalg.eigvalsh(middle)
    size = max(float(np.max(np.abs(values))), 1e-300)

    def holds(bound: float, sign: float, arithmetic: Matrices[M]) -> bool:
        # sign (P - bound I) >= 0 for the symmetric part of the stored matrix; `middle` is rounded.
        matrix = arithmetic.exact(weights)
        part = arithmetic.scaled(matrix + matrix.transpose(), -0.5 * sign)
        shift = arithmetic.diagonal(np.full(len(weights), -sign * bound))
        return arithmetic.semidefinite({(0, 0): part + shift}, 1)

    def proved(bound: float, sign: float) -> bool:
        return holds(bound, sign, DOUBLE) or holds(bound, sign, BALLS)

    least, greatest = -math.inf, math.inf
    with precision(_BITS):
        for margin in (1e-14, 1e-13, 1e-12, 1e-10, 1e-8, 1e-5):
            if least == -math.inf and proved(float(values[0]) - margin * size, 1.0):
                least = float(values[0]) - margin * size
            if greatest == math.inf and proved(float(values[-1]) + margin * size, -1.0):
                greatest = float(values[-1]) + margin * size
    return least, greatest


def _fraction(bound: float) -> Fraction:
    """An upper bound as a rational; one that was not proved is larger than anything it is compared with."""
    return Fraction(bound) if math.isfinite(bound) else Fraction(2) ** 2200


def _rounded_up(value: Fraction) -> float:
    try:
        result = float(value)
    except OverflowError:
        return math.inf
    return result if Fraction(result) >= value else math.nextafter(result, math.inf)


def _finite(array: np.ndarray) -> bool:
    return array.dtype == np.float64 and bool(np.all(np.isfinite(array)))


def _require_square(weights: np.ndarray) -> None:
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or not len(weights) or not _finite(weights):
        raise ValueError("A must be a square matrix of finite float64 numbers; got the shape "
                         f"{weights.shape} and type {weights.dtype}.")
