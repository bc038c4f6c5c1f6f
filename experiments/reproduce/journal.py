"""Results as they are found, one line each in a file that is only appended to: a killed run goes on where it was."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Record:
    """What a job found, and in how many seconds."""

    job: str
    key: str
    result: Any
    seconds: float


def key_of(entry: str, job: str, inputs: Mapping[str, Any]) -> str:
    """SHA-256 over everything a result depends on: the job, its inputs (digests of weights and data, settings), and the
    version of netgain."""
    content = {"entry": entry, "job": job, "inputs": inputs, "netgain": importlib.metadata.version("netgain")}
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


class Journal:
    """The records of a file by their keys.

    A line that is cut off, as a kill in the middle of writing leaves it, is passed over: its job is run again. Each
    record is one write, forced to the disk before `add` returns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[str, Record] = {}
        self._torn = False
        if path.is_file():
            content = path.read_bytes()
            self._torn = bool(content) and not content.endswith(b"\n")
            for line in content.splitlines():
                record = _parsed(line)
                if record is not None:
                    self._records[record.key] = record

    def get(self, key: str) -> Record | None:
        """The record of this key, if its job was finished."""
        return self._records.get(key)

    def add(self, record: Record) -> None:
        """Appends a record.

        **Raises:** `ValueError` if the result is not JSON, which knows no infinities; `OSError`.
        """
        line = json.dumps(dataclasses.asdict(record), allow_nan=False).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as stream:
            stream.write(b"\n" + line if self._torn else line)
            os.fsync(stream.fileno())
        self._torn = False
        self._records[record.key] = record


def _parsed(line: bytes) -> Record | None:
    """None for a line that is no whole record."""
    try:
        return Record(**json.loads(line))
    except (ValueError, TypeError):
        return None
