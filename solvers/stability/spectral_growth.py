r"""Searches for slopes under which x+ = x + h s(A x + ..) grows: frozen slopes, and patterns repeated in turn.

J(D) = I + h D A. The spectral radius of a single J(D) is the growth at frozen slopes; that of a product J(D_m) ..
J(D_1), to the power 1/m, is the growth when the patterns alternate. Both bound from below every rate that a norm can
show for all slopes. The second may exceed the first, and 1, while every frozen radius is below 1.

What is found is a local maximum: no statement is made of what was not found.
"""

import dataclasses
import math
import time

import numpy as np

from ..contractivity.logarithmic_norm import Array


@dataclasses.dataclass(frozen=True, eq=False)
class Growth:
    """`value`: rho(J(D_m) .. J(D_1))^(1/m), in floating point; `patterns`: the slopes D_1, .., D_m, shape (m, n)."""

    value: float
    patterns: Array


def jacobian(weights: Array, step: float, slopes: Array) -> Array:
    """I + h diag(slopes) A; leading axes of `slopes` are kept."""
    return np.asarray(np.eye(len(weights)) + step * slopes[..., :, None] * weights)


def growth_of(weights: Array, step: float, patterns: Array) -> float:
    """rho of the product of J(D_1), .., J(D_m), the last on the left, to the power 1/m."""
    product = np.eye(len(weights))
    for slopes in patterns:
        product = jacobian(weights, step, slopes) @ product
    radius = float(np.max(np.abs(np.linalg.eigvals(product))))
    return float(radius ** (1 / len(patterns)))


def frozen_growth(
    weights: Array, step: float, lower: float, upper: float, starts: int = 20, seed: int = 0,
    seconds: float = math.inf,
) -> Growth:
    r"""A local maximum of the spectral radius over the box, by ascent from the two corners and random vertices.

    For a simple eigenvalue with right and left vectors x and w, d lambda / d d_i = h conj(w_i) (A x)_i / (w^* x). Each
    step goes to the vertex that the gradient of |lambda| points to, or half or a tenth of the way; where none of these
    is better, single slopes are flipped. `seconds`: after which it ends with the best so far.
    """
    end = time.perf_counter() + seconds
    rng, n = np.random.default_rng(seed), len(weights)
    first = [np.full(n, upper), np.full(n, lower)]
    candidates = first + [rng.choice((lower, upper), n) for _ in range(starts)]
    best = Growth(-np.inf, np.empty((1, n)))
    for start in candidates:
        found = _ascended(weights, step, lower, upper, start, end)
        if found.value > best.value:
            best = found
        if time.perf_counter() > end:
            break
    return best


def alternating_growth(
    weights: Array, step: float, lower: float, upper: float, longest: int = 8, starts: int = 10, seed: int = 0,
    seconds: float = math.inf,
) -> Growth:
    """The greatest growth among windows of trajectories whose slopes are chosen so as to grow, and frozen slopes.

    From a random state e each step takes the vertex that makes |e + h D A e|_W largest, neuron by neuron, for the norm
    with random diagonal weights W; windows of up to `longest` patterns of the later part are the candidates.
    `seconds`: after which it ends with the best so far.
    """
    end = time.perf_counter() + seconds
    rng, n = np.random.default_rng(seed), len(weights)
    best = frozen_growth(weights, step, lower, upper, starts, seed, seconds / 2)
    for _ in range(starts):
        state, scale, patterns = rng.standard_normal(n), np.exp(rng.normal(0, 1, n)), []
        for _ in range(10 * longest):
            change = step * (weights @ state)
            ahead = np.abs(state + upper * change) >= np.abs(state + lower * change)
            # Now and then another choice, as the greedy one may lead into a cycle that is not the worst.
            ahead ^= rng.uniform(size=n) < 0.1
            slopes = np.where(ahead, upper, lower)
            state = state + slopes * change
            size = float(np.linalg.norm(scale * state))
            state = state / size if size > 0 else rng.standard_normal(n)
            patterns.append(slopes)
        sequence = np.array(patterns)
        for length in range(2, longest + 1):
            for begin in range(len(sequence) - length + 1):
                if time.perf_counter() > end:
                    return best
                window = sequence[begin : begin + length]
                value = growth_of(weights, step, window)
                if value > best.value * (1 + 1e-12):
                    best = Growth(value, window)
    return best


def _ascended(weights: Array, step: float, lower: float, upper: float, slopes: Array, end: float) -> Growth:
    value = growth_of(weights, step, slopes[None])
    while True:
        target = np.where(_gradient(weights, step, slopes) > 0, upper, lower)
        candidates = [target]
        candidates += [np.clip(slopes + share * (target - slopes), lower, upper) for share in (0.5, 0.1)]
        for place in range(len(slopes)):
            flipped = slopes.copy()
            flipped[place] = lower if slopes[place] == upper else upper
            candidates.append(flipped)
        for candidate in candidates:
            if time.perf_counter() > end:
                return Growth(value, slopes[None])
            there = growth_of(weights, step, candidate[None])
            if there > value * (1 + 1e-12) + 1e-300:
                slopes, value = candidate, there
                break
        else:
            return Growth(value, slopes[None])


def _gradient(weights: Array, step: float, slopes: Array) -> Array:
    """The gradient of |lambda| for an eigenvalue of largest modulus; where it is defective, some direction."""
    matrix = jacobian(weights, step, slopes)
    values, right = np.linalg.eig(matrix)
    top = int(np.argmax(np.abs(values)))
    lefts, left = np.linalg.eig(matrix.T)
    x, w = right[:, top], left[:, int(np.argmin(np.abs(lefts - values[top])))]
    rate = step * w * (weights @ x)  # w^T is the left vector of the transposed problem, without conjugation
    return np.asarray((np.conj(values[top]) * rate * np.conj(w @ x)).real)
