"""How often the semidefinite test proves what is true of random NAIS-Net blocks, beside the paper's conditions.

    python -m netgain.experiments.benchmarks.random_blocks [--blocks 2000] [--seed 0] [--lower-slope 0.1]

Inside the conditions of arXiv 1804.07209 (A = -R^T R - eps I, ||R^T R||_F <= 1 - 2 eps, h in (0, 1]): the share of
blocks for which a constant metric is proved to contract, at a rate at least as good as the paper's, the largest
spectral radius over frozen slopes, which for these blocks is a rate in the norm of -A. Outside: A without symmetry. A
block counts as stable if no frozen or alternating slopes were found to grow, which is no proof; of those the shares
that the semidefinite test, and the weighted l_inf norm, prove to contract. Slopes lie in [lower, 1], lower > 0.
"""

import argparse
import dataclasses
import time

import numpy as np
from netgain.solvers.implicit.weighted_log_norm import SlopeBox as NeuronSlopes
from netgain.solvers.implicit.weighted_log_norm import least_log_norm
from netgain.solvers.stability.spectral_growth import alternating_growth
from netgain.solvers.stability.stable_projection import reproject_factor, stable_matrix
from netgain.verify.stability.conditions import SlopeBox, fully_connected_conditions, infinity_rate
from netgain.verify.stability.spectral_witness import proved_growth
from netgain.verify.stability.step_contraction import prove_least_rate
from threadpoolctl import threadpool_limits

# To which the rates of the test are bisected, half of it; the paper's rate is exact.
TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Inside:
    """Blocks inside the conditions.

    **Attributes:** `contracting`: proved by the semidefinite test; `as_good`: with a rate at most the paper's, up to
    `TOLERANCE`; `worst`: the largest excess over it.
    """

    blocks: int
    contracting: int
    as_good: int
    worst: float


@dataclasses.dataclass(frozen=True)
class Outside:
    """Blocks without symmetry.

    **Attributes:** `unstable`: slopes were proved to grow; `stable`: none were found to grow; of these `semidefinite`
    and `infinity` were proved to contract by the two tests, `either` by one of them.
    """

    blocks: int
    unstable: int
    stable: int
    semidefinite: int
    infinity: int
    either: int


def inside(blocks: int, lower_slope: float, seed: int = 0) -> Inside:
    """Random blocks of 1 to 8 units inside the conditions."""
    rng = np.random.default_rng(seed)
    contracting = as_good = 0
    worst = -np.inf
    for _ in range(blocks):
        n, epsilon = int(rng.integers(1, 9)), float(rng.uniform(0.01, 0.3))
        factor = rng.normal(0, np.exp(rng.normal(0, 1)), (int(rng.integers(1, n + 1)), n))
        weights = stable_matrix(reproject_factor(factor, epsilon + 1e-9), epsilon)
        box = SlopeBox(float(rng.uniform(0.1, 1)), lower_slope, 1.0)
        conditions = fully_connected_conditions(weights, epsilon, box)
        if not conditions.satisfied:
            raise AssertionError("a reprojected block does not satisfy the conditions it was projected on")
        proved = prove_least_rate(weights, box, TOLERANCE)
        if proved is not None:
            excess = proved.claim.rate - conditions.rate
            contracting, as_good = contracting + 1, as_good + (excess <= TOLERANCE)
            worst = max(worst, excess)
    return Inside(blocks, contracting, as_good, worst)


def outside(blocks: int, lower_slope: float, seed: int = 0) -> Outside:
    """Random blocks of 2 to 5 units without symmetry."""
    rng = np.random.default_rng(seed)
    unstable = stable = semidefinite = infinity = either = 0
    for k in range(blocks):
        n = int(rng.integers(2, 6))
        weights = rng.normal(0, rng.uniform(0.1, 0.8), (n, n)) - np.diag(rng.uniform(0.3, 1.5, n))
        box = SlopeBox(float(rng.uniform(0.3, 1)), lower_slope, 1.0)
        found = alternating_growth(weights, box.step, box.lower, box.upper, longest=4, starts=3, seed=k)
        if found.value > 1:
            unstable += proved_growth(weights, box, found.patterns) > 1
            continue
        stable += 1
        by_metric = prove_least_rate(weights, box, 1e-2) is not None
        eta = np.maximum(least_log_norm(weights, NeuronSlopes.uniform(n, lower_slope, 1.0)).weights, 1e-6)
        by_norm = infinity_rate(weights, box, eta) < 1
        semidefinite, infinity, either = semidefinite + by_metric, infinity + by_norm, either + (by_metric or by_norm)
    return Outside(blocks, unstable, stable, semidefinite, infinity, either)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--blocks", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lower-slope", type=float, default=0.1)
    arguments = parser.parse_args()
    if arguments.blocks < 1 or not 0 < arguments.lower_slope < 1:
        parser.error("--blocks is at least 1, and --lower-slope lies between 0 and 1")
    with threadpool_limits(limits=1, user_api="blas"):
        begin = time.perf_counter()
        within = inside(arguments.blocks, arguments.lower_slope, arguments.seed)
        print(f"inside the conditions: {within.blocks} blocks, {within.contracting} proved to contract, "
              f"{within.as_good} at least as fast as the paper's rate (largest excess {within.worst:.2g}), "
              f"{time.perf_counter() - begin:.0f} s")
        begin = time.perf_counter()
        beyond = outside(arguments.blocks, arguments.lower_slope, arguments.seed)
        print(f"outside: {beyond.blocks} blocks, {beyond.unstable} proved to grow, {beyond.stable} without growth "
              f"found; of these proved to contract: {beyond.semidefinite} in a metric, {beyond.infinity} in a weighted "
              f"l_inf norm, {beyond.either} in one of both, {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
