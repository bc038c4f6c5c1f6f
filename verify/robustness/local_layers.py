r"""Nonlinear layers as neurons of one input each, which is all that regions need to know of them.

An elementwise activation is its own neurons. Maxima and sorting are made of comparisons, and each of these is a ReLU:

    max(a, b) = b + (a - b)_+,    min(a, b) = a - (a - b)_+.

So max pooling is a tournament in each window, and GroupSort a sorting network. Nothing is lost against one constraint
on a whole window or group, |dz|^2 <= |dv|^2, as by the slopes of r = (a - b)_+

    da^2 + db^2 - dmax^2 - dmin^2 = 2 dr (da - db - dr) >= 0,

and where the winner is the same on a whole region the comparison is linear, and what lost is read no more. What can win
at all is for `contenders`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
from netgain.layers import Elementwise, GroupSort, MaxPool, Relu
from netgain.layers.arithmetic import Array
from netgain.layers.layer import Layer, Shape

from ..constraints import Rows
from ..enclosure import Enclosure

Maps = dict[int, Array]
"""A vector, by what it is made of: under each key a part, of which row i belongs to entry i."""


class Rivals(NamedTuple):
    """Of a comparison in the tournament of a window: of which entries of the window the sides are the maxima."""

    window: int
    left: np.ndarray
    right: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Neurons:
    """Neurons that answer at once, and their slopes for all inputs; `rivals`: of each, in tournaments."""

    activation: Elementwise
    shape: Shape
    lower: np.ndarray
    upper: np.ndarray
    rivals: tuple[Rivals, ...] = ()

    def __len__(self) -> int:
        return len(self.lower)


Respond = Callable[[Neurons, Maps], tuple[np.ndarray, Maps]]
"""From neurons and what they are fed to the one slope of each, or nan where there is none, and what they answer."""


@dataclasses.dataclass(frozen=True, eq=False)
class Round:
    """Comparisons of entries `left` with entries `right`; `byes` are the entries that take no part.

    The entries after it are the maxima, the minima for `sorting`, and the byes.
    """

    left: np.ndarray
    right: np.ndarray
    byes: np.ndarray
    sorting: bool
    neurons: Neurons

    def answer(self, entries: Maps, respond: Respond) -> Maps:
        left, right = _taken(entries, self.left), _taken(entries, self.right)
        slope, excess = respond(self.neurons, {p: left[p] - right[p] for p in left})
        # Where the winner is known it is read alone, so that nothing is left of the other.
        first, undecided = slope == 1, np.flatnonzero((slope != 0) & (slope != 1))
        result = [_changed(_chosen(first, left, right), excess, undecided)]
        if self.sorting:
            negative = {p: -part for p, part in excess.items()}
            result.append(_changed(_chosen(first, right, left), negative, undecided))
        return _stacked([*result, _taken(entries, self.byes)])


@dataclasses.dataclass(frozen=True, eq=False)
class Wiring:
    """How a layer is made of neurons: rounds of comparisons, or `direct` neurons, each fed by an entry.

    **Attributes:** `inputs`, `rows`: which entries of the layer's input, and which rows of its constraint, the entries
    are that are compared; `order`: which of them after all rounds is which entry of the answer; `windows`: of
    tournaments, the entries that take part in each.
    """

    inputs: np.ndarray
    rows: np.ndarray
    direct: Neurons | None = None
    rounds: tuple[Round, ...] = ()
    order: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=int))
    windows: tuple[np.ndarray, ...] = ()

    @property
    def neurons(self) -> tuple[Neurons, ...]:
        return tuple(round_.neurons for round_ in self.rounds) if self.direct is None else (self.direct,)

    def answer(self, fed: Maps, respond: Respond) -> Maps:
        """What the layer answers, if its neurons respond so, asked one after the other."""
        if self.direct is not None:
            return respond(self.direct, fed)[1]
        entries = fed
        for round_ in self.rounds:
            entries = round_.answer(entries, respond)
        return _taken(entries, self.order)


@dataclasses.dataclass(frozen=True, eq=False)
class LocalLayer:
    """A nonlinear layer: its node, its wiring, and by source the maps to its entries: a matrix, or as a vector of
    integers the entries of the source that it takes."""

    node: str
    wiring: Wiring
    maps: Mapping[int, Array]


@dataclasses.dataclass(frozen=True, eq=False)
class LocalRows:
    """The rows of a graph, its layers wired; `output`: matrices by source."""

    input_size: int
    layers: tuple[LocalLayer, ...]
    output: Mapping[int, Array]

    @classmethod
    def of(cls, rows: Rows, wirings: Sequence[Wiring]) -> Self:
        """With one wiring for each activation."""
        layers = []
        for layer, own in zip(rows.activations, wirings, strict=True):
            maps = layer.maps
            if own.direct is None:
                maps = {j: _selection(a[own.rows]) if j else a[own.rows] for j, a in maps.items()}
            layers.append(LocalLayer(layer.node, own, maps))
        return cls(rows.input_size, tuple(layers), rows.output)

    def enclosed(self) -> Self:
        """The same with enclosures for matrices."""
        def each(maps: Mapping[int, Array]) -> dict[int, Array]:
            return {j: a if a.ndim == 1 else Enclosure.of(a) for j, a in maps.items()}

        layers = tuple(dataclasses.replace(layer, maps=each(layer.maps)) for layer in self.layers)
        return type(self)(self.input_size, layers, each(self.output))


def product(a: Array, b: Array) -> Array:
    """The product of two maps; b is one of entries of its own, if it is a vector: of the identity these columns."""
    if b.ndim == 1:
        return np.equal.outer(a, b).astype(np.float64) if a.ndim == 1 else a[:, b]
    return b[a] if a.ndim == 1 else a @ b


def wiring(layer: Layer, shape: Shape, lower: np.ndarray, upper: np.ndarray) -> Wiring | None:
    """The wiring of a layer for inputs of this shape, None where it has none; `lower`, `upper`: its slopes."""
    if isinstance(layer, Elementwise):
        every = np.arange(len(lower))
        return Wiring(every, every, direct=Neurons(layer, shape, lower, upper))
    if isinstance(layer, GroupSort):
        return _sorting(np.arange(math.prod(shape)).reshape((-1, layer.size)))
    return _maxima(layer, shape) if isinstance(layer, MaxPool) else None


def _maxima(layer: MaxPool, shape: Shape) -> Wiring:
    """A tournament in each window, of the taps that read an entry."""
    windows = layer.windows(shape)
    window, tap, entry = windows.taps()
    count, taps, size = math.prod(windows.counts), math.prod(windows.kernel), math.prod(shape[1:])
    window, tap, entry = (np.concatenate([channel * step + values for channel in range(shape[0])])
                          for step, values in ((count, window), (0, tap), (size, entry)))
    # Windows may overlap: of the rows that read the same entry, one is enough.
    inputs, first, place = np.unique(entry, return_index=True, return_inverse=True)
    order = np.lexsort((tap, window))
    ends = np.flatnonzero(np.diff(window[order])) + 1
    entered = tuple(np.split(place.ravel()[order], ends))
    rounds, answers = _tournaments(entered)
    return Wiring(inputs, (window * taps + tap)[first], rounds=rounds, order=answers, windows=entered)


def _tournaments(windows: Sequence[np.ndarray]) -> tuple[tuple[Round, ...], np.ndarray]:
    """Rounds that end with the maxima of windows, each given by places among the entries, and where these are."""
    # By window its contestants: where they are now, and of which entries of the window they are the maxima.
    now = [[(int(place), np.array([i])) for i, place in enumerate(window)] for window in windows]
    rounds = []
    while max(map(len, now)) > 1:
        pairs = [(k, a, b) for k, window in enumerate(now) for a, b in zip(window[0:-1:2], window[1::2], strict=True)]
        byes = [(k, window[-1]) for k, window in enumerate(now) if len(window) % 2]
        rivals = tuple(Rivals(k, a[1], b[1]) for k, a, b in pairs)
        rounds.append(_round([(a[0], b[0]) for _, a, b in pairs], [bye[0] for _, bye in byes], False, rivals))
        now = [[] for _ in windows]
        for match, (k, a, b) in enumerate(pairs):
            now[k].append((match, np.concatenate([a[1], b[1]])))
        for place, (k, bye) in enumerate(byes, start=len(pairs)):
            now[k].append((place, bye[1]))
    return tuple(rounds), np.array([window[0][0] for window in now])


def _sorting(groups: np.ndarray) -> Wiring:
    """Each row of places in ascending order."""
    count, size = groups.shape
    now = groups.copy()
    rounds = []
    for comparisons in sorting_rounds(size):
        low, high = [i for i, _ in comparisons], [j for _, j in comparisons]
        others = np.setdiff1d(np.arange(size), low + high)
        left, right, byes = now[:, low].ravel(), now[:, high].ravel(), now[:, others].ravel()
        rounds.append(_round(list(zip(left, right, strict=True)), list(byes), True))
        now = np.empty_like(groups)
        ends = np.cumsum([0, left.size, left.size, byes.size])
        for places, begin, end in zip((high, low, others.tolist()), ends[:-1], ends[1:], strict=True):
            now[:, places] = np.arange(begin, end).reshape((count, -1))
    every = np.arange(groups.size)
    return Wiring(every, every, rounds=tuple(rounds), order=now.ravel())


def sorting_rounds(size: int) -> Iterator[list[tuple[int, int]]]:
    """Comparisons (i, j), i < j, that sort any `size` entries if the lesser is put at i; each entry once in a round.

    **Source:** Batcher's odd-even merges, AFIPS 1968.
    """
    merged = 1
    while merged < size:
        step = merged
        while step:
            yield [(i + j, i + j + step)
                   for j in range(step % merged, size - step, 2 * step) for i in range(min(step, size - j - step))
                   if (i + j) // (2 * merged) == (i + j + step) // (2 * merged)]
            step //= 2
        merged *= 2


def _round(pairs: list[tuple[int, int]], byes: list[int], sorting: bool,
           rivals: tuple[Rivals, ...] = ()) -> Round:
    left, right = np.array(pairs).T
    neurons = Neurons(Relu(), (len(pairs),), np.zeros(len(pairs)), np.ones(len(pairs)), rivals)
    return Round(left, right, np.array(byes, dtype=int), sorting, neurons)


def _selection(a: Array) -> Array:
    """The map as a vector of integers if it takes entries of its source, else as it is."""
    whole = Enclosure.of(a)
    ones = whole.mid == 1
    takes = not np.any(whole.rad) and np.count_nonzero(whole.mid) == len(ones) and np.all(ones.sum(axis=1) == 1)
    return np.argmax(ones, axis=1) if takes else a


def _taken(entries: Maps, places: np.ndarray) -> Maps:
    return {p: part[places] for p, part in entries.items()}


def _chosen(first: np.ndarray, one: Maps, other: Maps) -> Maps:
    """Rows of `one` where `first`, else of the other; both have the same parts."""
    rows = np.flatnonzero(first)
    return {p: _with_rows(part, rows, one[p][rows]) for p, part in other.items()}


def _changed(entries: Maps, change: Maps, rows: np.ndarray) -> Maps:
    """With these rows of the change added."""
    if not len(rows):
        return entries
    result = dict(entries)
    for p, part in change.items():
        if p in entries:
            result[p] = _with_rows(entries[p], rows, entries[p][rows] + part[rows])
        else:
            result[p] = _with_rows(_zeros(part.shape[0], part), rows, part[rows])
    return result


def _with_rows(a: Array, rows: np.ndarray, values: Array) -> Array:
    if isinstance(a, Enclosure):
        return Enclosure(_with_rows(a.mid, rows, values.mid), _with_rows(a.rad, rows, values.rad))
    result = a.copy()
    result[rows] = values
    return result


def _stacked(pieces: list[Maps]) -> Maps:
    """One below the other, with zeros for parts that are missing."""
    result: Maps = {}
    counts = [next(iter(piece.values())).shape[0] for piece in pieces]
    for p in dict.fromkeys(p for piece in pieces for p in piece):
        like = next(piece[p] for piece in pieces if p in piece)
        parts = [piece[p] if p in piece else _zeros(count, like) for piece, count in zip(pieces, counts, strict=True)]
        if isinstance(like, Enclosure):
            result[p] = Enclosure(np.concatenate([a.mid for a in parts]), np.concatenate([a.rad for a in parts]))
        else:
            result[p] = np.concatenate(parts)
    return result


def _zeros(count: int, like: Array) -> Array:
    zeros = np.zeros((count, *like.shape[1:]))
    return Enclosure.of(zeros) if isinstance(like, Enclosure) else zeros
