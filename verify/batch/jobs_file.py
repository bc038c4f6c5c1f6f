"""The file of jobs: YAML that says which questions to ask about which models; everything wrong in it is told at once.

    models: [models/*.onnx]             # paths or patterns, relative to the file
    defaults: {time_limit: 60, memory_limit: 2 GiB, threads: 1, grace: 10, attempts: 1}
    questions:
      - verify
      - question: lipschitz
        options: {seed: [0, 1, 2], mode: [neuron, spectral]}     # a list is an axis: six jobs for every model
      - question: contractivity
        models: [models/*_ode.npz]      # in place of those above
        time_limit: 30                  # in place of the default
"""

import dataclasses
import glob
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeGuard, TypeVar

from netgain.layers.formats import READERS
from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from .job import INPUTS, InputFile, Job, JobLimits, input_file, model_files
from .questions import OptionError, Question, Scalar, Setting, nearest

_Place = tuple[str | int, ...]
_Form = TypeVar("_Form", bound=BaseModel)
_Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(strict=True, ge=1)]
_Path = Annotated[str, Field(min_length=1)]


class JobsFileError(ValueError):
    """A file of jobs cannot be used; the text lists everything wrong with it, each with its line."""


class _Limits(BaseModel):
    model_config = ConfigDict(extra="forbid")
    time_limit: _Seconds | None = None
    grace: _Seconds | None = None
    memory_limit: Annotated[ByteSize, Field(gt=0)] | None = None
    threads: _Count | None = None
    attempts: _Count | None = None

    def over(self, limits: JobLimits) -> JobLimits:
        """Those limits, but for what is said here."""
        said = self.model_dump(include=set(_Limits.model_fields), exclude_none=True)
        return dataclasses.replace(limits, **said)


class _Ask(_Limits):
    question: str
    options: dict[str, Any] = Field(default={})
    models: Annotated[list[_Path], Field(min_length=1)] | None = None


class _Jobs(BaseModel):
    model_config = ConfigDict(extra="forbid")
    models: list[_Path] = Field(default=[])
    defaults: Any = None
    questions: Annotated[list[Any], Field(min_length=1)]


def read_jobs(path: Path, questions: Mapping[str, Question], version: str) -> list[Job]:
    """The jobs of a file, without repetitions: for every question, its models times all its axes.

    **Raises:** `JobsFileError`.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = YAML(typ="safe", pure=True).load(text)
        root = YAML(typ="safe", pure=True).compose(text)
    except (OSError, UnicodeDecodeError) as error:
        raise JobsFileError(f"{path} cannot be read: {error}.") from None
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise JobsFileError(f"{path}{line}: {error.problem or error.context}.") from None
    except YAMLError as error:
        raise JobsFileError(f"{path} is no YAML: {error}.") from None
    if not isinstance(data, dict):
        raise JobsFileError(f"{path} holds no mapping with 'models' and 'questions'.")
    reading = _Reading(path, root, questions, version)
    jobs = {job.id: job for job in reading.jobs(data)}
    if reading.offences:
        raise JobsFileError("\n".join(f"{path}, line {line}: {text}" for line, text in sorted(reading.offences)))
    return list(jobs.values())


class _Reading:
    """Makes jobs of the data, and collects what is wrong with it."""

    def __init__(self, path: Path, root: Any, questions: Mapping[str, Question], version: str):
        self.folder = path.parent
        self.offences: list[tuple[int, str]] = []
        self._root, self._questions, self._version = root, questions, version
        self._files: dict[str, tuple[InputFile, ...]] = {}

    def jobs(self, data: dict[Any, Any]) -> Iterator[Job]:
        """What is not understood is left out, and among the offences."""
        self._form(_Jobs, data, ())
        defaults = self._form(_Limits, data.get("defaults", {}), ("defaults",)) if "defaults" in data else None
        limits = JobLimits() if defaults is None else defaults.over(JobLimits())
        patterns, asks = data.get("models"), data.get("questions")
        models = self._models(patterns, ("models",)) if _texts(patterns) else []
        for index, item in enumerate(asks if isinstance(asks, list) else []):
            place: _Place = ("questions", index)
            ask = self._form(_Ask, {"question": item} if isinstance(item, str) else item, place)
            if ask is not None:
                own = models if ask.models is None else self._models(ask.models, (*place, "models"))
                if ask.models is None and not patterns:
                    self._offend(place, "there are no 'models', neither here nor at the top.")
                yield from self._asked(ask, own, ask.over(limits), place)

    def _asked(self, ask: _Ask, models: list[str], limits: JobLimits, place: _Place) -> Iterator[Job]:
        question = self._questions.get(ask.question)
        if question is None:
            self._offend((*place, "question"), f"{ask.question!r} is no question"
                                               f"{nearest(ask.question, self._questions)}")
            return
        axes = {name: self._axis(question, name, values, (*place, "options", name))
                for name, values in ask.options.items()}
        if not all(axes.values()):
            return
        flags = [axis[0].setting.flag for axis in axes.values()]
        if repeated := {flag for flag in flags if flags.count(flag) > 1}:
            self._offend((*place, "options"), f"{', '.join(sorted(repeated))} is given twice.")
            return
        try:
            question.require_whole(axis[0].setting for axis in axes.values())
        except OptionError as error:
            self._offend(place, str(error))
            return
        for model, chosen in itertools.product(models, itertools.product(*axes.values())):
            yield Job(
                model=model, question=question.name, limits=limits, version=self._version,
                options={name: choice.value for name, choice in zip(axes, chosen, strict=True)},
                arguments=tuple(argument for choice in chosen for argument in choice.setting.arguments),
                files=(*self._files[model], *(choice.file for choice in chosen if choice.file is not None)),
            )

    def _axis(self, question: Question, name: str, values: Any, place: _Place) -> list["_Choice"]:
        """The values of an option; empty after an offence."""
        listed = values if isinstance(values, list) else [values]
        if not listed:
            self._offend(place, "an empty list makes no job; leave the option out for its default.")
        choices = []
        for value in listed:
            if not isinstance(value, Scalar):
                self._offend(place, f"{value!r} is no number, text, true or false.")
                continue
            try:
                choices.append(self._choice(question.setting(name, value), value))
            except (OptionError, OSError) as error:
                self._offend(place, str(error))
        return choices if len(choices) == len(listed) else []

    def _choice(self, setting: Setting, value: Scalar) -> "_Choice":
        if setting.reads is None:
            return _Choice(value, setting, None)
        path = self.folder / setting.reads
        file = input_file(path, f"{setting.flag.removeprefix('--')}/{path.name}")
        return _Choice(value, dataclasses.replace(setting, arguments=(f"{setting.flag}={INPUTS}/{file.name}",)), file)

    def _models(self, patterns: list[str], place: _Place) -> list[str]:
        """Paths relative to the file of jobs, those of a pattern in order, without repetitions."""
        found: dict[str, None] = {}
        for index, pattern in enumerate(patterns):
            matches = sorted(glob.glob(pattern, root_dir=self.folder, recursive=True)) if glob.has_magic(pattern) else (
                [pattern])
            if not matches:
                self._offend((*place, index), f"no file matches {pattern!r} in {self.folder.resolve()}.")
            for match in matches:
                if self._usable(match, (*place, index)):
                    found[Path(match).as_posix()] = None
        return list(found)

    def _usable(self, model: str, place: _Place) -> bool:
        path = self.folder / model
        try:
            if path.suffix.lower() not in READERS:
                raise OSError(f"{model!r} is no model: known are files ending in {', '.join(READERS)}.")
            if not path.is_file():
                raise OSError(f"{model!r} is no file in {self.folder.resolve()}.")
            self._files[Path(model).as_posix()] = model_files(path)
        except OSError as error:
            self._offend(place, str(error))
            return False
        return True

    def _form(self, form: type[_Form], data: Any, place: _Place) -> _Form | None:
        try:
            return form.model_validate(data)
        except ValidationError as error:
            for detail in error.errors():
                where = (*place, *detail["loc"])
                if detail["type"] == "extra_forbidden":
                    self._offend(where, f"unknown key{nearest(str(detail['loc'][-1]), form.model_fields)}")
                elif detail["type"] == "missing":
                    self._offend(where, "is missing.")
                elif detail["type"] in ("model_type", "dict_type"):
                    self._offend(where, f"{detail['input']!r} is no mapping.")
                else:
                    self._offend(where, f"{detail['msg']}, not {detail['input']!r}.")
            return None

    def _offend(self, place: _Place, text: str) -> None:
        name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")
        self.offences.append((self._line(place), f"{name}: {text}" if name else text))

    def _line(self, place: _Place) -> int:
        """Where the key or item stands, or what comes nearest to it."""
        node, line = self._root, self._root.start_mark.line
        for step in place:
            if isinstance(step, int) and isinstance(node.value, list) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line
                continue
            pairs = node.value if isinstance(node.value, list) else []
            pair = next((pair for pair in pairs if isinstance(pair, tuple) and pair[0].value == step), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line, pair[1]
        return int(line) + 1


@dataclasses.dataclass(frozen=True)
class _Choice:
    """A value on an axis, and the file that it names if the command reads one."""

    value: Scalar
    setting: Setting
    file: InputFile | None


def _texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)
