"""How a job ended, and the line that says so."""

import dataclasses
import enum
import json
from collections.abc import Mapping
from typing import Any

from ..outcomes import ExitCode
from .job import Job

SCHEMA = "netgain-batch/1"


class Status(enum.Enum):
    """How a job ended.

    **Attributes:** `code`: the exit code of a batch that holds such a job and none that is worse.
    """

    PROVED = "proved", ExitCode.PROVED
    NOT_PROVED = "not proved", ExitCode.NOT_PROVED
    TIMED_OUT = "timed out", ExitCode.NOT_PROVED
    USAGE = "usage", ExitCode.USAGE
    UNREADABLE = "unreadable", ExitCode.MODEL
    NUMERICAL = "numerical failure", ExitCode.NUMERICAL
    OUT_OF_MEMORY = "out of memory", ExitCode.NUMERICAL
    DIED = "died", ExitCode.NUMERICAL
    REFUSED = "refused", ExitCode.REFUSED
    INTERRUPTED = "interrupted", ExitCode.INTERRUPTED

    def __init__(self, text: str, code: ExitCode):
        self.text = text
        self.code = code

    @property
    def key(self) -> str:
        """What it is called in JSON and on the command line."""
        return self.name.lower()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended.

    **Attributes:** `exit_code`: of its process, negative for the signal that ended it, or None if there was none;
    `peak_memory`: bytes, as far as they were seen; `attempts`: how often it was begun; `host`: where it ran; `result`:
    the JSON of the command, or None; `written`: contents of the files it wrote, by name; `reason`: why it was stopped,
    or could not be run; `stderr`: the end of what it said there.
    """

    job: Job
    status: Status
    exit_code: int | None = None
    seconds: float = 0.0
    peak_memory: int = 0
    attempts: int = 1
    host: str = ""
    result: dict[str, Any] | None = None
    written: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    reason: str = ""
    stderr: str = ""


def outcome_json(outcome: Outcome, folder: str, finished: str) -> dict[str, Any]:
    """The line of an outcome, whose files were put into `folder`, finished at that time.

    Paths in the command's result, which were those of a job somewhere else, become those of here.
    """
    job = outcome.job
    here = {name: f"{folder}/{name}" for name in outcome.written}
    return {
        "schema": SCHEMA,
        "id": job.id,
        "status": outcome.status.key,
        "model": job.model,
        "question": job.question,
        "options": dict(job.options),
        "inputs": [{"name": file.name, "sha256": file.sha256} for file in job.files],
        "limits": dataclasses.asdict(job.limits),
        "version": job.version,
        "exit_code": outcome.exit_code,
        "seconds": round(outcome.seconds, 3),
        "peak_memory": outcome.peak_memory,
        "attempts": outcome.attempts,
        "host": outcome.host,
        "finished": finished,
        "files": list(here.values()),
        "reason": outcome.reason,
        "stderr": outcome.stderr,
        "result": _with_paths(outcome.result, {**here, job.model_argument: job.model}),
    }


def line(content: Mapping[str, Any]) -> bytes:
    """JSON on one line."""
    return (json.dumps(content, allow_nan=False) + "\n").encode()


def _with_paths(value: Any, paths: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _with_paths(item, paths) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_paths(item, paths) for item in value]
    return paths.get(value, value) if isinstance(value, str) else value
