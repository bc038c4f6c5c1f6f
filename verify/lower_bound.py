"""Two inputs that exhibit a gain: the lower bound on the Lipschitz constant, found in float64 and proved in balls."""

import dataclasses
import math
import time
from collections.abc import Mapping

import numpy as np
from flint import arb
from netgain.layers import FixedPoint
from netgain.layers.arithmetic import Array
from netgain.layers.differential import Linearisation
from netgain.layers.graph import Graph

from .balls import BALLS, lower, precision, upper
from .constraints import constraint_rows
from .implicit.solution_enclosure import Solver, solver

_PRECISIONS = (64, 128, 256, 512, 1024, 2048, 4096)
_RELATIVE_RADIUS = 1e-9


class UndecidedError(ArithmeticError):
    """Balls of the highest precision were still too wide to state the ratio."""


@dataclasses.dataclass(frozen=True, eq=False)
class Witness:
    """Two inputs of the network's input shape, and the gain between them.

    **Attributes:** `ratio`: proved to be at most |f(x) - f(x')| / |x - x'| in real arithmetic; `ratio_float`: the same
    as float64 sees it, not proved.
    """

    x: np.ndarray
    x_prime: np.ndarray
    ratio: float
    ratio_float: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class WitnessSearch:
    """Ascent on the norm of the Jacobian over inputs, then pairs along its top singular vector.

    **Arguments:** `starts`: random inputs, ascended as one batch; `steps`: of the ascent, during which the smoothing
    of the slopes is narrowed; `trials`: rounds of random local search after it; `scales`: standard deviations of the
    starts; `seed`; `time_limit`: seconds.
    """

    starts: int = 32
    steps: int = 200
    trials: int = 40
    scales: tuple[float, ...] = (0.1, 1.0, 10.0)
    seed: int = 0
    time_limit: float = math.inf

    def __post_init__(self) -> None:
        if self.starts < 1 or not self.scales or min(self.scales) <= 0:
            raise ValueError(f"A search needs `starts` of at least 1 and positive `scales`, got {self.starts} and "
                             f"{self.scales}.")
        if not self.time_limit > 0:
            raise ValueError(f"`time_limit` must be positive seconds, got {self.time_limit!r}.")

    def find(self, graph: Graph, slopes: Mapping[str, np.ndarray] | None = None,
             loop_metrics: Mapping[str, np.ndarray] | None = None) -> Witness:
        """The best pair found, its ratio proved. Stops soon after the time limit.

        **Arguments:** `slopes`: for some activations the slopes wanted, of any shape of their size, such as those of
        the gradient system; half of the starts are first moved to where the slopes are most like them. `loop_metrics`:
        for every implicit layer a metric that proves it well-posed, see :func:`prove_witness`.
        """
        deadline = time.perf_counter() + self.time_limit
        rng = np.random.default_rng(self.seed)
        shape = (self.starts, *graph.shape(graph.input))
        scales = np.resize(self.scales, self.starts).reshape(-1, *(1,) * (len(shape) - 1))
        x, q = scales * rng.standard_normal(shape), _unit(rng.standard_normal(shape))
        if slopes:
            half = max(self.starts // 2, 1)
            x[:half] = _approach(graph, x[:half], slopes, self.steps // 2, deadline)
        best = _Best(graph, x, q)
        _ascend(graph, best, self.steps, deadline)
        _wander(graph, best, self.trials, rng, deadline)
        return _pair(graph, best, loop_metrics)


def prove_witness(graph: Graph, x: np.ndarray, x_prime: np.ndarray,
                  loop_metrics: Mapping[str, np.ndarray] | None = None, *, order: float = 2) -> float:
    """A lower bound on |f(x) - f(x')| / |x - x'|, proved in ball arithmetic and rounded down.

    The inputs are taken as the exact float64 numbers given, and f in real arithmetic.

    **Arguments:** `loop_metrics`: for every implicit layer the diagonal of a metric; whether it proves the layer to be
    well-posed is decided here; `order`: of both norms, 2 or inf.

    **Raises:** `ValueError` if the inputs are equal, not finite or of the wrong shape; `UndecidedError`, also
    where the metrics do not prove implicit layers well-posed.
    """
    pair = [np.asarray(point, dtype=np.float64) for point in (x, x_prime)]
    shape = graph.shape(graph.input)
    if any(point.shape != shape for point in pair):
        raise ValueError(f"A witness has two inputs of shape {shape}, got {pair[0].shape} and {pair[1].shape}.")
    if not all(np.all(np.isfinite(point)) for point in pair):
        raise ValueError("A witness has finite inputs.")
    if np.array_equal(pair[0], pair[1]):
        raise ValueError("The two inputs of a witness are equal: they show no gain.")
    solvers = _solvers(graph, loop_metrics or {})
    for bits in _PRECISIONS:
        with precision(bits):
            ratio = _ratio(graph, np.stack(pair), solvers, order)
            if ratio.is_finite() and upper(ratio.rad()) <= _RELATIVE_RADIUS * lower(ratio):
                return lower(ratio)
            if upper(ratio) == 0:
                return 0.0
    raise UndecidedError(f"With {_PRECISIONS[-1]} bits the gain between the two inputs is known only to lie in "
                         f"[{max(lower(ratio), 0.0)!r}, {upper(ratio)!r}].")


def _solvers(graph: Graph, metrics: Mapping[str, np.ndarray]) -> dict[str, Solver]:
    if not any(isinstance(graph.layer(node), FixedPoint) for node in graph.order):
        return {}
    found: dict[str, Solver] = {}
    for rows in constraint_rows(graph).loops:
        layer = graph.layer(rows.node)
        assert isinstance(layer, FixedPoint)
        own = solver(layer, rows, metrics[rows.node]) if rows.node in metrics else None
        if own is None:
            raise UndecidedError(f"The implicit layer {rows.node!r} is not proved well-posed by the metrics given for "
                                 f"{sorted(metrics)}, so that its solution is not enclosed.")
        found[rows.node] = own
    return found


def _ratio(graph: Graph, pair: np.ndarray, solvers: Mapping[str, Solver], order: float) -> arb:
    inputs = BALLS.constant(pair)
    values: dict[str, Array] = {graph.input: inputs}
    for node in graph.order[1:]:
        sources = [values[name] for name in graph.inputs(node)]
        own = solvers.get(node)
        values[node] = own.enclose(*sources) if own else graph.layer(node).forward(*sources, arithmetic=BALLS)
    if order == np.inf:
        return _largest(values[graph.output]) / _largest(inputs)
    return (_squares(values[graph.output]) / _squares(inputs)).sqrt()


def _largest(pair: np.ndarray) -> arb:
    largest = arb(0)
    for entry in (pair[0] - pair[1]).ravel():
        largest = largest.max(abs(entry))
    return largest


def _squares(pair: np.ndarray) -> arb:
    difference = (pair[0] - pair[1]).ravel()
    return sum((entry * entry for entry in difference), arb(0))


def _unit(x: np.ndarray) -> np.ndarray:
    """Members of length 1; zeros stay."""
    unit: np.ndarray = x / np.maximum(_norm(x), np.finfo(np.float64).tiny)
    return unit


def _norm(x: np.ndarray) -> np.ndarray:
    """The length of each member, broadcastable to x."""
    norm: np.ndarray = np.sqrt(np.sum(x**2, axis=tuple(range(1, x.ndim)), keepdims=True))
    return norm


class _Best:
    """For each member of a batch the point of largest gain so far, and the direction that shows it."""

    def __init__(self, graph: Graph, x: np.ndarray, q: np.ndarray):
        self.x, self.q = x, q
        self.gain = np.full(len(x), -math.inf)
        self.offer(graph, x, q, power=8)

    def offer(self, graph: Graph, x: np.ndarray, q: np.ndarray, power: int = 2) -> None:
        """Takes over members of larger gain, after some steps of the power method from q."""
        here = Linearisation(graph, x)
        for _ in range(power):
            image = here.transpose(here.apply(q))
            q = np.where(np.any(image, axis=tuple(range(1, q.ndim)), keepdims=True), _unit(image), q)
        gain = _norm(here.apply(q)).ravel()
        better = gain > self.gain
        self.gain = np.where(better, gain, self.gain)
        mask = better.reshape(-1, *(1,) * (x.ndim - 1))
        self.x, self.q = np.where(mask, x, self.x), np.where(mask, q, self.q)

    def keep(self, members: np.ndarray) -> None:
        self.x, self.q, self.gain = self.x[members], self.q[members], self.gain[members]


def _ascend(graph: Graph, best: _Best, steps: int, deadline: float) -> None:
    """Normalised gradient steps on the gain with smoothed slopes, steps and smoothing shrinking geometrically."""
    x, q = best.x, best.q
    size = np.maximum(_norm(x), 1e-3 * float(np.max(_norm(x))))
    for progress in np.linspace(0, 1, steps):
        smooth = Linearisation(graph, x, smoothing=10.0 ** (-0.5 - 2 * progress))
        p = smooth.apply(q)
        q = _live(_unit(smooth.transpose(p)), q)
        x = x + 10.0 ** (-0.7 - 1.6 * progress) * size * _unit(smooth.gain_gradient(_unit(smooth.apply(q)), q))
        best.offer(graph, x, q, power=1)
        if time.perf_counter() > deadline:
            break


def _wander(graph: Graph, best: _Best, trials: int, rng: np.random.Generator, deadline: float) -> None:
    """Random local search from the best quarter of the members."""
    best.keep(np.argsort(-best.gain)[: max(len(best.gain) // 4, 1)])
    for _ in range(trials):
        if time.perf_counter() > deadline:
            break
        reach = 10.0 ** rng.uniform(-3, 0, size=(len(best.x), *(1,) * (best.x.ndim - 1)))
        step = reach * (_norm(best.x) + 1e-3) * _unit(rng.standard_normal(best.x.shape))
        best.offer(graph, best.x + step, best.q)


def _approach(graph: Graph, x: np.ndarray, slopes: Mapping[str, np.ndarray], steps: int,
              deadline: float) -> np.ndarray:
    """Ascends the sum of the slopes wanted large minus those wanted small, with wide smoothing."""
    weights = {}
    for node, wanted in slopes.items():
        middle = (np.min(wanted) + np.max(wanted)) / 2
        sign = np.sign(np.reshape(wanted, graph.shape(node)) - middle)
        weights[node] = sign / math.sqrt(sign.size)
    size = _norm(x)
    for progress in np.linspace(0, 1, steps):
        smooth = Linearisation(graph, x, smoothing=3.0)
        x = x + 10.0 ** (-0.7 - progress) * size * _unit(smooth.slope_gradient(weights))
        if time.perf_counter() > deadline:
            break
    return x


def _live(direction: np.ndarray, former: np.ndarray) -> np.ndarray:
    """The direction, or the former one where it vanished."""
    return np.where(_norm(direction) > 0, direction, former)


def _pair(graph: Graph, best: _Best, loop_metrics: Mapping[str, np.ndarray] | None) -> Witness:
    """The best of x +- t q over the members and over t."""
    x, q = best.x, best.q
    extent = np.maximum(_norm(x), 1e-3)
    pairs = [(x + t * extent * q, x - t * extent * q) for t in 10.0 ** np.arange(-7.0, 1.0)]
    above, below = (np.concatenate(side) for side in zip(*pairs, strict=True))
    distance = _norm(above - below).ravel()
    change = _norm(graph.forward(above) - graph.forward(below)).ravel()
    ratio = np.divide(change, distance, out=np.zeros_like(change), where=distance > 0)
    usable = np.isfinite(ratio) & (distance > 0) & np.isfinite(distance)
    if not np.any(usable):
        raise UndecidedError("The search met no two inputs that differ, with outputs that float64 holds: the numbers "
                             "of this network are out of its reach.")
    ratio = np.where(usable, ratio, -1.0)
    # Between nearly equal ratios the wider pair is less at the mercy of rounding.
    chosen = int(np.flatnonzero(ratio >= ratio.max() * (1 - 1e-9))[-1])
    try:
        proved = prove_witness(graph, above[chosen], below[chosen], loop_metrics)
    except UndecidedError:  # equal outputs, as of a constant network, are enclosed in balls around 0 only
        proved = 0.0
    return Witness(above[chosen], below[chosen], proved, float(ratio[chosen]))
