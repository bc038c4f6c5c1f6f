import numpy as np
import pytest
from netgain.solvers.implicit.weighted_log_norm import (
    SlopeBox,
    largest_log_norm,
    least_log_norm,
    metzler_majorant,
    weighted_log_norm,
    weighted_norm,
)
from scipy.optimize import linprog

from .implicit_bank import A1, HIERARCHY, random_matrix, vertices


def feasible(A, slopes, level):
    """Whether weights keep every row below the level, by a linear program."""
    blocks = []
    for d in (slopes.lower, slopes.upper):
        blocks.append(metzler_majorant(d[:, None] * A) * 1.0)
        np.fill_diagonal(blocks[-1], d * np.diagonal(A))
        blocks[-1] -= level * np.eye(len(A))
    program = linprog(np.zeros(len(A)), A_ub=np.vstack(blocks), b_ub=np.zeros(2 * len(A)), bounds=(1, None))
    return program.status == 0


def test_the_two_by_two_fact():
    found = least_log_norm(A1)
    assert weighted_log_norm(A1, np.ones(2)) == pytest.approx(0.9)
    assert found.value == pytest.approx(0.567399, abs=1e-6)
    assert found.weights[1] / found.weights[0] == pytest.approx(1.711599, abs=1e-6)
    assert weighted_norm(A1, found.weights) == pytest.approx(4.567399, abs=1e-6)


def test_the_parametrised_fact():
    A = np.array([[-1.8, 2, -0.25], [0.15, -0.4, 0.05], [0, -2.8, -0.8]])
    assert weighted_log_norm(A, 1 / np.array([1, 2, 0.5])) == pytest.approx(0.1)
    assert least_log_norm(A).value == pytest.approx(0.010142, abs=1e-6)
    scaled = A * np.outer([1, 2, 0.5], 1 / np.array([1, 2, 0.5]))
    rows = np.diagonal(A) + np.abs(scaled).sum(1) - np.abs(np.diagonal(A))
    assert rows == pytest.approx([-0.3, 0.1, -0.1])
    T = scaled - np.diag(np.diagonal(scaled)) + np.diag((rows - 0.1) / 2)
    assert np.array([[-0.2, 1, -0.5], [0.3, 0, 0.2], [0, -0.7, -0.1]])[[0, 2]] == pytest.approx(T[[0, 2]])
    assert 0.1 * np.eye(3) + T - np.diag(np.abs(T).sum(1)) == pytest.approx(scaled)


@pytest.mark.parametrize(("A", "_", "abscissa", "__", "___"), HIERARCHY)
def test_hierarchy(A, _, abscissa, __, ___):
    assert least_log_norm(A).value == pytest.approx(abscissa, abs=1e-3)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("lower", "upper"), [(0.0, 1.0), (0.2, 1.0), (-0.3, 1.1), (1.0, 1.0)])
def test_least_value_is_that_of_the_linear_programs(seed, lower, upper):
    A, slopes = np.random.default_rng(seed).standard_normal((5, 5)), SlopeBox.uniform(5, lower, upper)
    found = least_log_norm(A, slopes)
    assert found.below <= found.value <= found.below + 1e-7
    assert feasible(A, slopes, found.value + 1e-5)
    assert not feasible(A, slopes, found.value - 1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_largest_over_slopes_is_at_a_vertex(seed):
    rng = np.random.default_rng(seed)
    A, eta, lower = rng.standard_normal((4, 4)), np.exp(rng.standard_normal(4)), rng.uniform(-0.5, 0.5, 4)
    upper = lower + rng.uniform(0, 1, 4)
    largest = largest_log_norm(A, eta, SlopeBox(lower, upper))
    assert largest == pytest.approx(max(weighted_log_norm(D @ A, eta) for D in vertices(lower, upper)), abs=1e-12)
    for d in rng.uniform(lower, upper, (200, 4)):
        assert weighted_log_norm(d[:, None] * A, eta) <= largest + 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_rescaled_coordinates_rescale_the_weights(seed):
    A, scale = random_matrix(seed), np.exp(np.random.default_rng(seed).standard_normal(4))
    here, there = least_log_norm(A), least_log_norm(A * scale[:, None] / scale)
    assert there.value == pytest.approx(here.value, abs=1e-9)
    ratio = there.weights / (here.weights * scale)
    assert ratio == pytest.approx(np.full(4, ratio[0]), rel=1e-7)


@pytest.mark.parametrize(("A", "abscissa"), [(np.triu(np.ones((5, 5))), 1.0), (np.zeros((3, 3)), 0.0),
                                         (np.diag([0.3, -2.0]), 0.3), (np.array([[0.5, 0.0], [3.0, -1.0]]), 0.5)])
def test_reducible_matrices(A, abscissa):
    found = least_log_norm(A)
    assert np.all(found.weights > 0)
    assert found.value == pytest.approx(weighted_log_norm(A, found.weights))
    assert abscissa - 1e-12 <= found.value <= abscissa + 0.02


@pytest.mark.parametrize(("lower", "upper", "message"), [([0.0], [0.0, 1.0], "one length"), ([1.0], [0.0], "neuron 0")])
def test_slopes_refused(lower, upper, message):
    with pytest.raises(ValueError, match=message):
        SlopeBox(lower, upper)


@pytest.mark.parametrize(("A", "message"), [(np.ones((2, 3)), "square"), ([[np.nan]], "not finite")])
def test_matrices_refused(A, message):
    with pytest.raises(ValueError, match=message):
        least_log_norm(A)


def test_weights_refused():
    with pytest.raises(ValueError, match="positive"):
        weighted_log_norm(A1, [1.0, 0.0])
