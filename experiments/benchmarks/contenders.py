"""What is compared: our solvers and modes, the conic backends and the peers, each with the module it needs."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from netgain.layers import Graph
from netgain.solvers.closed_form import ClosedForm, Scaled
from netgain.solvers.conic import Backend, Conic, Form
from netgain.solvers.dual_scaling import DualScaling
from netgain.solvers.family_conic import FamilyConic
from netgain.solvers.interior_point import InteriorPoint
from netgain.solvers.result import Limits, OnProgress, Solution
from netgain.verify.modes import Realisation
from netgain.verify.roesser import roesser
from netgain.verify.spectral import Spectral, spectral

from .peers import Claim, Eclipse, NotApplicable, Sdpa


class Solver(Protocol):
    """Returns multipliers, and so can be checked."""

    def solve(self, scaled: Scaled, limits: Limits, on_progress: OnProgress | None = None) -> Solution: ...


@runtime_checkable
class Claimant(Protocol):
    """Returns a number only."""

    def claim(self, graph: Graph) -> Claim: ...


@dataclasses.dataclass(frozen=True)
class Sharing:
    """A mode with multipliers shared over pixels: an inequality of its own, hence also a solver and a proof."""

    realise: Callable[[Graph], Realisation]


@dataclasses.dataclass(frozen=True)
class Contender:
    """`module`: what must be importable; `peer`: whether it is somebody else's tool from start to end."""

    name: str
    make: Callable[[], Solver | Sharing | Claimant]
    module: str
    distribution: str
    peer: bool = False

    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


def _conic(backend: Backend, form: Form, name: str) -> Contender:
    return Contender(name, lambda: Conic(backend, form), backend.value, backend.value)


def _peer(name: str, tool: Eclipse | Sdpa) -> Contender:
    return Contender(name, lambda: tool, tool.MODULE, tool.DISTRIBUTION, peer=True)


def _sharing(name: str, realise: Callable[[Graph], Realisation], backend: Backend | None = None) -> Contender:
    module = "netgain.solvers" if backend is None else backend.value
    return Contender(name, lambda: Sharing(realise), module, "netgain" if backend is None else backend.value)


def _spectral_by(backend: Backend) -> Callable[[Graph], Spectral]:
    """The same inequalities as those of the mode `spectral`, all frequencies at once, for a conic solver."""

    def realise(graph: Graph) -> Spectral:
        problem = spectral(graph)
        if problem.scaled.head is not None:
            raise NotApplicable("The conic form of the mode `spectral` takes networks that treat every pixel alike.")
        return dataclasses.replace(problem, solver=FamilyConic(backend))

    return realise


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
    _sharing("spectral", spectral),
    _sharing("spectral, Clarabel", _spectral_by(Backend.CLARABEL), Backend.CLARABEL),
    _sharing("spectral, SCS", _spectral_by(Backend.SCS), Backend.SCS),
    _sharing("roesser", roesser),
    _sharing("roesser, Clarabel", functools.partial(roesser, backend=Backend.CLARABEL), Backend.CLARABEL),
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
