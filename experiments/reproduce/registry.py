"""Everything that can be reproduced, and what cannot, with the reason."""

import dataclasses
from collections.abc import Callable

from .context import Context
from .table import Source, Table


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a run without `--weights` takes.

    **Attributes:** `data`: in words, empty if none; `extras`: of this package; `minutes`: of one core; `memory`: in GB.
    """

    data: str = ""
    extras: tuple[str, ...] = ()
    minutes: float = 1.0
    memory: float = 1.0


@dataclasses.dataclass(frozen=True)
class Entry:
    """One table or figure. `weights`: what `--weights` takes, in words, empty if nothing; `full`: what `--full` adds;
    `run`: None for what cannot be reproduced, with the reason in `obstacle`."""

    name: str
    title: str
    source: Source
    needs: Needs = Needs()
    weights: str = ""
    full: str = ""
    run: Callable[[Context], Table] | None = None
    obstacle: str = ""

    def __post_init__(self) -> None:
        if (self.run is None) == (not self.obstacle):
            raise ValueError(f"{self.name} needs either a way to be run or an obstacle.")


# The modules an extra is there for.
EXTRAS = {"torch": ("torch",), "data": ("sklearn",), "plot": ("matplotlib",)}


def entries() -> dict[str, Entry]:
    """All entries by name, in the order they are listed."""
    from .entries import (
        contractivity_chi,
        contractivity_mnist,
        glipsdp_depth,
        glipsdp_digits,
        glipsdp_versatility,
        lben_mnist,
        nais_mnist,
        nemon_mnist,
        unreproducible,
    )

    found = (
        glipsdp_digits.ENTRY,
        glipsdp_depth.ENTRY,
        glipsdp_versatility.ENTRY,
        contractivity_chi.ENTRY,
        contractivity_mnist.ENTRY,
        nemon_mnist.ENTRY,
        lben_mnist.ENTRY,
        nais_mnist.ENTRY,

        *unreproducible.ENTRIES,
    )
    return {entry.name: entry for entry in found}
