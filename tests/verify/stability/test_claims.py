"""What is proved of blocks holds for their trajectories, and what does not hold is not proved."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg
from netgain import layers
from netgain.layers.stable_block import Border, StableBlock
from netgain.solvers.result import Limits, Status
from netgain.solvers.stability.stable_projection import reproject_factor, reproject_kernel, stable_matrix
from netgain.verify.lipschitz import lipschitz
from netgain.verify.stability.claims import LOWER, Kind, holds
from netgain.verify.stability.facts import BlockFacts
from netgain.verify.stability.report import BlockReport, StabilityOutcome
from netgain.verify.stability.search import search_block
from netgain.verify.stability.unrolled import lipschitz_of

P = -stable_matrix(reproject_factor(np.array([[1, 0.4], [-0.2, 0.9]]), 0.05), 0.05)
B = np.array([[1, 0.5], [-0.3, 0.8]])
SWITCHED = np.array([[-0.04, -1.59], [1.21, -2.03]])
LIMITS = Limits(time_limit=10)


def facts(a, activation, b=B, depth=10, step=1.0, offset=None):
    offsets = () if offset is None else (offset,)
    return BlockFacts(StableBlock((a,), (b,), offsets, activation, step, depth), (b.shape[1],))


def random_facts(seed):
    rng = np.random.default_rng(seed)
    n = 2 + seed % 3
    a = 0.35 * rng.standard_normal((n, n)) - np.diag(rng.uniform(0.5, 1.5, n))
    activation = (layers.Relu(), layers.Tanh(), layers.LeakyRelu(0.2))[seed % 3]
    return facts(a, activation, rng.standard_normal((n, 2)), 6, 0.8, rng.standard_normal(n))


IMAGES = [
    BlockFacts(StableBlock((reproject_kernel(np.random.default_rng(1).standard_normal((2, 2, 3)), 0.05, 0.1),),
                           (np.ones((2, 1, 3)),), (), layers.LeakyRelu(0.1), 1.0, 4, border), (1, 5))
    for border in Border
]
BANK = [
    *(facts(-P, activation) for activation in (layers.Relu(), layers.Tanh(), layers.LeakyRelu(0.1))),
    *map(random_facts, range(6)), *IMAGES,
]
FOUND = {}


def found_of(index):
    if index not in FOUND:
        FOUND[index] = search_block(BANK[index], LIMITS, 1.0)
    return FOUND[index]


def best(found, *kinds):
    return min((claim.value for claim in found.claims if claim.kind in kinds), default=np.inf)


@pytest.mark.parametrize("index", range(len(BANK)))
def test_bounds_hold_on_trajectories(index):
    """Differences of states in the norm of each claim, with random inputs that vary where the claim allows it."""
    found, case = found_of(index), BANK[index]
    block, shape = case.block, case.input_shape
    rng = np.random.default_rng(index)
    size, n = int(np.prod(shape)), case.size
    for _ in range(20):
        u = 2 * rng.standard_normal((2, *shape)) * rng.choice([0.3, 1, 5])
        x = block.states_of(u).reshape(block.depth + 1, 2, n)
        gap = (u[0] - u[1]).ravel()
        for kind, order in ((Kind.UNROLLED_GAIN, 2), (Kind.CONSTANT_GAIN, 2), (Kind.METRIC_GAIN, 2),
                            (Kind.COMMON_GAIN, 2),
                            (Kind.CONSTANT_GAIN_INFINITY, np.inf),
                            (Kind.DEPTH_GAIN_INFINITY, np.inf), (Kind.UNIFORM_GAIN_INFINITY, np.inf)):
            reached = np.linalg.norm(x[-1, 0] - x[-1, 1], order) / np.linalg.norm(gap, order)
            assert reached <= best(found, kind) * (1 + 1e-9)
        starts = 2 * rng.standard_normal((2, *block.state_shape(shape)))
        after = block.advance(starts, np.stack([u[0], u[0]]))
        before, later = (starts[0] - starts[1]).ravel(), (after[0] - after[1]).ravel()
        for claim in found.claims:
            if claim.kind is Kind.INFINITY_RATE:
                eta = np.repeat(claim.data["eta"], n // len(claim.data["eta"]))
                assert np.max(np.abs(later) / eta) <= claim.value * np.max(np.abs(before) / eta) * (1 + 1e-9)
            if claim.kind in (Kind.SYMMETRIC_RATE, Kind.METRIC_RATE, Kind.COMMON_RATE):
                q = -case.matrices[0] if claim.kind is Kind.SYMMETRIC_RATE else claim.data["metric"]
                q = np.kron(q, np.eye(n // len(q)))
                assert later @ q @ later <= claim.value**2 * (before @ q @ before) * (1 + 1e-9)
    assert best(found, Kind.UNROLLED_GAIN) >= found.unrolled.lower
    assert size == case.matrices[1].shape[1]


@pytest.mark.parametrize("index", range(len(BANK)))
def test_lower_claims_are_below_upper_ones(index):
    found = found_of(index)
    rate = best(found, Kind.SYMMETRIC_RATE, Kind.INFINITY_RATE, Kind.METRIC_RATE, Kind.COMMON_RATE)
    growth = [claim.value for claim in found.claims if claim.kind is Kind.GROWTH]
    assert growth
    assert growth[0] <= rate * (1 + 1e-12)


@pytest.mark.parametrize("index", range(len(BANK)))
def test_every_claim_is_refused_a_little_beyond_what_was_proved(index):
    """Of each claim, at a value that is better than what holds; and every claim with other data."""
    case = BANK[index]
    for claim in found_of(index).claims:
        assert holds(claim, case)
        if claim.kind in (Kind.CONVERGENCE, Kind.PAPER_CONDITIONS):
            continue
        factor = 1.02 if claim.kind in LOWER else 0.5
        assert not holds(dataclasses.replace(claim, value=claim.value * factor), case)
        for name, array in claim.data.items():
            wrong = dict(claim.data) | {name: array[:-1]}
            assert not holds(dataclasses.replace(claim, data=wrong), case) or name == "patterns"
            assert not holds(dataclasses.replace(claim, data=dict(claim.data) | {name: array * np.nan}), case)
        wider = dataclasses.replace(claim, slopes=(claim.slopes[0], claim.slopes[1] + 0.5))
        assert not holds(wider, case)


def test_the_worked_block():
    """P with ReLU at depth 10: 2.532923 unrolled, 3.748988 at every depth, 2.603966 in l_inf; tanh's limit 1.788422."""
    found = found_of(0)
    assert best(found, Kind.UNROLLED_GAIN) == pytest.approx(2.532923, rel=1e-5)
    assert best(found, Kind.CONSTANT_GAIN) == pytest.approx(3.748988, abs=1e-5)
    assert best(found, Kind.UNIFORM_GAIN_INFINITY) == pytest.approx(2.603966, abs=1e-5)
    assert best(found, Kind.DEPTH_GAIN_INFINITY) <= best(found, Kind.UNIFORM_GAIN_INFINITY)
    assert best(found_of(1), Kind.EQUILIBRIUM) == pytest.approx(1.788422, abs=1e-5)
    exact = np.abs(np.linalg.solve(P, B)).sum(axis=1).max()
    assert best(found_of(1), Kind.EQUILIBRIUM_INFINITY) == pytest.approx(exact, rel=1e-8)
    paper = [claim for claim in found.claims if claim.kind is Kind.PAPER_CONDITIONS]
    assert paper[0].value == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize(("taps", "rate", "norms"), [
    ((0.39, -0.7, -0.26), 0.99, (1.754386, 2.371527)),
    ((0.39, -1.3, -0.26), 0.95, None),
])
def test_the_worked_kernel(taps, rate, norms):
    """A circle of six pixels, each fed its own input: the rate by taps, and the norms of A^-1 in l2 and l_inf."""
    kernel, own = np.array(taps).reshape(1, 1, 3), np.array([0.0, 1.0, 0.0]).reshape(1, 1, 3)
    case = BlockFacts(StableBlock((kernel,), (own,), (), layers.LeakyRelu(0.2), 1.0, 4, Border.CIRCULAR), (1, 6))
    found = search_block(case, LIMITS, 1.0)
    assert best(found, Kind.INFINITY_RATE) == pytest.approx(rate, abs=1e-9)
    inverse = np.linalg.inv(case.matrices[0])
    assert best(found, Kind.EQUILIBRIUM) == pytest.approx(np.linalg.norm(inverse, 2), rel=1e-8)
    assert best(found, Kind.EQUILIBRIUM_INFINITY) == pytest.approx(np.abs(inverse).sum(axis=1).max(), rel=1e-8)
    if norms is not None:
        assert best(found, Kind.EQUILIBRIUM) == pytest.approx(norms[0], abs=1e-6)
        assert best(found, Kind.EQUILIBRIUM_INFINITY) == pytest.approx(norms[1], abs=1e-6)
        # The M-matrix bound knows no signs: 1 / (0.7 - 0.39 - 0.26).
        assert best(found, Kind.UNIFORM_GAIN_INFINITY) == pytest.approx(20, rel=1e-9)
        # Constant inputs: twice the norm of A^-1, which knows them.
        assert best(found, Kind.CONSTANT_GAIN_INFINITY) == pytest.approx(4.743054, abs=1e-6)
    paper = [claim for claim in found.claims if claim.kind is Kind.PAPER_CONDITIONS]
    assert paper[0].value == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_rate_of_tanh_on_a_bounded_set(seed):
    """Distances to the equilibrium decay at the claimed rate, in the claim's norm, for inputs on its sphere."""
    rng = np.random.default_rng(seed)
    a = stable_matrix(reproject_factor(np.eye(3) + 0.3 * rng.standard_normal((3, 3)), 0.05), 0.05)
    case = facts(a, layers.Tanh(), rng.standard_normal((3, 2)), 5, 1.0, 0.3 * rng.standard_normal(3))
    found = [claim for claim in search_block(case, LIMITS, 1.5).claims
             if claim.kind in (Kind.TANH_RATE_SYMMETRIC, Kind.TANH_RATE_INFINITY)]
    assert any(claim.kind is Kind.TANH_RATE_SYMMETRIC for claim in found)
    a, b, c = case.matrices
    for _ in range(50):
        u = rng.standard_normal(2)
        u *= 1.5 / np.linalg.norm(u)
        limit, x = -np.linalg.solve(a, b @ u + c), np.zeros(3)
        for _ in range(12):
            after = x + np.tanh(a @ x + b @ u + c)
            for claim in found:
                if claim.kind is Kind.TANH_RATE_SYMMETRIC:
                    sizes = [np.sqrt((limit - y) @ -a @ (limit - y)) for y in (x, after)]
                else:
                    sizes = [np.max(np.abs(limit - y) / claim.data["eta"]) for y in (x, after)]
                assert sizes[1] <= claim.value * sizes[0] + 1e-12
            x = after


def test_two_trajectories_part_as_claimed():
    case = facts(np.diag([0.3, -0.5]), layers.LeakyRelu(0.1))
    claims = {claim.kind: claim for claim in search_block(case, LIMITS, 1.0).claims}
    assert claims[Kind.GROWTH].value == pytest.approx(1.3)
    pair = claims[Kind.EXPANSION]
    x, u = pair.data["starts"], np.stack([pair.data["input"]] * 2)
    first = np.linalg.norm(x[0] - x[1])
    for _ in range(pair.depth):
        x = case.block.advance(x, u)
    assert np.linalg.norm(x[0] - x[1]) / first == pytest.approx(pair.value, rel=1e-6)
    assert pair.value > 1e5


def test_frozen_slopes_that_are_stable_do_not_prove_a_norm():
    """Slopes in turn grow although every frozen I + D A contracts; no rate below 1 may be claimed."""
    claims = search_block(facts(SWITCHED, layers.LeakyRelu(0.05)), LIMITS, 1.0).claims
    growth = next(claim for claim in claims if claim.kind is Kind.GROWTH)
    assert growth.value >= 1.5499
    assert len(growth.data["patterns"]) > 1
    assert all(claim.value >= 1.5499 for claim in claims if claim.kind in (Kind.INFINITY_RATE, Kind.METRIC_RATE))


def test_blocks_of_own_weights_have_gains_only():
    rng = np.random.default_rng(0)
    stages = tuple(-np.eye(3) + 0.1 * rng.standard_normal((3, 3)) for _ in range(4))
    inputs = tuple(rng.standard_normal((3, 2)) for _ in range(4))
    case = BlockFacts(StableBlock(stages, inputs, (), layers.Relu(), 0.5, 4), (2,))
    claims = search_block(case, LIMITS, 1.0).claims
    assert {claim.kind for claim in claims} == {Kind.INFINITY_RATE, Kind.DEPTH_GAIN_INFINITY, Kind.UNROLLED_GAIN}
    norms = [np.abs(np.eye(3) + 0.5 * np.diag(d) @ a).sum(axis=1).max() for a in stages
             for d in rng.choice([0.0, 1.0], (50, 3))]
    assert max(norms) <= max(claim.value for claim in claims if claim.kind is Kind.INFINITY_RATE) * (1 + 1e-12)


def test_blocks_of_own_weights_share_a_metric_where_slopes_are_positive():
    rng = np.random.default_rng(0)
    stages = tuple(-np.eye(3) + 0.3 * rng.standard_normal((3, 3)) for _ in range(4))
    inputs = tuple(rng.standard_normal((3, 2)) for _ in range(4))
    case = BlockFacts(StableBlock(stages, inputs, (), layers.LeakyRelu(0.3), 0.8, 4), (2,))
    found = BlockReport(search_block(case, LIMITS, 1.0))
    assert {Kind.COMMON_RATE, Kind.COMMON_GAIN} <= {claim.kind for claim in found.search.claims}
    assert found.rate.kind is Kind.COMMON_RATE
    # No equilibrium is spoken of: each stage has its own.
    assert found.outcome is StabilityOutcome.CONTRACTING_STAGES
    assert "no equilibrium" in found.outcome.value


def test_ctrl_c_keeps_what_was_found(monkeypatch):
    def pressed(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("netgain.verify.stability.growth.alternating_growth", pressed)
    found = search_block(facts(-P, layers.LeakyRelu(0.1)), LIMITS, 1.0)
    kinds = {claim.kind for claim in found.claims}
    assert found.interrupted
    assert any("Interrupted" in note for note in found.notes)
    assert {Kind.SYMMETRIC_RATE, Kind.METRIC_RATE, Kind.EQUILIBRIUM, Kind.UNROLLED_GAIN} <= kinds
    assert Kind.GROWTH not in kinds


def test_ctrl_c_in_the_unrolled_gain_is_said(monkeypatch):
    def pressed(*arguments, **options):
        report = lipschitz_of(*arguments, **options)
        return dataclasses.replace(report, solution=dataclasses.replace(report.solution, status=Status.INTERRUPTED))

    monkeypatch.setattr("netgain.verify.stability.unrolled.lipschitz_of", pressed)
    found = search_block(facts(-P, layers.LeakyRelu(0.1)), LIMITS, 1.0)
    assert found.interrupted
    assert sum("Interrupted" in note for note in found.notes) == 1


@pytest.mark.parametrize(("depth", "gain"), [
    (1, 1.126307), (2, 1.481164), (5, 2.069472), (20, 2.924299), (30, 3.101977),
])
def test_the_worked_block_unrolled(depth, gain):
    """Gains of so many ReLU steps grow with the depth, and stay below the one of every depth, 3.748988."""
    graph = facts(-P, layers.Relu(), depth=depth).block.graph((2,))
    assert lipschitz(graph, limits=LIMITS, lower_bounds=False).upper == pytest.approx(gain, rel=1e-5)


def test_the_ellipsoids_of_the_worked_block():
    """dx^T P dx <= 2 dx^T B du at every depth: the farthest point of these ellipsoids, over unit du, is 3.605978."""
    root = np.real(scipy.linalg.sqrtm(P))
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 4001))
    around = np.stack([circle.real, circle.imag])
    centres = np.linalg.solve(root, B @ around[:, ::20])
    farthest = max(
        np.linalg.norm(np.linalg.solve(root, centre[:, None] + np.linalg.norm(centre) * around), axis=0).max()
        for centre in centres.T
    )
    assert farthest == pytest.approx(3.605978, abs=2e-4)
    assert 3.101977 <= farthest <= best(found_of(0), Kind.CONSTANT_GAIN)


def test_the_worked_rate_of_tanh_on_a_bounded_set():
    """|x|_P <= 3.4201 gives slopes from .34889 on along trajectories, and the rate .81384."""
    radius = 3.4201 / np.linalg.norm(np.linalg.solve(np.real(scipy.linalg.sqrtm(P)), B), 2)
    claims = {claim.kind: claim for claim in search_block(facts(-P, layers.Tanh()), LIMITS, radius).claims}
    claim = claims[Kind.TANH_RATE_SYMMETRIC]
    assert claim.slopes[0] == pytest.approx(0.34889, abs=1e-5)
    assert claim.value == pytest.approx(0.81384, abs=1e-5)


@pytest.mark.parametrize(("state", "reads", "extents", "shape", "said"), [
    (401, 1, (), (1,), "the state has 401 entries"),
    (2, 8193, (), (8193,), "the input has 8193 entries"),
    (1, 1, (5,), (1, 3), r"the kernel of extents (5,) is larger than the image (3,)"),
])
def test_why_matrices_are_not_written_out(state, reads, extents, shape, said):
    a, b = np.zeros((state, state, *extents)), np.ones((state, reads, *extents))
    case = BlockFacts(StableBlock((a,), (b,), (), layers.Relu(), 1.0, 1), shape)
    assert not case.dense
    assert said in case.obstacle


def test_what_was_not_found_is_said():
    notes = search_block(facts(SWITCHED, layers.LeakyRelu(0.05)), LIMITS, 1.0).notes
    assert any("none exists" in note for note in notes)
