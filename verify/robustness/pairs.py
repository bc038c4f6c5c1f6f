r"""Lipschitz constants of differences of outputs, f_i - f_j, over all inputs.

If |f(x) - f(x')| <= L |x - x'| then |(f_i - f_j)(x) - (f_i - f_j)(x')| <= sqrt(2) L |x - x'|, since |e_i - e_j| =
sqrt(2). Tighter is the network with the output (e_i - e_j)^T f: the same inequality with another last row c. Its
hidden part does not depend on the pair, so the multipliers of one serve all: with H = rho E + sum_i lam_i (p_i q_i^T +
q_i p_i^T) > 0 and any t >= 0,

    t H - c c^T >= 0  if and only if  t >= c^T H^{-1} c,

so that (t rho, t lam) proves sqrt(t rho) for this pair, at the cost of one factorisation. Every pair is bounded so;
those that decide the radius of some sample are then optimised one by one.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable

import numpy as np
from netgain.layers import Graph
from netgain.solvers.block_matrix import factorise
from netgain.solvers.closed_form import ClosedForm, Scaled
from netgain.solvers.inequality import side_by_side
from netgain.solvers.newton_system import NewtonSystem
from netgain.solvers.result import Limits, Solution, Status
from netgain.solvers.structure import structure

from ..certificate import Certificate
from ..mode import Mode
from ..modes import Realisation
from ..neuron import unrolled
from ..roesser import roesser
from ..spectral import spectral
from .outputs import Pair, all_pairs, constants, pair_graph, root_two_times

# Pairs of 30 classes.
_MOST_SHARED = 435


@dataclasses.dataclass(frozen=True, eq=False)
class PairBounds:
    """What is proved of all outputs and of their differences.

    **Attributes:** `overall`: the certificate of f; `pairs`: those of f_i - f_j, for the network of `pair_graph`;
    `optimised`: the pairs for which an inequality of their own was solved.
    """

    classes: int
    overall: Certificate | None
    pairs: dict[Pair, Certificate]
    optimised: frozenset[Pair]

    @property
    def from_overall(self) -> float:
        """sqrt(2) L, rounded up."""
        return root_two_times(self.overall.value) if self.overall else math.inf

    def matrix(self) -> np.ndarray:
        """The least constant proved of f_i - f_j, shape (classes, classes), 0 for i = j."""
        return constants(self.classes, self.overall, self.pairs)


@dataclasses.dataclass(frozen=True, eq=False)
class _Point:
    """Multipliers that are feasible for some rho, and the scaling they are given in."""

    multipliers: tuple[np.ndarray, ...]
    exponents: tuple[int, ...]
    output_exponent: int
    value: float

    @classmethod
    def of(cls, certificate: Certificate) -> "_Point":
        return cls(certificate.multipliers, certificate.exponents, certificate.output_exponent, certificate.value)

    def within(self, scaled: Scaled) -> tuple[float, tuple[np.ndarray, ...]]:
        """(rho, lam) in the scaled coordinates of an inequality with the same layers.

        A multiplier belongs to a product of two entries of its layer, and the whole is as large as a squared output.
        """
        shift = 2 * (self.output_exponent - scaled.output_exponent)
        layers = zip(self.multipliers, scaled.exponents[1:], self.exponents[1:], strict=True)
        rho = math.ldexp(self.value, -scaled.output_exponent) ** 2
        return rho, tuple(np.ldexp(lam, 2 * (new - old) + shift) for lam, new, old in layers)


def shared(scaled: Scaled, certificate: Certificate) -> Solution | None:
    """What the multipliers of another output prove for this inequality, in floating point; None where H > 0 fails.

    The module's t for c the rows of the output: the largest eigenvalue of C H^{-1} C^T.
    """
    rho, multipliers = _Point.of(certificate).within(scaled)
    inequality = scaled.inequality
    if not inequality.constraints:
        return ClosedForm().solve(scaled, Limits())
    pattern = structure(inequality)
    point = np.append(np.concatenate(multipliers), rho)
    factor = factorise(NewtonSystem(inequality, pattern).matrix(point, homogeneous=True), pattern)
    if factor is None:
        return None
    blocks = range(len(inequality.sizes))
    output = side_by_side(inequality.output, blocks, inequality.sizes, inequality.output_size)
    half = factor.solve_lower(output.T)
    t = float(np.linalg.norm(half, 2)) ** 2
    return Solution(Status.OPTIMAL, scaled.unscale(math.sqrt(t * rho)), 0.0, tuple(t * lam for lam in multipliers), 0,
                    0.0, "shared multipliers", "")


def realisation(graph: Graph, mode: Mode) -> Realisation:
    """The inequality of a network in this mode, with its default solver."""
    if mode is Mode.SPECTRAL:
        return spectral(graph)
    if mode is Mode.ROESSER:
        return roesser(graph)
    return unrolled(graph).with_solver(None, [])


@dataclasses.dataclass(eq=False)
class PairSearch:
    """Bounds of pairs, improved where told so; `bounds` holds what is proved at any time.

    **Attributes:** `deadline`: of `time.perf_counter()`; `tolerance`: of the solves.
    """

    graph: Graph
    mode: Mode
    bounds: PairBounds
    tolerance: float
    deadline: float
    say: Callable[[str], None]

    @property
    def out_of_time(self) -> bool:
        return time.perf_counter() > self.deadline

    def share(self) -> None:
        """Bounds every pair by the multipliers of the whole output, where there is one per neuron.

        Of very many classes only the pairs that decide a radius are worth their time, and these are optimised.
        """
        overall = self.bounds.overall
        if overall is None or overall.mode is not Mode.NEURON or overall.loop_metrics:
            return
        if len(all_pairs(self.bounds.classes)) > _MOST_SHARED:
            return
        for pair in all_pairs(self.bounds.classes):
            if self.out_of_time:
                return
            neuron = unrolled(pair_graph(self.graph, pair))
            solution = shared(neuron.scaled, overall)
            certificate = neuron.prove(solution) if solution else None
            if certificate:
                self._keep(pair, certificate, optimised=False)
            self.say(f"bounds of pairs by shared multipliers: {len(self.bounds.pairs)}")

    def optimise(self, pair: Pair) -> bool:
        """Solves the inequality of one pair; whether its bound became less."""
        problem = realisation(pair_graph(self.graph, pair), self.mode)
        remaining = max(self.deadline - time.perf_counter(), 1e-3)
        solution = problem.solve(Limits(tolerance=self.tolerance, time_limit=remaining), None)
        certificate = problem.prove(solution) if solution.status.has_multipliers else None
        known = self.bounds.pairs.get(pair)
        better = certificate is not None and (known is None or certificate.value < known.value)
        if certificate is not None and better:
            self._keep(pair, certificate, optimised=True)
        else:
            self.bounds = dataclasses.replace(self.bounds, optimised=self.bounds.optimised | {pair})
        if solution.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        return better

    def _keep(self, pair: Pair, certificate: Certificate, optimised: bool) -> None:
        done = self.bounds.optimised | ({pair} if optimised else set())
        self.bounds = dataclasses.replace(self.bounds, pairs={**self.bounds.pairs, pair: certificate}, optimised=done)


def deciding_pairs(predicted: np.ndarray, margins: np.ndarray, values: np.ndarray) -> Iterable[Pair]:
    """For each sample of positive margins the pair that limits its radius, the commonest first.

    **Arguments:** `predicted`: (count,); `margins`: of the predicted class above every other, (count, classes), inf at
    the class itself; `values`: (classes, classes).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(np.isfinite(margins), margins / values[predicted], math.inf)
    rival = np.argmin(np.where(np.isnan(ratio), math.inf, ratio), axis=1)
    positive = np.min(margins, axis=1) > 0
    pairs = np.sort(np.stack([predicted, rival], axis=1)[positive], axis=1)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    return [(int(i), int(j)) for i, j in found[np.argsort(-counts, kind="stable")] if i != j]
