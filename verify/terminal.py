"""What a person sees: results on stdout, progress on stderr."""

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence

from netgain.layers import Graph
from netgain.solvers.availability import Licence
from netgain.solvers.result import OnProgress, Progress, Status
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from .certificate import Certificate
from .check import Verdict
from .claim import Claim
from .doctor import Diagnosis
from .inspection import Inspection, NodeSummary
from .lipschitz import LipschitzReport, Stage
from .mode import Mode
from .modes import Prediction
from .rounding import rounded_down, rounded_up

_PIPED_WIDTH = 240
_MOST_ROWS = 60
_LABEL = 13
_VALUE = 12


def result_console() -> Console:
    """stdout; a file or a pipe has no width to keep to, and broken lines are hard to search."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPED_WIDTH
    return console


class _WithoutPadding:
    """A renderable without the blanks that fill its lines up, which only get in the way of copying."""

    def __init__(self, content: RenderableType):
        self.content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self.content, options, pad=False):
            kept = list(line)
            while kept and not kept[-1].text.strip():
                kept.pop()
            if kept:
                last = kept.pop()
                kept.append(Segment(last.text.rstrip(), last.style, last.control))
            yield from kept
            yield Segment.line()


def show_table(console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns side by side, without lines between them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(_WithoutPadding(table))


def show_line(console: Console, label: str, text: str, style: str = "") -> None:
    """A label and what it stands for."""
    console.print(Text(f"{label:<{_LABEL}} ").append(text, style), soft_wrap=True)


def show_bound(console: Console, label: str, value: str, meaning: str, style: str = "") -> None:
    """A label, a number, and what it means."""
    show_line(console, label, f"{value:<{_VALUE}} {meaning}", style)


def show_graph(console: Console, nodes: Sequence[NodeSummary]) -> None:
    """The layer table; of a very deep network the first and last layers."""
    rows = [
        (node.name, node.kind, ", ".join(node.inputs), " x ".join(map(str, node.shape)) or "scalar", node.slopes)
        for node in nodes
    ]
    show_table(console, ("node", "layer", "fed by", "shape", "slopes"), _shortened(rows))
    console.print()


def show_inspection(console: Console, inspection: Inspection) -> None:
    show_graph(console, inspection.nodes)
    steps = [(step.node, ", ".join(step.reads), ", ".join(step.state), str(step.width))
             for step in inspection.dynamics.steps]
    if steps:
        show_table(console, ("time step", "reads", "state before it (cut)", "width"), _shortened(steps))
        console.print()
    show_table(console, ("mode", "multipliers", "order", "memory", "time", ""),
                [_prediction(prediction) for prediction in inspection.predictions])
    console.print()
    show_line(console, "neurons", f"{inspection.neurons}, widest cut {inspection.dynamics.widest_cut}")
    show_line(console, "memory free", memory_text(inspection.available_memory))


def _prediction(prediction: Prediction) -> tuple[str, ...]:
    if prediction.obstacle:
        return prediction.mode.value, "", "", "", "", prediction.obstacle
    size = str(prediction.multipliers), str(prediction.order)
    room = "" if prediction.fits else "does not fit into memory"
    return prediction.mode.value, *size, memory_text(prediction.memory), duration_text(prediction.seconds), room


def _shortened(rows: Sequence[tuple[str, ...]]) -> Sequence[tuple[str, ...]]:
    if len(rows) <= _MOST_ROWS:
        return rows
    half = _MOST_ROWS // 2
    gap = (f"... {len(rows) - 2 * half} more", *("" for _ in rows[0][1:]))
    return [*rows[:half], gap, *rows[-half:]]


def show_report(
    console: Console, report: LipschitzReport, graph: Graph, certificate: str, claim: Claim | None = None
) -> None:
    """What is claimed, the bracket around it, and where it comes from."""
    solution = report.solution
    console.print(_title(graph), soft_wrap=True)
    _show_meaning(console)
    if report.norm_product < math.inf:
        show_bound(console, "norm product", rounded_up(report.norm_product), ">= L; in floating point")
    if report.mode is not Mode.NEURON:
        show_line(console, "mode", report.mode.value)
    if report.certificate is not None:
        arithmetic = arithmetic_text(report.certificate.arithmetic)
        show_bound(console, "certified", rounded_up(report.upper), f">= L; proved in {arithmetic}", "bold green")
    else:
        show_line(console, "certified", "nothing: no multipliers were proved, L may be any number", "bold red")
    if solution.dual_bound > 0:
        optimum = rounded_down(solution.dual_bound)
        show_bound(console, "optimum", optimum, "no multipliers certify less; floating point")
    if report.slope_bound > 0:
        show_bound(console, "slope system", rounded_down(report.slope_bound), "some slopes reach this; floating point")
    if report.witness is not None:
        show_bound(console, "witness", rounded_down(report.lower), "<= L; proved by a pair of inputs", "bold")
    if not math.isnan(report.gap):
        show_bound(console, "gap", f"{100 * report.gap:.3g} %", "(certified - witness) / certified")
    if claim is not None:
        show_line(console, "claim", f"L <= {claim.value!r} is {claim.standing.value}", "bold")
    version = f" ({solution.version})" if solution.version else ""
    status = solution.status.name.lower().replace("_", " ")
    show_line(console, "solver", f"{solution.solver}{version}: {status}, {solution.iterations} iterations")
    show_line(console, "time", ", ".join(f"{stage} {duration_text(value)}" for stage, value in report.seconds.items()))
    advice = () if solution.status in (Status.OPTIMAL, Status.CLOSED_FORM) else (solution.status.value,)
    for note in (*advice, *report.notes):
        show_line(console, "note", note)
    if certificate:
        show_line(console, "certificate", certificate)


def _show_meaning(console: Console) -> None:
    console.print("L: the least number with |f(x) - f(x')| <= L |x - x'| for all inputs x, x',")
    console.print("Euclidean norms, real arithmetic, f as exported, no softmax added")


def show_verdict(console: Console, certificate: Certificate, graph: Graph, verdict: Verdict) -> None:
    """A certificate the checker accepted."""
    console.print(_title(graph), soft_wrap=True)
    _show_meaning(console)
    arithmetic = arithmetic_text(verdict.arithmetic)
    show_bound(console, "certified", rounded_up(certificate.value), f">= L; proved in {arithmetic}", "bold green")
    show_line(console, "time", f"check {duration_text(verdict.seconds)}")


def show_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    machine = diagnosis.machine
    show_line(console, "machine", f"{machine.system}, {machine.cores} cores, {memory_text(machine.memory)}, "
                              f"Python {machine.python}")
    show_line(console, "BLAS", machine.blas)
    console.print()
    libraries = [(name, version or "not installed") for name, version in diagnosis.libraries.items()]
    show_table(console, ("library", "version"), libraries)
    console.print()
    own = [(name, "", Licence.NOT_NEEDED.value, "yes") for name in ("interior_point", "closed_form")]
    theirs = [(backend.name.lower(), backend.version, backend.licence.value, "yes" if backend.usable else "no")
              for backend in diagnosis.backends]
    show_table(console, ("solver", "version", "licence", "usable"), own + theirs)
    for backend in diagnosis.backends:
        if backend.remedy:
            console.print()
            console.print(Text(backend.remedy))


class Display:
    """Live progress on a terminal: the stage, the bound and the gap. Silent elsewhere."""

    def __init__(self, console: Console, quiet: bool):
        self.status = console.status("reading the model") if console.is_terminal and not quiet else None

    @contextlib.contextmanager
    def running(self) -> Iterator["Display"]:
        with self.status or contextlib.nullcontext():
            yield self

    def on_stage(self, stage: Stage) -> None:
        self.say(stage.value)

    @property
    def on_progress(self) -> OnProgress:
        def show(progress: Progress) -> None:
            gap = 1 - progress.dual_bound / progress.bound if progress.bound else 0.0
            self.say(
                f"{Stage.SOLVE.value}: iteration {progress.iteration}, bound {progress.bound:.7g}, "
                f"gap {gap:.1e}, {progress.seconds:.1f} s"
            )

        return show

    def say(self, text: str) -> None:
        """What is going on."""
        if self.status is not None:
            self.status.update(text)


def memory_text(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{max(size / 2**20, 1):.0f} MiB"


def duration_text(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _title(graph: Graph) -> Text:
    inputs, outputs = (math.prod(graph.shape(node)) for node in (graph.input, graph.output))
    return Text.assemble((graph.name, "bold"), f": f from R^{inputs} to R^{outputs}")


def arithmetic_text(name: str) -> str:
    """In what the checker computed: "double" or the bits of balls."""
    return "double precision" if name == "double" else f"balls of {name}"
