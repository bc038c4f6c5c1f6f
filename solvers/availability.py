"""Which conic solvers this machine has, and where their licences were looked for."""

import dataclasses
import enum
import importlib
import importlib.metadata
import importlib.util
import os
import pathlib


class Backend(enum.Enum):
    """A conic solver reached through cvxpy; the value is its module and distribution."""

    MOSEK = "mosek"
    CLARABEL = "clarabel"
    SCS = "scs"


class Licence(enum.Enum):
    """What is known about a solver's licence."""

    OK = "found"
    MISSING = "missing"
    NOT_NEEDED = "not needed"


class SolverUnavailable(RuntimeError):
    """A solver cannot run on this machine; the text says what was looked for, where, and what to do."""


@dataclasses.dataclass(frozen=True)
class Availability:
    """What was found of one solver. `remedy` is empty when `usable`."""

    name: str
    installed: bool
    version: str
    licence: Licence
    where_looked: tuple[str, ...]
    remedy: str

    @property
    def usable(self) -> bool:
        return self.installed and self.licence is not Licence.MISSING

    def require(self) -> None:
        """**Raises:** `SolverUnavailable` unless `usable`."""
        if not self.usable:
            raise SolverUnavailable(self.remedy)


_FREE = "Clarabel and SCS need no licence and solve the same problem."


def probe(backend: Backend) -> Availability:
    """Looks for the solver and, for MOSEK, tries to check out a licence."""
    installed = importlib.util.find_spec(backend.value) is not None
    version = importlib.metadata.version(backend.value) if installed else ""
    name = backend.name
    if backend is not Backend.MOSEK:
        remedy = "" if installed else f"{name} is not installed. Install it with `pip install {backend.value}`."
        return Availability(name, installed, version, Licence.NOT_NEEDED, (), remedy)
    where = _mosek_places()
    if not installed:
        found = any(pathlib.Path(place.rpartition("=")[2]).is_file() for place in where)
        remedy = f"MOSEK is not installed. Install it with `pip install mosek`; it also needs a licence. {_FREE}"
        return Availability(name, False, "", Licence.OK if found else Licence.MISSING, where, remedy)
    reason = _mosek_refusal()
    if reason is None:
        return Availability(name, True, version, Licence.OK, where, "")
    remedy = (f"MOSEK {version} is installed but gave no licence ({reason}). Looked in {' and in '.join(where)}. "
              f"Put the licence file at one of these places. {_FREE}")
    return Availability(name, True, version, Licence.MISSING, where, remedy)


def _mosek_places() -> tuple[str, ...]:
    """The places MOSEK reads; the variable may also name a licence server as port@host."""
    named = os.environ.get("MOSEKLM_LICENSE_FILE")
    variable = f"MOSEKLM_LICENSE_FILE={named}" if named else "MOSEKLM_LICENSE_FILE (not set)"
    return variable, str(pathlib.Path.home() / "mosek" / "mosek.lic")


def _mosek_refusal() -> str | None:
    """Why MOSEK refuses a licence, in its own words; None if it grants one."""
    mosek = importlib.import_module("mosek")
    try:
        with mosek.Env() as environment:
            environment.checkoutlicense(mosek.feature.pton)
    except mosek.Error as error:
        return " ".join(str(error).split())
    return None
