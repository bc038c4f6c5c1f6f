r"""The chain of dissipation inequalities as one cone program: metrics, storages and multipliers of least rho.

The stages are those of `netgain.verify.dissipation`, as plain matrices. Every inequality asks for a margin on top of
semidefiniteness, so that what a backend returns to its tolerance is strictly feasible.

**Source:** Pauli, Gramlich, Allgoewer, arXiv 2405.01125.
"""

import dataclasses
import importlib.metadata
import itertools
import math
import time

import numpy as np
import scipy.sparse as sp

from .availability import Backend, probe
from .conic_forms import Block, ConeProgram
from .dissipation_head import Arrow, arrow
from .inequality import Inequality
from .result import Limits, Progress, Status


@dataclasses.dataclass(frozen=True, eq=False)
class StageData:
    """x^+ = A x + B u, v = C x + D u, and z with slopes [lower, upper] of v, or z = v where these are None.

    **Attributes:** `blocks`: the parts of x with a storage of their own; `finite`: whether A is nilpotent; `phases`:
    Q_{k-1} acts on u as Q_{k-1} kron I_phases; `gain`, `diagonal`: of Q_k.
    """

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    blocks: tuple[slice, ...]
    finite: bool
    phases: int
    lower: np.ndarray | None
    upper: np.ndarray | None
    gain: int
    diagonal: bool

    @property
    def channels(self) -> int:
        return len(self.D)

    @property
    def order(self) -> int:
        """Order of the stage's inequality."""
        return sum(self.B.shape) + (0 if self.lower is None else self.channels)


@dataclasses.dataclass(frozen=True, eq=False)
class DissipationProblem:
    """The stages, and the head: an inequality whose rho |u|^2 is replaced by u^T (Q kron I) u, or None."""

    stages: tuple[StageData, ...]
    head: Inequality | None

    @property
    def orders(self) -> tuple[int, ...]:
        """The orders of all matrix inequalities but those for Q and P alone."""
        stages = tuple(stage.order for stage in self.stages)
        if self.head is None:
            return stages
        head = arrow(self.head, self.stages[-1].channels)
        return (*stages, *(head.pixel_order for _ in head.pixels), head.rest_order)


@dataclasses.dataclass(frozen=True, eq=False)
class DissipationSolution:
    """`rho`, and by stage the metric Q_k (the last is the identity if there is no head), storages P_a and multipliers
    (None for a linear stage); then the head's multipliers by layer; and `history`, in gains sqrt(rho). Nothing is
    proved."""

    status: Status
    rho: float
    metrics: tuple[np.ndarray, ...]
    storages: tuple[tuple[np.ndarray, ...], ...]
    multipliers: tuple[np.ndarray | None, ...]
    head: tuple[np.ndarray, ...]
    iterations: int
    seconds: float
    solver: str
    version: str
    detail: str
    history: tuple[Progress, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class _Symbol:
    """A symmetric matrix variable: vec X = basis w[start : start + basis.shape[1]]."""

    order: int
    start: int
    basis: sp.csr_array

    @property
    def stop(self) -> int:
        return self.start + int(self.basis.shape[1])

    def value(self, w: np.ndarray) -> np.ndarray:
        matrix: np.ndarray = (self.basis @ w[self.start : self.stop]).reshape(self.order, self.order)
        return matrix


def _symmetric(order: int) -> sp.csr_array:
    i, j = np.triu_indices(order)
    k = np.arange(len(i))
    off = i != j
    positions = np.concatenate([i * order + j, (j * order + i)[off]])
    return sp.csr_array((np.ones(len(positions)), (positions, np.concatenate([k, k[off]]))), shape=(order**2, len(i)))


def _diagonal(order: int) -> sp.csr_array:
    k = np.arange(order)
    return sp.csr_array((np.ones(order), (k * (order + 1), k)), shape=(order**2, order))


class _Builder:
    """Collects the blocks of the cone program in w = (rho, multipliers, metrics, storages, shares T_j of pixels)."""

    def __init__(self, problem: DissipationProblem, margin: float):
        self.problem, self.margin = problem, margin
        sizes = [0 if stage.lower is None else stage.channels for stage in problem.stages]
        self.first = [1, *(1 + end for end in itertools.accumulate(sizes))]
        last = len(problem.stages) - 1
        self.head = arrow(problem.head, problem.stages[last].channels) if problem.head is not None else None
        self.head_first = self.first[-1]
        self.multipliers = self.head_first - 1 + (problem.head.multipliers if problem.head else 0)
        self.length = 1 + self.multipliers
        self.metrics = [
            None if k == last and self.head is None else self.symbol(stage.channels, stage.diagonal)
            for k, stage in enumerate(problem.stages)
        ]
        self.storages = [[self.symbol(part.stop - part.start) for part in stage.blocks] for stage in problem.stages]
        self.shares = [self.symbol(len(self.head.neighbours)) for _ in self.head.pixels] if self.head else []
        self.blocks: list[Block] = []

    def symbol(self, order: int, diagonal: bool = False) -> _Symbol:
        found = _Symbol(order, self.length, _diagonal(order) if diagonal else _symmetric(order))
        self.length = found.stop
        return found

    def program(self) -> ConeProgram:
        for k, stage in enumerate(self.problem.stages):
            self.stage(k, stage)
        if self.head:
            self.add_head(self.head)
        return ConeProgram(self.length, self.multipliers, tuple(self.blocks))

    def stage(self, k: int, stage: StageData) -> None:
        states, inputs = stage.B.shape
        order = stage.order
        whole = sp.eye_array(order, format="csr")
        u = whole[states : states + inputs]
        ahead = sp.hstack([_sparse(stage.A), _sparse(stage.B), _zeros(states, order - states - inputs)], format="csr")
        v = sp.hstack([_sparse(stage.C), _sparse(stage.D), _zeros(stage.channels, order - states - inputs)],
                      format="csr")
        z = v if stage.lower is None else whole[states + inputs :]
        terms: list[tuple[int, sp.csr_array]] = []
        constant = self.margin * np.eye(order)
        for symbol, part in zip(self.storages[k], stage.blocks, strict=True):
            change = _congruence(whole[part]) - _congruence(ahead[part])
            terms.append((symbol.start, change @ symbol.basis))
            if not stage.finite:
                self.positive(symbol)
        before = self.metrics[k - 1] if k else None
        for phase in range(stage.phases):
            read = u[phase :: stage.phases]
            if k == 0:
                terms.append((0, (read.T @ read).reshape((order**2, 1)).tocsr()))
            else:
                assert before is not None
                terms.append((before.start, _congruence(read) @ before.basis))
        after = self.metrics[k]
        if after is None:
            constant += stage.gain * (z.T @ z).toarray()
        else:
            terms.append((after.start, -float(stage.gain) * (_congruence(z) @ after.basis)))
        if stage.lower is not None and stage.upper is not None:
            p = sp.csr_array(z - sp.diags_array(stage.lower) @ v)
            q = sp.csr_array(z - sp.diags_array(stage.upper) @ v)
            rows = [sp.kron(p[[i]], q[[i]]) + sp.kron(q[[i]], p[[i]]) for i in range(stage.channels)]
            terms.append((self.first[k], sp.csr_array(sp.vstack(rows).T)))
        self.blocks.append(Block(order, self.combined(terms, order), constant.ravel()))

    def positive(self, symbol: _Symbol) -> None:
        constant = self.margin * np.eye(symbol.order).ravel()
        self.blocks.append(Block(symbol.order, self.combined([(symbol.start, symbol.basis)], symbol.order), constant))

    def combined(self, terms: list[tuple[int, sp.csr_array]], order: int) -> sp.csr_array:
        parts = [sp.coo_array(matrix) for _, matrix in terms]
        columns = np.concatenate([part.col + start for part, (start, _) in zip(parts, terms, strict=True)])
        rows = np.concatenate([part.row for part in parts])
        data = np.concatenate([part.data for part in parts])
        return sp.csr_array(sp.coo_array((data, (rows, columns)), shape=(order**2, self.length)))

    def add_head(self, head: Arrow) -> None:
        metric = self.metrics[-1]
        assert metric is not None
        self.positive(metric)
        order, inner = head.pixel_order, np.eye(head.pixel_order)
        on_channels = _congruence(sp.csr_array(inner[: head.channels])) @ metric.basis
        on_neighbours = _congruence(sp.csr_array(inner[head.channels :]))
        on_rest = _congruence(sp.csr_array(np.eye(head.rest_order)[head.neighbours]))
        rest = [(self.head_first, head.rest[0])]
        for share, (matrix, constant) in zip(self.shares, head.pixels, strict=True):
            terms = [(self.head_first, matrix), (metric.start, on_channels),
                     (share.start, sp.csr_array(on_neighbours @ share.basis))]
            rest.append((share.start, sp.csr_array(-(on_rest @ share.basis))))
            self.blocks.append(Block(order, self.combined(terms, order), (self.margin * inner - constant).ravel()))
        constant = self.margin * np.eye(head.rest_order) - head.rest[1]
        self.blocks.append(Block(head.rest_order, self.combined(rest, head.rest_order), constant.ravel()))


def _sparse(matrix: np.ndarray) -> sp.csr_array:
    return sp.csr_array(matrix)


def _zeros(rows: int, columns: int) -> sp.csr_array:
    return sp.csr_array((rows, columns))


def _congruence(left: sp.csr_array) -> sp.csr_array:
    """vec X -> vec(left^T X left)."""
    transposed = sp.csr_array(left.T)
    return sp.csr_array(sp.kron(transposed, transposed))


def memory_by(problem: DissipationProblem, backend: Backend) -> int:
    """Bytes the backend will need, to within a factor of about two."""
    from .conic import memory_of_cones

    return int(memory_of_cones(problem.orders, _Builder(problem, 0.0).length, backend))


def solve_dissipation(problem: DissipationProblem, backend: Backend = Backend.CLARABEL, limits: Limits | None = None,
                      margin: float = 0.0) -> DissipationSolution:
    """Least rho by a conic solver, every inequality holding with `margin` times the identity to spare.

    **Raises:** `SolverUnavailable`.
    """
    begin = time.perf_counter()
    limits = limits or Limits()
    availability = probe(backend)
    availability.require()
    builder = _Builder(problem, margin)
    program = builder.program()
    remaining = max(limits.time_limit - (time.perf_counter() - begin), 1e-3)
    # cvxpy takes longer to import than everything else together.
    from .conic import STATUSES, run

    answer = run(program, backend, dataclasses.replace(limits, time_limit=remaining))
    status, w = STATUSES[backend].get(answer.status), answer.w
    if status is None:
        raise RuntimeError(f"{backend.name} {availability.version} stopped with the status {answer.status!r}, which "
                           "this package does not know. Please report it.")
    if w is None or not np.all(np.isfinite(w)) or not w[0] > 0:
        status, w = Status.FAILED, np.full(program.variables, np.nan)
    lam = np.maximum(w[: 1 + program.multipliers], 0.0)
    head_layers = problem.head.constraints if problem.head else ()
    ends = [builder.head_first, *(builder.head_first + end
                                  for end in itertools.accumulate(c.groups for c in head_layers))]
    last = problem.stages[-1].channels
    return DissipationSolution(
        status=status,
        rho=float(w[0]) if status.has_multipliers else math.inf,
        metrics=tuple(np.eye(last) if symbol is None else symbol.value(w) for symbol in builder.metrics),
        storages=tuple(tuple(symbol.value(w) for symbol in symbols) for symbols in builder.storages),
        multipliers=tuple(None if stage.lower is None else lam[builder.first[k] : builder.first[k + 1]]
                          for k, stage in enumerate(problem.stages)),
        head=tuple(lam[a:b] for a, b in itertools.pairwise(ends)),
        iterations=answer.iterations,
        seconds=time.perf_counter() - begin,
        solver=f"{backend.value}, dissipation",
        version=f"{availability.version}, cvxpy {importlib.metadata.version('cvxpy')}",
        detail=f"status {answer.status}",
    )
