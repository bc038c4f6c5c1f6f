r"""Lower bounds over slopes: maximise ||J(D)||_2, where y = J(D) u when every layer answers z_k = D_k v_k.

No method that knows only the slope constraints can prove less than sup_D ||J(D)||. With the top singular triple
(s, p, q) of J, right_k = v_k for u = q, and left_k the adjoint of z_k for y = p, the gradient is ds/dD_k = left_k
right_k entrywise (Guglielmi et al., arXiv 2402.13092, extended to several layers and to skips). s is convex in each
D_k alone.

A layer with diagonal slopes has D_k in the box [lower, upper]. A group with one constraint in common has
z = c v + U r v with ||U||_2 <= 1, c and r the centre and the radius of its interval; a row of it that has no answer has
z = 0, and r^2 = -lower * upper.
"""

import dataclasses
import enum
import math
import time
from collections.abc import Sequence

import numpy as np

from .inequality import Inequality, SlopeConstraint
from .slope_system import Diagonal, Slopes, SlopeSystem, normalised, random_slopes


class Method(enum.Enum):
    """What found the best slopes."""

    SWEEPS = "Alternating best responses of p, D_1, .., D_l and q."
    FLOW = "The projected gradient flow D' = grad ||J(D)||, followed by alternating best responses."
    RECOMBINATION = "Best responses from slopes mixed of two good ones, neuron by neuron, with some changed at random."
    FLIPS = "Single slopes moved to the other end of their interval, followed by alternating best responses."


@dataclasses.dataclass(frozen=True, eq=False)
class SlopeLowerBound:
    """Slopes and a direction that exhibit the gain `value` = |J(D) q| / |q|, up to rounding of float64.

    Values are those of the inequality given; slopes are the same in scaled coordinates.

    **Attributes:** `slopes`: by layer D_k, shape (n_k,), or (groups, size, size) for coupled groups; `right`: q, shape
    (n_0,); `history`: the best value after each round, never decreasing.
    """

    value: float
    slopes: tuple[np.ndarray, ...]
    right: np.ndarray
    method: Method
    history: tuple[float, ...]
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientSystem:
    """Maximises ||J(D)|| from several starts: all at once, as one batch.

    **Arguments:** `restarts`: the size of the batch: the middle, the upper ends, then random points of the interior
    and random vertices; `seed`: of all random choices; `time_limit`: seconds; `rounds`: the most rounds of
    recombination, which also end after `patience` rounds without gain; `sweeps`: the most sweeps of one round.
    """

    restarts: int = 32
    seed: int = 0
    time_limit: float = math.inf
    rounds: int = 60
    patience: int = 8
    sweeps: int = 60

    def __post_init__(self) -> None:
        for name in ("restarts", "sweeps"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not self.time_limit > 0:
            raise ValueError(f"`time_limit` must be positive seconds, got {self.time_limit!r}.")

    def solve(self, inequality: Inequality) -> SlopeLowerBound:
        """The best slopes found. Stops soon after the time limit, with a valid lower bound at any time."""
        start = time.perf_counter()
        deadline = start + self.time_limit
        rng = np.random.default_rng(self.seed)
        system, record = SlopeSystem(inequality), _Record(SlopeSystem(inequality))
        pool = _Pool(_starts(inequality.constraints, self.restarts, rng),
                     normalised(rng.standard_normal((self.restarts, inequality.input_size))))

        # The flow takes many more passes than the sweeps do, so it gets few of the starts.
        flowed = flow(system, pool.take(np.arange(min(self.restarts, 4))), deadline=deadline)
        flowed = sweep(system, flowed, self.sweeps, deadline)
        record.offer(flowed, Method.FLOW)
        pool = sweep(system, pool, self.sweeps, deadline)
        record.offer(pool, Method.SWEEPS)

        pool, waited = _best(system, pool.join(flowed), self.restarts), 0
        for _ in range(self.rounds if inequality.constraints else 0):
            if waited >= self.patience or time.perf_counter() > deadline:
                break
            children = sweep(system, _recombine(pool, rng), self.sweeps, deadline)
            waited = 0 if record.offer(children, Method.RECOMBINATION) else waited + 1
            pool = _best(system, pool.join(children), self.restarts)

        improved = True
        while improved and time.perf_counter() < deadline:
            flipped = _flip(system, record.best)
            improved = flipped is not None and record.offer(sweep(system, flipped, self.sweeps, deadline), Method.FLIPS)
        return SlopeLowerBound(
            value=record.value,
            slopes=tuple(slopes.matrix() for slopes in record.best.slopes),
            right=record.best.q[0],
            method=record.method,
            history=tuple(record.history),
            seconds=time.perf_counter() - start,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Pool:
    """A batch of slopes of all layers, and of directions q of shape (batch, n_0)."""

    slopes: list[Slopes]
    q: np.ndarray

    def take(self, members: np.ndarray) -> "_Pool":
        return _Pool([slopes.take(members) for slopes in self.slopes], self.q[members])

    def join(self, other: "_Pool") -> "_Pool":
        slopes = [a.join(b) for a, b in zip(self.slopes, other.slopes, strict=True)]
        return _Pool(slopes, np.concatenate([self.q, other.q]))


class _Record:
    """The best slopes so far."""

    def __init__(self, system: SlopeSystem):
        self._system = system
        self.value, self.method = -math.inf, Method.SWEEPS
        self.best: _Pool
        self.history: list[float] = []

    def offer(self, pool: _Pool, method: Method) -> bool:
        """Evaluates the best member by a dense singular value decomposition; whether it is the new best."""
        best = pool.take(np.array([np.argmax(self._system.gain(pool.slopes, pool.q))]))
        direction = np.linalg.svd(self._system.jacobian(best.slopes), full_matrices=False)[2][:1]
        # The value is that of a pass with this direction: a lower bound however well the decomposition converged.
        value = float(self._system.gain(best.slopes, direction)[0])
        better = not self.history or value > self.value * (1 + 1e-12)
        if better:
            self.value, self.best, self.method = value, _Pool(best.slopes, direction), method
        self.history.append(self.value)
        return better


def _best(system: SlopeSystem, pool: _Pool, size: int) -> _Pool:
    """The `size` best members; members of equal gain are taken to be copies, and one of them is kept."""
    gain = system.gain(pool.slopes, pool.q)
    order = np.argsort(-gain)
    copies = np.concatenate([[False], np.diff(gain[order]) > -1e-7 * gain[order[0]]])
    return pool.take(np.concatenate([order[~copies], order[copies]])[:size])


def _recombine(pool: _Pool, rng: np.random.Generator, mutation: float = 0.1) -> _Pool:
    mothers, fathers = rng.integers(0, len(pool.q), size=(2, len(pool.q)))
    slopes = [layer.recombine(mothers, fathers, mutation, rng) for layer in pool.slopes]
    return _Pool(slopes, pool.q[mothers])


def _starts(constraints: Sequence[SlopeConstraint], restarts: int, rng: np.random.Generator) -> list[Slopes]:
    slopes = []
    for constraint in constraints:
        inside = rng.uniform(size=(restarts, constraint.rows))
        ends = rng.integers(0, 2, size=inside.shape)
        weights = np.where(np.arange(restarts)[:, None] % 2 == 0, inside, ends)
        weights[:1], weights[1:2] = 0.5, 1.0
        slopes.append(random_slopes(constraint, weights, rng))
    return slopes


def sweep(system: SlopeSystem, pool: _Pool, sweeps: int, deadline: float = math.inf, tolerance: float = 1e-10) -> _Pool:
    """Maximises p^T J(D) q over unit p and q and over each D_k in turn.

    p^T J q is affine in each D_k, so every step is exact and the value never decreases. A sweep is one pass backward
    and one forward.
    """
    slopes, q = pool.slopes, pool.q
    passage, value = system.forward(slopes, q), np.zeros(len(q))
    for _ in range(sweeps):
        backward = system.backward(slopes, normalised(passage.end), passage.at)
        q = _live(normalised(backward.end), q)
        # The adjoints belong to the slopes that the backward pass chose, so the forward pass starts from those.
        passage = system.forward(backward.slopes, q, backward.at)
        slopes = passage.slopes
        before, value = value, np.linalg.norm(passage.end, axis=1)
        if np.all(value <= before * (1 + tolerance)) or time.perf_counter() > deadline:
            break
    return _Pool(slopes, q)


def flow(system: SlopeSystem, pool: _Pool, steps: int = 60, power: int = 2, deadline: float = math.inf) -> _Pool:
    """Follows D' = P(grad ||J(D)||), P the projection on the admissible directions, with accepted steps only.

    The singular pair is followed by `power` steps of the power method. A member's step doubles when it is accepted and
    is quartered when it is not.
    """
    slopes, q = pool.slopes, pool.q
    if not slopes:
        return pool
    passage = system.forward(slopes, q)
    value, step = np.linalg.norm(passage.end, axis=1), np.ones(len(q))
    for _ in range(steps):
        left = system.backward(slopes, normalised(passage.end)).at
        # The first step moves slopes by about one at the largest entry of the gradient.
        largest = np.max([np.max(np.abs(a * b), axis=1) for a, b in zip(left, passage.at, strict=True)], axis=0)
        length = np.divide(step, largest, out=np.zeros(len(q)), where=largest > 0)
        trial = [layer.move(a, b, length) for layer, a, b in zip(slopes, left, passage.at, strict=True)]
        direction = q
        for _ in range(power):
            there = normalised(system.forward(trial, direction).end)
            direction = _live(normalised(system.backward(trial, there).end), direction)
        reached = np.linalg.norm(system.forward(trial, direction).end, axis=1)
        accepted = reached >= value
        slopes = [new.where(accepted, old) for new, old in zip(trial, slopes, strict=True)]
        q = np.where(accepted[:, None], direction, q)
        gained = bool(np.any(reached > value * (1 + 1e-6)))
        value, step = np.where(accepted, reached, value), np.where(accepted, 2 * step, step / 4)
        passage = system.forward(slopes, q)
        if (not gained and np.all(step < 1e-2)) or time.perf_counter() > deadline:
            break
    return _Pool(slopes, q)


def _live(direction: np.ndarray, former: np.ndarray) -> np.ndarray:
    """The direction, or the former one where it vanished."""
    return np.where(np.any(direction, axis=1, keepdims=True), direction, former)


def _flip(system: SlopeSystem, best: _Pool, width: int = 8, most_entries: int = 20_000_000) -> _Pool | None:
    """The `width` most promising slopes, each moved to its farther end, as a batch; None if there are none.

    Moving slope i by t changes J by t w r^T, with w the column of the gain from z_i to y and r that from u to v_i. Two
    steps of the power method on each J + t w r^T from q rank the candidates.
    """
    inequality, slopes = system.inequality, best.slopes
    layers = {k: layer for k, layer in enumerate(slopes) if isinstance(layer, Diagonal)}
    starts = np.cumsum([0, *(inequality.constraints[k].size for k in layers)])
    neurons = int(starts[-1])
    if not neurons or neurons * max(inequality.input_size, inequality.output_size) > most_entries:
        return None
    right = system.forward(slopes, np.eye(inequality.input_size)).at
    left = system.backward(slopes, np.eye(inequality.output_size)).at
    r, w = np.concatenate([right[k].T for k in layers]), np.concatenate([left[k].T for k in layers])
    shift = np.concatenate([_farther(layer) for layer in layers.values()])[:, None]
    jacobian, direction = system.jacobian(slopes), np.repeat(best.q, neurons, axis=0)
    for _ in range(2):
        p = normalised(direction @ jacobian.T + shift * w * np.sum(r * direction, axis=1, keepdims=True))
        image = p @ jacobian + shift * r * np.sum(w * p, axis=1, keepdims=True)
        direction = normalised(image)
    chosen = np.argsort(-np.linalg.norm(image, axis=1))[:width]
    batch = [layer.take(np.zeros(len(chosen), dtype=np.int64)) for layer in slopes]
    for start, end, k in zip(starts, starts[1:], layers, strict=False):
        members = np.flatnonzero((chosen >= start) & (chosen < end))
        values = np.repeat(layers[k].values, len(chosen), axis=0)
        values[members, chosen[members] - start] += shift[chosen[members], 0]
        batch[k] = dataclasses.replace(layers[k], values=values)
    return _Pool(batch, direction[chosen])


def _farther(slopes: Diagonal) -> np.ndarray:
    """The step from each slope of the first member to the farther end of its interval."""
    up, down = slopes.upper - slopes.values[0], slopes.lower - slopes.values[0]
    shift: np.ndarray = np.where(up > -down, up, down)
    return shift
