r"""What every neuron can be on a ball or a box of inputs: zonotopes, with all rounding accounted for.

An increment from the centre x of the region is carried through the layers as

    dv = c + G du + sum_i E_i e_i,    du in the region, -1 <= e_i <= 1,

one e for each neuron that is not linear on its interval (Singh, Gehr, Mirman, Pueschel, Vechev, NeurIPS 2018, whose
lines are those of `enclosing_line`). On a ball of radius r, |(G du)_i| <= r |row i of G|_2; on a box of half-widths h,
|(G du)_i| <= |row i of G| h. Matrices are enclosures: every entry has a bound on its error.
"""

import dataclasses
import enum
import math

import numpy as np
from flint import arb
from netgain.layers import Elementwise, Graph, ModelError
from netgain.layers.arithmetic import Array

from ..balls import BALLS, precision, to_midpoint_radius, upper
from ..constraints import ActivationRows, Rows, constraint_rows
from ..enclosure import Enclosure
from ..positive_definite import UNIT
from .local_slopes import Ends, enclosing_line, slopes_between, slopes_from

_BITS = 64
_ROWS_BITS = 128
# Covers the rounding of sums of a million non-negative numbers.
_SLACK = 1 + 1e-9
_TINY = 1e-300
# Products of two such numbers do not overflow.
_LARGE = 1e150
_ROUNDING = 1e-12


class LocalError(ModelError):
    """A network of which nothing better is known on a region than everywhere; the text says why."""


class RegionShape(enum.Enum):
    """Of a region: all x' with |x' - x|_2 <= radius, or with |x' - x|_inf <= radius."""

    BALL = "ball"
    BOX = "box"


@dataclasses.dataclass(frozen=True)
class Region:
    """All inputs within `radius` of a centre, in the norm of its shape. It is convex."""

    shape: RegionShape
    radius: float

    def reach(self, coefficients: np.ndarray) -> np.ndarray:
        """At least the largest coefficients . du for each row of non-negative coefficients."""
        if self.shape is RegionShape.BALL:
            return np.asarray(np.sqrt(np.sum(coefficients**2, axis=1)) * self.radius * _SLACK + _TINY)
        return np.asarray(np.sum(coefficients, axis=1) * self.radius * _SLACK + _TINY)


@dataclasses.dataclass(frozen=True, eq=False)
class Centre:
    """The centre of regions: by activation what it is fed and what it answers, in balls; `x`: of the input's shape."""

    x: np.ndarray
    fed: tuple[Array, ...]
    answers: tuple[Array, ...]


Parts = dict[int, Enclosure]
"""An increment: c under -1, G under 0, and E_i under i = 1, 2, ..; parts that are zero are left out."""


@dataclasses.dataclass(frozen=True, eq=False)
class Zonotope:
    """Of a region: by activation the interval of each of its inputs, and the increment of the output."""

    region: Region
    intervals: tuple[Ends, ...]
    output: Parts


class LocalNetwork:
    """A network of elementwise activations, unrolled, for questions about regions.

    Whether it fits into memory is for its maker to ask.

    **Raises:** `LocalError` if it has other nonlinear layers.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.plain = constraint_rows(graph)
        others = [rows.node for rows in self.plain.activations if not isinstance(graph.layer(rows.node), Elementwise)]
        if others:
            names = ", ".join(f"{node!r} ({graph.layer(node).describe()})" for node in others)
            raise LocalError("Slopes on a region are known of activations that act on each entry alone, not of "
                             f"{names}. Bounds over all inputs are not affected.")
        with precision(_ROWS_BITS):
            self.enclosed = enclosed(constraint_rows(graph, BALLS, in_double=True))

    def layer(self, rows: ActivationRows) -> Elementwise:
        layer = self.graph.layer(rows.node)
        assert isinstance(layer, Elementwise)
        return layer

    def centre(self, x: np.ndarray) -> Centre:
        """The network at one input of its input shape."""
        with precision(_BITS):
            values = self.graph.values(BALLS.constant(x[None]), BALLS)
        nodes = [rows.node for rows in self.plain.activations]
        return Centre(x, tuple(values[self.graph.inputs(node)[0]].ravel() for node in nodes),
                      tuple(values[node].ravel() for node in nodes))

    def zonotope(self, centre: Centre, region: Region) -> Zonotope:
        """Encloses every neuron on a region around the centre.

        **Raises:** `OverflowError` if numbers grow too large.
        """
        increments: list[Parts] = []
        intervals: list[Ends] = []
        for k, rows in enumerate(self.enclosed.activations, start=1):
            dv = _combined(rows.maps, increments)
            shape = self.graph.shape(rows.node)
            with precision(_BITS):
                low, high = self._interval(centre.fed[k - 1], dv, region)
                slopes = slopes_between(self.layer(rows), shape, low, high)
                line, least, most = enclosing_line(self.layer(rows), shape, low, high, slopes)
                v, z = centre.fed[k - 1], centre.answers[k - 1]
                middle, spread = _middle_and_spread(least, most, BALLS.constant(line) * v - z)
            intervals.append((low, high))
            parts = {p: part * line[:, None] for p, part in dv.items()}
            # What is no more than rounding needs no e of its own.
            moved = np.flatnonzero(spread > _ROUNDING * (high - low))
            constant = Enclosure(middle[:, None], np.where(spread > _ROUNDING * (high - low), 0.0, spread)[:, None])
            parts[-1] = parts[-1] + constant if -1 in parts else constant
            if len(moved):
                free = np.zeros((len(spread), len(moved)))
                free[moved, np.arange(len(moved))] = spread[moved]
                parts[k] = Enclosure.of(free)
            increments.append(parts)
        return Zonotope(region, tuple(intervals), _combined(self.enclosed.output, increments))

    def _interval(self, v: Array, dv: Parts, region: Region) -> Ends:
        middle, radius = to_midpoint_radius(v)
        centre, reach = _centre_and_reach(dv, region, len(middle))
        total = (reach + radius) * _SLACK + 4 * UNIT * (np.abs(middle) + np.abs(centre)) + _TINY
        low, high = middle + centre - total, middle + centre + total
        if not np.all(total <= _LARGE):
            raise OverflowError(f"on a region of radius {region.radius:g} values exceed {_LARGE:g}.")
        return np.nextafter(low, -math.inf), np.nextafter(high, math.inf)

    def slopes(self, centre: Centre, zonotope: Zonotope, from_centre: bool, slack: float = 0.0) -> tuple[Ends, ...]:
        """By activation the slopes between any two points of the region, or between its centre and any point.

        **Arguments:** `slack`: by how much intervals that are no points are widened, within those of all inputs.
        """
        found: list[Ends] = []
        with precision(_BITS):
            for rows, v, (low, high) in zip(self.plain.activations, centre.fed, zonotope.intervals, strict=True):
                layer, shape = self.layer(rows), self.graph.shape(rows.node)
                least, most = (slopes_from(layer, shape, v, low, high) if from_centre
                               else slopes_between(layer, shape, low, high))
                given = np.where(least < most, slack, 0.0)
                found.append((np.maximum(rows.lower, least - given), np.minimum(rows.upper, most + given)))
        return tuple(found)

    def least_change(self, zonotope: Zonotope, row: np.ndarray) -> float:
        """At most the change from the centre to any point of the region of `row` . f, by the zonotope alone."""
        left = Enclosure.of(row[None])
        parts = {p: left @ part for p, part in zonotope.output.items()}
        centre, reach = _centre_and_reach(parts, zonotope.region, 1)
        return math.nextafter(float(centre[0] - reach[0] * _SLACK - 4 * UNIT * abs(centre[0])), -math.inf)


def enclosed(rows: Rows) -> Rows:
    """Rows as enclosures throughout."""
    def each(maps: dict[int, Array]) -> dict[int, Enclosure]:
        return {j: Enclosure.of(a) for j, a in maps.items()}

    layers = tuple(dataclasses.replace(layer, maps=each(dict(layer.maps))) for layer in rows.activations)
    return Rows(rows.input_size, layers, each(dict(rows.output)))


def _combined(maps: Array, increments: list[Parts]) -> Parts:
    """sum_j A_j dx_j; the increment of the input is du itself."""
    result: Parts = {}
    for j, a in maps.items():
        for p, part in ({0: a} if j == 0 else {p: a @ part for p, part in increments[j - 1].items()}).items():
            result[p] = result[p] + part if p in result else part
    return result


def _centre_and_reach(parts: Parts, region: Region, size: int) -> tuple[np.ndarray, np.ndarray]:
    """c, and at least how far the rest can take each entry from it."""
    centre, reach = np.zeros(size), np.zeros(size)
    for p, part in parts.items():
        sizes = np.abs(part.mid) + part.rad
        if p == -1:
            centre = part.mid[:, 0]
            reach = reach + part.rad[:, 0]
        else:
            reach = reach + (region.reach(sizes) if p == 0 else np.sum(sizes, axis=1))
    return centre, reach * _SLACK


def _middle_and_spread(least: Array, most: Array, offset: Array) -> tuple[np.ndarray, np.ndarray]:
    """c and a spread >= 0 with [least + offset, most + offset] within [c - spread, c + spread]."""
    middle, spread = np.zeros(len(least)), np.zeros(len(least))
    for k, (a, b, o) in enumerate(zip(least, most, offset, strict=True)):
        middle[k] = float(((a + b) / 2 + o).mid())
        exact = arb(float(middle[k]))
        spread[k] = upper(abs(a + o - exact).max(abs(b + o - exact)))
    return middle, spread
