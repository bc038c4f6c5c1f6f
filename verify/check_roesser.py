r"""The checker of certificates made of dissipation inequalities: one for each stage, whatever the image's size.

A certificate of `Mode.ROESSER` for K stages (`netgain.verify.dissipation`) holds, in scaled coordinates,

- `exponents`: of the input and of the stages' answers, e_0, .., e_(K-1), and with a head e_K and those of the head's
  blocks after the first; without, the answer of the last stage is the output;
- `multipliers`: lam of every stage with an activation, one for each channel, then those of the head;
- `metrics`: for k = 1, .., K the metric Q_k, but for the last where there is no head, followed by the storages P_a of
  stage k, axis by axis, but for axes without a state.

It is proved by: (*) for every stage, with Q_0 = rho I and Q_K = I without a head; Q_k >= 0; off-diagonal entries of
zero where pooling follows; P_a >= 0 where A is not nilpotent; and with a head its inequality with Q_K on every pixel
in place of rho. Where A is nilpotent the state vanishes soon after the last input, so that the sum over all pixels of
x^T P x - x^+^T P x^+ is zero whatever the signs of P.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from flint import arb
from netgain.layers import Graph
from netgain.layers.arithmetic import Array
from netgain.layers.roesser import Realisation
from netgain.layers.shift_invariant import Stencil

from .assembly import Terms, matrix_in_balls, matrix_in_double
from .balls import BALLS, to_matrix
from .certificate import Certificate
from .constraints import is_zero
from .dissipation import Chain, Stage, dissipative_chain, realised
from .enclosure import Enclosure
from .positive_definite import proved_in_balls, proved_in_double

# In balls, what takes longer than some minutes is left undecided.
_LARGEST_IN_BALLS = 1500


class RoesserChecker:
    """One inequality for each stage, and the head's (see `netgain.verify.check`)."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.chain = chain = dissipative_chain(graph, BALLS, in_double=True)
        head = [] if chain.head is None else [chain.head]
        self.multipliers = [stage.channels for stage in chain.stages if stage.lower is not None]
        self.multipliers += [len(r.lower) // r.coupled for h in head for r in h.rows.activations]
        self.metrics: list[int] = []
        for k, stage in enumerate(chain.stages, 1):
            self.metrics += [stage.channels] if head or k < len(chain.stages) else []
            self.metrics += [part.stop - part.start for part in realised(stage, 0, BALLS).blocks]
        self.blocks = len(chain.stages) + sum(len(h.rows.sizes) for h in head)
        self.is_constant = any(_vanishes(stage) for stage in chain.stages) or any(
            all(is_zero(c) for c in h.rows.output.values()) for h in head)

    def proved_in_double(self, certificate: Certificate) -> bool:
        if not _diagonal_where_needed(certificate, self.chain):
            return False
        for matrix in _matrices(certificate, self.chain, _InDouble()):
            if not proved_in_double({(0, 0): matrix.mid}, {(0, 0): matrix.rad}, 1):
                return False
        terms = _head_terms(certificate, self.chain)
        blocks = None if terms is None else matrix_in_double(terms)
        return terms is None or (blocks is not None and proved_in_double(*blocks, len(terms.rows.sizes)))

    def proved_in_balls(self, certificate: Certificate) -> bool:
        chain = dissipative_chain(self.graph, BALLS)
        if not _diagonal_where_needed(certificate, chain):
            return False
        terms = _head_terms(certificate, chain)
        if terms is not None and sum(terms.rows.sizes) > _LARGEST_IN_BALLS:
            return False
        stages = all(proved_in_balls({(0, 0): to_matrix(m)}, 1) for m in _matrices(certificate, chain, _InBalls()))
        return stages and (terms is None or proved_in_balls(matrix_in_balls(terms), len(terms.rows.sizes)))


class _InDouble:
    """Enclosures: products of midpoints with bounds on their errors."""

    lift: Callable[[Array], Array] = staticmethod(Enclosure.of)

    def product(self, left: Array, right: Array) -> Array:
        return left @ right

    def scaled(self, value: float, exponent: int) -> Array:
        with np.errstate(over="ignore"):
            result = math.ldexp(value, exponent) if abs(exponent) < 2000 else math.nan
        exact = math.isfinite(result) and math.ldexp(result, -exponent) == value
        return Enclosure.of(np.array(result if exact else math.nan))


class _InBalls:
    """Arrays of balls at the current precision."""

    def lift(self, array: Array) -> Array:
        return array if array.dtype == object else BALLS.constant(array)

    def product(self, left: Array, right: Array) -> Array:
        return BALLS.matmul(left, right)

    def scaled(self, value: float, exponent: int) -> Array:
        return np.array(arb(value) * arb(2) ** exponent, dtype=object)


_Numbers = _InDouble | _InBalls
_Share = tuple[Stage, np.ndarray | None, list[np.ndarray], np.ndarray | None, Realisation]


def _vanishes(stage: Stage) -> bool:
    if isinstance(stage.filter, Stencil):
        return is_zero(stage.filter.coefficients)
    return is_zero(stage.filter.C) and is_zero(stage.filter.D)


def _split(certificate: Certificate, chain: Chain) -> Iterator[_Share]:
    """By stage: Q_k or None for I, the storages, lam or None, and the scaled system."""
    exponents = certificate.exponents if chain.head else (*certificate.exponents, certificate.output_exponent)
    metrics, multipliers = iter(certificate.metrics), iter(certificate.multipliers)
    for k, stage in enumerate(chain.stages):
        metric = next(metrics) if chain.head or k + 1 < len(chain.stages) else None
        system = realised(stage, exponents[k] - exponents[k + 1], BALLS)
        storages = [next(metrics) for _ in system.blocks]
        yield stage, metric, storages, next(multipliers) if stage.lower is not None else None, system


def _diagonal_where_needed(certificate: Certificate, chain: Chain) -> bool:
    return all(metric is None or not stage.diagonal or np.array_equal(metric, np.diag(np.diagonal(metric)))
               for stage, metric, *_ in _split(certificate, chain))


def _matrices(certificate: Certificate, chain: Chain, numbers: _Numbers) -> Iterator[Array]:
    """All matrices that have to be positive semidefinite, but for the head's."""
    e, o = certificate.exponents, certificate.output_exponent
    gain = numbers.scaled(certificate.value, e[0] - o)
    before: Array = numbers.lift(np.eye(chain.channels)) * (gain * gain)
    for stage, metric, storages, multipliers, system in _split(certificate, chain):
        after = numbers.lift(np.eye(stage.channels) if metric is None else metric)
        yield _dissipation(stage, system, before, after, storages, multipliers, numbers)
        if metric is not None:
            yield after
        if not system.finite:
            yield from map(numbers.lift, storages)
        before = after


def _dissipation(stage: Stage, system: Realisation, before: Array, after: Array, storages: list[np.ndarray],
                 multipliers: np.ndarray | None, numbers: _Numbers) -> Array:
    """The matrix of (*) in (x, u, z), or in (x, u) where z = v."""
    lift, product = numbers.lift, numbers.product
    states, inputs = system.B.shape
    answers = 0 if multipliers is None else stage.channels
    order = states + inputs + answers
    whole = np.eye(order)

    def form(left: Array, weight: Array, right: Array) -> Array:
        return product(left.T, product(weight, right))

    ahead, v = (lift(_beside(left, right, answers)) for left, right in ((system.A, system.B), (system.C, system.D)))
    u = [lift(whole[states + phase : states + inputs : stage.phases]) for phase in range(stage.phases)]
    total = lift(np.zeros((order, order)))
    for part, storage in zip(system.blocks, storages, strict=True):
        x = lift(whole[part])
        total = total + form(x, lift(storage), x) + form(ahead[part], lift(-storage), ahead[part])
    for read in u:
        total = total + form(read, before, read)
    if multipliers is None:
        return total + form(v, after * lift(np.array(-float(stage.gain))), v)
    assert stage.lower is not None
    assert stage.upper is not None
    z, lam, lower, upper = (lift(part) for part in (whole[states + inputs :], multipliers, stage.lower, stage.upper))
    identity = lift(np.eye(answers))
    minus = lift(np.array(-1.0))
    total = total + form(z, after * minus, z) + form(z, identity * (lam + lam), z)
    coupling = identity * (lam * (lower + upper) * minus)
    total = total + form(z, coupling, v) + form(v, coupling, z)
    return total + form(v, identity * ((lam + lam) * lower * upper), v)


def _beside(left: Array, right: Array, blank: int) -> Array:
    """[left, right, 0], balls if one of them is."""
    parts = [left, right, np.zeros((len(left), blank))]
    if any(part.dtype == object for part in parts):
        parts = [part if part.dtype == object else BALLS.constant(part) for part in parts]
    return np.concatenate(parts, axis=1)


def _head_terms(certificate: Certificate, chain: Chain) -> Terms | None:
    """The terms of the head's M: the metric on every pixel of the tensor takes the place of rho."""
    if chain.head is None:
        return None
    rows, count = chain.head.rows, len(chain.stages)
    for _, metric, *_ in _split(certificate, chain):
        last = metric
    assert last is not None
    own = certificate.multipliers[len(certificate.multipliers) - len(rows.activations) :]
    multipliers = tuple(np.repeat(array, layer.coupled) for array, layer in zip(own, rows.activations, strict=True))
    start = np.kron(last, np.eye(chain.head.pixels))
    return Terms(rows, multipliers, certificate.exponents[count:], certificate.output_exponent, start)
