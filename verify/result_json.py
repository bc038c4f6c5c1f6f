"""The machine-readable result of a verification, schema-versioned."""

import importlib.metadata
import math
from typing import Any

from netgain.layers import Graph
from netgain.layers.formats import Source

from .lipschitz import LipschitzReport
from .rounding import rounded_down, rounded_up

SCHEMA = "netgain-result/1"


def result_json(report: LipschitzReport, graph: Graph, source: Source, seed: int, certificate: str) -> dict[str, Any]:
    """One JSON object; numbers JSON cannot hold (no bound at all) are null."""
    witness, solution = report.witness, report.solution
    return {
        "schema": SCHEMA,
        "tool": {"name": "netgain", "version": importlib.metadata.version("netgain")},
        "model": {
            "path": source.path,
            "sha256": source.sha256,
            "format": source.format,
            "digest": graph.digest,
            "input_shape": list(graph.shape(graph.input)),
            "output_shape": list(graph.shape(graph.output)),
        },
        "question": "lipschitz",
        "norm": {"input": "l2", "output": "l2", "region": "all inputs", "arithmetic": "real"},
        "method": "matrix inequality, one multiplier per neuron",
        "upper": _number(report.upper),
        "upper_decimal": rounded_up(report.upper) if report.proved else None,
        "lower": {
            "value": report.lower,
            "decimal": rounded_down(report.lower),
            "witness": None if witness is None else {"x": witness.x.tolist(), "x_prime": witness.x_prime.tolist()},
            "slope": report.slope_bound,
        },
        "norm_product": _number(report.norm_product),
        "gap": _number(report.gap),
        "proved": report.proved,
        "solver": {
            "name": solution.solver,
            "version": solution.version,
            "status": solution.status.name.lower(),
            "explanation": solution.status.value,
            "detail": solution.detail,
            "iterations": solution.iterations,
            "bound": _number(solution.bound),
            "dual_bound": _number(solution.dual_bound),
        },
        "seed": seed,
        "seconds": {stage: round(value, 6) for stage, value in report.seconds.items()},
        "certificate": certificate or None,
        "notes": list(report.notes),
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
