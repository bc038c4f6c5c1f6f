"""`netgain implicit`, and what `netgain check` does with its certificates."""

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
from .implicit.certificate import SCHEMA, Refusal, check_implicit, load_implicit_certificate
from .implicit.json_form import implicit_check_json, implicit_json
from .implicit.layer_report import WellPosedness
from .implicit.report import DEFAULT_TIME_LIMIT, EUCLIDEAN, LARGEST
from .implicit.report import implicit as report_on
from .implicit.terminal import show_implicit, show_implicit_verdict
from .interruption import Interruption
from .outcomes import ExitCode, error_console, fail, failures_explained
from .terminal import Display, result_console

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
        target = certificate or Path(f"{model.stem}.implicit.json")
        begin = time.perf_counter()
        require_writable(target, model, named=certificate is not None)
        display = Display(error_console(), quiet)
        with Interruption() as interruption:
            with display.running():
                graph, source = read_from(layers.load, model)
                left = max(time_limit - (time.perf_counter() - begin), 1e-3)
                report = report_on(graph, Limits(tolerance=tolerance, time_limit=left), seed=seed, on_stage=display.say)
            interruption.shielded = True
            written, trouble = save(report.certificate, target)
            if as_json:
                print_json(implicit_json(report, graph, source, written))
            else:
                show_implicit(result_console(), report, graph, written)
        if trouble:
            fail(ExitCode.USAGE, trouble)
        if interruption:
            raise typer.Exit(ExitCode.INTERRUPTED)
        kept = report.verdict is WellPosedness.PROVED
        for norms, claim in ((EUCLIDEAN, below), (LARGEST, below_linf)):
            best = report.best(norms)
            kept = kept and (claim is None or (best is not None and best.value <= claim))
        raise typer.Exit(ExitCode.PROVED if kept else ExitCode.NOT_PROVED)


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
