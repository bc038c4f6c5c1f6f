r"""Gains of a network on a region: the inequality of `netgain.solvers.inequality` with the slopes of that region.

On a convex region every neuron's input stays within its interval, so increments between any two points of the region
have slopes in the range of s' there, and the same inequality proves |f(x') - f(x'')| <= L |x' - x''| for both in the
region. From the centre alone, slopes of secants with one end fixed are narrower, and |f(x') - f(x)| <= L |x' - x|:
that is all a certified radius needs.
"""

import dataclasses
import math
import time
from collections.abc import Sequence

import numpy as np
from netgain.solvers.closed_form import Scaled, compress, scale
from netgain.solvers.dual_scaling import DualScaling
from netgain.solvers.result import Limits, Solution, Status

from ..certificate import Certificate
from ..constraints import to_inequality
from ..neuron import Solver, default_solver
from ..proof import candidate
from .local_check import LocalClaim, gain_proved
from .local_rows import projected, restricted
from .local_slopes import Ends
from .margins import radius
from .outputs import difference
from .pairs import shared
from .region import Centre, LocalNetwork, Region, RegionShape

_INFLATIONS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
# Intervals are claimed a little wider than they were found, so that a checker that rounds otherwise finds them true.
_WIDER, _SLACK = 1 + 1e-9, 1e-15
_SURE = 1e-9
_CLOSE = 1.02
# The same where a secant through two radii met the reach.
_NEAR = 1.1
# By how much the least reach falls with the radius, until two are known.
_FALL = 0.15
_TRACES = (1e-14, 1e-12, 1e-10)
_LARGE = 500


class LocalInequality:
    """A network with known slopes, of which gains of outputs are asked one after the other.

    **Attributes:** `neurons`: how many are not linear.
    """

    def __init__(self, network: LocalNetwork, digest: str, slopes: Sequence[Ends]):
        self.digest = digest
        self.plain, self.enclosed = (restricted(rows, slopes) for rows in (network.plain, network.enclosed))
        self.neurons = sum(len(layer.lower) for layer in self.plain.activations)
        self._known: list[Certificate] = []

    def gain(self, row: np.ndarray | None, limits: Limits, enough: float = 0.0) -> Certificate | None:
        """Multipliers that prove a gain of row^T f, or of all outputs for None; None if nothing was proved.

        **Arguments:** `enough`: a gain not worth less, by multipliers of a former question or of a solve cut short.
        """
        scaled = scale(compress(to_inequality(projected(self.plain, row))))
        for former in self._known:
            solution = shared(scaled, former)
            if solution is not None and solution.bound * (1 + _INFLATIONS[0]) <= enough:
                certificate = self._proved(row, scaled, solution)
                if certificate is not None and certificate.value <= enough:
                    return certificate
        limits = dataclasses.replace(limits, enough=enough * (1 - _INFLATIONS[0]))
        solution = _solver(scaled).solve(scaled, limits)
        if solution.status is Status.INTERRUPTED:
            # Solvers keep Ctrl-C to themselves, and what is left of one question is not worth a proof.
            raise KeyboardInterrupt
        certificate = self._proved(row, scaled, solution)
        if certificate is not None and certificate.value > 0:
            self._known.append(certificate)
        return certificate

    def _proved(self, row: np.ndarray | None, scaled: Scaled, solution: Solution) -> Certificate | None:
        """The least inflation on a ladder that is proved, see `netgain.verify.proof`."""
        candidates = [candidate(self.digest, scaled, solution, inflation) for inflation in _INFLATIONS]
        if scaled.bound == 0:
            # Of rows that cancel, the enclosures keep traces of rounding.
            candidates += [dataclasses.replace(candidates[0], value=trace) for trace in _TRACES]
        for certificate in candidates:
            if gain_proved(self.enclosed, row, certificate):
                return dataclasses.replace(certificate, arithmetic="double")
        return None


def _solver(scaled: Scaled) -> Solver:
    """Secants from a centre make the blocks of M dense, where the barrier method is faster from fewer neurons on."""
    return DualScaling() if sum(scaled.inequality.sizes) > _LARGE else default_solver(scaled)


def region_gain(network: LocalNetwork, digest: str, centre: Centre, region: Region, limits: Limits
                ) -> tuple[LocalClaim | None, int]:
    """A Lipschitz constant of all outputs on the region, with its proof, and how many neurons are not linear there."""
    wider = Region(region.shape, region.radius * _WIDER)
    slopes = network.slopes(network.zonotope(centre, wider), from_centre=False, slack=_SLACK)
    problem = LocalInequality(network, digest, slopes)
    gain = problem.gain(None, limits)
    return (None if gain is None else LocalClaim(region, False, slopes, {-1: gain})), problem.neurons


@dataclasses.dataclass(frozen=True, eq=False)
class LocalRadius:
    """A radius proved by local slopes; `claim`: how, None where it is the one that was known before."""

    radius: float
    claim: LocalClaim | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RadiusSearch:
    """Looks for the largest radius that slopes on its own ball prove.

    On the ball B of radius r around x let |(f_p - f_j)(x') - (f_p - f_j)(x)| <= L_j(r) |x' - x|. Then p keeps its lead
    over j, `margin`_j, within min(r, reach_j(r)), reach_j(r) = margin_j / L_j(r). As L_j grows with r, the best r is
    where it meets the least reach, which falls slowly: a secant finds it. While r is far above that only the class of
    least margin is asked, whose reach is the least as a rule. A class j that the zonotope of B shows to stay behind
    needs no L_j.

    **Arguments:** `evaluations`: the most radii tried; `tolerance`: of the solves; `deadline`: of
    `time.perf_counter()`, after which the best so far is returned.
    """

    evaluations: int = 10
    tolerance: float = 5e-3
    deadline: float = math.inf

    def find(self, network: LocalNetwork, digest: str, x: np.ndarray, predicted: int, margins: np.ndarray, known: float,
             most: float) -> LocalRadius:
        """The best radius from `known`, which is proved already, to `most`, beyond which none is.

        **Arguments:** `margins`: of the class predicted above each, see `Margins`.
        """
        best = LocalRadius(known, None)
        if not known > 0 or not known < math.inf:
            return best
        centre = network.centre(x)
        low, high, beyond, passed = known, most, _Beyond(), 0
        for left in range(self.evaluations, 0, -1):
            sure = passed and len(beyond.points) > 1
            if high <= (_NEAR if sure else _CLOSE) * low or time.perf_counter() > self.deadline:
                break
            tried = (low + high) / 2 if high < math.inf else 2 * low
            if low < beyond.meeting < high:
                tried = beyond.meeting
            elif passed and high < math.inf:
                # That was about where they meet: what is left is to see how far it is exceeded.
                tried = min(tried, _CLOSE ** (2**passed) * low)
            least = max(best.radius, tried / _CLOSE if left > 1 else 0.0)
            reach, claim = self._tried(network, digest, centre, predicted, margins, tried, least)
            if claim is not None and reach > best.radius:
                best = LocalRadius(reach, claim)
            if reach >= tried:
                low, passed = tried, passed + 1
            else:
                low, high, passed = max(low, best.radius), tried, 0
                beyond = beyond.with_point(tried, reach)
        return best

    def _tried(self, network: LocalNetwork, digest: str, centre: Centre, predicted: int, margins: np.ndarray,
               tried: float, least: float) -> tuple[float, LocalClaim | None]:
        """What the ball of this radius proves, with the claim unless it is at most `least`; then it is a radius that no
        larger one than `tried` will exceed, or 0 where nothing was proved."""
        region = Region(RegionShape.BALL, tried)
        zonotope = network.zonotope(centre, Region(RegionShape.BALL, tried * _WIDER))
        rivals = [j for j in range(len(margins)) if j != predicted]
        rows = {j: difference(len(margins), predicted, j) for j in rivals}
        open_ = [j for j in rivals
                 if not float(margins[j]) + network.least_change(zonotope, rows[j]) > _SURE * float(margins[j])]
        slopes = network.slopes(zonotope, from_centre=True, slack=_SLACK)
        claim = LocalClaim(region, True, slopes, {})
        reach = tried
        if open_:
            problem = LocalInequality(network, digest, slopes)
            for j in sorted(open_, key=lambda j: float(margins[j])):
                margin = float(margins[j])
                remaining = max(self.deadline - time.perf_counter(), 1e-3)
                limits = Limits(tolerance=self.tolerance, time_limit=remaining)
                gain = problem.gain(rows[j], limits, margin / tried * (1 - _SURE))
                if gain is None:
                    return 0.0, None
                claim.gains[j] = gain
                reach = min(reach, radius(margin, gain.value))
                if reach <= least:
                    return reach, None
        return reach, claim


@dataclasses.dataclass(frozen=True)
class _Beyond:
    """Radii that were too large, and what they proved: `meeting` is about where the two would be equal."""

    points: tuple[tuple[float, float], ...] = ()

    def with_point(self, tried: float, reach: float) -> "_Beyond":
        return _Beyond((*self.points[-1:], (tried, reach)))

    @property
    def meeting(self) -> float:
        if not self.points:
            return math.inf
        tried, reach = self.points[-1]
        fall = _FALL
        if len(self.points) > 1 and self.points[0][0] != tried:
            fall = (self.points[0][1] - reach) / (tried - self.points[0][0])
        return reach + (tried - reach) * max(fall, 0.0) / (1 + max(fall, 0.0))
