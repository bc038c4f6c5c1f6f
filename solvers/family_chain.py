"""The unknowns of a family and of all that follows it, and their cones.

w_1 is rho and the multipliers of the first stage; w_k is Q_(k-1), as its upper triangle, and the multipliers of stage
k, or those of an inequality at the end. Stage k knows w_k and Q_k.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from .chain import Chain
from .family import Family, Point
from .family_cone import Cone, Metric, Rows, inequality_cone


@dataclasses.dataclass(frozen=True, eq=False)
class FamilyChain:
    """Where everything lies in the vector of unknowns; rho comes first.

    **Attributes:** `blocks`: where w_k starts, and the number of all; `metrics`: Q_1, ..; `multipliers`: by layer,
    stage after stage.
    """

    family: Family
    blocks: tuple[int, ...]
    metrics: tuple[Metric, ...]
    multipliers: tuple[slice, ...]

    @classmethod
    def of(cls, family: Family) -> "FamilyChain":
        blocks, metrics, multipliers, end = [0], [], [], 1
        parts: list[tuple[int, ...]] = [tuple(c.multipliers for c in stage.constraints) for stage in family.stages]
        if family.inequality:
            parts.append(tuple(c.groups for c in family.inequality.constraints))
        for counts, stage in zip(parts, (*family.stages, None), strict=False):
            for count in counts:
                multipliers.append(slice(end, end + count))
                end += count
            blocks.append(end)
            if stage and stage.head:
                metrics.append(Metric({0: None}, stage.channels, (1.0,), end))
                end = metrics[-1].unknowns.stop
        return cls(family, tuple(blocks), tuple(metrics), tuple(multipliers))

    @property
    def shared(self) -> tuple[int, ...]:
        """How many entries of w_k the stage before knows; of w_1, rho."""
        return (1, *(len(metric.triangle[0]) for metric in self.metrics))

    def vector(self, point: Point) -> np.ndarray:
        x = np.empty(self.blocks[-1])
        x[0] = point.rho
        for place, lam in zip(self.multipliers, point.multipliers, strict=True):
            x[place] = lam
        for metric, q in zip(self.metrics, point.metrics, strict=True):
            x[metric.unknowns] = q[metric.triangle]
        return x

    def point(self, x: np.ndarray) -> Point:
        return Point(float(x[0]), tuple(x[place] for place in self.multipliers),
                     tuple(metric.symmetric(x) for metric in self.metrics))

    def place(self, stage: int) -> slice:
        """The unknowns that this stage knows."""
        following = self.shared[stage + 1] if stage < len(self.metrics) else 0
        return slice(self.blocks[stage], self.blocks[stage + 1] + following)

    def stage_cone(self, number: int, stage: Family) -> Cone:
        """The members of `stage`, which is the one of this number, or some of its members."""
        ends = self.shared[number] + np.cumsum([0, *(c.multipliers for c in stage.constraints)])
        rows = tuple(Rows(k, c.maps, c.lower, c.upper, c.variable + ends[k - 1], c.kept)
                     for k, c in enumerate(stage.constraints, start=1))
        place = self.place(number)
        unknowns = place.stop - place.start
        incoming = Metric({0: None}, 1, (1.0,) * stage.input_size, 0)
        if number:
            before = self.metrics[number - 1]
            incoming = dataclasses.replace(before, weights=(1.0,) * (stage.input_size // before.channels), first=0)
        if stage.head is None:
            return Cone(stage.members, stage.offsets, rows, (incoming,), stage.output, unknowns)
        outgoing = Metric(stage.output, stage.channels, (-1.0,) * stage.copies, int(ends[-1]))
        return Cone(stage.members, stage.offsets, rows, (incoming, outgoing), None, unknowns)

    def head_cones(self) -> list[Cone]:
        """The inequality at the end, and its metric; none without."""
        head = self.family.inequality
        if head is None:
            return []
        last = dataclasses.replace(self.metrics[-1], first=0)
        return [inequality_cone(head, last), Cone(1, (0, last.channels), (), (last,), None, self.shared[-1])]

    def chain(self, parts: Sequence[int]) -> Chain:
        """With so many cones for each stage, and those of `head_cones`."""
        places = [self.place(stage) for stage, count in enumerate(parts) for _ in range(count)]
        if self.family.inequality:
            start, end = self.blocks[-2:]
            places += [slice(start, end), slice(start, start + self.shared[-1])]
        return Chain(tuple(places), self.blocks, self.shared)
