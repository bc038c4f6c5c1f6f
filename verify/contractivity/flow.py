r"""The question of flows and their discretisations: how far apart can u' = f(u), and its Euler steps, carry solutions?

Of the flow map over a time T, by the logarithmic norm, |u(T) - v(T)| <= exp(mu T) |u(0) - v(0)|, and by a metric that
changes with time (`solvers.contractivity.flow_bound`), both without an error of discretisation. Of the residual network
of N Euler steps, by the matrix inequality of feedforward networks. As N grows the network's map tends to the flow's,
but a bound of the one is none of the other: coarse steps can expand where the flow contracts.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
from flint import arb
from netgain.layers import Graph, ModelError, SampledWeights
from netgain.solvers.contractivity.flow_bound import flow_bound
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.multilayer_field import MultilayerField
from netgain.solvers.contractivity.multilayer_sdp import multilayer_upper_bound
from netgain.solvers.contractivity.sdp import upper_bound
from netgain.solvers.contractivity.slope_branch_and_bound import SlopeBranchAndBound
from netgain.solvers.result import Limits, Status
from threadpoolctl import threadpool_limits

from ..balls import precision, upper
from ..lipschitz import INTERRUPTED_SEARCH, LipschitzReport, lipschitz
from .euler_network import euler_network
from .flow_certificate import FlowCertificate
from .flow_proof import prove_flow, prove_multilayer
from .proof import all_boxes, one_box, prove_log_norm
from .report import FieldForm
from .slope_fields import slope_field

DEFAULT_TIME_LIMIT = 120.0
DEFAULT_PIECES = 8
# Seconds of the differential inequality, times pieces and n^5; measured for n to 32.
_SECONDS = 7e-7


@dataclasses.dataclass(frozen=True)
class FlowMapBound:
    """A bound of the flow map's Lipschitz constant. `gain`: proved, None where `note` says why there is none;
    `rate`: log(gain) / T, or None likewise; `interrupted`: by Ctrl-C."""

    method: str
    gain: float | None
    rate: float | None
    seconds: float
    note: str = ""
    interrupted: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class EulerBound:
    """What is known of the network of `steps` Euler steps of length `step`."""

    steps: int
    step: float
    report: LipschitzReport

    def rate(self, duration: float) -> float:
        """log(upper) / T: tends to what the best metric proves of the flow; -inf for a bound of 0."""
        upper = self.report.upper
        return math.log(upper) / duration if upper > 0 else -math.inf


@dataclasses.dataclass(frozen=True, eq=False)
class FlowReport:
    """Bounds of the flow map over `duration`, and of its Euler networks.

    **Attributes:** `certificate`: of the differential inequality; `slopes`: the activation's slope interval; `notes`:
    what a reader should know.
    """

    name: str
    form: FieldForm
    size: int
    slopes: tuple[float, float]
    duration: float
    bounds: tuple[FlowMapBound, ...]
    networks: tuple[EulerBound, ...]
    certificate: FlowCertificate | None
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def proved(self) -> bool:
        """Whether some bound of the flow map is proved."""
        return any(bound.gain is not None for bound in self.bounds)


def flow(
    model: Graph | SampledWeights,
    duration: float,
    steps: Sequence[int],
    *,
    pieces: int = DEFAULT_PIECES,
    limits: Limits | None = None,
    seed: int = 0,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> FlowReport:
    """Bounds the flow map of u' = f(u) over `duration`, and the Euler networks of so many `steps`.

    **Arguments:** `pieces`: of the time, on each of which the metric is linear; fewer are taken, and a note says so,
    where that many are predicted to take more than a third of the time; `limits`: for everything (default 120 s);
    `seed`: of the search for witnesses.

    **Raises:** `ValueError` for numbers that are not positive; `ModelError` for a model that is no field, or has
    weights that change with time.
    """
    if not 0 < duration < math.inf or pieces < 1 or not steps or min(steps) < 1:
        raise ValueError(f"`duration`, `pieces` and `steps` must be positive, got {duration!r}, {pieces!r} and "
                         f"{list(steps)!r}.")
    if isinstance(model, SampledWeights):
        raise ModelError(f"{model.name} has weights that change with time, known on a grid alone, so that its Euler "
                         "steps are not determined; `netgain contractivity` bounds its flow over the times sampled.")
    limits, begin = limits or Limits(time_limit=DEFAULT_TIME_LIMIT), time.perf_counter()
    field = slope_field(model)
    certificate, notes = None, list[str]()
    with threadpool_limits(limits=1, user_api="blas"):
        on_stage("bounding the logarithmic norm")
        if isinstance(field, SlopeField):
            form = FieldForm.ONE_LAYER
            bounds = list(_exponentials(field, duration, dataclasses.replace(limits, time_limit=limits.time_limit / 6)))
            if not any(bound.interrupted for bound in bounds):
                on_stage("bounding the flow map by a metric that changes with time")
                differential, certificate = _differential(field, duration, pieces, limits.time_limit / 3)
                bounds.append(differential)
        else:
            assert isinstance(field, MultilayerField)
            form, bounds = FieldForm.LAYERS, [_exponential_of_layers(field, duration)]
            notes.append("A metric that changes with time is not offered for fields of several layers.")
        networks = []
        counts = sorted(set(steps))
        if any(bound.interrupted for bound in bounds):
            counts = []
            notes.append("Interrupted: networks of Euler steps were not bounded.")
        for done, count in enumerate(counts):
            on_stage(f"bounding the network of {count} Euler steps")
            left = max(limits.time_limit - (time.perf_counter() - begin), 1e-1) / (len(counts) - done)
            try:
                report = lipschitz(euler_network(model, duration, count), seed=seed,
                                   limits=dataclasses.replace(limits, time_limit=left))
            except KeyboardInterrupt:
                notes.append(f"Interrupted: networks of {count} Euler steps and more were not bounded.")
                break
            networks.append(EulerBound(count, duration / count, report))
            if report.solution.status is Status.INTERRUPTED or INTERRUPTED_SEARCH in report.notes:
                notes.append(f"Interrupted: networks of more than {count} Euler steps were not bounded.")
                break
    return FlowReport(model.name, form, field.size, (field.lower, field.upper), float(duration), tuple(bounds),
                      tuple(networks), certificate, time.perf_counter() - begin, tuple(notes))


def exponential_upper(rate: float, duration: float) -> float:
    """The least float64 found not below exp(rate duration)."""
    with precision(128):
        return upper((arb(rate) * arb(duration)).exp())


def _exponentials(field: SlopeField, duration: float, limits: Limits) -> tuple[FlowMapBound, FlowMapBound]:
    """exp(mu T) with mu by the semidefinite bound, and by branch and bound."""
    begin = time.perf_counter()
    bound = upper_bound(field, limits)
    by_one = prove_log_norm(field, one_box(field, bound.multipliers), bound.value)
    semidefinite = _exponential("exp(mu T), semidefinite", by_one.claim.level if by_one else None, duration, begin)
    begin = time.perf_counter()
    found = SlopeBranchAndBound(limits=limits).solve(field)
    by_all = prove_log_norm(field, all_boxes(found.leaves), found.upper)
    level = min((proved.claim.level for proved in (by_one, by_all) if proved), default=None)
    exact = _exponential("exp(mu T), branch and bound", level, duration, begin)
    if found.status is not Status.OPTIMAL:
        stopped = found.status is Status.INTERRUPTED
        exact = dataclasses.replace(exact, note=found.status.value, interrupted=stopped)
    return semidefinite, exact


def _exponential_of_layers(field: MultilayerField, duration: float) -> FlowMapBound:
    begin = time.perf_counter()
    if not np.all(np.isfinite(field.jacobian([np.full(len(weight), field.upper) for weight in field.weights]))):
        raise OverflowError("the product of the layers' weights is more than float64 holds.")
    proved = prove_multilayer(field, multilayer_upper_bound(field))
    return _exponential("exp(mu T), semidefinite", proved.claim.level if proved else None, duration, begin)


def _exponential(method: str, level: float | None, duration: float, begin: float) -> FlowMapBound:
    seconds = time.perf_counter() - begin
    if level is None:
        return FlowMapBound(method, None, None, seconds, "nothing was proved of the logarithmic norm")
    gain = exponential_upper(level, duration)
    if not math.isfinite(gain):
        return FlowMapBound(method, None, level, seconds, "more than float64 holds")
    return FlowMapBound(method, gain, level, seconds, f"mu <= {level:.7g}")


def _differential(
    field: SlopeField, duration: float, pieces: int, time_limit: float
) -> tuple[FlowMapBound, FlowCertificate | None]:
    """The bound by a metric on as many pieces as are predicted to be done in time."""
    method, begin = "metric changing with time", time.perf_counter()
    each = _SECONDS * (field.size + field.neurons) ** 5 / 2**5
    fitting = [count for count in (pieces, 8, 4, 2, 1) if count <= pieces and count * each <= time_limit]
    if not fitting:
        return FlowMapBound(method, None, None, 0.0, f"not run: one piece is predicted to take {each:.0f} s, more than "
                                                     f"its share of {time_limit:.0f} s; --time-limit raises it"), None
    fewer = "" if fitting[0] == pieces else f", as {pieces} are predicted to take {pieces * each:.0f} s"
    note = f"pieces: {fitting[0]}{fewer}"
    try:
        proved = prove_flow(field, flow_bound(field, duration, fitting[0]))
    except KeyboardInterrupt:
        return FlowMapBound(method, None, None, time.perf_counter() - begin, f"{note}; interrupted", True), None
    except RuntimeError as error:
        return FlowMapBound(method, None, None, time.perf_counter() - begin, f"{note}; {error}"), None
    seconds = time.perf_counter() - begin
    if proved is None:
        return FlowMapBound(method, None, None, seconds, f"{note}; the checker does not prove it"), None
    gain = proved.claim.gain
    return FlowMapBound(method, gain, math.log(gain) / duration, seconds, note), FlowCertificate.of(proved)
