import math
import time

import numpy as np
import pytest
from netgain.solvers.contractivity.logarithmic_norm import SlopeField, logarithmic_norm
from netgain.solvers.contractivity.sdp import upper_bound
from netgain.solvers.contractivity.slope_ascent import SlopeAscent, alternate, best_flip, rounded_slopes

from .slope_bank import A3, brute_force, circulant, general_field, random_weights, structured


@pytest.mark.parametrize("name", list(structured(6, 0)))
def test_between_a_start_and_the_truth(name):
    for seed in range(4):
        field = SlopeField(structured(6, seed)[name], 0.1)
        found = SlopeAscent().solve(field, upper_bound(field))
        exact = brute_force(field)[0]
        assert logarithmic_norm(field.jacobian(np.ones(6))) - 1e-12 <= found.value <= exact + 1e-9
        assert found.value == pytest.approx(logarithmic_norm(field.jacobian(found.slopes)), abs=1e-10)
        assert np.all(np.diff(found.history) >= 0)
        assert np.all((found.slopes == 0.1) | (found.slopes == 1))


def test_it_leaves_the_trap_of_the_gradient_flow():
    found = SlopeAscent().solve(SlopeField(A3, 0.1))
    assert found.value == pytest.approx(0.590259822, abs=1e-9)
    assert found.slopes.tolist() == [1, 0.1, 1]


def test_it_finds_the_worst_of_most_small_fields():
    hits = 0
    for seed in range(100):
        field = SlopeField(random_weights(8, seed), 0.1)
        hits += SlopeAscent().solve(field).value >= brute_force(field)[0] - 1e-9
    assert hits >= 95


@pytest.mark.parametrize("make", [
    lambda seed: SlopeField(random_weights(7, seed), 0.1),
    lambda seed: general_field(seed, n=5, k=6),
    lambda seed: SlopeField(circulant(7), 0.1),
])
@pytest.mark.parametrize("seed", range(10))
def test_flips_agree_with_trying_each(make, seed):
    field = make(seed)
    rng = np.random.default_rng(seed)
    slopes = np.where(rng.random(field.neurons) < 0.5, field.lower, field.upper)
    flipped = np.repeat(slopes[None], field.neurons, axis=0)
    np.fill_diagonal(flipped, field.lower + field.upper - slopes)
    values = np.array([logarithmic_norm(field.jacobian(d)) for d in flipped])
    found = best_flip(field, slopes)
    if values.max() > logarithmic_norm(field.jacobian(slopes)) + 1e-9:
        assert found is not None
        assert logarithmic_norm(field.jacobian(found)) == pytest.approx(values.max(), abs=1e-9)
        assert np.sum(found != slopes) == 1
        assert np.all((found == field.lower) | (found == field.upper))
    else:
        assert found is None or logarithmic_norm(field.jacobian(found)) >= values.max() - 1e-9


def test_no_flip_raises_the_worst_slopes():
    for seed in range(10):
        field = general_field(seed)
        assert best_flip(field, brute_force(field)[1]) is None


def test_alternating_from_the_middle_of_a_convolution_stays():
    """All slopes equal is a fixed point by symmetry; random vertices are not."""
    field = SlopeField(circulant(6), 0.1)
    assert alternate(field, np.full((1, 6), 0.55)).value == pytest.approx(-0.04)
    assert SlopeAscent().solve(field).value == pytest.approx(0.174782145, abs=1e-9)


def test_rounding_starts_with_the_top_eigenvector():
    """Where X has rank one the bound is exact, and the first rounding attains it."""
    field = SlopeField(random_weights(5, 1), 0.9)
    bound = upper_bound(field)
    first = rounded_slopes(field, bound.density, 3, np.random.default_rng(0))[0]
    assert logarithmic_norm(field.jacobian(first)) == pytest.approx(bound.value, abs=1e-5)


def test_seeds_decide():
    field = SlopeField(random_weights(30, 0), 0.1)
    first, again = SlopeAscent(seed=3).solve(field), SlopeAscent(seed=3).solve(field)
    assert np.array_equal(first.slopes, again.slopes)


def test_time_limits_are_kept():
    field = SlopeField(random_weights(300, 0), 0.1)
    # In processor time, which other work on the machine does not lengthen.
    seconds = []
    for limit in (0.3, math.inf):
        begin = time.process_time()
        found = SlopeAscent(time_limit=limit).solve(field)
        seconds.append(time.process_time() - begin)
    assert seconds[0] < 0.8 * seconds[1]
    assert found.value == pytest.approx(logarithmic_norm(field.jacobian(found.slopes)), abs=1e-9)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="`time_limit` must be positive seconds, got 0"):
        SlopeAscent(time_limit=0)
    with pytest.raises(ValueError, match="`restarts` must be at least 1, got 0"):
        SlopeAscent(restarts=0)
