import dataclasses
import itertools
import math

import numpy as np
import pytest
import scipy.linalg
from netgain.solvers.convex_problem import cp, solved
from netgain.solvers.stability.spectral_growth import frozen_growth
from netgain.solvers.stability.stable_projection import reproject_factor, stable_matrix
from netgain.verify.contractivity.check import Decision
from netgain.verify.stability.conditions import SlopeBox, fully_connected_conditions, infinity_rate
from netgain.verify.stability.step_contraction import prove_contraction, prove_gain
from netgain.verify.stability.step_contraction_check import StepClaim, StepProof, check_step

SKEWED = np.array([[-0.6, 0.5], [-0.3, -0.7]])


def block_of(seed):
    rng = np.random.default_rng(seed)
    n = 2 + seed % 3
    weights = -np.eye(n) + 0.4 * rng.standard_normal((n, n))
    return weights, SlopeBox((1.0, 0.5)[seed % 2], (0.1, 0.3, -0.1)[seed % 3], 1.0)


def vertices(weights, box):
    return [np.eye(len(weights)) + box.step * np.diag(d) @ weights
            for d in itertools.product((box.lower, box.upper), repeat=len(weights))]


@pytest.mark.parametrize("seed", range(6))
def test_rate_bounds_every_vertex_in_the_metric_and_spectral_radii_from_above(seed):
    weights, box = block_of(seed)
    proved = prove_contraction(weights, box, 1e-4)
    root = scipy.linalg.sqrtm(proved.proof.metric)
    for jacobian in vertices(weights, box):
        assert np.linalg.norm(root @ jacobian @ np.linalg.inv(root), 2) <= proved.claim.rate + 1e-9
        assert np.max(np.abs(np.linalg.eigvals(jacobian))) <= proved.claim.rate
    values = np.linalg.eigvalsh(proved.proof.metric)
    assert values[0] >= 1 - 1e-9
    assert values[-1] <= proved.claim.condition


@pytest.mark.parametrize("seed", range(6))
def test_claims_below_a_spectral_radius_are_never_proved(seed):
    weights, box = block_of(seed)
    proved = prove_contraction(weights, box, 1e-4)
    radius = max(np.max(np.abs(np.linalg.eigvals(jacobian))) for jacobian in vertices(weights, box))
    rng = np.random.default_rng(seed)
    false = StepClaim(weights, box, radius - 1e-9, 1e6)
    root = rng.standard_normal(weights.shape)
    for metric in (proved.proof.metric, np.eye(len(weights)), np.round(root @ root.T + 2 * np.eye(len(weights)), 3)):
        multipliers = np.exp(rng.normal(0, 1, len(weights)))
        for lam in (proved.proof.multipliers, multipliers):
            assert check_step(false, StepProof((metric + metric.T) / 2, lam)) is Decision.NOT_PROVED


def test_the_worked_matrices():
    box = SlopeBox(1.0, 0.2, 1.0)
    assert prove_contraction(-np.array([[0.6, 0.2], [0.2, 0.3]]), box).claim.rate == pytest.approx(0.96, abs=1e-5)
    assert prove_contraction(SKEWED, box).claim.rate == pytest.approx(0.95513, abs=2e-5)
    assert infinity_rate(SKEWED, box) == pytest.approx(0.98)
    frozen = max(np.max(np.abs(np.linalg.eigvals(jacobian))) for jacobian in vertices(SKEWED, box))
    assert frozen == pytest.approx(0.87338, abs=1e-5)
    assert frozen_growth(SKEWED, 1.0, 0.2, 1.0).value == pytest.approx(frozen, abs=1e-9)


def test_slope_zero_never_contracts_and_is_nonexpansive_only_in_a_symmetrising_metric():
    """D = 0 gives e+ = e, so the rate is at least 1; not symmetrisable A exceed it in every quadratic metric."""
    box = SlopeBox(1.0, 0.0, 1.0)
    symmetric = prove_contraction(-np.array([[0.6, 0.2], [0.2, 0.3]]), box)
    assert 1 <= symmetric.claim.rate <= 1 + 1e-4
    skewed = prove_contraction(SKEWED, box, 1e-4)
    assert skewed.claim.rate > 1.001
    assert infinity_rate(SKEWED, box) == 1  # the norm of the maximum shows what no quadratic metric can


def test_frozen_radii_below_one_do_not_make_a_block_contract():
    """Every frozen D has a radius of at most .9814, yet three modes in turn grow by 1.5499 in each step."""
    weights, box = np.array([[-0.04, -1.59], [1.21, -2.03]]), SlopeBox(1.0, 0.05, 1.0)
    frozen = max(np.max(np.abs(np.linalg.eigvals(jacobian))) for jacobian in vertices(weights, box))
    assert frozen == pytest.approx(0.9814, abs=1e-4)
    modes = [np.eye(2) + np.diag(d) @ weights for d in ((1, 0.05), (1, 0.05), (0.05, 1))]
    product = np.linalg.multi_dot(modes)
    growth = np.max(np.abs(np.linalg.eigvals(product))) ** (1 / 3)
    assert growth == pytest.approx(1.5499, abs=1e-4)
    proved = prove_contraction(weights, box, 1e-4).claim.rate
    assert growth <= proved
    # No quadratic norm does better at the vertices, which multipliers reach for two units.
    assert proved == pytest.approx(1.654, abs=1e-3)
    assert vertex_rate(weights, box) == pytest.approx(1.654, abs=1e-3)


def vertex_rate(weights, box):
    """The least r with J^T Q J <= r^2 Q at every vertex for some Q, by Clarabel and bisection."""
    jacobians, (low, high) = vertices(weights, box), (1.0, 3.0)
    metric = cp.Variable(weights.shape, symmetric=True)
    while high - low > 1e-4:
        rate = (low + high) / 2
        held = [rate**2 * metric - jacobian.T @ metric @ jacobian >> 0 for jacobian in jacobians]
        problem = cp.Problem(cp.Minimize(0), [metric >> np.eye(len(weights)), *held])
        low, high = (low, rate) if solved(problem, "the vertices") else (rate, high)
    return high


@pytest.mark.parametrize("seed", range(4))
def test_blocks_inside_the_papers_conditions_contract_at_least_at_the_closed_form_rate(seed):
    rng, box = np.random.default_rng(seed), SlopeBox(1.0, 0.1, 1.0)
    weights = stable_matrix(reproject_factor(2 * rng.standard_normal((3, 3)), 0.05), 0.05)
    closed_form = fully_connected_conditions(weights, 0.05, box).rate
    assert prove_contraction(weights, box, 1e-5).claim.rate <= closed_form + 5e-5


@pytest.mark.parametrize("seed", range(3))
def test_gain_bounds_trajectories_and_equilibria(seed):
    rng, box = np.random.default_rng(seed), SlopeBox(1.0, 0.2, 1.0)
    weights, inputs = -0.8 * np.eye(3) + 0.2 * rng.standard_normal((3, 3)), rng.standard_normal((3, 2))
    rate = prove_contraction(weights, box, 1e-3).claim.rate
    assert rate < 1
    claim = prove_gain(weights, inputs, box, tuple(1 - (1 - rate) * t for t in (0.2, 0.5, 0.9))).claim
    one, two, largest = np.zeros(3), np.zeros(3), 0.0
    for depth in range(1, 40):
        u = rng.standard_normal((2, 2))
        largest = max(largest, np.linalg.norm(u[0] - u[1]))
        one, two = (x + np.where(v > 0, v, 0.2 * v)
                    for x, v in ((one, weights @ one + inputs @ u[0]), (two, weights @ two + inputs @ u[1])))
        assert np.linalg.norm(one - two) <= claim.gain(depth) * largest
        assert claim.gain(depth) <= claim.gain() * (1 + 1e-12)
    # s(A x + B u) = 0 only at A x = -B u: the equilibrium is affine in u, whatever the slopes.
    assert np.linalg.norm(np.linalg.solve(weights, inputs), 2) <= claim.gain()


def test_gain_of_a_scalar_block_is_exact():
    """x+ = x + s(-x/2 + u) with slopes [1, 1] has the gain 1 / (1 - 1/2) = 2, reached at the rate sqrt(1/2)."""
    proved = prove_gain(np.array([[-0.5]]), np.array([[1.0]]), SlopeBox(1.0, 1.0, 1.0), (0.6, math.sqrt(0.5), 0.8))
    assert proved.claim.gain() == pytest.approx(2, rel=1e-3)
    assert proved.claim.gain() >= 2


def test_distance_to_the_equilibrium_is_bounded_by_the_last_update():
    proved = prove_contraction(SKEWED, SlopeBox(1.0, 0.2, 1.0))
    constant, x = np.array([1.0, -2.0]), np.zeros(2)
    states = [x]
    for _ in range(400):
        v = SKEWED @ states[-1] + constant
        states.append(states[-1] + np.where(v > 0, v, 0.2 * v))
    for k in range(1, 40):
        update = np.linalg.norm(states[k] - states[k - 1])
        assert np.linalg.norm(states[k] - states[-1]) <= proved.claim.distance_bound(update) + 1e-12


@pytest.mark.parametrize("change", [
    lambda c, p: (c, StepProof(p.metric[:1], p.multipliers)),
    lambda c, p: (c, StepProof(p.metric + np.array([[0, 1e-9], [0, 0]]), p.multipliers)),
    lambda c, p: (c, StepProof(p.metric, -p.multipliers)),
    lambda c, p: (c, StepProof(p.metric * np.nan, p.multipliers)),
    lambda c, p: (dataclasses.replace(c, rate=-1.0), p),
    lambda c, p: (dataclasses.replace(c, rate=math.nan), p),
    lambda c, p: (dataclasses.replace(c, inputs=np.ones((3, 1))), p),
    lambda c, p: (dataclasses.replace(c, weights=c.weights.astype(np.float32)), p),
])
def test_malformed_proofs_are_told_as_such(change):
    proved = prove_contraction(SKEWED, SlopeBox(1.0, 0.2, 1.0), 1e-2)
    assert check_step(*change(proved.claim, proved.proof)) is Decision.MALFORMED


@pytest.mark.parametrize("change", [{"condition": 1.0}, {"rate": 0.9}])
def test_each_part_of_the_claim_matters(change):
    proved = prove_contraction(SKEWED, SlopeBox(1.0, 0.2, 1.0), 1e-2)
    assert check_step(dataclasses.replace(proved.claim, **change), proved.proof) is Decision.NOT_PROVED


def test_integers_are_welcome_in_a_box_and_other_types_of_weights_are_refused():
    assert prove_contraction(np.array([[-0.5]]), SlopeBox(1, 1, 1), 1e-3).claim.rate == pytest.approx(0.5, abs=2e-3)
    for weights in (SKEWED.astype(np.float32), np.full((2, 2), np.nan), np.ones((2, 3))):
        with pytest.raises(ValueError, match=r"float64|square"):
            prove_contraction(weights, SlopeBox(1.0, 0.2, 1.0))
