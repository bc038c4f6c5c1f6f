"""What a person sees of stability: block by block what was proved, then gains of the whole."""

import math

import numpy as np
from rich.console import Console
from rich.text import Text

from ..rounding import rounded_down, rounded_up
from ..terminal import duration_text, show_bound, show_line
from .certificate import StabilityCertificate, StabilityVerdict
from .claims import LOWER, Claim, Kind
from .report import KEPT, BlockReport, StabilityReport

_LABELS = {
    Kind.PAPER_CONDITIONS: ("conditions", "epsilon for which the paper's conditions hold"),
    Kind.SYMMETRIC_RATE: ("rate, P", ">= the rate in the norm of P = -A, for all slopes"),
    Kind.INFINITY_RATE: ("rate, l_inf", ">= the rate in a weighted l_inf norm, for all slopes"),
    Kind.METRIC_RATE: ("rate, metric", ">= the rate in an optimised metric, for all slopes"),
    Kind.COMMON_RATE: ("rate, common", ">= the rate in a metric that all stages and pixels share, for all slopes"),
    Kind.TANH_RATE_SYMMETRIC: ("bounded, P", ">= the rate to the equilibrium for |u| <= {radius:g}, x_0 = 0"),
    Kind.TANH_RATE_INFINITY: ("bounded, inf", ">= the rate to the equilibrium for |u| <= {radius:g}, x_0 = 0"),
    Kind.EQUILIBRIUM: ("equilibrium", ">= ||A^-1 B||_2: one equilibrium per input, -A^-1 (B u + C)"),
    Kind.EQUILIBRIUM_INFINITY: ("", ">= ||A^-1 B||_inf"),
    Kind.UNROLLED_GAIN: ("gain", ">= the l2 gain at depth {depth}, unrolled"),
    Kind.METRIC_GAIN: ("gain, metric", ">= the l2 gain at {depth_text}, inputs that vary too"),
    Kind.COMMON_GAIN: ("gain, common", ">= the l2 gain at {depth_text}, inputs that vary too"),
    Kind.CONSTANT_GAIN: ("gain, any K", ">= the l2 gain at every depth, constant inputs"),
    Kind.CONSTANT_GAIN_INFINITY: ("gain, l_inf", ">= the l_inf gain at every depth, constant inputs"),
    Kind.DEPTH_GAIN_INFINITY: ("gain, l_inf", ">= the l_inf gain at depth {depth}, inputs that vary too"),
    Kind.UNIFORM_GAIN_INFINITY: ("gain, l_inf", ">= the l_inf gain at every depth, inputs that vary too"),
    Kind.GROWTH: ("growth", "<= the rate in any norm: slopes {patterns}"),
    Kind.EXPANSION: ("trajectories", "two, of one input, are so many times farther apart after {depth} steps"),
}


def show_stability(console: Console, report: StabilityReport, written: str) -> None:
    """Blocks, then the whole. `written`: where the certificate is, or empty."""
    console.print(Text.assemble((report.name, "bold"), ": x+ = x + h s(A x + B u + C)"), soft_wrap=True)
    for number, block in enumerate(report.blocks, 1):
        if len(report.blocks) > 1:
            console.print()
        _show_block(console, number, block)
    if len(report.network.parts) > 1:
        whole = report.whole
        console.print()
        console.print(Text("whole network", "bold"))
        for label, value, meaning in (
            ("norm product", whole.norm_product, "norm times norm along the graph; in floating point"),
            ("of parts", report.product, "the blocks' proved l2 gains times the norms between them"),
            ("of parts", report.product_infinity, "likewise in the l_inf norm"),
        ):
            if value < math.inf:
                show_bound(console, label, rounded_up(value), meaning)
        if whole.certificate is not None:
            show_bound(console, "gain", rounded_up(whole.upper), ">= the l2 gain, unrolled; proved", "bold green")
        if whole.witness is not None:
            show_bound(console, "witness", rounded_down(whole.lower), "<= the l2 gain; proved by a pair of inputs")
        for note in whole.notes:
            show_line(console, "note", note)
    show_line(console, "time", ", ".join(f"{stage} {duration_text(value)}" for stage, value in report.seconds.items()))
    if written:
        show_line(console, "certificate", written)


def _show_block(console: Console, number: int, block: BlockReport) -> None:
    facts = block.facts
    lower, upper = facts.block.slopes
    console.print(Text(f"block {number}: {facts.block.describe()}, h = {facts.block.step:g}, slopes in "
                       f"[{lower:g}, {upper:g}]"), soft_wrap=True)
    for claim in block.search.claims:
        if claim.kind in _LABELS:
            _show_claim(console, claim, "bold green" if claim is block.rate and block.outcome in KEPT else "")
    if block.search.unrolled.witness is not None:
        show_bound(console, "witness", rounded_down(block.search.unrolled.lower),
                   f"<= the l2 gain at depth {facts.block.depth}; proved by a pair of inputs")
    outcome = block.outcome
    show_line(console, "stability", outcome.value, "bold green" if outcome in KEPT else "bold red")
    for note in block.search.notes:
        show_line(console, "note", note)


def _show_claim(console: Console, claim: Claim, style: str) -> None:
    label, meaning = _LABELS[claim.kind]
    radius = claim.number("radius")
    patterns = claim.data.get("patterns")
    texts = {
        "depth": claim.depth,
        "depth_text": "every depth" if claim.depth is None else f"depth {claim.depth}",
        "radius": radius,
        "patterns": "" if patterns is None else _slopes(patterns),
    }
    lower = claim.kind in LOWER or claim.kind is Kind.PAPER_CONDITIONS
    show_bound(console, label, rounded_down(claim.value) if lower else rounded_up(claim.value),
               meaning.format(**texts), style)


def _slopes(patterns: np.ndarray) -> str:
    """Slopes of up to twelve numbers, else how many there are."""
    if patterns.size > 12:
        return f"({len(patterns)} pattern{'s' * (len(patterns) > 1)} of {patterns.shape[1]}, in the certificate)"
    return ", then ".join("(" + ", ".join(f"{value:g}" for value in row) + ")" for row in patterns)


def show_stability_verdict(
    console: Console, name: str, certificate: StabilityCertificate, verdict: StabilityVerdict
) -> None:
    """A certificate of stability that the checker accepted."""
    console.print(Text.assemble((name, "bold"), ": x+ = x + h s(A x + B u + C)"), soft_wrap=True)
    for number, claims in enumerate(certificate.blocks, 1):
        if len(certificate.blocks) > 1:
            console.print(Text(f"block {number}"))
        for claim in claims:
            if claim.kind in _LABELS:
                _show_claim(console, claim, "")
    if certificate.whole is not None:
        show_bound(console, "network", rounded_up(certificate.whole.value), ">= the l2 gain of the whole", "bold green")
    show_line(console, "proved", "every claim above, anew from the weights", "bold green")
    show_line(console, "time", f"check {duration_text(verdict.seconds)}")
