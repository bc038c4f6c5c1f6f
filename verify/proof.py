"""From a solver's multipliers to a certificate: the least inflation of its bound that the checker proves."""

import dataclasses
import math

import numpy as np
from netgain.layers import Graph
from netgain.solvers.closed_form import Scaled
from netgain.solvers.result import Solution

from .certificate import Certificate
from .check import check

INFLATIONS = tuple(10.0**-k for k in range(11, 0, -1))
# Decided in balls only where double precision would cost more than this, and where they take minutes at most.
_WORTH_BALLS = 1e-6
_LARGEST_IN_BALLS = 1500
# What part of the solver's own gap may be given away without a try, each of which may take minutes.
_SHARE_OF_GAP = 1e-4


def prove(graph: Graph, scaled: Scaled, solution: Solution) -> Certificate | None:
    """A certificate that the checker accepts, with the least inflation of `solution.bound` on a ladder; or None.

    A solver's bound may be too low for its own multipliers, and these infeasible. Both are mended by one step towards
    the closed-form multipliers, which are strictly feasible: M is affine in (rho, lam), so for 0 <= t <= 1 the mixture
    (1 - t) (rho, lam) + t (rho_0, lam_0) is feasible where both are. With inflation d, t is chosen so that the mixture
    costs a relative 2 d in rho, that is d in the bound.
    """
    affordable = sum(scaled.inequality.sizes) <= _LARGEST_IN_BALLS
    gap = 1 - solution.dual_bound / solution.bound if 0 < solution.dual_bound < solution.bound else 0.0
    ladder = [inflation for inflation in INFLATIONS if inflation >= _SHARE_OF_GAP * gap]
    worth_balls = min(inflation for inflation in ladder if inflation >= _WORTH_BALLS)
    digest = graph.digest
    for inflation in ladder:
        own = candidate(digest, scaled, solution, inflation)
        verdict = check(own, graph, balls=affordable and inflation == worth_balls)
        if verdict.proved:
            return dataclasses.replace(own, arithmetic=verdict.arithmetic, seconds=verdict.seconds)
    return None


def candidate(digest: str, scaled: Scaled, solution: Solution, inflation: float) -> Certificate:
    """The mixture for one inflation, as a certificate for the network of this digest; not proved."""
    with np.errstate(over="ignore"):  # an absurd bound is for the checker to refuse
        gain = float(np.ldexp(solution.bound, -scaled.output_exponent))
    start = 1.1 * scaled.bound**2
    share = min(1.0, inflation * gain * gain / start) if start > 0 else 0.0
    multipliers = tuple(
        np.maximum((1 - share) * lam, 0) + share * 1.1 * safe
        for lam, safe in zip(solution.multipliers, scaled.start, strict=True)
    )
    # Below the normal numbers a float64 has too few digits left to state a bound.
    least = float(np.finfo(np.float64).tiny) if scaled.bound > 0 else 0.0
    return Certificate(
        value=max(float(np.nextafter(solution.bound * (1 + inflation), math.inf)), least) if least else 0.0,
        digest=digest,
        multipliers=multipliers,
        exponents=scaled.exponents,
        output_exponent=scaled.output_exponent,
        solver=f"{solution.solver} {solution.version}".strip(),
        loop_metrics=scaled.metrics,
    )
