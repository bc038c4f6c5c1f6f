r"""The matrix inequality as cone programs in one vector w: least w_0 with every block svec-affine and semidefinite.

ONE_BLOCK is the inequality itself. CHAIN cuts it after every layer: let S_k be the blocks up to k that a later layer
or the output reads, and Q_k a symmetric matrix on them. With sigma_k the terms of layer k,

    rho |u|^2 + sigma_1 - x^T Q_1 x >= 0,
    x^T Q_{k-1} x + sigma_k - x^T Q_k x >= 0,      k = 2, .., l - 1,
    x^T Q_{l-1} x + sigma_l - |y|^2 >= 0,

each on the blocks S_{k-1} and k only. They add up to the inequality; conversely M is chordal with these cliques, so
the Q_k exist whenever M >= 0 (Agler et al. 1988) and both forms have the same optimum.
"""

import dataclasses
import enum
import itertools

import numpy as np
import scipy.sparse as sp

from .inequality import Inequality, SlopeConstraint


class Form(enum.Enum):
    """How the inequality is posed to the backend."""

    ONE_BLOCK = "One matrix inequality over all neurons (LipSDP, Fazlyab et al. 2019)."
    CHAIN = "One matrix inequality per layer, coupled by matrices Q_k (GLipSDP, Pauli et al., arXiv 2405.01125)."


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """reshape(matrix w - constant) >= 0, of this order; `matrix` has order^2 rows, so both triangles are filled."""

    order: int
    matrix: sp.csr_array
    constant: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class ConeProgram:
    """Least w_0 = rho subject to `blocks` and w[1 : 1 + multipliers] >= 0."""

    variables: int
    multipliers: int
    blocks: tuple[Block, ...]


@dataclasses.dataclass(frozen=True)
class _Clique:
    """The coordinates of one matrix inequality and what enters it."""

    members: tuple[int, ...]
    layers: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


def cliques(inequality: Inequality, form: Form) -> tuple[_Clique, ...]:
    last, layers = inequality.last_use, range(1, len(inequality.sizes))
    if form is Form.ONE_BLOCK or not layers:
        return (_Clique(tuple(range(len(inequality.sizes))), tuple(layers), (), ()),)
    alive = [tuple(j for j in range(k + 1) if last[j] > k) for k in range(len(inequality.sizes))]
    return tuple(
        _Clique((*alive[k - 1], k), (k,), alive[k - 1] if k > 1 else (), alive[k] if k < len(layers) else ())
        for k in layers
    )


def orders(inequality: Inequality, form: Form) -> tuple[int, ...]:
    """The orders of the matrix inequalities, without building them."""
    return tuple(sum(inequality.sizes[j] for j in clique.members) for clique in cliques(inequality, form))


def variables(inequality: Inequality, form: Form) -> int:
    """The length of w."""
    shared = [sum(inequality.sizes[j] for j in clique.after) for clique in cliques(inequality, form)]
    return 1 + inequality.multipliers + sum(n * (n + 1) // 2 for n in shared)


def cone_program(inequality: Inequality, form: Form) -> ConeProgram:
    """The cone program of this form; w = (rho, lam, upper triangles of Q_1, .., Q_{l-1})."""
    parts = cliques(inequality, form)
    first = list(itertools.accumulate((c.groups for c in inequality.constraints), initial=1))
    length, before = variables(inequality, form), 0
    after = first[-1]
    blocks = []
    for position, clique in enumerate(parts):
        offsets, order = _offsets(inequality, clique.members)
        entries = _Entries(order)
        if position == 0:
            diagonal = np.arange(inequality.input_size) + offsets[0]
            entries.add(diagonal, diagonal, np.zeros(len(diagonal), dtype=np.int64), np.ones(len(diagonal)))
        for k in clique.layers:
            _add_constraint(entries, inequality.constraints[k - 1], offsets, offsets[k], first[k - 1])
        _add_metric(entries, inequality, offsets, clique.before, before, 1.0)
        before, after = after, after + _add_metric(entries, inequality, offsets, clique.after, after, -1.0)
        final = position == len(parts) - 1
        constant = _output_gram(inequality, offsets, order) if final else np.zeros((order, order))
        blocks.append(Block(order, entries.matrix(length), constant.ravel()))
    return ConeProgram(length, inequality.multipliers, tuple(blocks))


class _Entries:
    """Collects (row, column, variable, value) of one block."""

    def __init__(self, order: int):
        self.order = order
        self._positions: list[np.ndarray] = []
        self._variables: list[np.ndarray] = []
        self._values: list[np.ndarray] = []

    def add(self, row: np.ndarray, column: np.ndarray, variable: np.ndarray, value: np.ndarray) -> None:
        self._positions.append(row * self.order + column)
        self._variables.append(variable)
        self._values.append(value)

    def matrix(self, variables: int) -> sp.csr_array:
        data = np.concatenate(self._values)
        indices = np.concatenate(self._positions), np.concatenate(self._variables)
        return sp.csr_array(sp.coo_array((data, indices), shape=(self.order**2, variables)))


def _offsets(inequality: Inequality, members: tuple[int, ...]) -> tuple[dict[int, int], int]:
    ends = np.cumsum([inequality.sizes[j] for j in members])
    return {j: int(end) - inequality.sizes[j] for j, end in zip(members, ends, strict=True)}, int(ends[-1])


def _add_constraint(entries: _Entries, constraint: SlopeConstraint, offsets: dict[int, int], own: int,
                    start: int) -> None:
    """p q^T + q p^T = 2 e e^T - (alpha + beta)(e a^T + a e^T) + 2 alpha beta a a^T, for every neuron."""
    variable = start + np.arange(constraint.rows) // constraint.coupled
    total, product = constraint.lower + constraint.upper, constraint.lower * constraint.upper
    neurons, answering = own + np.arange(constraint.size), variable[constraint.answering]
    entries.add(neurons, neurons, answering, np.full(constraint.size, 2.0))
    for j, a in constraint.maps.items():
        scaled = (-total[:, None] * a)[constraint.answering]
        i, column = np.nonzero(scaled)
        value = scaled[i, column]
        entries.add(own + i, offsets[j] + column, answering[i], value)
        entries.add(offsets[j] + column, own + i, answering[i], value)
    if not np.any(product):
        return
    a = np.concatenate(list(constraint.maps.values()), axis=1)
    where = np.concatenate([offsets[j] + np.arange(m.shape[1]) for j, m in constraint.maps.items()])
    for position in np.flatnonzero(product):
        row = a[position]
        support = np.flatnonzero(row)
        outer = 2 * product[position] * np.outer(row[support], row[support])
        left, right = np.repeat(where[support], len(support)), np.tile(where[support], len(support))
        entries.add(left, right, np.full(outer.size, variable[position]), outer.ravel())


def _add_metric(entries: _Entries, inequality: Inequality, offsets: dict[int, int], members: tuple[int, ...],
                start: int, sign: float) -> int:
    """Adds sign times the symmetric matrix whose upper triangle, row by row, starts at w[start]; returns its length."""
    if not members:
        return 0
    where = np.concatenate([offsets[j] + np.arange(inequality.sizes[j]) for j in members])
    i, j = np.triu_indices(len(where))
    variable, value = start + np.arange(len(i)), np.full(len(i), sign)
    entries.add(where[i], where[j], variable, value)
    below = i != j
    entries.add(where[j[below]], where[i[below]], variable[below], value[below])
    return len(i)


def _output_gram(inequality: Inequality, offsets: dict[int, int], order: int) -> np.ndarray:
    """C^T C."""
    c = np.zeros((inequality.output_size, order))
    for j, part in inequality.output.items():
        c[:, offsets[j] : offsets[j] + part.shape[1]] = part
    return c.T @ c
