r"""Proved boxes, and certified radii in the largest norm, for a batch of inputs of y = C x + c, x = Phi(A x + B u + b).

Boxes are found by the embedded network in floating point, widened along the weights eta by what the residual can cost,
|residual|_eta / (1 - mu), and proved by `reachability_check`. A radius is certified for an input if every input within
it, coordinate by coordinate, is shown to have the same largest output.
"""

import dataclasses

import numpy as np
from netgain.layers.activation import Elementwise
from netgain.solvers.implicit.network import ImplicitNetwork
from netgain.solvers.implicit.reachability import Embedding, embedding, linear_bounds
from netgain.solvers.implicit.weighted_log_norm import SlopeBox, largest_log_norm

from .check import proved_majorant_gain
from .fixed_point_enclosure import slope_bounds
from .reachability_check import Boxes, linear_image, margins, proved_state_boxes

# Widenings tried, as multiples of what the residual asks for.
_WIDENINGS = (1.01, 4.0, 64.0)
# Proofs tried for radii that bisection in floating point arrived at, as multiples of them.
_SHRINKAGES = (1.0, 0.999, 0.98, 0.9)
_BATCH = 2000


def implicit_network(A: np.ndarray, B: np.ndarray, b: np.ndarray, C: np.ndarray, c: np.ndarray,
                     activation: Elementwise) -> ImplicitNetwork:
    """The network with an activation of `layers`, on its proved slopes."""
    slopes = SlopeBox(*slope_bounds(activation, len(np.asarray(A))))
    return ImplicitNetwork(A, B, b, C, c, activation.value, activation.derivative, slopes)


@dataclasses.dataclass(frozen=True, eq=False)
class Reach:
    """Boxes of x and y for boxes of u; `proved`: for which rows, booleans of shape (batch,)."""

    states: Boxes
    outputs: Boxes
    proved: np.ndarray


class Reachability:
    """Reachability of one network; `activation` must be the one `network` was made with.

    **Raises:** `ValueError` where mixed monotonicity does not apply: see `solvers.implicit.reachability.embedding`.
    """

    def __init__(self, A: np.ndarray, B: np.ndarray, b: np.ndarray, C: np.ndarray, c: np.ndarray,
                 activation: Elementwise):
        self.network = implicit_network(A, B, b, C, c, activation)
        self.activation = activation
        self.embedding: Embedding = embedding(self.network)
        log_norm = largest_log_norm(self.network.A, self.embedding.weights, self.network.slopes)
        self._margin = 1 - max(log_norm, 0.0)

    def reach(self, inputs: Boxes) -> Reach:
        """Boxes of x and y over boxes of u."""
        states, proved = self._states(inputs)
        return Reach(states, linear_image(self.network.C, self.network.c, states), proved)

    def certified(self, u: np.ndarray, labels: np.ndarray, radius: np.ndarray | float, floor: float = -np.inf,
                  ceiling: float = np.inf) -> np.ndarray:
        """Whether output `label` is proved the largest for all inputs within `radius` and [floor, ceiling].

        **Arguments:** `u`: shape (batch, m); `labels`: integers (batch,); `radius`: a number, or one for each row.
        """
        certified = np.zeros(len(u), dtype=bool)
        radius = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(u))
        for k in range(0, len(u), _BATCH):
            rows = slice(k, k + _BATCH)
            states, proved = self._states(Boxes.around(u[rows], radius[rows], floor, ceiling))
            least = np.min(margins(self.network.C, self.network.c, states, labels[rows]), axis=1)
            certified[rows] = proved & (least > 0)
        return certified

    def margin_radii(self, u: np.ndarray, labels: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """Certified radii by margins over Lipschitz constants: min over j of (y_label - y_j) / gains_label,j.

        **Arguments:** `gains`: proved l_inf gains of y_i - y_j, shape (q, q), such as :func:`pairwise_gains`.
        """
        u, labels = np.asarray(u, dtype=np.float64), np.asarray(labels)
        result = np.zeros(len(u))
        for k in range(0, len(u), _BATCH):
            rows = slice(k, k + _BATCH)
            states, proved = self._states(Boxes(u[rows], u[rows]))
            room = np.maximum(margins(self.network.C, self.network.c, states, labels[rows]), 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                radius = np.nextafter(room / gains[labels[rows]], -np.inf)
            # Two outputs whose difference never changes, one with itself among them: any radius, if there is room.
            radius = np.where((gains[labels[rows]] > 0) & (room < np.inf), radius, np.where(room > 0, np.inf, 0.0))
            result[rows] = np.where(proved, np.maximum(np.min(radius, axis=1), 0.0), 0.0)
        return result

    def radii(self, u: np.ndarray, labels: np.ndarray, floor: float = -np.inf, ceiling: float = np.inf, *,
              largest: float = 1.0, tolerance: float = 0.01) -> np.ndarray:
        """Certified radii, shape (batch,), 0 where nothing is proved; within `tolerance`, relatively, of the best.

        Bisection for all rows at once in floating point; what it arrives at is proved. No radius exceeds `largest`.
        """
        u, labels = np.asarray(u, dtype=np.float64), np.asarray(labels)
        best = np.zeros(len(u))
        for k in range(0, len(u), _BATCH):
            rows = slice(k, k + _BATCH)
            best[rows] = self._radii(u[rows], labels[rows], floor, ceiling, largest, tolerance)
        return best

    def _radii(self, u: np.ndarray, labels: np.ndarray, floor: float, ceiling: float, largest: float, tolerance: float
               ) -> np.ndarray:
        low, high = np.zeros(len(u)), np.full(len(u), largest)
        trial = np.full(len(u), largest)
        open_rows = self._probably(u, labels, low, floor, ceiling)
        while np.any(open_rows):
            holds = self._probably(u[open_rows], labels[open_rows], trial[open_rows], floor, ceiling)
            low[open_rows] = np.where(holds, trial[open_rows], low[open_rows])
            high[open_rows] = np.where(holds, high[open_rows], trial[open_rows])
            trial = np.where(low > 0, (low + high) / 2, high / 4)
            open_rows &= (high - low > tolerance * high) & (high > 1e-9 * largest)
        proved = np.zeros(len(u))
        for shrinkage in _SHRINKAGES:
            rest = np.flatnonzero((proved == 0) & (low > 0))
            if not len(rest):
                break
            there = self.certified(u[rest], labels[rest], low[rest] * shrinkage, floor, ceiling)
            proved[rest[there]] = low[rest[there]] * shrinkage
        return proved

    def _probably(self, u: np.ndarray, labels: np.ndarray, radius: np.ndarray, floor: float, ceiling: float
                  ) -> np.ndarray:
        """:meth:`certified` in floating point."""
        boxes = Boxes.around(u, radius, floor, ceiling)
        below, above = self.embedding.state_boxes(boxes.lower, boxes.upper, tolerance=1e-6)
        least = np.empty(len(u))
        for label in np.unique(labels):
            rows, others = labels == label, np.arange(len(self.network.C)) != label
            rest = self.network.C[label] - self.network.C[others]
            offset = self.network.c[label] - self.network.c[others]
            least[rows] = np.min(linear_bounds(rest, below[rows], above[rows])[0] + offset, axis=1)
        return least > 0

    def _states(self, inputs: Boxes) -> tuple[Boxes, np.ndarray]:
        network, eta = self.network, self.embedding.weights
        below, above = self.embedding.state_boxes(inputs.lower, inputs.upper)
        n = len(eta)
        ends = np.hstack([below, above])
        offset = np.hstack(linear_bounds(network.B, inputs.lower, inputs.upper)) + np.tile(network.b, 2)
        inner = ends @ self.embedding.matrix.T + offset
        residual = np.abs(ends - np.hstack([network.activation(inner[:, :n]), network.activation(inner[:, n:])]))
        size = np.abs(ends) @ np.abs(self.embedding.matrix).T + np.abs(offset) + np.abs(ends)
        # Twice the bound on rounding that the proof will subtract.
        needed = np.max((residual + 4 * (2 * n + network.B.shape[1]) * 2.0**-52 * size) / np.tile(eta, 2), axis=1)
        proved = np.zeros(len(ends), dtype=bool)
        low, high = below.copy(), above.copy()
        for factor in _WIDENINGS:
            rest = np.flatnonzero(~proved)
            if not len(rest):
                break
            widening = (factor * needed[rest] / self._margin)[:, None] * eta
            low[rest], high[rest] = below[rest] - widening, above[rest] + widening
            proved[rest] = proved_state_boxes(network.A, network.B, network.b, self.activation, eta,
                                              Boxes(inputs.lower[rest], inputs.upper[rest]),
                                              Boxes(low[rest], high[rest]))
        return Boxes(low, high), proved


def pairwise_gains(A: np.ndarray, B: np.ndarray, C: np.ndarray, z: np.ndarray) -> np.ndarray | None:
    """l_inf gains of y_i - y_j that z proves, rounded up, shape (q, q); None if z proves none.

    z as in `check.proved_majorant_gain`: |dx|_i <= z_i |du|_inf, so that |dy_i - dy_j| <= |C_i - C_j| z |du|_inf.
    """
    if proved_majorant_gain(A, B, C, z) is None:
        return None
    C = np.asarray(C, dtype=np.float64)
    # The difference and the inner product round; both errors are relative to non-negative terms.
    rows = np.nextafter(np.abs(C[:, None] - C[None]), np.inf)
    gains = np.asarray(rows @ z * (1 + 1e-9))
    np.fill_diagonal(gains, 0.0)
    return gains
