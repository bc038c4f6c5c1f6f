"""Gradient flow <= exact <= semidefinite bound, on a thousand matrices small enough to try every vertex."""

import numpy as np
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.slope_ascent import SlopeAscent
from netgain.solvers.contractivity.slope_branch_and_bound import SlopeBranchAndBound
from netgain.solvers.contractivity.slope_gradient_flow import SlopeGradientFlow

from .slope_bank import brute_force

# One start and no flips, so that the search itself has to find the worst slopes.
POOR = SlopeAscent(restarts=1, roundings=1, flips=False)


def test_lower_exact_and_upper_bounds_are_in_order_on_a_thousand_matrices():
    traps = 0
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 7))
        weights = rng.standard_normal((n, n)) / np.sqrt(n) - rng.uniform(-1, 2) * np.eye(n)
        if seed % 3 == 0:
            weights = np.round(2 * weights) / 2  # ties and degenerate eigenvalues
        field = SlopeField(weights, float(rng.choice([0, 0.1, 0.5])))
        exact = brute_force(field)[0]
        found = SlopeBranchAndBound(ascent=POOR).solve(field)
        flow = SlopeGradientFlow().solve(field).value
        traps += flow < exact - 1e-6
        assert flow <= exact + 1e-9
        assert found.lower <= exact + 1e-9
        assert exact - 1e-9 <= found.upper <= exact + 1e-5
        assert exact <= found.root.value + 1e-9
    assert traps > 100
