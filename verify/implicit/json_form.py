"""Implicit networks for machines; numbers JSON cannot hold are null."""

import dataclasses
from typing import Any

import numpy as np
from netgain.layers import Graph
from netgain.layers.formats import Source

from ..result_json import CHECK, graph_json, number_or_null, thinned, tool
from ..rounding import rounded_down, rounded_up
from .at_inputs import InputReport
from .certificate import ImplicitCertificate, ImplicitVerdict
from .layer_report import Iteration, LayerReport
from .report import ImplicitReport

IMPLICIT_RESULT = "netgain-implicit-result/1"

_LONGEST_COURSE = 100


def implicit_json(report: ImplicitReport, graph: Graph, source: Source, certificate: str,
                  looked: InputReport | None = None) -> dict[str, Any]:
    """What `implicit` found; `certificate`: the path it was written to, or empty; `looked`: what it found at inputs."""
    witness = report.witness
    return {
        "schema": IMPLICIT_RESULT,
        "tool": tool(),
        "model": {
            **dataclasses.asdict(source),
            "digest": report.digest,
            "input_shape": list(graph.shape(graph.input)),
            "output_shape": list(graph.shape(graph.output)),
        },
        "question": "implicit",
        "verdict": report.verdict.name.lower(),
        "proved": report.certificate is not None,
        "layers": [_layer(layer) for layer in report.layers],
        "gains": [
            {
                "norms": gain.norms,
                "method": gain.method,
                "value": number_or_null(gain.value),
                "decimal": rounded_up(gain.value) if gain.upper else rounded_down(gain.value),
                "side": "upper" if gain.upper else "lower",
                "proved": gain.proved,
                "note": gain.note,
            }
            for gain in report.gains
        ],
        "witness": None if witness is None else {
            "norms": "l_inf -> l_inf", "x": witness.x.tolist(), "x_prime": witness.x_prime.tolist(),
            "ratio": witness.ratio,
        },
        "graph": graph_json(graph, witness),
        "inputs": None if looked is None else _inputs(looked),
        "seconds": {stage: round(value, 6) for stage, value in report.seconds.items()},
        "certificate": certificate or None,
        "notes": list(report.notes),
    }


def _inputs(looked: InputReport) -> dict[str, Any]:
    """One entry per input in every list; the solution at an input lies within the distance of its approximation."""
    return {
        "asked": looked.asked,
        "looked_at": looked.looked_at,
        "classes": [int(value) if value >= 0 else None for value in looked.classes],
        "labels": None if looked.labels is None else looked.labels.tolist(),
        "outputs": _boxes(looked.outputs.lower, looked.outputs.upper),
        "radius": looked.radius,
        "boxes": None if looked.boxes is None else _boxes(looked.boxes.lower, looked.boxes.upper),
        "boxes_proved": None if looked.boxes is None else looked.boxed.tolist(),
        "certified_radii_linf": [number_or_null(value) for value in looked.radii_linf.tolist()],
        "certified_radii_l2": [number_or_null(value) for value in looked.radii_l2.tolist()],
        "layers": [
            {
                "node": layer.node,
                "norm": layer.norm,
                "solution_within": [number_or_null(value) for value in layer.radii.tolist()],
                "iterations": [_iteration(iteration) | {"by_input": iteration.reached.tolist()}
                               for iteration in layer.iterations],
            }
            for layer in looked.layers
        ],
        "seconds": round(looked.seconds, 6),
        "notes": list(looked.notes),
    }


def _boxes(lower: np.ndarray, upper: np.ndarray) -> dict[str, Any]:
    return {name: [[number_or_null(value) for value in row] for row in array.tolist()]
            for name, array in (("lower", lower), ("upper", upper))}


def _layer(layer: LayerReport) -> dict[str, Any]:
    norm, metric = layer.proof.norm, layer.proof.metric
    return {
        "node": layer.node,
        "neurons": layer.neurons,
        "slopes": list(layer.slopes),
        "verdict": layer.verdict.name.lower(),
        "weights": None if norm is None else norm.weights.tolist(),
        "log_norm": None if norm is None else norm.log_norm,
        "least_log_norm": {"value": number_or_null(layer.least.value), "below": number_or_null(layer.least.below)},
        "metric": None if metric is None else metric.tolist(),
        "witness": None if layer.witness is None else layer.witness.tolist(),
        "conditions": [
            {"condition": finding.condition.name.lower(), "margin": number_or_null(finding.margin),
             "most": number_or_null(finding.reached), "holds": finding.holds}
            for finding in layer.findings
        ],
        "not_sought": layer.not_sought or None,
        "iterations": [_iteration(iteration) | {"course": _course(iteration.course)} for iteration in layer.iterations],
    }


def _iteration(iteration: Iteration) -> dict[str, Any]:
    guaranteed = iteration.guaranteed
    return {
        "name": iteration.name,
        "norm": iteration.norm,
        "step": iteration.step,
        "guaranteed": guaranteed if guaranteed is not None and guaranteed < 1 else None,
        "measured": number_or_null(iteration.measured),
        "iterations": iteration.iterations,
        "status": iteration.status.name.lower(),
    }


def _course(lengths: tuple[float, ...]) -> list[list[float | None]]:
    """Pairs of an iteration, counted from 1, and the length of its step."""
    return [[k, number_or_null(length)] for k, length in thinned(list(enumerate(lengths, start=1)), _LONGEST_COURSE)]


def implicit_check_json(certificate: ImplicitCertificate, graph: Graph, verdict: ImplicitVerdict) -> dict[str, Any]:
    """What the checker found of a certificate of an implicit network."""
    claims = {"linf": certificate.largest, "linf_of_outputs": certificate.outputs, "l2": certificate.euclidean}
    return {
        "schema": CHECK,
        "tool": tool(),
        "proved": verdict.proved,
        "outcome": verdict.outcome.name.lower(),
        "explanation": verdict.outcome.value,
        "question": "implicit",
        "log_norms": [None if proof.norm is None else proof.norm.log_norm for proof in certificate.layers],
        "gains": {name: None if claim is None else claim.value for name, claim in claims.items()},
        "digest": graph.digest,
        "certificate_digest": certificate.digest,
        "seconds": round(verdict.seconds, 6),
    }
