r"""The weighted l_inf logarithmic norm of D A over slopes D, and the weights that make it least.

For eta > 0 let |x|_eta = max_i |x_i| / eta_i. The logarithmic norm it induces is

    mu_eta(A) = max_i (a_ii + sum_{j != i} |a_ij| eta_j / eta_i).

Row i of D A with D = diag(d) contributes d_i a_ii + |d_i| sum_{j != i} |a_ij| eta_j / eta_i, which is convex in d_i, so
over slopes lower_i <= d_i <= upper_i the largest value is taken with every d_i at an end of its interval, row by row.
If it is below 1, x = Phi(A x + c) has exactly one solution for every c and every diagonal Phi with these slopes
(Jafarpour, Davydov, Proskurnikov, Bullo, arXiv 2106.03194, where the slopes lie in [0, 1]).

The least value over eta is the spectral abscissa of the Metzler majorant (diagonal kept, absolute values beside it),
and a positive Perron vector attains it. As each row chooses its end by itself, the least value over eta of the largest
value over slopes is the largest abscissa of any choice, and policy iteration finds the choice: the abscissa of any one
choice bounds it from below, mu_eta of any one eta from above.
"""

import dataclasses
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

# Couples all entries of a reducible majorant, relative to its largest: the price of a positive Perron vector.
_COUPLING = 1e-10
_MOST_POLICIES = 100
_RELATIVE = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class SlopeBox:
    """lower_i <= d_i <= upper_i, arrays of shape (n,).

    **Raises:** `ValueError` for shapes that differ, bounds that are not finite, or an empty interval.
    """

    lower: Array
    upper: Array

    def __post_init__(self) -> None:
        lower, upper = np.asarray(self.lower, dtype=np.float64), np.asarray(self.upper, dtype=np.float64)
        if lower.ndim != 1 or lower.shape != upper.shape:
            raise ValueError("`lower` and `upper` must be vectors of one length, one entry per neuron; got the shapes "
                             f"{lower.shape} and {upper.shape}.")
        if not (np.all(np.isfinite(lower)) and np.all(np.isfinite(upper)) and np.all(lower <= upper)):
            wrong = np.flatnonzero(~(np.isfinite(lower) & np.isfinite(upper) & (lower <= upper)))
            raise ValueError(f"Slopes need finite lower <= upper; neuron {wrong[0]} has "
                             f"[{lower[wrong[0]]!r}, {upper[wrong[0]]!r}].")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    @classmethod
    def uniform(cls, neurons: int, lower: float = 0.0, upper: float = 1.0) -> "SlopeBox":
        """The same interval for every neuron; [0, 1] for ReLU, tanh and others."""
        return cls(np.full(neurons, lower), np.full(neurons, upper))

    @property
    def neurons(self) -> int:
        return len(self.lower)


def square(A: Array) -> Array:
    """A as float64.

    **Raises:** `ValueError` unless it is square, not empty and finite.
    """
    A = np.asarray(A, dtype=np.float64)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not A.size:
        raise ValueError(f"A of x = Phi(A x + B u + b) must be a square matrix, got the shape {A.shape}.")
    if not np.all(np.isfinite(A)):
        raise ValueError(f"A holds numbers that are not finite: {int(np.sum(~np.isfinite(A)))} of {A.size}.")
    return A


def positive_weights(eta: Array, neurons: int) -> Array:
    """eta as float64.

    **Raises:** `ValueError` unless it has shape (neurons,) and positive finite entries.
    """
    eta = np.asarray(eta, dtype=np.float64)
    if eta.shape != (neurons,) or not np.all((eta > 0) & (eta < np.inf)):
        raise ValueError(f"Weights eta must be {neurons} positive finite numbers (the norm is max |x_i| / eta_i), got "
                         f"the shape {eta.shape}" + (f" with minimum {eta.min()!r}." if eta.size else "."))
    return eta


def metzler_majorant(A: Array) -> Array:
    """A with absolute values off the diagonal."""
    result = np.abs(A)
    np.fill_diagonal(result, np.diagonal(A))
    return result


def weighted_log_norm(A: Array, eta: Array) -> float:
    """mu_eta(A), in floating point."""
    A = square(A)
    eta = positive_weights(eta, len(A))
    return float(np.max(metzler_majorant(A) @ eta / eta))


def weighted_norm(A: Array, eta: Array) -> float:
    """|A|_eta = max_i sum_j |a_ij| eta_j / eta_i, in floating point."""
    A = square(A)
    eta = positive_weights(eta, len(A))
    return float(np.max(np.abs(A) @ eta / eta))


def largest_log_norm(A: Array, eta: Array, slopes: SlopeBox) -> float:
    """The largest mu_eta(D A) over D within the slopes, in floating point; attained by the ends of the intervals."""
    A = square(A)
    return float(np.max(_by_end(A, positive_weights(eta, len(A)), slopes)))


def _by_end(A: Array, eta: Array, slopes: SlopeBox) -> Array:
    """What each row contributes with d_i = lower_i and with d_i = upper_i, shape (2, n)."""
    if slopes.neurons != len(A):
        raise ValueError(f"A has {len(A)} rows and the slopes are of {slopes.neurons} neurons.")
    diagonal = np.diagonal(A)
    with np.errstate(over="ignore"):
        beside = (np.abs(A) @ eta - np.abs(diagonal) * eta) / eta
    ends = np.stack([slopes.lower, slopes.upper])
    with np.errstate(over="ignore", invalid="ignore"):
        rows = ends * diagonal + np.abs(ends) * np.maximum(beside, 0)
    return np.where(np.isnan(rows), np.inf, rows)  # beyond float64: no bound


@dataclasses.dataclass(frozen=True, eq=False)
class LeastLogNorm:
    """inf over eta of the largest mu_eta(D A), enclosed in floating point.

    **Attributes:** `value`: the largest mu_eta(D A) for `weights`, an upper bound of the infimum; `below`: the spectral
    abscissa of the majorant of one D, a lower bound: no weights give less; `weights`: eta, largest entry 1.
    """

    value: float
    below: float
    weights: Array


def least_log_norm(A: Array, slopes: SlopeBox | None = None) -> LeastLogNorm:
    """The weights that make the largest mu_eta(D A) over the slopes least; without slopes, mu_eta(A) itself.

    Where the majorant is reducible the infimum need not be attained; weights come within about 1e-10 of its scale.
    """
    A = square(A)
    n = len(A)
    slopes = SlopeBox.uniform(n, 1.0, 1.0) if slopes is None else slopes
    chosen = np.argmax(_by_end(A, np.ones(n), slopes), axis=0)
    best: LeastLogNorm | None = None
    below = -np.inf
    for _ in range(_MOST_POLICIES):
        d = np.where(chosen == 1, slopes.upper, slopes.lower)
        majorant = metzler_majorant(d[:, None] * A)
        abscissa, eta = _perron(majorant)
        below = max(below, abscissa)
        rows = _by_end(A, eta, slopes)
        value = float(np.max(rows))
        if best is None or value < best.value:
            best = LeastLogNorm(value, below, eta)
        here = np.where(chosen == 1, rows[1], rows[0])
        better = np.max(rows, axis=0) > here + _RELATIVE * max(1.0, float(np.max(np.abs(here))))
        if not np.any(better):
            break
        chosen = np.where(better, 1 - chosen, chosen)
    assert best is not None
    return dataclasses.replace(best, below=min(below, best.value))


def _perron(majorant: Array) -> tuple[float, Array]:
    """The spectral abscissa of a Metzler matrix, and positive weights eta with majorant @ eta close to below it."""
    abscissa, eta = _right_vector(majorant)
    scale = float(np.max(np.abs(majorant)))
    if eta is None or np.max(majorant @ eta / eta) > abscissa + 1e-8 * max(scale, 1e-300):
        coupled = majorant + _COUPLING * max(scale, 1e-300) / len(majorant)
        other = _right_vector(coupled)[1]
        candidates = [eta, other, np.ones(len(majorant))]
        eta = min((c for c in candidates if c is not None), key=lambda c: float(np.max(majorant @ c / c)))
    return abscissa, eta


def _right_vector(majorant: Array) -> tuple[float, Array | None]:
    """The spectral abscissa, and the Perron vector with largest entry 1 if it comes out positive."""
    values, vectors = np.linalg.eig(majorant)
    vector = np.abs(vectors[:, np.argmax(values.real)].real)
    largest = np.max(vector)
    positive = largest > 0 and np.min(vector) > 1e-14 * largest
    return float(np.max(values.real)), vector / largest if positive else None
