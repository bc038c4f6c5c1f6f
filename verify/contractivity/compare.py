"""`compare` for neural ODEs: what the gradient system, branch and bound, semidefinite programming and others say."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from netgain import layers
from netgain.layers import Graph, SampledWeights
from netgain.layers.formats import holds_field
from netgain.solvers.contractivity.flow_bound import contraction_metric
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.multilayer_field import MultilayerField
from netgain.solvers.contractivity.pairs import pairs_upper_bound
from netgain.solvers.contractivity.slope_ascent import SlopeAscent
from netgain.solvers.result import Limits, Status

from ..comparison import (
    Comparison,
    ComparisonRequest,
    Finding,
    Kind,
    Order,
    RequestError,
    Row,
    Severity,
    Side,
    crossings,
    out_of_order,
)
from .flow_proof import prove_metric
from .forms import contractivity_in_time, contractivity_of_layers
from .report import ContractivityReport, ContractivityVerdict, contractivity
from .slope_fields import slope_field

MU, INTERVAL, RATE, GAIN = "mu", "m", "mu_P", "gain"
GRADIENT, ASCENT, WORST, EXACT = "gradient system", "alternating ascent", "worst slopes", "branch and bound"
SEMIDEFINITE, PAIRS, CLOSED_FORM, NORM_BOUND = "semidefinite", "pairs", "closed form", "norm bound"
_EUCLIDEAN, _SLOPES, _METRIC = "Euclidean norm", "slope interval", "metric P"

DEFAULT_CONDITION = 100.0
# Seconds of one matrix inequality are about these numbers times n^5 and k^3 (measured for n to 32 and k to 26).
_METRIC_SECONDS, _PAIRS_SECONDS = 2e-7, 1e-3
_METRIC_SOLVES = 17
_MOST_VERTICES = 512

_ORDERS = (
    Order(WORST, PAIRS, "A lower bound that is reached cannot be above it: the solver's shares are off."),
    Order(PAIRS, SEMIDEFINITE, "With the best shares, pairs are never worse than single neurons: a solver stopped "
                               "early."),
    Order(EXACT, SEMIDEFINITE, "The search starts from the semidefinite bound: the latter's solve stopped early."),
    Order(SEMIDEFINITE, CLOSED_FORM, "The closed form is one choice of multipliers: the solve stopped early."),
    Order(SEMIDEFINITE, NORM_BOUND, "The norm bound is one choice of multipliers: the solve stopped early."),
    Order(GRADIENT, WORST, "The gradient system found worse slopes than the search: the search stopped early."),
)


def compare_field(
    model: Graph | SampledWeights, request: ComparisonRequest, on_stage: Callable[[str], None] = lambda stage: None
) -> Comparison:
    """All that is known of a field's worst logarithmic norm, its slope interval and the metrics it contracts in.

    **Raises:** `ModelError` for a network that is no field; `RequestError` for a `lower_slope` above the
    activation's largest slope.
    """
    begin = time.perf_counter()
    field, level = slope_field(model), float(request.level or 0.0)
    if request.lower_slope is not None:
        if request.lower_slope > field.upper:
            raise RequestError("lower_slope", f"{request.lower_slope} is above the activation's largest slope, "
                                              f"{field.upper:g}.")
        field = field.with_lower(float(request.lower_slope))
    limits = Limits(time_limit=0.6 * request.time_limit)
    rows: list[Row] = []
    if isinstance(field, SlopeField):
        report = contractivity(field, level, name=model.name, limits=limits,
                               on_stage=lambda stage: on_stage(stage.value))
        rows += report_rows(report)
        left = request.time_limit - (time.perf_counter() - begin)
        # Ctrl-C ends what is under way; what there is by then is compared.
        with contextlib.suppress(KeyboardInterrupt):
            for row in _further_rows(field, report, request.most_condition or DEFAULT_CONDITION, left, on_stage):
                rows.append(row)
        slack = 1e-6 * 2.0 ** field.normalised()[1]
    elif isinstance(field, MultilayerField):
        report = contractivity_of_layers(field, level, name=model.name, limits=limits,
                                         on_stage=lambda stage: on_stage(stage.value))
        rows += [*report_rows(report), *_missing("of several layers")]
        slack = 1e-6 * report.worst.norm_product
    else:
        report = contractivity_in_time(field, level, name=model.name, limits=limits,
                                       on_stage=lambda stage: on_stage(stage.value))
        rows += [*report_rows(report), *_missing("that change with time")]
        slack = 1e-6 * report.worst.norm_product
    meanings = _meanings(report, any(row.quantity == RATE for row in rows))
    rows.sort(key=lambda row: list(meanings).index(row.quantity))
    return Comparison(
        model.name,
        f"{report.form.value} in R^{field.size}, slopes in [{field.lower:g}, {field.upper:g}]",
        meanings,
        tuple(rows),
        tuple(findings(rows, level, slack)),
    )


def report_rows(report: ContractivityReport) -> list[Row]:
    """The rows of what `contractivity` found; a stage's time stands at its first row."""
    worst, level, seconds = report.worst, report.level, report.seconds
    searched = worst.search is not None

    def mu(method: str, value: float, side: Side, proved: bool, stage: str = "", note: str = "") -> Row:
        given = value if math.isfinite(value) else None
        return Row(_EUCLIDEAN, MU, method, given, side, proved and given is not None, seconds.get(stage), note,
                   _verdict(method, given, side, level))

    rows = [
        mu(GRADIENT, worst.gradient, Side.LOWER, False, "gradient", "a local maximum, optimistic"),
        mu(WORST, worst.lower, Side.LOWER, True, "", "slopes that reach it"),
    ]
    if searched:
        assert worst.search is not None
        done = worst.search.status in (Status.OPTIMAL, Status.CLOSED_FORM)
        how = "done" if done else "stopped early, an enclosure with the worst slopes"
        rows.append(mu(EXACT, worst.upper, Side.UPPER, True, "search", f"{worst.search.nodes} boxes, {how}"))
        if report.verdict is ContractivityVerdict.NOT_CONTRACTIVE:
            rows[-1] = dataclasses.replace(rows[-1], verdict=rows[1].verdict)
    rows.append(mu(SEMIDEFINITE, worst.semidefinite, Side.UPPER, True, "relax"))
    rows += [mu(name, value, Side.UPPER, False) for name, value in
             ((CLOSED_FORM, worst.closed_form), (NORM_BOUND, worst.norm_product)) if math.isfinite(value)]
    found = report.intervals

    def m(method: str, value: float | None, side: Side, proved: bool, stage: str = "", note: str = "") -> Row:
        none = "" if value is not None else f"no m keeps mu <= {level!r}"
        return Row(_SLOPES, INTERVAL, method, value, side, proved and value is not None, seconds.get(stage),
                   none or note)

    rows.append(m(GRADIENT, found.gradient, Side.LOWER, False, "", "optimistic; time with that of mu"))
    if searched:
        rows.append(m(WORST, found.low, Side.LOWER, False, "", "slopes there reach the level"))
        rows.append(m(EXACT, found.high, Side.UPPER, True, "interval"))
    rows.append(m(SEMIDEFINITE, found.semidefinite, Side.UPPER, True, "" if searched else "interval",
                  "time with that of mu" if searched else ""))
    if report.log_gain is not None:
        rows.append(Row("flow map", GAIN, SEMIDEFINITE, math.exp(report.log_gain) * (1 + 1e-12), Side.UPPER, True,
                        None, "over the times sampled"))
    return rows


def findings(rows: list[Row], level: float, slack: float) -> list[Finding]:
    """All disagreements, from the rows alone: verdicts first."""
    return [*wrong_verdicts(rows, level, slack), *crossings(rows, slack), *out_of_order(rows, _ORDERS, slack)]


def wrong_verdicts(rows: list[Row], level: float, slack: float) -> list[Finding]:
    """What local maxima suggest and better slopes refute: that a level is kept, and on how wide an interval."""
    found = []
    reached = max((row for row in rows if row.quantity == MU and row.proved and row.side is Side.LOWER),
                  key=lambda row: row.value or -math.inf, default=None)
    for row in rows:
        if row.proved or row.side is not Side.LOWER or row.value is None:
            continue
        if row.quantity == MU and reached and reached.value is not None and row.value <= level < reached.value:
            found.append(Finding(Severity.WRONG, f"The {row.method} ends at mu = {row.decimal} and suggests that mu <= "
                                                 f"{level!r} holds; it does not, some slopes reach {reached.decimal}. "
                                                 "It had stopped at a local maximum, which is a lower bound."))
        if row.quantity == INTERVAL and row.method == GRADIENT:
            low = next((other.value for other in rows if other.quantity == INTERVAL and other.method == WORST), None)
            # Intervals are enclosed to 1e-6.
            if low is not None and row.value < low - max(2e-6, slack):
                found.append(Finding(Severity.WRONG, f"The {row.method} suggests slopes from m = {row.decimal} on; "
                                                     f"below {low:.7g} some exceed the level {level!r}."))
    return found


def _verdict(method: str, value: float | None, side: Side, level: float) -> str:
    if value is None:
        return ""
    if side is Side.LOWER:
        if value > level:
            return f"exceeds {level:g}"
        return "open" if method == WORST else f"suggests <= {level:g}"
    return f"keeps <= {level:g}" if value <= level else "open"


def _further_rows(
    field: SlopeField, report: ContractivityReport, condition: float, left: float, on_stage: Callable[[str], None]
) -> Iterator[Row]:
    """Rows beyond what `contractivity` asks: more methods for mu, and metrics other than the Euclidean."""
    on_stage("searching slopes by alternating ascent")
    begin = time.perf_counter()
    ascent = SlopeAscent(time_limit=max(0.1 * left, 1e-3)).solve(field)
    yield Row(_EUCLIDEAN, MU, ASCENT, ascent.value, Side.LOWER, False, time.perf_counter() - begin,
              "restarts and single flips", _verdict(ASCENT, ascent.value, Side.LOWER, report.level))
    yield _pairs_row(field, report.level, left / 3, on_stage)
    yield _abscissa_row(field, report)
    for diagonal in (True, False):
        yield _metric_row(field, condition, diagonal, left / 3, on_stage)


def _pairs_row(field: SlopeField, level: float, left: float, on_stage: Callable[[str], None]) -> Row:
    predicted = _PAIRS_SECONDS * field.neurons**3
    if field.neurons < 2 or predicted > left:
        why = "needs two neurons" if field.neurons < 2 else f"not run: predicted to take {predicted:.0f} s"
        return Row(_EUCLIDEAN, MU, PAIRS, None, Side.UPPER, False, None, why)
    on_stage("bounding by pairs of slopes")
    begin = time.perf_counter()
    try:
        value = pairs_upper_bound(field).value
    except RuntimeError as error:
        return Row(_EUCLIDEAN, MU, PAIRS, None, Side.UPPER, False, time.perf_counter() - begin, f"failed: {error}")
    return Row(_EUCLIDEAN, MU, PAIRS, value, Side.UPPER, False, time.perf_counter() - begin, "no checker for it",
               _verdict(PAIRS, value, Side.UPPER, level))


def _abscissa_row(field: SlopeField, report: ContractivityReport) -> Row:
    """The largest spectral abscissa of some vertices: no metric contracts faster."""
    begin = time.perf_counter()
    rng = np.random.default_rng(0)
    count = int(min(_MOST_VERTICES, max(4, 2e7 // field.size**3)))
    slopes = np.where(rng.random((count, field.neurons)) < 0.5, field.lower, field.upper)
    slopes[0], slopes[1], slopes[2] = field.lower, field.upper, report.worst.slopes[0]
    value = float(np.max(np.linalg.eigvals(field.jacobian(slopes)).real))
    return Row(_METRIC, RATE, "spectral abscissa", value, Side.LOWER, False, time.perf_counter() - begin,
               f"of {count} choices of slopes: a limit for every metric")


def _metric_row(
    field: SlopeField, condition: float, diagonal: bool, left: float, on_stage: Callable[[str], None]
) -> Row:
    method, n = "diagonal metric" if diagonal else "metric", field.size
    order = (n if diagonal else n + field.neurons) / 2
    predicted = _METRIC_SOLVES * max(_METRIC_SECONDS * order**5, 5e-3)
    if predicted > left:
        return Row(_METRIC, RATE, method, None, Side.UPPER, False, None,
                   f"not run: predicted to take {predicted:.0f} s")
    on_stage(f"searching a {method}")
    begin = time.perf_counter()
    try:
        found = contraction_metric(field, condition, 1e-4 * 2.0 ** field.normalised()[1], diagonal)
    except RuntimeError as error:
        return Row(_METRIC, RATE, method, None, Side.UPPER, False, time.perf_counter() - begin, f"failed: {error}")
    proved = prove_metric(field, found)
    seconds = time.perf_counter() - begin
    if proved is None:
        return Row(_METRIC, RATE, method, None, Side.UPPER, False, seconds, "the checker does not prove it")
    return Row(_METRIC, RATE, method, proved.claim.level, Side.UPPER, True, seconds,
               f"cond(P) <= {proved.proof.condition:.4g}, at most {condition:g} allowed")


def _missing(form: str) -> list[Row]:
    """What is not offered for forms other than one layer."""
    why = f"not offered for weights {form}" if "time" in form else f"not offered for fields {form}"
    return [Row(_EUCLIDEAN, MU, EXACT, None, Side.UPPER, False, None,
                f"{why}: the exact value lies between the worst slopes and the semidefinite bound"),
            Row(_EUCLIDEAN, MU, PAIRS, None, Side.UPPER, False, None, why),
            Row(_METRIC, RATE, "metric", None, Side.UPPER, False, None, why)]


def _meanings(report: ContractivityReport, metrics: bool) -> dict[str, str]:
    field = report.field
    meanings = {
        MU: f"the largest logarithmic norm of f' over all slopes in [{field.lower:g}, {field.upper:g}], Euclidean norm;"
            " |u(t) - v(t)| <= exp(mu t) |u(0) - v(0)|",
        INTERVAL: f"the least number such that slopes in [m, {field.upper:g}] keep mu <= {report.level!r}",
    }
    if metrics:
        meanings[RATE] = ("the least rate in a norm x^T P x; |u(t) - v(t)| <= sqrt(cond(P)) exp(mu_P t) |u(0) - v(0)| "
                          "in the Euclidean norm")
    if report.log_gain is not None:
        meanings[GAIN] = "the Lipschitz constant of the flow map from the first to the last time"
    return meanings


def _recognises(path: Path) -> bool:
    return holds_field(path)


FIELD = Kind(
    name="field",
    what="the right-hand side of a neural ODE u' = f(u), an .npz archive with A, or A1, A2, .., and activation",
    recognises=_recognises,
    load=layers.load_field,
    compare=compare_field,
    options=frozenset({"level", "lower_slope", "most_condition"}),
)
