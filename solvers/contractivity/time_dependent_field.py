r"""Weights that change with time: u' = sigma(A(t) u + b(t)), known on a grid and Lipschitz in between.

If ||A(s) - A(t)||_2 <= L |s - t|, then |mu*(A(s)) - mu*(A(t))| <= beta L |s - t| with beta the largest modulus of a
slope, since mu is 1-Lipschitz in the spectral norm. So bounds mu_j at the grid points t_j bound mu* in between by the
tents

    mu*(t) <= min( mu_j + beta L (t - t_j), mu_{j+1} + beta L (t_{j+1} - t) ),

whose maximum bounds the rate of growth at any time, and whose integral the logarithm of the flow map's Lipschitz
constant. What the tents prove rests on L, which the grid cannot show; it has to be derived from how A(t) is made.
"""

import dataclasses

import numpy as np

from ..result import Limits
from .logarithmic_norm import Array, SlopeField
from .sdp import LogNormUpperBound, least_lower_slope, upper_bound
from .slope_gradient_flow import LogNormLowerBound, SlopeGradientFlow


@dataclasses.dataclass(frozen=True, eq=False)
class SampledField:
    """A(t_j) at increasing times.

    **Attributes:** `times`: shape (g,), g >= 2; `inputs`: A(t_j), shape (g, n, n); `lipschitz`: L in the spectral
    norm, per unit of time; `lower`, `upper`: the slope interval.

    **Raises:** `ValueError` for times that do not increase, shapes that do not fit, a negative L, or samples that
    contradict L.
    """

    times: Array
    inputs: Array
    lipschitz: float
    lower: float
    upper: float = 1.0

    def __post_init__(self) -> None:
        times, inputs = np.asarray(self.times, dtype=np.float64), np.asarray(self.inputs, dtype=np.float64)
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "inputs", inputs)
        if times.ndim != 1 or len(times) < 2 or not np.all(np.diff(times) > 0):
            raise ValueError(f"`times` must be at least two increasing numbers, got {times.tolist()}.")
        if inputs.ndim != 3 or len(inputs) != len(times) or inputs.shape[1] != inputs.shape[2]:
            raise ValueError(f"`inputs` must have the shape ({len(times)}, n, n), one matrix per time; got "
                             f"{inputs.shape}.")
        if not 0 <= self.lipschitz < np.inf:
            raise ValueError(f"`lipschitz` must be a finite number of at least 0, got {self.lipschitz!r}.")
        speeds: Array = np.linalg.norm(np.diff(inputs, axis=0), 2, axis=(1, 2)) / np.diff(times)
        fastest = int(np.argmax(speeds))
        if speeds[fastest] > self.lipschitz * (1 + 1e-9) + 1e-300:
            raise ValueError(f"`lipschitz` is {self.lipschitz!r}, but the samples change by {float(speeds[fastest])!r} "
                             f"per unit of time after t = {float(times[fastest])!r}.")

    @property
    def size(self) -> int:
        """n, the dimension of the state."""
        return int(self.inputs.shape[1])

    def with_lower(self, lower: float) -> "SampledField":
        """The same weights on the box [lower, upper]."""
        return dataclasses.replace(self, lower=lower)

    def at(self, j: int) -> SlopeField:
        """The field at the j-th time."""
        return SlopeField(self.inputs[j], self.lower, self.upper)

    @property
    def speed(self) -> float:
        """beta L: how fast the worst logarithmic norm can change."""
        return max(abs(self.lower), abs(self.upper)) * self.lipschitz


@dataclasses.dataclass(frozen=True, eq=False)
class AlongTime:
    """Upper bounds on the grid and what the tents make of them.

    **Attributes:** `bounds`: by grid point; `rate`: mu*(t) <= rate at all times of the grid's span; `log_gain`: the
    integral, log of a bound of the flow map's Lipschitz constant over the span.
    """

    bounds: tuple[LogNormUpperBound, ...]
    rate: float
    log_gain: float


def upper_bounds_along(sampled: SampledField, limits: Limits | None = None) -> AlongTime:
    """The semidefinite bound at every grid point, each started from the multipliers of the one before."""
    bounds: list[LogNormUpperBound] = []
    for j in range(len(sampled.times)):
        start = bounds[-1].multipliers if bounds else None
        bounds.append(upper_bound(sampled.at(j), limits, start))
    rate, log_gain = tents(np.array([bound.value for bound in bounds]), sampled.times, sampled.speed)
    return AlongTime(tuple(bounds), rate, log_gain)


def gradient_flow_along(sampled: SampledField, flow: SlopeGradientFlow | None = None) -> tuple[LogNormLowerBound, ...]:
    """The gradient system at every grid point, started from the slopes and the eigenvector of the one before.

    Local maxima: lower bounds at the grid points.
    """
    flow, found = flow or SlopeGradientFlow(), list[LogNormLowerBound]()
    for j in range(len(sampled.times)):
        field = sampled.at(j)
        # Slopes at a vertex are often stationary at the next time too; the middle of the box may lead elsewhere.
        trials = [flow.solve(field)]
        if found:
            trials.append(flow.solve(field, found[-1].slopes, found[-1].vector))
        found.append(max(trials, key=lambda trial: trial.value))
    return tuple(found)


def certified_lower_slope_along(sampled: SampledField, level: float, limits: Limits | None = None) -> float | None:
    """The least m found for which mu <= level holds at all times on [m, upper]^k, also between the grid points.

    A tent over bounds v, w at the ends of an interval of length h is at most max(v, w) + speed h / 2, so every grid
    point has to keep the level less that, with the longer of its two intervals. None where some grid point cannot.
    """
    steps = np.diff(sampled.times)
    longest = np.maximum(np.append(steps, 0.0), np.append(0.0, steps))
    m = sampled.lower
    for j, step in enumerate(longest):
        field = sampled.at(j).with_lower(m)
        found = least_lower_slope(field, level - sampled.speed * float(step) / 2, limits).lower_slope
        if found is None:
            return None
        m = found
    return m


def tents(values: Array, times: Array, speed: float) -> tuple[float, float]:
    """The maximum and the integral of the tents over bounds `values` at `times`.

    On an interval of length h the two lines cross at height (v + w + speed h) / 2 if |v - w| <= speed h; else the
    lower one alone counts, the higher bound being no use there.
    """
    v, w, h = values[:-1], values[1:], np.diff(times)
    v, w = np.minimum(v, w + speed * h), np.minimum(w, v + speed * h)
    peak = (v + w + speed * h) / 2
    if speed == 0:
        return float(np.max(peak)), float(np.sum(h * v))
    left, right = (peak - v) / speed, (peak - w) / speed
    return float(np.max(peak)), float(np.sum(left * (v + peak) / 2 + right * (w + peak) / 2))
