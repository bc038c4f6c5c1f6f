"""The fields of a result, read by type; those that nobody reads are listed in the end, so that nothing is dropped."""

from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")
_MOST_SHOWN = 8


class FieldError(ValueError):
    """A field is missing or of the wrong kind; the text names it, what it holds and what was expected."""


class Fields:
    """A JSON object whose fields are taken one by one.

    Every method returns the field of this name, and raises `FieldError` where it is of another kind, or missing and not
    optional; null counts as missing.
    """

    def __init__(self, body: dict[str, Any], path: str = ""):
        self._body, self._path = body, path
        self._taken: set[str] = set()
        self._inner: dict[str, list[Fields]] = {}

    def text(self, name: str) -> str:
        return self._required(name, self.text_or_none(name), "a text")

    def text_or_none(self, name: str) -> str | None:
        value: str | None = self._take(name, "a text", lambda entry: isinstance(entry, str))
        return value

    def number(self, name: str) -> float:
        return self._required(name, self.number_or_none(name), "a number")

    def number_or_none(self, name: str) -> float | None:
        value = self._take(name, "a number", _is_number)
        return None if value is None else float(value)

    def integer(self, name: str) -> int:
        value: int | None = self._take(name, "a whole number", lambda v: type(v) is int)
        return self._required(name, value, "a whole number")

    def flag(self, name: str) -> bool:
        value: bool | None = self._take(name, "true or false", lambda v: isinstance(v, bool))
        return self._required(name, value, "true or false")

    def numbers(self, name: str) -> list[float]:
        """A list of numbers; empty if missing."""
        value = self._take(name, "a list of numbers", lambda v: isinstance(v, list) and all(map(_is_number, v)))
        return [float(entry) for entry in value or []]

    def optional_numbers(self, name: str) -> list[float | None]:
        """A list of numbers and nulls; empty if missing."""
        value = self._take(name, "a list of numbers or nulls",
                           lambda v: isinstance(v, list) and all(e is None or _is_number(e) for e in v))
        return [None if entry is None else float(entry) for entry in value or []]

    def texts(self, name: str) -> list[str]:
        """A list of texts; empty if missing."""
        value = self._take(name, "a list of texts",
                           lambda v: isinstance(v, list) and all(isinstance(entry, str) for entry in v))
        return list(value or [])

    def object(self, name: str) -> "Fields":
        return self._required(name, self.object_or_none(name), "an object")

    def object_or_none(self, name: str) -> "Fields | None":
        value = self._take(name, "an object", lambda v: isinstance(v, dict))
        if value is None:
            return None
        if name not in self._inner:
            self._inner[name] = [Fields(value, self._at(name))]
        return self._inner[name][0]

    def objects(self, name: str) -> list["Fields"]:
        """A list of objects; empty if missing."""
        value = self._take(name, "a list of objects",
                           lambda v: isinstance(v, list) and all(isinstance(entry, dict) for entry in v))
        if name not in self._inner:
            self._inner[name] = [Fields(entry, f"{self._at(name)}[{k}]") for k, entry in enumerate(value or [])]
        return self._inner[name]

    def anything(self, name: str) -> Any:
        """The value as it is, of any kind."""
        self._taken.add(name)
        return self._body.get(name)

    def names(self) -> list[str]:
        """The names of all fields."""
        return list(self._body)

    def ignore(self, *names: str) -> None:
        """These fields say nothing that others do not."""
        self._taken.update(names)

    def rest(self) -> list[tuple[str, str]]:
        """Name and content of every field that was not taken, also inside of those that were."""
        lines = []
        for name, value in self._body.items():
            if name in self._inner:
                lines += [line for inner in self._inner[name] for line in inner.rest()]
            elif name not in self._taken:
                lines += flat(self._at(name), value)
        return lines

    def _take(self, name: str, expected: str, fits: Callable[[Any], bool]) -> Any:
        self._taken.add(name)
        value = self._body.get(name)
        if value is not None and not fits(value):
            raise FieldError(f"`{self._at(name)}` is {content_of(value)}, expected {expected}")
        return value

    def _required(self, name: str, value: _T | None, expected: str) -> _T:
        if value is None:
            raise FieldError(f"`{self._at(name)}` is missing, expected {expected}")
        return value

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name


def flat(path: str, value: Any) -> list[tuple[str, str]]:
    """A value of any kind as lines of a table: one for each number, text, or list of them."""
    if isinstance(value, dict) and value:
        return [line for name, entry in value.items() for line in flat(f"{path}.{name}", entry)]
    nested = isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value)
    if nested and _numbers_in(value) is None:
        return [line for k, entry in enumerate(value) for line in flat(f"{path}[{k}]", entry)]
    return [(path, content_of(value))]


def content_of(value: Any) -> str:
    """A few words for a value: a long list by its size and range."""
    if isinstance(value, list):
        numbers = _numbers_in(value)
        if numbers is not None and (len(numbers) > _MOST_SHOWN or len(numbers) != len(value)):
            return f"{len(numbers)} numbers from {min(numbers):.6g} to {max(numbers):.6g}" if numbers else "nothing"
        if len(value) > _MOST_SHOWN:
            return f"{', '.join(map(content_of, value[:_MOST_SHOWN]))}, and {len(value) - _MOST_SHOWN} more"
        return ", ".join(map(content_of, value)) or "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "an object" if value else "nothing"
    return "nothing" if value is None else str(value)


def _numbers_in(value: list[Any]) -> list[float] | None:
    """All numbers of an array of any shape; None if it holds anything else."""
    found: list[float] = []
    for entry in value:
        inner = [entry] if _is_number(entry) else _numbers_in(entry) if isinstance(entry, list) else None
        if inner is None:
            return None
        found += inner
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
