"""What a person sees of implicit networks: conditions, iterations, gains."""

import math

import numpy as np
from netgain.layers import Graph
from netgain.solvers.implicit.well_posedness import Condition
from rich.console import Console
from rich.text import Text

from ..rounding import rounded_down, rounded_up
from ..terminal import duration_text, show_line, show_table
from .at_inputs import InputReport
from .certificate import ImplicitCertificate, ImplicitVerdict
from .layer_report import Iteration, LayerReport, WellPosedness
from .report import Gain, ImplicitReport

# Inputs shown one by one.
_SHOWN = 10
_STYLES = {WellPosedness.PROVED: "bold green", WellPosedness.DISPROVED: "bold red", WellPosedness.OPEN: "bold"}


def show_implicit(console: Console, report: ImplicitReport, graph: Graph, certificate: str) -> None:
    """Each layer, then the gains; `certificate`: the path it was written to, or empty."""
    inputs, outputs = (math.prod(graph.shape(node)) for node in (graph.input, graph.output))
    console.print(Text.assemble((report.name, "bold"), f": f from R^{inputs} to R^{outputs}"), soft_wrap=True)
    for layer in report.layers:
        _show_layer(console, layer)
    if report.gains:
        console.print(Text("L: the least number with |f(u) - f(u')| <= L |u - u'| for all inputs, in the norms named"))
        rows = sorted(report.gains, key=lambda gain: (gain.norms, not gain.upper, gain.value))
        show_table(console, ("norms", "method", "L", "", "proved", ""),
                   [(g.norms, g.method, "<=" if g.upper else ">=", _decimal(g), "yes" if g.proved else "no", g.note)
                    for g in rows])
        console.print()
    show_line(console, "time", ", ".join(f"{stage} {duration_text(value)}" for stage, value in report.seconds.items()))
    for note in report.notes:
        show_line(console, "note", note)
    if certificate:
        show_line(console, "certificate", certificate)


def _decimal(gain: Gain) -> str:
    return rounded_up(gain.value) if gain.upper else rounded_down(gain.value)


def _show_layer(console: Console, layer: LayerReport) -> None:
    console.print(Text.assemble((layer.node, "bold"), f": x = s(A x + v) in R^{layer.neurons}, slopes of s in "
                                                      f"[{layer.slopes[0]:g}, {layer.slopes[1]:g}]"), soft_wrap=True)
    show_line(console, "verdict", layer.verdict.value, _STYLES[layer.verdict])
    proof = layer.proof
    if proof.norm is not None:
        eta, level = proof.norm.weights, rounded_up(proof.norm.log_norm)
        show_line(console, "weights eta", f"mu_eta(D A) <= {level} < 1 for all slopes D, norm max |x_i| / eta_i; "
                                          f"proved; eta from {eta.min():.4g} to {eta.max():.4g}")
    if proof.metric is not None:
        show_line(console, "metric L", f"L (I - A) + its transpose > 0; proved; L from {proof.metric.min():.4g} to "
                                       f"{proof.metric.max():.4g}")
    for finding in layer.findings:
        if finding.condition is Condition.DIAGONAL and finding.reached <= 0:
            show_line(console, "no metric", f"no diagonal metric exists: none has a margin above {finding.reached:.6g}")
    if layer.witness is not None:
        show_line(console, "witness", "z with z = D A z for slopes D within the interval, proved: for slopes [0, 1] "
                                      "ReLU has the two solutions max(z, 0) and max(-z, 0) for one v")
    console.print()
    show_table(console, ("sufficient condition", "margin", "none above", "holds"),
               [(finding.condition.value + " > 0", f"{finding.margin:.6g}", f"{finding.reached:.6g}",
                 "yes" if finding.holds else "no") for finding in layer.findings])
    if layer.not_sought:
        show_line(console, "note", layer.not_sought)
    console.print()
    if layer.iterations:
        show_table(console, ("iteration", "step", "guaranteed", "measured", "norm", "iterations", ""),
                   [_iteration(iteration) for iteration in layer.iterations])
        console.print()


def _iteration(iteration: Iteration) -> tuple[str, ...]:
    guaranteed = iteration.guaranteed
    factor = rounded_up(guaranteed) if guaranteed is not None and guaranteed < 1 else "none"
    measured = f"{iteration.measured:.6g}" if np.isfinite(iteration.measured) else "-"
    return (iteration.name, f"{iteration.step:.4g}", factor, measured, iteration.norm, str(iteration.iterations),
            iteration.status.name.lower().replace("_", " "))


def show_inputs(console: Console, looked: InputReport) -> None:
    """What is proved at the inputs: the first of them one by one, all of them in figures."""
    q, radius = looked.outputs.lower.shape[1], looked.radius
    console.print()
    stays = "class" if looked.labels is None else "label"
    console.print(Text.assemble(("inputs", "bold"), f": {looked.looked_at} of {looked.asked}; x: the solution; y: the "
                                                    f"output; radii within which the {stays} stays the largest output; "
                                                    "all proved"), soft_wrap=True)
    shown = range(min(looked.looked_at, _SHOWN))
    widths = None if looked.boxes is None else (looked.boxes.upper - looked.boxes.lower).max(axis=1)
    rows = []
    for k in shown:
        label = [] if looked.labels is None else [str(looked.labels[k])]
        box = [] if widths is None else [f"{widths[k]:.4g}" if looked.boxed[k] else "not proved"]
        radii = [rounded_down(values[k]) for values in (looked.radii_linf, looked.radii_l2)] if q > 1 else []
        rows.append((str(k), str(looked.classes[k]) if looked.classes[k] >= 0 else "open", *label,
                     *(f"{layer.radii[k]:.2g}" for layer in looked.layers), *box, *radii))
    head = ("input", "class", *([] if looked.labels is None else ["label"]),
            *(f"x within, {layer.norm}" for layer in looked.layers),
            *([] if widths is None else [f"y, width for {radius:g}"]),
            *(["l_inf radius", "l2 radius"] if q > 1 else []))
    show_table(console, head, rows)
    if looked.looked_at > _SHOWN:
        console.print(Text(f"and {looked.looked_at - _SHOWN} more; --json has all", style="dim"))
    console.print()
    for layer in looked.layers:
        show_line(console, layer.node, f"every x within {rounded_up(float(np.max(layer.radii)), 3)} of its "
                                       f"approximation, {layer.norm} norm")
    if widths is not None:
        show_line(console, "boxes", f"{int(looked.boxed.sum())} of {looked.looked_at} proved; median of their largest "
                                    f"widths {np.median(widths[looked.boxed]):.4g}")
    if q > 1:
        for norm, found in (("l_inf", looked.radii_linf), ("l2", looked.radii_l2)):
            show_line(console, f"radii, {norm}", f"{int(np.sum(found > 0))} of {looked.looked_at} above 0; median "
                                                 f"{rounded_down(float(np.median(found)), 4)}")
    for layer in looked.layers:
        if layer.iterations:
            console.print()
            show_table(console, ("iteration", "step", "guaranteed", "measured", "norm", "median", "most", ""),
                       [_iteration_at_inputs(iteration) for iteration in layer.iterations])
    console.print()
    show_line(console, "time", f"inputs {duration_text(looked.seconds)}")
    for note in looked.notes:
        show_line(console, "note", note)


def _iteration_at_inputs(iteration: Iteration) -> tuple[str, ...]:
    counts = iteration.reached[iteration.reached >= 0]
    *first, _, status = _iteration(iteration)
    median, most = (f"{np.median(counts):g}", str(counts.max())) if len(counts) else ("-", "-")
    return (*first, median, most, status)


def show_implicit_verdict(console: Console, graph: Graph, certificate: ImplicitCertificate, verdict: ImplicitVerdict
                          ) -> None:
    """A certificate that the checker accepted."""
    console.print(Text.assemble((graph.name, "bold"), ": every implicit layer has exactly one solution; proved"))
    for k, proof in enumerate(certificate.layers, start=1):
        if proof.norm is not None:
            level = rounded_up(proof.norm.log_norm)
            show_line(console, f"layer {k}", f"mu_eta(D A) <= {level} for all slopes D; proved")
    for norms, claim in (("l_inf -> l_inf", certificate.largest), ("l_inf -> l_inf", certificate.outputs),
                         ("l2 -> l2", certificate.euclidean)):
        if claim is not None:
            show_line(console, "certified", f"{rounded_up(claim.value)} >= L, {norms}; proved", "bold green")
    show_line(console, "time", f"check {duration_text(verdict.seconds)}")
