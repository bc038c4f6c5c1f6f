"""`netgain implicit`, and what `netgain check` does with its certificates."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Annotated

import typer
from netgain import layers
from netgain.solvers.result import Limits

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
from .implicit.at_inputs import InputReport, at_inputs
from .implicit.certificate import SCHEMA, Refusal, check_implicit, load_implicit_certificate
from .implicit.json_form import implicit_check_json, implicit_json
from .implicit.layer_report import WellPosedness
from .implicit.report import DEFAULT_TIME_LIMIT, EUCLIDEAN, LARGEST, ImplicitReport
from .implicit.report import implicit as report_on
from .implicit.samples import SampleError, Samples, load_samples
from .implicit.terminal import show_implicit, show_implicit_verdict, show_inputs
from .interruption import Interruption
from .outcomes import ExitCode, error_console, fail, failures_explained
from .terminal import Display, result_console

# Of the time, for the network itself, where there are inputs to look at besides.
_SHARE = 0.7

IMPLICIT = (SCHEMA,)
"""Schemas of the certificates that `check_network` knows."""


def implicit(
    model: Model,
    as_json: Json = False,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", help="Where to write the certificate.", show_default="NAME.implicit.json here"),
    ] = None,
    below: Annotated[
        float | None,
        typer.Option("--below", help="Claim that the l2 gain is at most this; exit code 1 unless proved."),
    ] = None,
    below_linf: Annotated[
        float | None,
        typer.Option("--below-linf", help="Claim that the l_inf gain is at most this; exit code 1 unless proved."),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option("--input", help="Inputs to look at: an array (.npy), or x and, if wanted, labels y (.npz)."),
    ] = None,
    radius: Annotated[
        float | None,
        typer.Option("--radius", help="Boxes of the outputs for inputs within this of those of --input, in l_inf."),
    ] = None,
    floor: Annotated[float, typer.Option(help="No entry of an input is below, as 0 for pixels.")] = -math.inf,
    ceiling: Annotated[float, typer.Option(help="No entry of an input is above.")] = math.inf,
    tolerance: Annotated[float, typer.Option(help="Relative distance of the l2 bound from the optimum.")] = 1e-6,
    time_limit: TimeLimit = DEFAULT_TIME_LIMIT,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the inputs and of the searches.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Proves implicit layers x = s(A x + B u + b) well-posed, with rates of iterations, and bounds their gains."""
    with failures_explained():
        require_limits(tolerance, time_limit)
        for name, value in (("--below", below), ("--below-linf", below_linf)):
            if value is not None and not 0 <= value < math.inf:
                raise typer.BadParameter(f"{value} is no bound on a gain.", param_hint=name)
        _require_region(inputs, radius, floor, ceiling)
        target = certificate or Path(f"{model.stem}.implicit.json")
        begin = time.perf_counter()
        require_writable(target, model, named=certificate is not None)
        display = Display(error_console(), quiet)
        with Interruption() as interruption:
            with display.running():
                graph, source = read_from(layers.load, model)
                samples = None if inputs is None else _read_samples(inputs, graph)
                left = max(time_limit - (time.perf_counter() - begin), 1e-3)
                limits = Limits(tolerance=tolerance, time_limit=left if samples is None else _SHARE * left)
                report, looked = report_on(graph, limits, seed=seed, on_stage=display.say), None
                if samples is not None and report.certificate is not None and not interruption:
                    left = time_limit - (time.perf_counter() - begin)
                    looked, report = _looked_at(graph, report, samples, (radius, floor, ceiling), left, display)
            interruption.shielded = True
            written, trouble = save(report.certificate, target)
            if as_json:
                print_json(implicit_json(report, graph, source, written, looked))
            else:
                show_implicit(result_console(), report, graph, written)
                if looked is not None:
                    show_inputs(result_console(), looked)
        if trouble:
            fail(ExitCode.USAGE, trouble)
        if interruption:
            raise typer.Exit(ExitCode.INTERRUPTED)
        kept = report.verdict is WellPosedness.PROVED
        for norms, claim in ((EUCLIDEAN, below), (LARGEST, below_linf)):
            best = report.best(norms)
            kept = kept and (claim is None or (best is not None and best.value <= claim))
        raise typer.Exit(ExitCode.PROVED if kept else ExitCode.NOT_PROVED)


def _require_region(inputs: Path | None, radius: float | None, floor: float, ceiling: float) -> None:
    if radius is not None and not 0 <= radius < math.inf:
        raise typer.BadParameter(f"{radius} is no radius of a box.", param_hint="--radius")
    if not floor < ceiling:
        raise typer.BadParameter(f"No number lies between {floor} and {ceiling}.", param_hint="--ceiling")
    if inputs is None and (radius is not None or floor > -math.inf or ceiling < math.inf):
        raise typer.BadParameter("It says what to do with inputs; give some with --input.",
                                 param_hint="--radius, --floor or --ceiling")


def _read_samples(path: Path, graph: layers.Graph) -> Samples:
    try:
        return load_samples(path, graph.shape(graph.input), math.prod(graph.shape(graph.output)))
    except SampleError as error:
        raise typer.BadParameter(str(error), param_hint="--input") from None
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror or error}.", param_hint="--input") from None


def _looked_at(graph: layers.Graph, report: ImplicitReport, samples: Samples, region: tuple[float | None, float, float],
               time_limit: float, display: Display) -> tuple[InputReport | None, ImplicitReport]:
    """What is proved at the inputs; where it is nothing, the report says why."""
    radius, floor, ceiling = region
    try:
        return at_inputs(graph, report, samples, radius=radius, floor=floor, ceiling=ceiling, time_limit=time_limit,
                         on_stage=display.say), report
    except KeyboardInterrupt:
        why = "Interrupted before an input was looked at."
    except layers.ConvergenceError as error:
        why = f"Nothing is said of the inputs: {error}"
    return None, dataclasses.replace(report, notes=(*report.notes, why))


def check_network(path: Path, model: Path, as_json: bool) -> None:
    """Proves a certificate of an implicit network anew, or ends with the exit code that says why it is refused."""
    claim = read_claim(load_implicit_certificate, path, as_json)
    graph, _ = read_from(layers.load, model)
    verdict = check_implicit(claim, graph)
    if as_json:
        print_json(implicit_check_json(claim, graph, verdict))
    elif verdict.proved:
        show_implicit_verdict(result_console(), graph, claim, verdict)
    if not verdict.proved:
        other = verdict.outcome is Refusal.OTHER_MODEL
        digests = f"\n  {path}: {claim.digest}\n  {model}: {graph.digest}" if other else ""
        fail(ExitCode.REFUSED, f"Refused: {verdict.outcome.value}{digests}")
