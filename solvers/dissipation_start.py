r"""Storages, multipliers and metrics by formulas: a strictly feasible point of every dissipation inequality.

With Q_k = I and lam_i = gain, the answer z is eliminated, which leaves N = -sum_i kappa_i v_i v_i^T on (x, u). Then
states are eliminated, first the axis which the other does not depend on: with N_a <= 0 the block of x_a and e the norm
of N, the storage

    P_a = A_a^T P_a A_a + W,    W = -2 N_a + e I,

leaves x_a the positive definite block e I - N_a. What remains is on u, and rho is larger than minus its least
eigenvalue. It needs A to have its spectrum in the open unit disc, and x_a^+ to depend on no axis before a.
"""

import dataclasses
import itertools

import numpy as np

from .dissipation import StageData

_MOST_DOUBLINGS = 60
_SLACK = 2.0


@dataclasses.dataclass(frozen=True, eq=False)
class StagePoint:
    """Q_(k-1) = rho I, storages and multipliers, for Q_k = I."""

    rho: float
    storages: tuple[np.ndarray, ...]
    multipliers: np.ndarray | None


def stage_start(stage: StageData) -> StagePoint | None:
    """The formula's point; None where it has none."""
    states = len(stage.A)
    v, multipliers = np.hstack([stage.C, stage.D]), None
    weight = np.full(stage.channels, float(stage.gain))
    if stage.lower is not None and stage.upper is not None:
        multipliers = weight
        weight = weight * ((stage.lower + stage.upper) ** 2 + 2 * np.abs(stage.lower * stage.upper))
    rest = -(v.T * weight) @ v
    size = float(np.linalg.norm(rest, 2)) or 1.0
    ahead = np.hstack([stage.A, stage.B])
    storages = {}
    for k in _order(stage):
        part = stage.blocks[k]
        storage = storage_of(stage.A[part, part], size * np.eye(part.stop - part.start) - 2 * rest[part, part])
        if storage is None:
            return None
        storages[k] = storage
        rest = rest - ahead[part].T @ storage @ ahead[part]
        rest[part, part] += storage
        block = rest[part, part]
        try:
            root = np.linalg.cholesky(block)
        except np.linalg.LinAlgError:
            return None
        half = np.linalg.solve(root, rest[part])
        rest = rest - half.T @ half
        size = max(size, float(np.linalg.norm(rest, 2)))
    if not np.all(np.isfinite(rest)):
        return None
    rho = _SLACK * max(-float(np.linalg.eigvalsh(rest[states:, states:])[0]), 0.0)
    return StagePoint(rho or size * np.finfo(float).eps, tuple(storages[k] for k in sorted(storages)), multipliers)


def _order(stage: StageData) -> list[int]:
    """The blocks, those first whose states the others do not depend on."""
    order = list(range(len(stage.blocks)))
    below = any(np.any(stage.A[later, earlier]) for earlier, later in itertools.combinations(stage.blocks, 2))
    return order[::-1] if below else order


def storage_of(A: np.ndarray, W: np.ndarray) -> np.ndarray | None:
    """P = A^T P A + W by doubling; None unless it converges."""
    P: np.ndarray = W
    power: np.ndarray = A
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(_MOST_DOUBLINGS):
            step = power.T @ P @ power
            P, power = P + step, power @ power
            if not np.all(np.isfinite(P)):
                return None
            if np.abs(step).max(initial=0.0) <= np.finfo(float).eps * np.abs(P).max(initial=0.0):
                return P
    return None
