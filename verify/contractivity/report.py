"""The question of neural ODEs: for which slopes of the activation does the flow bring solutions together?

u' = B u + E sigma(A u + b) satisfies |u(t) - v(t)| <= e^{ct} |u(0) - v(0)| for all pairs of solutions if mu(B + E D A)
<= c for all D with slopes of sigma on its diagonal. Asked are the worst logarithmic norm over the activation's own
slopes, and the least m such that slopes in [m, upper] keep the level c: each by the gradient system (a local maximum,
hence optimistic), by the semidefinite bound (proved), and exactly by branch and bound (proved as far as it got).
"""

import dataclasses
import enum
import math
import os
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
from netgain.solvers.contractivity.exact_lower_slope import exact_lower_slope
from netgain.solvers.contractivity.logarithmic_norm import SlopeField, top_pair
from netgain.solvers.contractivity.multilayer_field import MultilayerField
from netgain.solvers.contractivity.sdp import closed_form_bound, least_lower_slope, norm_bound, upper_bound
from netgain.solvers.contractivity.slope_branch_and_bound import SlopeBranchAndBound, WorstLogNorm
from netgain.solvers.contractivity.slope_gradient_flow import SlopeGradientFlow, optimistic_lower_slope
from netgain.solvers.contractivity.time_dependent_field import SampledField
from netgain.solvers.result import Limits, Status
from threadpoolctl import threadpool_limits

from .certificate import ContractivityCertificate
from .check import log_norm_at
from .proof import ProvedLogNorm, all_boxes, log_norm_claim, one_box, prove_log_norm, prove_lower_slope

DEFAULT_TIME_LIMIT = 60.0


class ContractivityVerdict(enum.Enum):
    """Whether the logarithmic norm keeps the level for all slopes of the activation."""

    CONTRACTIVE = "Proved: the logarithmic norm keeps the level for all slopes."
    NOT_CONTRACTIVE = "Disproved: these slopes, which are within the interval, exceed the level."
    UNDECIDED = "Undecided: the level lies between the bounds. More time would bring them together."


class ContractivityStage(enum.Enum):
    """The parts of the work, in order; the value is what a progress display says."""

    GRADIENT = "following the gradient system"
    RELAX = "bounding by semidefinite programming"
    SEARCH = "searching all slopes"
    INTERVAL = "searching the slope interval"


class FieldForm(enum.Enum):
    """The forms of field that can be bounded."""

    ONE_LAYER = "u' = B u + E s(A u + b)"
    LAYERS = "u' = s(A_k .. s(A_1 u + b_1) .. + b_k)"
    IN_TIME = "u' = s(A(t) u + b(t))"


@dataclasses.dataclass(frozen=True, eq=False)
class WorstCase:
    """max_D mu(J(D)) over the activation's slopes: lower <= max <= upper <= semidefinite.

    **Attributes:** `lower`: reached by `slopes`, one array per layer, proved; `upper`, `semidefinite`: proved, inf
    where nothing is; `gradient`: the gradient system's local maximum, `closed_form` and `norm_product`: cheaper upper
    bounds, inf where there is none of the kind; these three in floating point; `search`: how branch and bound went.
    """

    lower: float
    upper: float
    semidefinite: float
    gradient: float
    closed_form: float
    norm_product: float
    slopes: tuple[np.ndarray, ...]
    search: WorstLogNorm | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class SlopeIntervals:
    """The least m with max_D mu(J(D)) <= level over slopes in [m, upper], None where not even m = upper keeps the
    level.

    **Attributes:** `gradient`: what the two-level gradient method suggests: at most the truth up to rounding, so an
    interval
    [gradient, upper] may hold slopes that exceed the level; `low`: the truth is at least this (floating point);
    `high`, `semidefinite`: proved from above, by all boxes of the search and by one.
    """

    gradient: float | None
    low: float | None
    high: float | None
    semidefinite: float | None


class FieldCertificate(Protocol):
    """What certificates of all forms of fields share."""

    @property
    def level(self) -> float: ...

    @property
    def lower(self) -> float: ...

    @property
    def upper(self) -> float: ...

    @property
    def digest(self) -> str: ...

    @property
    def arithmetic(self) -> str: ...

    def save(self, path: str | os.PathLike[str]) -> None: ...


@dataclasses.dataclass(frozen=True, eq=False)
class ContractivityReport:
    """What is known of a field's contractivity in the Euclidean norm.

    **Attributes:** `certificate`: proves `worst.upper` over [lower, upper]; `interval_certificate`: proves the level
    over [intervals.high, upper]; `gradient_is_wrong`: the gradient system's local maximum keeps the level, some slopes
    do not; `seconds`: by stage; `notes`: what a reader should know; `log_gain`: for fields that change with time, the
    logarithm of a proved bound of the flow map's Lipschitz constant over the times sampled.
    """

    name: str
    form: FieldForm
    field: SlopeField | MultilayerField | SampledField
    level: float
    worst: WorstCase
    intervals: SlopeIntervals
    certificate: FieldCertificate | None
    interval_certificate: FieldCertificate | None
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
    log_gain: float | None = None

    @property
    def verdict(self) -> ContractivityVerdict:
        if self.worst.upper <= self.level:
            return ContractivityVerdict.CONTRACTIVE
        if self.worst.lower > self.level:
            return ContractivityVerdict.NOT_CONTRACTIVE
        return ContractivityVerdict.UNDECIDED

    @property
    def gradient_is_wrong(self) -> bool:
        return self.worst.gradient <= self.level < self.worst.lower


def contractivity(
    field: SlopeField,
    level: float = 0.0,
    *,
    name: str = "field",
    limits: Limits | None = None,
    search: SlopeBranchAndBound | None = None,
    on_stage: Callable[[ContractivityStage], None] | None = None,
) -> ContractivityReport:
    """Bounds the worst logarithmic norm over the field's slopes, and the slope interval that keeps the level.

    **Arguments:** `level`: c; `limits`: the tolerance is relative to the size of the field, the seconds are for
    everything (default 60); `search`: settings of the branch and bound, whose own limits are not used.
    """
    limits = limits or Limits(time_limit=DEFAULT_TIME_LIMIT)
    announce = on_stage or (lambda stage: None)
    clock, notes = Clock(limits), list[str]()
    # m starts at 0, or at the activation's own lower end where that is negative.
    wide = field.with_lower(min(0.0, field.lower))
    with threadpool_limits(limits=1, user_api="blas"):
        announce(ContractivityStage.GRADIENT)
        local = SlopeGradientFlow().solve(field)
        suggested = optimistic_lower_slope(wide, level)
        clock.lap("gradient")

        announce(ContractivityStage.RELAX)
        bound = upper_bound(field, clock.share(0.2))
        semidefinite = prove_log_norm(field, one_box(field, bound.multipliers), bound.value)
        certified = least_lower_slope(wide, level, clock.share(0.3))
        by_one_box = None
        if certified.lower_slope is not None:
            at = wide.with_lower(certified.lower_slope)
            by_one_box = prove_lower_slope(at, one_box(at, certified.bound.multipliers), level)
        clock.lap("relax")

        announce(ContractivityStage.SEARCH)
        searcher = search or SlopeBranchAndBound()
        found = dataclasses.replace(searcher, limits=clock.share(0.5)).solve(field)
        proved = prove_log_norm(field, all_boxes(found.leaves), found.upper)
        best = min((part for part in (proved, semidefinite) if part), key=lambda part: part.claim.level, default=None)
        reached = log_norm_at(log_norm_claim(field, level), found.slopes, top_pair(field, found.slopes).vector)
        clock.lap("search")

        announce(ContractivityStage.INTERVAL)
        low: float | None = wide.lower
        by_boxes = by_one_box
        try:
            if found.status is Status.INTERRUPTED:
                raise KeyboardInterrupt
            exact = exact_lower_slope(wide, level, dataclasses.replace(searcher, limits=clock.share(0.9)))
        except KeyboardInterrupt:
            notes.append("Interrupted: the slope interval was not searched.")
        else:
            low = exact.low
            if exact.high is not None:
                at = wide.with_lower(exact.high)
                tighter = prove_lower_slope(at, all_boxes(exact.worst.leaves), level)
                by_boxes = min((part for part in (tighter, by_one_box) if part), key=_lower_end, default=None)
        clock.lap("interval")
    plain = field.outputs is None and field.linear is None
    if reached > level and field.lower <= 0 < field.upper and level <= 0 and plain:
        # Were the slope of neuron i alone not zero, mu would be (a_ii + |a_i|) / 2 times that slope.
        notes.append("With slopes down to zero only diagonal weights have a Euclidean logarithmic norm of at most 0. "
                     "Ask for a level above 0, or for another metric (`contraction_metric`).")
    if best is None:
        notes.append("Nothing is proved of the worst logarithmic norm: the numbers are out of reach of the checker.")
    return ContractivityReport(
        name=name,
        form=FieldForm.ONE_LAYER,
        field=field,
        level=level,
        worst=WorstCase(
            lower=reached,
            upper=best.claim.level if best else math.inf,
            semidefinite=semidefinite.claim.level if semidefinite else math.inf,
            gradient=local.value,
            closed_form=closed_form_bound(field),
            norm_product=norm_bound(field),
            slopes=(found.slopes,),
            search=found,
        ),
        intervals=SlopeIntervals(
            gradient=suggested.lower_slope,
            low=low,
            high=_lower_end(by_boxes) if by_boxes else None,
            semidefinite=_lower_end(by_one_box) if by_one_box else None,
        ),
        certificate=_certificate(best),
        interval_certificate=_certificate(by_boxes),
        seconds=clock.seconds,
        notes=tuple(notes),
    )


def _lower_end(proved: ProvedLogNorm) -> float:
    return proved.claim.lower


def _certificate(proved: ProvedLogNorm | None) -> ContractivityCertificate | None:
    if proved is None:
        return None
    solver = "branch and bound" if len(proved.proof.signs) > 1 else "barrier method"
    return ContractivityCertificate.of(proved.claim, proved.proof, proved.verdict, solver)


class Clock:
    """Shares out what is left of the time, and notes how long each stage took."""

    def __init__(self, limits: Limits):
        self._limits, self._begin = limits, time.perf_counter()
        self.seconds: dict[str, float] = {}

    def share(self, part: float) -> Limits:
        left = self._limits.time_limit - (time.perf_counter() - self._begin)
        return dataclasses.replace(self._limits, time_limit=max(part * left, 1e-3))

    def lap(self, stage: str) -> None:
        self.seconds[stage] = time.perf_counter() - self._begin - sum(self.seconds.values())
