"""What is installed here: solvers, versions, licences."""

import dataclasses
import importlib.metadata
import importlib.util

from netgain.solvers.availability import Availability, Backend, probe

_LIBRARIES = ("netgain", "numpy", "scipy", "networkx", "cvxpy", "onnx", "python-flint", "onnxruntime", "torch")


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """`libraries` by name, with the version or None where absent; `backends`: the conic solvers."""

    libraries: dict[str, str | None]
    backends: tuple[Availability, ...]


def diagnose() -> Diagnosis:
    """Looks libraries up without importing them; licences are looked for only where the module is installed."""
    return Diagnosis({name: _version(name) for name in _LIBRARIES}, tuple(probe(backend) for backend in Backend))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
