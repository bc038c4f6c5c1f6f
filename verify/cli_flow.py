"""`netgain flow`, and what `netgain check` does with its certificates."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from netgain import layers
from netgain.layers.formats import Source
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.result import Limits
from rich.console import Console
from rich.text import Text

from .cli_options import (
    Json,
    Model,
    Quiet,
    TimeLimit,
    print_json,
    read_claim,
    read_from,
    require_limits,
    require_writable,
    save,
)
from .contractivity.certificate import matrices_digest
from .contractivity.check import Decision, LogNormVerdict
from .contractivity.flow import DEFAULT_PIECES, DEFAULT_TIME_LIMIT, FlowReport
from .contractivity.flow import flow as bound_flow
from .contractivity.flow_certificate import SCHEMA as FLOW_CERTIFICATE
from .contractivity.flow_certificate import FlowCertificate, check_flow_certificate, load_flow_certificate
from .contractivity.flow_plot import FORMATS, PlotUnavailable, plot_flow, require_matplotlib
from .contractivity.slope_fields import slope_field
from .interruption import Interruption
from .outcomes import ExitCode, error_console, fail, failures_explained
from .result_json import CHECK, number_or_null, tool
from .rounding import rounded_down, rounded_up
from .terminal import Display, arithmetic_text, duration_text, result_console, show_bound, show_line, show_table

FLOW = (FLOW_CERTIFICATE,)
"""Schemas of the certificates that `check_flow_file` knows."""
FLOW_RESULT = "netgain-flow-result/1"
_STEPS = "1,2,4,8,16"


def flow(
    model: Model,
    duration: Annotated[float, typer.Option("--time", help="How long the flow runs.")] = 1.0,
    steps: Annotated[str, typer.Option(help="Numbers of Euler steps, with commas between.")] = _STEPS,
    pieces: Annotated[int, typer.Option(min=1, help="Of the time, for the metric.")] = DEFAULT_PIECES,
    plot: Annotated[Path | None, typer.Option(help="A picture to write: .svg, .png or .pdf.")] = None,
    as_json: Json = False,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Where to write the certificate.",
                                  show_default="NAME.flow.json here"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search for lower bounds.")] = 0,
    time_limit: TimeLimit = DEFAULT_TIME_LIMIT,
    quiet: Quiet = False,
) -> None:
    """Bounds how far the flow of a neural ODE, and its Euler steps, can carry solutions apart."""
    with failures_explained():
        counts = _counts(steps)
        if not 0 < duration < math.inf:
            raise typer.BadParameter(f"{duration} is not a positive length of time.", param_hint="--time")
        require_limits(0.5, time_limit)
        if plot is not None:
            _require_plottable(plot, model)
        target = certificate or Path(f"{model.stem}.flow.json")
        require_writable(target, model, named=certificate is not None)
        display = Display(error_console(), quiet)
        with Interruption() as interruption, display.running():
            content, source = read_from(layers.load_field, model)
            try:
                report = bound_flow(content, duration, counts, pieces=pieces, limits=Limits(time_limit=time_limit),
                                    seed=seed, on_stage=display.say)
            except RuntimeError as error:
                fail(ExitCode.NUMERICAL, f"{model} could not be bounded: {error}")
        written, trouble = save(report.certificate, target)
        if plot is not None:
            plot_flow(report, plot)
        if as_json:
            print_json(flow_json(report, source, content.digest, written, str(plot) if plot else ""))
        else:
            show_flow(result_console(), report, {"certificate": written, "plot": str(plot) if plot else ""})
        if trouble:
            fail(ExitCode.USAGE, trouble)
        if interruption:
            raise typer.Exit(ExitCode.INTERRUPTED)
        raise typer.Exit(ExitCode.PROVED if report.proved else ExitCode.NOT_PROVED)


def _counts(text: str) -> list[int]:
    """**Raises:** `typer.BadParameter`."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 7 and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"{text!r} are not positive whole numbers with commas between, such as {_STEPS}.",
                                 param_hint="--steps")
    return sorted({int(part) for part in parts})


def _require_plottable(plot: Path, model: Path) -> None:
    """Before the work, not after it. **Raises:** `typer.BadParameter`, `typer.Exit`."""
    if plot.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"{plot} does not end in one of {', '.join(FORMATS)}.", param_hint="--plot")
    try:
        require_matplotlib()
    except PlotUnavailable as error:
        fail(ExitCode.USAGE, error)
    require_writable(plot, model, named=True)


def show_flow(console: Console, report: FlowReport, written: dict[str, str]) -> None:
    """Bounds of the flow, and a table of the Euler networks. `written`: paths by what they are called, or empty."""
    lower, upper = report.slopes
    console.print(Text.assemble((report.name, "bold"), f": {report.form.value} in R^{report.size}, slopes in "
                                                       f"[{lower:g}, {upper:g}]"), soft_wrap=True)
    console.print(Text(f"G: the least number with |u(T) - v(T)| <= G |u(0) - v(0)| for all solutions, T = "
                       f"{report.duration:g}, Euclidean norms"), soft_wrap=True)
    console.print(Text("L: the same for N Euler steps of length T / N in place of the flow; rate: log(bound) / T"))
    console.print()
    show_table(console, ("bound of the flow", "value", "", "rate", "proved", "time", "note"), [
        (bound.method, "-" if bound.gain is None else rounded_up(bound.gain), ">= G" if bound.gain is not None else "",
         "" if bound.rate is None else rounded_up(bound.rate, 4), "" if bound.gain is None else "yes",
         duration_text(bound.seconds), bound.note)
        for bound in report.bounds])
    console.print()
    show_table(console, ("steps N", "witness <= L", "slope system", "certified >= L", "norm product", "rate", "time",
                         "note"), [
        (str(network.steps), rounded_down(network.report.lower) if network.report.witness else "-",
         rounded_down(network.report.slope_bound),
         rounded_up(network.report.upper) if network.report.proved else "-",
         rounded_up(network.report.norm_product),
         rounded_up(network.rate(report.duration), 4) if network.report.proved else "",
         duration_text(network.report.seconds["total"]), " ".join(network.report.notes))
        for network in report.networks])
    console.print()
    show_line(console, "proved", "witness and certified; a bound of an Euler network is none of the flow, nor the "
                                 "other way round")
    for note in report.notes:
        show_line(console, "note", note)
    for label, path in written.items():
        if path:
            show_line(console, label, path)


def flow_json(report: FlowReport, source: Source, digest: str, certificate: str, plot: str) -> dict[str, Any]:
    """What `flow` found; the last two are the paths written, or empty."""
    return {
        "schema": FLOW_RESULT,
        "tool": tool(),
        "model": {**dataclasses.asdict(source), "digest": digest, "size": report.size, "form": report.form.value},
        "question": "flow map",
        "norm": "l2",
        "slopes": list(report.slopes),
        "time": report.duration,
        "proved": report.proved,
        "flow": [{"method": bound.method, "gain": bound.gain, "rate": bound.rate, "proved": bound.gain is not None,
                  "seconds": round(bound.seconds, 6), "note": bound.note or None} for bound in report.bounds],
        "networks": [{"steps": network.steps, "step": network.step, "upper": number_or_null(network.report.upper),
                      "proved": network.report.proved, "lower": network.report.lower,
                      "slope": number_or_null(network.report.slope_bound),
                      "norm_product": number_or_null(network.report.norm_product),
                      "rate": number_or_null(network.rate(report.duration)),
                      "seconds": round(network.report.seconds["total"], 6), "notes": list(network.report.notes)}
                     for network in report.networks],
        "seconds": round(report.seconds, 6),
        "certificate": certificate or None,
        "plot": plot or None,
        "notes": list(report.notes),
    }


def check_flow_file(path: Path, model: Path, as_json: bool) -> None:
    """Proves a certificate of a flow map anew, or ends with the exit code that says why it does not hold up."""
    claim = read_claim(load_flow_certificate, path, as_json)
    content, _ = read_from(layers.load_field, model)
    field = slope_field(content)
    digest, verdict = "", LogNormVerdict(Decision.OTHER_MATRICES, "", 0.0)
    if isinstance(field, SlopeField):
        digest = matrices_digest(field.inputs, field.outputs, field.linear)
        verdict = check_flow_certificate(claim, field.inputs, field.outputs, field.linear)
    slopes = (field.lower, field.upper)
    if as_json:
        print_json(_check_json(claim, digest, slopes, verdict))
    elif verdict.proved:
        _show_verdict(content.name, claim, slopes, verdict)
    if not verdict.proved:
        other = verdict.decision is Decision.OTHER_MATRICES and digest
        digests = f"\n  {path}: {claim.digest}\n  {model}: {digest}" if other else ""
        fail(ExitCode.REFUSED, f"Refused: {verdict.decision.value}{digests}")


def _show_verdict(name: str, claim: FlowCertificate, slopes: tuple[float, float], verdict: LogNormVerdict) -> None:
    console = result_console()
    console.print(Text.assemble((name, "bold"), f": |u(T) - v(T)| <= G |u(0) - v(0)| for all solutions, T = "
                                                f"{claim.duration!r}, Euclidean norms"), soft_wrap=True)
    arithmetic = arithmetic_text(verdict.arithmetic)
    show_bound(console, "certified", rounded_up(claim.gain), f">= G; proved in {arithmetic}", "bold green")
    inside = claim.lower <= slopes[0] and slopes[1] <= claim.upper
    stays = f"[{claim.lower:g}, {claim.upper:g}]"
    what = "so it holds for f" if inside else "so it holds for f only as far as they stay there"
    show_line(console, "slopes", f"claimed for {stays}, the activation's are [{slopes[0]:g}, {slopes[1]:g}], {what}")
    show_line(console, "time", f"check {duration_text(verdict.seconds)}")


def _check_json(claim: FlowCertificate, digest: str, slopes: tuple[float, float],
                verdict: LogNormVerdict) -> dict[str, Any]:
    return {
        "schema": CHECK,
        "tool": tool(),
        "proved": verdict.proved,
        "outcome": verdict.decision.name.lower(),
        "explanation": verdict.decision.value,
        "question": "flow map",
        "norm": "l2",
        "value": claim.gain,
        "time": claim.duration,
        "slopes": [claim.lower, claim.upper],
        "activation_slopes": list(slopes),
        "digest": digest or None,
        "certificate_digest": claim.digest,
        "arithmetic": verdict.arithmetic,
        "seconds": round(verdict.seconds, 6),
    }
