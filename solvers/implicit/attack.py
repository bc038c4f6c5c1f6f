r"""Adversarial inputs of an implicit classifier: projected gradients through the fixed point, in floating point."""

import dataclasses

import numpy as np

from .gain_witness import require_order, steepest
from .network import Equilibria
from .weighted_log_norm import Array


@dataclasses.dataclass(frozen=True, eq=False)
class Attack:
    """Inputs within the radius, shape (batch, m), and which of them are misclassified, booleans of shape (batch,)."""

    inputs: Array
    succeeded: Array


def attack(equilibria: Equilibria, u: Array, labels: Array, radius: float, order: float, *, steps: int = 20,
           floor: float = -np.inf, ceiling: float = np.inf, tolerance: float = 1e-6) -> Attack:
    """Projected gradient ascent from u in the ball of this radius and [floor, ceiling]; one step is FGSM for l_inf.

    An input that is misclassified once is kept as it was then.

    **Raises:** `ValueError` for another order than 2 or inf or a negative radius; `NotConverged` as the equilibria do.
    """
    require_order(order)
    if not radius >= 0:
        raise ValueError(f"The radius of an attack must not be negative, got {radius!r}.")
    start, labels = np.asarray(u, dtype=np.float64), np.asarray(labels)
    length = radius if steps == 1 else 2.5 * radius / max(steps, 1)
    moved, right = start.copy(), np.arange(len(start))
    for step in range(steps + 1):
        x = equilibria.states(moved, tolerance)
        y = x @ equilibria.network.C.T + equilibria.network.c
        succeeded = np.argmax(y, axis=1) != labels
        if step == steps:
            break
        rival = y.copy()
        rival[right, labels] = -np.inf
        g = np.zeros_like(y)
        g[right, np.argmax(rival, axis=1)], g[right, labels] = 1.0, -1.0
        ascent = steepest(equilibria.gradients(moved, x, g, tolerance), order)
        there = start + _projected(moved + length * ascent - start, radius, order)
        moved = np.where(succeeded[:, None], moved, np.clip(there, floor, ceiling))
    return Attack(moved, succeeded)


def _projected(v: Array, radius: float, order: float) -> Array:
    if order == np.inf:
        return np.clip(v, -radius, radius)
    return np.asarray(v * np.minimum(1.0, radius / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-300)))
