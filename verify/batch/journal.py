"""The file of results: a line of JSON per job, on the disk before anything else is done, and what jobs have written."""

import contextlib
import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .outcome import SCHEMA, Outcome, Status, line, outcome_json

SUFFIX = ".jsonl"

_SHOWN = {"id", "status", "model", "question", "options", "seconds", "peak_memory", "reason", "stderr", "result"}


class JournalError(RuntimeError):
    """A file of results cannot be continued; the text says why."""


class Journal:
    """Lines of results, old and new.

    **Attributes:** `last`: by the id of a job, the latest line about it; `torn`: the end of the file if that is no
    whole line, as a batch leaves it that is killed while it writes; it is cut off before the next line is written.
    """

    def __init__(self, path: Path):
        self.path = path
        self.folder = path.with_suffix("")
        self.last: dict[str, dict[str, Any]] = {}
        self.torn = b""

    def read(self) -> None:
        """The lines that are there, if there are any.

        **Raises:** `JournalError` for lines that a batch did not write.
        """
        content = self.path.read_bytes() if self.path.exists() else b""
        whole, self.torn = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
        self.last = {}
        for number, text in enumerate(whole.splitlines(), start=1):
            record = self._record(text, number)
            self.last[record["id"]] = record

    def _record(self, text: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(text)
        except ValueError as error:
            raise JournalError(f"{self.path}, line {number} is no JSON ({error}). Mend or remove it, or name another "
                               "file with --output.") from None
        known = isinstance(record, dict) and record.get("schema") == SCHEMA and record.keys() >= _SHOWN
        if not known or record["status"] not in {status.key for status in Status}:
            raise JournalError(f"{self.path}, line {number} is no line of {SCHEMA}. Name another file with --output.")
        return dict(record)

    @contextlib.contextmanager
    def writing(self) -> Iterator["Writer"]:
        """Reads, and then appends; no other batch may do so at the same time.

        **Raises:** `JournalError`; `OSError` if the file or the folder beside it cannot be written.
        """
        import fcntl  # not everywhere, and the other commands run without it

        with self.path.open("ab", buffering=0) as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JournalError(f"Another batch is writing to {self.path}.") from None
            self.read()
            if self.torn:
                stream.truncate(self.path.stat().st_size - len(self.torn))
            self.folder.mkdir(exist_ok=True)
            _sync(self.path.parent)
            yield Writer(self, stream)


class Writer:
    """Appends to a journal."""

    def __init__(self, journal: Journal, stream: BinaryIO):
        self._journal, self._stream = journal, stream

    def append(self, outcome: Outcome) -> dict[str, Any]:
        """The line of an outcome; it is on the disk, and so is what it names, when this returns.

        **Raises:** `OSError`.
        """
        folder = self._journal.folder / outcome.job.folder
        if outcome.written:
            folder.mkdir(exist_ok=True)
            for name, content in outcome.written.items():
                _write(folder / name, content)
            _sync(folder)
            _sync(folder.parent)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        record = outcome_json(outcome, f"{folder.parent.name}/{folder.name}", now)
        data = line(record)
        if self._stream.write(data) != len(data):
            raise OSError(f"{self._journal.path} took only a part of a line; is the disk full?")
        os.fsync(self._stream.fileno())
        self._journal.last[outcome.job.id] = record
        return record


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    """New names in a folder are not on the disk before this."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
