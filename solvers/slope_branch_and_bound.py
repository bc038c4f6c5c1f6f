r"""The worst logarithmic norm max_D mu(B + E D A) over a box of slopes, exactly or enclosed, by branch and bound.

The maximum is at a vertex, but there are 2^k. A node fixes some slopes at an end of their interval and bounds the rest
by the semidefinite relaxation (`slope_relaxation`), started from its parent's multipliers: deleting those of the slope
just fixed already gives a bound no worse than the parent's. Branched on is the slope with the largest gap of its own,
sqrt(e_i^T X e_i a_i^T X a_i) - |e_i^T X a_i|, whose sum over i is what the relaxation gives away at X. Nodes are taken
best-first, a batch at a time; the batch shares each numpy call. Rounding X gives vertices, hence lower bounds. Boxes
that a symmetry of the field takes to lexicographically larger ones are left out.

Stopped at any time, the truth lies in [lower, upper]. The leaves, closed or open, cover the box, and each carries the
multipliers of its bound: together they are a certificate of `upper`.
"""

import dataclasses
import functools
import math
import time

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from threadpoolctl import threadpool_limits

from .contractivity_sdp import LogNormUpperBound, upper_bound
from .logarithmic_norm import Array, SlopeField
from .result import Limits, Status
from .slope_ascent import SlopeAscent, alternate, best_flip
from .slope_relaxation import RelaxationGoals, relax
from .slope_symmetry import SlopeSymmetries, find_symmetries

# Entries of a batch of n x n matrices: more than this slows the caches down without saving calls.
_BATCH_ENTRIES = 400_000
_NODE_ITERATIONS = 30
# Iterations spent on a node after its dual bound has shown that it must be branched on.
_POLISH = 3
_START = 1e-2


@dataclasses.dataclass(frozen=True, eq=False)
class SlopeLeaves:
    """Boxes of slopes that cover the whole box, each with the multipliers of its bound.

    **Attributes:** `signs`: 0 free, +1 at the upper, -1 at the lower end, int8, shape (leaves, k); `multipliers`: lam
    > 0 where free, 0 where fixed or idle, same shape; `bounds`: what they give, in floating point, shape (leaves,);
    `left_out`: further boxes, whose patterns become larger by a symmetry; `by`: which of `symmetries`.
    """

    signs: np.ndarray
    multipliers: Array
    bounds: Array
    left_out: np.ndarray
    by: np.ndarray
    symmetries: SlopeSymmetries


@dataclasses.dataclass(frozen=True)
class SearchProgress:
    """One line of the node log."""

    nodes: int
    open_nodes: int
    lower: float
    upper: float
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class WorstLogNorm:
    r"""`lower` <= max_D mu(J(D)) <= `upper`, in floating point.

    **Attributes:** `slopes`: the D that attains `lower`; `leaves`: the certificate of `upper`; `root`: the bound at
    the root; `nodes`: boxes bounded; `status`: OPTIMAL if upper - lower is within the tolerance or the level is
    decided.
    """

    lower: float
    upper: float
    slopes: Array
    leaves: SlopeLeaves
    root: LogNormUpperBound
    nodes: int
    status: Status
    history: tuple[SearchProgress, ...]
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlopeBranchAndBound:
    """Exact search, stopped by `limits`, whose tolerance is relative to the size of the field.

    **Arguments:** `limits`; `jobs`: processes or whatever joblib's backend has (`joblib.parallel_config` chooses
    another, such as a cluster); 1 stays in this process, None takes the number from that configuration; `batch`: nodes
    taken at a time and job; `rounds`: how often a job takes nodes before it reports; `nodes`: the most nodes;
    `symmetry`: whether to look for symmetries and use them.
    """

    limits: Limits = dataclasses.field(default_factory=Limits)
    ascent: SlopeAscent = dataclasses.field(default_factory=SlopeAscent)
    jobs: int | None = 1
    batch: int = 32
    rounds: int = 8
    nodes: int = 10**9
    symmetry: bool = True

    def __post_init__(self) -> None:
        for name in ("batch", "rounds", "nodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.jobs == 0:
            raise ValueError("`jobs` must be a number of workers, -1 for all cores, or None; got 0.")

    def solve(self, field: SlopeField, level: float | None = None) -> WorstLogNorm:
        """Searches the box.

        **Arguments:** `level`: only whether the worst logarithmic norm is at most this is asked: boxes bounded by it
        are closed, and a vertex above it ends the search.

        Ctrl-C ends the search with status INTERRUPTED and the enclosure so far.
        """
        with threadpool_limits(limits=1, user_api="blas"):
            return _Search(self, field, level).run()


@dataclasses.dataclass(frozen=True, eq=False)
class _Nodes:
    """Boxes with their bounds: patterns, log multipliers, bound, and the slope to branch on."""

    signs: np.ndarray
    logs: Array
    upper: Array
    branch: np.ndarray

    def take(self, chosen: np.ndarray) -> "_Nodes":
        return _Nodes(self.signs[chosen], self.logs[chosen], self.upper[chosen], self.branch[chosen])

    def best_first(self) -> "_Nodes":
        return self.take(np.argsort(-self.upper, kind="stable"))

    def __len__(self) -> int:
        return len(self.upper)


def _join(nodes: list[_Nodes]) -> _Nodes:
    names = [field.name for field in dataclasses.fields(_Nodes)]
    return _Nodes(*(np.concatenate([getattr(part, name) for part in nodes]) for name in names))


@dataclasses.dataclass(frozen=True)
class _Pruning:
    """When a box is closed: its bound is at most `level`, or without one `lower` + `tolerance`. In normalised units.

    Not bounded at all are boxes that one of the `symmetries` raises.
    """

    lower: float
    tolerance: float
    level: float
    symmetries: SlopeSymmetries

    @property
    def target(self) -> float:
        return self.lower + self.tolerance if self.level == -math.inf else self.level

    @property
    def decided(self) -> bool:
        """A vertex above the level settles the question asked."""
        return self.level > -math.inf and self.lower > self.level


@dataclasses.dataclass(frozen=True, eq=False)
class _Expansion:
    """What a job found: open and closed boxes, boxes left out and why, the best vertex, the number of nodes bounded."""

    open_nodes: _Nodes
    closed: _Nodes
    left_out: np.ndarray
    by: np.ndarray
    lower: float
    slopes: Array
    count: int


def _expand(field: SlopeField, nodes: _Nodes, pruning: _Pruning, slopes: Array, size: int, rounds: int,
            deadline: float) -> _Expansion:
    """Best-first search below these nodes for some rounds. A pure function of its arguments but for the clock."""
    closed, count = [nodes.take(np.zeros(0, dtype=np.intp))], 0
    left_out, by = [nodes.signs[:0]], [np.zeros(0, dtype=np.intp)]
    for _ in range(rounds):
        done = nodes.upper <= pruning.target
        closed.append(nodes.take(np.flatnonzero(done)))
        nodes = nodes.take(np.flatnonzero(~done)).best_first()
        if not len(nodes) or pruning.decided or time.perf_counter() > deadline:
            break
        taken, nodes = nodes.take(np.arange(min(size, len(nodes)))), nodes.take(np.arange(size, len(nodes)))
        signs, inherited = _halved(taken)
        raising = pruning.symmetries.raising(signs)
        left_out.append(signs[raising >= 0])
        by.append(raising[raising >= 0])
        kept = np.flatnonzero(raising < 0)
        if not len(kept):
            continue
        children, densities = _bounded(field, signs[kept], inherited.take(kept), pruning.target, deadline)
        count += len(children)
        found, reached = _round(field, children.signs, densities)
        if found > pruning.lower:
            pruning, slopes = dataclasses.replace(pruning, lower=found), reached
        nodes = _join([nodes, children])
    return _Expansion(nodes, _join(closed), np.concatenate(left_out), np.concatenate(by), pruning.lower, slopes, count)


def _halved(parents: _Nodes) -> tuple[np.ndarray, _Nodes]:
    """The patterns of both children of every parent, and the parent of each."""
    twice = parents.take(np.repeat(np.arange(len(parents)), 2))
    signs = twice.signs.copy()
    signs[np.arange(len(signs)), twice.branch] = np.tile(np.array([1, -1], dtype=np.int8), len(parents))
    return signs, twice


def _bounded(field: SlopeField, signs: np.ndarray, parents: _Nodes, target: float,
             deadline: float) -> tuple[_Nodes, Array]:
    """Children with their bounds, each started from its parent's multipliers, and their X."""
    goals = RelaxationGoals(tolerance=1e-9, target=target, polish=_POLISH, iterations=_NODE_ITERATIONS,
                            deadline=deadline, start=_START)
    relaxed = relax(field, signs, parents.logs, goals)
    upper = np.minimum(relaxed.upper, parents.upper)
    return _Nodes(signs, relaxed.log_multipliers, upper, _branching(field, signs, relaxed.densities)), relaxed.densities


def _branching(field: SlopeField, signs: np.ndarray, densities: Array) -> np.ndarray:
    """The free slope that the relaxation gives away most at, for each box; -1 where none is free."""
    e, ax = field.dense_outputs, field.inputs @ densities
    outputs = np.sum(e * (densities @ e), axis=1)
    inputs = np.sum(ax * field.inputs, axis=2)
    gap = np.sqrt(np.maximum(outputs * inputs, 0)) - np.abs(np.sum(ax * e.T, axis=2))
    free = (signs == 0) & field.acting
    return np.where(np.any(free, axis=1), np.argmax(np.where(free, gap, -np.inf), axis=1), -1)


def _round(field: SlopeField, signs: np.ndarray, densities: Array) -> tuple[float, Array]:
    """The best vertex from the top eigenvectors of the X, within the boxes at first, then by alternating ascent."""
    starts = field.best_response(np.linalg.eigh(densities)[1][:, :, -1])
    starts = np.where(signs > 0, field.upper, np.where(signs < 0, field.lower, starts))
    found = alternate(field, starts, sweeps=4)
    return found.value, found.slopes


class _Search:
    """One search: its field in normalised units, the incumbent, open and closed boxes."""

    def __init__(self, settings: SlopeBranchAndBound, field: SlopeField, level: float | None):
        self.settings, self.original = settings, field
        self.begin = time.perf_counter()
        self.deadline = self.begin + settings.limits.time_limit
        self.field, self.exponent = field.normalised()
        self.root = upper_bound(field, settings.limits)
        # A quarter of the time at most for the first vertices: the search itself finds better ones.
        share = min(settings.ascent.time_limit, settings.limits.time_limit / 4)
        incumbent = dataclasses.replace(settings.ascent, time_limit=share).solve(self.field, self.root)
        scaled_level = -math.inf if level is None else float(np.ldexp(level, -self.exponent))
        none = SlopeSymmetries(*(np.zeros((0, field.neurons), dtype=np.intp) for _ in range(2)))
        self.pruning = _Pruning(incumbent.value, settings.limits.tolerance, scaled_level, none)
        self.slopes, self.nodes = incumbent.slopes, 1
        self.open = self._root_node()
        self.closed = [self.open.take(np.zeros(0, dtype=np.intp))]
        self.left_out, self.by = [self.open.signs[:0]], [np.zeros(0, dtype=np.intp)]
        self.history: list[SearchProgress] = []
        if settings.symmetry and not self.finished:
            self.pruning = dataclasses.replace(self.pruning, symmetries=find_symmetries(field))
        self.log()

    def _root_node(self) -> _Nodes:
        multipliers = self.root.multipliers
        logs = np.log(np.where(multipliers > 0, multipliers, 1)) + self.exponent * math.log(2)
        signs = np.zeros((1, self.field.neurons), dtype=np.int8)
        branch = _branching(self.field, signs, self.root.density[None])
        bound = float(np.ldexp(self.root.value, -self.exponent))
        return _Nodes(signs, np.where(self.field.acting, logs, 0.0)[None], np.array([bound]), branch)

    @property
    def upper(self) -> float:
        return max([self.pruning.lower] + [float(part.upper.max()) for part in (*self.closed, self.open) if len(part)])

    @property
    def finished(self) -> bool:
        return not np.any(self.open.upper > self.pruning.target) or self.pruning.decided

    def log(self) -> None:
        lower, upper = (float(np.ldexp(value, self.exponent)) for value in (self.pruning.lower, self.upper))
        self.history.append(SearchProgress(self.nodes, len(self.open), lower, upper, time.perf_counter() - self.begin))

    def run(self) -> WorstLogNorm:
        settings = self.settings
        size = max(1, min(settings.batch, _BATCH_ENTRIES // (2 * self.field.size**2)))
        try:
            if settings.jobs == 1:
                status = self.iterate(None, 1, size)
            else:
                with Parallel(n_jobs=settings.jobs) as workers:
                    status = self.iterate(workers, effective_n_jobs(settings.jobs), size)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        return self.result(status)

    def iterate(self, workers: Parallel | None, jobs: int, size: int) -> Status:
        settings = self.settings
        while True:
            if self.finished:
                return Status.OPTIMAL
            if time.perf_counter() > self.deadline:
                return Status.TIME_LIMIT
            if self.nodes >= settings.nodes:
                return Status.ITERATION_LIMIT
            if workers is None or len(self.open) < 2 * jobs:
                # Without other processes nothing is lost by reporting after every round.
                self.gather([_expand(self.field, self.open, self.pruning, self.slopes, size, 1, self.deadline)])
                continue
            ordered = self.open.best_first()
            shares = [ordered.take(np.arange(k, len(ordered), jobs)) for k in range(jobs)]
            job = functools.partial(_expand, self.field, pruning=self.pruning, slopes=self.slopes, size=size,
                                    rounds=settings.rounds, deadline=self.deadline)
            self.gather(workers(delayed(job)(share) for share in shares))

    def gather(self, expansions: list[_Expansion]) -> None:
        for expansion in expansions:
            self.nodes += expansion.count
            self.offer(expansion.lower, expansion.slopes)
            self.left_out.append(expansion.left_out)
            self.by.append(expansion.by)
        self.open = _join([expansion.open_nodes for expansion in expansions])
        self.closed += [expansion.closed for expansion in expansions if len(expansion.closed)]
        self.log()

    def offer(self, value: float, slopes: Array) -> None:
        """A new incumbent is improved by flips before it is taken."""
        while value > self.pruning.lower:
            self.pruning, self.slopes = dataclasses.replace(self.pruning, lower=value), slopes
            flipped = best_flip(self.field, slopes)
            if flipped is None:
                break
            found = alternate(self.field, flipped[None])
            value, slopes = found.value, found.slopes

    def result(self, status: Status) -> WorstLogNorm:
        nodes = _join([*self.closed, self.open])
        free = (nodes.signs == 0) & self.field.acting
        multipliers = np.where(free, np.ldexp(np.exp(np.where(free, nodes.logs, 0)), -self.exponent), 0.0)
        bounds = np.ldexp(nodes.upper, self.exponent)
        left_out, by = np.concatenate(self.left_out), np.concatenate(self.by)
        leaves = SlopeLeaves(nodes.signs, multipliers, bounds, left_out, by, self.pruning.symmetries)
        lower = float(np.linalg.eigvalsh(self.original.symmetric(self.slopes))[-1])
        return WorstLogNorm(
            lower=lower,
            upper=max(lower, float(np.ldexp(self.upper, self.exponent))),
            slopes=self.slopes,
            leaves=leaves,
            root=self.root,
            nodes=self.nodes,
            status=status,
            history=tuple(self.history),
            seconds=time.perf_counter() - self.begin,
        )
