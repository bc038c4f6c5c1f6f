"""Machine-readable results, each with the version of its schema; numbers JSON cannot hold are null."""

import dataclasses
import importlib.metadata
import math
from collections.abc import Sequence
from typing import Any, TypeVar

from netgain.layers import Graph
from netgain.layers.formats import Source
from netgain.solvers.result import Progress

from .certificate import Certificate, CertificateError
from .check import Verdict
from .claim import Claim
from .doctor import Diagnosis
from .inspection import Inspection
from .layer_gains import layer_gains
from .lipschitz import LipschitzReport
from .lower_bound import Witness
from .mode import Mode
from .rounding import rounded_down, rounded_up

_Item = TypeVar("_Item")

RESULT = "netgain-result/1"
CHECK = "netgain-check/1"
INSPECTION = "netgain-inspection/1"
DOCTOR = "netgain-doctor/1"

_LONGEST_COURSE = 200

_NORM = {"input": "l2", "output": "l2", "region": "all inputs", "arithmetic": "real"}


def result_json(
    report: LipschitzReport, graph: Graph, source: Source, seed: int, certificate: str, claim: Claim | None = None
) -> dict[str, Any]:
    """What `verify` and `lipschitz` found; `certificate`: the path it was written to, or empty.

    `graph` lists the layers with their gains (see `layer_gains`), `course` the bounds over the seconds of the solve;
    both are floating point, for pictures.
    """
    witness, solution = report.witness, report.solution
    return {
        "schema": RESULT,
        "tool": tool(),
        "model": {
            **dataclasses.asdict(source),
            "digest": graph.digest,
            "input_shape": list(graph.shape(graph.input)),
            "output_shape": list(graph.shape(graph.output)),
        },
        "question": "lipschitz",
        "norm": _NORM,
        "method": f"matrix inequality, one multiplier per {'neuron' if report.mode is Mode.NEURON else 'channel'}",
        "upper": number_or_null(report.upper),
        "upper_decimal": rounded_up(report.upper) if report.proved else None,
        "lower": {
            "value": report.lower,
            "decimal": rounded_down(report.lower),
            "witness": None if witness is None else {"x": witness.x.tolist(), "x_prime": witness.x_prime.tolist()},
            "slope": number_or_null(report.slope_bound),
        },
        "norm_product": number_or_null(report.norm_product),
        "gap": number_or_null(report.gap),
        "proved": report.proved,
        "mode": report.mode.value,
        "claim": None if claim is None else {"below": claim.value, "verdict": claim.standing.name.lower()},
        "solver": {
            "name": solution.solver,
            "version": solution.version or tool()["version"],
            "status": solution.status.name.lower(),
            "explanation": solution.status.value,
            "detail": solution.detail,
            "iterations": solution.iterations,
            "bound": number_or_null(solution.bound),
            "dual_bound": number_or_null(solution.dual_bound),
        },
        "graph": graph_json(graph, witness),
        "course": course_json(solution.history),
        "seed": seed,
        "seconds": {stage: round(value, 6) for stage, value in report.seconds.items()},
        "certificate": certificate or None,
        "notes": list(report.notes),
    }


def graph_json(graph: Graph, witness: Witness | None) -> list[dict[str, Any]]:
    """The layers in order, each with the gains of `LayerGain`."""
    return [
        {
            "node": layer.node.name,
            "layer": layer.node.kind,
            "inputs": list(layer.node.inputs),
            "shape": list(layer.node.shape),
            "slopes": layer.node.slopes or None,
            "gains": [None if gain is None else number_or_null(gain) for gain in layer.gains],
            "reached": None if layer.reached is None else number_or_null(layer.reached),
        }
        for layer in layer_gains(graph, witness)
    ]


def course_json(history: Sequence[Progress]) -> list[dict[str, Any]]:
    """A solver's bounds over time; of a long course evenly spread lines, the first and the last among them."""
    return [
        {
            "seconds": round(line.seconds, 6),
            "iteration": line.iteration,
            "bound": number_or_null(line.bound),
            "dual_bound": number_or_null(line.dual_bound),
        }
        for line in thinned(history, _LONGEST_COURSE)
    ]


def thinned(items: Sequence[_Item], most: int) -> list[_Item]:
    """At most `most` of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]


def check_json(certificate: Certificate, graph: Graph, verdict: Verdict) -> dict[str, Any]:
    """What the checker found of a certificate."""
    return {
        "schema": CHECK,
        "tool": tool(),
        "proved": verdict.proved,
        "outcome": verdict.outcome.name.lower(),
        "explanation": verdict.outcome.value,
        "question": "lipschitz",
        "norm": _NORM,
        "value": certificate.value,
        "digest": graph.digest,
        "certificate_digest": certificate.digest,
        "arithmetic": verdict.arithmetic,
        "seconds": round(verdict.seconds, 6),
    }


def refusal_json(error: CertificateError) -> dict[str, Any]:
    """A certificate that could not be read."""
    return {"schema": CHECK, "tool": tool(), "proved": False, "outcome": "unreadable", "explanation": str(error)}


def inspection_json(inspection: Inspection, source: Source) -> dict[str, Any]:
    """What `inspect` found."""
    return {
        "schema": INSPECTION,
        "tool": tool(),
        "model": dataclasses.asdict(source),
        **dataclasses.asdict(inspection),
        "predictions": [
            {**dataclasses.asdict(prediction), "mode": prediction.mode.value, "fits": prediction.fits}
            for prediction in inspection.predictions
        ],
        "neurons": inspection.neurons,
    }


def diagnosis_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """What `doctor` found."""
    backends = {
        backend.name.lower(): {
            "installed": backend.installed,
            "version": backend.version,
            "licence": backend.licence.value,
            "usable": backend.usable,
            "looked_in": list(backend.where_looked),
            "remedy": backend.remedy,
        }
        for backend in diagnosis.backends
    }
    return {
        "schema": DOCTOR,
        "tool": tool(),
        "machine": dataclasses.asdict(diagnosis.machine),
        "libraries": diagnosis.libraries,
        "solvers": backends,
    }


def tool() -> dict[str, str]:
    """Who says so."""
    return {"name": "netgain", "version": importlib.metadata.version("netgain")}


def number_or_null(value: float) -> float | None:
    """JSON holds no infinities."""
    return value if math.isfinite(value) else None
