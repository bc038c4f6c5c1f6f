r"""The checker: does a certificate prove its claim for this network? It knows no solver.

The rows of the inequality are rebuilt from the weights in ball arithmetic, then M(rho, lam) >= 0 is proved: first in
double precision with bounds on every rounding error, and where that does not decide in balls of growing precision.
Where layers are implicit, that each has exactly one solution is proved first (`implicit.loop_check`): the inequality
alone does not say so.

A sceptic reads this file, `assembly`, `positive_definite`, `constraints`, `balls`, and the layers' slope intervals; for
certificates with one multiplier per channel also `check_spectral`, `stages`, `channelwise` and the layers' stencils.
"""

import dataclasses
import enum
import math
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
from netgain.layers import Graph

from .assembly import Terms, matrix_in_balls, matrix_in_double
from .balls import BALLS, precision
from .certificate import Certificate
from .channelwise import ModeError
from .check_roesser import RoesserChecker
from .check_spectral import SpectralChecker
from .constraints import Rows, constraint_rows, is_zero
from .implicit.loop_check import loop_proved_in_balls, loop_proved_in_double
from .mode import Mode
from .positive_definite import proved_in_balls, proved_in_double, refuted_in_double

_PRECISIONS = (128, 256, 512)
# No network of float64 weights needs more, and sums of two still fit every integer type.
_LARGEST_EXPONENT = 2**20


class Outcome(enum.Enum):
    """What the checker found. The value says what it means."""

    PROVED = "The multipliers prove the claim for these weights."
    OTHER_MODEL = "The certificate belongs to another network: the digests of the layer graphs differ."
    MALFORMED = "The numbers of the certificate do not fit this network, or are negative or not finite."
    NOT_WELL_POSED = ("The metrics of the certificate do not prove that every implicit layer has exactly one solution, "
                      "without which no bound holds.")
    NOT_PROVED = "The multipliers do not prove the claimed value for these weights."


@dataclasses.dataclass(frozen=True)
class Verdict:
    """`arithmetic` is "double" or the bits of the balls that decided; empty if nothing was proved."""

    outcome: Outcome
    arithmetic: str
    seconds: float

    @property
    def proved(self) -> bool:
        return self.outcome is Outcome.PROVED


def check(certificate: Certificate, graph: Graph, balls: bool = True) -> Verdict:
    """Proves the certificate's claim for the graph, or says why it does not hold up.

    **Arguments:** `balls`: whether to go on in ball arithmetic where double precision does not decide.
    """
    begin = time.perf_counter()

    def verdict(outcome: Outcome, arithmetic: str = "") -> Verdict:
        return Verdict(outcome, arithmetic, time.perf_counter() - begin)

    if certificate.digest != graph.digest:
        return verdict(Outcome.OTHER_MODEL)
    try:
        with precision(_PRECISIONS[0]):
            checker = _checker(certificate, graph)
    except ModeError:
        return verdict(Outcome.MALFORMED)
    if not _well_formed(certificate, checker):
        return verdict(Outcome.MALFORMED)
    if isinstance(checker, NeuronChecker) and not checker.well_posed(certificate, balls):
        return verdict(Outcome.NOT_WELL_POSED)
    if checker.is_constant:  # exactly: no change of the input reaches the output
        return verdict(Outcome.PROVED, "double")
    if certificate.value == 0:
        return verdict(Outcome.NOT_PROVED)
    if checker.proved_in_double(certificate):
        return verdict(Outcome.PROVED, "double")
    for bits in _PRECISIONS if balls else ():
        with precision(bits):
            if checker.proved_in_balls(certificate):
                return verdict(Outcome.PROVED, f"{bits} bits")
    return verdict(Outcome.NOT_PROVED)


class _Checker(Protocol):
    """What a mode makes of a graph, at the working precision.

    **Attributes:** `multipliers`: how many, by array; `metrics`: the order of each; `blocks`: how many exponents;
    `is_constant`: whether no change of the input reaches the output.
    """

    multipliers: list[int]
    metrics: list[int]
    blocks: int
    is_constant: bool

    def proved_in_double(self, certificate: Certificate) -> bool:
        """Whether double precision decides for a well-formed certificate."""

    def proved_in_balls(self, certificate: Certificate) -> bool:
        """The same at the current working precision; may rest on what `proved_in_double` left open."""


class NeuronChecker:
    """One multiplier per neuron, on the unrolled network: one inequality."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.rows = constraint_rows(graph, BALLS, in_double=True)
        self.multipliers = [len(layer.lower) // layer.coupled for layer in self.rows.activations]
        self.metrics: list[int] = []
        self.loops = [layer.size for layer in self.rows.loops]
        self.blocks = len(self.rows.sizes)
        self.is_constant = all(is_zero(c) for c in self.rows.output.values())
        self.refuted = False

    def well_posed(self, certificate: Certificate, balls: bool) -> bool:
        """Whether every implicit layer is shown to have one solution, in balls where double precision is undecided."""
        layers = list(zip(self.rows.loops, certificate.loop_metrics, strict=True))
        open_ = [layer for layer, metric in layers if not loop_proved_in_double(layer, metric)]
        return not open_ or (balls and any(self._well_posed_in_balls(certificate, bits) for bits in _PRECISIONS))

    def _well_posed_in_balls(self, certificate: Certificate, bits: int) -> bool:
        with precision(bits):
            layers = zip(constraint_rows(self.graph, BALLS).loops, certificate.loop_metrics, strict=True)
            return all(loop_proved_in_balls(layer, metric) for layer, metric in layers)

    def proved_in_double(self, certificate: Certificate) -> bool:
        matrix = matrix_in_double(neuron_terms(certificate, self.rows))
        proved = matrix is not None and proved_in_double(*matrix, self.blocks)
        self.refuted = not proved and matrix is not None and refuted_in_double(*matrix, self.blocks)
        return proved

    def proved_in_balls(self, certificate: Certificate) -> bool:
        if self.refuted:
            return False
        terms = neuron_terms(certificate, constraint_rows(self.graph, BALLS))
        return proved_in_balls(matrix_in_balls(terms), self.blocks)


def _checker(certificate: Certificate, graph: Graph) -> _Checker:
    """**Raises:** `ModeError` if the mode does not apply to the graph, or not with the certificate's interfaces."""
    if certificate.mode is Mode.SPECTRAL:
        return SpectralChecker(graph, certificate.interfaces)
    if certificate.interfaces or certificate.mode not in _CHECKERS:
        raise ModeError("Only the mode `spectral` cuts a network into stages.")
    return _CHECKERS[certificate.mode](graph)


_CHECKERS: dict[Mode, Callable[[Graph], _Checker]] = {Mode.NEURON: NeuronChecker, Mode.ROESSER: RoesserChecker}


def neuron_terms(certificate: Certificate, rows: Rows) -> Terms:
    """The terms of M for a certificate with one multiplier per neuron."""
    e, o = certificate.exponents, certificate.output_exponent
    layers = zip(certificate.multipliers, rows.activations, strict=True)
    multipliers = tuple(np.repeat(array, layer.coupled) for array, layer in layers)
    return Terms(rows, multipliers, e, o, (certificate.value, e[0] - o))


def _well_formed(certificate: Certificate, checker: _Checker) -> bool:
    arrays = (*certificate.multipliers, *certificate.metrics, *certificate.loop_metrics)
    # Only one multiplier per neuron goes with implicit layers.
    loops = checker.loops if isinstance(checker, NeuronChecker) else []
    return (
        isinstance(certificate.value, float)
        and 0 <= certificate.value < math.inf
        and [array.shape for array in certificate.multipliers] == [(size,) for size in checker.multipliers]
        and [array.shape for array in certificate.metrics] == [(size, size) for size in checker.metrics]
        and [array.shape for array in certificate.loop_metrics] == [(size,) for size in loops]
        and all(array.dtype == np.float64 and np.all(np.isfinite(array)) for array in arrays)
        and all(np.all(array >= 0) for array in (*certificate.multipliers, *certificate.loop_metrics))
        and all(np.array_equal(array, array.T) for array in certificate.metrics)
        and len(certificate.exponents) == checker.blocks
        and all(isinstance(e, int) and abs(e) <= _LARGEST_EXPONENT
                for e in (*certificate.exponents, certificate.output_exponent))
    )
