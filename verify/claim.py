"""A claim that a Lipschitz constant is at most some number, judged by what was proved."""

import dataclasses
import enum

from .lipschitz import LipschitzReport


class Standing(enum.Enum):
    """What is known of a claim."""

    PROVED = "proved by the certificate"
    DISPROVED = "disproved by the witness"
    OPEN = "not proved; it may still be true"


@dataclasses.dataclass(frozen=True)
class Claim:
    """The constant is at most `value`."""

    value: float
    standing: Standing


def judge(report: LipschitzReport, value: float) -> Claim:
    """The claim that the constant is at most `value`, in the light of the report."""
    if report.proved and report.upper <= value:
        return Claim(value, Standing.PROVED)
    return Claim(value, Standing.DISPROVED if report.lower > value else Standing.OPEN)
