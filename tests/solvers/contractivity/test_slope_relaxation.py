import time

import numpy as np
import pytest
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.slope_relaxation import RelaxationGoals, relax, starting_multipliers

from .slope_bank import brute_force, general_field, random_weights

GOALS = RelaxationGoals(tolerance=1e-8)


def patterns(field, seed, count=12):
    rng = np.random.default_rng(seed)
    return rng.choice(np.array([-1, 0, 1], dtype=np.int8), size=(count, field.neurons), p=[0.2, 0.6, 0.2])


def starts(field, count):
    return np.repeat(starting_multipliers(field)[None], count, axis=0)


def worst_in(field, signs):
    """The largest logarithmic norm over the vertices of a box."""
    free = np.flatnonzero(signs == 0)
    bits = (np.arange(2 ** len(free))[:, None] >> np.arange(len(free))) & 1
    d = np.repeat(np.where(signs > 0, field.upper, field.lower)[None], len(bits), axis=0)
    d[:, free] = np.where(bits, field.upper, field.lower)
    return np.linalg.eigvalsh(field.symmetric(d))[:, -1].max()


@pytest.mark.parametrize("make", [lambda s: SlopeField(random_weights(6, s), 0.1), lambda s: general_field(s, 4, 6)])
@pytest.mark.parametrize("seed", range(3))
def test_boxes_are_bounded_from_both_sides(make, seed):
    field = make(seed).normalised()[0]
    signs = patterns(field, seed)
    relaxed = relax(field, signs, starts(field, len(signs)), GOALS)
    for k, box in enumerate(signs):
        assert worst_in(field, box) <= relaxed.upper[k] + 1e-12
        assert relaxed.lower[k] <= relaxed.upper[k] + 1e-12
        assert relaxed.upper[k] - relaxed.lower[k] <= 1e-6
        assert np.trace(relaxed.densities[k]) == pytest.approx(1)
        alone = relax(field, box[None], starts(field, 1), GOALS)
        assert alone.upper[0] == pytest.approx(relaxed.upper[k], abs=1e-6)


def test_vertices_are_exact():
    field = SlopeField(random_weights(5, 0), 0.1)
    signs = np.array([[1, 1, -1, 1, -1], [-1, -1, -1, -1, -1]], dtype=np.int8)
    relaxed = relax(field, signs, starts(field, 2), GOALS)
    assert relaxed.upper == pytest.approx([worst_in(field, box) for box in signs], abs=1e-12)


def test_children_inherit_their_parents_bound():
    """Without an iteration, the multipliers of the parent less those of the fixed slope bound the child no worse."""
    field = SlopeField(random_weights(6, 1), 0.1)
    parent = relax(field, np.zeros((1, 6), dtype=np.int8), starts(field, 1), GOALS)
    children = np.concatenate([np.eye(6, dtype=np.int8), -np.eye(6, dtype=np.int8)])
    goals = RelaxationGoals(tolerance=1e-8, iterations=0)
    relaxed = relax(field, children, np.repeat(parent.log_multipliers, 12, axis=0), goals)
    assert relaxed.iterations == 0
    assert np.all(relaxed.upper <= parent.upper + 1e-12)


def test_boxes_are_left_once_their_fate_is_settled():
    field = SlopeField(random_weights(8, 2), 0.1)
    root = relax(field, np.zeros((1, 8), dtype=np.int8), starts(field, 1), GOALS)
    for target, settled in ((root.upper[0] + 0.05, True), (root.lower[0] - 0.05, False)):
        goals = RelaxationGoals(tolerance=1e-8, target=target, polish=0)
        relaxed = relax(field, np.zeros((1, 8), dtype=np.int8), starts(field, 1), goals)
        assert relaxed.iterations < root.iterations
        assert (relaxed.upper[0] <= target) == settled
        assert (relaxed.lower[0] > target) != settled


def test_deadlines_end_it_with_a_bound():
    field = SlopeField(random_weights(8, 3), 0.1)
    goals = RelaxationGoals(tolerance=1e-8, deadline=time.perf_counter())
    relaxed = relax(field, np.zeros((1, 8), dtype=np.int8), starts(field, 1), goals)
    assert relaxed.iterations == 0
    assert brute_force(field)[0] <= relaxed.upper[0] < np.inf
