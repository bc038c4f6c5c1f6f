"""The question of `contractivity` for several layers and for weights that change with time.

For these the exact answer is enclosed between slopes that are reached and the semidefinite bound; there is no branch
and bound. Both bounds are proved, the gradient system's is optimistic as ever.
"""

import math
from collections.abc import Callable

import numpy as np
from netgain.solvers.contractivity.logarithmic_norm import top_pair
from netgain.solvers.contractivity.multilayer_field import MultilayerField
from netgain.solvers.contractivity.multilayer_sdp import certified_multilayer_lower_slope, multilayer_upper_bound
from netgain.solvers.contractivity.multilayer_search import (
    multilayer_ascent,
    multilayer_flow,
    optimistic_multilayer_lower_slope,
)
from netgain.solvers.contractivity.sdp import norm_bound
from netgain.solvers.contractivity.slope_ascent import SlopeAscent
from netgain.solvers.contractivity.slope_gradient_flow import optimistic_lower_slope
from netgain.solvers.contractivity.time_dependent_field import (
    SampledField,
    certified_lower_slope_along,
    gradient_flow_along,
    upper_bounds_along,
)
from netgain.solvers.result import Limits
from threadpoolctl import threadpool_limits

from .check import log_norm_at
from .flow_proof import ProvedMultilayer, prove_multilayer
from .in_time_certificate import InTimeCertificate
from .multilayer_certificate import MultilayerCertificate
from .multilayer_check import MultilayerClaim, check_multilayer, multilayer_norm_at
from .proof import log_norm_claim
from .report import (
    DEFAULT_TIME_LIMIT,
    Clock,
    ContractivityReport,
    ContractivityStage,
    FieldForm,
    SlopeIntervals,
    WorstCase,
)
from .time_dependent_proof import ProvedAlongTime, prove_along

_BEYOND = (0.0, *(10.0**-k for k in range(9, 1, -1)))


def contractivity_of_layers(
    field: MultilayerField,
    level: float = 0.0,
    *,
    name: str = "field",
    limits: Limits | None = None,
    on_stage: Callable[[ContractivityStage], None] | None = None,
) -> ContractivityReport:
    """Bounds the worst logarithmic norm of D_k A_k .. D_1 A_1, and the slope interval that keeps the level.

    **Arguments:** `limits`: the seconds end the search for the interval, not the first bound (default 60).
    """
    announce = on_stage or (lambda stage: None)
    clock, notes = Clock(limits or Limits(time_limit=DEFAULT_TIME_LIMIT)), list[str]()
    wide = field.with_lower(min(0.0, field.lower))
    with threadpool_limits(limits=1, user_api="blas"):
        announce(ContractivityStage.GRADIENT)
        local = multilayer_flow(field)
        suggested = optimistic_multilayer_lower_slope(wide, level, search=multilayer_flow)
        best = max((local, multilayer_ascent(field)), key=lambda found: found.value)
        claim = MultilayerClaim(field.weights, float(field.lower), float(field.upper), 0.0)
        reached = multilayer_norm_at(claim, best.slopes, field.top(list(best.slopes))[1])
        clock.lap("gradient")

        announce(ContractivityStage.RELAX)
        proved = prove_multilayer(field, multilayer_upper_bound(field))
        clock.lap("relax")

        announce(ContractivityStage.INTERVAL)
        start = certified_multilayer_lower_slope(wide, level, time_limit=clock.share(0.9).time_limit)
        interval = None if start is None else _prove_layers_from(wide, start, level)
        clock.lap("interval")
    if proved is None:
        notes.append("Nothing is proved of the worst logarithmic norm: the numbers are out of reach of the checker.")
    upper = proved.claim.level if proved else math.inf
    high = interval.claim.lower if interval else None
    size = max(abs(field.lower), abs(field.upper)) ** len(field.weights)
    return ContractivityReport(
        name=name,
        form=FieldForm.LAYERS,
        field=field,
        level=level,
        worst=WorstCase(
            lower=reached,
            upper=upper,
            semidefinite=upper,
            gradient=local.value,
            closed_form=math.inf,
            norm_product=size * math.prod(float(np.linalg.norm(weight, 2)) for weight in field.weights),
            slopes=best.slopes,
        ),
        intervals=SlopeIntervals(gradient=suggested, low=None, high=high, semidefinite=high),
        certificate=MultilayerCertificate.of(proved) if proved else None,
        interval_certificate=MultilayerCertificate.of(interval) if interval else None,
        seconds=clock.seconds,
        notes=tuple(notes),
    )


def _prove_layers_from(wide: MultilayerField, start: float, level: float) -> ProvedMultilayer | None:
    """The level on [m, upper] for the least m on a ladder from `start` that the checker proves; or None."""
    for beyond in _BEYOND:
        m = min(start + beyond * max(1.0, abs(wide.upper)), wide.upper)
        bound = multilayer_upper_bound(wide.with_lower(m))
        claim = MultilayerClaim(wide.weights, float(m), float(wide.upper), float(level))
        verdict = check_multilayer(claim, bound.multipliers, balls=False)
        if verdict.proved:
            return ProvedMultilayer(claim, bound.multipliers, verdict)
    return None


def contractivity_in_time(
    sampled: SampledField,
    level: float = 0.0,
    *,
    name: str = "field",
    limits: Limits | None = None,
    on_stage: Callable[[ContractivityStage], None] | None = None,
) -> ContractivityReport:
    """Bounds the worst logarithmic norm over all times of the span, and the slope interval that keeps the level.

    What is proved in between the samples rests on the field's Lipschitz constant.

    **Arguments:** `limits`: the tolerance is relative to the size of the field, the seconds are shared out evenly over
    the grid points (default 60).
    """
    announce = on_stage or (lambda stage: None)
    clock, count = Clock(limits or Limits(time_limit=DEFAULT_TIME_LIMIT)), len(sampled.times)
    wide, notes = sampled.with_lower(min(0.0, sampled.lower)), list[str]()
    notes.append(f"In between the {count} times the proof rests on the Lipschitz constant {sampled.lipschitz:g} stated "
                 "in the model.")
    with threadpool_limits(limits=1, user_api="blas"):
        announce(ContractivityStage.GRADIENT)
        locals_ = gradient_flow_along(sampled)
        suggested = [optimistic_lower_slope(wide.at(j), level).lower_slope for j in range(count)]
        clock.lap("gradient")

        announce(ContractivityStage.RELAX)
        along = upper_bounds_along(sampled, clock.share(0.5 / count))
        proved = prove_along(sampled, along)
        hardest = int(np.argmax([bound.value for bound in along.bounds]))
        there = sampled.at(hardest)
        ascent = SlopeAscent(time_limit=max(clock.share(0.2).time_limit, 1e-3)).solve(there, along.bounds[hardest])
        candidates = [(there, ascent.slopes), *((sampled.at(j), found.slopes) for j, found in enumerate(locals_))]
        reached, slopes = max(((log_norm_at(log_norm_claim(field, level), d, top_pair(field, d).vector), d)
                               for field, d in candidates), key=lambda pair: pair[0])
        clock.lap("relax")

        announce(ContractivityStage.INTERVAL)
        start = certified_lower_slope_along(wide, level, clock.share(0.5 / count))
        interval = None if start is None else _prove_along_from(wide, start, level, clock.share(0.2 / count))
        clock.lap("interval")
    if proved is None:
        notes.append("Nothing is proved of the worst logarithmic norm: the numbers are out of reach of the checker.")
    upper = proved.rate if proved else math.inf
    high = interval[0].lower if interval else None
    return ContractivityReport(
        name=name,
        form=FieldForm.IN_TIME,
        field=sampled,
        level=level,
        worst=WorstCase(
            lower=reached,
            upper=upper,
            semidefinite=upper,
            gradient=max(found.value for found in locals_),
            closed_form=math.inf,
            norm_product=max(norm_bound(sampled.at(j)) for j in range(count)) + _growth(sampled),
            slopes=(slopes,),
        ),
        intervals=SlopeIntervals(
            gradient=None if None in suggested else max(m for m in suggested if m is not None),
            low=None,
            high=high,
            semidefinite=high,
        ),
        certificate=InTimeCertificate.of(sampled, proved) if proved else None,
        interval_certificate=InTimeCertificate.of(*interval) if interval else None,
        seconds=clock.seconds,
        notes=tuple(notes),
        log_gain=proved.log_gain if proved else None,
    )


def _growth(sampled: SampledField) -> float:
    """How far mu can rise above its values at the ends of the longest step."""
    return sampled.speed * float(np.max(np.diff(sampled.times))) / 2


def _prove_along_from(
    wide: SampledField, start: float, level: float, limits: Limits
) -> tuple[SampledField, ProvedAlongTime] | None:
    """The level on [m, upper] for the least m on a ladder from `start` that is proved at all times; or None."""
    for beyond in _BEYOND:
        narrower = wide.with_lower(min(start + beyond * max(1.0, abs(wide.upper)), wide.upper))
        proved = prove_along(narrower, upper_bounds_along(narrower, limits))
        if proved is not None and proved.rate <= level:
            return narrower, proved
    return None
