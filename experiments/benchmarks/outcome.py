"""The record of one job: one contender on one network."""

import dataclasses
import enum
import json
from typing import Any


class Outcome(enum.Enum):
    """How a job ended; the value is what a table says."""

    DONE = "done"
    PUBLISHED = "published figure, measured elsewhere"
    NOT_INSTALLED = "not installed"
    NOT_APPLICABLE = "not applicable"
    TIMEOUT = "ended at the time limit"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What a job found; None is not known or not done.

    **Attributes:** `bound`: as solved, in floating point; `dual_bound`: what no multipliers can beat; `proved`: by the
    checker, rounded up; `peak_mb`: the largest resident memory of the job's process.
    """

    network: str
    contender: str
    outcome: Outcome
    bound: float | None = None
    dual_bound: float | None = None
    proved: float | None = None
    solve_seconds: float | None = None
    prove_seconds: float | None = None
    peak_mb: float | None = None
    tool: str = ""
    detail: str = ""

    @property
    def value(self) -> float | None:
        """The proved bound, or the one as solved where nothing is proved."""
        return self.bound if self.proved is None else self.proved

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self) | {"outcome": self.outcome.name.lower()})

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Entries about the machine are left out.

        **Raises:** `ValueError` if the text is not a record.
        """
        try:
            entries: dict[str, Any] = json.loads(text)
            entries.pop("machine", None)
            return cls(**entries | {"outcome": Outcome[entries["outcome"].upper()]})
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"Not the record of a job: {text[:200]!r} ({error!r}).") from None
