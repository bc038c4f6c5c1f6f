r"""Feasible multipliers by a formula: one pass over the layers, and exact power-of-two scaling on the way.

The recursion carries Q, the cost-to-go on the cut: a positive definite matrix with (1/rho)|u|^2 >= x^T Q x on the
blocks still needed. Layer k, fed by v = A x, gets the largest-effect scalar multiplier: with F = A Q^{-1} A^T,
delta = beta - alpha and b = max(|alpha|, |beta|), lam = 1 / (delta b ||F||) leaves the new block with
Q >= (1 / (b^2 ||F||)) I, which is the norm bound at worst and better wherever F has smaller eigenvalues.
For slopes [0, 1] on a chain this is ECLipsE-Fast (Xu and Sivaranjani, NeurIPS 2024); cuts extend it to any acyclic
graph, and the formula to any slope interval. An implicit layer starts from a metric that proves it well-posed, scaled.
"""

import dataclasses
import math
import time
from collections.abc import Mapping

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

from .inequality import Inequality, SlopeConstraint, side_by_side
from .loop import Loop
from .result import Limits, OnProgress, Progress, Solution, Status

# Strictly inside the region where the cut's own block stays positive definite when alpha = -beta.
_INTERIOR = 1 - 1e-3
_WORTH_LANCZOS = 400


@dataclasses.dataclass(frozen=True, eq=False)
class Scaled:
    """An inequality in coordinates where the closed-form bound and every layer's gain lie near 1.

    With x_j = 2^exponents[j] times the scaled block and y likewise, a gain in scaled coordinates is multiplied by
    2^output_exponent; powers of two, so nothing is rounded and 500 layers neither over- nor underflow.

    **Attributes:** `inequality`: in scaled coordinates; `start`: multipliers for rho = `bound`^2, one array per layer;
    `metrics`: for each implicit layer, in order, a diagonal metric that proves it well-posed.
    """

    inequality: Inequality
    exponents: tuple[int, ...]
    output_exponent: int
    start: tuple[np.ndarray, ...]
    bound: float
    metrics: tuple[np.ndarray, ...] = ()

    def unscale(self, gain: float) -> float:
        """A scaled gain in the original units.

        **Raises:** `OverflowError` where float64 cannot hold it.
        """
        return math.ldexp(gain, self.output_exponent)


def norm_product(scaled: Scaled) -> float:
    """The bound of composition: gains of layers multiplied along every path and summed over paths (floating point).

    That of an implicit layer is `Loop.gain`.
    """
    gains, metrics = [1.0], iter(scaled.metrics)
    for k, constraint in enumerate(scaled.inequality.constraints, start=1):
        loop = Loop.of(constraint, k)
        steepest = float(max(np.abs(constraint.lower).max(), np.abs(constraint.upper).max()))
        own = steepest if loop is None else loop.gain(next(metrics))
        gains.append(own * sum(_norm(a) * gains[j] for j, a in constraint.maps.items() if j != k))
    return scaled.unscale(float(sum(_norm(c) * gains[j] for j, c in scaled.inequality.output.items())))


def compress(inequality: Inequality) -> Inequality:
    """The same optimum with the input reduced to the row space of the maps that read it, and the output likewise.

    The input enters only through the stacked maps T = Q R^T (thin QR of the transpose), and |u| >= |Q^T u| with
    equality attained, so u may be replaced by Q^T u; the output enters only through C^T C.
    """
    readers = [k for k, constraint in enumerate(inequality.constraints) if 0 in constraint.maps]
    stack = [inequality.constraints[k].maps[0] for k in readers]
    stack += [inequality.output[0]] if 0 in inequality.output else []
    size, output = inequality.input_size, dict(inequality.output)
    constraints = list(inequality.constraints)
    if sum(len(a) for a in stack) < size:
        r = np.asarray(np.linalg.qr(np.concatenate(stack).T, mode="r"))
        pieces = np.split(r.T, np.cumsum([len(a) for a in stack])[:-1])
        size = pieces[0].shape[1]
        for k, piece in zip(readers, pieces, strict=False):
            constraints[k] = dataclasses.replace(constraints[k], maps={**constraints[k].maps, 0: piece})
        if 0 in output:
            output[0] = pieces[-1]
    width = sum(c.shape[1] for c in output.values())
    if width < next(iter(output.values())).shape[0]:
        blocks = sorted(output)
        r = np.asarray(np.linalg.qr(np.concatenate([output[j] for j in blocks], axis=1), mode="r"))
        ends = np.cumsum([output[j].shape[1] for j in blocks])[:-1]
        output = dict(zip(blocks, np.split(r, ends, axis=1), strict=True))
    return Inequality(size, tuple(constraints), output)


def scale(inequality: Inequality) -> Scaled:
    """The closed-form multipliers, and the inequality scaled by powers of two as the recursion goes.

    **Raises:** `NoMetricError` if an implicit layer has no diagonal metric: then no multipliers are feasible.
    """
    sizes, last_use = inequality.sizes, inequality.last_use
    alive, cut = [0], np.eye(inequality.input_size)
    exponents, constraints, start, metrics = [0], [], [], []
    for k, constraint in enumerate(inequality.constraints, start=1):
        loop = Loop.of(constraint, k)
        if loop is not None:
            metric = loop.metric(k)
            metrics.append(metric)
            fed = {j: a for j, a in constraint.maps.items() if j != k}
            a, reference = _stack(fed, alive, exponents, sizes, constraint.rows)
            shift = _half_log2(_largest_eigenvalue(a, cut) * loop.gain(metric) ** 2)
            exponents.append(reference + shift)
            readers = _later_readers(inequality, dataclasses.replace(constraint, maps=fed), k)
            multipliers, cut, alive = _advance_loop(
                cut, alive, np.ldexp(a, -shift), loop, metric, k, last_use, sizes, readers)
            start.append(multipliers)
            fed = {j: np.ldexp(w, exponents[j] - exponents[k]) for j, w in fed.items()}
            constraints.append(dataclasses.replace(constraint, maps={**fed, k: loop.matrix}))
            continue
        a, reference = _stack(constraint.maps, alive, exponents, sizes, constraint.rows)
        gain = _largest_eigenvalue(a, cut)
        low, high = float(constraint.lower.min()), float(constraint.upper.max())
        delta, steepest = high - low, max(abs(low), abs(high))
        shift = _half_log2(gain * steepest**2)
        a, gain = np.ldexp(a, -shift), math.ldexp(gain, -2 * shift)
        exponents.append(reference + shift)
        multiplier = 1.0 / (delta * steepest * gain) if gain > 0 else 1.0
        if low < 0 < high:
            # Slopes of both signs take their share of the cut they read; later readers need theirs.
            taken = -2 * low * high / (delta * steepest)
            multiplier *= _INTERIOR * min(1.0, 1 / (taken * (1 + _later_readers(inequality, constraint, k))))
        start.append(np.full(constraint.groups, multiplier))
        maps = {j: np.ldexp(w, exponents[j] - exponents[k]) for j, w in constraint.maps.items()}
        constraints.append(dataclasses.replace(constraint, maps=maps))
        cut, alive = _advance(cut, alive, a, multiplier, constraint, k, last_use, sizes)
    c, reference = _stack(inequality.output, alive, exponents, sizes, inequality.output_size)
    gain = _largest_eigenvalue(c, cut)
    shift = _half_log2(gain)
    output_exponent, rho = reference + shift, math.ldexp(gain, -2 * shift)
    output = {j: np.ldexp(w, exponents[j] - output_exponent) for j, w in inequality.output.items()}
    scaled = Inequality(inequality.input_size, tuple(constraints), output)
    return Scaled(scaled, tuple(exponents), output_exponent, tuple(lam * rho for lam in start), math.sqrt(rho),
                  tuple(metrics))


def _later_readers(inequality: Inequality, constraint: SlopeConstraint, k: int) -> int:
    """How often, at most, a block that layer k reads is read again after it."""
    later = [set(other.maps) for other in inequality.constraints[k:]] + [set(inequality.output)]
    return max(sum(j in read for read in later) for j in constraint.maps)


def _stack(
    maps: Mapping[int, np.ndarray], blocks: list[int], exponents: list[int], sizes: tuple[int, ...], rows: int
) -> tuple[np.ndarray, int]:
    """The maps side by side over the cut's blocks, in scaled coordinates divided by a power of two; its exponent."""
    reference = max(exponents[j] for j in maps)
    scaled = {j: np.ldexp(a, exponents[j] - reference) for j, a in maps.items()}
    return side_by_side(scaled, blocks, sizes, rows), reference


def _largest_eigenvalue(a: np.ndarray, cut: np.ndarray) -> float:
    """||A Q^{-1} A^T||.

    **Raises:** `OverflowError` if it is no float64.
    """
    factor = scipy.linalg.cholesky(cut, lower=True)
    value = _norm(scipy.linalg.solve_triangular(factor, a.T, lower=True, check_finite=False)) ** 2
    if not math.isfinite(value):
        raise OverflowError(f"One layer's gain is beyond float64; its weights reach {np.abs(a).max():.3g}.")
    return value


def _norm(a: np.ndarray) -> float:
    """The largest singular value; inf if an entry is."""
    if not np.all(np.isfinite(a)):
        return math.inf
    if min(a.shape) <= _WORTH_LANCZOS:
        return float(np.linalg.norm(a, 2))
    # Not of ones: circular convolutions keep what is equal on all pixels, and Lanczos would see nothing else.
    start = np.random.default_rng(0).standard_normal(min(a.shape))
    try:
        return float(scipy.sparse.linalg.svds(a, k=1, v0=start, tol=1e-8, return_singular_vectors=False)[0])
    except scipy.sparse.linalg.ArpackError:
        # With few distinct singular values, as of the identity, ARPACK runs out of directions: all are computed.
        return float(np.linalg.norm(a, 2))


def _half_log2(gain: float) -> int:
    return round(math.log2(gain) / 2) if gain > 0 else 0


def _advance(
    cut: np.ndarray,
    alive: list[int],
    a: np.ndarray,
    multiplier: float,
    constraint: SlopeConstraint,
    k: int,
    last_use: tuple[int, ...],
    sizes: tuple[int, ...],
) -> tuple[np.ndarray, list[int]]:
    """The cost-to-go after layer k: its constraint added, and the blocks nobody reads any more eliminated."""
    product = (2 * multiplier * constraint.lower * constraint.upper)[:, None]
    coupling = ((-multiplier * (constraint.lower + constraint.upper))[:, None] * a)[constraint.answering]
    joint = np.block([[cut + a.T @ (product * a), coupling.T], [coupling, 2 * multiplier * np.eye(constraint.size)]])
    return _eliminated(joint, [*alive, k], k, last_use, sizes)


def _advance_loop(
    cut: np.ndarray,
    alive: list[int],
    a: np.ndarray,
    loop: Loop,
    metric: np.ndarray,
    k: int,
    last_use: tuple[int, ...],
    sizes: tuple[int, ...],
    readers: int,
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """The multipliers of an implicit layer, s L with the L of its metric, and the cost-to-go after it.

    With K what couples it to the cut Q, H(s L) - s^2 K Q^{-1} K^T is largest near half the s at which it is singular.
    """
    own, across = loop.form(metric), loop.across(metric) @ a
    square = a.T @ ((2 * metric * loop.lower * loop.upper)[:, None] * a)
    taken = max(float(scipy.linalg.eigh(-square, cut, eigvals_only=True, subset_by_index=[len(cut) - 1] * 2)[0]), 0.0)
    share = 1 / (2 * (1 + readers))
    factor = scipy.linalg.cholesky(cut, lower=True)
    half = scipy.linalg.solve_triangular(factor, across.T, lower=True)
    effect = float(scipy.linalg.eigh(half.T @ half, own, eigvals_only=True, subset_by_index=[len(own) - 1] * 2)[0])
    size = min(0.5 / effect if effect > 0 else math.inf, share / taken if taken > 0 else math.inf)
    size = (size if math.isfinite(size) else 1.0) * (1 - share if taken > 0 else 1.0)
    joint = np.block([[cut + size * square, size * across.T], [size * across, size * own]])
    return size * metric, *_eliminated(joint, [*alive, k], k, last_use, sizes)


def _eliminated(
    joint: np.ndarray, alive: list[int], k: int, last_use: tuple[int, ...], sizes: tuple[int, ...]
) -> tuple[np.ndarray, list[int]]:
    """The joint cost-to-go on those blocks that are read after layer k."""
    needed = np.concatenate([np.full(sizes[j], last_use[j] > k) for j in alive])
    keep, drop = np.flatnonzero(needed), np.flatnonzero(~needed)
    cut = joint[np.ix_(keep, keep)]
    if drop.size:
        factor = scipy.linalg.cholesky(joint[np.ix_(drop, drop)], lower=True)
        half = scipy.linalg.solve_triangular(factor, joint[np.ix_(drop, keep)], lower=True)
        cut = cut - half.T @ half
    return cut, [j for j in alive if last_use[j] > k]


@dataclasses.dataclass(frozen=True)
class ClosedForm:
    """ECLipsE-Fast on any acyclic graph: milliseconds, and a bound between the optimum and the norm product."""

    def memory(self, scaled: Scaled) -> int:
        """Nothing: the recursion is over once the inequality is scaled."""
        return 0

    def solve(self, scaled: Scaled, limits: Limits, on_progress: OnProgress | None = None) -> Solution:
        begin = time.perf_counter()
        bound = scaled.unscale(scaled.bound)
        progress = Progress(bound, 0.0, 0, time.perf_counter() - begin)
        if on_progress:
            on_progress(progress)
        exact = not scaled.inequality.constraints
        return Solution(
            status=Status.OPTIMAL if exact else Status.CLOSED_FORM,
            bound=bound,
            dual_bound=bound if exact else 0.0,
            multipliers=scaled.start,
            iterations=0,
            seconds=progress.seconds,
            solver="closed_form",
            version="",
            history=(progress,),
        )
