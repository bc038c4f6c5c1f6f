"""What a person sees: tables on stdout, progress on stderr."""

import contextlib
import math
from collections.abc import Iterator

from netgain.solvers.availability import Licence
from netgain.solvers.result import OnProgress, Progress
from rich.console import Console
from rich.table import Table

from .doctor import Diagnosis
from .inspection import Inspection, NodeSummary
from .lipschitz import LipschitzReport, Stage
from .rounding import rounded_down, rounded_up


def layer_table(nodes: tuple[NodeSummary, ...]) -> Table:
    table = Table(title="Layer graph", title_justify="left", box=None, pad_edge=False)
    for heading in ("node", "layer", "fed by", "shape", "slopes"):
        table.add_column(heading, overflow="fold")
    for node in nodes:
        shape = " x ".join(map(str, node.shape)) or "scalar"
        table.add_row(node.name, node.kind, ", ".join(node.inputs), shape, node.slopes)
    return table


def show_inspection(console: Console, inspection: Inspection) -> None:
    console.print(layer_table(inspection.nodes))
    steps = Table(title="\nDynamical system", title_justify="left", box=None, pad_edge=False)
    for heading in ("time step", "reads", "state before the step (cut)", "width"):
        steps.add_column(heading, overflow="fold")
    for step in inspection.dynamics.steps:
        steps.add_row(step.node, ", ".join(step.reads), ", ".join(step.state), str(step.width))
    console.print(steps)
    cost = inspection.cost
    console.print(
        f"\n{inspection.neurons} neurons, {cost.multipliers} multipliers, matrix inequality of order {cost.order}, "
        f"widest cut {inspection.dynamics.widest_cut}."
    )
    console.print(
        f"Interior-point solver: about {_memory(cost.memory)} of memory and {_duration(cost.seconds)} on two cores."
    )


def show_report(console: Console, report: LipschitzReport, certificate: str) -> None:
    table = Table(
        title=f"{report.name}: Lipschitz constant from l2 to l2, all inputs, real arithmetic",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("bound")
    table.add_column("value", justify="right")
    table.add_column("standing", overflow="fold")
    table.add_row("norm product", rounded_up(report.norm_product), "upper, floating point")
    if report.certificate is not None:
        how = f"upper, proved ({report.certificate.arithmetic} arithmetic)"
        table.add_row("[bold]certified[/bold]", f"[bold]{rounded_up(report.upper)}[/bold]", how)
    else:
        table.add_row("[bold red]certified[/bold red]", "none", "no multipliers were proved; the constant is unknown")
    if report.solution.dual_bound:
        table.add_row(
            "optimum >=",
            rounded_down(report.solution.dual_bound),
            "no multipliers prove less than this, floating point",
        )
    if report.slope_bound:
        table.add_row("slope system", rounded_down(report.slope_bound), "lower, for slopes alone, floating point")
    if report.witness is not None:
        table.add_row("witness", rounded_down(report.lower), "lower, proved: a pair of inputs")
    console.print(table)
    if not math.isnan(report.gap):
        console.print(f"gap           {100 * report.gap:.3g} % of the certified bound lies above the witness")
    solution, seconds = report.solution, report.seconds
    times = ", ".join(f"{stage} {_duration(value)}" for stage, value in seconds.items())
    version = f" {solution.version}" if solution.version else ""
    console.print(f"solver        {solution.solver}{version}, {solution.iterations} iterations: {solution.status.value}")
    console.print(f"time          {times}")
    for note in report.notes:
        console.print(f"note          {note}")
    if certificate:
        console.print(f"certificate   {certificate}", soft_wrap=True)


def show_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    table = Table(title="Libraries", title_justify="left", box=None, pad_edge=False)
    table.add_column("name")
    table.add_column("version")
    for name, version in diagnosis.libraries.items():
        table.add_row(name, version or "not installed")
    console.print(table)
    table = Table(title="\nSolvers", title_justify="left", box=None, pad_edge=False)
    for heading in ("name", "version", "licence", "what to do"):
        table.add_column(heading, overflow="fold")
    table.add_row("interior_point", "part of netgain", Licence.NOT_NEEDED.value, "nothing: ready")
    table.add_row("closed_form", "part of netgain", Licence.NOT_NEEDED.value, "nothing: ready")
    for backend in diagnosis.backends:
        table.add_row(
            backend.name.lower(), backend.version or "-", backend.licence.value, backend.remedy or "nothing: ready"
        )
    console.print(table)


class Display:
    """Live progress on a terminal: the stage, the bound and the gap. Silent elsewhere."""

    def __init__(self, console: Console, quiet: bool):
        self.status = console.status("reading the model") if console.is_terminal and not quiet else None

    @contextlib.contextmanager
    def running(self) -> Iterator["Display"]:
        with self.status or contextlib.nullcontext():
            yield self

    def on_stage(self, stage: Stage) -> None:
        self._say(stage.value)

    @property
    def on_progress(self) -> OnProgress:
        def show(progress: Progress) -> None:
            gap = 1 - progress.dual_bound / progress.bound if progress.bound else 0.0
            self._say(
                f"{Stage.SOLVE.value}: iteration {progress.iteration}, bound {progress.bound:.7g}, "
                f"gap {gap:.1e}, {progress.seconds:.1f} s"
            )

        return show

    def _say(self, text: str) -> None:
        if self.status is not None:
            self.status.update(text)


def _memory(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{max(size / 2**20, 1):.0f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
