"""`netgain robustness`, and what `netgain check` does with its certificates."""

import math
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
from .interruption import Interruption
from .mode import Mode
from .outcomes import ExitCode, error_console, fail, failures_explained
from .robustness.attack import Attack
from .robustness.certificate import SCHEMA, load_robustness
from .robustness.check import Finding, check_robustness
from .robustness.region import Region, RegionShape
from .robustness.report import DEFAULT_RADII, DEFAULT_TOLERANCE
from .robustness.report import robustness as certify
from .robustness.samples import SamplesError, read_samples
from .robustness.terminal import (
    robustness_check_json,
    robustness_json,
    show_robustness,
    show_robustness_verdict,
)
from .terminal import Display, result_console

ROBUSTNESS = (SCHEMA,)
"""Schemas of the certificates that `check_robustness_file` knows."""

DEFAULT_LIMIT = 100
_RADII = ",".join(f"{radius:g}" for radius in DEFAULT_RADII)


def robustness(
    model: Model,
    data: Annotated[Path, typer.Option("--data", help="Labelled inputs: .npz (x, y), .csv (label last) or .npy.")],
    labels: Annotated[Path | None, typer.Option(help="The labels of a .npy file, another one.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Only the first so many samples.")] = DEFAULT_LIMIT,
    scale: Annotated[float, typer.Option(help="What inputs are divided by, such as 255 for bytes.")] = 1.0,
    radii: Annotated[str, typer.Option(help="Of the curve, with commas between; in units of the input.")] = _RADII,
    mode: Annotated[Mode | None, typer.Option(help="How multipliers are shared.", show_default="auto")] = None,
    local: Annotated[
        int, typer.Option(min=0, help="Of how many samples slopes on their own balls are tried: larger radii, slower.")
    ] = 0,
    radius: Annotated[
        float | None, typer.Option(help="With --local: also bounds L on a region of this radius around each of them.",
                                   show_default="no region"),
    ] = None,
    region: Annotated[RegionShape, typer.Option(help="What --radius is of: l2 or l_inf.")] = RegionShape.BALL,
    attack_steps: Annotated[int, typer.Option(min=1, help="Projected gradient steps of an attack.")] = 40,
    attack_restarts: Annotated[int, typer.Option(min=1, help="Attacks on a sample at each radius.")] = 4,
    as_json: Json = False,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Where to write the certificate.",
                                  show_default="NAME.robustness.json here"),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Relative distance of constants from their optimum.")]
    = DEFAULT_TOLERANCE,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the attack.")] = 0,
    time_limit: TimeLimit = 600.0,
    quiet: Quiet = False,
) -> None:
    """Proves within which Euclidean radius a classifier keeps its class, and attacks it from the other side."""
    with failures_explained():
        levels = _levels(radii)
        require_limits(tolerance, time_limit)
        if not 0 < scale < math.inf:
            raise typer.BadParameter(f"{scale} is not a positive number.", param_hint="--scale")
        if radius is not None and not (0 < radius < math.inf and local):
            why = "it needs --local, the number of samples" if not local else f"{radius} is not a positive number"
            raise typer.BadParameter(f"{why}.", param_hint="--radius")
        around = None if radius is None else Region(region, radius)
        target = certificate or Path(f"{model.stem}.robustness.json")
        require_writable(target, model, named=certificate is not None)
        display = Display(error_console(), quiet)
        with Interruption() as interruption:
            with display.running():
                graph, source = read_from(layers.load, model)
                try:
                    samples = read_samples(data, graph.shape(graph.input), math.prod(graph.shape(graph.output)),
                                           labels=labels, limit=limit, scale=scale)
                except SamplesError as error:
                    fail(ExitCode.USAGE, error)
                report = certify(graph, samples, levels, mode=mode, local=local, region=around, seed=seed,
                                 on_stage=display.say, limits=Limits(tolerance=tolerance, time_limit=time_limit),
                                 attack=Attack(steps=attack_steps, restarts=attack_restarts, seed=seed))
            interruption.shielded = True
            written, trouble = save(report.certificate, target)
            if as_json:
                print_json(robustness_json(report, graph, source, seed, written))
            else:
                show_robustness(result_console(), report, graph.shape(graph.input), written)
        if trouble:
            fail(ExitCode.USAGE, trouble)
        if interruption or report.interrupted:
            raise typer.Exit(ExitCode.INTERRUPTED)
        raise typer.Exit(ExitCode.PROVED if report.proved else ExitCode.NOT_PROVED)


def _levels(text: str) -> list[float]:
    """**Raises:** `typer.BadParameter`."""
    try:
        levels = sorted({float(part) for part in text.split(",")})
    except ValueError:
        levels = []
    if not levels or not all(0 <= level < math.inf for level in levels):
        raise typer.BadParameter(f"{text!r} are not numbers of at least 0 with commas between, such as {_RADII}.",
                                 param_hint="--radii")
    return levels


def check_robustness_file(path: Path, model: Path, as_json: bool) -> None:
    """Proves a certificate of robustness anew, or ends with the exit code that says why it does not hold up."""
    claim = read_claim(load_robustness, path, as_json)
    graph, _ = read_from(layers.load, model)
    verdict = check_robustness(claim, graph)
    if as_json:
        print_json(robustness_check_json(claim, graph, verdict))
    elif verdict.proved:
        show_robustness_verdict(result_console(), claim, graph, verdict)
    if not verdict.proved:
        detail = f" ({verdict.detail})" if verdict.detail else ""
        if verdict.finding is Finding.OTHER_MODEL:
            detail = f"\n  {path}: {claim.digest}\n  {model}: {graph.digest}"
        fail(ExitCode.REFUSED, f"Refused: {verdict.finding.value}{detail}")
