r"""The one matrix inequality, as plain data: block structure and numbers, no networks.

Stack into x the input u (block 0) and the outputs z_1, .., z_l of the nonlinear layers (blocks 1, .., l), all as
increments between two trajectories. Layer k is fed by v_k = sum_j A_kj x_j and answers with slopes in
[alpha, beta] per neuron, so with p = z - alpha v and q = z - beta v the incremental quadratic constraint
-p_i q_i >= 0 holds for every neuron i. Then y = sum_j C_j x_j satisfies |y|^2 <= rho |u|^2 whenever

    M(rho, lam) = rho E_u - C^T C + sum_i lam_i (p_i q_i^T + q_i p_i^T) >= 0,    lam >= 0,

where E_u is the identity on u. The least such sqrt(rho) is the bound of LipSDP-Neuron (Fazlyab et al. 2019) and of
GLipSDP (Pauli, Gramlich, Allgoewer, arXiv 2405.01125).

A layer may feed itself, z = s(A_kk z + ..): an implicit layer, and the bound is that of Revay, Wang, Manchester
(arXiv 2010.01732). Then M >= 0 speaks of those pairs of trajectories that there are; that each input has exactly one is
a statement of its own, see `netgain.solvers.loop`.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class SlopeConstraint:
    """The quadratic constraints of one nonlinear layer.

    **Attributes:** `maps`: A_kj by source block j, each of shape (rows, n_j), that of the layer's own block among them
    if it is implicit; `lower`, `upper`: alpha and beta, shape
    (rows,); `coupled`: how many consecutive rows share one multiplier. Their constraints hold only in sum, as for
    softmax and GroupSort; 1 is the ordinary case of one multiplier per neuron; `kept`: the rows that have an answer in
    z_k, ascending, at least one in each group; in the others z is 0 in p and q. None is all. Max pooling over windows
    of t entries is `coupled` = t, slopes in [-1, 1] and one row kept of each window: z_i^2 is at most the sum of v^2.
    """

    maps: Mapping[int, np.ndarray]
    lower: np.ndarray
    upper: np.ndarray
    coupled: int = 1
    kept: np.ndarray | None = None

    @property
    def rows(self) -> int:
        return len(self.lower)

    @property
    def size(self) -> int:
        """n_k."""
        return self.rows if self.kept is None else len(self.kept)

    @property
    def groups(self) -> int:
        """The number of multipliers."""
        return self.rows // self.coupled

    @property
    def answering(self) -> slice | np.ndarray:
        """The rows that have an answer, as an index."""
        return slice(None) if self.kept is None else self.kept

    def faults(self) -> list[str]:
        """What is wrong with it, apart from the number of columns of its maps."""
        faults = []
        if self.rows % self.coupled or self.lower.shape != self.upper.shape:
            faults.append(f"{self.rows} rows, groups of {self.coupled}")
        if np.any(self.lower >= self.upper):
            faults.append("every slope interval needs lower < upper")
        if self.kept is not None:
            silent = np.setdiff1d(np.arange(self.rows), self.kept)
            answered = np.unique(self.kept // self.coupled)
            if np.any(np.diff(self.kept) <= 0) or not np.array_equal(answered, np.arange(self.groups)):
                faults.append("the rows kept are to be ascending, at least one in each group")
            if np.any(self.lower[silent] * self.upper[silent] > 0):
                faults.append("a row that is not kept answers 0, so its slope interval needs to contain 0")
        return faults


@dataclasses.dataclass(frozen=True, eq=False)
class Inequality:
    """M(rho, lam) >= 0 of this module's head.

    **Attributes:** `input_size`: n_0; `constraints`: layer k = 1, .., l in order, fed by blocks before k, or by
    block k itself if it has one multiplier and one answer for each row; `output`: C_j by block j, each of shape
    (n_y, n_j).
    """

    input_size: int
    constraints: tuple[SlopeConstraint, ...]
    output: Mapping[int, np.ndarray]

    def __post_init__(self) -> None:
        sizes = self.sizes
        faults = []
        for k, constraint in enumerate(self.constraints, start=1):
            faults += [f"layer {k}: {fault}" for fault in constraint.faults()]
            latest = k if constraint.coupled == 1 and constraint.kept is None else k - 1
            for j, a in constraint.maps.items():
                if not 0 <= j <= latest or a.shape != (constraint.rows, sizes[j]):
                    faults.append(f"layer {k}: the map from block {j} has shape {a.shape}")
        rows = {c.shape[0] for c in self.output.values()}
        if len(rows) != 1 or any(not 0 <= j < len(sizes) or c.shape[1] != sizes[j] for j, c in self.output.items()):
            faults.append(f"output: shapes {[c.shape for c in self.output.values()]} for blocks {list(self.output)}")
        if faults:
            raise ValueError("Not an inequality of this form: " + "; ".join(faults))

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """n_0, .., n_l."""
        return (self.input_size, *(constraint.size for constraint in self.constraints))

    @functools.cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each block starts in x; the last entry is the length of x."""
        return tuple(int(offset) for offset in np.concatenate([[0], np.cumsum(self.sizes)]))

    @property
    def multipliers(self) -> int:
        """The number of entries of lam."""
        return sum(constraint.groups for constraint in self.constraints)

    @property
    def rows(self) -> int:
        """The number of slope constraints, before those with one multiplier are added up."""
        return sum(constraint.rows for constraint in self.constraints)

    @functools.cached_property
    def output_size(self) -> int:
        return len(next(iter(self.output.values())))

    @functools.cached_property
    def last_use(self) -> tuple[int, ...]:
        """For each block the last layer that is fed by it; l + 1 for blocks the output reads."""
        last = list(range(len(self.sizes)))
        for k, constraint in enumerate(self.constraints, start=1):
            for j in constraint.maps:
                last[j] = k
        for j in self.output:
            last[j] = len(self.constraints) + 1
        return tuple(last)


def side_by_side(
    maps: Mapping[int, np.ndarray], blocks: Sequence[int], sizes: Sequence[int], rows: int
) -> np.ndarray:
    """The maps from the given blocks as one matrix, with zeros for blocks that are not read."""
    return np.concatenate([maps[j] if j in maps else np.zeros((rows, sizes[j])) for j in blocks], axis=1)
