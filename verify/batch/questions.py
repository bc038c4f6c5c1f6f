"""What can be asked of a model: the commands of `netgain` themselves, with the options that they have."""

import dataclasses
import difflib
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

import typer

Scalar = str | int | float | bool

_SET_BY_BATCH = ("json", "certificate", "quiet")
_BESIDE_OPTIONS = ("time-limit",)
_WRITTEN = ("plot", "output")

# Where options and values are refused, a command raises this; typer exports only what derives from it.
_UsageError: Any = typer.BadParameter.__mro__[1]


class OptionError(ValueError):
    """An option that the command does not have, or a value that it does not take; the text says which."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """An option with its value.

    **Attributes:** `flag`: the option; `arguments`: it with its value, as the command takes them; `reads`: the path
    given, if the command reads a file there.
    """

    flag: str
    arguments: tuple[str, ...]
    reads: str | None = None


class Question:
    """A command that takes one model, and answers in JSON within a time limit."""

    def __init__(self, name: str, command: Any):
        self.name = name
        self._command = command
        self._options = {_long(option).removeprefix("--"): option
                         for option in command.params if option.param_type_name == "option"}

    @property
    def options(self) -> tuple[str, ...]:
        """Names that a job may give, as on the command line but without dashes in front."""
        return tuple(name for name in self._options if name not in (*_SET_BY_BATCH, *_BESIDE_OPTIONS))

    @property
    def answers(self) -> bool:
        """Whether the command is one that a batch can ask."""
        taken = [option.name for option in self._command.params if option.param_type_name == "argument"]
        return taken == ["model"] and {"json", "time-limit"} <= self._options.keys()

    def setting(self, name: str, value: Scalar) -> Setting:
        """The option with this value, as the command itself reads it.

        **Raises:** `OptionError`.
        """
        key = name.removeprefix("--").replace("_", "-")
        if key in _BESIDE_OPTIONS:
            raise OptionError(f"{name!r} limits the job: it stands beside 'options', not in them.")
        if key in _SET_BY_BATCH:
            raise OptionError(f"{name!r} is set by batch itself.")
        if key not in self.options:
            raise OptionError(f"{self.name} has no option {name!r}{nearest(key, self.options)}")
        option = self._options[key]
        flag = _long(option)
        if option.is_flag:
            return Setting(flag, self._switched(option, name, value))
        if isinstance(value, bool):
            raise OptionError(f"{name!r} takes a value, not {str(value).lower()}.")
        setting = Setting(flag, (f"{flag}={value}",))
        if not isinstance(self._read(setting, option, name, value), PurePath):
            return setting
        if key not in _WRITTEN:
            return dataclasses.replace(setting, reads=str(value))
        if Path(str(value)).name != str(value):
            raise OptionError(f"{name!r} is a file name without a folder, not {value!r}: it is kept with the job's "
                              "certificates.")
        return setting

    def require_whole(self, settings: Iterable[Setting]) -> None:
        """**Raises:** `OptionError` if the command requires more options than these."""
        arguments = [argument for setting in settings for argument in setting.arguments]
        try:
            self._command.make_context(self.name, ["model", *arguments])
        except _UsageError as error:
            raise OptionError(f"{self.name}: {error.format_message()}") from None

    def _switched(self, option: Any, name: str, value: Scalar) -> tuple[str, ...]:
        if not isinstance(value, bool):
            raise OptionError(f"{name!r} is true or false, not {value!r}.")
        return (_long(option),) if value else tuple(option.secondary_opts[:1])

    def _read(self, setting: Setting, option: Any, name: str, value: Scalar) -> Any:
        arguments = ["model", *setting.arguments]
        try:
            context = self._command.make_context(self.name, list(arguments))
        except _UsageError as error:
            if error.param not in (option, None):  # another option, one that is missing; the value has been read
                context = self._command.make_context(self.name, list(arguments), resilient_parsing=True)
            else:
                raise OptionError(f"{name!r} of {self.name} cannot be {value!r}: {error.message}") from None
        return context.params[option.name]


def questions_of(group: Any) -> dict[str, Question]:
    """The questions among the commands of a typer group."""
    found = [Question(name, command) for name, command in group.commands.items()]
    return {question.name: question for question in found if question.answers}


def nearest(name: str, known: Iterable[str]) -> str:
    """How a complaint about an unknown name ends: with the known name that is like it, or with all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}."


def _long(option: Any) -> str:
    return str(next((text for text in option.opts if text.startswith("--")), option.opts[0]))
