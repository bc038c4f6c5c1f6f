"""Many random systems: no factor measured above the guaranteed one, no bound below a witness, the best step the best.

n is 2 to 5, slopes are [0, 1], [0.1, 1] or [-0.3, 1], with leaky and plain ReLU and an activation that falls first.
"""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
from netgain.solvers.implicit.diagonal_metric import euclidean_gain
from netgain.solvers.implicit.fixed_point import (
    FixedPointStatus,
    Method,
    average_factor,
    average_step,
    classic_average_step,
    fixed_point,
    splitting_step,
)
from netgain.solvers.implicit.gain import exact_gain, least_weighted_gain, majorant_gain
from netgain.solvers.implicit.row_gain import row_gain
from netgain.solvers.implicit.weighted_log_norm import SlopeBox, least_log_norm
from netgain.solvers.result import Limits

SYSTEMS, MANY, SEMIDEFINITE = 72, 2000, 8
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class System:
    """x = Phi(A x + B u + b), y = C x, the largest mu_eta(D A) below 1 for the weights eta."""

    A: np.ndarray
    B: np.ndarray
    b: np.ndarray
    C: np.ndarray
    least_slope: float

    @property
    def slopes(self):
        return SlopeBox.uniform(len(self.A), self.least_slope)

    def activation(self, v):
        return np.maximum(v, self.least_slope * v)

    def solution(self, u):
        weights = least_log_norm(self.A, self.slopes).weights
        c = u @ self.B.T + self.b
        found = fixed_point(self.A, c, self.activation, Method.ANDERSON, self.slopes, eta=weights,
                            tolerance=1e-11 * np.max(np.abs(c) / weights))
        assert found.status is FixedPointStatus.CONVERGED
        return found.x


@functools.cache
def system(seed):
    rng = np.random.default_rng(seed)
    n, least = int(rng.integers(2, 6)), (0.0, 0.1, -0.3)[seed % 3]
    A = rng.standard_normal((n, n)) * (rng.random((n, n)) < 0.8) * 10 ** rng.uniform(-0.5, 0.4)
    level = rng.uniform(-1.0, 0.85)
    for _ in range(50):
        above = least_log_norm(A, SlopeBox.uniform(n, least)).value
        if above <= max(level, 0.1):
            break
        A = A - (above - level) * np.eye(n) if least >= 0 else A * 0.8
    return System(A, rng.standard_normal((n, 3)), rng.standard_normal(n), rng.standard_normal((2, n)), least)


def factors(seed):
    """The runs of all methods that apply, and their steps."""
    net = system(seed)
    eta, c = least_log_norm(net.A, net.slopes).weights, np.random.default_rng(seed).standard_normal((4, len(net.A)))
    plans = {"best": (Method.AVERAGE, average_step(net.A, eta, net.slopes), None)}
    if net.least_slope >= 0:
        size = classic_average_step(net.A, eta).size
        step = dataclasses.replace(plans["best"][1], size=size, factor=average_factor(net.A, eta, net.slopes, size))
        plans["classic"] = (Method.AVERAGE, step, None)
        for method in (Method.FORWARD_BACKWARD, Method.PEACEMAN_RACHFORD):
            try:
                plans[method.value] = (method, splitting_step(net.A, method), None)
            except ValueError:
                continue  # not monotone
    plans["picard"] = (Method.PICARD, dataclasses.replace(
        plans["best"][1], size=1.0, factor=average_factor(net.A, eta, net.slopes, 1.0)), None)
    result = {}
    for name, (method, step, metric) in plans.items():
        run = fixed_point(net.A, c, net.activation, method, net.slopes, eta=eta, metric=metric, size=step.size,
                          tolerance=1e-7 * np.max(np.abs(c) / eta), max_iterations=5000 if step.factor < 1 else 60)
        result[name] = run, step
    return result


@pytest.mark.parametrize("count", [SYSTEMS, pytest.param(MANY, marks=pytest.mark.slow)])
def test_no_iteration_is_slower_than_guaranteed(count):
    contracting = diverging = 0
    for seed in range(count):
        found = factors(seed)
        for name, (run, step) in found.items():
            if step.factor < 1:
                contracting += 1
                # 5000 iterations of the slowest would not do.
                assert run.status is FixedPointStatus.CONVERGED or step.factor > 0.995, (seed, name)
                assert run.measured <= step.factor * (1 + _ROUNDING) + _ROUNDING, (seed, name)
        best, picard = found["best"], found["picard"]
        # The best step guarantees at least what Picard and the paper's do, and a rate where these guarantee none.
        assert best[1].factor <= min(step.factor for name, (_, step) in found.items() if name in ("classic", "picard")
                                     ) + 1e-12
        assert best[1].factor < 1
        diverging += picard[0].status is not FixedPointStatus.CONVERGED
    assert contracting > 1.5 * count
    assert diverging > count / 10


@pytest.mark.parametrize("count", [40, pytest.param(MANY // 10, marks=pytest.mark.slow)])
def test_the_guarantees_are_attained_by_slopes_and_no_step_has_a_better_one(count):
    """The factor is the largest |(1 - a) I + a D A|_eta over all vertices D."""
    for seed in range(count):
        net = system(seed)
        eta = least_log_norm(net.A, net.slopes).weights
        best = average_step(net.A, eta, net.slopes)
        scaled = net.A * eta / eta[:, None]
        ends = [np.array(d) for d in itertools.product((net.least_slope, 1.0), repeat=len(net.A))]

        def worst(size, scaled=scaled, ends=ends):
            steps = (1 - size) * np.eye(len(scaled)) + size * np.stack([d[:, None] * scaled for d in ends])
            return np.abs(steps).sum(axis=2).max()

        assert worst(best.size) == pytest.approx(best.factor, abs=1e-9)
        assert worst(1.0) == pytest.approx(average_factor(net.A, eta, net.slopes, 1.0), abs=1e-9)
        assert all(worst(best.size * t) >= best.factor - 1e-9 for t in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0))


@pytest.mark.parametrize("count", [SYSTEMS, pytest.param(MANY, marks=pytest.mark.slow)])
def test_every_bound_is_above_the_best_witness(count):
    """Vertices of the slopes, and pairs of inputs; semidefinite bounds and linear programs for eight systems."""
    for seed in range(count):
        by_program = seed % (count // SEMIDEFINITE) == 0
        net = system(seed)
        rng = np.random.default_rng(seed)
        exact = {order: exact_gain(net.A, net.B, net.C, order, net.slopes)[0] for order in (np.inf, 2)}
        u = rng.standard_normal((12, 3)) * 3
        other = u + rng.standard_normal((12, 3)) * 10.0 ** rng.uniform(-2, 1, (12, 1))
        dy, du = (net.solution(u) - net.solution(other)) @ net.C.T, u - other
        for order, gain in exact.items():
            pairs = np.linalg.norm(dy, order, axis=1) / np.linalg.norm(du, order, axis=1)
            assert order == 2 or pairs.max() <= gain * (1 + 1e-7)
        bounds = [majorant_gain(net.A, net.B, net.C, net.slopes)[0]]
        if net.least_slope >= 0:
            bounds += [majorant_gain(net.A, net.B, net.C)[0]] if least_log_norm(net.A).value < 1 else []
            bounds += [least_weighted_gain(net.A, net.B, net.C)[0]] if by_program else []
        semidefinite = []
        if by_program:
            limits = Limits(tolerance=1e-3)
            semidefinite = [max(row_gain(net.A, net.B, c, net.slopes, limits).gain for c in net.C)]
            euclidean = euclidean_gain(net.A, net.B, net.C, 1e-3, slopes=net.slopes).gain
            pairs = np.linalg.norm(dy, axis=1) / np.linalg.norm(du, axis=1)
            assert max(exact[2], pairs.max()) <= euclidean * (1 + 1e-9)
        for bound in bounds + semidefinite:
            assert exact[np.inf] <= bound * (1 + 1e-9), seed
        # One output's majorant bound is that of absolute values, so that signs can only help.
        assert all(value <= min(bounds) * (1 + 2e-3) for value in semidefinite), seed
