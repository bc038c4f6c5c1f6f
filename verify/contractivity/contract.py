r"""The question of contractive weights: how little must A change until mu(B + D A) <= c for all slopes?

Three ways, each with the distance |A' - A| in the Frobenius norm and a proof that A' keeps the level:

- `one inequality`: a semidefinite problem whose answer brings its own proof, a few per cent from the nearest;
- `cutting planes`: the nearest weights, up to the tolerance of the search, by ruling out one pattern of slopes after
  the other;
- `shift`: A - tau I with the least tau, as in the experiment of Guglielmi et al. (arXiv 2402.13092); most often it is
  farther.
"""

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
from netgain.layers import Graph, ModelError, SampledWeights
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.projection import contractive_weights, nearest_contractive_weights
from netgain.solvers.contractivity.sdp import upper_bound
from netgain.solvers.contractivity.slope_branch_and_bound import SlopeBranchAndBound
from netgain.solvers.result import Limits
from threadpoolctl import threadpool_limits

from .certificate import ContractivityCertificate
from .check import LogNormProof, check_log_norm
from .proof import all_boxes, log_norm_claim, one_box
from .slope_fields import slope_field

DEFAULT_TIME_LIMIT = 120.0
ONE_INEQUALITY, CUTTING_PLANES, SHIFT = "one inequality", "cutting planes", "shift"
METHODS = (ONE_INEQUALITY, SHIFT, CUTTING_PLANES)
"""The fastest first."""
# The level aimed at is lower than the one asked for by these, relative to the size of the weights, until it is proved.
_MARGINS = (0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
_TOLERANCE = 1e-6
_DOUBLINGS = 40
# Seconds of the semidefinite problem are about this number times n^5 (measured for n to 32).
_SECONDS = 3e-7


@dataclasses.dataclass(frozen=True, eq=False)
class ContractedWeights:
    """What one method found.

    **Attributes:** `weights`: A', None where `note` says why there are none; `distance`: |A' - A| in the Frobenius
    norm; `certificate`: proves the level for A'.
    """

    method: str
    weights: np.ndarray | None
    distance: float
    certificate: ContractivityCertificate | None
    seconds: float
    note: str = ""

    @property
    def proved(self) -> bool:
        return self.certificate is not None


@dataclasses.dataclass(frozen=True, eq=False)
class ContractReport:
    """The results of all methods. `size`: |A| in the Frobenius norm; `before`: a bound of mu for A itself, in floating
    point."""

    name: str
    field: SlopeField
    level: float
    before: float
    size: float
    results: tuple[ContractedWeights, ...]
    seconds: float

    @property
    def nearest(self) -> ContractedWeights | None:
        """The proved weights of least distance."""
        return min((result for result in self.results if result.proved), key=lambda result: result.distance,
                   default=None)


class UnreachableError(ValueError):
    """No weights keep the level, whatever they are; the text says why."""


def contract(
    model: Graph | SampledWeights,
    level: float = 0.0,
    *,
    methods: tuple[str, ...] = METHODS,
    limits: Limits | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> ContractReport:
    """Weights near those of a field u' = B u + s(A u + b) that keep the level, with proof.

    **Arguments:** `methods`: which of `METHODS`; `limits`: the seconds (default 120) are shared out evenly.

    **Raises:** `ModelError` for a model that is no such field; `UnreachableError`; `ValueError` for an unknown method.
    """
    if unknown := set(methods) - set(METHODS):
        raise ValueError(f"Unknown methods: {', '.join(sorted(unknown))}; known are {', '.join(METHODS)}.")
    limits, begin = limits or Limits(time_limit=DEFAULT_TIME_LIMIT), time.perf_counter()
    field = _plain(model)
    with threadpool_limits(limits=1, user_api="blas"):
        on_stage("bounding the weights as they are")
        before, kept = _already(field, level, limits.time_limit / 10)
        if kept is None:
            _require_reachable(field, level)
        results: list[ContractedWeights] = []
        solve = {ONE_INEQUALITY: _one_inequality, CUTTING_PLANES: _cutting_planes, SHIFT: _shift}
        for number, method in enumerate(methods):
            if kept is not None:
                note = "the weights keep the level as they are"
                results.append(ContractedWeights(method, field.inputs, 0.0, kept, 0.0, note))
                continue
            on_stage(f"changing the weights: {method}")
            start = time.perf_counter()
            left = max(limits.time_limit - (start - begin), 1e-1) / (len(methods) - number)
            try:
                result = solve[method](field, level, left)
            except RuntimeError as error:
                result = _nothing(method, str(error))
            except KeyboardInterrupt:
                results += [_nothing(other, "interrupted") for other in methods[number:]]
                break
            results.append(dataclasses.replace(result, seconds=time.perf_counter() - start))
    return ContractReport(model.name, field, level, before, float(np.linalg.norm(field.inputs)), tuple(results),
                          time.perf_counter() - begin)


def _plain(model: Graph | SampledWeights) -> SlopeField:
    field = slope_field(model)
    if not isinstance(field, SlopeField):
        raise ModelError(f"{model.name} has several layers, or weights that change with time; contractive weights are "
                         "sought for u' = B u + s(A u + b) alone. `netgain contractivity` bounds the others.")
    if field.outputs is not None:
        raise ModelError(f"{model.name} has weights E after the activation, so that two matrices would have to change; "
                         "contractive weights are sought for u' = B u + s(A u + b) alone. `netgain contractivity` "
                         "bounds the others.")
    return field


def _already(field: SlopeField, level: float, time_limit: float) -> tuple[float, ContractivityCertificate | None]:
    """A bound of mu for the weights as they are, by one box if that keeps the level, else by branch and bound, and the
    certificate of the level, if they keep it."""
    bound = upper_bound(field)
    if certificate := _certified(field, one_box(field, bound.multipliers), level, "barrier method"):
        return bound.value, certificate
    found = SlopeBranchAndBound(limits=Limits(time_limit=time_limit)).solve(field)
    if found.upper > level:
        return found.upper, None
    return found.upper, _certified(field, all_boxes(found.leaves), level, "branch and bound")


def _certified(field: SlopeField, proof: LogNormProof, level: float, solver: str) -> ContractivityCertificate | None:
    claim = log_norm_claim(field, level)
    verdict = check_log_norm(claim, proof)
    return ContractivityCertificate.of(claim, proof, verdict, solver) if verdict.proved else None


def _result(method: str, field: SlopeField, changed: SlopeField, certificate: ContractivityCertificate,
            note: str = "") -> ContractedWeights:
    distance = float(np.linalg.norm(changed.inputs - field.inputs))
    return ContractedWeights(method, changed.inputs, distance, certificate, 0.0, note)


def _nothing(method: str, why: str) -> ContractedWeights:
    return ContractedWeights(method, None, math.inf, None, 0.0, why)


def _one_inequality(field: SlopeField, level: float, time_limit: float) -> ContractedWeights:
    predicted = _SECONDS * field.size**5
    if predicted > time_limit:
        return _nothing(ONE_INEQUALITY, f"not run: predicted to take {predicted:.0f} s, more than its share of "
                                        f"{time_limit:.0f} s; --time-limit raises it")
    for margin in _MARGINS:
        found = contractive_weights(field, level - margin * 2.0 ** field.normalised()[1])
        certificate = _certified(found.field, one_box(found.field, found.multipliers), level, "Clarabel")
        if certificate is not None:
            return _result(ONE_INEQUALITY, field, found.field, certificate)
    return _nothing(ONE_INEQUALITY, "the checker does not prove it")


def _cutting_planes(field: SlopeField, level: float, time_limit: float) -> ContractedWeights:
    size, begin = 2.0 ** field.normalised()[1], time.perf_counter()
    for margin in _MARGINS[4:]:
        left = time_limit - (time.perf_counter() - begin)
        if left <= 0:
            break
        search = SlopeBranchAndBound(limits=Limits(tolerance=margin / 4, time_limit=left))
        # What the search leaves open, and the rounding of the proof, are within the margin.
        found = nearest_contractive_weights(field, level - margin * size, margin / 2 * size, search, time_limit=left)
        certificate = _certified(found.field, all_boxes(found.worst.leaves), level, "branch and bound")
        if certificate is not None:
            return _result(CUTTING_PLANES, field, found.field, certificate, f"{len(found.patterns)} cuts; the nearest, "
                           f"for the level less {margin * size:.1e}")
    return _nothing(CUTTING_PLANES, "the checker does not prove it")


def _require_reachable(field: SlopeField, level: float) -> None:
    """**Raises:** `UnreachableError` where slopes of zero, which remove the weights, leave no room below the level."""
    alone = 0.0 if field.linear is None else float(np.linalg.eigvalsh((field.linear + field.linear.T) / 2)[-1])
    if alone >= level and field.lower <= 0 <= field.upper:
        raise UnreachableError(f"With all slopes zero, which [{field.lower:g}, {field.upper:g}] allows, the "
                               f"logarithmic norm is {alone!r} whatever the weights: none can be proved to keep the "
                               f"level {level!r}. Ask for a level above {alone!r}.")


def _shift(field: SlopeField, level: float, time_limit: float) -> ContractedWeights:
    """The least tau by bisection: for slopes that are not negative, max_D mu(B + D (A - tau I)) never grows with it."""
    if field.lower < 0:
        return _nothing(SHIFT, "not run: with negative slopes a shift can do harm")
    begin, size = time.perf_counter(), 2.0 ** field.normalised()[1]

    def proved(tau: float) -> tuple[SlopeField, ContractivityCertificate] | None:
        shifted = dataclasses.replace(field, inputs=field.inputs - tau * np.eye(field.size))
        left = max(time_limit - (time.perf_counter() - begin), 1e-2)
        found = SlopeBranchAndBound(limits=Limits(time_limit=left)).solve(shifted, level)
        if found.upper > level:
            return None
        certificate = _certified(shifted, all_boxes(found.leaves), level, "branch and bound")
        return None if certificate is None else (shifted, certificate)

    low, high = 0.0, size
    best = proved(high)
    for _ in range(_DOUBLINGS):
        if best is not None or time.perf_counter() - begin > time_limit / 2:
            break
        low, high = high, 2 * high
        best = proved(high)
    if best is None:
        return _nothing(SHIFT, f"no shift up to {high:.3g} is proved to do")
    while high - low > _TOLERANCE * size and time.perf_counter() - begin < time_limit:
        middle = (low + high) / 2
        found = proved(middle)
        if found is None:
            low = middle
        else:
            high, best = middle, found
    early = "" if high - low <= _TOLERANCE * size else "; stopped early"
    return _result(SHIFT, field, best[0], best[1], f"tau = {high:.7g}{early}")
