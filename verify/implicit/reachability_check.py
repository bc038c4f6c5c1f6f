r"""Proves boxes of the states and outputs of x = Phi(A x + B u + b), y = C x + c over boxes of u. No solver.

Let Phi be nondecreasing, let eta prove mu_eta(D A) < 1 over its slopes, so that x exists and is unique, and let

    lower_i <= Phi(a_ii lower_i + min (sum_{j != i} a_ij x_j + B_i u) + b_i)
    upper_i >= Phi(a_ii upper_i + max (sum_{j != i} a_ij x_j + B_i u) + b_i)

over lower <= x <= upper and the box of u. Then x lies in the box for every such u: for small h > 0 entry i of
x + h (Phi(A x + B u + b) - x) is nondecreasing in x_i, hence the box is mapped into itself, and by Brouwer's theorem
holds a fixed point, which is x.

These are one comparison per neuron and side, in double precision for a whole batch by one matrix product, with all
rounding accounted for: |fl(a^T b) - a^T b| <= gamma_k |a|^T |b|. Activations that are not piecewise linear are
evaluated in balls.
"""

import dataclasses

import numpy as np
from netgain.layers.activation import Clip, Elementwise, LeakyRelu, Relu

from ..balls import BALLS, precision
from ..balls import lower as ball_lower
from ..balls import upper as ball_upper
from ..positive_definite import gamma
from .fixed_point_enclosure import slope_bounds
from .weighted_log_norm_check import proves_log_norm

_BITS = 80
# Samples at once, so that the work fits in memory.
_BATCH = 2000
# Covers the rounding of the error bounds themselves, and products that underflow.
_SLACK = 1 + 1e-9
_UNDERFLOW = 2.0**-1000
# The largest log norm that counts as below 1: float64 next to it.
_BELOW_ONE = float(np.nextafter(1.0, 0.0))


@dataclasses.dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes lower <= v <= upper, one per row, two arrays of shape (batch, entries)."""

    lower: np.ndarray
    upper: np.ndarray

    def __post_init__(self) -> None:
        lower, upper = np.asarray(self.lower, dtype=np.float64), np.asarray(self.upper, dtype=np.float64)
        if lower.ndim != 2 or lower.shape != upper.shape or not np.all(lower <= upper):
            raise ValueError("Boxes are two arrays of shape (batch, entries) with lower <= upper everywhere, got the "
                             f"shapes {lower.shape} and {upper.shape}.")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    @classmethod
    def around(cls, centre: np.ndarray, radius: np.ndarray | float, floor: float = -np.inf, ceiling: float = np.inf
               ) -> "Boxes":
        """Boxes that hold all v with |v - centre|_inf <= radius and floor <= v <= ceiling; a radius may go with a row.

        What is cut off lies outside [floor, ceiling]; the centre is kept.
        """
        centre = np.asarray(centre, dtype=np.float64)
        if not np.all(np.asarray(radius) >= 0):
            raise ValueError(f"A radius must not be negative, got {np.min(radius)!r}.")
        reach = np.broadcast_to(np.asarray(radius, dtype=np.float64)[..., None], centre.shape)
        # One rounding each: the neighbour is outside.
        lower = np.where(reach == 0, centre, np.nextafter(centre - reach, -np.inf))
        upper = np.where(reach == 0, centre, np.nextafter(centre + reach, np.inf))
        return cls(np.minimum(np.maximum(lower, floor), centre), np.maximum(np.minimum(upper, ceiling), centre))


def proved_state_boxes(A: np.ndarray, B: np.ndarray, b: np.ndarray, activation: Elementwise, eta: np.ndarray,
                       inputs: Boxes, states: Boxes) -> np.ndarray:
    """For which rows it is proved that x lies in `states` for all u in `inputs`, booleans of shape (batch,).

    **Arguments:** `A`: shape (n, n); `B`: (n, m); `b`, `eta`: (n,).

    **Raises:** `ValueError` for shapes that do not fit, numbers that are not finite, or activations that can decrease.
    """
    A, B, b, eta = (np.asarray(array, dtype=np.float64) for array in (A, B, b, eta))
    n, m = len(b) if b.ndim == 1 else 0, inputs.lower.shape[1]
    if not n or B.shape != (n, m) or states.lower.shape != (len(inputs.lower), n):
        raise ValueError("B, b, the boxes of inputs and of states need the shapes (n, m), (n,), (batch, m) and (batch, "
                         f"n); got {B.shape}, {b.shape}, {inputs.lower.shape} and {states.lower.shape}.")
    if not (np.all(np.isfinite(B)) and np.all(np.isfinite(b))):
        raise ValueError("B and b must be finite.")
    lower, upper = slope_bounds(activation, n)
    if np.min(lower) < 0:
        raise ValueError(f"{activation} can decrease, with slopes down to {float(np.min(lower))!r}; mixed monotonicity "
                         "needs nondecreasing activations.")
    if not proves_log_norm(A, eta, lower, upper, _BELOW_ONE):
        return np.zeros(len(inputs.lower), dtype=bool)
    matrix = np.hstack([A * (1 - np.eye(n)), B])
    own = np.diagonal(A)
    proved = np.empty(len(inputs.lower), dtype=bool)
    for k in range(0, len(proved), _BATCH):
        rows = slice(k, k + _BATCH)
        low, high = states.lower[rows], states.upper[rows]
        ends = (np.hstack(pair) for pair in ((low, inputs.lower[rows]), (high, inputs.upper[rows])))
        least, most = _linear_bounds(matrix, *ends)
        below = _sum_below(low * own, b, least)
        above = -_sum_below(-(high * own), -b, -most)
        holds = (low <= activation_values(activation, below)[0]) & (high >= activation_values(activation, above)[1])
        proved[rows] = np.all(holds, axis=1)
    return proved


def linear_image(matrix: np.ndarray, offset: np.ndarray, boxes: Boxes) -> Boxes:
    """Boxes that hold matrix @ v + offset for all v in the boxes, proved."""
    matrix, offset = np.asarray(matrix, dtype=np.float64), np.asarray(offset, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != boxes.lower.shape[1] or offset.shape != (len(matrix),):
        raise ValueError(f"The boxes have {boxes.lower.shape[1]} entries, the matrix and the offset the shapes "
                         f"{matrix.shape} and {offset.shape}.")
    least, most = _linear_bounds(matrix, boxes.lower, boxes.upper)
    zero = np.zeros_like(least)
    return Boxes(_sum_below(zero, offset, least), -_sum_below(zero, -offset, -most))


def margins(C: np.ndarray, c: np.ndarray, states: Boxes, labels: np.ndarray) -> np.ndarray:
    """Lower bounds, proved, of y_label - y_j over the boxes of x, shape (batch, q); infinite at the label.

    The rows C_label - C_j are formed before the bound is taken, so that what outputs have in common cancels.
    """
    C, c, labels = np.asarray(C, dtype=np.float64), np.asarray(c, dtype=np.float64), np.asarray(labels)
    if labels.shape != (len(states.lower),) or len(C) < 2 or not np.all((labels >= 0) & (labels < len(C))):
        raise ValueError(f"Each of {len(states.lower)} samples needs a label from 0 to {len(C) - 1}, and there must be "
                         f"two outputs at least; got labels of shape {labels.shape}.")
    result = np.full((len(labels), len(C)), np.inf)
    for label in np.unique(labels):
        rows, others = labels == label, np.arange(len(C)) != label
        boxes = Boxes(states.lower[rows], states.upper[rows])
        difference, offset = C[label] - C[others], c[label] - c[others]
        # A difference of two float64 is off by half a unit in its last place.
        doubt = np.nextafter(np.abs(difference) * 2.0**-52, np.inf)
        image = linear_image(difference, offset, boxes).lower
        size = np.maximum(np.abs(boxes.lower), np.abs(boxes.upper))
        lost = (size @ doubt.T * (1 + 1e-6) + _UNDERFLOW) + np.nextafter(np.abs(offset) * 2.0**-52, np.inf)
        result[np.ix_(rows, others)] = np.nextafter(image - np.nextafter(lost, np.inf), -np.inf)
    return result


def _linear_bounds(matrix: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Below and above matrix @ v for all lower <= v <= upper, row by row."""
    positive, negative = np.maximum(matrix, 0), np.minimum(matrix, 0)
    parts = np.hstack([positive, negative]).T
    outer = [np.hstack(pair) for pair in ((lower, upper), (upper, lower))]
    with np.errstate(over="ignore", invalid="ignore"):
        middle = [pair @ parts for pair in outer]
        size = np.maximum(np.abs(lower), np.abs(upper)) @ np.abs(matrix).T
        error = (gamma(2 * matrix.shape[1] + 8) * size + _UNDERFLOW) * _SLACK
        return middle[0] - error, middle[1] + error


def _sum_below(product: np.ndarray, offset: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Below (exact product) + offset + rest, where `product` is one product of two float64, rounded."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(product) + np.abs(offset) + np.abs(rest)
        return np.asarray(product + offset + rest - (gamma(8) * size + _UNDERFLOW) * _SLACK)


def activation_values(activation: Elementwise, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Phi(v) from below and from above; NaN where v is not finite."""
    if isinstance(activation, Relu | Clip):  # comparisons only: exact
        exact = np.asarray(activation.value(v))
        return exact, exact
    if isinstance(activation, LeakyRelu):  # one product: its neighbours are outside
        value = np.asarray(activation.value(v))
        return np.where(v < 0, np.nextafter(value, -np.inf), value), np.where(v < 0, np.nextafter(value, np.inf), value)
    finite = np.isfinite(v)
    with precision(_BITS):
        balls = activation.value(BALLS.constant(np.where(finite, v, 0.0)), BALLS)
        below, above = (np.asarray(np.frompyfunc(end, 1, 1)(balls), dtype=np.float64)
                        for end in (ball_lower, ball_upper))
    return np.where(finite, below, np.nan), np.where(finite, above, np.nan)
