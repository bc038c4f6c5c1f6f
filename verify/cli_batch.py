"""`netgain batch`: many questions about many models, on this machine or on a cluster."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import joblib
import typer

from .batch.job import Job
from .batch.journal import SUFFIX, Journal, JournalError
from .batch.outcome import Outcome, Status, line
from .batch.questions import questions_of
from .batch.schedulers import ClusterError, on_cluster, on_this_machine
from .batch.terminal import BatchProgress, show_jobs, show_records
from .cli_options import Quiet, print_json
from .interruption import Interruption
from .memory import MEMORY_SHARE, available_memory
from .outcomes import ExitCode, error_console, fail, failures_explained
from .result_json import tool
from .terminal import result_console

LISTING = "netgain-batch-list/1"

_FAILED = "failed"
_WITHOUT_ANSWER = (Status.USAGE, Status.UNREADABLE, Status.NUMERICAL, Status.OUT_OF_MEMORY, Status.DIED, Status.REFUSED)
_RETRIES = {_FAILED: _WITHOUT_ANSWER, **{status.key: (status,) for status in Status}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Request:
    """What was asked, checked before any work."""

    jobs_file: Path
    output: Path | None
    processes: int | None
    scheduler: str | None
    retry: Sequence[str]

    def __post_init__(self) -> None:
        if os.name != "posix":
            fail(ExitCode.USAGE, "netgain batch needs process groups and signals, which this system has not.")
        if self.target.suffix != SUFFIX:
            raise typer.BadParameter(f"{self.target} does not end in {SUFFIX}.", param_hint="--output")
        if self.scheduler is not None and self.processes is not None:
            raise typer.BadParameter("a cluster's workers say how many jobs run at a time.", param_hint="--jobs")
        if unknown := [name for name in self.retry if name not in _RETRIES]:
            raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(_RETRIES)}.", param_hint="--retry")

    @property
    def target(self) -> Path:
        return self.output or Path(f"{self.jobs_file.stem}.results{SUFFIX}")

    def runs_again(self, status: Status) -> bool:
        """Whether a job that ended so is begun anew; what was interrupted always is."""
        return status is Status.INTERRUPTED or any(status in _RETRIES[name] for name in self.retry)


def batch(
    context: typer.Context,
    jobs_file: Annotated[Path, typer.Argument(metavar="JOBS.yaml", help="Models, questions and limits; see "
                                              "docs/batch.md.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File of results, continued if it exists; certificates go to "
                                  "the folder of the same name.", show_default=f"NAME.results{SUFFIX} here"),
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Jobs at a time.", show_default="as cores and memory allow"),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Address of a Dask scheduler, whose workers run the jobs.",
                                 show_default="none: this machine"),
    ] = None,
    retry: Annotated[
        list[str] | None,
        typer.Option("--retry", help="Begin jobs again that ended so: " + ", ".join(_RETRIES) + ". May be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--list", help="Show the jobs and run none.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object per line on stdout, for each job as it "
                                          "finishes, instead of tables.")] = False,
    quiet: Quiet = False,
) -> None:
    """Asks many questions about many models, each in a process with limits, and keeps each answer as it comes."""
    with failures_explained():
        request = _Request(jobs_file=jobs_file, output=output, processes=processes, scheduler=scheduler,
                           retry=retry or ())
        try:
            jobs = _jobs(request.jobs_file, context)
            journal = Journal(request.target)
            if dry_run:
                journal.read()
                _list(jobs, journal, as_json)
                return
            raise typer.Exit(_run(request, jobs, journal, as_json, quiet))
        except (JournalError, ClusterError) as error:
            fail(ExitCode.USAGE, error)
        except KeyboardInterrupt:
            fail(ExitCode.INTERRUPTED, f"Interrupted. What had ended is in {request.target}; run it again to continue.")


def _jobs(path: Path, context: typer.Context) -> list[Job]:
    try:
        from .batch.jobs_file import JobsFileError, read_jobs
    except ModuleNotFoundError as error:
        fail(ExitCode.USAGE, f"netgain batch needs {error.name}: pip install 'netgain[batch]'.")
    try:
        return read_jobs(path, questions_of(context.find_root().command), tool()["version"])
    except JobsFileError as error:
        fail(ExitCode.USAGE, error)


def _list(jobs: Sequence[Job], journal: Journal, as_json: bool) -> None:
    if not as_json:
        show_jobs(result_console(), jobs, journal.last)
        return
    listed = [{"id": job.id, "model": job.model, "question": job.question, "options": dict(job.options),
               "limits": dataclasses.asdict(job.limits),
               "status": journal.last[job.id]["status"] if job.id in journal.last else None} for job in jobs]
    print_json({"schema": LISTING, "jobs": listed})


def _run(request: _Request, jobs: Sequence[Job], journal: Journal, as_json: bool, quiet: bool) -> ExitCode:
    console = error_console()
    with journal.writing() as writer, Interruption() as interruption:
        # The first Ctrl-C is for the jobs: they hand over their best, which is waited for and written.
        interruption.shielded = True
        if journal.torn:
            console.print(f"{journal.path} ended in the middle of a line, which is removed: its job runs again.",
                          markup=False, soft_wrap=True)
        left = [job for job in jobs if job.id not in journal.last or request.runs_again(_status(journal, job))]
        progress = BatchProgress(console, quiet, len(jobs), len(jobs) - len(left))

        def stopped() -> bool:
            if interruption:
                progress.say("stopping: running jobs prove what they have; Ctrl-C again leaves them")
            return bool(interruption)

        with progress.running():
            outcomes: Iterator[Outcome]
            if request.scheduler is None:
                outcomes = on_this_machine(left, request.processes or _at_a_time(left), stopped)
            else:
                outcomes = on_cluster(left, request.scheduler, stopped, progress.say)
            for outcome in outcomes:
                record = writer.append(outcome)
                progress.finished(record)
                if as_json:
                    print(line(record).decode(), end="", flush=True)
    if not as_json:
        show_records(result_console(), jobs, journal.last, str(journal.path))
    if interruption:
        return ExitCode.INTERRUPTED
    return max((_status(journal, job).code for job in jobs), default=ExitCode.PROVED)


def _status(journal: Journal, job: Job) -> Status:
    return Status[journal.last[job.id]["status"].upper()]


def _at_a_time(jobs: Sequence[Job]) -> int:
    """As many as there are cores for their threads, and memory for their limits."""
    threads = max((job.limits.threads for job in jobs), default=1)
    memory = max((job.limits.memory_limit or 0 for job in jobs), default=0)
    cores = int(joblib.cpu_count())
    by_memory = int(MEMORY_SHARE * available_memory() / memory) if memory else cores
    return max(1, min(cores // threads, by_memory))
