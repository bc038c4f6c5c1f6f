"""The command line. stdout carries the result, stderr the rest; the exit code says how it ended."""

import contextlib
import dataclasses
import enum
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from netgain import layers
from netgain.layers.formats import Source, describe_source
from netgain.solvers.availability import SolverUnavailable
from netgain.solvers.closed_form import ClosedForm
from netgain.solvers.conic import Backend, Conic, Form
from netgain.solvers.interior_point import InteriorPoint
from netgain.solvers.result import Limits, Status
from rich.console import Console

from .certificate import CertificateError, load_certificate
from .check import Outcome
from .check import check as check_certificate
from .doctor import diagnose
from .inspection import inspect as inspect_graph
from .inspection import summarise
from .lipschitz import LipschitzReport, Solver, TooLargeError
from .lipschitz import lipschitz as bound_lipschitz
from .result_json import result_json
from .rounding import rounded_up
from .terminal import Display, layer_table, show_diagnosis, show_inspection, show_report


class ExitCode(enum.IntEnum):
    """How a command ended."""

    PROVED = 0
    NOT_PROVED = 1
    USAGE = 2
    MODEL = 3
    NUMERICAL = 4
    REFUSED = 5
    INTERRUPTED = 130


class SolverName(enum.Enum):
    """What `--solver` accepts."""

    AUTO = "auto"
    INTERIOR_POINT = "interior-point"
    CLOSED_FORM = "closed-form"
    CLARABEL = "clarabel"
    SCS = "scs"
    MOSEK = "mosek"

    def solver(self, form: Form) -> Solver | None:
        if self is SolverName.AUTO:
            return None
        if self is SolverName.INTERIOR_POINT:
            return InteriorPoint()
        if self is SolverName.CLOSED_FORM:
            return ClosedForm()
        return Conic(Backend(self.value), form)


class FormName(enum.Enum):
    """What `--form` accepts."""

    CHAIN = "chain"
    ONE_BLOCK = "one-block"


app = typer.Typer(
    help="Proved bounds on trained neural networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 proved; 1 not proved or disproved; 2 usage; 3 the model cannot be read; 4 numerical failure; "
    "5 certificate refused; 130 interrupted.",
)

_Model = Annotated[Path, typer.Argument(help="Network file: .onnx, .npz, .mat or .nnet.", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout instead of tables.")]
_Target = Annotated[
    Path | None,
    typer.Option("--certificate", help="Where to write the certificate.", show_default="NAME.certificate.json here"),
]
_Tolerance = Annotated[float, typer.Option(help="Relative distance of the bound from the optimum.")]
_TimeLimit = Annotated[float, typer.Option(help="Seconds for everything, from reading to proving.")]
_SolverOption = Annotated[SolverName, typer.Option("--solver", help="Who finds the multipliers; all are checked alike.")]
_FormOption = Annotated[FormName, typer.Option("--form", help="How the problem is posed to a conic solver.")]
_Seed = Annotated[int, typer.Option(help="Seed of the search for lower bounds.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
_Below = Annotated[
    float | None,
    typer.Option("--below", help="Claim that the constant is at most this; exit code 1 unless proved."),
]


def _error_console() -> Console:
    return Console(stderr=True)


@contextlib.contextmanager
def _outcomes() -> Iterator[None]:
    """Every way a command can fail, as a message on stderr and an exit code."""
    try:
        yield
    except layers.ModelError as error:
        _fail(ExitCode.MODEL, error)
    except CertificateError as error:
        _fail(ExitCode.REFUSED, error)
    except SolverUnavailable as error:
        _fail(ExitCode.USAGE, error)
    except TooLargeError as error:
        _fail(ExitCode.NUMERICAL, error)
    except MemoryError as error:
        _fail(ExitCode.NUMERICAL, f"Out of memory ({error}). `netgain inspect` predicts what a model needs; "
                                  "`--solver closed-form` needs least.")
    except (ArithmeticError, OverflowError) as error:
        _fail(ExitCode.NUMERICAL, error)
    except KeyboardInterrupt:
        _fail(ExitCode.INTERRUPTED, "Interrupted before there was a result.")


def _fail(code: ExitCode, message: object) -> None:
    _error_console().print(str(message), style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def _run(
    model: Path,
    *,
    as_json: bool,
    certificate: Path | None,
    tolerance: float,
    time_limit: float,
    solver: SolverName,
    form: FormName,
    seed: int,
    quiet: bool,
    below: float | None,
    with_graph: bool,
) -> None:
    begin = time.perf_counter()
    try:
        limits = Limits(tolerance=tolerance, time_limit=time_limit)
    except ValueError as error:
        _fail(ExitCode.USAGE, error)
    console = Console()
    display = Display(_error_console(), quiet or as_json)
    with _outcomes():
        with display.running():
            source = describe_source(model)
            graph = layers.load(model)
            imported = time.perf_counter() - begin
            if not math.isinf(time_limit):
                limits = Limits(tolerance=tolerance, time_limit=max(time_limit - imported, 1e-3))
            report = bound_lipschitz(
                graph,
                solver.solver(Form[form.name]),
                limits,
                seed=seed,
                on_progress=display.on_progress,
                on_stage=display.on_stage,
            )
        seconds = {"import": imported, **report.seconds, "total": time.perf_counter() - begin}
        report = dataclasses.replace(report, seconds=seconds)
        target = _save(report, certificate or Path(f"{model.stem}.certificate.json"))
        if as_json:
            print(json.dumps(result_json(report, graph, source, seed, target), allow_nan=False))
        else:
            if with_graph:
                console.print(layer_table(summarise(graph)))
                console.print()
            show_report(console, report, target)
    code = _verdict(console, report, below, as_json)
    raise typer.Exit(code)


def _save(report: LipschitzReport, target: Path) -> str:
    if report.certificate is None:
        return ""
    try:
        report.certificate.save(target)
    except OSError as error:
        _fail(ExitCode.USAGE, f"The certificate could not be written to {target}: {error}")
    return str(target)


def _verdict(console: Console, report: LipschitzReport, below: float | None, as_json: bool) -> ExitCode:
    if report.solution.status is Status.INTERRUPTED:
        return ExitCode.INTERRUPTED
    if not report.proved:
        return ExitCode.NUMERICAL if report.solution.status is Status.FAILED else ExitCode.NOT_PROVED
    if below is None or report.upper <= below:
        return ExitCode.PROVED
    if not as_json:
        disproved = report.lower > below
        console.print(f"claim         the constant is at most {below}: "
                      + ("disproved by the witness" if disproved else "not proved; it may still be true"))
    return ExitCode.NOT_PROVED


@app.command()
def verify(
    model: _Model,
    as_json: _Json = False,
    certificate: _Target = None,
    tolerance: _Tolerance = 1e-6,
    time_limit: _TimeLimit = math.inf,
    solver: _SolverOption = SolverName.AUTO,
    form: _FormOption = FormName.CHAIN,
    seed: _Seed = 0,
    quiet: _Quiet = False,
    below: _Below = None,
) -> None:
    """Shows the layer graph, proves an upper bound on the l2 Lipschitz constant, and finds witnesses from below."""
    _run(model, as_json=as_json, certificate=certificate, tolerance=tolerance, time_limit=time_limit, solver=solver,
         form=form, seed=seed, quiet=quiet, below=below, with_graph=True)


@app.command()
def lipschitz(
    model: _Model,
    as_json: _Json = False,
    certificate: _Target = None,
    tolerance: _Tolerance = 1e-6,
    time_limit: _TimeLimit = math.inf,
    solver: _SolverOption = SolverName.AUTO,
    form: _FormOption = FormName.CHAIN,
    seed: _Seed = 0,
    quiet: _Quiet = False,
    below: _Below = None,
) -> None:
    """The Lipschitz bounds of `verify`, without the layer graph."""
    _run(model, as_json=as_json, certificate=certificate, tolerance=tolerance, time_limit=time_limit, solver=solver,
         form=form, seed=seed, quiet=quiet, below=below, with_graph=False)


@app.command()
def check(
    certificate: Annotated[Path, typer.Argument(help="The certificate.", show_default=False)],
    model: _Model,
    as_json: _Json = False,
) -> None:
    """Proves a certificate's claim anew from the weights, without a solver."""
    with _outcomes():
        claim = load_certificate(certificate)
        graph = layers.load(model)
        verdict = check_certificate(claim, graph)
        if as_json:
            print(json.dumps({"schema": "netgain-check/1", "proved": verdict.proved, "outcome": verdict.outcome.name.lower(),
                              "explanation": verdict.outcome.value, "value": claim.value, "digest": graph.digest,
                              "arithmetic": verdict.arithmetic, "seconds": round(verdict.seconds, 6)}))
        elif verdict.proved:
            Console().print(f"proved: |f(x) - f(x')| <= {rounded_up(claim.value)} |x - x'| for all x, x' "
                            f"({verdict.arithmetic} arithmetic, {verdict.seconds:.3f} s)", soft_wrap=True)
    if not verdict.proved:
        detail = "" if verdict.outcome is not Outcome.OTHER_MODEL else (
            f"\n  certificate: {claim.digest}\n  {model}: {graph.digest}")
        _fail(ExitCode.REFUSED, f"refused: {verdict.outcome.value}{detail}")


@app.command()
def inspect(model: _Model, as_json: _Json = False) -> None:
    """Shows the graph, the dynamical system, the inequality's size, and what a solve would take."""
    with _outcomes():
        source: Source = describe_source(model)
        inspection = inspect_graph(layers.load(model))
        if as_json:
            print(json.dumps({"schema": "netgain-inspection/1", "model": dataclasses.asdict(source),
                              **dataclasses.asdict(inspection)}))
        else:
            show_inspection(Console(), inspection)


@app.command()
def doctor(as_json: _Json = False) -> None:
    """Lists solvers, versions and licences."""
    diagnosis = diagnose()
    if as_json:
        backends = {b.name.lower(): {"installed": b.installed, "version": b.version, "licence": b.licence.value,
                                     "usable": b.usable, "looked_in": list(b.where_looked), "remedy": b.remedy}
                    for b in diagnosis.backends}
        print(json.dumps({"schema": "netgain-doctor/1", "libraries": diagnosis.libraries, "solvers": backends}))
    else:
        show_diagnosis(Console(), diagnosis)


def main() -> None:
    """The `netgain` command."""
    sys.exit(app())
