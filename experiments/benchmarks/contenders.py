"""What is compared: our solvers, the conic backends and the peers, each with the module it needs."""

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from netgain.layers import Graph
from netgain.solvers.closed_form import ClosedForm, Scaled
from netgain.solvers.conic import Backend, Conic, Form
from netgain.solvers.dual_scaling import DualScaling
from netgain.solvers.interior_point import InteriorPoint
from netgain.solvers.result import Limits, OnProgress, Solution

from .peers import Claim, Eclipse, Sdpa


class Solver(Protocol):
    """Returns multipliers, and so can be checked."""

    def solve(self, scaled: Scaled, limits: Limits, on_progress: OnProgress | None = None) -> Solution: ...


@runtime_checkable
class Claimant(Protocol):
    """Returns a number only."""

    def claim(self, graph: Graph) -> Claim: ...


@dataclasses.dataclass(frozen=True)
class Contender:
    """`module`: what must be importable; `peer`: whether it is somebody else's tool from start to end."""

    name: str
    make: Callable[[], Solver | Claimant]
    module: str
    distribution: str
    peer: bool = False

    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


def _conic(backend: Backend, form: Form, name: str) -> Contender:
    return Contender(name, lambda: Conic(backend, form), backend.value, backend.value)


def _peer(name: str, tool: Eclipse | Sdpa) -> Contender:
    return Contender(name, lambda: tool, tool.MODULE, tool.DISTRIBUTION, peer=True)


# The first is what the others are compared with.
CONTENDERS = (
    Contender("interior point", InteriorPoint, "netgain.solvers", "netgain"),
    Contender("dual scaling", DualScaling, "netgain.solvers", "netgain"),
    Contender("closed form", ClosedForm, "netgain.solvers", "netgain"),
    _conic(Backend.CLARABEL, Form.ONE_BLOCK, "Clarabel, one block"),
    _conic(Backend.CLARABEL, Form.CHAIN, "Clarabel, chain"),
    _conic(Backend.SCS, Form.ONE_BLOCK, "SCS, one block"),
    _conic(Backend.SCS, Form.CHAIN, "SCS, chain"),
    _conic(Backend.MOSEK, Form.CHAIN, "MOSEK, chain"),
    _peer("SDPA, one block", Sdpa(Form.ONE_BLOCK)),
    _peer("SDPA, chain", Sdpa(Form.CHAIN)),
    _peer("ECLipsE", Eclipse("ECLipsE")),
    _peer("ECLipsE-Fast", Eclipse("ECLipsE_Fast")),
)
REFERENCE = CONTENDERS[0].name


def contender(name: str) -> Contender:
    """**Raises:** `ValueError` for a name that is not one of `CONTENDERS`."""
    for candidate in CONTENDERS:
        if candidate.name == name:
            return candidate
    raise ValueError(f"No contender is called {name!r}; there are {', '.join(c.name for c in CONTENDERS)}.")
