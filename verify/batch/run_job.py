"""One job: a process of its own, watched from outside.

Limits are kept from here and not by the job, which may hang inside a library. Memory is what the job's processes hold
together, looked at ten times a second: a limit on address space (RLIMIT_AS) would refuse what BLAS and allocators only
reserve, and would be counted for each process. What slips through between two looks, the kernel's killer of processes
meets at the job first (see `guarded`).
"""

import contextlib
import dataclasses
import enum
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from ..outcomes import ExitCode
from ..sealed_json import PART
from .job import Job, JobLimits, Parcel
from .outcome import Outcome, Status

_LOOK_EVERY = 0.1
_TAIL = 4000
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "RAYON_NUM_THREADS")
_PLAIN = {"NO_COLOR": "1", "TYPER_USE_RICH": "0"}
"""Messages without colours and boxes."""

_BY_CODE = {
    ExitCode.USAGE: Status.USAGE,
    ExitCode.MODEL: Status.UNREADABLE,
    ExitCode.NUMERICAL: Status.NUMERICAL,
    ExitCode.REFUSED: Status.REFUSED,
    ExitCode.INTERRUPTED: Status.INTERRUPTED,
}


class Stop(enum.Enum):
    """Why a job was ended from outside."""

    TIME = Status.TIMED_OUT
    MEMORY = Status.OUT_OF_MEMORY
    ASKED = Status.INTERRUPTED


@dataclasses.dataclass(frozen=True)
class _End:
    """What was seen of a process."""

    exit_code: int
    seconds: float
    peak_memory: int
    stop: Stop | None


def run_job(parcel: Parcel, stopped: Callable[[], bool] = lambda: False) -> Outcome | None:
    """Answers a job, or says why there is no answer; None if `stopped` before it began.

    Once `stopped`, the job is interrupted: it proves what it has, within its grace.
    """
    job = parcel.job
    if stopped():
        return None
    if parcel.trouble:
        return Outcome(job=job, status=Status.UNREADABLE, reason=parcel.trouble, host=platform.node())
    for attempt in range(1, job.limits.attempts + 1):
        try:
            outcome = _attempt(parcel, stopped)
        except OSError as error:
            outcome = Outcome(job=job, status=Status.DIED, reason=f"The job could not be run: {error}.")
        outcome = dataclasses.replace(outcome, attempts=attempt, host=platform.node())
        if outcome.status is not Status.DIED or stopped():
            break
    return outcome


def _attempt(parcel: Parcel, stopped: Callable[[], bool]) -> Outcome:
    job = parcel.job
    with tempfile.TemporaryDirectory(prefix="netgain-job-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        output = folder / "output"
        output.mkdir()
        for file, content in zip(job.files, parcel.contents, strict=True):
            target = folder / "input" / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        streams = folder / "stdout", folder / "stderr"
        with streams[0].open("wb") as stdout, streams[1].open("wb") as stderr:
            end = _watched(_command(job, folder), output, job.limits, stopped, (stdout.fileno(), stderr.fileno()))
        result = _result(streams[0].read_bytes())
        said = streams[1].read_text(encoding="utf-8", errors="replace").strip()[-_TAIL:]
        status = _status(end, result)
        kept = [path for path in sorted(output.iterdir()) if path.is_file() and path.suffix != PART]
        return Outcome(
            job=job, status=status, exit_code=end.exit_code, seconds=end.seconds, peak_memory=end.peak_memory,
            result=result, reason=_reason(status, end, job.limits),
            stderr=said.replace(job.model_argument, job.model), written={path.name: path.read_bytes() for path in kept},
        )


def _command(job: Job, folder: Path) -> list[str]:
    # -P keeps the current folder, whose files may have any names, off the path of modules.
    deadline = time.monotonic() + job.limits.time_limit
    return [sys.executable, "-P", "-m", f"{__package__}.guarded", str(folder), repr(deadline), job.question,
            job.model_argument, "--json", *job.arguments]


def _watched(
    command: list[str], where: Path, limits: JobLimits, stopped: Callable[[], bool], streams: tuple[int, int]
) -> _End:
    environment = {**os.environ, **_PLAIN, **dict.fromkeys(_THREADS, str(limits.threads))}
    begin = time.monotonic()
    process = subprocess.Popen(command, cwd=where, env=environment, stdin=subprocess.PIPE, stdout=streams[0],
                               stderr=streams[1], process_group=0)
    stop: Stop | None = None
    kill_at, peak = math.inf, 0
    try:
        while process.poll() is None:
            now = time.monotonic()
            memory = _memory(process.pid)
            peak = max(peak, memory)
            if limits.memory_limit is not None and memory > limits.memory_limit:
                stop = Stop.MEMORY
                _kill(process.pid)
            elif stop is None and (stopped() or now - begin > limits.time_limit + limits.grace / 2):
                # Half of the grace is for a command that keeps its limit, the other half for one that did not.
                stop = Stop.ASKED if stopped() else Stop.TIME
                kill_at = now + limits.grace / 2
                process.send_signal(signal.SIGINT)
            elif now > kill_at:
                _kill(process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_EVERY)
    finally:
        # Also what the command has left behind, and the command itself if this is a way out by an error.
        _kill(process.pid)
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    return _End(process.returncode, time.monotonic() - begin, peak, stop)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _memory(process: int) -> int:
    """Bytes held by a process and all that descend from it."""
    total = 0
    with contextlib.suppress(psutil.Error):
        first = psutil.Process(process)
        for each in (first, *first.children(recursive=True)):
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                total += each.memory_info().rss
    return total


def _result(stdout: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(stdout)
    except ValueError:  # the command ended before it had an answer
        return None
    return content if isinstance(content, dict) else None


def _status(end: _End, result: dict[str, Any] | None) -> Status:
    """An answer is what the command called one and has printed; nothing else is taken for it."""
    if result is not None and end.exit_code in (ExitCode.PROVED, ExitCode.NOT_PROVED):
        return Status.PROVED if end.exit_code == ExitCode.PROVED else Status.NOT_PROVED
    if end.stop is not None:
        return end.stop.value
    return _BY_CODE.get(ExitCode(end.exit_code), Status.DIED) if end.exit_code in set(ExitCode) else Status.DIED


def _reason(status: Status, end: _End, limits: JobLimits) -> str:
    if status is Status.TIMED_OUT:
        return f"Stopped after {end.seconds:.1f} s: it did not end within its time limit of {limits.time_limit:g} s."
    if status is Status.OUT_OF_MEMORY:
        return f"Stopped at {end.peak_memory} bytes: its memory limit is {limits.memory_limit}."
    if status is Status.DIED and end.exit_code < 0:
        return f"Ended by {signal.Signals(-end.exit_code).name}, which this batch did not send."
    return "It ended without an answer." if status is Status.DIED else ""
