"""What an entry works with: the request, the journal, and jobs that are not run twice."""

import dataclasses
import datetime
import functools
import importlib.metadata
import importlib.util
import io
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from netgain.layers import ModelError
from netgain.solvers.availability import SolverUnavailable
from netgain.verify.channelwise import ModeError

from ..data import Dataset, sha256
from .journal import Journal, Record, key_of

Say = Callable[[str], None]


class NeedsError(RuntimeError):
    """Something an entry needs is not there: an extra, data, or weights; the text says what and how to get it."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for. `weights`: a folder of the authors' weights, or None for our own networks; `data`: see
    `experiments.data.load`; `full`: the sizes of the paper, where they are reduced otherwise."""

    out: Path
    weights: Path | None = None
    data: str = "npm"
    full: bool = False
    seed: int = 0


class Context:
    """One run of one entry. A job that was finished, now or by an earlier run, is not run again.

    After Ctrl-C (`stopped`) jobs that are not finished are left out, so that what there is can be shown.
    """

    def __init__(self, entry: str, request: Request, say: Say, interrupted: Callable[[], bool] = lambda: False) -> None:
        self.entry, self.request, self.say = entry, request, say
        # Tables of the authors' weights and of ours are different tables.
        self.folder = request.out / (entry if request.weights is None else f"{entry}-weights")
        self.journal = Journal(self.folder / "journal.jsonl")
        self.stopped = False
        self.seconds = 0.0
        self.notes: list[str] = []
        self.ran: list[str] = []
        self.missing: list[str] = []
        self._interrupted = interrupted

    def job(self, name: str, inputs: Mapping[str, Any], run: Callable[[], Any],
            holds: Callable[[Any], bool] = lambda result: True) -> Any:
        """What `run` returns, as JSON, or what it returned when it was run before; None if it could not be done.

        **Arguments:** `inputs`: all that the result depends on, as JSON; `holds`: whether an earlier result is still
        good.
        """
        key = key_of(self.entry, name, inputs)
        found = self.journal.get(key)
        if found is not None and holds(found.result):
            self.seconds += found.seconds
            return found.result
        if self.stopped or self._interrupted():
            return self._left(name, "interrupted")
        self.say(f"{self.entry}: {name}")
        begin = time.perf_counter()
        try:
            result = run()
        except KeyboardInterrupt:
            return self._left(name, "interrupted")
        except (ModelError, ModeError, SolverUnavailable, MemoryError, ArithmeticError, np.linalg.LinAlgError) as error:
            self.notes.append(f"{name}: not computed. {error}")
            self.missing.append(name)
            return None
        if self._interrupted():
            # Solvers that are interrupted hand over what they have: not what an undisturbed run would have found.
            return self._left(name, "interrupted")
        seconds = time.perf_counter() - begin
        self.journal.add(Record(name, key, result, seconds))
        self.seconds += seconds
        self.ran.append(name)
        return result

    def weights(self, name: str, inputs: Mapping[str, Any], train: Callable[[], Mapping[str, np.ndarray]]
                ) -> dict[str, np.ndarray] | None:
        """Likewise of a training, whose arrays are kept in the file weights/NAME.npz of the folder."""
        path = self.folder / "weights" / f"{name.replace(' ', '_')}.npz"

        def write() -> dict[str, str]:
            stream = io.BytesIO()
            np.savez(stream, **train())  # type: ignore[arg-type]
            replace(path, stream.getvalue())
            return {"sha256": sha256(stream.getvalue())}

        def is_kept(result: dict[str, str]) -> bool:
            return path.is_file() and sha256(path.read_bytes()) == result["sha256"]

        if self.job(f"train {name}", inputs, write, is_kept) is None:
            return None
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data set the request names.

        **Raises:** `DataError` if it cannot be had.
        """
        from ..cifar import load_images

        self.say(f"{self.entry}: reading the data set {self.request.data}")
        return load_images(self.request.data)

    @property
    def complete(self) -> bool:
        """Whether every job was done."""
        return not self.stopped and not self.missing

    def made(self, seeds: Sequence[int]) -> dict[str, Any]:
        """The entry `made` of a table; seconds are of all jobs, in whichever run they were done."""
        return {
            "netgain": importlib.metadata.version("netgain"),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, Python "
                       f"{platform.python_version()}",
            "seconds": self.seconds,
            "seeds": list(seeds),
        }

    def _left(self, name: str, why: str) -> None:
        self.stopped = True
        self.missing.append(name)
        self.notes.append(f"{name}: {why}; the same command goes on from here.")


def require_modules(names: Sequence[str], extra: str, purpose: str) -> None:
    """**Raises:** `NeedsError` naming the extra if one of the modules is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise NeedsError(f"{purpose} needs {' and '.join(missing)}, which is not installed: "
                         f"pip install 'netgain[{extra}]'.")


def replace(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
