r"""A family of inequalities with shared multipliers, one for each frequency, and the head they are joined to.

With x = (u, z_1, .., z_l) complex, for every member w of the family, as in `netgain.solvers.inequality`,

    M_w = rho E_u - C(w)^H (Q kron I) C(w) + sum_r lam_r (p_r^H q_r + q_r^H p_r) >= 0,

where many rows r, and all members, share one multiplier. Without a head, Q is the identity and sqrt(rho) the bound.
With a head, an ordinary inequality whose input v = (channels, pixels) is measured by the metric Q on its channels,

    M_head = (Q kron I_pixels) E_v - C_h^T C_h + sum_i lam_i (p_i q_i^T + q_i p_i^T) >= 0.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np

from .closed_form import Scaled, norm_product, scale
from .inequality import Inequality

# Strictly inside the region where the cut's own block stays positive definite when alpha = -beta.
_INTERIOR = 1 - 1e-3
# By how much each step of the recursion keeps more than the next one takes, and the constant part.
_SLACK = 1.3
_GROWTH = 1.05
# The larger the multiplier of an answer that is always zero, the less is lost by what reads it: optimal is infinity.
_SILENT = 2.0**30


@dataclasses.dataclass(frozen=True, eq=False)
class SharedConstraint:
    """The constraints of one nonlinear layer in every member.

    **Attributes:** `maps`: A_kj by block, shape (members, rows, n_j); `lower`, `upper`: slopes of each row, 0 among
    them; `variable`: which of the layer's multipliers each row takes, ascending; `kept`: the rows that have an answer.
    """

    maps: Mapping[int, np.ndarray]
    lower: np.ndarray
    upper: np.ndarray
    variable: np.ndarray
    kept: np.ndarray

    @property
    def size(self) -> int:
        return len(self.kept)

    @property
    def multipliers(self) -> int:
        return int(self.variable[-1]) + 1


@dataclasses.dataclass(frozen=True, eq=False)
class Family:
    """All members and the head.

    **Attributes:** `output`: C_j by block, shape (members, channels of Q times `copies`, n_j); `head`: block 0 is v;
    None without one; `channels`: rows of Q; `copies`, `pixels`: how often Q is repeated in a member and in the head.
    """

    input_size: int
    constraints: tuple[SharedConstraint, ...]
    output: Mapping[int, np.ndarray]
    channels: int
    copies: int
    head: Inequality | None
    pixels: int

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        return (self.input_size, *(constraint.size for constraint in self.constraints))

    @functools.cached_property
    def offsets(self) -> tuple[int, ...]:
        return tuple(int(offset) for offset in np.concatenate([[0], np.cumsum(self.sizes)]))

    @property
    def members(self) -> int:
        return len(next(iter(self.output.values())))

    @property
    def multipliers(self) -> int:
        """The number of multipliers outside the head."""
        return sum(constraint.multipliers for constraint in self.constraints)

    def restrict(self, members: np.ndarray) -> "Family":
        """The family of these members only."""
        def cut(maps: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
            return {j: a[members] for j, a in maps.items()}

        constraints = tuple(dataclasses.replace(c, maps=cut(c.maps)) for c in self.constraints)
        return dataclasses.replace(self, constraints=constraints, output=cut(self.output))


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """Values of all unknowns: rho, the multipliers by layer and then by layer of the head, and Q if there is one."""

    rho: float
    multipliers: tuple[np.ndarray, ...]
    metric: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class ScaledFamily:
    """A family in coordinates where every gain is near 1, with feasible multipliers from a formula.

    x_j = 2^exponents[j] times the scaled block, v likewise with the first of `head.exponents` added to
    `interface_exponent`, and the output with `output_exponent`.

    **Attributes:** `start`: multipliers by layer for rho = `bound`^2 and Q = `metric` times the identity; `head`: the
    head scaled by itself, whose exponents count from `interface_exponent`.
    """

    family: Family
    exponents: tuple[int, ...]
    interface_exponent: int
    start: tuple[np.ndarray, ...]
    bound: float
    metric: float
    head: Scaled | None

    @property
    def output_exponent(self) -> int:
        return self.interface_exponent + (self.head.output_exponent if self.head else 0)

    def strictly_feasible(self) -> "Point":
        """The closed form with some slack at every step, so that all matrices are positive definite."""
        inner, layers = len(self.head.start) if self.head else 0, len(self.start)
        joint = _SLACK * _GROWTH**inner if self.head else 1.0
        levels = [joint * _SLACK * _GROWTH ** (layers - k) for k in range(layers + 1)]
        multipliers = [lam * level for lam, level in zip(self.start, levels[1:], strict=True)]
        if self.head:
            multipliers += [lam * _SLACK * _GROWTH ** (inner - k) for k, lam in enumerate(self.head.start, 1)]
        metric = joint * self.metric * np.eye(self.family.channels) if self.head else None
        return Point(self.bound**2 * levels[0], tuple(multipliers), metric)

    def unscale(self, gain: float) -> float:
        """A scaled gain in the original units.

        **Raises:** `OverflowError` where float64 cannot hold it.
        """
        return math.ldexp(gain, self.output_exponent)


def family_norm_product(scaled: ScaledFamily) -> float:
    """Gains of layers, the largest over all members, multiplied along every path and summed over paths."""
    gains = [1.0]
    for constraint in scaled.family.constraints:
        steepest = max(np.abs(constraint.lower).max(), np.abs(constraint.upper).max())
        gains.append(steepest * sum(_norm(a) * gains[j] for j, a in constraint.maps.items()))
    joint = math.ldexp(sum(_norm(c) * gains[j] for j, c in scaled.family.output.items()), scaled.interface_exponent)
    return float(joint * norm_product(scaled.head) if scaled.head else joint)


def _norm(stack: np.ndarray) -> float:
    return float(np.linalg.norm(stack, 2, axis=(1, 2)).max())


def adjoint(matrices: np.ndarray) -> np.ndarray:
    """The conjugate transpose of every matrix of a stack."""
    result: np.ndarray = np.conj(np.swapaxes(matrices, -1, -2))
    return result


def scale_family(family: Family) -> ScaledFamily:
    """The closed form of `netgain.solvers.closed_form` with the largest gain over all members; the cut is a stack.

    **Raises:** `OverflowError` if a layer's gain is no float64.
    """
    last_use = list(range(len(family.sizes)))
    for k, constraint in enumerate(family.constraints, start=1):
        for j in constraint.maps:
            last_use[j] = k
    for j in family.output:
        last_use[j] = len(family.constraints) + 1
    alive, size = [0], family.input_size
    cut = np.broadcast_to(np.eye(size, dtype=complex), (family.members, size, size))
    exponents, constraints, start = [0], [], []
    for k, constraint in enumerate(family.constraints, start=1):
        a, reference = _stack(family, constraint.maps, alive, exponents, len(constraint.lower))
        gain = _largest_gain(a, cut)
        low, high = float(constraint.lower.min()), float(constraint.upper.max())
        delta, steepest = high - low, max(abs(low), abs(high))
        shift = round(math.log2(gain * steepest**2) / 2) if gain > 0 else 0
        a, gain = a * 2.0**-shift, math.ldexp(gain, -2 * shift)
        exponents.append(reference + shift)
        multiplier = 1.0 / (delta * steepest * gain) if gain > 0 else 1.0
        if low < 0 < high:
            readers = sum(bool(constraint.maps.keys() & c.maps.keys()) for c in family.constraints[k:])
            taken = -2 * low * high / (delta * steepest)
            multiplier *= _INTERIOR * min(1.0, 1 / (taken * (2 + readers)))
        start.append(np.where(_silent(constraint), _SILENT, 1.0) * multiplier)
        maps = {j: w * 2.0 ** (exponents[j] - exponents[k]) for j, w in constraint.maps.items()}
        constraints.append(dataclasses.replace(constraint, maps=maps))
        cut, alive = _advance(family, cut, alive, a, multiplier, constraint, k, last_use)
    c, reference = _stack(family, family.output, alive, exponents, family.channels * family.copies)
    gain = _largest_gain(c, cut)
    shift = round(math.log2(gain) / 2) if gain > 0 else 0
    interface, rho = reference + shift, math.ldexp(gain, -2 * shift)
    output = {j: w * 2.0 ** (exponents[j] - interface) for j, w in family.output.items()}
    scaled = dataclasses.replace(family, constraints=tuple(constraints), output=output)
    head = scale(family.head) if family.head else None
    if head:
        scaled = dataclasses.replace(scaled, head=head.inequality)
    metric = head.bound**2 if head else 1.0
    return ScaledFamily(scaled, tuple(exponents), interface, tuple(lam * rho * metric for lam in start),
                        math.sqrt(rho * metric), metric, head)


def _silent(constraint: SharedConstraint) -> np.ndarray:
    """Which multipliers belong to rows that read nothing, so that their answers are zero."""
    reads = np.any([np.any(a, axis=(0, 2)) for a in constraint.maps.values()], axis=0)
    result: np.ndarray = np.bincount(constraint.variable, reads, constraint.multipliers) == 0
    return result


def _stack(
    family: Family, maps: Mapping[int, np.ndarray], blocks: list[int], exponents: list[int], rows: int
) -> tuple[np.ndarray, int]:
    """The maps side by side over the cut's blocks, divided by a power of two; its exponent."""
    reference = max(exponents[j] for j in maps)
    parts = [maps[j] * 2.0 ** (exponents[j] - reference) if j in maps
             else np.zeros((family.members, rows, family.sizes[j])) for j in blocks]
    return np.concatenate(parts, axis=2), reference


def _largest_gain(a: np.ndarray, cut: np.ndarray) -> float:
    """The largest ||A Q^{-1} A^H|| of all members."""
    root = np.linalg.cholesky(cut)
    half = np.linalg.solve(root, adjoint(a))
    gram = half @ adjoint(half) if half.shape[1] < half.shape[2] else adjoint(half) @ half
    value = float(np.linalg.eigvalsh(gram)[:, -1].max()) if np.all(np.isfinite(gram)) else math.inf
    if not math.isfinite(value):
        raise OverflowError(f"One layer's gain is beyond float64; its weights reach {np.abs(a).max():.3g}.")
    return max(value, 0.0)


def _advance(
    family: Family,
    cut: np.ndarray,
    alive: list[int],
    a: np.ndarray,
    multiplier: float,
    constraint: SharedConstraint,
    k: int,
    last_use: list[int],
) -> tuple[np.ndarray, list[int]]:
    """The cost-to-go after layer k: its constraint added, and the blocks nobody reads any more eliminated."""
    product = (2 * multiplier * constraint.lower * constraint.upper)[:, None]
    coupling = (-multiplier * (constraint.lower + constraint.upper))[constraint.kept, None] * a[:, constraint.kept]
    old = cut.shape[1]
    joint = np.zeros((len(cut), old + constraint.size, old + constraint.size), dtype=complex)
    joint[:, :old, :old] = cut + adjoint(a) @ (product * a) if np.any(product) else cut
    joint[:, old:, :old], joint[:, :old, old:] = coupling, adjoint(coupling)
    joint[:, old:, old:] = 2 * multiplier * np.eye(constraint.size)
    alive = [*alive, k]
    needed = np.concatenate([np.full(family.sizes[j], last_use[j] > k) for j in alive])
    keep, drop = np.flatnonzero(needed), np.flatnonzero(~needed)
    cut = joint[:, keep[:, None], keep]
    if drop.size:
        root = np.linalg.cholesky(joint[:, drop[:, None], drop])
        half = np.linalg.solve(root, joint[:, drop[:, None], keep])
        cut = cut - adjoint(half) @ half
    return cut, [j for j in alive if last_use[j] > k]
