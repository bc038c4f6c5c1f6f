"""What commands share: options that mean the same everywhere, reading the model, writing certificates and JSON."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import typer
from netgain.layers.formats import Source, describe_source

from .certificate import CertificateError
from .outcomes import ExitCode, fail
from .result_json import refusal_json

_Content = TypeVar("_Content")

Model = Annotated[Path, typer.Argument(help="Network file: .onnx, .npz, .mat, .nnet or .pt.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout instead of tables.")]
TimeLimit = Annotated[float, typer.Option(help="Seconds for everything, from reading to proving.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr; errors only.")]


class Saved(Protocol):
    """A certificate of any kind."""

    def save(self, path: str | os.PathLike[str]) -> None: ...


def require_limits(tolerance: float, time_limit: float) -> None:
    """**Raises:** `typer.BadParameter` for a tolerance outside (0, 1) or a time that is not positive."""
    if not 0 < tolerance < 1:
        raise typer.BadParameter(f"{tolerance} is not between 0 and 1.", param_hint="--tolerance")
    if not time_limit > 0:
        raise typer.BadParameter(f"{time_limit} is not a positive number of seconds.", param_hint="--time-limit")


def read_from(reader: Callable[[Path], _Content], model: Path) -> tuple[_Content, Source]:
    """What the reader makes of the file, and where it came from."""
    try:
        return reader(model), describe_source(model)
    except OSError as error:
        fail(ExitCode.MODEL, f"{model} cannot be read: {error.strerror or error}.")


def read_claim(reader: Callable[[Path], _Content], path: Path, as_json: bool) -> _Content:
    """What the reader makes of a certificate; of one that is refused, JSON says so before the error goes on."""
    try:
        return reader(path)
    except CertificateError as error:
        if as_json:
            print_json(refusal_json(error))
        raise


def require_writable(target: Path, model: Path, named: bool) -> None:
    """Before a long solve, not after it. `named`: whether the target was given by `--certificate`."""
    try:
        if target.exists() and not target.is_file():
            raise OSError("it exists and is not a regular file")
        if target.exists() and model.exists() and target.samefile(model):
            raise OSError("it is the model")
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        where = "" if named else " Name another place with --certificate."
        fail(ExitCode.USAGE, f"The certificate cannot be written to {target}: {error.strerror or error}.{where}")


def save(certificate: Saved | None, target: Path) -> tuple[str, str]:
    """The path written, and what went wrong: a result of hours is shown even if its certificate cannot be kept."""
    if certificate is None:
        return "", ""
    try:
        certificate.save(target)
    except OSError as error:
        return "", f"The certificate could not be written to {target}: {error.strerror or error}."
    return str(target), ""


def print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content, allow_nan=False))
