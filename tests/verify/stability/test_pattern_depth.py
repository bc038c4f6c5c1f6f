"""A block is stopped where its update is small; the distance claimed is at least the one to the equilibrium."""

import dataclasses
import math

import numpy as np
import pytest
from netgain import layers
from netgain.layers.stable_block import StableBlock
from netgain.solvers.result import Limits
from netgain.solvers.stability.stable_projection import reproject_factor, reproject_kernel, stable_matrix
from netgain.verify.stability.claims import Claim, Kind
from netgain.verify.stability.conditions import fully_connected_conditions
from netgain.verify.stability.facts import BlockFacts
from netgain.verify.stability.pattern_depth import settle
from netgain.verify.stability.rows import infinity_rate_of
from netgain.verify.stability.search import metric_claim, search_block
from netgain.verify.stability.step_contraction import prove_least_rate

P = stable_matrix(reproject_factor(np.random.default_rng(0).standard_normal((3, 3)), 0.05), 0.05)


def facts(activation, a=P):
    rng = np.random.default_rng(1)
    return BlockFacts(StableBlock((a,), (rng.standard_normal((3, 2)),), (rng.standard_normal(3),), activation, 1.0, 5),
                      (2,))


def equilibrium(case, u):
    a, b, c = case.matrices
    return -np.linalg.solve(a, b @ u.ravel() + c)


def rates(case):
    slopes = case.block.slopes
    metric = prove_least_rate(case.matrices[0], case.box)
    yield metric_claim(metric, Kind.METRIC_RATE, metric.claim.rate, slopes, None)
    yield Claim(Kind.SYMMETRIC_RATE, fully_connected_conditions(case.matrices[0], 0.25, case.box).rate, slopes)
    eta = np.ones(3)
    bound = infinity_rate_of(case.rows, case.box, eta)
    if bound < 1:
        yield Claim(Kind.INFINITY_RATE, bound, slopes, None, {"eta": eta})


@pytest.mark.parametrize("tolerance", [1e-1, 1e-4, 1e-9])
def test_the_distance_is_at_least_the_true_one_and_the_depth_the_first(tolerance):
    case, rng = facts(layers.LeakyRelu(0.3)), np.random.default_rng(2)
    for _ in range(5):
        u = 3 * rng.standard_normal(2)
        found = settle(case, u, tolerance)
        assert found.met
        states = dataclasses.replace(case.block, depth=found.depth).states_of(u[None])[:, 0]
        updates = np.linalg.norm(np.diff(states, axis=0), axis=1)
        assert np.all(updates[:-1] > tolerance)
        assert updates[-1] == pytest.approx(found.update)
        true = np.linalg.norm(found.state - equilibrium(case, u))
        assert found.distance == pytest.approx(true, rel=1e-9, abs=1e-12)  # the equilibrium here is rounded


def test_distances_by_a_rate_are_at_least_the_true_one():
    case = facts(layers.LeakyRelu(0.3))
    kinds = set()
    for rate in rates(case):
        kinds.add(rate.kind)
        # An activation that does not vanish at zero leaves only the rate to go by; this one does at -1 / 0.3.
        lifted = BlockFacts(dataclasses.replace(case.block, activation=_Lifted(0.3)), (2,))
        u = np.array([1.0, -2.0])
        assert settle(lifted, u, 1e-3).distance == math.inf
        found = settle(lifted, u, 1e-3, rate=rate)
        a, b, c = case.matrices
        true = np.linalg.norm(found.state - np.linalg.solve(a, -1 / 0.3 - b @ u - c))
        assert true <= found.distance < 1
    assert {Kind.METRIC_RATE, Kind.SYMMETRIC_RATE} <= kinds


@dataclasses.dataclass(frozen=True, eq=False)
class _Lifted(layers.LeakyRelu):
    """Leaky ReLU plus one."""

    def value(self, x, arithmetic=layers.FLOAT):
        return super().value(x, arithmetic) + 1.0


def test_kernels_settle_too():
    kernel = reproject_kernel(np.random.default_rng(3).standard_normal((2, 2, 3)), 0.05, 0.1)
    case = BlockFacts(StableBlock((kernel,), (np.ones((2, 1, 3)),), (), layers.LeakyRelu(0.5), 1.0, 3), (1, 6))
    u = np.random.default_rng(4).standard_normal((1, 6))
    eta = np.ones(2)
    rate = Claim(Kind.INFINITY_RATE, infinity_rate_of(case.rows, case.box, eta), case.block.slopes, None, {"eta": eta})
    found = settle(case, u, 1e-6, rate=rate)
    true = np.linalg.norm(found.state.ravel() - equilibrium(case, u))
    assert true * (1 - 1e-9) <= found.distance <= 1e-3


def test_distances_of_kernels_by_a_metric_of_channels():
    kernel = reproject_kernel(np.random.default_rng(3).standard_normal((2, 2, 3)), 0.05, 0.1)
    case = BlockFacts(StableBlock((kernel,), (np.ones((2, 1, 3)),), (), _Lifted(0.5), 1.0, 3), (1, 6))
    rate = next(claim for claim in search_block(case, Limits(time_limit=5), 1.0).claims
                if claim.kind is Kind.COMMON_RATE)
    u = np.random.default_rng(4).standard_normal((1, 6))
    found = settle(case, u, 1e-4, rate=rate)
    a, b, _ = case.matrices
    true = np.linalg.norm(found.state.ravel() - np.linalg.solve(a, -1 / 0.5 - b @ u.ravel()))
    assert true <= found.distance <= 100 * true


def test_relu_stops_without_a_distance():
    found = settle(facts(layers.Relu()), np.ones(2), 1e-6)
    assert found.met
    assert found.distance == math.inf
    hurried = settle(facts(layers.Relu()), np.ones(2), 1e-12, most_stages=2)
    assert (hurried.met, hurried.depth) == (False, 2)


def test_claims_that_do_not_hold_are_refused():
    case = facts(layers.LeakyRelu(0.3))
    for rate in rates(case):
        with pytest.raises(ValueError, match="does not hold"):
            settle(case, np.ones(2), 1e-3, rate=dataclasses.replace(rate, value=rate.value / 2))
    with pytest.raises(ValueError, match="another kind"):
        settle(case, np.ones(2), 1e-3, rate=Claim(Kind.CONVERGENCE, 0.5, case.block.slopes))
    with pytest.raises(ValueError, match="shape"):
        settle(case, np.ones(3), 1e-3)
    with pytest.raises(ValueError, match="positive"):
        settle(case, np.ones(2), 0.0)
