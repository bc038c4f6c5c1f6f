"""Files of certificates: JSON with a seal over its content, in which float64 numbers are read back exactly."""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PART = ".part"
"""How the name of a file ends while it is being written."""


class CertificateError(ValueError):
    """A certificate file cannot be read, or is not what it was when written; the text says how it differs."""


def sealed(body: dict[str, Any]) -> dict[str, Any]:
    """The body with its SHA-256."""
    return {**body, "sha256": _seal(body)}


def write_sealed(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Writes the JSON; an existing file is replaced only once the new one is complete."""
    target = Path(path)
    part = target.with_name(target.name + PART)
    try:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read_sealed(path: str | os.PathLike[str], schema: str) -> dict[str, Any]:
    """The body of a file of this schema.

    **Raises:** `CertificateError` if the file is missing, truncated, of another schema, or altered.
    """
    try:
        content = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CertificateError(f"{path}: the certificate cannot be read: {error}") from error
    try:
        body = json.loads(content)
        seal = body.pop("sha256", None) if isinstance(body, dict) else None
        intact = seal == _seal(body)
    except (ValueError, RecursionError) as error:
        raise CertificateError(f"{path}: not a complete JSON file ({error}); was it truncated?") from error
    if not isinstance(body, dict) or body.get("schema") != schema:
        found = body.get("schema") if isinstance(body, dict) else type(body).__name__
        raise CertificateError(f"{path}: expected a certificate of schema {schema!r}, found {found!r}.")
    if not intact:
        raise CertificateError(f"{path}: the content does not match its SHA-256: the file was altered after writing.")
    return body


def schema_of(path: str | os.PathLike[str]) -> str | None:
    """What a file says it is, to choose who reads it; None if it says nothing, which its reader will complain of."""
    try:
        body = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    schema = body.get("schema") if isinstance(body, dict) else None
    return schema if isinstance(schema, str) else None


@contextlib.contextmanager
def contents_explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """While a body is taken apart: whatever is missing or of the wrong kind becomes a `CertificateError`."""
    try:
        yield
    except CertificateError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CertificateError(f"{path}: a field is missing or of the wrong kind: {error!r}.") from error


def vector(values: Any) -> np.ndarray:
    """A JSON list of numbers."""
    if type(values) is not list:
        raise TypeError(f"{str(values)[:60]!r} is not a list of numbers")
    return np.array([number(value) for value in values], dtype=np.float64)


def number(value: Any) -> float:
    """A JSON number that float64 holds; conversions that Python would make of anything else are not wanted here."""
    if type(value) not in (int, float) or not math.isfinite(value) or float(value) != value:
        raise ValueError(f"{value!r} is not a finite float64 number")
    return float(value)


def integer(value: Any) -> int:
    """A JSON integer."""
    if type(value) is not int:
        raise ValueError(f"{value!r} is not an integer")
    return value


def _seal(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
