"""Certificates that results name, and whether they were proved anew while the page was made.

`netgain check` is run on the certificate and the model, in a process of its own: the report knows no proof better than
anybody else can have it.
"""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from netgain.layers import ModelError
from netgain.layers.formats import describe_source

from .content import CertificateStatus, Standing

Covers = Callable[[dict[str, Any]], str | None]
"""What the checker's answer says of the result: None if it proves the result's claim, else how they differ."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a result says a certificate proves.

    **Attributes:** `certificate`: the path it was written to; `model`: the path of the network's file; `sha256`: of
    that file; `statement`: for people; `covers`: compares the checker's answer with the result.
    """

    certificate: str
    model: str
    sha256: str
    statement: str
    covers: Covers


@dataclasses.dataclass(frozen=True)
class Checker:
    """Proves certificates anew, or says that nobody did.

    **Attributes:** `date`: of the check, None where nothing is to be checked; `models`: files by their SHA-256, in
    place of the paths that results name; `say`: told what is going on.
    """

    date: str | None = None
    models: dict[str, Path] = dataclasses.field(default_factory=dict)
    say: Callable[[str], None] = lambda text: None

    def status(self, claim: Claim, folder: Path) -> CertificateStatus:
        """What is known of a claim of a result in this folder."""

        def standing(kind: Standing, text: str) -> CertificateStatus:
            return CertificateStatus(claim.certificate, kind, claim.statement, text)

        if self.date is None:
            return standing(Standing.NOT_CHECKED, "The result says it is proved; nobody checked that for this page. "
                                                  "`netgain report --check` does.")
        certificate = _existing(claim.certificate, folder)
        if certificate is None:
            return standing(Standing.NOT_CHECKED, f"Not re-checked: {claim.certificate} is neither in {folder} nor in "
                                                  "the current folder.")
        model = self.models.get(claim.sha256) or _existing(claim.model, folder)
        if model is None:
            return standing(Standing.NOT_CHECKED, f"Not re-checked: the model {claim.model} is not there. Name its "
                                                  "file with --model.")
        try:
            sha256 = describe_source(model).sha256
        except ModelError as error:
            return standing(Standing.NOT_CHECKED, f"Not re-checked: {error}")
        if sha256 != claim.sha256:
            return standing(Standing.NOT_CHECKED, f"Not re-checked: {model} is another file than the result is about; "
                                                  f"its SHA-256 is {sha256}. Name the right one with --model.")
        self.say(f"checking {certificate}")
        body, trouble = _checked(certificate, model)
        if body is None:
            return standing(Standing.NOT_CHECKED, f"Not re-checked: {trouble}")
        if body.get("proved") is not True:
            return standing(Standing.REFUSED, f"Refused on {self.date}: {body.get('explanation')}")
        if (difference := claim.covers(body)) is not None:
            return standing(Standing.REFUSED, f"The certificate holds, but is not of this result: {difference}")
        arithmetic = body.get("arithmetic")
        how = f", in {'double precision' if arithmetic == 'double' else f'balls of {arithmetic}'}" if arithmetic else ""
        return standing(Standing.PROVED_ANEW, f"Proved anew on {self.date}{how}, from {certificate} and {model}.")


def models_by_hash(paths: Iterable[Path]) -> dict[str, Path]:
    """Model files by the SHA-256 that results name.

    **Raises:** `ModelError` for a file that is missing or no model.
    """
    return {describe_source(path).sha256: path for path in paths}


def _existing(path: str, folder: Path) -> Path | None:
    """The file a result names, beside the result or from the current folder."""
    candidates = [folder / path, Path(path)]
    try:
        return next((candidate for candidate in candidates if candidate.is_file()), None)
    except (OSError, ValueError):  # a name that no file can have
        return None


def _checked(certificate: Path, model: Path) -> tuple[dict[str, Any] | None, str]:
    """The answer of `netgain check`, or why there is none."""
    files = [str(certificate.resolve()), str(model.resolve())]
    command = [sys.executable, "-m", "netgain.verify", "check", *files, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    try:
        body = json.loads(done.stdout)
    except ValueError:
        return None, done.stderr.strip() or f"`netgain check` ended with the exit code {done.returncode}."
    return (body, "") if isinstance(body, dict) else (None, "`netgain check` gave no answer.")

