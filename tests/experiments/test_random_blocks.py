"""The statistics of random blocks on a few: what has to hold of any sample."""

from netgain.experiments.benchmarks.random_blocks import TOLERANCE, inside, outside


def test_inside_the_conditions_the_metric_is_always_as_good():
    found = inside(25, 0.1, seed=1)
    assert found.blocks == found.contracting == found.as_good == 25
    assert -1 < found.worst <= TOLERANCE


def test_outside_the_conditions_shares_add_up():
    found = outside(25, 0.2, seed=1)
    assert 0 < found.unstable + found.stable <= found.blocks
    assert max(found.semidefinite, found.infinity) <= found.either <= found.stable
    assert found.semidefinite > 0
    assert found.unstable > 0
