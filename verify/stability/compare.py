"""`compare` for NAIS-Net blocks: unrolled, as an implicit network at its equilibrium, and as a flow.

One block is looked at in three ways. Unrolled it is a feedforward network, bounded by the feedforward inequality. Its
equilibrium x solves an implicit network: with y = s(A x + B u + C) and x = x + h y, that is slopes of s for y and the
slope 1 for x. And x+ = x + h s(..) is Euler's method for x' = s(A x + B u + C), whose logarithmic norm mu bounds every
rate in the same norm from below: rate >= 1 + h mu.

Where slopes reach zero (ReLU, tanh) no rate is below 1 and slopes do not show an implicit network well-posed. What
holds then is incremental: how far apart two starts end up with one input, at depth K, and gains at every depth.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from flint import arb
from netgain import layers
from netgain.layers import StableNetwork
from netgain.layers.formats import holds_blocks
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.implicit.diagonal_metric import diagonal_stability, euclidean_gain
from netgain.solvers.implicit.weighted_log_norm import SlopeBox as NeuronSlopes
from netgain.solvers.result import Limits
from threadpoolctl import threadpool_limits

from ..balls import precision, upper
from ..comparison import Comparison, ComparisonRequest, Finding, Kind, Row, Side, crossings
from ..contractivity.report import contractivity
from ..implicit.check import proves_diagonal_metric, proves_euclidean_gain
from ..lipschitz import lipschitz
from .claims import Claim
from .claims import Kind as ClaimKind
from .conditions import fully_connected_conditions
from .equilibrium import vanishes_at_zero_alone
from .facts import BlockFacts
from .report import DEFAULT_RADIUS
from .search import BlockSearch, search_block

_RATE, _GAIN, _INFINITY, _START, _LIMIT, _MU = "r", "L", "L_inf", "I", "E", "mu"
_STEP, _UNROLLED, _EQUILIBRIUM, _FLOW = "step", "unrolled", "equilibrium", "flow"
_MEANINGS = {
    _RATE: "the least rate of a step that any norm shows for all slopes",
    _GAIN: "the l2 Lipschitz constant of u -> x_K",
    _INFINITY: "the l_inf Lipschitz constant of u -> x_K",
    _START: "the l2 Lipschitz constant of x_0 -> x_K for one input u, the largest over u",
    _LIMIT: "the l2 Lipschitz constant of u -> lim x_k from x_0 = 0, where there is a limit",
    _MU: "the largest Euclidean logarithmic norm of x' = s(A x + B u + C) over all slopes",
}
_FEEDFORWARD, _IMPLICIT, _BRANCHING = "feedforward inequality", "implicit network", "branch and bound"
_ZERO_SLOPES = {
    True: "that x = -A^-1 (B u + C) is the only equilibrium follows from s(v) = 0 at v = 0 alone",
    False: "for ReLU every x with A x + B u + C <= 0 is an equilibrium, and the start decides which is reached",
}
_BITS = 128
_SLACK = 1e-6
# Metrics of implicit networks are widened by these until the checker proves them.
_MARGINS = (1e-6, 1e-5, 1e-4, 1e-3)
_MOST_IMPLICIT = 60
_MOST_FLOW = 128

_CLAIMS = {
    ClaimKind.GROWTH: (_STEP, _RATE, "slopes that grow", Side.LOWER),
    ClaimKind.SYMMETRIC_RATE: (_STEP, _RATE, "norm of -A", Side.UPPER),
    ClaimKind.METRIC_RATE: (_STEP, _RATE, "optimised metric", Side.UPPER),
    ClaimKind.COMMON_RATE: (_STEP, _RATE, "common metric", Side.UPPER),
    ClaimKind.INFINITY_RATE: (_STEP, _RATE, "weighted l_inf", Side.UPPER),
    ClaimKind.UNROLLED_GAIN: (_UNROLLED, _GAIN, _FEEDFORWARD, Side.UPPER),
    ClaimKind.METRIC_GAIN: (_STEP, _GAIN, "optimised metric", Side.UPPER),
    ClaimKind.COMMON_GAIN: (_STEP, _GAIN, "common metric", Side.UPPER),
    ClaimKind.CONSTANT_GAIN: (_STEP, _GAIN, "norm of -A, every depth", Side.UPPER),
    ClaimKind.CONSTANT_GAIN_INFINITY: (_STEP, _INFINITY, "weighted l_inf, every depth", Side.UPPER),
    ClaimKind.DEPTH_GAIN_INFINITY: (_UNROLLED, _INFINITY, "row by row", Side.UPPER),
    ClaimKind.UNIFORM_GAIN_INFINITY: (_STEP, _INFINITY, "M-matrix, every depth", Side.UPPER),
    ClaimKind.EQUILIBRIUM: (_EQUILIBRIUM, _LIMIT, "||A^-1 B||", Side.UPPER),
}


def compare_blocks(
    network: StableNetwork, request: ComparisonRequest, on_stage: Callable[[str], None] = lambda stage: None
) -> Comparison:
    """Rates, gains at depth K and at infinite depth, and the logarithmic norm of the flow, of every block.

    **Raises:** as `lipschitz`.
    """
    blocks, several = network.blocks, len(network.blocks) > 1
    rows: list[Row] = []
    with threadpool_limits(limits=1, user_api="blas"):
        interrupted = False
        for number, (block, shape) in enumerate(blocks, 1):
            facts = BlockFacts(block, shape)
            limits = Limits(time_limit=request.time_limit / len(blocks))
            found, interrupted = block_rows(facts, limits, request.seed, on_stage, interrupted)
            tag = f"_{number}" if several else ""
            rows += [dataclasses.replace(row, quantity=row.quantity + tag) for row in found]
    meanings = {}
    for row in rows:
        symbol, _, which = row.quantity.rpartition("_") if several else (row.quantity, "", "")
        meanings[row.quantity] = _MEANINGS[symbol] + (f", block {which}" if several else "")
    rows.sort(key=lambda row: list(meanings).index(row.quantity))
    kind = f"{len(blocks)} blocks x+ = x + h s(A x + B u + C)" if several else blocks[0][0].describe()
    return Comparison(network.name, kind, meanings, tuple(rows), tuple(findings(rows)))


def findings(rows: list[Row]) -> list[Finding]:
    """Bounds that exclude each other."""
    largest = max((abs(row.value) for row in rows if row.value is not None and math.isfinite(row.value)), default=1.0)
    return crossings(rows, _SLACK * largest)


def block_rows(
    facts: BlockFacts, limits: Limits, seed: int, on_stage: Callable[[str], None], hurried: bool = False
) -> tuple[list[Row], bool]:
    """The rows of one block, and whether Ctrl-C was pressed by then; `hurried`: it was before."""
    begin = time.perf_counter()
    search = search_block(facts, _share(limits, 0.6), DEFAULT_RADIUS, seed, on_stage, hurried)
    seconds = time.perf_counter() - begin
    rows = [row for claim in search.claims for row in _claim_rows(claim)]
    rows += _unrolled_rows(search, seconds)
    later = _share(limits, 0.2)
    parts: list[tuple[str, str, str, str, Callable[[], list[Row]]]] = [
        ("two starts, unrolled", _START, _UNROLLED, _FEEDFORWARD, lambda: _start_rows(search, later, seed))]
    if facts.block.shared and facts.dense:
        parts += [
            ("equilibrium as an implicit network", _LIMIT, _EQUILIBRIUM, _IMPLICIT, lambda: _implicit_rows(facts)),
            ("continuous limit", _MU, _FLOW, _BRANCHING, lambda: _flow_rows(facts, later.time_limit)),
        ]
    interrupted = search.interrupted
    for stage, quantity, view, method, found in parts:
        cut = [Row(view, quantity, method, None, Side.UPPER, False, None, "interrupted")]
        if interrupted:
            rows += cut
            continue
        on_stage(stage)
        try:
            rows += found()
        except KeyboardInterrupt:
            interrupted = True
            rows += cut
    return rows, interrupted


def _share(limits: Limits, share: float) -> Limits:
    return dataclasses.replace(limits, time_limit=max(share * limits.time_limit, 1e-3))


def _claim_rows(claim: Claim) -> list[Row]:
    if claim.kind not in _CLAIMS:
        return []
    view, quantity, method, side = _CLAIMS[claim.kind]
    if claim.kind in (ClaimKind.METRIC_GAIN, ClaimKind.COMMON_GAIN) and claim.depth is None:
        # A bound at every depth is one of the limit.
        return [Row(_STEP, _LIMIT, f"{method}, every depth", claim.value, side, True)]
    rows = [Row(view, quantity, method, claim.value, side, True)]
    if claim.kind is ClaimKind.CONSTANT_GAIN:
        rows.append(Row(_STEP, _LIMIT, method, claim.value, side, True))
    return rows


def _unrolled_rows(search: BlockSearch, seconds: float) -> list[Row]:
    report = search.unrolled
    return [
        Row(_UNROLLED, _GAIN, "norm product", report.norm_product, Side.UPPER, False),
        Row(_UNROLLED, _GAIN, "witness", report.lower, Side.LOWER, report.witness is not None, seconds,
            "a pair of inputs; time of all rows above the implicit network's"),
    ]


def _start_rows(search: BlockSearch, limits: Limits, seed: int) -> list[Row]:
    """How far two starts end up from each other with one input: by rates, and by the unrolled network x_0 -> x_K.

    With slopes of zero this is what remains of contraction: in the norm that is kept distances do not grow.
    """
    facts, begin = search.facts, time.perf_counter()
    rows = [
        Row(_STEP, _START, f"{_CLAIMS[claim.kind][2]}, r^K sqrt(condition)", value, Side.UPPER, True)
        for claim in search.claims if (value := incremental_bound(claim, facts)) is not None
    ]
    report = lipschitz(facts.block.graph_of_start(facts.input_shape), limits=limits, seed=seed)
    took = time.perf_counter() - begin
    if report.certificate is not None:
        rows.append(Row(_UNROLLED, _START, _FEEDFORWARD, report.upper, Side.UPPER, True, took))
    if report.witness is not None:
        rows.append(Row(_UNROLLED, _START, "witness", report.lower, Side.LOWER, True, None, "two starts, with u = 0"))
    return rows


def incremental_bound(claim: Claim, facts: BlockFacts) -> float | None:
    """g with |x_K - x'_K| <= g |x_0 - x'_0| in Euclidean norms for one input, of a proved rate in the norm of Q or P.

    r^K sqrt(cond), rounded up; None for claims of other kinds.
    """
    with precision(_BITS):
        if claim.kind in (ClaimKind.METRIC_RATE, ClaimKind.COMMON_RATE):
            condition = arb(claim.number("condition"))
        elif claim.kind is ClaimKind.SYMMETRIC_RATE:
            found = fully_connected_conditions(facts.matrices[0], 0.25, facts.box)
            condition = arb(found.greatest) / arb(found.least)
        else:
            return None
        return upper(arb(claim.value) ** facts.block.depth * condition.sqrt())


def _implicit_rows(facts: BlockFacts) -> list[Row]:
    """Well-posedness and gain of (x, y) = Phi(W (x, y) + V u + ..), slopes 1 for x."""
    begin = time.perf_counter()
    a, b, _ = facts.matrices
    n, m = b.shape
    method, (least, most) = _IMPLICIT, facts.block.slopes

    def row(value: float | None, note: str, proved: bool = False) -> list[Row]:
        return [Row(_EQUILIBRIUM, _LIMIT, method, value, Side.UPPER, proved, time.perf_counter() - begin, note)]

    if least <= 0 <= most:
        return row(None, "not applicable: with slopes of zero the implicit equation is singular; "
                   + _ZERO_SLOPES[vanishes_at_zero_alone(facts.block.activation)])
    if n > _MOST_IMPLICIT or np.linalg.matrix_rank(a) < n:
        return row(None, f"not run: A is singular, or has more than {_MOST_IMPLICIT} rows")
    w = np.block([[np.eye(n), facts.box.step * np.eye(n)], [a, np.zeros((n, n))]])
    v, c = np.vstack([np.zeros((n, m)), b]), np.hstack([np.eye(n), np.zeros((n, n))])
    ones = np.ones(n)
    box = NeuronSlopes(np.concatenate([ones, least * ones]), np.concatenate([ones, most * ones]))
    slopes = (box.lower, box.upper)
    stability = diagonal_stability(w, box)
    if not (stability.margin > 0 and proves_diagonal_metric(w, stability.metric, slopes)):
        return row(None, "no diagonal metric shows the implicit network well-posed")
    try:
        found = euclidean_gain(w, v, c, start=stability.metric, slopes=box)
    except ValueError as error:
        return row(None, f"well-posed, proved; no gain: {error}")
    for margin in _MARGINS:
        if proves_euclidean_gain(w, v, c, found.metric, found.gain * (1 + margin), slopes):
            return row(found.gain * (1 + margin), "well-posed, proved by a diagonal metric", True)
    return row(found.gain, "well-posed, proved by a diagonal metric; the gain is in floating point")


def _flow_rows(facts: BlockFacts, seconds: float) -> list[Row]:
    a, method = facts.matrices[0], _BRANCHING
    if len(a) > _MOST_FLOW:
        return [Row(_FLOW, _MU, method, None, Side.UPPER, False, None, f"not run: more than {_MOST_FLOW} units")]
    begin = time.perf_counter()
    report = contractivity(SlopeField(a, *facts.block.slopes), limits=Limits(time_limit=seconds))
    took = time.perf_counter() - begin
    value = report.worst.upper if math.isfinite(report.worst.upper) else None
    return [Row(_FLOW, _MU, "worst slopes", report.worst.lower, Side.LOWER, True),
            Row(_FLOW, _MU, method, value, Side.UPPER, value is not None, took, f"mu <= 0? {report.verdict.value}")]


def _recognises(path: Path) -> bool:
    return holds_blocks(path)


BLOCKS = Kind(
    name="stable-block",
    what="blocks of NAIS-Net, an .npz archive with step1 or further blocks",
    recognises=_recognises,
    load=layers.load_stable,
    compare=compare_blocks,
    options=frozenset({"seed"}),
)
