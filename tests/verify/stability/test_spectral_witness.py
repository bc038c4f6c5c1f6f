import itertools

import numpy as np
import pytest
from netgain.solvers.stability.spectral_growth import alternating_growth, frozen_growth, growth_of, jacobian
from netgain.solvers.stability.stable_projection import reproject_factor, stable_matrix
from netgain.verify.stability.conditions import SlopeBox, fully_connected_conditions
from netgain.verify.stability.spectral_witness import proved_growth
from netgain.verify.stability.step_contraction import prove_contraction

SWITCHED = np.array([[-0.04, -1.59], [1.21, -2.03]])


def largest_vertex(weights, box):
    return max(growth_of(weights, box.step, np.array([d]))
               for d in itertools.product((box.lower, box.upper), repeat=len(weights)))


@pytest.mark.parametrize("seed", range(12))
def test_frozen_search_is_at_least_the_worst_vertex(seed):
    rng = np.random.default_rng(seed)
    weights, box = rng.standard_normal((5, 5)) - np.eye(5), SlopeBox(0.8, (0.0, 0.1, -0.2)[seed % 3], 1.0)
    found = frozen_growth(weights, box.step, box.lower, box.upper)
    assert found.value >= largest_vertex(weights, box) * (1 - 1e-9)
    assert np.all((found.patterns >= box.lower) & (found.patterns <= box.upper))


@pytest.mark.parametrize("seed", range(6))
def test_proved_growth_is_the_growth_and_never_above_a_proved_rate(seed):
    rng = np.random.default_rng(seed)
    weights, box = 0.5 * rng.standard_normal((3, 3)) - np.eye(3), SlopeBox(1.0, 0.2, 1.0)
    found = alternating_growth(weights, box.step, box.lower, box.upper, longest=4, starts=3)
    proved = proved_growth(weights, box, found.patterns)
    assert proved == pytest.approx(found.value, rel=1e-9)
    assert proved <= prove_contraction(weights, box, 1e-3).claim.rate


def test_modes_in_turn_outgrow_every_frozen_one():
    frozen = frozen_growth(SWITCHED, 1.0, 0.05, 1.0)
    assert frozen.value == pytest.approx(0.9814, abs=1e-4)
    assert frozen.value == pytest.approx(largest_vertex(SWITCHED, SlopeBox(1.0, 0.05, 1.0)), abs=1e-9)
    found = alternating_growth(SWITCHED, 1.0, 0.05, 1.0)
    assert proved_growth(SWITCHED, SlopeBox(1.0, 0.05, 1.0), found.patterns) >= 1.5499
    state = np.ones(2)
    for slopes in np.tile(found.patterns, (20, 1)):
        state = jacobian(SWITCHED, 1.0, slopes) @ state
    assert np.linalg.norm(state) > 1e6


def test_symmetric_blocks_attain_the_closed_form():
    weights = stable_matrix(reproject_factor(np.random.default_rng(1).standard_normal((4, 4)), 0.05), 0.05)
    box = SlopeBox(1.0, 0.1, 1.0)
    found = alternating_growth(weights, box.step, box.lower, box.upper, longest=3, starts=2)
    assert found.value == pytest.approx(fully_connected_conditions(weights, 0.05, box).rate, rel=1e-9)


def test_multiple_and_vanishing_eigenvalues_are_enclosed():
    box = SlopeBox(1.0, 0.0, 1.0)
    assert proved_growth(-0.5 * np.eye(3), box, np.zeros((2, 3))) == pytest.approx(1)
    assert proved_growth(-0.5 * np.eye(3), box, np.ones((1, 3))) == pytest.approx(0.5)
    assert proved_growth(-np.eye(2), box, np.ones((1, 2))) == 0


@pytest.mark.parametrize("patterns", [np.ones((1, 3)), np.ones(2), np.full((1, 2), 1.1), np.empty((0, 2))])
def test_patterns_that_do_not_fit_are_refused(patterns):
    with pytest.raises(ValueError, match=r"patterns|Slopes"):
        proved_growth(SWITCHED, SlopeBox(1.0, 0.05, 1.0), patterns)
