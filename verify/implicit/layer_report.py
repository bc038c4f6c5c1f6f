"""What is known of one implicit layer z = s(A z + v): conditions, proofs of well-posedness, iterations."""

import contextlib
import dataclasses
import enum

import numpy as np
from netgain.layers import FixedPoint, Graph
from netgain.solvers.implicit.diagonal_metric import diagonal_stability, metric_matrix, perron_metric
from netgain.solvers.implicit.fixed_point import (
    FixedPointStatus,
    Method,
    Step,
    average_factor,
    average_step,
    classic_average_step,
    fixed_point,
    splitting_step,
)
from netgain.solvers.implicit.weighted_log_norm import LeastLogNorm, SlopeBox, least_log_norm
from netgain.solvers.implicit.well_posedness import Condition, Finding, find_witness, is_witness
from netgain.solvers.loop import Loop, NoMetricError

from ..constraints import ActivationRows
from .certificate import LayerProof, WeightedNorm, proves_metric, proves_norm

# The barrier method for the best metric takes minutes beyond this; a formula may still have one.
LARGEST_DIAGONAL = 600
_MARGINS = (1e-11, 1e-9, 1e-6)
_INPUTS, _MOST_ITERATIONS, _TOLERANCE = 8, 2000, 1e-9


class WellPosedness(enum.Enum):
    """The value is what is said of a layer."""

    PROVED = "well-posed: exactly one solution for whatever it is fed"
    DISPROVED = "not well-posed: some slopes of the activation leave it more than one solution"
    OPEN = "not proved well-posed; that does not say that it is ill-posed"


@dataclasses.dataclass(frozen=True, eq=False)
class Iteration:
    """One way to come to the solution.

    **Attributes:** `norm`: of both factors; `guaranteed`: the factor for all slopes, None where none is known; at or
    above 1 it guarantees nothing; `measured`: the largest ratio of successive steps over the inputs it was run for;
    `reached`: after how many iterations each of these came to the tolerance, -1 where it did not; `course`: the lengths
    of the steps.
    """

    name: str
    norm: str
    step: float
    guaranteed: float | None
    measured: float
    iterations: int
    status: FixedPointStatus
    reached: np.ndarray
    course: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class LayerReport:
    """One implicit layer.

    **Attributes:** `slopes`: of its activation; `proof`: weights and metric that the checker accepts; `findings`: of
    all conditions, in floating point; `not_sought`: why one of them is missing; `witness`: z != 0 with z = D A z for
    some slopes D, decided exactly; `least`: the best weights, in floating point.
    """

    node: str
    neurons: int
    slopes: tuple[float, float]
    verdict: WellPosedness
    proof: LayerProof
    findings: tuple[Finding, ...]
    not_sought: str
    witness: np.ndarray | None
    least: LeastLogNorm
    iterations: tuple[Iteration, ...] = ()


def layer_report(rows: ActivationRows, seed: int = 0) -> LayerReport:
    """Looks for all proofs of well-posedness of a layer, and, where none is found, for a witness against it."""
    assert rows.loop is not None
    loop, slopes = Loop(rows.loop, rows.lower, rows.upper), SlopeBox(rows.lower, rows.upper)
    least = least_log_norm(rows.loop, slopes)
    norm = _proved_norm(rows, least)
    findings, not_sought = _conditions(loop, least)
    metric = _proved_metric(rows, loop, findings)
    witness, verdict = None, WellPosedness.PROVED
    if norm is None and metric is None:
        witness = find_witness(rows.loop, slopes, seed)
        found = witness is not None and is_witness(rows.loop, witness, slopes)
        verdict = WellPosedness.DISPROVED if found else WellPosedness.OPEN
    return LayerReport(rows.node, rows.size, (float(rows.lower.min()), float(rows.upper.max())), verdict,
                       LayerProof(norm, metric), findings, not_sought, witness, least)


def with_iterations(graph: Graph, rows: ActivationRows, report: LayerReport, inputs: np.ndarray) -> LayerReport:
    """The report with the iterations that lead to the solution, run for some v, `inputs` of shape (batch, n)."""
    layer = graph.layer(rows.node)
    assert isinstance(layer, FixedPoint)
    return dataclasses.replace(report, iterations=iterations(layer, rows, report, inputs[:_INPUTS]))


def _proved_norm(rows: ActivationRows, least: LeastLogNorm) -> WeightedNorm | None:
    """The weights found with the least logarithmic norm on a ladder that is proved, if it is below 1."""
    size = 1 + float(np.max(np.abs(np.diagonal(np.asarray(rows.loop)))) + abs(least.value))
    # From this margin on double precision decides; with less every row would take rational numbers.
    rounding = 4e-16 * len(least.weights)
    for margin in (rounding, *_MARGINS):
        norm = WeightedNorm(least.weights, float(least.value + margin * size))
        if norm.log_norm < 1 and proves_norm(rows, norm):
            return norm
    return None


def _proved_metric(rows: ActivationRows, loop: Loop, findings: tuple[Finding, ...]) -> np.ndarray | None:
    candidates = [f.certificate for f in findings if f.condition is Condition.DIAGONAL and f.certificate is not None]
    if len(loop.matrix) <= LARGEST_DIAGONAL:
        with contextlib.suppress(NoMetricError):
            candidates.append(loop.metric())
    else:
        with contextlib.suppress(ValueError):
            candidates.append(perron_metric(loop.shifted()))
    for candidate in candidates:
        if np.all(candidate > 0) and proves_metric(rows, candidate):
            return candidate
    return None


def _conditions(loop: Loop, least: LeastLogNorm) -> tuple[tuple[Finding, ...], str]:
    """The sufficient conditions side by side, and why one was not looked at.

    Those of matrices in Euclidean norms are for slopes in [0, 1], after the shift of `netgain.solvers.loop`.
    """
    steepest = np.maximum(np.abs(loop.lower), np.abs(loop.upper))
    absolute = 1 - float(np.max(np.abs(np.linalg.eigvals(steepest[:, None] * np.abs(loop.matrix)))))
    findings = [Finding(Condition.ABSOLUTE, absolute, absolute),
                Finding(Condition.LOG_NORM, 1 - least.value, 1 - least.below, least.weights)]
    try:
        shifted = loop.shifted()
    except ValueError:
        return tuple(findings), "I - alpha A is singular, so that metrics do not apply."
    monotone = float(np.linalg.eigvalsh(metric_matrix(shifted, np.ones(len(shifted))))[0])
    findings.append(Finding(Condition.MONOTONE, monotone, monotone))
    if len(shifted) > LARGEST_DIAGONAL:
        return tuple(findings), (f"The best metric was not sought: it takes minutes beyond {LARGEST_DIAGONAL} neurons, "
                                 f"and there are {len(shifted)}.")
    best = diagonal_stability(shifted)
    findings.append(Finding(Condition.DIAGONAL, best.margin, best.most, best.metric))
    return tuple(findings), ""


def iterations(layer: FixedPoint, rows: ActivationRows, report: LayerReport, inputs: np.ndarray
               ) -> tuple[Iteration, ...]:
    """Every way to the solution for v = `inputs`, shape (batch, n)."""
    A, slopes, weights = np.asarray(rows.loop), SlopeBox(rows.lower, rows.upper), report.least.weights
    activation = layer.activation.value
    contracts = report.proof.norm is not None
    within = float(np.min(rows.lower)) >= 0 and float(np.max(rows.upper)) <= 1
    plans: list[tuple[str, Method, Step, np.ndarray | None]] = []
    if contracts:
        best, classic = average_step(A, weights, slopes), classic_average_step(A, weights)
        plans.append(("average, best step", Method.AVERAGE, best, None))
        size = classic.size
        factor = average_factor(A, weights, slopes, size)
        plans.append(("average, step of NEMON", Method.AVERAGE, Step(size, factor), None))
    plans.append(("Picard", Method.PICARD, Step(1.0, average_factor(A, weights, slopes, 1.0)), None))
    if contracts:
        plans.append(("Anderson", Method.ANDERSON, plans[0][2], None))
    if within and report.proof.metric is not None and len(A) <= LARGEST_DIAGONAL:
        metric = report.proof.metric
        plans += [("forward-backward", Method.FORWARD_BACKWARD,
                   splitting_step(A, Method.FORWARD_BACKWARD, metric), metric),
                  ("Peaceman-Rachford", Method.PEACEMAN_RACHFORD,
                   splitting_step(A, Method.PEACEMAN_RACHFORD, metric), metric)]
    scale = max(float(np.max(np.abs(inputs) / weights)), 1e-300)
    result = []
    for name, method, step, own in plans:
        run = fixed_point(A, inputs, activation, method, slopes, eta=weights, metric=own, size=step.size,
                          tolerance=_TOLERANCE * scale, max_iterations=_MOST_ITERATIONS)
        norm = "metric" if method.is_splitting else "weighted l_inf"
        result.append(Iteration(name, norm if method is not Method.ANDERSON else "residual", step.size, step.factor,
                                run.measured, run.iterations, run.status, run.reached, run.course))
    return tuple(result)
