r"""The checker: does a certificate prove its claim for this network? It knows no solver.

The rows of the inequality are rebuilt from the weights in ball arithmetic, then M(rho, lam) >= 0 is proved: first in
double precision with bounds on every rounding error, and where that does not decide in balls of growing precision.
A sceptic reads this file, `positive_definite`, `constraints`, `balls`, and the layers' slope intervals.
"""

import dataclasses
import enum
import math
import time

import numpy as np
from flint import arb, arb_mat
from netgain.layers import Graph
from netgain.layers.arithmetic import Array

from .balls import BALLS, precision, to_matrix, to_midpoint_radius
from .certificate import Certificate
from .constraints import Rows, constraint_rows, is_zero
from .enclosure import Enclosure
from .positive_definite import UNIT, Blocks, gamma, proved_in_balls, proved_in_double

_PRECISIONS = (128, 256, 512)
# No network of float64 weights needs more, and sums of two still fit every integer type.
_LARGEST_EXPONENT = 2**20
# An entry of M is a sum of products of at most five numbers. With none above _LARGE, an underflow of 2^-1074 anywhere
# costs it at most 2^-1074 _LARGE^3 for each of fewer than 2^40 terms, and nothing overflows.
_LARGE = 2.0**200
_UNDERFLOW = 2.0**-400


class Outcome(enum.Enum):
    """What the checker found. The value says what it means."""

    PROVED = "The multipliers prove the claim for these weights."
    OTHER_MODEL = "The certificate belongs to another network: the digests of the layer graphs differ."
    MALFORMED = "The numbers of the certificate do not fit this network, or are negative or not finite."
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
    with precision(_PRECISIONS[0]):
        rows = constraint_rows(graph, BALLS, in_double=True)
    if not _well_formed(certificate, rows):
        return verdict(Outcome.MALFORMED)
    if all(is_zero(c) for c in rows.output.values()):  # exactly: no change of the input reaches the output
        return verdict(Outcome.PROVED, "double")
    if certificate.value == 0:
        return verdict(Outcome.NOT_PROVED)
    matrix = _matrix_in_double(certificate, rows)
    if matrix and proved_in_double(*matrix, len(rows.sizes)):
        return verdict(Outcome.PROVED, "double")
    for bits in _PRECISIONS if balls else ():
        with precision(bits):
            rows = constraint_rows(graph, BALLS)
            if proved_in_balls(_matrix_in_balls(certificate, rows), len(rows.sizes)):
                return verdict(Outcome.PROVED, f"{bits} bits")
    return verdict(Outcome.NOT_PROVED)


def _well_formed(certificate: Certificate, rows: Rows) -> bool:
    expected = [len(layer.lower) // layer.coupled for layer in rows.activations]
    return (
        [array.shape for array in certificate.multipliers] == [(size,) for size in expected]
        and all(array.dtype == np.float64 for array in certificate.multipliers)
        and all(np.all(np.isfinite(array)) and np.all(array >= 0) for array in certificate.multipliers)
        and len(certificate.exponents) == len(rows.sizes)
        and all(isinstance(e, int) and abs(e) <= _LARGEST_EXPONENT for e in _all_exponents(certificate))
        and isinstance(certificate.value, float)
        and 0 <= certificate.value < math.inf
    )


def _all_exponents(certificate: Certificate) -> tuple[int, ...]:
    return (*certificate.exponents, certificate.output_exponent)


def _multipliers(certificate: Certificate, rows: Rows) -> list[np.ndarray]:
    """One multiplier per row."""
    layers = zip(certificate.multipliers, rows.activations, strict=True)
    return [np.repeat(array, layer.coupled) for array, layer in layers]


def _scaled(coefficients: Array, exponent: int) -> tuple[np.ndarray, np.ndarray]:
    """Midpoints and radii of 2^exponent times the coefficients, but for over- and underflow of exact ones."""
    if isinstance(coefficients, Enclosure):
        with np.errstate(over="ignore"):
            return np.ldexp(coefficients.mid, exponent), np.ldexp(coefficients.rad, exponent)
    if coefficients.dtype != object:
        with np.errstate(over="ignore"):
            middle = np.ldexp(coefficients, exponent)
        return middle, np.zeros_like(middle)
    return to_midpoint_radius(coefficients * arb(2) ** exponent)


def _matrix_in_double(certificate: Certificate, rows: Rows) -> tuple[Blocks, Blocks] | None:
    """M(rho, lam) as midpoints, and entrywise bounds on how far the exact matrix can be from them.

    None where a number exceeds `_LARGE`: the bounds would not cover underflow.
    """
    e = certificate.exponents
    gain, _ = _scaled(np.array(certificate.value), e[0] - certificate.output_exponent)
    layers = list(zip(rows.activations, _multipliers(certificate, rows), strict=True))
    scaled = [{j: _scaled(a, e[j] - e[k]) for j, a in layer.maps.items()} for k, (layer, _) in enumerate(layers, 1)]
    output = {j: _scaled(c, e[j] - certificate.output_exponent) for j, c in rows.output.items()}
    sizes = [gain, *(size for layer, multipliers in layers for size in (multipliers, layer.lower, layer.upper))]
    sizes += [np.abs(a) + ra for maps in (*scaled, output) for a, ra in maps.values()]
    if not all(np.all(np.abs(size) <= _LARGE) for size in sizes):
        return None

    middle: Blocks = {}
    radius: Blocks = {}

    def add(i: int, j: int, value: np.ndarray, error: np.ndarray) -> None:
        total = middle[i, j] + value if (i, j) in middle else value
        radius[i, j] = radius.get((i, j), 0.0) + error + UNIT * np.abs(total) + _UNDERFLOW
        middle[i, j] = total

    def add_product(i: int, j: int, left: tuple, weights: np.ndarray, right: tuple) -> None:  # type: ignore[type-arg]
        """left^T diag(weights) right, the weights being off by a relative 3 UNIT."""
        (a, ra), (b, rb), size = left, right, np.abs(weights)[:, None]
        value = a.T @ (weights[:, None] * b)
        error = gamma(len(weights) + 8) * ((np.abs(a) + ra).T @ (size * (np.abs(b) + rb)))
        if np.any(ra) or np.any(rb):
            error = error + ra.T @ (size * (np.abs(b) + rb)) + np.abs(a).T @ (size * rb)
        add(i, j, value, error)

    rho, size = gain * gain, rows.input_size
    add(0, 0, rho * np.eye(size), np.zeros((size, size)))
    for k, ((layer, multipliers), maps) in enumerate(zip(layers, scaled, strict=True), 1):
        own = layer.answering
        add(k, k, 2 * np.diag(multipliers[own]), np.zeros((layer.size, layer.size)))
        coupling = (multipliers * (layer.lower + layer.upper))[own, None]
        product = 2 * multipliers * layer.lower * layer.upper
        for j, (a, ra) in maps.items():
            value = -coupling * a[own]
            add(k, j, value, 4 * UNIT * np.abs(value) + np.abs(coupling) * (1 + 4 * UNIT) * ra[own])
            if layer.has_products:
                for i in maps:
                    if i >= j:
                        add_product(i, j, maps[i], product, maps[j])
    for i in output:
        for j in output:
            if i >= j:
                add_product(i, j, output[i], -np.ones(len(output[i][0])), output[j])
    return middle, radius


def _matrix_in_balls(certificate: Certificate, rows: Rows) -> dict[tuple[int, int], arb_mat]:
    """M(rho, lam) enclosed at the current precision."""
    blocks: dict[tuple[int, int], arb_mat] = {}

    def add(i: int, j: int, value: arb_mat) -> None:
        blocks[i, j] = blocks[i, j] + value if (i, j) in blocks else value

    def scaled(coefficients: np.ndarray, exponent: int) -> arb_mat:
        return to_matrix(coefficients) * arb(2) ** exponent

    e = certificate.exponents
    rho = (arb(certificate.value) * arb(2) ** (e[0] - certificate.output_exponent)) ** 2
    add(0, 0, _diagonal([rho] * rows.input_size))
    for k, (layer, multipliers) in enumerate(zip(rows.activations, _multipliers(certificate, rows), strict=True), 1):
        exact = [[arb(float(v)) for v in values] for values in (multipliers, layer.lower, layer.upper)]
        own = np.arange(len(multipliers))[layer.answering]
        add(k, k, _diagonal([2 * exact[0][row] for row in own]))
        coupling = _diagonal([-exact[0][row] * (exact[1][row] + exact[2][row]) for row in own])
        product = _diagonal([2 * lam * low * high for lam, low, high in zip(*exact, strict=True)])
        maps = {j: scaled(a, e[j] - e[k]) for j, a in layer.maps.items()}
        for j, a in layer.maps.items():
            add(k, j, coupling * scaled(a[own], e[j] - e[k]))
        for j, a in maps.items():
            if layer.has_products:
                for i, b in maps.items():
                    if i >= j:
                        add(i, j, b.transpose() * (product * a))
    output = {j: scaled(c, e[j] - certificate.output_exponent) for j, c in rows.output.items()}
    for i, left in output.items():
        for j, right in output.items():
            if i >= j:
                add(i, j, -(left.transpose() * right))
    return blocks


def _diagonal(entries: list[arb]) -> arb_mat:
    size = len(entries)
    matrix = arb_mat(size, size)
    for i, entry in enumerate(entries):
        matrix[i, i] = entry
    return matrix
