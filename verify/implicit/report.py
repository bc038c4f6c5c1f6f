"""The question of implicit networks: is there one output for each input, how is it found, and what are the gains?

A network is a graph with one implicit layer x = s(A x + v) or several, among others. Each layer is asked for proofs of
well-posedness (`layer_report`); the gains are those of the whole graph.
"""

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
from netgain.layers import ConvergenceError, Graph, ModelError
from netgain.solvers.implicit.gain import MOST_ENUMERATED, absolute_gain, exact_gain, least_weighted_gain
from netgain.solvers.implicit.row_gain import row_gain
from netgain.solvers.implicit.state_bound import state_bound
from netgain.solvers.implicit.weighted_log_norm import SlopeBox
from netgain.solvers.implicit.well_posedness import Condition
from netgain.solvers.result import Limits, Status
from threadpoolctl import threadpool_limits

from ..balls import BALLS, precision
from ..constraints import Rows, constraint_rows
from ..enclosure import Enclosure
from ..lipschitz import INTERRUPTED_SEARCH, LipschitzReport, lipschitz
from ..lower_bound import UndecidedError, Witness
from .certificate import (
    ImplicitCertificate,
    LargestNormGain,
    OutputGains,
    check_implicit,
    plain_network,
    proves_outputs,
)
from .largest_norm_witness import largest_norm_witness
from .layer_report import LayerReport, WellPosedness, layer_report, with_iterations
from .state_bound_check import proved_output_bound, proves_state_bound

DEFAULT_TIME_LIMIT = 120.0

_BITS = 128
# Linear programs over weights take minutes for more.
_LARGEST_PROGRAM = 150
_WITNESS_SHARE = 10.0
# Seconds to prove the gain to one output, by the cube of the order; measured, and doubled for the last check.
_PROOF_COST = 3e-10
_INFLATIONS = (1e-9, 1e-7, 1e-5)
# Seconds that end a search after its first step.
_INSTANT = 1e-9


@dataclasses.dataclass(frozen=True)
class Gain:
    """One statement on the least g with |f(u) - f(u')| <= g |u - u'| in some norms.

    **Attributes:** `norms`: of input and output; `upper`: whether `value` is at least g, else at most; `proved`:
    whether the checker said so; `note`: for people.
    """

    norms: str
    method: str
    value: float
    upper: bool
    proved: bool
    note: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class ImplicitReport:
    """What is known of an implicit network.

    **Attributes:** `gains`: upper and lower bounds in several norms; `lipschitz`: the l2 bound in detail;
    `certificate`: None unless all layers are proved well-posed; `witness`: for the l_inf gain; `seconds`: by stage.
    """

    name: str
    digest: str
    layers: tuple[LayerReport, ...]
    gains: tuple[Gain, ...]
    lipschitz: LipschitzReport | None
    certificate: ImplicitCertificate | None
    witness: Witness | None
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> WellPosedness:
        """Of the network: proved if all layers are, disproved if one is."""
        verdicts = [layer.verdict for layer in self.layers]
        for verdict in (WellPosedness.DISPROVED, WellPosedness.OPEN):
            if verdict in verdicts:
                return verdict
        return WellPosedness.PROVED

    def best(self, norms: str, upper: bool = True) -> Gain | None:
        """The best proved bound in these norms."""
        found = [gain for gain in self.gains if gain.norms == norms and gain.upper is upper and gain.proved]
        return (min if upper else max)(found, key=lambda gain: gain.value, default=None)


LARGEST, EUCLIDEAN, MIXED = "l_inf -> l_inf", "l2 -> l2", ("l_inf -> l2", "l2 -> l_inf")
WEIGHTED = "l_inf -> weighted l_inf of x"


def implicit(
    graph: Graph, limits: Limits | None = None, *, seed: int = 0, lower_bounds: bool = True,
    on_stage: Callable[[str], None] | None = None,
) -> ImplicitReport:
    """Proofs of well-posedness, rates of iterations and gains of a graph with implicit layers.

    **Arguments:** `limits`: tolerance of the l2 bound, and seconds for everything; `lower_bounds`: whether witnesses
    are sought; `on_stage`: told what is going on. Once the l2 gain is bounded, a KeyboardInterrupt ends the search for
    more, and what was found is proved.

    **Raises:** `ModelError` if the graph has no implicit layer, or a layer without a constraint.
    """
    limits = limits or Limits(time_limit=DEFAULT_TIME_LIMIT)
    say = on_stage or (lambda text: None)
    clock = _Clock(limits.time_limit)
    with threadpool_limits(limits=1, user_api="blas"):
        with precision(_BITS):
            rows = constraint_rows(graph, BALLS, in_double=True)
        if not rows.loops:
            raise ModelError(f"{graph.name} has no implicit layer x = s(A x + v). An .npz archive with one has keys "
                             "A, B and C, or implicit1, implicit2, ..")
        say("proving well-posedness")
        found = [layer_report(layer, seed) for layer in rows.loops]
        posed = all(layer.verdict is WellPosedness.PROVED for layer in found)
        clock.lap("well-posedness")
        notes: list[str] = []
        if not posed:
            return ImplicitReport(graph.name, graph.digest, tuple(found), (), None, None, None, clock.seconds)
        say("running iterations")
        inputs = _fed(graph, rows, seed, notes)
        found = [with_iterations(graph, layer, report, inputs[layer.node]) if layer.node in inputs else report
                 for layer, report in zip(rows.loops, found, strict=True)]
        clock.lap("iterations")
        say("bounding the l_inf gain")
        largest, gains = _largest_norm(rows, found)
        clock.lap("l_inf")
        say("bounding the l2 gain")
        share = dataclasses.replace(limits, time_limit=max(0.5 * clock.left, 1e-3))
        bound = lipschitz(graph, None, share, seed=seed, lower_bounds=lower_bounds)
        clock.lap("l2")
        notes += bound.notes
        outputs, interrupted = None, bound.solution.status is Status.INTERRUPTED or INTERRUPTED_SEARCH in bound.notes
        if (plain := plain_network(rows)) is not None and bound.certificate is not None and not interrupted:
            say("bounding the l_inf gain by output")
            try:
                outputs, interrupted = _outputs(rows, plain, found[0], clock, notes)
            except KeyboardInterrupt:
                interrupted = True
                notes.append("Interrupted while the l_inf gain was bounded by output.")
            clock.lap("l_inf by output")
        gains += _from_certificates(rows, bound, outputs, largest)
        witness = None
        metrics = {layer.node: report.proof.metric for layer, report in zip(rows.loops, found, strict=True)
                   if report.proof.metric is not None}
        if lower_bounds and not interrupted:
            say("searching a witness")
            try:
                witness = _witness(graph, metrics, seed, min(_WITNESS_SHARE, clock.left), notes)
            except KeyboardInterrupt:
                notes.append("Interrupted while a witness for the l_inf gain was sought.")
            clock.lap("witness")
        gains += _below(bound, witness)
        say("checking")
        certificate = ImplicitCertificate(graph.digest, tuple(report.proof for report in found), largest, outputs,
                                          bound.certificate)
        verdict = check_implicit(certificate, graph)
        clock.lap("check")
        if not verdict.proved:
            raise RuntimeError(f"the certificate is refused by its own checker: {verdict.outcome.value}")
    certificate = dataclasses.replace(certificate, seconds=verdict.seconds)
    return ImplicitReport(graph.name, graph.digest, tuple(found), tuple(gains), bound, certificate, witness,
                          clock.seconds, tuple(notes))


class _Clock:
    def __init__(self, limit: float):
        self.begin = self.last = time.perf_counter()
        self.limit, self.seconds = limit, dict[str, float]()

    @property
    def left(self) -> float:
        return max(self.limit - (time.perf_counter() - self.begin), 1e-3)

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage], self.last = now - self.last, now


def _fed(graph: Graph, rows: Rows, seed: int, notes: list[str]) -> dict[str, np.ndarray]:
    """What the implicit layers are fed for some random inputs of the network, flattened, by node."""
    u = np.random.default_rng(seed).standard_normal((8, *graph.shape(graph.input)))
    try:
        values = graph.values(u)
    except ConvergenceError as error:
        notes.append(f"No iteration was run: {error}")
        return {}
    return {layer.node: values[graph.inputs(layer.node)[0]].reshape((len(u), -1)) for layer in rows.loops}


def _largest_norm(rows: Rows, found: list[LayerReport]) -> tuple[LargestNormGain | None, list[Gain]]:
    """The l_inf gain by bounds on every neuron, and what formulas say beside it."""
    gains: list[Gain] = []
    bounds = _state_bounds(rows)
    proved = None if bounds is None else proved_output_bound(rows, bounds)
    largest = None
    if bounds is not None and proved is not None:
        largest = LargestNormGain(proved[0], bounds)
        gains.append(Gain(LARGEST, "M-matrix", proved[0], True, True))
        gains.append(Gain(MIXED[0], "M-matrix", _length(proved[1]), True, True))
    plain = plain_network(rows)
    if plain is None:
        return largest, gains
    layer, report = rows.loops[0], found[0]
    slopes = SlopeBox(layer.lower, layer.upper)
    if report.proof.norm is not None:
        weights, size = report.proof.norm.weights, np.abs(plain[1]).sum(axis=1)
        # Slopes of which the largest is s act as s A and s B do with slopes to 1.
        steepest = np.maximum(np.abs(layer.lower), np.abs(layer.upper))
        value = float(np.max(steepest * size / weights)) / (1 - max(report.proof.norm.log_norm, 0.0))
        bound = value * (1 + 1e-9) * weights
        fed = np.nextafter(size * (1 + 1e-12), np.inf)
        certain = proves_state_bound(plain[0], layer.lower, layer.upper, fed, bound)
        gains.append(Gain(WEIGHTED, "NEMON", value * (1 + 1e-9), True, certain, "|x_i| / eta_i, largest entry"))
    if np.any(layer.lower):
        return largest, gains
    A, B, C = layer.upper[:, None] * plain[0], layer.upper[:, None] * plain[1], plain[2]
    if report.proof.norm is not None and len(A) <= _LARGEST_PROGRAM:
        gains.append(Gain(LARGEST, "NEMON, best weights", least_weighted_gain(A, B, C, signed=False)[0], True, False))
    if any(finding.condition is Condition.ABSOLUTE and finding.holds for finding in report.findings):
        gains.append(Gain(LARGEST, "absolute values", absolute_gain(A, B, C)[0], True, False, "El Ghaoui et al."))
    if len(A) <= min(MOST_ENUMERATED, 12):
        for norms, order in ((LARGEST, np.inf), (EUCLIDEAN, 2)):
            value, _ = exact_gain(plain[0], plain[1], C, order, slopes)
            gains.append(Gain(norms, "all vertices", value, order == np.inf, False,
                              "exact over slopes" if order == np.inf else "some slopes reach this"))
    return largest, gains


def _length(changes: np.ndarray) -> float:
    """The Euclidean norm, rounded up."""
    return float(np.linalg.norm(changes)) * (1 + 1e-9) + 2.0**-500


def _state_bounds(rows: Rows) -> tuple[np.ndarray, ...] | None:
    """Bounds on what the neurons of all implicit layers can change by, in floating point."""
    changes, found = [np.ones(rows.input_size)], []
    for k, layer in enumerate(rows.activations, start=1):
        sizes = {j: np.abs(enclosed.mid) + enclosed.rad for j, a in layer.maps.items() if j < k
                 for enclosed in [Enclosure.of(a)]}
        fed = sum((size @ changes[j] for j, size in sizes.items()), np.zeros(len(layer.lower))) * (1 + 1e-8)
        steepest = np.maximum(np.abs(layer.lower), np.abs(layer.upper))
        if layer.loop is not None:
            bound = state_bound(layer.loop, SlopeBox(layer.lower, layer.upper), fed)
            if bound is None:
                return None
            found.append(bound)
            changes.append(bound)
        elif layer.coupled == 1:
            changes.append(steepest * fed)
        elif layer.kept is not None:
            changes.append(np.max(fed.reshape((-1, layer.coupled)), axis=1))
        else:
            return None
    return tuple(found)


def _outputs(rows: Rows, plain: tuple[np.ndarray, np.ndarray, np.ndarray], report: LayerReport, clock: _Clock,
             notes: list[str]) -> tuple[OutputGains | None, bool]:
    """The l_inf gain to each output by semidefinite programming, the best found when time is up; whether Ctrl-C was."""
    A, B, C = plain
    layer = rows.loops[0]
    slopes, proofs = SlopeBox(layer.lower, layer.upper), len(C) * _PROOF_COST * sum(B.shape) ** 3
    if 2 * proofs > clock.left:
        notes.append(f"The l_inf gain by output was not sought: proving it would take about {proofs:.0f} s; raise "
                     "--time-limit.")
        return None, False
    deadline = time.perf_counter() + 0.7 * (clock.left - proofs)
    metrics: list[np.ndarray] = []
    inputs: list[np.ndarray] = []
    gains: list[float] = []
    endings: list[Status] = []
    for k, c in enumerate(C):
        if not np.any(c):
            metrics, inputs, gains = [*metrics, np.ones(len(A))], [*inputs, np.ones(B.shape[1])], [*gains, 0.0]
            continue
        # What the first outputs leave of their share is for the others; after Ctrl-C points to start from will do.
        share = (deadline - time.perf_counter()) / (len(C) - k)
        ended = Status.INTERRUPTED in endings
        limits = Limits(tolerance=1e-4, time_limit=_INSTANT if ended else max(share, _INSTANT))
        try:
            found = row_gain(A, B, c, slopes, limits, report.proof.metric)
        except ValueError:
            return None, False
        metrics, inputs, gains = [*metrics, found.metric], [*inputs, found.inputs], [*gains, found.gain]
        endings.append(found.status)
    interrupted = Status.INTERRUPTED in endings
    if early := sum(status is not Status.OPTIMAL for status in endings):
        why = "Ctrl-C" if interrupted else "the time limit" if Status.TIME_LIMIT in endings else "rounding"
        notes.append(f"The search for the l_inf gain by output was ended by {why} for {early} of {len(C)} outputs: not "
                     "the least.")
    for inflation in _INFLATIONS:
        claim = OutputGains(max(gains) * (1 + inflation), tuple(metrics),
                            tuple(t * (1 + inflation) + inflation * 1e-3 * float(np.max(t)) for t in inputs))
        if proves_outputs(rows, claim):
            return claim, interrupted
    notes.append("The l_inf gain by output was found but not proved.")
    return None, interrupted


def _from_certificates(rows: Rows, bound: LipschitzReport, outputs: OutputGains | None,
                       largest: LargestNormGain | None) -> list[Gain]:
    """What the l2 bound and that of the outputs say in other norms too."""
    gains: list[Gain] = []
    if outputs is not None:
        gains.append(Gain(LARGEST, "semidefinite, by output", outputs.value, True, True))
    if bound.certificate is not None:
        value = bound.upper
        crossed = math.nextafter(math.nextafter(math.sqrt(rows.input_size), math.inf) * value, math.inf)
        gains.append(Gain(EUCLIDEAN, "semidefinite (LBEN)", value, True, True))
        gains.append(Gain(EUCLIDEAN, "composition", bound.norm_product, True, False, "by metrics and norms"))
        note = "from l2 -> l2"
        gains += [Gain(LARGEST, "semidefinite (LBEN)", crossed, True, True, f"sqrt(m) times that {note}"),
                  Gain(MIXED[0], "semidefinite (LBEN)", crossed, True, True, f"sqrt(m) times that {note}"),
                  Gain(MIXED[1], "semidefinite (LBEN)", value, True, True, note)]
    return gains


def _witness(graph: Graph, metrics: dict[str, np.ndarray], seed: int, time_limit: float, notes: list[str]
             ) -> Witness | None:
    try:
        return largest_norm_witness(graph, metrics, seed=seed, time_limit=time_limit)
    except (ConvergenceError, UndecidedError) as error:
        notes.append(f"No witness for the l_inf gain: {error}")
        return None


def _below(bound: LipschitzReport, witness: Witness | None) -> list[Gain]:
    gains = []
    if witness is not None:
        proved = witness.ratio > 0
        gains.append(Gain(LARGEST, "witness", witness.ratio if proved else witness.ratio_float, False, proved))
    if bound.witness is not None:
        proved = bound.witness.ratio > 0
        value = bound.witness.ratio if proved else bound.witness.ratio_float
        gains.append(Gain(EUCLIDEAN, "witness", value, False, proved))
    return gains
