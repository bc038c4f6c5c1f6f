"""Implicit networks for machines; numbers JSON cannot hold are null."""

import dataclasses
from typing import Any

from netgain.layers import Graph
from netgain.layers.formats import Source

from ..result_json import CHECK, graph_json, number_or_null, thinned, tool
from ..rounding import rounded_down, rounded_up
from .certificate import ImplicitCertificate, ImplicitVerdict
from .layer_report import LayerReport
from .report import ImplicitReport

IMPLICIT_RESULT = "netgain-implicit-result/1"

_LONGEST_COURSE = 100


def implicit_json(report: ImplicitReport, graph: Graph, source: Source, certificate: str) -> dict[str, Any]:
    """What `implicit` found; `certificate`: the path it was written to, or empty."""
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
        "seconds": {stage: round(value, 6) for stage, value in report.seconds.items()},
        "certificate": certificate or None,
        "notes": list(report.notes),
    }


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
        "iterations": [
            {
                "name": iteration.name,
                "norm": iteration.norm,
                "step": iteration.step,
                "guaranteed": iteration.guaranteed if iteration.guaranteed is not None and iteration.guaranteed < 1
                else None,
                "measured": number_or_null(iteration.measured),
                "iterations": iteration.iterations,
                "status": iteration.status.name.lower(),
                "course": _course(iteration.course),
            }
            for iteration in layer.iterations
        ],
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
