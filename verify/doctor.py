"""What is installed here: solvers, versions, licences, and the machine they run on."""

import dataclasses
import importlib.metadata
import os
import platform

import psutil
from netgain.solvers.availability import Availability, Backend, probe
from threadpoolctl import threadpool_info

_LIBRARIES = (
    "netgain", "numpy", "scipy", "networkx", "cvxpy", "onnx", "python-flint", "onnxruntime", "torch",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where results come from; `memory` in bytes, `blas` with its threads."""

    system: str
    python: str
    cores: int
    memory: int
    blas: str


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """`libraries` by name, with the version or None where absent; `backends`: the conic solvers."""

    machine: Machine
    libraries: dict[str, str | None]
    backends: tuple[Availability, ...]


def diagnose() -> Diagnosis:
    """Looks libraries up without importing them; licences are looked for only where the module is installed."""
    libraries = {name: _version(name) for name in _LIBRARIES}
    return Diagnosis(_machine(), libraries, tuple(probe(backend) for backend in Backend))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine() -> Machine:
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    names = sorted({f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads" for pool in pools})
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cores=os.cpu_count() or 1,
        memory=int(psutil.virtual_memory().total),
        blas="; ".join(names) or "not recognised",
    )
