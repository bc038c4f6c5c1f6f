"""`netgain stability`, and what `netgain check` does with its certificates."""

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
from .contractivity.check import Decision
from .interruption import Interruption
from .outcomes import ExitCode, error_console, fail, failures_explained
from .stability.certificate import SCHEMA, check_stability, load_stability_certificate
from .stability.json_form import stability_check_json, stability_json
from .stability.report import DEFAULT_RADIUS, DEFAULT_TIME_LIMIT
from .stability.report import stability as prove_stability
from .stability.terminal import show_stability, show_stability_verdict
from .terminal import Display, result_console

STABILITY = (SCHEMA,)
"""Schemas of the certificates that `check_blocks` knows."""


def stability(
    model: Model,
    as_json: Json = False,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", help="Where to write the certificate.", show_default="NAME.stability.json here"),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", help="Claim that every block contracts at this rate; exit code 1 unless proved."),
    ] = None,
    input_radius: Annotated[
        float, typer.Option("--input-radius", help="Rates of tanh on bounded sets: for inputs |u| up to this.")
    ] = DEFAULT_RADIUS,
    tolerance: Annotated[float, typer.Option(help="Of the unrolled gains, relative to the optimum.")] = 1e-6,
    time_limit: TimeLimit = DEFAULT_TIME_LIMIT,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the searches for lower bounds.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Proves contraction, equilibria and gains of NAIS-Net blocks x+ = x + h s(A x + B u + C), or shows growth."""
    with failures_explained():
        require_limits(tolerance, time_limit)
        for name, value, allowed in (("--rate", rate, "a rate, at least 0"),
                                     ("--input-radius", input_radius, "a radius, at least 0")):
            if value is not None and not 0 <= value < math.inf:
                raise typer.BadParameter(f"{value} is not {allowed}.", param_hint=name)
        target = certificate or Path(f"{model.stem}.stability.json")
        begin = time.perf_counter()
        require_writable(target, model, named=certificate is not None)
        display = Display(error_console(), quiet)
        with Interruption() as interruption:
            with display.running():
                network, source = read_from(layers.load_stable, model)
                left = max(time_limit - (time.perf_counter() - begin), 1e-3)
                report = prove_stability(network, limits=Limits(tolerance=tolerance, time_limit=left),
                                         radius=input_radius, seed=seed, on_stage=display.say)
            interruption.shielded = True
            written, trouble = save(report.certificate, target)
            if as_json:
                print_json(stability_json(report, source, written))
            else:
                show_stability(result_console(), report, written)
        if trouble:
            fail(ExitCode.USAGE, trouble)
        if interruption:
            raise typer.Exit(ExitCode.INTERRUPTED)
        rates = [block.rate.value if block.rate else math.inf for block in report.blocks]
        kept = report.stable if rate is None else max(rates) <= rate
        raise typer.Exit(ExitCode.PROVED if kept else ExitCode.NOT_PROVED)


def check_blocks(path: Path, model: Path, as_json: bool) -> None:
    """Proves a certificate of stability anew, or ends with the exit code that says why it does not hold up."""
    claim = read_claim(load_stability_certificate, path, as_json)
    network, _ = read_from(layers.load_stable, model)
    verdict = check_stability(claim, network)
    digest = network.graph().digest
    if as_json:
        print_json(stability_check_json(claim, digest, verdict, alone=len(network.parts) == 1))
    elif verdict.proved:
        show_stability_verdict(result_console(), network.name, claim, verdict)
    if not verdict.proved:
        other = verdict.decision is Decision.OTHER_MATRICES
        why = f"\n  {path}: {claim.digest}\n  {model}: {digest}" if other else "".join(
            f"\n  {'network' if not index else f'block {index}'}: {kind}" for index, kind in verdict.failed)
        fail(ExitCode.REFUSED, f"Refused: {verdict.decision.value}{why}")
