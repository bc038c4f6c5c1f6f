r"""What every neuron can be on a ball or a box of inputs: zonotopes, with all rounding accounted for.

An increment from the centre x of the region is carried through the layers as

    dv = c + G du + sum_i E_i e_i,    du in the region, -1 <= e_i <= 1,

one e for each neuron that is not linear on its interval (Singh, Gehr, Mirman, Pueschel, Vechev, NeurIPS 2018, whose
lines are those of `enclosing_line`); comparisons of maxima and of sorting are neurons too, see `local_layers`. On a
ball of radius r, |(G du)_i| <= r |row i of G|_2; on a box of half-widths h, |(G du)_i| <= |row i of G| h. Matrices are
enclosures: every entry has a bound on its error.
"""

import dataclasses
import enum
import functools
import math
from collections.abc import Mapping

import numpy as np
from flint import arb
from netgain.layers import Graph, ModelError
from netgain.layers.arithmetic import Array

from ..balls import BALLS, precision, to_midpoint_radius, upper
from ..constraints import constraint_rows
from ..enclosure import Enclosure
from ..positive_definite import UNIT
from .contenders import Contest
from .local_layers import LocalRows, Maps, Neurons, product, wiring
from .local_slopes import Ends, enclosing_line, slopes_between, slopes_from

_BITS = 64
_ROWS_BITS = 128
# Covers the rounding of sums of a million non-negative numbers.
_SLACK = 1 + 1e-9
_TINY = 1e-300
# Products of two such numbers do not overflow.
_LARGE = 1e150
_ROUNDING = 1e-12
# A multiplier is as large as its interval is narrow.
_NARROWEST = 2.0**-20


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
    """The centre of regions, of the input's shape, and in balls what layers and what neurons are fed there."""

    x: np.ndarray
    entries: tuple[Array, ...]
    fed: tuple[Array, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """Of neurons on a region: in balls what they are fed at the centre, and between which ends that is on the region.

    **Attributes:** `slope`: not nan where `contenders` settle it; `any`: where every slope holds, of neurons that are
    fed the same on all of the region, or that nothing depends on.
    """

    fed: Array
    interval: Ends
    slope: np.ndarray
    any: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Zonotope:
    """Of a region: what is known of neurons, in the order of `LocalNetwork.neurons`, and the increment of the output,
    with c under -1, G under 0 and the E_i under 1, 2, .., zeros left out."""

    region: Region
    known: tuple[Known, ...]
    output: Maps


class LocalNetwork:
    """A network of elementwise activations, max pooling and GroupSort, unrolled, for questions about regions.

    Whether it fits into memory is for its maker to ask.

    **Raises:** `LocalError` if it has other nonlinear layers.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        rows = constraint_rows(graph)
        wirings = [wiring(graph.layer(r.node), graph.input_shapes(r.node)[0], r.lower, r.upper)
                   for r in rows.activations]
        others = [r.node for r, found in zip(rows.activations, wirings, strict=True) if found is None]
        if others:
            names = ", ".join(f"{node!r} ({graph.layer(node).describe()})" for node in others)
            raise LocalError("On a region, slopes are known of activations that act on each entry alone, of max "
                             f"pooling and of GroupSort, not of {names}. Bounds over all inputs are not affected.")
        known = [found for found in wirings if found is not None]
        self.plain = LocalRows.of(rows, known)
        with precision(_ROWS_BITS):
            self.enclosed = LocalRows.of(constraint_rows(graph, BALLS, in_double=True), known).enclosed()
        self.neurons = tuple(neurons for found in known for neurons in found.neurons)

    def centre(self, x: np.ndarray) -> Centre:
        """The network at one input of its input shape."""
        fed: list[Array] = []

        def respond(neurons: Neurons, v: Maps) -> tuple[np.ndarray, Maps]:
            fed.append(v[0])
            return np.full(len(neurons), math.nan), {0: _answer(neurons, v[0])}

        with precision(_BITS):
            values = self.graph.values(BALLS.constant(x[None]), BALLS)
            entries = tuple(values[self.graph.inputs(layer.node)[0]].ravel()[layer.wiring.inputs]
                            for layer in self.plain.layers)
            for layer, own in zip(self.plain.layers, entries, strict=True):
                layer.wiring.answer({0: own}, respond)
        return Centre(x, entries, tuple(fed))

    def zonotope(self, centre: Centre, region: Region) -> Zonotope:
        """Encloses every neuron on a region around the centre.

        **Raises:** `OverflowError` if numbers grow too large.
        """
        increments: list[Maps] = []
        known: list[Known] = []
        with precision(_BITS):
            for entries, layer in zip(centre.entries, self.enclosed.layers, strict=True):
                fed = _combined(layer.maps, increments)
                contest = Contest(layer.wiring.windows, entries, functools.partial(_ahead, entries, fed, region))

                def respond(neurons: Neurons, dv: Maps, contest: Contest = contest) -> tuple[np.ndarray, Maps]:
                    known.append(_known(neurons, centre.fed[len(known)], contest, dv, region))
                    return _response(neurons, len(known), known[-1], dv)

                increments.append(layer.wiring.answer(fed, respond))
        return Zonotope(region, tuple(known), _combined(self.enclosed.output, increments))

    def slopes(self, zonotope: Zonotope, from_centre: bool, slack: float = 0.0) -> tuple[Ends, ...]:
        """By neurons the slopes between any two points of the region, or between its centre and any point.

        **Arguments:** `slack`: by how much intervals that are no points are widened, within those of all inputs; with
        it none is narrower than solvers can take.
        """
        found: list[Ends] = []
        with precision(_BITS):
            for neurons, known in zip(self.neurons, zonotope.known, strict=True):
                layer, shape = neurons.activation, neurons.shape
                least, most = (slopes_from(layer, shape, known.fed, *known.interval) if from_centre
                               else slopes_between(layer, shape, *known.interval))
                settled = np.where(known.any & np.isnan(known.slope), neurons.lower, known.slope)
                least, most = (np.where(np.isnan(settled), end, settled) for end in (least, most))
                narrow = most - least < _NARROWEST
                given = np.where(least < most, np.where(narrow & (slack > 0), _NARROWEST, slack), 0.0)
                found.append((np.maximum(neurons.lower, least - given), np.minimum(neurons.upper, most + given)))
        return tuple(found)

    def least_change(self, zonotope: Zonotope, row: np.ndarray) -> float:
        """At most the change from the centre to any point of the region of `row` . f, by the zonotope alone."""
        left = Enclosure.of(row[None])
        parts = {p: left @ part for p, part in zonotope.output.items()}
        centre, reach = _centre_and_reach(parts, zonotope.region, 1)
        return math.nextafter(float(centre[0] - reach[0] * _SLACK - 4 * UNIT * abs(centre[0])), -math.inf)


def _combined(maps: Mapping[int, Array], increments: list[Maps]) -> Maps:
    """sum_j A_j dx_j; the increment of the input is du itself."""
    result: Maps = {}
    for j, a in maps.items():
        for p, part in ({0: a} if j == 0 else {p: product(a, part) for p, part in increments[j - 1].items()}).items():
            result[p] = result[p] + part if p in result else part
    return result


def _interval(v: Array, dv: Maps, region: Region) -> Ends:
    """Ends of v + dv on the region, strict ones."""
    middle, radius = to_midpoint_radius(v)
    centre, reach = _centre_and_reach(dv, region, len(middle))
    total = (reach + radius) * _SLACK + 4 * UNIT * (np.abs(middle) + np.abs(centre)) + _TINY
    low, high = middle + centre - total, middle + centre + total
    if not np.all(total <= _LARGE):
        raise OverflowError(f"on a region of radius {region.radius:g} values exceed {_LARGE:g}.")
    return np.nextafter(low, -math.inf), np.nextafter(high, math.inf)


def _ahead(entries: Array, dv: Maps, region: Region, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """More than entries a are ahead of entries b anywhere on the region."""
    return _interval(entries[a] - entries[b], {p: part[a] - part[b] for p, part in dv.items()}, region)[1]


def _known(neurons: Neurons, fed: Array, contest: Contest, dv: Maps, region: Region) -> Known:
    """**Arguments:** `fed`: what they are fed at the centre, for others than those of tournaments."""
    unmoved: np.ndarray = np.logical_and.reduce([np.all((a.mid == 0) & (a.rad == 0), axis=1) for a in dv.values()])
    if not neurons.rivals:
        return Known(fed, _interval(fed, dv, region), np.full(len(neurons), math.nan), unmoved)
    judged = contest.judged(neurons.rivals)
    low, high = _interval(judged.fed, dv, region)
    return Known(judged.fed, (np.maximum(low, judged.low), np.minimum(high, judged.high)), judged.slope,
                 judged.idle | unmoved & np.isnan(judged.slope))


def _answer(neurons: Neurons, fed: Array) -> Array:
    return neurons.activation.value(fed.reshape((1, *neurons.shape)), BALLS).ravel()


def _response(neurons: Neurons, key: int, known: Known, dv: Maps) -> tuple[np.ndarray, Maps]:
    """The one slope of each neuron on its interval, nan where there is none, and the increment of its answer."""
    layer, shape = neurons.activation, neurons.shape
    low, high = known.interval
    slopes = slopes_between(layer, shape, low, high)
    line, least, most = enclosing_line(layer, shape, low, high, slopes)
    middle, spread = _middle_and_spread(least, most, BALLS.constant(line) * known.fed - _answer(neurons, known.fed))
    slope = np.where(slopes[0] == slopes[1], slopes[0], math.nan)
    settled = np.where(known.any, 0.0, known.slope)
    middle, spread = (np.where(np.isnan(settled), part, 0.0) for part in (middle, spread))
    parts = {p: part * line[:, None] for p, part in dv.items()}
    # What is no more than rounding needs no e of its own.
    large = spread > _ROUNDING * (high - low)
    offset = Enclosure(middle[:, None], np.where(large, 0.0, spread)[:, None])
    parts[-1] = parts[-1] + offset if -1 in parts else offset
    moved = np.flatnonzero(large)
    if len(moved):
        free = np.zeros((len(spread), len(moved)))
        free[moved, np.arange(len(moved))] = spread[moved]
        parts[key] = Enclosure.of(free)
    return np.where(np.isnan(settled), slope, settled), parts


def _centre_and_reach(parts: Maps, region: Region, size: int) -> tuple[np.ndarray, np.ndarray]:
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
