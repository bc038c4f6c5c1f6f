r"""The chain of dissipation inequalities as cones that share unknowns with their neighbours alone.

The unknowns are w_1, .., w_K, and w_(K+1) if there is a head: w_k is Q_(k-1), or rho for k = 1, then the storages and
multipliers of stage k, or the head's multipliers. Stage k knows w_k and Q_k.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from .chain import Chain
from .cone_problem import Bounds, ConeProblem, Each
from .dissipation import DissipationProblem, StageData
from .family_cone import Cone, Metric, Rows, inequality_cone
from .inequality import Inequality


@dataclasses.dataclass(frozen=True, eq=False)
class ChainCones:
    """The cones of a problem, and where everything lies in the vector of unknowns; rho comes first.

    **Attributes:** `chain`: w_1, w_2, ..; `metrics`: Q_1, .. as they are read from w_2, ..; `storages`, `multipliers`:
    by stage; `head`: of its multipliers by layer; `signed`: those that M > 0 does not keep positive.
    """

    cones: tuple[Cone, ...]
    chain: Chain
    metrics: tuple[Metric, ...]
    storages: tuple[tuple[Metric, ...], ...]
    multipliers: tuple[slice | None, ...]
    head: tuple[slice, ...]
    signed: np.ndarray

    @property
    def unknowns(self) -> int:
        return self.chain.blocks[-1]

    def problem(self, most: float, limits: Sequence[float], each: Each) -> ConeProblem:
        """With rho less than `most`, and a limit for each stage on its multipliers and the diagonals of its storages
        and of Q_k.

        A point is then bounded, since all of these are positive. Without it, states that nothing drives and channels
        that answer nothing let a point run away: there the dual problem has no interior.
        """
        bounds = Bounds.below(self.signed).joined(Bounds.above(np.array([0]), np.array([most])))
        for k, limit in enumerate(limits):
            index = self._diagonals(k)
            bounds = bounds.joined(Bounds.above(index, np.full(len(index), limit)))
        return ConeProblem(self.cones, self.chain, 0, bounds, each)

    def _diagonals(self, k: int) -> np.ndarray:
        place = self.multipliers[k]
        parts = [] if place is None else [np.arange(place.start, place.stop)]
        for metric in (*self.storages[k], *self.metrics[k : k + 1]):
            a, b = metric.triangle
            parts.append(metric.first + np.flatnonzero(a == b))
        return np.concatenate([*parts, np.zeros(0, dtype=np.int64)]).astype(np.int64)


def chain_cones(problem: DissipationProblem) -> ChainCones:
    """The cones of every stage, of storages that have to be positive, and of the head and its metric."""
    builder = _Builder()
    last = len(problem.stages) - 1
    for k, stage in enumerate(problem.stages):
        builder.add_stage(stage, k == last and problem.head is None)
    if problem.head is not None:
        builder.add_head(problem.head, problem.stages[-1].channels)
    return builder.finished()


class _Builder:
    def __init__(self) -> None:
        self.cones: list[Cone] = []
        self.places: list[slice] = []
        self.metrics: list[Metric] = []
        self.storages: list[tuple[Metric, ...]] = []
        self.multipliers: list[slice | None] = []
        self.head: list[slice] = []
        self.signed = np.zeros(0, dtype=np.int64)
        self.blocks, self.shared = [0], [1]

    def add_stage(self, stage: StageData, is_last: bool) -> None:
        start, first = self.blocks[-1], self.shared[-1]
        states, inputs = stage.B.shape
        offsets: tuple[int, ...] = (0, states, states + inputs)
        answer = {0: stage.C[None], 1: stage.D[None]}
        if len(self.blocks) == 1:
            metrics = [Metric({1: None}, 1, (1.0,) * inputs, 0)]
        else:
            before = self.metrics[-1]
            metrics = [dataclasses.replace(before, maps={1: None}, weights=(1.0,) * stage.phases, first=0)]
        storages, positive = [], []
        for part in stage.blocks:
            own = np.eye(states)[part]
            ahead = {0: _paired(own, stage.A[part]), 1: _paired(np.zeros_like(stage.B[part]), stage.B[part])}
            metrics.append(Metric(ahead, len(own), (1.0, -1.0), first))
            storages.append(dataclasses.replace(metrics[-1], first=start + first))
            if not stage.finite:
                count = metrics[-1].unknowns.stop - first
                kept = Metric({0: None}, len(own), (1.0,), 0)
                positive.append((Cone(1, (0, len(own)), (), (kept,), None, count),
                                 slice(start + first, start + first + count)))
            first = metrics[-1].unknowns.stop
        rows: tuple[Rows, ...] = ()
        multipliers = None
        if stage.lower is not None and stage.upper is not None:
            every = np.arange(stage.channels)
            rows = (Rows(2, answer, stage.lower, stage.upper, first + every, every),)
            multipliers = slice(start + first, start + first + stage.channels)
            first, offsets = first + stage.channels, (*offsets, offsets[-1] + stage.channels)
            answer = {2: np.eye(stage.channels)[None]}
        constant = None
        self.blocks.append(start + first)
        stop = start + first
        if is_last:
            constant = {j: math.sqrt(stage.gain) * a for j, a in answer.items()}
        else:
            after = Metric(answer, stage.channels, (-float(stage.gain),), first, stage.diagonal)
            metrics.append(after)
            self.shared.append(after.unknowns.stop - first)
            self.metrics.append(dataclasses.replace(after, first=stop))
            stop += self.shared[-1]
        self.cones.append(Cone(1, offsets, rows, tuple(metrics), constant, stop - start))
        self.places.append(slice(start, stop))
        for cone, place in positive:
            self.cones.append(cone)
            self.places.append(place)
        self.storages.append(tuple(storages))
        self.multipliers.append(multipliers)

    def add_head(self, head: Inequality, channels: int) -> None:
        start, first = self.blocks[-1], self.shared[-1]
        cone = inequality_cone(head, self.metrics[-1])
        for c in head.constraints:
            self.head.append(slice(start + first, start + first + c.groups))
            first += c.groups
        self.cones.append(cone)
        self.places.append(slice(start, start + first))
        (metric,) = cone.metrics
        self.cones.append(Cone(1, (0, channels), (), (dataclasses.replace(metric, weights=(1.0,)),), None,
                               self.shared[-1]))
        self.places.append(slice(start, start + self.shared[-1]))
        self.blocks.append(start + first)
        if any(np.any(c.lower * c.upper > 0) for c in head.constraints):
            self.signed = np.arange(start + self.shared[-1], start + first)

    def finished(self) -> ChainCones:
        return ChainCones(tuple(self.cones), Chain(tuple(self.places), tuple(self.blocks), tuple(self.shared)),
                          tuple(self.metrics), tuple(self.storages), tuple(self.multipliers), tuple(self.head),
                          self.signed)


def _paired(own: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """Rows of both in turn, as a stack of one."""
    return np.stack([own, ahead], axis=1).reshape((1, 2 * len(own), own.shape[1]))
