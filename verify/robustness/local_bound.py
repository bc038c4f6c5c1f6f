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
    slopes = network.slopes(centre, network.zonotope(centre, wider), from_centre=False, slack=_SLACK)
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
    over j, `margin`_j, within min(r, margin_j / L_j(r)). As L_j grows with r, bisection is on whether the second is at
    least the first. A class j that the zonotope of B shows to stay behind needs no L_j.

    **Arguments:** `evaluations`: the most radii tried; `tolerance`: of the solves; `deadline`: of
    `time.perf_counter()`, after which the best so far is returned.
    """

    evaluations: int = 6
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
        low, high = known, most
        for _ in range(self.evaluations):
            if high <= _CLOSE * low or time.perf_counter() > self.deadline:
                break
            tried = (low + high) / 2 if high < math.inf else 2 * low
            found = self._tried(network, digest, centre, predicted, margins, tried, best.radius)
            if found is not None:
                best = found
            if best.radius >= tried:
                low = tried
            else:
                low, high = max(low, best.radius), tried
        return best

    def _tried(self, network: LocalNetwork, digest: str, centre: Centre, predicted: int, margins: np.ndarray,
               tried: float, known: float) -> LocalRadius | None:
        """What the ball of this radius proves, if it is more than what is known."""
        region = Region(RegionShape.BALL, tried)
        zonotope = network.zonotope(centre, Region(RegionShape.BALL, tried * _WIDER))
        rivals = [j for j in range(len(margins)) if j != predicted]
        rows = {j: difference(len(margins), predicted, j) for j in rivals}
        open_ = [j for j in rivals
                 if not float(margins[j]) + network.least_change(zonotope, rows[j]) > _SURE * float(margins[j])]
        slopes = network.slopes(centre, zonotope, from_centre=True, slack=_SLACK)
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
                    return None
                claim.gains[j] = gain
                reach = min(reach, radius(margin, gain.value))
                if reach <= known:
                    return None
        return LocalRadius(reach, claim)
