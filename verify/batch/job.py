"""A job: one question about one model, complete enough to be answered on another machine."""

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path

from netgain.layers import ModelError
from netgain.layers.formats.onnx_file import external_files

from .questions import Scalar

INPUTS = "../input"
"""Where a job finds the files it reads, seen from where it runs and writes."""

_ID_DIGITS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobLimits:
    """What a job may take.

    **Attributes:** `time_limit`: seconds, which the command is told; `grace`: seconds more, after half of which it is
    interrupted, to hand over what it has proved by then, and after all of which it is killed; `memory_limit`: bytes
    that its processes may hold, or None; `threads`: of linear algebra, and the cores it is counted for; `attempts`: how
    often it is begun if its process dies.
    """

    time_limit: float = 600.0
    grace: float = 10.0
    memory_limit: int | None = None
    threads: int = 1
    attempts: int = 1


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file that a job reads.

    **Attributes:** `path`: here; `name`: relative to the folder of inputs, where the job finds it.
    """

    path: Path
    name: str
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What is asked.

    **Attributes:** `model`: the path, relative to the file of jobs; `question`: a command; `options`: as they were
    given; `arguments`: the same for the command, files being named relative to the folder of inputs; `files`: what the
    job reads, the model first; `version`: of netgain.
    """

    model: str
    question: str
    options: dict[str, Scalar]
    arguments: tuple[str, ...]
    files: tuple[InputFile, ...]
    limits: JobLimits
    version: str

    @property
    def id(self) -> str:
        """Changes with whatever changes the answer: contents of files, question, options, time limit, version."""
        content = [self.version, self.model, self.question, self.arguments, self.limits.time_limit,
                   [(file.name, file.sha256) for file in self.files]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:_ID_DIGITS]

    @property
    def model_argument(self) -> str:
        """The model, seen from where the job runs."""
        return f"{INPUTS}/{self.files[0].name}"

    @property
    def folder(self) -> str:
        """Of what the job writes."""
        return f"{Path(self.model).stem}-{self.question}-{self.id}"


@dataclasses.dataclass(frozen=True)
class Parcel:
    """A job with the contents of its files, ready to travel.

    **Attributes:** `trouble`: why there are no contents, or empty.
    """

    job: Job
    contents: tuple[bytes, ...] = ()
    trouble: str = ""


def pack(job: Job) -> Parcel:
    """Reads the files of a job, which must be what they were when the jobs were listed."""
    contents = []
    for file in job.files:
        try:
            content = file.path.read_bytes()
        except OSError as error:
            return Parcel(job, trouble=f"{file.path} cannot be read any more: {error.strerror or error}.")
        if hashlib.sha256(content).hexdigest() != file.sha256:
            return Parcel(job, trouble=f"{file.path} has changed since the batch began.")
        contents.append(content)
    return Parcel(job, tuple(contents))


def model_files(model: Path) -> tuple[InputFile, ...]:
    """The model, and files beside it that hold its weights.

    **Raises:** `OSError`.
    """
    files = [input_file(model, f"model/{model.name}")]
    if model.suffix.lower() == ".onnx":
        # What is wrong with a model, the command says: as the answer of its jobs, while the others go on.
        with contextlib.suppress(ModelError):
            folder = model.resolve().parent
            for path in external_files(model):
                files.append(input_file(path, f"model/{path.relative_to(folder).as_posix()}"))
    return tuple(files)


def input_file(path: Path, name: str) -> InputFile:
    """**Raises:** `OSError`."""
    with path.open("rb") as stream:
        return InputFile(path, name, hashlib.file_digest(stream, "sha256").hexdigest())
