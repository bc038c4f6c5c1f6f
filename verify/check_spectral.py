r"""The checker of certificates with one multiplier per channel: one inequality for each frequency of the torus.

With E(q) = exp(i w . q) on the cells q of the torus, a kernel acts on X E(q) by its symbol

    A(w) = sum_s coefficients[s] exp(i w . shifts[s]),    w_a = 2 pi n_a / cells_a,

and the inequality on all cells holds if and only if it does for the symbols at every w (Parseval). That is a Hermitian
matrix inequality of the same form; X + iY is made real as [[X, -Y], [Y, X]], which turns conjugate transposes into
transposes and keeps products, sums and definiteness. Coefficients are real, so -w gives the complex conjugate of what w
gives, and is semidefinite with it.

With a head, v being the tensor it reads, and a metric Q on the channels of v,

    rho |u|^2 >= sum over all pixels of the torus of v^T Q v,    Q >= 0,    sum over the image of v^T Q v >= |y|^2.

A network that is cut into stages (`netgain.verify.stages`) has such a chain with a metric for each interface. There v
is an activation's answer, zero outside its image, so that both sums are the same whatever the signs of Q.

A certificate lists multipliers and exponents stage after stage, the exponent of an interface being the first of what
follows it, and the metrics in order.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from flint import arb, fmpq
from netgain.layers import Graph
from netgain.layers.arithmetic import Array
from netgain.layers.shift_invariant import Kernel

from .assembly import Terms, matrix_in_balls, matrix_in_double
from .balls import BALLS, to_matrix, to_midpoint_radius
from .certificate import Certificate
from .channelwise import Channelwise, Head
from .constraints import ActivationRows, Rows, is_zero
from .enclosure import Enclosure
from .positive_definite import decided_in_double, proved_in_balls, proved_in_double
from .stages import stages

# Entries of M and of the maps that are held at a time.
_ENTRIES = 2**20
# In balls, what takes longer than some seconds for one frequency is left undecided.
_LARGEST_IN_BALLS = 1500


def frequencies(cells: tuple[int, ...]) -> np.ndarray:
    """n of every frequency w_a = 2 pi n_a / cells_a, or of -w in its stead; shape (frequencies, axes).

    Of n and -n (mod cells) the one that comes first is kept: whichever it is, one of them is.
    """
    n = np.stack(np.unravel_index(np.arange(math.prod(cells)), cells), axis=-1)
    opposite = np.ravel_multi_index(tuple(np.mod(-n, cells).T), cells)
    half: np.ndarray = n[np.arange(len(n)) <= opposite]
    return half


class Twiddles:
    """exp(2 pi i k / length) for k = 0, .., length - 1, the least common multiple of the cells, as enclosures."""

    def __init__(self, cells: tuple[int, ...]):
        self.cells = cells
        self.length = math.lcm(*cells)
        sine, cosine = zip(*(arb.sin_cos_pi_fmpq(fmpq(2 * k, self.length)) for k in range(self.length)), strict=True)
        self.cosine, self.sine = (Enclosure(*to_midpoint_radius(_objects(values))) for values in (cosine, sine))

    def turns(self, n: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """k with w . shift = 2 pi k / length, shape (frequencies, shifts)."""
        turns = np.zeros((len(n), len(shifts)), dtype=np.int64)
        for axis, size in enumerate(self.cells):
            along = np.multiply.outer(n[:, axis], shifts[:, axis]) % size
            turns = (turns + along * (self.length // size)) % self.length
        return turns

    def symbols(self, kernel: Kernel, n: np.ndarray) -> Enclosure:
        """The real forms of A(w), shape (frequencies, 2 rows, 2 columns)."""
        turns = self.turns(n, kernel.shifts)
        shape = (len(n), kernel.rows, kernel.columns)
        coefficients = Enclosure.of(kernel.coefficients.reshape((len(kernel.shifts), -1)))
        real, imaginary = ((part[turns] @ coefficients).reshape(shape) for part in (self.cosine, self.sine))
        return Enclosure(_real_form(real.mid, -imaginary.mid, imaginary.mid),
                         _real_form(real.rad, imaginary.rad, imaginary.rad))

    def symbol_in_balls(self, kernel: Kernel, n: np.ndarray) -> Array:
        """The real form of A(w) at one frequency and the current precision."""
        turns = self.turns(n[None], kernel.shifts)[0]
        sine, cosine = zip(*(arb.sin_cos_pi_fmpq(fmpq(2 * int(k), self.length)) for k in turns), strict=True)
        coefficients = kernel.coefficients.reshape((len(turns), -1))
        real, imaginary = (
            BALLS.matmul(_objects(part)[None], coefficients).reshape((kernel.rows, kernel.columns))
            for part in (cosine, sine)
        )
        return _real_form(real, -imaginary, imaginary)


def _objects(balls: tuple[arb, ...]) -> Array:
    result = np.empty(len(balls), dtype=object)
    result[:] = balls
    return result


def _real_form(real: Array, upper: Array, lower: Array) -> Array:
    return np.concatenate([np.concatenate([real, upper], axis=-1), np.concatenate([lower, real], axis=-1)], axis=-2)


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """What a certificate says of one stage, or of the head.

    **Attributes:** `start`, `metric`: those of `Terms`, on the channels of its input and output; `multipliers`: by
    layer; `exponents`: of its blocks.
    """

    start: tuple[float, int] | np.ndarray
    metric: np.ndarray | None
    multipliers: tuple[np.ndarray, ...]
    exponents: tuple[int, ...]
    output_exponent: int


def split(certificate: Certificate, models: tuple[Channelwise, ...]) -> list[Part]:
    """The certificate's share in every stage, and in the head if there is one."""
    counts = [len(model.constraints) for model in models]
    if models[-1].head:
        counts.append(len(models[-1].head.rows.activations))
    ends = np.cumsum([0, *counts])
    exponents, parts = (*certificate.exponents, certificate.output_exponent), []
    for k, (start, end) in enumerate(itertools.pairwise(map(int, ends))):
        own = exponents[start + k : end + k + 2]
        gain = (certificate.value, own[0] - certificate.output_exponent)
        parts.append(Part(certificate.metrics[k - 1] if k else gain,
                          certificate.metrics[k] if k < len(counts) - 1 else None,
                          certificate.multipliers[start:end], own[:-1], own[-1]))
    return parts


class SpectralChecker:
    """One multiplier per channel: M at every frequency of every stage, the metric on the head, and the head (see
    `netgain.verify.check`)."""

    def __init__(self, graph: Graph, interfaces: tuple[int, ...] = ()):
        """`interfaces`: those of a certificate.

        **Raises:** `ModeError` if the network has no such stages.
        """
        places = dict(enumerate(graph.order))
        self.graph, self.interfaces = graph, tuple(places.get(place, "") for place in interfaces)
        self.models = models = stages(graph, self.interfaces, BALLS, in_double=True)
        self.head = models[-1].head
        head = [] if self.head is None else [self.head]
        self.multipliers = [rows.channels for model in models for rows in model.constraints]
        self.multipliers += [len(r.lower) // r.coupled for h in head for r in h.rows.activations]
        joined = models if head else models[:-1]
        self.metrics = [next(iter(model.output.values())).rows // model.phases for model in joined]
        self.blocks = sum(len(model.sizes) for model in models) + sum(len(h.rows.sizes) for h in head)
        vanishing = [[kernel.coefficients for kernel in model.output.values()] for model in models]
        vanishing += [list(h.rows.output.values()) for h in head]
        self.is_constant = any(all(is_zero(c) for c in part) for part in vanishing)
        self.stages = [_StageChecker(model) for model in models]
        self.head_undecided = bool(head)

    def proved_in_double(self, certificate: Certificate) -> bool:
        parts = split(certificate, self.models)
        self.head_undecided = self.head is not None and not _head_proved_in_double(parts[-1], self.head)
        # All of them, so that balls are for what is left.
        proved = [stage.proved_in_double(part) for stage, part in zip(self.stages, parts, strict=False)]
        return all(proved) and not self.head_undecided

    def proved_in_balls(self, certificate: Certificate) -> bool:
        """For the frequencies, and the head, that double precision left undecided."""
        orders = [2 * sum(stage.model.sizes) for stage in self.stages if stage.undecided]
        orders += [sum(self.head.rows.sizes)] if self.head and self.head_undecided else []
        if max(orders, default=0) > _LARGEST_IN_BALLS:
            return False
        # At this precision, and with matrices of balls in the head.
        models = stages(self.graph, self.interfaces, BALLS)
        parts = split(certificate, models)
        head = models[-1].head
        if self.head_undecided and head and not _head_proved_in_balls(parts[-1], head):
            return False
        self.head_undecided = False
        return all(stage.proved_in_balls(part, model) for stage, part, model in
                   zip(self.stages, parts, models, strict=False))


class _StageChecker:
    """M of one stage at every frequency of its torus."""

    def __init__(self, model: Channelwise):
        self.model, self.enclosed = model, _enclosed(model)
        self.twiddles = Twiddles(model.cells)
        # What is still to be proved: everything, until `proved_in_double` has seen it.
        self.undecided = list(frequencies(model.cells))

    def proved_in_double(self, part: Part) -> bool:
        self.undecided = [n for stack in self._stacks() for n in stack[~self._decided_in_double(part, stack)]]
        return not self.undecided

    def proved_in_balls(self, part: Part, model: Channelwise) -> bool:
        """At the precision of `model`."""
        while self.undecided:
            terms = _terms(part, model, functools.partial(self.twiddles.symbol_in_balls, n=self.undecided[-1]))
            if not proved_in_balls(matrix_in_balls(terms), len(model.sizes)):
                return False
            self.undecided.pop()
        return True

    def _stacks(self) -> Iterator[np.ndarray]:
        """The frequencies in stacks that fit into memory."""
        n, sizes = frequencies(self.model.cells), self.model.sizes
        entries = sum(size * size for size in sizes)
        for maps in (*(rows.maps for rows in self.model.constraints), self.model.output):
            entries += sum(kernel.rows * kernel.columns for kernel in maps.values())
            entries += sum(sizes[i] * sizes[j] for i in maps for j in maps if i >= j)
        step = max(1, _ENTRIES // (4 * entries))
        for start in range(0, len(n), step):
            yield n[start : start + step]

    def _decided_in_double(self, part: Part, n: np.ndarray) -> np.ndarray:
        terms = _terms(part, self.enclosed, functools.partial(self.twiddles.symbols, n=n))
        matrix = matrix_in_double(terms)
        if matrix is None:
            return np.zeros(len(n), dtype=bool)
        return np.broadcast_to(decided_in_double(*matrix, len(self.model.sizes)), len(n))


def _head_proved_in_double(part: Part, head: Head) -> bool:
    metric, matrix = part.start, matrix_in_double(_head_terms(part, head))
    assert not isinstance(metric, tuple)
    return (matrix is not None and proved_in_double(*matrix, len(head.rows.sizes))
            and proved_in_double({(0, 0): metric}, {(0, 0): np.zeros(metric.shape)}, 1))


def _head_proved_in_balls(part: Part, head: Head) -> bool:
    assert not isinstance(part.start, tuple)
    return (proved_in_balls({(0, 0): to_matrix(part.start)}, 1)
            and proved_in_balls(matrix_in_balls(_head_terms(part, head)), len(head.rows.sizes)))


def _enclosed(model: Channelwise) -> Channelwise:
    """The model with its kernels as enclosures, which are read at every frequency."""

    def enclosed(maps: Mapping[int, Kernel]) -> dict[int, Kernel]:
        return {j: Kernel(kernel.shifts, Enclosure.of(kernel.coefficients)) for j, kernel in maps.items()}

    constraints = tuple(dataclasses.replace(rows, maps=enclosed(rows.maps)) for rows in model.constraints)
    return dataclasses.replace(model, constraints=constraints, output=enclosed(model.output))


def _terms(part: Part, model: Channelwise, symbol: Callable[[Kernel], Array]) -> Terms:
    """The terms of M at one frequency, or a stack of them, in real form: every block twice its size."""
    layers = tuple(
        ActivationRows(rows.node, {j: symbol(kernel) for j, kernel in rows.maps.items()}, np.tile(rows.lower, 2),
                       np.tile(rows.upper, 2), 1,
                       None if rows.kept is None else np.concatenate([rows.kept, rows.kept + len(rows.lower)]))
        for rows in model.constraints
    )
    multipliers = tuple(np.tile(array[rows.channel], 2)
                        for array, rows in zip(part.multipliers, model.constraints, strict=True))
    output = {j: symbol(kernel) for j, kernel in model.output.items()}
    metric = None if part.metric is None else _on_pixels(part.metric, model.phases)
    start = part.start
    if not isinstance(start, tuple):
        start = _on_pixels(start, model.input_size // len(start))
    return Terms(Rows(2 * model.input_size, layers, output), multipliers, part.exponents, part.output_exponent, start,
                 metric)


def _on_pixels(metric: np.ndarray, phases: int) -> np.ndarray:
    """On the real form of a cell's entries, ordered by channel, then phase."""
    result: np.ndarray = np.kron(np.eye(2), np.kron(metric, np.eye(phases)))
    return result


def _head_terms(part: Part, head: Head) -> Terms:
    """The terms of the head's M: the metric on every pixel of the tensor takes the place of rho."""
    layers = zip(part.multipliers, head.rows.activations, strict=True)
    multipliers = tuple(np.repeat(array, layer.coupled) for array, layer in layers)
    assert not isinstance(part.start, tuple)
    start = np.kron(part.start, np.eye(head.pixels))
    return Terms(head.rows, multipliers, part.exponents, part.output_exponent, start)
