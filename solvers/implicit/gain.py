r"""l_inf gains from u to y of x = Phi(A x + B u + b), y = C x: formulas, and the exact value for few neurons.

For increments (I - D A) dx = D B du, with D in [0, I] unless slopes are given. With A^M the Metzler majorant of A:

- weighted norms: |C|_{eta -> inf} |B|_{inf -> eta} / (1 - max(mu_eta(A), 0)) (arXiv 2106.03194); mu_eta(A) itself may
  stand there, as d / (1 - d a_ii) <= 1 / (1 - a_ii);
- M-matrix: |dx| <= (I - A^M)^{-1} |B| |du| entrywise, which is at most the former for every eta. For other slopes
  |dx_i| <= g_i (sum_{j != i} |a_ij| |dx_j| + |B_i| |du|) with g_i the largest |d| / (1 - d a_ii), taken at an end of
  the slope interval, as d / (1 - d a_ii) grows with d;
- absolute values: the same with |A| in place of A^M (El Ghaoui et al. 2021), larger again, where it exists;
- exact: the gain of C (I - D A)^{-1} D B is largest at a vertex D, as each entry is monotone in each slope.
"""

import itertools

import numpy as np
from scipy.optimize import linprog, minimize_scalar

from .weighted_log_norm import (
    Array,
    SlopeBox,
    least_log_norm,
    metzler_majorant,
    positive_weights,
    square,
    weighted_log_norm,
)

MOST_ENUMERATED = 16


def _network(A: Array, B: Array, C: Array) -> tuple[Array, Array, Array]:
    A, B, C = square(A), np.asarray(B, dtype=np.float64), np.asarray(C, dtype=np.float64)
    n = len(A)
    if B.ndim != 2 or C.ndim != 2 or len(B) != n or C.shape[1] != n:
        raise ValueError(f"B and C must have the shapes ({n}, m) and (q, {n}), got {B.shape} and {C.shape}.")
    return A, B, C


def weighted_gain(A: Array, B: Array, C: Array, eta: Array, signed: bool = True) -> float:
    """|C| |B| / (1 - mu_eta(A)) in the weighted norm; with `signed` false, of the positive part of mu_eta(A).

    Infinite if mu_eta(A) >= 1.
    """
    A, B, C = _network(A, B, C)
    eta = positive_weights(eta, len(A))
    log_norm = weighted_log_norm(A, eta)
    if not log_norm < 1:
        return np.inf
    norms = float(np.max(np.abs(B).sum(1) / eta) * np.max(np.abs(C) @ eta))
    return norms / (1 - (log_norm if signed else max(log_norm, 0.0)))


def least_weighted_gain(A: Array, B: Array, C: Array, signed: bool = True) -> tuple[float, Array]:
    """The least :func:`weighted_gain` over eta, and that eta; by a linear program for each level g of mu_eta(A).

    The program min t over A^M eta <= g eta, |B| 1 <= eta, |C| eta <= t is convex in g, so its value over 1 - g is
    quasiconvex and a search finds its minimum.

    **Raises:** `ValueError` if no weights have mu_eta(A) < 1.
    """
    A, B, C = _network(A, B, C)
    found = least_log_norm(A)
    if not found.value < 1:
        raise ValueError(f"The least mu_eta(A) found is {found.value!r}; this formula needs one below 1.")
    inputs = np.abs(B).sum(1)
    floor = np.maximum(inputs, 1e-9 * max(float(inputs.max()), 1e-300))
    candidates = [found.weights, np.linalg.solve(np.eye(len(A)) - metzler_majorant(A), floor)]

    def level(g: float) -> float:
        rows = np.vstack([np.hstack([metzler_majorant(A) - g * np.eye(len(A)), np.zeros((len(A), 1))]),
                          np.hstack([np.abs(C), -np.ones((len(C), 1))])])
        program = linprog(np.append(np.zeros(len(A)), 1.0), A_ub=rows, b_ub=np.zeros(len(rows)),
                          bounds=[*((low, None) for low in floor), (0, None)])
        if program.status != 0:
            return np.inf
        candidates.append(program.x[:-1])
        return float(program.fun) / (1 - g)

    lowest = found.value if signed else max(found.value, 0.0)
    minimize_scalar(level, bounds=(lowest, 1.0), method="bounded", options={"xatol": 1e-7 * (1 - lowest)})
    level(lowest)
    gains = [weighted_gain(A, B, C, eta, signed) if np.all(eta > 0) else np.inf for eta in candidates]
    best = int(np.argmin(gains))
    return gains[best], candidates[best]


def majorant_gain(A: Array, B: Array, C: Array, slopes: SlopeBox | None = None) -> tuple[float, Array]:
    """The M-matrix bound and z = (I - A^M)^{-1} |B| 1, which |dx| does not exceed for |du| <= 1.

    **Raises:** `ValueError` if I - A^M, or its counterpart for the slopes, is no nonsingular M-matrix.
    """
    A, B, C = _network(A, B, C)
    if slopes is None:
        return _resolvent_gain(metzler_majorant(A), B, C, "the Metzler majorant of A")
    if slopes.neurons != len(A):
        raise ValueError(f"A has {len(A)} rows and the slopes are of {slopes.neurons} neurons.")
    diagonal = np.diagonal(A)
    room = np.stack([1 - slopes.lower * diagonal, 1 - slopes.upper * diagonal])
    if not np.all(room > 0):
        raise ValueError(f"Neuron {int(np.argmin(np.min(room, axis=0)))} alone is not well-posed: 1 - d a_ii is not "
                         "positive for all of its slopes d.")
    largest = np.max(np.abs(np.stack([slopes.lower, slopes.upper])) / room, axis=0)
    beside = np.abs(A)
    np.fill_diagonal(beside, 0.0)
    return _resolvent_gain(largest[:, None] * beside, largest[:, None] * B, C, "the majorant for these slopes")


def absolute_gain(A: Array, B: Array, C: Array) -> tuple[float, Array]:
    """The same with |A|.

    **Raises:** `ValueError` if the spectral radius of |A| is not below 1.
    """
    A, B, C = _network(A, B, C)
    return _resolvent_gain(np.abs(A), B, C, "|A|")


def _resolvent_gain(majorant: Array, B: Array, C: Array, name: str) -> tuple[float, Array]:
    if not float(np.max(np.linalg.eigvals(majorant).real)) < 1:
        raise ValueError(f"The spectral abscissa of {name} is not below 1, so this bound does not exist.")
    z = np.maximum(np.linalg.solve(np.eye(len(majorant)) - majorant, np.abs(B).sum(1)), 0.0)
    return float(np.max(np.abs(C) @ z)), z


def exact_gain(A: Array, B: Array, C: Array, order: float = np.inf, slopes: SlopeBox | None = None
               ) -> tuple[float, Array]:
    """The largest norm of C (I - D A)^{-1} D B over the vertices D, and that d; exact for the l_inf norm.

    For `order` 2 it is what some slopes reach: a lower bound of what any method based on slopes can prove.

    **Raises:** `ValueError` for more than 16 neurons, or if I - D A is singular for a vertex.
    """
    A, B, C = _network(A, B, C)
    if len(A) > MOST_ENUMERATED:
        raise ValueError(f"All 2^n vertices are enumerated for n <= {MOST_ENUMERATED}, got n = {len(A)}.")
    best, found = -1.0, np.zeros(len(A))
    box = SlopeBox.uniform(len(A)) if slopes is None else slopes
    for ends in itertools.product(*zip(box.lower, box.upper, strict=True)):
        d = np.array(ends)
        try:
            gain = float(np.linalg.norm(C @ np.linalg.solve(np.eye(len(A)) - d[:, None] * A, d[:, None] * B), order))
        except np.linalg.LinAlgError as error:
            raise ValueError(f"I - D A is singular for the slopes {ends}: the network is not well-posed.") from error
        if gain > best:
            best, found = gain, d
    return best, found
