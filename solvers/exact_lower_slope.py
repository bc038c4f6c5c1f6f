r"""The slope interval [m*, upper] of contractivity, exactly or enclosed: m* = least m with mu*(m) <= c.

mu*(m) = max_D mu(J(D)) over [m, upper]^k is convex and nonincreasing. Any vertex pattern gives a convex curve below it,
whose root is therefore at most m*: Newton's method on the pattern's own curve raises the lower end. A little to the
right of it, branch and bound either proves mu* <= c, which is the upper end with its certificate, or finds
a pattern that is worse there, and its curve is next. Patterns are finitely many; usually one or two are met.
"""

import dataclasses
import time

import numpy as np

from .contractivity_sdp import least_lower_slope
from .logarithmic_norm import Array, SlopeField, top_pair
from .result import Status
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

    **Arguments:** `field`: its `lower` is the left end of the m tried; `tolerance`: absolute, in m.
    """
    search = search or SlopeBranchAndBound()
    begin, m, low = time.perf_counter(), field.lower, field.lower
    history: list[tuple[float, float]] = []

    def within(seconds_used: float) -> SlopeBranchAndBound:
        remaining = max(search.limits.time_limit - seconds_used, 1e-3)
        return dataclasses.replace(search, limits=dataclasses.replace(search.limits, time_limit=remaining))

    while True:
        worst = within(time.perf_counter() - begin).solve(field.with_lower(m), level)
        history.append((m, worst.lower))
        seconds = time.perf_counter() - begin
        if worst.upper <= level:
            return EnclosedLowerSlope(low, m, worst, tuple(history), Status.OPTIMAL, seconds)
        if worst.lower <= level:
            return _stopped(field, level, low, worst, history, begin)
        root = pattern_root(field.with_lower(m), worst.slopes, level)
        if root is None:
            return EnclosedLowerSlope(None, None, worst, tuple(history), Status.OPTIMAL, seconds)
        low = root
        m = min(max(root + tolerance, np.nextafter(m, np.inf)), field.upper)


def _stopped(field: SlopeField, level: float, low: float, worst: WorstLogNorm, history: list[tuple[float, float]],
             begin: float) -> EnclosedLowerSlope:
    """The search was stopped undecided: the semidefinite bound still gives an upper end, proved by one box."""
    certified = least_lower_slope(field, level).lower_slope
    if certified is not None:
        only_root = SlopeBranchAndBound(nodes=1, symmetry=False)
        worst = only_root.solve(field.with_lower(certified), level)
        # The multipliers found there may differ from those that `certified` rests on by the solver's tolerance.
        while worst.upper > level and certified < field.upper:
            certified = min(certified + 1e-6 * (field.upper - field.lower), field.upper)
            worst = only_root.solve(field.with_lower(certified), level)
        certified = certified if worst.upper <= level else None
    status = Status.INTERRUPTED if worst.status is Status.INTERRUPTED else Status.TIME_LIMIT
    return EnclosedLowerSlope(low, certified, worst, tuple(history), status, time.perf_counter() - begin)


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
