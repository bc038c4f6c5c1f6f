"""Result files: JSON objects or lines of them, of schemas the report knows; all that is wrong is said at once."""

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from ..batch import outcome as batch_outcome

# What neither XML nor HTML can hold, and what turns the direction of text so that it reads as something else.
_NOT_TEXT = re.compile("[^\t\n\x20-\x7e\xa0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


BATCH = batch_outcome.SCHEMA
"""Lines of `netgain batch`, each with the result of a command inside."""


class ReportError(ValueError):
    """Results that cannot be reported; the text lists every one of them with what is wrong and what was expected."""


@dataclasses.dataclass(frozen=True, eq=False)
class Document:
    """One result. `origin`: its file, and the line where a file holds several; `path`: the file."""

    origin: str
    path: Path
    schema: str
    body: dict[str, Any]


def read_documents(paths: Iterable[Path], known: Iterable[str]) -> list[Document]:
    """The results in all files, in order. Lines of `netgain batch` stand for the results inside them.

    **Arguments:** `known`: the schemas that can be reported.

    **Raises:** `ReportError` naming all files that are missing, damaged, of unknown schema, or hold NaN or infinities.
    """
    documents, wrong = [], []
    schemas = frozenset(known)
    for path in paths:
        try:
            for origin, value in _values(path):
                try:
                    documents.append(_document(origin, path, value, schemas))
                except ReportError as error:
                    wrong.append(str(error))
        except ReportError as error:
            wrong.append(str(error))
    found = [document for _, group in itertools.groupby(documents, key=lambda document: document.path)
             for document in _unpacked(list(group))]
    wrong += [f"{document.origin} holds a result of the schema {_short(document.schema)}, which is not known."
              for document in found if document.schema not in schemas]
    if wrong:
        raise ReportError("\n".join(wrong))
    return found


def _unpacked(documents: list[Document]) -> list[Document]:
    """The documents of one file; lines of jobs become one document that lists them, and one for each result."""
    jobs = {document.body.get("id"): document for document in documents if document.schema == BATCH}
    if not jobs:
        return documents
    first = next(iter(jobs.values()))
    # A job that was begun anew has another line, which counts.
    listed = [{name: value for name, value in job.body.items() if name != "result"} for job in jobs.values()]
    found = [document for document in documents if document.schema != BATCH]
    for job in jobs.values():
        result = job.body.get("result")
        if isinstance(result, dict):
            found.append(dataclasses.replace(job, schema=str(result.get("schema")), body=result))
    return [dataclasses.replace(first, origin=str(first.path), body={"schema": BATCH, "jobs": listed}), *found]


def _values(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise ReportError(f"{path} is not text in UTF-8; expected the output of a command with --json.") from None
    if not text.strip():
        raise ReportError(f"{path} is empty; expected the output of a command with --json.")
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    # One object over several lines, as people format it, has no line that is a value of its own.
    if len(lines) == 1 or not lines[0][1].rstrip().endswith("}"):
        yield str(path), _parsed(text, str(path))
        return
    for number, line in lines:
        yield f"{path}, line {number}", _parsed(line, f"{path}, line {number}")


def _parsed(text: str, origin: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except _NotFiniteError as error:
        raise ReportError(f"{origin} holds {error}, which JSON does not know and netgain does not write.") from None
    except RecursionError:
        raise ReportError(f"{origin} is nested too deeply for a result.") from None
    except ValueError as error:
        raise ReportError(f"{origin} is not complete JSON ({error}); was it cut short?") from None
    if not _finite(value):
        raise ReportError(f"{origin} holds a number beyond float64; no command of netgain writes such numbers.")
    return value


class _NotFiniteError(Exception):
    pass


def _refuse_constant(name: str) -> NoReturn:
    raise _NotFiniteError(name)


def _finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**1023
    return not isinstance(value, float) or math.isfinite(value)


def _clean(value: Any) -> Any:
    """The same with nothing in texts that cannot be shown."""
    if isinstance(value, str):
        return _NOT_TEXT.sub("\ufffd", value)
    if isinstance(value, list):
        return [_clean(entry) for entry in value]
    if isinstance(value, dict):
        return {_clean(name): _clean(entry) for name, entry in value.items()}
    return value


def _document(origin: str, path: Path, value: Any, known: frozenset[str]) -> Document:
    if not isinstance(value, dict):
        raise ReportError(f"{origin} holds a JSON {_kind(value)}, expected an object with a schema.")
    schema = value.get("schema")
    if isinstance(schema, str) and schema in known:
        return Document(_clean(origin), path, schema, _clean(value))
    # Certificates are sealed by a hash of their content.
    if isinstance(schema, str) and "sha256" in value:
        raise ReportError(f"{origin} is a certificate ({_short(schema)}), expected a result: what the command printed "
                          "with --json. `--check` finds certificates by itself.")
    found = f"the schema {_short(schema)}" if schema is not None else "no schema"
    raise ReportError(f"{origin} has {found}; known are {', '.join(sorted(known))}.")


def _kind(value: Any) -> str:
    kinds = {list: "array", str: "string", bool: "truth value", type(None): "null"}
    return kinds.get(type(value), "number")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
