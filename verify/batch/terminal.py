"""What a person sees of a batch: progress on stderr, a table of all jobs at the end."""

import collections
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..contractivity.json_form import CONTRACTIVITY_RESULT
from ..result_json import RESULT as LIPSCHITZ
from ..terminal import duration_text, memory_text, show_line, show_table
from .job import Job
from .outcome import Status


class BatchProgress:
    """A bar on a terminal, silent elsewhere."""

    def __init__(self, console: Console, quiet: bool, total: int, done: int):
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True)
        self._task = self._progress.add_task("jobs", total=total, completed=done)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with self._progress:
            yield

    def say(self, text: str) -> None:
        """What is going on."""
        self._progress.update(self._task, description=text)

    def finished(self, record: Mapping[str, Any]) -> None:
        """One more job has ended."""
        self._progress.update(self._task, advance=1,
                              description=f"{record['model']} {record['question']}: {_status(record).text}")


def show_jobs(console: Console, jobs: Sequence[Job], last: Mapping[str, Mapping[str, Any]]) -> None:
    """The jobs of a file, and which of them have ended."""
    show_table(console, ("job", "model", "question", "options", "time limit", "memory limit", "so far"), [
        (job.id, job.model, job.question, _options(job.options), duration_text(job.limits.time_limit),
         "" if job.limits.memory_limit is None else memory_text(job.limits.memory_limit),
         _status(last[job.id]).text if job.id in last else "")
        for job in jobs])
    console.print()
    show_line(console, "jobs", f"{len(jobs)}, {sum(job.id in last for job in jobs)} of them in the results")


def show_records(console: Console, jobs: Sequence[Job], last: Mapping[str, Mapping[str, Any]], written: str) -> None:
    """A line for every job that has ended, how many ended how, and why."""
    ended = [last[job.id] for job in jobs if job.id in last]
    show_table(console, ("model", "question", "options", "status", "answer", "time", "memory"), [
        (record["model"], record["question"], _options(record["options"]), _status(record).text, _answer(record),
         duration_text(record["seconds"]), memory_text(record["peak_memory"]) if record["peak_memory"] else "")
        for record in ended])
    console.print()
    counts = collections.Counter(_status(record) for record in ended)
    missing = len(jobs) - len(ended)
    parts = [f"{counts[status]} {status.text}" for status in Status if counts[status]]
    show_line(console, "jobs", ", ".join([*parts, *([f"{missing} not run"] if missing else [])]))
    show_reasons(console, ended)
    show_line(console, "results", written)


def show_reasons(console: Console, ended: Iterable[Mapping[str, Any]]) -> None:
    """Of the jobs that gave no answer, one line each."""
    for record in ended:
        if _status(record) not in (Status.PROVED, Status.NOT_PROVED):
            said = [text for text in (record["reason"], *record["stderr"].splitlines()[-1:]) if text]
            show_line(console, "note", f"{record['model']} {record['question']}: {' '.join(said)}")


def _status(record: Mapping[str, Any]) -> Status:
    return Status[record["status"].upper()]


def _options(options: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={str(value).lower() if isinstance(value, bool) else value}"
                    for name, value in options.items())


def _answer(record: Mapping[str, Any]) -> str:
    """The bracket of the results that are one; others are in the file."""
    result = record["result"] or {}
    if result.get("schema") == LIPSCHITZ and result["upper_decimal"]:
        return f"{result['lower']['decimal']} <= L <= {result['upper_decimal']}"
    if result.get("schema") == CONTRACTIVITY_RESULT and result["worst"]["upper_decimal"]:
        return f"{result['worst']['lower_decimal']} <= mu <= {result['worst']['upper_decimal']}"
    return str(result.get("verdict") or "")
