r"""A family of inequalities with shared multipliers, one for each frequency, and what it is joined to.

With x = (u, z_1, .., z_l) complex, for every member w of the family, as in `netgain.solvers.inequality`,

    M_w = rho E_u - C(w)^H (Q kron I) C(w) + sum_r lam_r (p_r^H q_r + q_r^H p_r) >= 0,

where many rows r, and all members, share one multiplier. If nothing follows, Q is the identity and sqrt(rho) the
bound. Otherwise the *head* follows, whose input v = (channels, pixels) is measured by the metric Q on its channels: an
ordinary inequality,

    M_head = (Q kron I_pixels) E_v - C_h^T C_h + sum_i lam_i (p_i q_i^T + q_i p_i^T) >= 0,

or another family, with (Q kron I_pixels) E_v in place of its rho E_u: then the network is a chain of stages, whose
frequencies have nothing to do with one another.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

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
    None without one; `channels`: rows of Q; `copies`: how often Q is repeated in the output of a member.
    """

    input_size: int
    constraints: tuple[SharedConstraint, ...]
    output: Mapping[int, np.ndarray]
    channels: int
    copies: int
    head: "Inequality | Family | None"

    @property
    def pixels(self) -> int:
        """How often Q is repeated in the head; 0 without one."""
        return self.head.input_size // self.channels if self.head else 0

    @functools.cached_property
    def stages(self) -> tuple["Family", ...]:
        """This family and all that follow it."""
        return (self, *(self.head.stages if isinstance(self.head, Family) else ()))

    @property
    def inequality(self) -> Inequality | None:
        """The head of the last stage."""
        head = self.stages[-1].head
        return None if isinstance(head, Family) else head

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
        """Their number outside the head."""
        return sum(constraint.multipliers for constraint in self.constraints)

    def restrict(self, members: np.ndarray) -> "Family":
        """The family of these members only."""
        def cut(maps: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
            return {j: a[members] for j, a in maps.items()}

        constraints = tuple(dataclasses.replace(c, maps=cut(c.maps)) for c in self.constraints)
        return dataclasses.replace(self, constraints=constraints, output=cut(self.output))


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """Values of all unknowns: rho, the multipliers by layer, stage after stage, and Q of every stage with a head."""

    rho: float
    multipliers: tuple[np.ndarray, ...]
    metrics: tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class ScaledFamily:
    """A family in coordinates where every gain is near 1, with feasible multipliers from a formula.

    x_j = 2^exponents[j] times the scaled block, v likewise with the first of `head.exponents` added to
    `interface_exponent`, and the output with `output_exponent`.

    **Attributes:** `start`: multipliers by layer for rho = `gain`^2 and Q the identity; `head`: the head scaled by
    itself, whose exponents count from `interface_exponent`.
    """

    family: Family
    exponents: tuple[int, ...]
    interface_exponent: int
    start: tuple[np.ndarray, ...]
    gain: float
    head: "Scaled | ScaledFamily | None"

    @property
    def bound(self) -> float:
        """That of the closed form."""
        return self.gain * (self.head.bound if self.head else 1.0)

    @property
    def output_exponent(self) -> int:
        return self.interface_exponent + (self.head.output_exponent if self.head else 0)

    @property
    def all_exponents(self) -> tuple[int, ...]:
        """Of the blocks of every stage in turn, and of the last head."""
        following: tuple[int, ...] = ()
        if self.head:
            following = self.head.all_exponents if isinstance(self.head, ScaledFamily) else self.head.exponents
        return self.exponents + tuple(self.interface_exponent + e for e in following)

    @property
    def stages(self) -> tuple["ScaledFamily", ...]:
        """Every stage as if nothing followed: Q is the identity."""
        own = dataclasses.replace(self, family=dataclasses.replace(self.family, head=None), head=None)
        return (own, *(self.head.stages if isinstance(self.head, ScaledFamily) else ()))

    def strictly_feasible(self) -> Point:
        """The closed form with some slack at every step, so that all matrices are positive definite."""
        return self.joined([_with_slack(stage.gain, stage.start) for stage in self.stages])

    def joined(self, points: Sequence[Point]) -> Point:
        """From strictly feasible points of `stages`: with Q twice as large, so is all that comes before it."""
        own, *others = points
        if self.head is None:
            return own
        if isinstance(self.head, ScaledFamily):
            following = self.head.joined(others)
        else:
            following = _with_slack(self.head.bound, self.head.start)
        level = following.rho
        return Point(level * own.rho, (*(level * lam for lam in own.multipliers), *following.multipliers),
                     (level * np.eye(self.family.channels), *following.metrics))

    def unscale(self, gain: float) -> float:
        """A scaled gain in the original units.

        **Raises:** `OverflowError` where float64 cannot hold it.
        """
        return math.ldexp(gain, self.output_exponent)


def _with_slack(gain: float, start: tuple[np.ndarray, ...]) -> Point:
    layers = len(start)
    multipliers = [lam * _SLACK * _GROWTH ** (layers - k) for k, lam in enumerate(start, 1)]
    return Point(gain**2 * _SLACK * _GROWTH**layers, tuple(multipliers), ())


def family_norm_product(scaled: ScaledFamily) -> float:
    """Gains of layers, the largest over all members, multiplied along every path and summed over paths."""
    gains = [1.0]
    for constraint in scaled.family.constraints:
        steepest = max(np.abs(constraint.lower).max(), np.abs(constraint.upper).max())
        gains.append(steepest * sum(_norm(a) * gains[j] for j, a in constraint.maps.items()))
    joint = math.ldexp(sum(_norm(c) * gains[j] for j, c in scaled.family.output.items()), scaled.interface_exponent)
    if isinstance(scaled.head, ScaledFamily):
        return float(joint * family_norm_product(scaled.head))
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
    head: Scaled | ScaledFamily | None = None
    if isinstance(family.head, Family):
        head = scale_family(family.head)
        scaled = dataclasses.replace(scaled, head=head.family)
    elif family.head:
        head = scale(family.head)
        scaled = dataclasses.replace(scaled, head=head.inequality)
    return ScaledFamily(scaled, tuple(exponents), interface, tuple(lam * rho for lam in start), math.sqrt(rho), head)


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
