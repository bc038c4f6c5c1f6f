r"""Which entries of windows can be their maxima on a region.

An entry that another of its window leads everywhere on the region never wins. A maximum is then the same if each
comparison is decided without such entries: for the side that has others, by a slope of 0 or 1, and anyhow where neither
side has. That is another network, of the same values on the region, with fewer neurons that are not linear: comparisons
are open only between sides that may both win.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from netgain.layers.arithmetic import Array

from ..balls import BALLS
from .local_layers import Rivals

Ahead = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From places a and b to what v_a - v_b is at most on the region, strictly."""

# Pairs of entries compared at a time.
_TOGETHER = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """Of comparisons: `slope`, 0 or 1 where decided so, else nan; `idle`: where any slope would do; and of those that
    are open, in balls what they are fed at the centre, and between what that is on the region."""

    slope: np.ndarray
    idle: np.ndarray
    fed: Array
    low: np.ndarray
    high: np.ndarray


class Contest:
    """The windows of one layer on one region.

    **Arguments:** `windows`: places among the entries; `entries`: their values at the centre, in balls.
    """

    def __init__(self, windows: Sequence[np.ndarray], entries: Array, ahead: Ahead):
        self.windows, self.entries, self.ahead = windows, entries, ahead
        self._leads: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def leads(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """What entries of window k lead others by at most, as a matrix, and which of them can win.

        Where it is known from the one that leads at the centre that one cannot, it has nan in the matrix.
        """
        if k not in self._leads:
            places, size = self.windows[k], len(self.windows[k])
            leader = max(range(size), key=lambda i: float(self.entries[places[i]].mid()))
            # Most that never win are far behind what leads at the centre.
            near = np.flatnonzero(self.ahead(places, np.repeat(places[leader], size)) >= 0)
            most = np.full((size, size), np.nan)
            for some in np.array_split(near, -(-len(near) ** 2 // _TOGETHER)):
                a, b = np.meshgrid(some, near, indexing="ij")
                most[a, b] = self.ahead(places[a.ravel()], places[b.ravel()]).reshape(a.shape)
            # Strictly, so that of entries that never differ one is left.
            able = np.zeros(size, dtype=bool)
            able[near] = ~np.any(most[near] < 0, axis=1)
            self._leads[k] = most, able
        return self._leads[k]

    def judged(self, rivals: Sequence[Rivals]) -> Judged:
        count = len(rivals)
        slope, idle, fed = np.full(count, np.nan), np.zeros(count, dtype=bool), BALLS.constant(np.zeros(count))
        low, high = np.full(count, -np.inf), np.full(count, np.inf)
        for i, (k, first, second) in enumerate(rivals):
            most, able = self.leads(k)
            left, right = first[able[first]], second[able[second]]
            if len(left) and len(right):
                values = self.entries[self.windows[k]]
                fed[i] = _largest(values[left]) - _largest(values[right])
                # Each on one side leads some on the other by as much as the one maximum leads the other, or more.
                high[i] = most[np.ix_(left, right)].max(axis=0).min()
                low[i] = -most[np.ix_(right, left)].max(axis=0).min()
            else:
                slope[i], idle[i] = float(len(left) > 0), not len(left) and not len(right)
        return Judged(slope, idle, fed, low, high)


def _largest(balls: Array) -> Array:
    result = balls[0]
    for ball in balls[1:]:
        result = result.max(ball)
    return result
