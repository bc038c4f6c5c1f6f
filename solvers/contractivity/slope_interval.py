r"""Root finding for the outer level: the least m in [left, right] with phi(m) <= level, phi nonincreasing.

For the worst logarithmic norm on the box [m, upper]^k, phi is convex and nonincreasing: a maximum over patterns
of logarithmic norms, each convex in m. Newton's method from the left then increases monotonically to the root and never
passes it. An inner level that gets only local maxima spoils both properties, hence the bisection.
"""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Tangent:
    """phi(m) and its derivative."""

    value: float
    derivative: float


@dataclasses.dataclass(frozen=True)
class LeastArgument:
    """`root`: the least m found with phi(m) <= level, None if even the right end exceeds it; `history`: (m, phi(m))."""

    root: float | None
    history: tuple[tuple[float, float], ...]


def newton_bisection(
    inner: Callable[[float], Tangent], left: float, right: float, level: float, tolerance: float, steps: int = 100
) -> LeastArgument:
    """Newton steps from the left end; bisection where one would leave the bracket.

    **Arguments:** `inner`: phi and its derivative; `tolerance`: of m, and of phi at the root; absolute.

    The bracket [low, high] has phi(low) > level >= phi(high), high being assumed until it is visited.
    """
    history: list[tuple[float, float]] = []
    m, low, high, known = left, left, right, False
    for _ in range(steps):
        tangent = inner(m)
        history.append((m, tangent.value))
        excess = tangent.value - level
        if abs(excess) <= tolerance or (excess < 0 and m == left):
            return LeastArgument(m, tuple(history))
        if excess < 0:
            high, known = m, True
        elif m >= right:
            return LeastArgument(None, tuple(history))
        else:
            low = m
        if known and high - low <= tolerance:
            break
        newton = m - excess / tangent.derivative if tangent.derivative < 0 else low
        bisection = (low + high) / 2 if known else right
        m = newton if low < newton < high else bisection
    return LeastArgument(high, tuple(history))
