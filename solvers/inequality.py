r"""The one matrix inequality, as plain data: block structure and numbers, no networks.

Stack into x the input u (block 0) and the outputs z_1, .., z_l of the nonlinear layers (blocks 1, .., l), all as
increments between two trajectories. Layer k is fed by v_k = sum_j A_kj x_j and answers with slopes in
[alpha, beta] per neuron, so with p = z - alpha v and q = z - beta v the incremental quadratic constraint
-p_i q_i >= 0 holds for every neuron i. Then y = sum_j C_j x_j satisfies |y|^2 <= rho |u|^2 whenever

    M(rho, lam) = rho E_u - C^T C + sum_i lam_i (p_i q_i^T + q_i p_i^T) >= 0,    lam >= 0,

where E_u is the identity on u. The least such sqrt(rho) is the bound of LipSDP-Neuron (Fazlyab et al. 2019) and of
GLipSDP (Pauli, Gramlich, Allgoewer, arXiv 2405.01125).
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class SlopeConstraint:
    """The quadratic constraints of one nonlinear layer.

    **Attributes:** `maps`: A_kj by source block j, each of shape (n_k, n_j); `lower`, `upper`: alpha and beta, shape
    (n_k,); `coupled`: how many consecutive neurons share one multiplier. Their constraints hold only in sum, as for
    softmax and GroupSort; 1 is the ordinary case of one multiplier per neuron.
    """

    maps: Mapping[int, np.ndarray]
    lower: np.ndarray
    upper: np.ndarray
    coupled: int = 1

    @property
    def size(self) -> int:
        return len(self.lower)

    @property
    def groups(self) -> int:
        """The number of multipliers."""
        return self.size // self.coupled


@dataclasses.dataclass(frozen=True, eq=False)
class Inequality:
    """M(rho, lam) >= 0 of this module's head.

    **Attributes:** `input_size`: n_0; `constraints`: layer k = 1, .., l in order, fed by blocks before k only;
    `output`: C_j by block j, each of shape (n_y, n_j).
    """

    input_size: int
    constraints: tuple[SlopeConstraint, ...]
    output: Mapping[int, np.ndarray]

    def __post_init__(self) -> None:
        sizes = self.sizes
        faults = []
        for k, constraint in enumerate(self.constraints, start=1):
            if constraint.size % constraint.coupled or constraint.lower.shape != constraint.upper.shape:
                faults.append(f"layer {k}: {constraint.size} neurons, groups of {constraint.coupled}")
            if np.any(constraint.lower >= constraint.upper):
                faults.append(f"layer {k}: every slope interval needs lower < upper")
            for j, a in constraint.maps.items():
                if not 0 <= j < k or a.shape != (sizes[k], sizes[j]):
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
