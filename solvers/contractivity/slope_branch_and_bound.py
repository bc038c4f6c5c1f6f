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
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from ..result import Limits, Status
from .logarithmic_norm import Array, SlopeField
from .sdp import LogNormUpperBound, upper_bound
from .slope_ascent import SlopeAscent, alternate, best_flip
from .slope_nodes import Expansion, Nodes, Pruning, branching, expand, join
from .slope_symmetry import SlopeSymmetries, find_symmetries

# Entries of a batch of n x n matrices: more than this slows the caches down without saving calls.
_BATCH_ENTRIES = 400_000
_Call = Callable[[], Expansion]


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


class _Search:
    """One search: its field in normalised units, the incumbent, open and closed boxes."""

    def __init__(self, settings: SlopeBranchAndBound, field: SlopeField, level: float | None):
        self.settings, self.original = settings, field
        self.begin = time.perf_counter()
        self.field, self.exponent = field.normalised()
        self.root = upper_bound(field, settings.limits)
        # A quarter of the time at most for the first vertices: the search itself finds better ones.
        share = min(settings.ascent.time_limit, settings.limits.time_limit / 4)
        incumbent = dataclasses.replace(settings.ascent, time_limit=share).solve(self.field, self.root)
        scaled_level = -math.inf if level is None else float(np.ldexp(level, -self.exponent))
        none = SlopeSymmetries(*(np.zeros((0, field.neurons), dtype=np.intp) for _ in range(2)))
        self.pruning = Pruning(incumbent.value, settings.limits.tolerance, scaled_level, none)
        self.slopes, self.nodes = incumbent.slopes, 1
        self.open = self._root_node()
        self.closed = [self.open.take(np.zeros(0, dtype=np.intp))]
        self.left_out, self.by = [self.open.signs[:0]], [np.zeros(0, dtype=np.intp)]
        self.history: list[SearchProgress] = []
        if settings.symmetry and not self.finished:
            self.pruning = dataclasses.replace(self.pruning, symmetries=find_symmetries(field))
        self.log()

    def _root_node(self) -> Nodes:
        multipliers = self.root.multipliers
        logs = np.log(np.where(multipliers > 0, multipliers, 1)) + self.exponent * math.log(2)
        signs = np.zeros((1, self.field.neurons), dtype=np.int8)
        branch = branching(self.field, signs, self.root.density[None])
        bound = float(np.ldexp(self.root.value, -self.exponent))
        return Nodes(signs, np.where(self.field.acting, logs, 0.0)[None], np.array([bound]), branch)

    @property
    def upper(self) -> float:
        return max([self.pruning.lower] + [float(part.upper.max()) for part in (*self.closed, self.open) if len(part)])

    @property
    def finished(self) -> bool:
        return not np.any(self.open.upper > self.pruning.target) or self.pruning.decided

    @property
    def left(self) -> float:
        """Seconds. Clocks of other machines show another time, so jobs are told this and not when to stop."""
        return self.settings.limits.time_limit - (time.perf_counter() - self.begin)

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
                from joblib import Parallel, delayed, effective_n_jobs  # slow to import, and seldom needed

                with Parallel(n_jobs=settings.jobs) as workers:
                    def together(calls: list[_Call]) -> list[Expansion]:
                        return list(workers(delayed(call)() for call in calls))

                    status = self.iterate(together, effective_n_jobs(settings.jobs), size)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        return self.result(status)

    def iterate(self, workers: Callable[[list[_Call]], list[Expansion]] | None, jobs: int, size: int) -> Status:
        """Rounds of all workers; without any, in this process."""
        settings = self.settings
        while True:
            if self.finished:
                return Status.OPTIMAL
            if self.left <= 0:
                return Status.TIME_LIMIT
            if self.nodes >= settings.nodes:
                return Status.ITERATION_LIMIT
            if workers is None or len(self.open) < 2 * jobs:
                # Without other processes nothing is lost by reporting after every round.
                self.gather([expand(self.field, self.open, self.pruning, self.slopes, size, 1, self.left)])
                continue
            ordered = self.open.best_first()
            shares = [ordered.take(np.arange(k, len(ordered), jobs)) for k in range(jobs)]
            calls: list[_Call] = [functools.partial(expand, self.field, share, self.pruning, self.slopes, size,
                                                    settings.rounds, self.left) for share in shares]
            self.gather(workers(calls))

    def gather(self, expansions: list[Expansion]) -> None:
        for expansion in expansions:
            self.nodes += expansion.count
            self.offer(expansion.lower, expansion.slopes)
            self.left_out.append(expansion.left_out)
            self.by.append(expansion.by)
        self.open = join([expansion.open_nodes for expansion in expansions])
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
        nodes = join([*self.closed, self.open])
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
