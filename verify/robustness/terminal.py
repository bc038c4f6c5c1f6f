"""What a person and a program see of a robustness report."""

import dataclasses
import math
from typing import Any

import numpy as np
from netgain.layers import Graph
from netgain.layers.formats import Source
from rich.console import Console
from rich.text import Text

from ..result_json import CHECK, number_or_null, tool
from ..rounding import rounded_down, rounded_up
from ..terminal import duration_text, show_bound, show_line, show_table
from .certificate import RobustnessCertificate
from .check import RobustnessVerdict
from .report import RobustnessReport

RESULT = "netgain-robustness-result/1"
_MOST_ROWS = 12


def show_robustness(console: Console, report: RobustnessReport, shape: tuple[int, ...], certificate: str) -> None:
    """Constants, the curve, the samples, and how long it took."""
    samples, bounds = report.samples, report.bounds
    console.print(Text.assemble((report.name, "bold"), f": f from R^{math.prod(shape)} to {bounds.classes} classes; "
                                f"{len(samples)} of {samples.available} samples of {samples.path}"), soft_wrap=True)
    console.print("R: within the distance R of a sample the largest output stays the largest. Euclidean norm, in the")
    console.print("units of the input that the model takes, real arithmetic, any x' near by (no box, no clipping)")
    console.print()
    values = bounds.matrix()[np.triu_indices(bounds.classes, 1)]
    if bounds.overall:
        show_bound(console, "sqrt(2) L", rounded_up(bounds.from_overall), f">= any |f_i - f_j|_Lip; proved, mode "
                                                                        f"{report.overall.mode.value}")
    if bounds.pairs:
        ratio = float(np.median(values) / bounds.from_overall) if bounds.overall else math.nan
        show_bound(console, "pairs", rounded_up(float(np.median(values))),
                   f"median of {len(values)}, {len(bounds.optimised)} by multipliers of their own; proved, "
                   f"{ratio:.3f} of sqrt(2) L", "bold green")
    show_line(console, "right", f"{int(np.sum(report.right))} of {len(samples)} samples, "
                                f"{np.mean(report.right):.2%}")
    positive = report.radii[report.right]
    if len(positive):
        show_line(console, "radius", f"median {rounded_down(float(np.median(positive)), 4)} of those right, "
                                     f"largest {rounded_down(float(np.max(positive)), 4)}")
    if report.searched:
        raised = report.radii[: report.searched] > report.global_radii[: report.searched]
        show_line(console, "local", f"slopes on their own balls raise the radii of {int(np.sum(raised))} of "
                                    f"{report.searched} samples")
    console.print()
    show_table(console, ("radius", "certified globally", "certified <=", "robust accuracy", "<= attacked"),
               [(f"{point.radius:g}", f"{point.certified_globally:.2%}", f"{point.certified:.2%}", "",
                 f"{point.attacked:.2%}") for point in report.curve])
    console.print()
    show_table(console, ("sample", "label", "class", "R globally", "R certified", "attacked at"), [
        (str(k), str(samples.labels[k]), str(report.predicted[k]) if report.decided[k] else "?",
         rounded_down(float(report.global_radii[k])), rounded_down(float(report.radii[k])), _distance(report, k))
        for k in range(min(len(samples), _MOST_ROWS))])
    if len(samples) > _MOST_ROWS:
        console.print(f"... and {len(samples) - _MOST_ROWS} more, see --json")
    if report.regions:
        _show_regions(console, report)
    console.print()
    show_line(console, "time", ", ".join(f"{stage} {duration_text(value)}" for stage, value in report.seconds.items()))
    for note in report.notes:
        show_line(console, "note", note)
    if certificate:
        show_line(console, "certificate", certificate)


def _show_regions(console: Console, report: RobustnessReport) -> None:
    region = report.regions[0].region
    console.print()
    console.print(f"L on a {region.shape.value} of radius {region.radius:g} around samples: |f(x') - f(x'')| <= "
                  f"L |x' - x''| within; over all inputs {rounded_up(report.overall.upper)}", soft_wrap=True)
    show_table(console, ("sample", "witness <= L", "certified >= L", "unstable neurons", "time"), [
        (str(bound.index), rounded_down(bound.lower), rounded_up(bound.upper), f"{bound.unstable} of {bound.neurons}",
         duration_text(bound.seconds)) for bound in report.regions[:_MOST_ROWS]])
    if len(report.regions) > _MOST_ROWS:
        console.print(f"... and {len(report.regions) - _MOST_ROWS} more, see --json")


def _distance(report: RobustnessReport, k: int) -> str:
    if not report.right[k]:
        return "misclassified"
    return rounded_up(float(report.attacked[k])) if math.isfinite(report.attacked[k]) else "-"


def robustness_json(report: RobustnessReport, graph: Graph, source: Source, seed: int,
                    certificate: str) -> dict[str, Any]:
    """What `robustness` found; `certificate`: the path it was written to, or empty."""
    samples, bounds = report.samples, report.bounds
    values = bounds.matrix()
    return {
        "schema": RESULT,
        "tool": tool(),
        "model": {**dataclasses.asdict(source), "digest": graph.digest,
                  "input_shape": list(graph.shape(graph.input)), "output_shape": list(graph.shape(graph.output))},
        "data": {"path": samples.path, "sha256": samples.sha256, "samples": len(samples),
                 "available": samples.available},
        "question": "robustness",
        "norm": "l2",
        "units": "the model's input",
        "mode": report.overall.mode.value,
        "proved": report.proved,
        "upper": number_or_null(report.overall.upper),
        "pairs": [{"outputs": [i, j], "upper": number_or_null(float(values[i, j])),
                   "optimised": (i, j) in bounds.optimised}
                  for j in range(bounds.classes) for i in range(j)],
        "clean_accuracy": float(np.mean(report.right)),
        "curve": [dataclasses.asdict(point) for point in report.curve],
        "samples": [
            {"index": k, "label": int(samples.labels[k]), "class": int(report.predicted[k]),
             "class_proved": bool(report.decided[k]), "radius": number_or_null(float(report.radii[k])),
             "global_radius": number_or_null(float(report.global_radii[k])),
             "attacked": number_or_null(float(report.attacked[k]))}
            for k in range(len(samples))
        ],
        "searched_locally": report.searched,
        "regions": [
            {"index": bound.index, "shape": bound.region.shape.value, "radius": bound.region.radius,
             "lower": bound.lower, "upper": number_or_null(bound.upper), "unstable": bound.unstable,
             "neurons": bound.neurons, "seconds": round(bound.seconds, 6)}
            for bound in report.regions
        ],
        "seed": seed,
        "seconds": {stage: round(value, 6) for stage, value in report.seconds.items()},
        "certificate": certificate or None,
        "interrupted": report.interrupted,
        "notes": list(report.notes),
    }


def show_robustness_verdict(console: Console, certificate: RobustnessCertificate, graph: Graph,
                            verdict: RobustnessVerdict) -> None:
    """A certificate the checker accepted."""
    console.print(Text.assemble((graph.name, "bold"), ": classes kept within Euclidean balls, real arithmetic"),
                  soft_wrap=True)
    if certificate.overall:
        show_bound(console, "L", rounded_up(certificate.overall.value), ">= the Lipschitz constant; proved")
    show_line(console, "pairs", f"{len(certificate.pairs)} constants of differences proved")
    radii = [claim.radius for claim in certificate.samples]
    if radii:
        show_line(console, "samples", f"{len(radii)} radii proved, from {rounded_down(min(radii), 4)} to "
                                      f"{rounded_down(max(radii), 4)}")
    for claim in certificate.regions[:_MOST_ROWS]:
        region = claim.local.region
        show_bound(console, "L on region", rounded_up(claim.local.gains[-1].value),
                   f"{region.shape.value} of radius {region.radius:g}; proved")
    if len(certificate.regions) > _MOST_ROWS:
        show_line(console, "", f"and {len(certificate.regions) - _MOST_ROWS} more regions")
    show_line(console, "time", f"check {duration_text(verdict.seconds)}")


def robustness_check_json(certificate: RobustnessCertificate, graph: Graph,
                          verdict: RobustnessVerdict) -> dict[str, Any]:
    """What the checker found of a certificate."""
    return {
        "schema": CHECK,
        "tool": tool(),
        "proved": verdict.proved,
        "outcome": verdict.finding.name.lower(),
        "explanation": verdict.finding.value,
        "detail": verdict.detail or None,
        "question": "robustness",
        "norm": "l2",
        "constants": verdict.constants,
        "samples": verdict.samples,
        "regions": verdict.regions,
        "overall": None if certificate.overall is None else certificate.overall.value,
        "pairs": [{"outputs": list(pair), "value": constant.value}
                  for pair, constant in sorted(certificate.pairs.items())],
        "claims": [{"class": claim.predicted, "radius": claim.radius} for claim in certificate.samples],
        "digest": graph.digest,
        "certificate_digest": certificate.digest,
        "seconds": round(verdict.seconds, 6),
    }
