"""What every solver of the matrix inequality takes and returns."""

import dataclasses
import enum
import math
from collections.abc import Callable

import numpy as np


class Status(enum.Enum):
    """Why a solver stopped. The value says what that means and what to do."""

    OPTIMAL = "The bound and the dual bound agree to the tolerance."
    CLOSED_FORM = "The multipliers come from a formula; an optimising solver would tighten the bound."
    ENOUGH = "The bound that was asked for is reached; an optimising solve would tighten it."
    TIME_LIMIT = "The time limit was reached; the best multipliers so far are returned. Raise `time_limit` to go on."
    INTERRUPTED = "The solve was interrupted; the best multipliers so far are returned."
    ITERATION_LIMIT = "The iteration limit was reached; the best multipliers so far are returned."
    STALLED = "Rounding errors ended the progress before the tolerance; the best multipliers so far are returned."
    INACCURATE = "The backend reports reduced accuracy; the checker decides what its multipliers prove."
    NO_METRIC = "No multipliers are feasible, since an implicit layer is not proved well-posed."
    FAILED = "The backend returned no multipliers. Try another solver."

    @property
    def has_multipliers(self) -> bool:
        return self not in (Status.FAILED, Status.NO_METRIC)


@dataclasses.dataclass(frozen=True)
class Progress:
    """One line of a solver's course: `bound` on the gain, `dual_bound` below which no multipliers can go."""

    bound: float
    dual_bound: float
    iteration: int
    seconds: float


OnProgress = Callable[[Progress], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """When to stop. `tolerance`: relative distance of bound and dual bound; `time_limit`: seconds; `enough`: a bound
    that need not be tightened, which solvers of one inequality stop at."""

    tolerance: float = 1e-6
    time_limit: float = math.inf
    enough: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise ValueError(f"`tolerance` must lie in (0, 1), got {self.tolerance!r}.")
        if not self.time_limit > 0:
            raise ValueError(f"`time_limit` must be positive seconds, got {self.time_limit!r}.")
        if not self.enough >= 0:
            raise ValueError(f"`enough` must be a bound of at least 0, got {self.enough!r}.")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Predicted size of a solve: `multipliers`, `order` of M, `memory` in bytes, `seconds` to the default tolerance."""

    multipliers: int
    order: int
    memory: int
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """What a solver found. Nothing here is proved: that is the checker's work.

    **Attributes:** `bound`: the gain the multipliers give in floating point, in the network's units; `dual_bound`: no
    multipliers give less (0 if unknown); `multipliers`: one array per layer, in scaled coordinates; `history`: the
    course; `solver`, `version`: who; `metrics`: symmetric matrices found beside the multipliers, in scaled coordinates.
    """

    status: Status
    bound: float
    dual_bound: float
    multipliers: tuple[np.ndarray, ...]
    iterations: int
    seconds: float
    solver: str
    version: str
    history: tuple[Progress, ...] = ()
    detail: str = ""
    metrics: tuple[np.ndarray, ...] = ()
