"""Runs an entry and writes what it gives: table.json, table.csv, table.md and pictures in the entry's folder."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from .context import Context, NeedsError, Request, Say, replace, require_modules
from .registry import EXTRAS, Entry
from .table import Table
from .views import to_csv, to_markdown


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A table, whether nothing is missing in it, and the files written."""

    table: Table
    complete: bool
    files: tuple[Path, ...]


def require(entry: Entry, request: Request, figures: bool) -> None:
    """**Raises:** `NeedsError` if the request means nothing for the entry or something it needs is not installed."""
    if entry.run is None:
        raise NeedsError(f"{entry.name} is not reproduced: {entry.obstacle}")
    if request.weights is not None and not entry.weights:
        raise NeedsError(f"{entry.name} takes no --weights: there are none of its authors to read.")
    if request.weights is None:
        for extra in entry.needs.extras:
            require_modules(EXTRAS[extra], extra, f"{entry.name} without --weights" if entry.weights else entry.name)
    if figures:
        require_modules(EXTRAS["plot"], "plot", "A figure (leave them out by --no-figures)")


def reproduce(entry: Entry, request: Request, say: Say, interrupted: Callable[[], bool], figures: bool = True
              ) -> Outcome:
    """Runs what is missing of the entry, and writes all files anew.

    **Raises:** `NeedsError`; `DataError` for weights or data that cannot be read; `OSError`.
    """
    require(entry, request, figures)
    assert entry.run is not None
    context = Context(entry.name, request, say, interrupted)
    table = entry.run(context)
    files = [context.folder / f"table{ending}" for ending in (".json", ".csv", ".md")]
    contents = (json.dumps(table.to_json(), indent=1, allow_nan=False) + "\n", to_csv(table), to_markdown(table))
    for path, content in zip(files, contents, strict=True):
        replace(path, content.encode())
    if figures:
        from .drawing import draw

        files += draw(table, context.folder)
    return Outcome(table, context.complete, tuple(files))
