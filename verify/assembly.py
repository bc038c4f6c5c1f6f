r"""M(rho, lam) of the matrix inequality, from its rows and multipliers: in double precision with bounds, or in balls.

With x_j = 2^(e_j) times the scaled block, v = 2^o times the scaled output, and W a metric on the outputs,

    M = start - C^T W C + sum_i lam_i (p_i q_i^T + q_i p_i^T),    p_i = z_i - alpha_i v_i,  q_i = z_i - beta_i v_i,

in scaled coordinates (see `netgain.solvers.inequality`). In double precision the maps of the rows may be stacks, shape
(count, rows, columns): one M for each, with the same multipliers.
"""

import dataclasses

import numpy as np
from flint import arb, arb_mat
from netgain.layers.arithmetic import Array

from .balls import to_matrix, to_midpoint_radius
from .constraints import Rows
from .enclosure import Enclosure
from .positive_definite import UNIT, Blocks, gamma

# An entry of M is a sum of products of at most five numbers. With none above _LARGE, an underflow of 2^-1074 anywhere
# costs it at most 2^-1074 _LARGE^3 for each of fewer than 2^40 terms, and nothing overflows.
_LARGE = 2.0**200
_UNDERFLOW = 2.0**-400


@dataclasses.dataclass(frozen=True, eq=False)
class Terms:
    """All that M is made of.

    **Attributes:** `multipliers`: for each layer, one for each row; `exponents`: e_j by block; `output_exponent`: o;
    `start`: the block of the input, either (g, e) for (2^e g)^2 times the identity or a symmetric matrix; `metric`: W,
    a symmetric matrix, None for the identity.
    """

    rows: Rows
    multipliers: tuple[np.ndarray, ...]
    exponents: tuple[int, ...]
    output_exponent: int
    start: tuple[float, int] | np.ndarray
    metric: np.ndarray | None = None


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


def matrix_in_double(terms: Terms) -> tuple[Blocks, Blocks] | None:
    """M as midpoints, and entrywise bounds on how far the exact matrix can be from them.

    None where a number exceeds `_LARGE`: the bounds would not cover underflow.
    """
    e, rows = terms.exponents, terms.rows
    layers = list(zip(rows.activations, terms.multipliers, strict=True))
    scaled = [{j: _scaled(a, e[j] - e[k]) for j, a in layer.maps.items()} for k, (layer, _) in enumerate(layers, 1)]
    output = {j: _scaled(c, e[j] - terms.output_exponent) for j, c in rows.output.items()}
    # The input's block is off by one rounding, which `add` accounts for: that of the square.
    if isinstance(terms.start, tuple):
        gain, _ = _scaled(np.array(terms.start[0]), terms.start[1])
        sizes = [gain]
    else:
        sizes = [terms.start]
    sizes += [size for layer, multipliers in layers for size in (multipliers, layer.lower, layer.upper)]
    sizes += [np.abs(a) + ra for maps in (*scaled, output) for a, ra in maps.values()]
    sizes += [] if terms.metric is None else [terms.metric]
    if not all(np.all(np.abs(size) <= _LARGE) for size in sizes):
        return None

    middle: Blocks = {}
    radius: Blocks = {}

    def add(i: int, j: int, value: np.ndarray, error: np.ndarray) -> None:
        total = middle[i, j] + value if (i, j) in middle else value
        radius[i, j] = radius.get((i, j), 0.0) + error + UNIT * np.abs(total) + _UNDERFLOW
        middle[i, j] = total

    def add_product(i: int, j: int, left: tuple, weights: np.ndarray, right: tuple) -> None:  # type: ignore[type-arg]
        """left^T weights right, for a diagonal that is off by a relative 3 UNIT, or for an exact matrix."""
        (a, ra), (b, rb), size = left, right, np.abs(weights)
        value = a.swapaxes(-1, -2) @ _weighted(weights, b)
        far = _weighted(size, np.abs(b) + rb)
        error = gamma(weights.ndim * len(weights) + 8) * ((np.abs(a) + ra).swapaxes(-1, -2) @ far)
        if np.any(ra) or np.any(rb):
            error = error + ra.swapaxes(-1, -2) @ far + np.abs(a).swapaxes(-1, -2) @ _weighted(size, rb)
        add(i, j, value, error)

    size = rows.input_size
    start = gain * gain * np.eye(size) if isinstance(terms.start, tuple) else terms.start
    add(0, 0, start, np.zeros((size, size)))
    for k, ((layer, multipliers), maps) in enumerate(zip(layers, scaled, strict=True), 1):
        own = layer.answering
        add(k, k, 2 * np.diag(multipliers[own]), np.zeros((layer.size, layer.size)))
        coupling = (multipliers * (layer.lower + layer.upper))[own, None]
        product = 2 * multipliers * layer.lower * layer.upper
        for j, (a, ra) in maps.items():
            value = -coupling * a[..., own, :]
            error = 4 * UNIT * np.abs(value) + np.abs(coupling) * (1 + 4 * UNIT) * ra[..., own, :]
            add(k, j, value, error)
            if j == k:  # an implicit layer is coupled with itself, and M is symmetric
                add(k, k, value.swapaxes(-1, -2), error.swapaxes(-1, -2))
            if layer.has_products:
                for i in maps:
                    if i >= j:
                        add_product(i, j, maps[i], product, maps[j])
    for i in output:
        for j in output:
            if i >= j:
                weights = -np.ones(output[i][0].shape[-2]) if terms.metric is None else -terms.metric
                add_product(i, j, output[i], weights, output[j])
    return middle, radius


def _weighted(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """diag(weights) x for a vector, weights x for a matrix."""
    result: np.ndarray = weights[:, None] * x if weights.ndim == 1 else weights @ x
    return result


def matrix_in_balls(terms: Terms) -> dict[tuple[int, int], arb_mat]:
    """M enclosed at the current precision; maps are matrices here, no stacks."""
    blocks: dict[tuple[int, int], arb_mat] = {}
    e, rows = terms.exponents, terms.rows

    def add(i: int, j: int, value: arb_mat) -> None:
        blocks[i, j] = blocks[i, j] + value if (i, j) in blocks else value

    def scaled(coefficients: np.ndarray, exponent: int) -> arb_mat:
        return to_matrix(coefficients) * arb(2) ** exponent

    if isinstance(terms.start, tuple):
        value, exponent = terms.start
        add(0, 0, _diagonal([(arb(value) * arb(2) ** exponent) ** 2] * rows.input_size))
    else:
        add(0, 0, to_matrix(terms.start))
    for k, (layer, multipliers) in enumerate(zip(rows.activations, terms.multipliers, strict=True), 1):
        exact = [[arb(float(v)) for v in values] for values in (multipliers, layer.lower, layer.upper)]
        own = np.arange(len(multipliers))[layer.answering]
        add(k, k, _diagonal([2 * exact[0][row] for row in own]))
        coupling = _diagonal([-exact[0][row] * (exact[1][row] + exact[2][row]) for row in own])
        product = _diagonal([2 * lam * low * high for lam, low, high in zip(*exact, strict=True)])
        maps = {j: scaled(a, e[j] - e[k]) for j, a in layer.maps.items()}
        for j, a in layer.maps.items():
            coupled = coupling * scaled(a[own], e[j] - e[k])
            add(k, j, coupled + coupled.transpose() if j == k else coupled)
        for j, a in maps.items():
            if layer.has_products:
                for i, b in maps.items():
                    if i >= j:
                        add(i, j, b.transpose() * (product * a))
    output = {j: scaled(c, e[j] - terms.output_exponent) for j, c in rows.output.items()}
    metric = None if terms.metric is None else to_matrix(terms.metric)
    for i, left in output.items():
        for j, right in output.items():
            if i >= j:
                add(i, j, -(left.transpose() * (right if metric is None else metric * right)))
    return blocks


def _diagonal(entries: list[arb]) -> arb_mat:
    size = len(entries)
    matrix = arb_mat(size, size)
    for i, entry in enumerate(entries):
        matrix[i, i] = entry
    return matrix
