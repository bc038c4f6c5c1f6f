"""`netgain compare` on implicit networks: the solution itself, finitely many steps towards it, and the flow to it.

The l2 gain L of the network is bounded by the matrix inequality of implicit layers. K steps of an iteration from x = 0
are a feedforward network with a gain L_K of its own, bounded by the inequality of those. Its maps tend to the
network's, uniformly on bounded sets, if the iteration contracts, so that lim inf L_K >= L; the bounds of L_K may come
to lie on either side of that of L, as they grant every step slopes of its own. The flow x' = -x + s(A x + v) has the
network's solutions as equilibria; if its logarithmic norm is at most mu < 0 for all slopes, they move by at most
beta |v| / -mu, beta the steepest slope.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from netgain import layers
from netgain.layers import Graph
from netgain.layers.formats import archive_keys
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.result import Limits, Status
from threadpoolctl import threadpool_limits

from ..comparison import Comparison, ComparisonRequest, Finding, Kind, Row, Severity, Side, crossings
from ..constraints import constraint_rows
from ..contractivity.report import contractivity
from ..lipschitz import lipschitz
from .certificate import plain_network
from .layer_report import WellPosedness, layer_report
from .unrolling import UnrolledStep, converging_step, unroll

GAIN, FLOW = "L", "mu"
DEPTHS = (1, 2, 4, 8, 16)
_SLACK = 1e-9
_TOO_LARGE = "products of the weights leave the range of float64"
_MEANING = "the largest logarithmic norm of x' = -x + s(A x + v) over all slopes, Euclidean norm"
_EARLY = (Status.TIME_LIMIT, Status.ITERATION_LIMIT, Status.STALLED)


def compare_implicit(
    graph: Graph, request: ComparisonRequest, on_stage: Callable[[str], None] = lambda stage: None
) -> Comparison:
    """The network as implicit layers, as unrolled ones, and, with one such layer, as the flow to its solutions.

    **Raises:** `ModelError` if the graph has a layer without an incremental constraint.
    """
    begin = time.perf_counter()

    def left(share: float) -> float:
        return max(share * (request.time_limit - (time.perf_counter() - begin)), 1e-1)

    quantities = {GAIN: "the least number with |f(u) - f(u')| <= L |u - u'| for all inputs, Euclidean norms"}
    with threadpool_limits(limits=1, user_api="blas"):
        rows = constraint_rows(graph)
        on_stage("proving well-posedness")
        reports = [layer_report(layer, request.seed) for layer in rows.loops]
        posed = all(report.verdict is WellPosedness.PROVED for report in reports)
        table = list(_implicit_rows(graph, left(0.3), request.seed, on_stage)) if posed else [
            Row("implicit", GAIN, "semidefinite", None, Side.UPPER, False, None, report.verdict.value)
            for report in reports if report.verdict is not WellPosedness.PROVED]
        steps = {layer.node: converging_step(graph, layer, report.proof.metric)
                 for layer, report in zip(rows.loops, reports, strict=True)}
        if len(rows.loops) == 1:
            on_stage("bounding the flow")
            flow, meaning = _flow_rows(graph, left(0.25))
            table += flow
            quantities |= meaning
        for depth in DEPTHS:
            on_stage(f"bounding {depth} steps")
            row = _unrolled_row(graph, depth, steps, left(0.5))
            table.append(row)
            how = "; ".join(f"{step.kind.value}, a = {step.size:.4g}" for step in steps.values())
            quantities[row.quantity] = f"the same of {depth} steps" if depth > 1 else f"the same of one step {how}"
    inputs, outputs = (math.prod(graph.shape(node)) for node in (graph.input, graph.output))
    contract = all(step.factor < 1 for step in steps.values())
    found = [*crossings(table, _SLACK), *(_limits_missed(table) if contract else [])]
    return Comparison(graph.name, f"implicit network from R^{inputs} to R^{outputs}", quantities, tuple(table),
                      tuple(found))


def _implicit_rows(graph: Graph, time_limit: float, seed: int, on_stage: Callable[[str], None]) -> list[Row]:
    on_stage("bounding the implicit network")
    try:
        report = lipschitz(graph, limits=Limits(time_limit=time_limit), seed=seed)
    except OverflowError:
        return [Row("implicit", GAIN, "semidefinite", None, Side.UPPER, False, None, _TOO_LARGE)]
    note = f"at best {report.solution.dual_bound:.7g}" if report.solution.dual_bound > 0 else "; ".join(report.notes)
    rows = [Row("implicit", GAIN, "semidefinite", report.upper if report.proved else None, Side.UPPER, report.proved,
                report.seconds["solve"] + report.seconds.get("prove", 0.0), note)]
    if math.isfinite(report.norm_product):
        rows.append(Row("implicit", GAIN, "composition", report.norm_product, Side.UPPER, False))
    if report.witness is not None:
        proved = report.witness.ratio > 0
        rows.insert(0, Row("implicit", GAIN, "witness", report.lower if proved else report.witness.ratio_float,
                           Side.LOWER, proved, report.seconds.get("lower"), "a pair of inputs"))
    return rows


def _unrolled_row(graph: Graph, depth: int, steps: dict[str, UnrolledStep], time_limit: float) -> Row:
    begin, quantity, view = time.perf_counter(), f"L_{depth}", "1 step" if depth == 1 else f"{depth} steps"
    unrolled = unroll(graph, depth, steps)
    try:
        report = lipschitz(unrolled, limits=Limits(time_limit=time_limit), lower_bounds=False)
    except OverflowError:
        return Row(view, quantity, "semidefinite", None, Side.UPPER, False, None, _TOO_LARGE)
    seconds = time.perf_counter() - begin
    said = [f"at best {report.solution.dual_bound:.7g}"] if report.solution.dual_bound > 0 else list(report.notes)
    if depth > 1:
        said.append("every step with slopes of its own")
    if report.solution.status in _EARLY:
        why = report.solution.status.name.lower().replace("_", " ")
        said.append(f"the solver stopped early ({why}): not the least")
    note = "; ".join(said)
    return Row(view, quantity, "semidefinite", report.upper if report.proved else None, Side.UPPER, report.proved,
               seconds, note)


def _flow_rows(graph: Graph, time_limit: float) -> tuple[list[Row], dict[str, str]]:
    """The logarithmic norm of x' = -x + s(A x + v), and what it says of the gain."""
    rows = constraint_rows(graph)
    layer = rows.loops[0]
    A, n = np.asarray(layer.loop), layer.size
    low, high = float(layer.lower.min()), float(layer.upper.max())
    begin = time.perf_counter()
    try:
        field = SlopeField(A, low, high, linear=-np.eye(n))
    except ValueError as error:  # weights beyond the range that the bounds of fields work in
        return [Row("flow", FLOW, "branch and bound", None, Side.UPPER, False, None, str(error))], {FLOW: _MEANING}
    report = contractivity(field, 0.0, name=graph.name, limits=Limits(tolerance=1e-4, time_limit=time_limit))
    seconds, worst = time.perf_counter() - begin, report.worst
    found = [Row("flow", FLOW, "worst slopes", worst.lower, Side.LOWER, True, None, "these slopes reach it"),
             Row("flow", FLOW, "branch and bound", worst.upper, Side.UPPER, report.certificate is not None, seconds,
                 "x' = -x + s(A x + v)")]
    plain = plain_network(rows)
    if worst.upper < 0 and plain is not None:
        outer = float(np.linalg.norm(plain[1], 2) * np.linalg.norm(plain[2], 2))
        gain = outer * max(abs(low), abs(high)) / -worst.upper
        finite = math.isfinite(gain)
        found.append(Row("flow", GAIN, "equilibria", gain if finite else None, Side.UPPER, False, None,
                         "|C| |B| beta / -mu" if finite else _TOO_LARGE))
    elif worst.upper >= 0:
        found.append(Row("flow", GAIN, "equilibria", None, Side.UPPER, False, None,
                         "mu is not negative: no bound; the network may be well-posed all the same"))
    return found, {FLOW: _MEANING}


def _limits_missed(rows: list[Row]) -> list[Finding]:
    """lim inf L_K >= L: bounds of many contracting steps below a witness of L have not come to the limit yet."""
    below = [row for row in rows if row.quantity == GAIN and row.side is Side.LOWER]
    witness = max((row.value for row in below if row.value is not None), default=None)
    deepest = next((row for row in reversed(rows) if row.quantity.startswith("L_") and row.value is not None), None)
    if witness is None or deepest is None or deepest.value is None or deepest.value >= witness:
        return []
    return [Finding(Severity.UNEXPECTED, f"{deepest.quantity} is at most {deepest.decimal}, and L at least "
                                         f"{witness:.7g}: {deepest.view} are still far from the solution, whose gain "
                                         "is the limit.")]


def _recognises(path: Path) -> bool:
    keys = archive_keys(path) if path.suffix.lower() == ".npz" else frozenset[str]()
    return {"A", "C"} <= keys or any(key.startswith("implicit") for key in keys)


IMPLICIT = Kind(
    name="implicit",
    what="a network with implicit layers: an .npz archive with A, B, C, or implicit1, ..",
    recognises=_recognises,
    load=layers.load,
    compare=compare_implicit,
    options=frozenset({"seed"}),
)
