"""The command line. stdout carries the result, stderr the rest; the exit code says how it ended."""

import dataclasses
import enum
import importlib.metadata
import math
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from netgain import layers
from netgain.layers.formats import Source
from netgain.solvers.availability import Backend, probe
from netgain.solvers.closed_form import ClosedForm
from netgain.solvers.dual_scaling import DualScaling
from netgain.solvers.interior_point import InteriorPoint
from netgain.solvers.result import Limits, Status
from threadpoolctl import threadpool_limits

from .certificate import load_certificate
from .check import Outcome
from .check import check as check_certificate
from .claim import Standing, judge
from .cli_batch import batch
from .cli_compare import compare
from .cli_contract import contract
from .cli_contractivity import CONTRACTIVITY, check_field, contractivity
from .cli_flow import FLOW, check_flow_file, flow
from .cli_implicit import IMPLICIT, check_network, implicit
from .cli_options import Json as _Json
from .cli_options import Model as _Model
from .cli_options import Quiet as _Quiet
from .cli_options import TimeLimit as _TimeLimit
from .cli_options import print_json, read_claim, read_from, require_limits, require_writable, save
from .cli_report import report
from .cli_robustness import ROBUSTNESS, check_robustness_file, robustness
from .cli_stability import STABILITY, check_blocks, stability
from .doctor import diagnose
from .inspection import inspect as inspect_graph
from .inspection import summarise
from .interruption import Interruption
from .lipschitz import Stage
from .lipschitz import lipschitz as bound_lipschitz
from .mode import Mode
from .neuron import Solver
from .outcomes import ExitCode, error_console, fail, failures_explained
from .result_json import check_json, diagnosis_json, inspection_json, result_json
from .sealed_json import schema_of
from .terminal import (
    Display,
    result_console,
    show_diagnosis,
    show_graph,
    show_inspection,
    show_report,
    show_verdict,
)


class SolverName(enum.Enum):
    """What `--solver` accepts."""

    AUTO = "auto"
    INTERIOR_POINT = "interior-point"
    DUAL_SCALING = "dual-scaling"
    CLOSED_FORM = "closed-form"
    CLARABEL = "clarabel"
    SCS = "scs"
    MOSEK = "mosek"

    @property
    def conic(self) -> bool:
        return self in (SolverName.CLARABEL, SolverName.SCS, SolverName.MOSEK)


class ModeName(enum.Enum):
    """What `--mode` accepts."""

    AUTO = "auto"
    NEURON = "neuron"
    SPECTRAL = "spectral"
    ROESSER = "roesser"

    @property
    def mode(self) -> Mode | None:
        return None if self is ModeName.AUTO else Mode[self.name]


class FormName(enum.Enum):
    """What `--form` accepts."""

    CHAIN = "chain"
    ONE_BLOCK = "one-block"


class _Commands(typer.core.TyperGroup):
    """Also the commands of other packages: entry points of the group `netgain.commands`, imported when they are used.

    So a package that builds on this one can add to the command line, and this one does not import it.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(_added())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in (added := _added()):
            return own
        other = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        other.command(cmd_name)(added[cmd_name].load())
        return typer.main.get_command(other)


def _added() -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group="netgain.commands")}


app = typer.Typer(
    cls=_Commands,
    help="Proved bounds on trained neural networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 proved; 1 not proved or disproved; 2 usage; 3 the model cannot be read; 4 numerical failure; "
    "5 certificate refused; 130 interrupted.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"netgain {importlib.metadata.version('netgain')}")
        raise typer.Exit


@app.callback()
def netgain(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Proved bounds on trained neural networks."""


_Target = Annotated[
    Path | None,
    typer.Option("--certificate", help="Where to write the certificate.", show_default="NAME.certificate.json here"),
]
_Tolerance = Annotated[float, typer.Option(help="Relative distance of the bound from the optimum.")]
_SolverOption = Annotated[
    SolverName, typer.Option("--solver", help="Who finds the multipliers; all are checked alike.")
]
_ModeOption = Annotated[
    ModeName, typer.Option("--mode", help="How multipliers are shared: by none, or by a channel's pixels.")
]
_FormOption = Annotated[
    FormName | None,
    typer.Option("--form", help="How the problem is posed to a conic solver.", show_default="chain"),
]
_Seed = Annotated[int, typer.Option(min=0, help="Seed of the search for lower bounds.")]
_Below = Annotated[
    float | None,
    typer.Option("--below", help="Claim that the constant is at most this; exit code 1 unless proved."),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Question:
    """What `verify` and `lipschitz` were asked, checked before any work."""

    model: Path
    as_json: bool
    certificate: Path | None
    tolerance: float
    time_limit: float
    mode: ModeName
    solver: SolverName
    form: FormName | None
    seed: int
    quiet: bool
    below: float | None

    def __post_init__(self) -> None:
        require_limits(self.tolerance, self.time_limit)
        if self.below is not None and not 0 <= self.below < math.inf:
            raise typer.BadParameter(f"{self.below} is no bound on a Lipschitz constant.", param_hint="--below")
        if self.form is not None and not self.solver.conic:
            raise typer.BadParameter("only clarabel, scs and mosek are given a form.", param_hint="--form")
        if self.mode is ModeName.SPECTRAL and self.solver is not SolverName.AUTO:
            raise typer.BadParameter("the mode spectral has a solver of its own.", param_hint="--solver")
        if self.mode is ModeName.ROESSER and not (self.solver.conic or self.solver is SolverName.AUTO):
            raise typer.BadParameter("the mode roesser has a solver of its own, or takes clarabel, scs or mosek.",
                                     param_hint="--solver")

    @property
    def target(self) -> Path:
        return self.certificate or Path(f"{self.model.stem}.certificate.json")

    def make_solver(self) -> Solver | None:
        """**Raises:** `SolverUnavailable`, before the model is read."""
        if self.solver is SolverName.AUTO:
            return None
        if self.solver is SolverName.INTERIOR_POINT:
            return InteriorPoint()
        if self.solver is SolverName.DUAL_SCALING:
            return DualScaling()
        if self.solver is SolverName.CLOSED_FORM:
            return ClosedForm()
        backend = Backend(self.solver.value)
        probe(backend).require()
        # cvxpy takes longer to import than everything else together.
        from netgain.solvers.conic import Conic, Form

        return Conic(backend, Form[(self.form or FormName.CHAIN).name])


def _answer(question: _Question, with_graph: bool) -> ExitCode:
    begin = time.perf_counter()
    solver = question.make_solver()
    require_writable(question.target, question.model, named=question.certificate is not None)
    display = Display(error_console(), question.quiet)
    with Interruption() as interruption:

        def on_stage(stage: Stage) -> None:
            interruption.shielded = stage is Stage.PROVE
            display.on_stage(stage)

        with display.running():
            graph, source = _read(question.model)
            imported = time.perf_counter() - begin
            remaining = max(question.time_limit - imported, 1e-3)
            limits = Limits(tolerance=question.tolerance, time_limit=remaining)
            report = bound_lipschitz(
                graph, solver, limits, mode=question.mode.mode, seed=question.seed,
                on_progress=display.on_progress, on_stage=on_stage,
            )
        interruption.shielded = True
        seconds = {"import": imported, **report.seconds, "total": time.perf_counter() - begin}
        report = dataclasses.replace(report, seconds=seconds)
        written, trouble = save(report.certificate, question.target)
        claim = None if question.below is None else judge(report, question.below)
        if question.as_json:
            print_json(result_json(report, graph, source, question.seed, written, claim))
        else:
            console = result_console()
            if with_graph:
                show_graph(console, summarise(graph))
            show_report(console, report, graph, written, claim)
    if trouble:
        fail(ExitCode.USAGE, trouble)
    if interruption or report.solution.status is Status.INTERRUPTED:
        return ExitCode.INTERRUPTED
    if not report.proved:
        return ExitCode.NUMERICAL if report.solution.status is Status.FAILED else ExitCode.NOT_PROVED
    return ExitCode.PROVED if claim is None or claim.standing is Standing.PROVED else ExitCode.NOT_PROVED


def _read(model: Path) -> tuple[layers.Graph, Source]:
    return read_from(layers.load, model)


@app.command()
def verify(
    model: _Model,
    as_json: _Json = False,
    certificate: _Target = None,
    tolerance: _Tolerance = 1e-6,
    time_limit: _TimeLimit = math.inf,
    mode: _ModeOption = ModeName.AUTO,
    solver: _SolverOption = SolverName.AUTO,
    form: _FormOption = None,
    seed: _Seed = 0,
    quiet: _Quiet = False,
    below: _Below = None,
) -> None:
    """Shows the layer graph, proves an upper bound on the l2 Lipschitz constant, and finds witnesses from below."""
    with failures_explained():
        question = _Question(model=model, as_json=as_json, certificate=certificate, tolerance=tolerance,
                             time_limit=time_limit, mode=mode, solver=solver, form=form, seed=seed, quiet=quiet,
                             below=below)
        raise typer.Exit(_answer(question, with_graph=True))


@app.command()
def lipschitz(
    model: _Model,
    as_json: _Json = False,
    certificate: _Target = None,
    tolerance: _Tolerance = 1e-6,
    time_limit: _TimeLimit = math.inf,
    mode: _ModeOption = ModeName.AUTO,
    solver: _SolverOption = SolverName.AUTO,
    form: _FormOption = None,
    seed: _Seed = 0,
    quiet: _Quiet = False,
    below: _Below = None,
) -> None:
    """The Lipschitz bounds of `verify`, without the layer graph."""
    with failures_explained():
        question = _Question(model=model, as_json=as_json, certificate=certificate, tolerance=tolerance,
                             time_limit=time_limit, mode=mode, solver=solver, form=form, seed=seed, quiet=quiet,
                             below=below)
        raise typer.Exit(_answer(question, with_graph=False))


@app.command()
def check(
    certificate: Annotated[Path, typer.Argument(help="The certificate.", show_default=False)],
    model: _Model,
    as_json: _Json = False,
) -> None:
    """Proves a certificate's claim anew from the weights, without a solver."""
    with failures_explained():
        schema = schema_of(certificate)
        if schema in CONTRACTIVITY:
            check_field(certificate, model, as_json)
            return
        if schema in FLOW:
            check_flow_file(certificate, model, as_json)
            return
        if schema in IMPLICIT:
            check_network(certificate, model, as_json)
            return
        if schema in STABILITY:
            check_blocks(certificate, model, as_json)
            return
        if schema in ROBUSTNESS:
            check_robustness_file(certificate, model, as_json)
            return
        claim = read_claim(load_certificate, certificate, as_json)
        graph, _ = _read(model)
        verdict = check_certificate(claim, graph)
        if as_json:
            print_json(check_json(claim, graph, verdict))
        elif verdict.proved:
            show_verdict(result_console(), claim, graph, verdict)
        if not verdict.proved:
            other = verdict.outcome is Outcome.OTHER_MODEL
            digests = f"\n  {certificate}: {claim.digest}\n  {model}: {graph.digest}" if other else ""
            fail(ExitCode.REFUSED, f"Refused: {verdict.outcome.value}{digests}")


app.command()(contractivity)
app.command()(compare)
app.command()(flow)
app.command()(contract)
app.command()(implicit)
app.command()(stability)
app.command()(report)
app.command()(robustness)
app.command()(batch)


@app.command()
def inspect(model: _Model, as_json: _Json = False) -> None:
    """Shows the graph, the dynamical system, the inequality's size, and what a solve would take."""
    with failures_explained():
        graph, source = _read(model)
        inspection = inspect_graph(graph)
        if as_json:
            print_json(inspection_json(inspection, source))
        else:
            show_inspection(result_console(), inspection)


@app.command()
def doctor(as_json: _Json = False) -> None:
    """Lists solvers, versions and licences."""
    with failures_explained():
        diagnosis = diagnose()
        if as_json:
            print_json(diagnosis_json(diagnosis))
        else:
            show_diagnosis(result_console(), diagnosis)


def main() -> None:
    """The `netgain` command."""
    # See `verify.lipschitz`: BLAS threads of two pools wait for each other.
    with threadpool_limits(limits=1, user_api="blas"):
        sys.exit(app())


if __name__ == "__main__":
    main()
