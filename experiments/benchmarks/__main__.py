"""Benchmarks by command: `python -m netgain.experiments.benchmarks --help`."""

import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO

import rich.console
import typer
from netgain.solvers.result import Limits

from ..idx import DataError
from .contenders import CONTENDERS, REFERENCE, Contender
from .implicit_networks import costs, measurements
from .job import Job, launch
from .networks import Network, read_folder
from .outcome import Outcome, Record
from .table import comparison

# Of a table written to a file, where no terminal states a width.
_WIDTH = 130

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)


@app.callback()
def benchmarks() -> None:
    """Our solvers beside other people's, each run in its own process."""


@app.command()
def lipschitz(
    weights: Annotated[Path, typer.Option(help="Folder with mlp/, cnn/, digits/, versatility/, published.csv.",
                                          exists=True, file_okay=False)],
    only: Annotated[str, typer.Option(help="Only networks whose name contains this.")] = "",
    contender: Annotated[str, typer.Option(help="Only contenders whose name contains this.")] = "",
    time_limit: Annotated[float, typer.Option(min=1.0, help="Seconds per solve.")] = 120.0,
    memory_limit: Annotated[float, typer.Option(min=0.5, help="GB of address space per job.")] = 8.0,
    tolerance: Annotated[float, typer.Option(min=1e-12, max=0.5, help="Relative gap to stop at.")] = Limits.tolerance,
    peers: Annotated[bool, typer.Option(help="Also run other people's tools.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Append one JSON line per job here.")] = None,
) -> None:
    """Bounds on the l2 Lipschitz constants of trained networks, side by side."""
    console = rich.console.Console()
    if not console.is_terminal:
        console.width = _WIDTH
    try:
        networks = [network for network in read_folder(weights) if only in network.name]
    except DataError as error:
        raise typer.BadParameter(str(error), param_hint="--weights") from None
    chosen = [c for c in CONTENDERS if contender in c.name and (peers or not c.peer)]
    if not networks or not chosen:
        raise typer.BadParameter("No network or no contender has such a name.", param_hint="--only or --contender")
    console.print(f"{_machine()}; each job in its own process, {time_limit:g} s and {memory_limit:g} GB at most")
    stream = json_file.open("a") if json_file else None
    try:
        for network in networks:
            records = []
            for record in _records(network, chosen, weights, tolerance, time_limit, int(memory_limit * 2**30)):
                records.append(record)
                _append(stream, record)
                console.print(f"  {network.name}, {record.contender}: {record.outcome.value}", style="dim")
            console.print(comparison(network.name, records, REFERENCE))
    finally:
        if stream is not None:
            stream.close()


@app.command()
def implicit(
    largest: Annotated[int, typer.Option(min=1, help="No network of more neurons.")] = 1000,
) -> None:
    """What proofs on implicit networks of up to 1000 neurons cost: l_inf analysis and l2 inequality."""
    console = rich.console.Console()
    console.print(f"{_machine()}; one thread")
    rows = measurements(lambda row: console.print(f"  {row.question}, {row.neurons} neurons: done", style="dim"),
                        largest)
    console.print(costs(rows))


def _records(network: Network, chosen: list[Contender], folder: Path, tolerance: float, time_limit: float,
             memory_limit: int) -> Iterator[Record]:
    for row in network.published:
        yield Record(network=network.name, contender=f"published {row.method}", outcome=Outcome.PUBLISHED,
                     bound=row.bound, solve_seconds=row.seconds)
    for candidate in chosen:
        yield launch(Job(folder=str(folder), network=network.name, contender=candidate.name, tolerance=tolerance,
                         time_limit=time_limit, memory_limit=memory_limit))


def _append(stream: TextIO | None, record: Record) -> None:
    """Flushed at once, so that nothing measured is lost when a long run is ended."""
    if stream is not None:
        stream.write(json.dumps(json.loads(record.to_json()) | {"machine": _machine()}) + "\n")
        stream.flush()


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"


if __name__ == "__main__":
    app()
