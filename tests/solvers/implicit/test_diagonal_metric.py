import itertools

import numpy as np
import pytest
from netgain.solvers.implicit.diagonal_metric import diagonal_stability, euclidean_gain, metric_matrix, perron_metric
from netgain.solvers.implicit.gain import majorant_gain
from netgain.solvers.implicit.weighted_log_norm import least_log_norm

from .implicit_bank import A1, B1, C1, HIERARCHY, random_matrix, vertices


def network(seed, n=5, m=3, q=2):
    rng = np.random.default_rng(seed)
    return random_matrix(seed, n), rng.standard_normal((n, m)), rng.standard_normal((q, n))


def inequality(A, B, C, metric, tau):
    across = -metric[:, None] * B
    return np.block([[metric_matrix(A, metric) - C.T @ C, across], [across.T, tau * np.eye(B.shape[1])]])


def test_perron_metric_of_the_two_by_two_fact():
    metric = perron_metric(A1)
    assert metric == pytest.approx([0.708333, 1.184211], abs=1e-6)
    assert np.linalg.eigvalsh(metric_matrix(A1, metric)) == pytest.approx([0.918896, 5.462683], abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_perron_metric_proves_stability_wherever_the_log_norm_does(seed):
    A = random_matrix(seed, 3 + seed % 5, most=0.95)
    assert np.linalg.eigvalsh(metric_matrix(A, perron_metric(A)))[0] > 0


def test_perron_metric_refused():
    with pytest.raises(ValueError, match="not below 1"):
        perron_metric(HIERARCHY[0][0])


@pytest.mark.parametrize(("A", "_", "__", "___", "stable"), HIERARCHY)
def test_hierarchy(A, _, __, ___, stable):
    assert (diagonal_stability(A).margin > 0) == stable


@pytest.mark.parametrize("seed", range(6))
def test_margin_is_enclosed_from_both_sides(seed):
    A = np.random.default_rng(seed).standard_normal((6, 6))
    found = diagonal_stability(A)
    assert found.margin <= found.most <= found.margin + 1e-3 * np.linalg.norm(np.eye(6) - A, 2)
    assert np.linalg.eigvalsh(metric_matrix(A, found.metric))[0] == pytest.approx(found.margin)
    assert (found.metric.sum(), np.trace(found.obstruction)) == pytest.approx((6.0, 1.0))
    assert np.linalg.eigvalsh(found.obstruction)[0] > 0
    for metric in np.random.default_rng(seed).dirichlet(np.ones(6), 200) * 6:
        assert np.linalg.eigvalsh(metric_matrix(A, metric))[0] <= found.most


def test_gain_of_the_two_by_two_fact():
    assert euclidean_gain(A1, B1, C1).gain == pytest.approx(2.27427, abs=1e-5)


def test_one_multiplier_for_all_neurons_gives_more_for_the_two_by_two_fact():
    def squared(log):  # the least tau for L = exp(log) I, by the Schur complement
        scale = np.exp(log)
        corner = scale * metric_matrix(A1, np.ones(2)) - C1.T @ C1
        if np.linalg.eigvalsh(corner)[0] <= 0:
            return np.inf
        return scale**2 * np.linalg.eigvalsh(B1.T @ np.linalg.solve(corner, B1))[-1]

    logs = np.linspace(-3, 3, 6001)
    assert np.sqrt(min(map(squared, logs))) == pytest.approx(2.86160, abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_gain_is_feasible_above_all_vertices_and_optimal(seed):
    A, B, C = network(seed)
    found = euclidean_gain(A, B, C)
    scale = np.linalg.norm(inequality(A, B, C, found.metric, found.gain**2))
    assert np.linalg.eigvalsh(inequality(A, B, C, found.metric, found.gain**2))[0] >= -1e-9 * scale
    exact = max(np.linalg.norm(C @ np.linalg.solve(np.eye(5) - D @ A, D @ B), 2)
                for D in vertices(np.zeros(5), np.ones(5)))
    assert exact <= found.gain <= 1.5 * exact
    rng = np.random.default_rng(seed)
    for scale, _ in itertools.product((1e-3, 1e-2, 0.1), range(20)):
        metric = found.metric * np.exp(scale * rng.standard_normal(5))
        assert np.linalg.eigvalsh(inequality(A, B, C, metric, (found.gain * (1 - 2e-5)) ** 2))[0] < 0


def test_gain_of_the_network_at_initialisation():
    rng = np.random.default_rng(0)
    T, B = rng.uniform(-1, 1, (100, 100)) / 10, rng.uniform(-1, 1, (100, 784)) / 28
    C = rng.uniform(-1, 1, (10, 100)) / 10
    A = T - np.diag(np.abs(T).sum(1))
    assert least_log_norm(A).value < 0
    gain = euclidean_gain(A, B, C, tolerance=1e-4, start=perron_metric(A)).gain
    assert gain == pytest.approx(0.0723, abs=1e-4)
    # From l_inf to l_inf by the square root of 784 inputs: a 35th of the M-matrix bound, which does not see signs.
    assert 28 * gain == pytest.approx(2.02, abs=5e-3)
    assert majorant_gain(A, B, C)[0] / (28 * gain) == pytest.approx(35, abs=0.5)
    monotone = np.linalg.eigvalsh(metric_matrix(A, np.ones(100)))[0] / 2
    assert np.linalg.norm(C, 2) * np.linalg.norm(B, 2) / monotone == pytest.approx(0.108284, abs=1e-6)


@pytest.mark.parametrize(("power", "part"), list(itertools.product((-40, 40), ("B", "C"))))
def test_gain_scales_with_inputs_and_outputs(power, part):
    A, B, C = network(1)
    scaled = {"B": B, "C": C} | {part: {"B": B, "C": C}[part] * 2.0**power}
    assert euclidean_gain(A, **scaled).gain == pytest.approx(euclidean_gain(A, B, C).gain * 2.0**power, rel=1e-5)


def test_no_gain_without_a_metric():
    A = HIERARCHY[3][0]
    assert diagonal_stability(A).most < 0
    with pytest.raises(ValueError, match="No diagonal metric"):
        euclidean_gain(A, np.eye(2), np.eye(2))
    with pytest.raises(ValueError, match="shapes"):
        euclidean_gain(A, np.eye(3), np.eye(2))
