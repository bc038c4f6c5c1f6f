"""What is printed for people."""

import io

import numpy as np
import pytest
from netgain.layers import Affine, Graph, Layer, Relu, sequential
from netgain.solvers.result import Progress
from netgain.verify import inspect, lipschitz
from netgain.verify.claim import judge
from netgain.verify.lipschitz import Stage
from netgain.verify.terminal import Display, duration_text, memory_text, show_inspection, show_report
from rich.console import Console


def console(width: int = 80, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=terminal, highlight=False)


def text(target: Console) -> str:
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


def network(depth: int, name: str = "net") -> Graph:
    chain: list[Layer] = []
    for _ in range(depth):
        chain += [Affine(0.5 * np.eye(2)), Relu()]
    return sequential((2,), chain[:-1], name)


def test_the_report_reads_as_a_bracket() -> None:
    target, graph = console(), network(2)
    report = lipschitz(graph)
    show_report(target, report, graph, "net.certificate.json", judge(report, 0.1))
    lines = {line[:13].strip(): line[14:] for line in text(target).splitlines()}
    assert float(lines["witness"].split()[0]) <= report.lower <= report.upper
    assert report.upper <= float(lines["certified"].split()[0]) <= report.upper * (1 + 1e-6)
    assert ">= L" in lines["certified"]
    assert "<= L" in lines["witness"]
    assert "disproved" in lines["claim"]
    assert lines["certificate"] == "net.certificate.json"


def test_markup_in_names_is_printed_as_it_is() -> None:
    target, graph = console(), network(2, "[bold]net[/bold] [x]")
    show_report(target, lipschitz(graph), graph, "")
    assert text(target).startswith("[bold]net[/bold] [x]:")


def test_the_middle_of_a_deep_network_is_left_out() -> None:
    target = console()
    show_inspection(target, inspect(network(100)))
    lines = text(target).splitlines()
    assert len(lines) < 150
    assert sum("more" in line for line in lines) == 2
    assert all(line == line.rstrip() for line in lines)


def test_progress_shows_bound_and_gap_on_a_terminal() -> None:
    target = console(100, terminal=True)
    display = Display(target, quiet=False)
    with display.running():
        display.on_stage(Stage.SOLVE)
        display.on_progress(Progress(2.0, 1.0, 3, 0.5))
        assert display.status is not None
        target.print(display.status.renderable)
    assert "iteration 3, bound 2, gap 5.0e-01" in text(target)


@pytest.mark.parametrize(("terminal", "quiet"), [(False, False), (True, True)])
def test_progress_is_silent_elsewhere(terminal: bool, quiet: bool) -> None:
    target = console(terminal=terminal)
    with Display(target, quiet).running() as display:
        display.on_stage(Stage.PROVE)
        display.on_progress(Progress(0.0, 0.0, 1, 0.1))
    assert text(target) == ""


def test_units() -> None:
    assert duration_text(0.0123) == "12 ms"
    assert duration_text(3.25) == "3.2 s"
    assert duration_text(600) == "10 min"
    assert memory_text(5e5) == "1 MiB"
    assert memory_text(3 * 2**30) == "3.0 GiB"
