r"""Nodes of the branch and bound over slopes: how they are bounded, branched on, rounded and closed.

`expand` is a pure function, but for the clock, of nodes that no other job has, so that jobs need not talk to each
other.
"""

import dataclasses
import math
import time

import numpy as np

from .logarithmic_norm import Array, SlopeField
from .slope_ascent import alternate
from .slope_relaxation import RelaxationGoals, relax
from .slope_symmetry import SlopeSymmetries

_NODE_ITERATIONS = 30
# Iterations spent on a node after its dual bound has shown that it must be branched on.
_POLISH = 3
_START = 1e-2


@dataclasses.dataclass(frozen=True, eq=False)
class Nodes:
    """Boxes with their bounds: patterns, log multipliers, bound, and the slope to branch on."""

    signs: np.ndarray
    logs: Array
    upper: Array
    branch: np.ndarray

    def take(self, chosen: np.ndarray) -> "Nodes":
        return Nodes(self.signs[chosen], self.logs[chosen], self.upper[chosen], self.branch[chosen])

    def best_first(self) -> "Nodes":
        return self.take(np.argsort(-self.upper, kind="stable"))

    def __len__(self) -> int:
        return len(self.upper)


def join(nodes: list[Nodes]) -> Nodes:
    names = [field.name for field in dataclasses.fields(Nodes)]
    return Nodes(*(np.concatenate([getattr(part, name) for part in nodes]) for name in names))


@dataclasses.dataclass(frozen=True)
class Pruning:
    """When a box is closed: its bound is at most `level`, or without one `lower` + `tolerance`. In normalised units.

    Not bounded at all are boxes that one of the `symmetries` raises.
    """

    lower: float
    tolerance: float
    level: float
    symmetries: SlopeSymmetries

    @property
    def target(self) -> float:
        return self.lower + self.tolerance if self.level == -math.inf else self.level

    @property
    def decided(self) -> bool:
        """A vertex above the level settles the question asked."""
        return self.level > -math.inf and self.lower > self.level


@dataclasses.dataclass(frozen=True, eq=False)
class Expansion:
    """What a job found: open and closed boxes, boxes left out and why, the best vertex, the number of nodes bounded."""

    open_nodes: Nodes
    closed: Nodes
    left_out: np.ndarray
    by: np.ndarray
    lower: float
    slopes: Array
    count: int


def expand(field: SlopeField, nodes: Nodes, pruning: Pruning, slopes: Array, size: int, rounds: int,
           seconds: float) -> Expansion:
    """Best-first search below these nodes for some rounds. A pure function of its arguments but for the clock."""
    deadline = time.perf_counter() + seconds
    closed, count = [nodes.take(np.zeros(0, dtype=np.intp))], 0
    left_out, by = [nodes.signs[:0]], [np.zeros(0, dtype=np.intp)]
    for _ in range(rounds):
        # Where no slope is free the bound is the value at a vertex, and there is nothing to branch on.
        done = (nodes.upper <= pruning.target) | (nodes.branch < 0)
        closed.append(nodes.take(np.flatnonzero(done)))
        nodes = nodes.take(np.flatnonzero(~done)).best_first()
        if not len(nodes) or pruning.decided or time.perf_counter() > deadline:
            break
        taken, nodes = nodes.take(np.arange(min(size, len(nodes)))), nodes.take(np.arange(size, len(nodes)))
        signs, inherited = _halved(taken)
        raising = pruning.symmetries.raising(signs)
        left_out.append(signs[raising >= 0])
        by.append(raising[raising >= 0])
        kept = np.flatnonzero(raising < 0)
        if not len(kept):
            continue
        children, densities = _bounded(field, signs[kept], inherited.take(kept), pruning.target, deadline)
        count += len(children)
        found, reached = _round(field, children.signs, densities)
        if found > pruning.lower:
            pruning, slopes = dataclasses.replace(pruning, lower=found), reached
        nodes = join([nodes, children])
    return Expansion(nodes, join(closed), np.concatenate(left_out), np.concatenate(by), pruning.lower, slopes, count)


def _halved(parents: Nodes) -> tuple[np.ndarray, Nodes]:
    """The patterns of both children of every parent, and the parent of each."""
    twice = parents.take(np.repeat(np.arange(len(parents)), 2))
    signs = twice.signs.copy()
    signs[np.arange(len(signs)), twice.branch] = np.tile(np.array([1, -1], dtype=np.int8), len(parents))
    return signs, twice


def _bounded(field: SlopeField, signs: np.ndarray, parents: Nodes, target: float,
             deadline: float) -> tuple[Nodes, Array]:
    """Children with their bounds, each started from its parent's multipliers, and their X."""
    goals = RelaxationGoals(tolerance=1e-9, target=target, polish=_POLISH, iterations=_NODE_ITERATIONS,
                            deadline=deadline, start=_START)
    relaxed = relax(field, signs, parents.logs, goals)
    upper = np.minimum(relaxed.upper, parents.upper)
    return Nodes(signs, relaxed.log_multipliers, upper, branching(field, signs, relaxed.densities)), relaxed.densities


def branching(field: SlopeField, signs: np.ndarray, densities: Array) -> np.ndarray:
    """The free slope that the relaxation gives away most at, for each box; -1 where none is free."""
    e, ax = field.dense_outputs, field.inputs @ densities
    outputs = np.sum(e * (densities @ e), axis=1)
    inputs = np.sum(ax * field.inputs, axis=2)
    gap = np.sqrt(np.maximum(outputs * inputs, 0)) - np.abs(np.sum(ax * e.T, axis=2))
    free = (signs == 0) & field.acting
    return np.where(np.any(free, axis=1), np.argmax(np.where(free, gap, -np.inf), axis=1), -1)


def _round(field: SlopeField, signs: np.ndarray, densities: Array) -> tuple[float, Array]:
    """The best vertex from the top eigenvectors of the X, within the boxes at first, then by alternating ascent."""
    starts = field.best_response(np.linalg.eigh(densities)[1][:, :, -1])
    starts = np.where(signs > 0, field.upper, np.where(signs < 0, field.lower, starts))
    found = alternate(field, starts, sweeps=4)
    return found.value, found.slopes
