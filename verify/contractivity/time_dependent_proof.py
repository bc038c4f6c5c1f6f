r"""Proof that mu keeps a rate along sampled weights: every grid point by the checker, in between in exact arithmetic.

Between grid points mu*(t) <= min(v + s (t - t_j), w + s (t_{j+1} - t)) with v, w the proved levels at the ends and s =
max(|lower|, |upper|) L, where L is the stated Lipschitz constant of A(t) in the spectral norm. The tents' maximum and
integral are rational numbers; they are computed as such and rounded upwards once.
"""

import dataclasses
import math
from fractions import Fraction

import numpy as np
from netgain.solvers.contractivity.time_dependent_field import AlongTime, SampledField

from .proof import ProvedLogNorm, one_box, prove_log_norm


@dataclasses.dataclass(frozen=True, eq=False)
class ProvedAlongTime:
    """mu <= `rate` at all times of the span, and the integral of mu is at most `log_gain`, given L.

    **Attributes:** `points`: the proved level of every grid point.
    """

    points: tuple[ProvedLogNorm, ...]
    rate: float
    log_gain: float


def prove_along(sampled: SampledField, along: AlongTime) -> ProvedAlongTime | None:
    """Proves the bounds at all grid points and what follows in between; None where a grid point is not proved."""
    points = []
    for j, bound in enumerate(along.bounds):
        field = sampled.at(j)
        proved = prove_log_norm(field, one_box(field, bound.multipliers), bound.value)
        if proved is None:
            return None
        points.append(proved)
    levels = np.array([point.claim.level for point in points])
    rate, log_gain = exact_tents(levels, sampled.times, max(abs(sampled.lower), abs(sampled.upper)), sampled.lipschitz)
    return ProvedAlongTime(tuple(points), rate, log_gain)


def exact_tents(levels: np.ndarray, times: np.ndarray, slope: float, lipschitz: float) -> tuple[float, float]:
    """Maximum and integral of the tents over proved levels, in rational arithmetic, rounded upwards."""
    values, points = ([Fraction(float(number)) for number in array] for array in (levels, times))
    speed = Fraction(slope) * Fraction(lipschitz)
    peaks, integral = [], Fraction(0)
    for v, w, start, end in zip(values, values[1:], points, points[1:], strict=False):
        h = end - start
        # A level far above the line from the other end is of no use.
        v, w = min(v, w + speed * h), min(w, v + speed * h)
        peak = (v + w + speed * h) / 2
        peaks.append(peak)
        if speed == 0:
            integral += h * v
        else:
            integral += ((peak - v) * (v + peak) + (peak - w) * (w + peak)) / (2 * speed)
    return _rounded_up(max(peaks)), _rounded_up(integral)


def _rounded_up(value: Fraction) -> float:
    """The least float64 that is not below the number."""
    near = float(value)
    return near if Fraction(near) >= value else math.nextafter(near, math.inf)
