"""A layer whose weights change with time: u' = s(A(t) u + b(t)), known at some times."""

import dataclasses
import hashlib
import math

import numpy as np

from .activation import Activation
from .errors import ModelError, ShapeError
from .graph import absorb
from .layer import parameter


@dataclasses.dataclass(frozen=True, eq=False)
class SampledWeights:
    """A(t_j) at increasing times, and how fast A(t) changes in between.

    **Attributes:** `times`: shape (g,), g >= 2; `weights`: A(t_j), shape (g, n, n); `lipschitz`: a number L with
    |A(s) - A(t)| <= L |s - t| in the spectral norm for all s, t in the span of times, which whoever made A(t) has to
    know: samples can contradict it, but not show it; `biases`: b(t_j), shape (g, n), or one for all times, shape (n,).

    **Raises:** `ModelError` for numbers that are not finite, times that do not increase, a negative L, or samples that
    contradict L; `ShapeError` for arrays that do not fit.
    """

    times: np.ndarray
    weights: np.ndarray
    activation: Activation
    lipschitz: float
    biases: np.ndarray | None = None
    name: str = "field"

    def __post_init__(self) -> None:
        for key, label in (("times", "times"), ("weights", "A"), ("biases", "b")):
            given = getattr(self, key)
            if given is not None:
                object.__setattr__(self, key, parameter(given, label))
        if self.times.ndim != 1 or len(self.times) < 2 or not np.all(np.diff(self.times) > 0):
            raise ModelError(f"`times` must be at least two increasing numbers, got {self.times.tolist()}.")
        count, shape = len(self.times), self.weights.shape
        if len(shape) != 3 or shape[0] != count or shape[1] != shape[2] or not shape[1]:
            raise ShapeError(f"With {count} `times`, A must have the shape ({count}, n, n), one square matrix each; "
                             f"got {shape}.")
        if self.biases is not None and self.biases.shape not in ((self.size,), (count, self.size)):
            raise ShapeError(f"b must have the shape ({self.size},), or ({count}, {self.size}) with one vector per "
                             f"time; got {self.biases.shape}.")
        if not 0 <= self.lipschitz < math.inf:
            raise ModelError(f"`lipschitz` must be a finite number of at least 0, got {self.lipschitz!r}.")
        speeds = np.linalg.norm(np.diff(self.weights, axis=0), 2, axis=(1, 2)) / np.diff(self.times)
        fastest = int(np.argmax(speeds))
        if speeds[fastest] > self.lipschitz * (1 + 1e-9):
            raise ModelError(f"`lipschitz` is {self.lipschitz!r}, but A changes by {float(speeds[fastest])!r} per unit "
                             f"of time between t = {float(self.times[fastest])!r} and the next sample.")

    @property
    def size(self) -> int:
        """n, the dimension of the state."""
        return int(self.weights.shape[1])

    @property
    def digest(self) -> str:
        """SHA-256 of what determines the field."""
        state = hashlib.sha256(b"netgain sampled weights 1")
        parts = [self.times, self.weights, self.biases, float(self.lipschitz)]
        absorb(state, [*parts, type(self.activation).__name__, self.activation.parameters()])
        return state.hexdigest()
