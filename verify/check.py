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

from .balls import BALLS, precision, to_matrix, to_midpoint_radius
from .certificate import Certificate
from .constraints import Rows, constraint_rows
from .positive_definite import UNIT, Blocks, gamma, proved_in_balls, proved_in_double

_PRECISIONS = (128, 256, 512)


class Outcome(enum.Enum):
    """What the checker found. The value says what it means."""

    PROVED = "The multipliers prove the claim for these weights."
    OTHER_MODEL = "The certificate belongs to another network: the digests of the layer graphs differ."
    MALFORMED = "The multipliers do not fit this network, or are negative or not finite."
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
        rows = constraint_rows(graph, BALLS)
    if not _well_formed(certificate, rows):
        return verdict(Outcome.MALFORMED)
    if _output_is_constant(rows):
        return verdict(Outcome.PROVED, "double")
    if certificate.value == 0:
        return verdict(Outcome.NOT_PROVED)
    if proved_in_double(*_matrix_in_double(certificate, rows), len(rows.sizes)):
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
        and all(np.all(np.isfinite(array)) and np.all(array >= 0) for array in certificate.multipliers)
        and len(certificate.exponents) == len(rows.sizes)
        and math.isfinite(certificate.value)
        and certificate.value >= 0
    )


def _output_is_constant(rows: Rows) -> bool:
    """Whether no chain of non-zero maps leads from the input to the output, so that 0 is the Lipschitz constant."""
    reached = {0}
    for k, layer in enumerate(rows.activations, start=1):
        if any(j in reached and not _is_zero(a) for j, a in layer.maps.items()):
            reached.add(k)
    return not any(j in reached and not _is_zero(c) for j, c in rows.output.items())


def _is_zero(coefficients: np.ndarray) -> bool:
    return bool(np.all(coefficients == 0))


def _multipliers(certificate: Certificate, rows: Rows) -> list[np.ndarray]:
    """One multiplier per neuron."""
    layers = zip(certificate.multipliers, rows.activations, strict=True)
    return [np.repeat(array, layer.coupled) for array, layer in layers]


def _scaled(coefficients: np.ndarray, exponent: int) -> tuple[np.ndarray, np.ndarray]:
    """Midpoints and radii of 2^exponent times the coefficients."""
    if coefficients.dtype != object:
        middle = np.ldexp(coefficients, exponent)
        # Exact unless the result is subnormal.
        return middle, np.where(np.abs(middle) < 1e-300, 1e-300, 0.0) * (coefficients != 0)
    middle, radius = to_midpoint_radius(coefficients * arb(2) ** exponent)
    return middle, radius


def _matrix_in_double(certificate: Certificate, rows: Rows) -> tuple[Blocks, Blocks]:
    """M(rho, lam) as midpoints, and entrywise bounds on how far the exact matrix can be from them."""
    middle: Blocks = {}
    radius: Blocks = {}

    def add(i: int, j: int, value: np.ndarray, error: np.ndarray) -> None:
        total = middle[i, j] + value if (i, j) in middle else value
        radius[i, j] = radius.get((i, j), 0.0) + error + UNIT * np.abs(total)
        middle[i, j] = total

    def add_product(i: int, j: int, left: tuple, weights: np.ndarray, right: tuple) -> None:  # type: ignore[type-arg]
        """left^T diag(weights) right, the weights being off by a relative 3 UNIT."""
        (a, ra), (b, rb), size = left, right, np.abs(weights)[:, None]
        value = a.T @ (weights[:, None] * b)
        error = gamma(len(weights) + 8) * ((np.abs(a) + ra).T @ (size * (np.abs(b) + rb)))
        if np.any(ra) or np.any(rb):
            error = error + ra.T @ (size * (np.abs(b) + rb)) + np.abs(a).T @ (size * rb)
        add(i, j, value, error)

    e = certificate.exponents
    gain = math.ldexp(certificate.value, -certificate.output_exponent)
    rho = np.nextafter(gain * gain, 0.0)
    size = rows.input_size
    add(0, 0, rho * np.eye(size), np.zeros((size, size)))
    for k, (layer, multipliers) in enumerate(zip(rows.activations, _multipliers(certificate, rows), strict=True), 1):
        add(k, k, 2 * np.diag(multipliers), np.zeros((len(multipliers), len(multipliers))))
        maps = {j: _scaled(a, e[j] - e[k]) for j, a in layer.maps.items()}
        coupling = (multipliers * (layer.lower + layer.upper))[:, None]
        product = 2 * multipliers * layer.lower * layer.upper
        for j, (a, ra) in maps.items():
            value = -coupling * a
            add(k, j, value, 4 * UNIT * np.abs(value) + np.abs(coupling) * (1 + 4 * UNIT) * ra)
            if np.any(product):
                for i in maps:
                    if i >= j:
                        add_product(i, j, maps[i], product, maps[j])
    output = {j: _scaled(c, e[j] - certificate.output_exponent) for j, c in rows.output.items()}
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
    rho = (arb(certificate.value) / arb(2) ** certificate.output_exponent) ** 2
    add(0, 0, _diagonal([rho] * rows.input_size))
    for k, (layer, multipliers) in enumerate(zip(rows.activations, _multipliers(certificate, rows), strict=True), 1):
        exact = [[arb(float(v)) for v in values] for values in (multipliers, layer.lower, layer.upper)]
        add(k, k, _diagonal([2 * lam for lam in exact[0]]))
        coupling = _diagonal([-lam * (low + high) for lam, low, high in zip(*exact, strict=True)])
        product = _diagonal([2 * lam * low * high for lam, low, high in zip(*exact, strict=True)])
        maps = {j: scaled(a, e[j] - e[k]) for j, a in layer.maps.items()}
        for j, a in maps.items():
            add(k, j, coupling * a)
            if np.any(layer.lower * layer.upper):
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
