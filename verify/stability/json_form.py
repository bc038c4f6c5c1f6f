"""Stability for machines; numbers JSON cannot hold are null."""

import dataclasses
from typing import Any

from netgain.layers.formats import Source

from ..result_json import CHECK, number_or_null, tool
from .certificate import StabilityCertificate, StabilityVerdict
from .claims import LOWER, Claim, Kind
from .report import BlockReport, StabilityReport

STABILITY_RESULT = "netgain-stability-result/1"


def stability_json(report: StabilityReport, source: Source, certificate: str) -> dict[str, Any]:
    """What `stability` found; `certificate`: the path it was written to, or empty."""
    whole = report.whole
    return {
        "schema": STABILITY_RESULT,
        "tool": tool(),
        "model": {**dataclasses.asdict(source), "digest": report.certificate.digest},
        "question": "stability",
        "stable": report.stable,
        "blocks": [_block(block) for block in report.blocks],
        "network": {
            "gain": number_or_null(whole.upper),
            "gain_at_least": whole.lower,
            "norm_product": number_or_null(whole.norm_product),
            "product_of_parts": number_or_null(report.product),
            "product_of_parts_infinity": number_or_null(report.product_infinity),
        },
        "seconds": {stage: round(value, 6) for stage, value in report.seconds.items()},
        "certificate": certificate or None,
    }


def _block(block: BlockReport) -> dict[str, Any]:
    facts, rate = block.facts, block.rate
    return {
        "form": "convolutional" if facts.block.convolutional else "fully connected",
        "size": facts.size,
        "depth": facts.block.depth,
        "step": facts.block.step,
        "shared": facts.block.shared,
        "activation_slopes": list(facts.block.slopes),
        "outcome": block.outcome.name.lower(),
        "explanation": block.outcome.value,
        "rate": None if rate is None else rate.value,
        "claims": [_claim(claim) for claim in block.search.claims],
        "gain_at_least": block.search.unrolled.lower,
        "norm_product": number_or_null(block.search.unrolled.norm_product),
        "notes": list(block.search.notes),
    }


def _claim(claim: Claim) -> dict[str, Any]:
    small = {name: array.tolist() for name, array in claim.data.items() if name not in ("metric", "multipliers")}
    return {
        "kind": claim.kind.value,
        "meaning": claim.kind.meaning,
        "bound": "lower" if claim.kind in LOWER else "upper",
        "value": claim.value,
        "slopes": list(claim.slopes),
        "depth": claim.depth,
        "data": small,
    }


def stability_check_json(
    certificate: StabilityCertificate, digest: str, verdict: StabilityVerdict, alone: bool
) -> dict[str, Any]:
    """What the checker found of a certificate of stability.

    `digest`: that of the model's graph; `alone`: whether one block is all of the network, so that its gain is the
    network's.
    """
    gains = [] if certificate.whole is None else [certificate.whole.value]
    if alone:
        gains += [claim.value for claim in certificate.blocks[0] if claim.kind is Kind.UNROLLED_GAIN]
    return {
        "schema": CHECK,
        "tool": tool(),
        "proved": verdict.proved,
        "outcome": verdict.decision.name.lower(),
        "explanation": verdict.decision.value,
        "question": "stability",
        "blocks": [[_claim(claim) for claim in claims] for claims in certificate.blocks],
        "network_gain": min(gains, default=None),
        "failed": [{"block": index, "kind": kind} for index, kind in verdict.failed],
        "digest": digest,
        "certificate_digest": certificate.digest,
        "seconds": round(verdict.seconds, 6),
    }
