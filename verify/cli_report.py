"""`netgain report`: one HTML page from the results of other commands."""

import datetime
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from .cli_options import Quiet
from .outcomes import ExitCode, error_console, fail, failures_explained
from .report.certificates import Checker, models_by_hash
from .report.content import Section, Standing
from .report.drawing import ReportUnavailable, require_libraries
from .report.page import SECTIONS, page, sections_of
from .report.reading import ReportError, read_documents
from .terminal import Display


def report(
    results: Annotated[
        list[Path],
        typer.Argument(help="What commands printed with --json, one result or one a line.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    check: Annotated[
        bool, typer.Option("--check", help="Prove the certificates anew, from the files the results name.")
    ] = False,
    model: Annotated[
        list[Path] | None,
        typer.Option("--model", help="With --check: a model's file that is not where the result says. May be repeated.",
                     show_default=False),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Makes one HTML page of results: figures, tables, and the standing of certificates; it loads nothing."""
    with failures_explained():
        if model and not check:
            raise typer.BadParameter("models are needed for --check alone.", param_hint="--model")
        _require_place(output, results, model or [])
        try:
            require_libraries()
            documents = read_documents(results, SECTIONS)
            display = Display(error_console(), quiet)
            with display.running():
                date = datetime.date.today().isoformat() if check else None
                sections = sections_of(documents, Checker(date, models_by_hash(model or []), display.say))
                text = page(sections, documents, date)
        except (ReportError, ReportUnavailable) as error:
            fail(ExitCode.USAGE, error)
        _write(output, text)
        print(_summary(output, sections, len(text.encode())))
        raise typer.Exit(_code(sections) if check else ExitCode.PROVED)


def _summary(output: Path, sections: Sequence[Section], size: int) -> str:
    figures = sum(block.kind in ("figure", "graph") for section in sections for block in section.blocks)
    certificates = [certificate for section in sections for certificate in section.certificates]
    counts = [(sum(certificate.standing is standing for certificate in certificates), standing.value)
              for standing in (Standing.PROVED_ANEW, Standing.REFUSED, Standing.NOT_CHECKED)]
    known = ", ".join(f"{count} {name}" for count, name in counts if count) or "none"
    results = "1 result" if len(sections) == 1 else f"{len(sections)} results"
    return f"{output}: {results}, {figures} figures, {size // 1000} kB; certificates: {known}"


def _code(sections: Sequence[Section]) -> ExitCode:
    """With `--check`: REFUSED if a certificate was, NOT_PROVED if one could not be checked."""
    standings = [certificate.standing for section in sections for certificate in section.certificates]
    if Standing.REFUSED in standings:
        return ExitCode.REFUSED
    return ExitCode.NOT_PROVED if Standing.NOT_CHECKED in standings else ExitCode.PROVED


def _require_place(output: Path, results: Sequence[Path], models: Sequence[Path]) -> None:
    """Before any work, not after it. **Raises:** `typer.BadParameter`."""
    if output.exists() and not output.is_file():
        raise typer.BadParameter(f"{output} exists and is not a regular file.", param_hint="--output")
    if output.exists() and any(path.exists() and output.samefile(path) for path in (*results, *models)):
        raise typer.BadParameter(f"{output} is one of the files to read; it would be overwritten.",
                                 param_hint="--output")
    if not output.parent.is_dir():
        raise typer.BadParameter(f"{output.parent} is no folder.", param_hint="--output")


def _write(output: Path, text: str) -> None:
    """An existing page is replaced only once the new one is complete."""
    handle, part = tempfile.mkstemp(dir=output.parent, prefix=f"{output.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        # Such files are private; a page is as open as others are.
        mask = os.umask(0)
        os.umask(mask)
        Path(part).chmod(0o666 & ~mask)
        Path(part).replace(output)
    finally:
        Path(part).unlink(missing_ok=True)
