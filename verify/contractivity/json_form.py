"""Contractivity for machines; numbers JSON cannot hold are null."""

import dataclasses
from typing import Any

from netgain.layers.formats import Source

from ..result_json import CHECK, number_or_null, tool
from ..rounding import rounded_down, rounded_up
from .check import LogNormVerdict
from .report import ContractivityReport, FieldCertificate

CONTRACTIVITY_RESULT = "netgain-contractivity-result/1"


def contractivity_json(
    report: ContractivityReport, digest: str, activation_slopes: tuple[float, float], source: Source, certificate: str,
    interval_certificate: str,
) -> dict[str, Any]:
    """What `contractivity` found; the last two are the paths they were written to, or empty."""
    field, worst, intervals, search = report.field, report.worst, report.intervals, report.worst.search
    proved = report.certificate is not None
    return {
        "schema": CONTRACTIVITY_RESULT,
        "tool": tool(),
        "model": {
            **dataclasses.asdict(source),
            "digest": digest,
            "size": field.size,
            "form": report.form.value,
            "activation_slopes": list(activation_slopes),
        },
        "question": "logarithmic norm",
        "norm": "l2",
        "slopes": [field.lower, field.upper],
        "level": report.level,
        "verdict": report.verdict.name.lower(),
        "proved": proved,
        "worst": {
            "upper": number_or_null(worst.upper),
            "upper_decimal": rounded_up(worst.upper) if proved else None,
            "lower": worst.lower,
            "lower_decimal": rounded_down(worst.lower),
            "slopes": [slopes.tolist() for slopes in worst.slopes],
            "semidefinite": number_or_null(worst.semidefinite),
            "gradient": worst.gradient,
            "closed_form": number_or_null(worst.closed_form),
            "norm_bound": number_or_null(worst.norm_product),
        },
        "gradient_is_wrong": report.gradient_is_wrong,
        "interval": {
            "high": intervals.high,
            "low": intervals.low,
            "semidefinite": intervals.semidefinite,
            "gradient": intervals.gradient,
        },
        "search": None if search is None else {"status": search.status.name.lower(), "nodes": search.nodes},
        "log_gain": report.log_gain,
        "seconds": {stage: round(value, 6) for stage, value in report.seconds.items()},
        "certificate": certificate or None,
        "interval_certificate": interval_certificate or None,
        "notes": list(report.notes),
    }


def contractivity_check_json(
    certificate: FieldCertificate, digest: str, activation_slopes: tuple[float, float], verdict: LogNormVerdict
) -> dict[str, Any]:
    """What the checker found of a certificate of contractivity; `digest`: that of the model's matrices."""
    return {
        "schema": CHECK,
        "tool": tool(),
        "proved": verdict.proved,
        "outcome": verdict.decision.name.lower(),
        "explanation": verdict.decision.value,
        "question": "logarithmic norm",
        "norm": "l2",
        "value": certificate.level,
        "slopes": [certificate.lower, certificate.upper],
        "activation_slopes": list(activation_slopes),
        "digest": digest,
        "certificate_digest": certificate.digest,
        "arithmetic": verdict.arithmetic,
        "seconds": round(verdict.seconds, 6),
    }
