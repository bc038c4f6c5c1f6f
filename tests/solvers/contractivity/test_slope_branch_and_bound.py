import dataclasses
import itertools
import time

import numpy as np
import pytest
from joblib import parallel_config
from netgain.solvers.contractivity import slope_branch_and_bound
from netgain.solvers.contractivity.logarithmic_norm import SlopeField, logarithmic_norm
from netgain.solvers.contractivity.sdp import upper_bound
from netgain.solvers.contractivity.slope_ascent import SlopeAscent
from netgain.solvers.contractivity.slope_branch_and_bound import SlopeBranchAndBound
from netgain.solvers.contractivity.slope_symmetry import find_symmetries
from netgain.solvers.result import Limits, Status

from .slope_bank import A3, brute_force, circulant, general_field, laplacian, random_weights, structured

# One start and no flips, so that the search itself has to find the worst slopes.
POOR = SlopeAscent(restarts=1, roundings=1, flips=False)


SIGNS = np.diag([1.0, -1.0, 1.0])


def leaf_bound(field, signs, multipliers):
    """lambda_max of the box's M(lam), from its definition."""
    d = np.where(signs > 0, field.upper, np.where(signs < 0, field.lower, field.centre))
    total = field.symmetric(d)
    for i in np.flatnonzero((signs == 0) & field.acting):
        a, e = field.inputs[i], field.dense_outputs[:, i]
        total = total + multipliers[i] * np.outer(a, a) + field.radius**2 / (4 * multipliers[i]) * np.outer(e, e)
    return np.linalg.eigvalsh(total)[-1]


def assert_leaves_cover(field, found):
    """Every vertex lies in a leaf, or some symmetry takes it to a lexicographically larger one."""
    leaves = found.leaves
    for pattern in itertools.product((1, -1), repeat=field.neurons):
        pattern = np.array(pattern)
        inside = np.all((leaves.signs == 0) | (leaves.signs == pattern), axis=1)
        out = np.all((leaves.left_out == 0) | (leaves.left_out == pattern), axis=1)
        raised = [tuple(pattern[leaves.symmetries.permutations[k]]) > tuple(pattern) for k in leaves.by[out]]
        assert np.any(inside) or (raised and all(raised))


@pytest.mark.parametrize("name", list(structured(6, 0)))
@pytest.mark.parametrize("lower", [0.0, 0.1, 0.6])
def test_structured_fields_are_solved(name, lower):
    for seed in range(2):
        field = SlopeField(structured(6, seed)[name], lower)
        exact, size = brute_force(field)[0], max(1.0, np.linalg.norm(field.inputs, 2))
        found = SlopeBranchAndBound(ascent=POOR).solve(field)
        assert found.status is Status.OPTIMAL
        assert found.lower <= exact + 1e-9 * size
        assert exact <= found.upper + 1e-9 * size
        assert found.upper - found.lower <= 2e-6 * size
        assert logarithmic_norm(field.jacobian(found.slopes)) == pytest.approx(found.lower, abs=1e-9)
        assert_leaves_cover(field, found)
        for signs, multipliers, bound in zip(found.leaves.signs, found.leaves.multipliers, found.leaves.bounds,
                                             strict=True):
            assert leaf_bound(field, signs, multipliers) <= bound + 1e-9 * size
            assert bound <= found.upper + 1e-12


@pytest.mark.parametrize("seed", range(8))
def test_general_fields_are_solved(seed):
    field = general_field(seed, n=4, k=6)
    found = SlopeBranchAndBound(ascent=POOR).solve(field)
    assert found.lower == pytest.approx(brute_force(field)[0], abs=1e-5)
    assert found.upper >= brute_force(field)[0] - 1e-9
    assert_leaves_cover(field, found)


@pytest.mark.parametrize(("field", "value"), [
    (SlopeField(A3, 0.1), 0.590259822),
    (SlopeField(A3, 0.0), 0.680734383),
    (SlopeField(A3, 0.3), 0.432588818),
    (SlopeField(A3, 0.5), 0.336029519),
    (SlopeField(SIGNS @ A3 @ SIGNS, 0.1), 0.590259822),
    (SlopeField(2 * A3, 0.1), 1.180519645),
    (SlopeField(np.abs(A3), 0.1), 2.411500117),
    (SlopeField(A3, 0.1, 0.5), 0.252196750),
    (SlopeField(circulant(6), 0.1), 0.174782145),
    (SlopeField(laplacian(4), 0.1), 0.165683721),
])
def test_facts(field, value):
    found = SlopeBranchAndBound(limits=Limits(tolerance=1e-8)).solve(field)
    assert found.lower == pytest.approx(value, abs=1e-8)
    assert found.upper == pytest.approx(value, abs=1e-7)


def test_rows_bound_from_below_without_slope():
    """(a_ii + |a_i|) / 2 for each row: slopes down to 0 leave no matrix but a diagonal one contractive."""
    rows = (np.diag(A3) + np.linalg.norm(A3, axis=1)) / 2
    assert rows == pytest.approx([0.618034, 0.401388, 0.309017], abs=1e-6)
    assert np.all(rows <= SlopeBranchAndBound().solve(SlopeField(A3, 0.0)).upper)


def test_it_is_one_lipschitz_in_the_spectral_norm():
    other = A3 + 0.05 * np.array([[1, -2, 0], [1, 0, 1], [0, 0, -1]])
    change = abs(SlopeBranchAndBound().solve(SlopeField(other, 0.1)).lower - 0.590259822)
    assert change == pytest.approx(0.029779, abs=1e-6)
    assert change <= np.linalg.norm(other - A3, 2)


@pytest.mark.parametrize("seed", range(3))
def test_forty_neurons_take_a_second(seed):
    begin = time.perf_counter()
    found = SlopeBranchAndBound().solve(SlopeField(random_weights(40, 40000 + seed), 0.1))
    assert found.status is Status.OPTIMAL
    assert found.upper - found.lower <= 1e-5
    assert time.perf_counter() - begin < 10


def test_convolution_of_sixteen_neurons():
    found = SlopeBranchAndBound().solve(SlopeField(circulant(16), 0.1))
    assert found.lower == pytest.approx(0.168277, abs=1e-6)
    assert found.status is Status.OPTIMAL


@pytest.mark.slow
def test_convolution_of_twenty_neurons_to_a_ten_thousandth():
    found = SlopeBranchAndBound(limits=Limits(tolerance=5e-5, time_limit=120)).solve(SlopeField(circulant(20), 0.1))
    assert found.status is Status.OPTIMAL
    assert found.upper - found.lower <= 1e-4
    assert 0.17089 <= found.lower <= found.upper <= 0.18133


@pytest.mark.parametrize("nodes", [1, 10, 40])
def test_stopped_searches_enclose(nodes):
    field = SlopeField(circulant(10), 0.1)
    exact = brute_force(field)[0]
    found = SlopeBranchAndBound(nodes=nodes, batch=4, ascent=POOR).solve(field)
    assert found.lower <= exact + 1e-9
    assert exact <= found.upper + 1e-9
    assert found.status is Status.ITERATION_LIMIT
    assert_leaves_cover(field, found)
    assert found.leaves.bounds.max() <= found.upper + 1e-12
    uppers, lowers = [line.upper for line in found.history], [line.lower for line in found.history]
    assert uppers == sorted(uppers, reverse=True)
    assert lowers == sorted(lowers)


def test_time_limits_and_interruptions_enclose(monkeypatch):
    field = SlopeField(circulant(24), 0.1)
    begin = time.perf_counter()
    found = SlopeBranchAndBound(limits=Limits(time_limit=0.5)).solve(field)
    assert time.perf_counter() - begin < 5
    assert found.status is Status.TIME_LIMIT
    assert found.lower <= 0.17478214520051233 + 1e-9 <= found.upper + 2e-9

    calls, expand = [], slope_branch_and_bound.expand

    def interrupted(*arguments, **others):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return expand(*arguments, **others)

    monkeypatch.setattr(slope_branch_and_bound, "expand", interrupted)
    found = SlopeBranchAndBound(ascent=POOR).solve(field)
    assert found.status is Status.INTERRUPTED
    assert found.lower <= 0.17478214520051233 + 1e-9 <= found.upper + 2e-9


@pytest.mark.parametrize("seed", range(4))
def test_levels_are_decided(seed):
    field = SlopeField(random_weights(9, seed), 0.1)
    exact = brute_force(field)[0]
    above = SlopeBranchAndBound(ascent=POOR).solve(field, exact + 1e-4)
    assert above.upper <= exact + 1e-4
    assert_leaves_cover(field, above)
    below = SlopeBranchAndBound(ascent=POOR).solve(field, exact - 1e-4)
    assert below.lower > exact - 1e-4
    easy = SlopeBranchAndBound().solve(field, upper_bound(field).value + 1e-3)
    assert easy.nodes == 1


def test_jobs_agree():
    field = SlopeField(circulant(14), 0.1)
    alone = SlopeBranchAndBound().solve(field)
    shared = SlopeBranchAndBound(jobs=2, batch=8, rounds=2).solve(field)
    assert shared.lower == pytest.approx(alone.lower, abs=1e-9)
    assert shared.upper == pytest.approx(alone.upper, abs=1e-5)
    assert shared.status is Status.OPTIMAL
    assert_leaves_cover(field, shared)


def test_another_backend_of_joblib_serves():
    field = SlopeField(circulant(12), 0.1)
    with parallel_config(backend="threading", n_jobs=2):
        found = SlopeBranchAndBound(jobs=None, batch=8, rounds=2).solve(field)
    assert found.upper == pytest.approx(SlopeBranchAndBound().solve(field).lower, abs=1e-5)
    assert_leaves_cover(field, found)


def test_symmetries_of_a_convolution_are_its_shifts():
    field = SlopeField(circulant(9), 0.1)
    found = find_symmetries(field)
    shifts = {tuple((np.arange(9) + k) % 9) for k in range(1, 9)}
    assert {tuple(pi) for pi in found.permutations.tolist()} == shifts


@pytest.mark.parametrize("name", list(structured(6, 0)))
def test_symmetries_leave_the_matrix_and_the_norm_as_they_are(name):
    rng = np.random.default_rng(0)
    weights, linear = structured(6, 1)[name], structured(6, 1)["circulant"]
    for field in (SlopeField(weights, 0.1), SlopeField(weights, 0.1, linear=linear)):
        found = find_symmetries(field)
        d = rng.uniform(0.1, 1, 6)
        for pi, s in zip(found.permutations, found.signs, strict=True):
            q = np.zeros((6, 6))
            q[pi, np.arange(6)] = s
            assert np.array_equal(q @ field.inputs @ q.T, field.inputs)
            value = logarithmic_norm(field.jacobian(d[pi]))
            assert value == pytest.approx(logarithmic_norm(field.jacobian(d)), abs=1e-10)


def test_hidden_symmetries_are_found():
    """A convolution with permuted neurons and flipped signs has the same symmetries, in disguise."""
    rng = np.random.default_rng(0)
    order, signs = rng.permutation(8), rng.choice([-1.0, 1], 8)
    field = SlopeField((circulant(8) * np.outer(signs, signs))[np.ix_(order, order)], 0.1)
    assert len(find_symmetries(field)) == 7
    assert len(find_symmetries(SlopeField(random_weights(8, 0), 0.1))) == 0
    assert len(find_symmetries(general_field(0))) == 0


@pytest.mark.parametrize(("n", "count"), [(40, 39), (300, 0)])
def test_looking_for_symmetries_takes_no_time(n, count):
    begin = time.perf_counter()
    assert len(find_symmetries(SlopeField(circulant(n), 0.1))) >= count
    assert len(find_symmetries(SlopeField(random_weights(n, 0), 0.1))) == 0
    assert time.perf_counter() - begin < 3


def test_boxes_are_raised_exactly_if_all_their_patterns_are():
    """If it says so, every pattern of the box becomes larger; of a single pattern it says so whenever that does."""
    symmetries = find_symmetries(SlopeField(circulant(6), 0.1))
    rng = np.random.default_rng(0)
    boxes = rng.choice([-1, 0, 1], size=(300, 6), p=[0.4, 0.2, 0.4])
    for box, which in zip(boxes, symmetries.raising(boxes), strict=True):
        patterns = np.array([p for p in itertools.product((1, -1), repeat=6) if np.all((box == 0) | (box == p))])
        if which >= 0:
            assert all(tuple(p[symmetries.permutations[which]]) > tuple(p) for p in patterns)
        elif np.all(box):
            assert all(tuple(box[pi]) <= tuple(box) for pi in symmetries.permutations)


def test_symmetries_spare_nodes_and_change_no_result():
    field = SlopeField(circulant(12), 0.1)
    with_them = SlopeBranchAndBound().solve(field)
    without = SlopeBranchAndBound(symmetry=False).solve(field)
    assert with_them.lower == pytest.approx(without.lower, abs=1e-9)
    assert with_them.nodes < without.nodes
    assert len(without.leaves.left_out) == 0
    assert_leaves_cover(field, with_them)


@pytest.mark.parametrize("tolerance", [1e-9, 1e-12, 1e-15])
def test_tolerances_beyond_rounding_end_at_the_vertices(tolerance):
    for weights in (A3, circulant(5), np.ones((4, 4)) - 5 * np.eye(4)):
        field = SlopeField(weights, 0.1)
        found = SlopeBranchAndBound(limits=Limits(tolerance=tolerance), ascent=POOR).solve(field)
        assert found.lower == pytest.approx(brute_force(field)[0], abs=1e-12)
        assert found.upper == pytest.approx(found.lower, abs=1e-8)
        assert_leaves_cover(field, found)


def test_settings_are_checked_and_frozen():
    for name in ("batch", "rounds", "nodes"):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
            SlopeBranchAndBound(**{name: 0})
    with pytest.raises(ValueError, match="`jobs` must be a number of workers"):
        SlopeBranchAndBound(jobs=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        SlopeBranchAndBound().batch = 3
