r"""The slope interval [m*, upper] of contractivity, exactly or enclosed: m* = least m with mu*(m) <= c.

mu*(m) = max_D mu(J(D)) over [m, upper]^k is convex and nonincreasing. Any vertex pattern gives a convex curve below it,
whose root is therefore at most m*: Newton's method on the pattern's own curve raises the lower end. A little to the
right of it, branch and bound either proves mu* <= c, which is the upper end with its certificate, or finds
a pattern that is worse there, and its curve is next. Patterns are finitely many; usually one or two are met.
"""

import dataclasses
import time

import numpy as np

from ..result import Status
from .logarithmic_norm import Array, SlopeField, top_pair
from .sdp import least_lower_slope
from .slope_branch_and_bound import SlopeBranchAndBound, WorstLogNorm


@dataclasses.dataclass(frozen=True, eq=False)
class EnclosedLowerSlope:
    """`low` <= m* <= `high`, in floating point.

    **Attributes:** `low`, `high`: None both where the level is exceeded even at D = upper I, `high` alone where no m
    was proved in time; `worst`: the search at `high`, its leaves prove the level there (at `low` if there is no
    `high`); `history`: (m, lower bound of mu*(m)) of each search.
    """

    low: float | None
    high: float | None
    worst: WorstLogNorm
    history: tuple[tuple[float, float], ...]
    status: Status
    seconds: float


def exact_lower_slope(
    field: SlopeField, level: float = 0.0, search: SlopeBranchAndBound | None = None, tolerance: float = 1e-6
) -> EnclosedLowerSlope:
    """Encloses m* in [low, high] with high - low <= tolerance, or as well as the search's time limit allows.

    A search that half of the time left does not decide is given up, and m moves halfway to what is proved already, at
    first by the semidefinite bound: the farther right, the easier.

    **Arguments:** `field`: its `lower` is the left end of the m tried; `tolerance`: absolute, in m.
    """
    return _Enclosure(field, level, search or SlopeBranchAndBound(), tolerance).run()


class _Enclosure:
    """low, high with the search that proved it, and `hard`: the largest m in between that no search decided."""

    def __init__(self, field: SlopeField, level: float, search: SlopeBranchAndBound, tolerance: float):
        self.field, self.level, self.search, self.tolerance = field, level, search, tolerance
        self.begin = time.perf_counter()
        self.low = field.lower
        self.high: float | None = None
        self.hard: float | None = None
        self.history: list[tuple[float, float]] = []

    def run(self) -> EnclosedLowerSlope:
        m, proof = self.field.lower, None
        while True:
            worst = self.solve(m)
            if worst.upper <= self.level:
                self.high, proof = m, worst
                if m == self.field.lower:
                    return self.result(worst, Status.OPTIMAL)
            elif worst.lower > self.level:
                root = pattern_root(self.field.with_lower(m), worst.slopes, self.level)
                if root is None:
                    return self.result(worst, Status.OPTIMAL, empty=True)
                self.low = root
            else:
                self.hard = m
                if proof is None:
                    proof = self.by_semidefinite_bound()
            if self.high is not None and self.high - self.low <= self.tolerance * (1 + 1e-9):
                return self.result(proof or worst, Status.OPTIMAL)
            if worst.status is Status.INTERRUPTED or self.left < 0.02 * self.search.limits.time_limit:
                stopped = Status.INTERRUPTED if worst.status is Status.INTERRUPTED else Status.TIME_LIMIT
                return self.result(proof or worst, stopped)
            m = self.next(m)

    @property
    def left(self) -> float:
        return self.search.limits.time_limit - (time.perf_counter() - self.begin)

    def next(self, m: float) -> float:
        if self.hard is None or self.hard <= self.low:
            # In rounding's reach of the last m, the root would give that m again.
            least = np.nextafter(m, np.inf) if self.high is None else self.low
            return float(min(max(self.low + self.tolerance, least), self.field.upper))
        return (self.hard + (self.field.upper if self.high is None else self.high)) / 2

    def solve(self, m: float) -> WorstLogNorm:
        limits = dataclasses.replace(self.search.limits, time_limit=max(self.left / 2, 1e-3))
        worst = dataclasses.replace(self.search, limits=limits).solve(self.field.with_lower(m), self.level)
        self.history.append((m, worst.lower))
        return worst

    def by_semidefinite_bound(self) -> WorstLogNorm | None:
        """Sets `high` to what the semidefinite bound proves, and returns the search of one box that says so."""
        certified = least_lower_slope(self.field, self.level).lower_slope
        only_root = SlopeBranchAndBound(nodes=1, symmetry=False)
        while certified is not None:
            worst = only_root.solve(self.field.with_lower(certified), self.level)
            if worst.upper <= self.level:
                self.high = certified
                return worst
            # The multipliers found here may differ from those that `certified` rests on by the solver's tolerance.
            further = min(certified + 1e-6 * (self.field.upper - self.field.lower), self.field.upper)
            certified = further if further > certified else None
        return None

    def result(self, worst: WorstLogNorm, status: Status, empty: bool = False) -> EnclosedLowerSlope:
        low, high = (None, None) if empty else (self.low, self.high)
        return EnclosedLowerSlope(low, high, worst, tuple(self.history), status, time.perf_counter() - self.begin)


def pattern_root(field: SlopeField, slopes: Array, level: float) -> float | None:
    """The m in [lower, upper] where mu(J(D)) = level, with slopes at the lower end following m; None if there is none.

    The curve is convex in m, and above the level at the left end: Newton's method increases to the root, never past it.
    """
    following = slopes <= field.lower
    m, vector = field.lower, None
    for _ in range(100):
        pair = top_pair(field, np.where(following, m, slopes), vector)
        derivative = float(field.gradient(pair.vector)[following].sum())
        excess = pair.value - level
        if excess <= 0:
            return m
        if derivative >= 0 or m - excess / derivative > field.upper:
            return None
        following_m = m - excess / derivative
        if following_m <= m:
            return m
        m, vector = following_m, pair.vector
    return m
