"""`netgain contract`: weights of a neural ODE changed as little as needed to keep a level, with proof."""

import dataclasses
import enum
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from netgain import layers
from netgain.layers import ModelError
from netgain.layers.formats import Source, copy_npz, holds_field
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.result import Limits
from rich.console import Console
from rich.text import Text

from .cli_options import Json, Model, Quiet, TimeLimit, print_json, read_from, require_limits, require_writable, save
from .contractivity.certificate import check_contractivity
from .contractivity.contract import (
    CUTTING_PLANES,
    DEFAULT_TIME_LIMIT,
    METHODS,
    ONE_INEQUALITY,
    SHIFT,
    ContractedWeights,
    ContractReport,
    UnreachableError,
)
from .contractivity.contract import contract as change_weights
from .contractivity.slope_fields import slope_field
from .interruption import Interruption
from .outcomes import ExitCode, error_console, fail, failures_explained
from .result_json import number_or_null, tool
from .rounding import rounded_up
from .terminal import Display, duration_text, result_console, show_line, show_table

CONTRACT_RESULT = "netgain-contract-result/1"


class MethodName(enum.Enum):
    """What `--method` accepts."""

    ALL = "all"
    CUTTING_PLANES = "cutting-planes"
    ONE_INEQUALITY = "one-inequality"
    SHIFT = "shift"

    @property
    def methods(self) -> tuple[str, ...]:
        named = {MethodName.CUTTING_PLANES: CUTTING_PLANES, MethodName.ONE_INEQUALITY: ONE_INEQUALITY,
                 MethodName.SHIFT: SHIFT}
        return METHODS if self is MethodName.ALL else (named[self],)


def contract(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="The archive to write, .npz.", show_default=False)],
    level: Annotated[float, typer.Option("--level", help="The logarithmic norm to be kept.")] = 0.0,
    method: Annotated[
        MethodName, typer.Option("--method", help="How to change them; of all, the nearest weights are written.")
    ] = MethodName.ALL,
    as_json: Json = False,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Where to write the certificate of the new weights.",
                                  show_default="OUTPUT.contractivity.json here"),
    ] = None,
    time_limit: TimeLimit = DEFAULT_TIME_LIMIT,
    quiet: Quiet = False,
) -> None:
    """Changes the weights A of u' = B u + s(A u + b) as little as needed for mu <= level at all slopes, with proof."""
    with failures_explained():
        if not math.isfinite(level):
            raise typer.BadParameter(f"{level} is not a finite number.", param_hint="--level")
        if output.suffix.lower() != ".npz":
            raise typer.BadParameter(f"{output} does not end in .npz.", param_hint="--output")
        require_limits(0.5, time_limit)
        target = certificate or Path(f"{output.stem}.contractivity.json")
        require_writable(output, model, named=True)
        require_writable(target, model, named=certificate is not None)
        display = Display(error_console(), quiet)
        with Interruption() as interruption, display.running():
            content, source = read_from(layers.load_field, model)
            if not holds_field(model):
                raise ModelError(f"{model} is no archive of a field with weights A, which is what can be written back; "
                                 "`netgain contractivity` bounds other fields, `netgain verify` bounds networks.")
            try:
                report = change_weights(content, level, methods=method.methods, limits=Limits(time_limit=time_limit),
                                        on_stage=display.say)
            except UnreachableError as error:
                fail(ExitCode.NOT_PROVED, error)
        chosen = report.nearest
        if chosen is not None and chosen.weights is not None:
            copy_npz(model, output, {"A": chosen.weights})
            _require_proved_as_written(output, chosen)
        written, trouble = save(chosen.certificate if chosen else None, target)
        if as_json:
            print_json(contract_json(report, source, str(output) if chosen else "", written))
        else:
            show_contract(result_console(), report, str(output) if chosen else "", written)
        if trouble:
            fail(ExitCode.USAGE, trouble)
        if interruption:
            raise typer.Exit(ExitCode.INTERRUPTED)
        raise typer.Exit(ExitCode.PROVED if chosen is not None else ExitCode.NOT_PROVED)


def _require_proved_as_written(output: Path, chosen: ContractedWeights) -> None:
    """The certificate is about the file: what was written is read again, and proved again."""
    field = slope_field(layers.load_field(output))
    assert isinstance(field, SlopeField)
    assert chosen.certificate is not None
    verdict = check_contractivity(chosen.certificate, field.inputs, field.outputs, field.linear)
    if not verdict.proved:
        output.unlink()
        fail(ExitCode.NUMERICAL, f"{output} was removed: as written it is not proved. {verdict.decision.value}")


def show_contract(console: Console, report: ContractReport, output: str, certificate: str) -> None:
    """The methods with their distances, the nearest being written. The last two: paths, or empty."""
    field = report.field
    console.print(Text.assemble((report.name, "bold"), f": u' = f(u) in R^{field.size}, slopes in "
                                                       f"[{field.lower:g}, {field.upper:g}]"), soft_wrap=True)
    console.print(Text(f"A' with mu <= {report.level!r} for all slopes, in place of A; |A' - A| in the Frobenius norm"))
    show_line(console, "before", f"mu <= {rounded_up(report.before)}, in floating point; |A| = {report.size:.7g}")
    console.print()
    show_table(console, ("method", "|A' - A|", "of |A|", "proved", "time", "note"), [
        (result.method, "-" if result.weights is None else f"{result.distance:.7g}",
         "" if result.weights is None or not report.size else f"{100 * result.distance / report.size:.3g} %",
         "yes" if result.proved else "no", duration_text(result.seconds), result.note)
        for result in report.results])
    console.print()
    if report.nearest is None:
        show_line(console, "written", "nothing: no weights were proved to keep the level", "bold red")
        return
    show_line(console, "written", f"{output}, by the method {report.nearest.method}", "bold green")
    if certificate:
        show_line(console, "certificate", certificate)


def contract_json(report: ContractReport, source: Source, output: str, certificate: str) -> dict[str, Any]:
    """What `contract` found; the last two are the paths written, or empty."""
    nearest = report.nearest
    return {
        "schema": CONTRACT_RESULT,
        "tool": tool(),
        "model": {**dataclasses.asdict(source), "size": report.field.size},
        "question": "contractive weights",
        "norm": "l2",
        "slopes": [report.field.lower, report.field.upper],
        "level": report.level,
        "before": number_or_null(report.before),
        "size": report.size,
        "methods": [{"method": result.method, "distance": number_or_null(result.distance), "proved": result.proved,
                     "seconds": round(result.seconds, 6), "note": result.note or None} for result in report.results],
        "proved": nearest is not None,
        "written": nearest.method if nearest else None,
        "output": output or None,
        "certificate": certificate or None,
        "seconds": round(report.seconds, 6),
    }
