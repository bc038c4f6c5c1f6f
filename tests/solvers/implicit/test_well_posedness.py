import itertools

import numpy as np
import pytest
from netgain.solvers.implicit.weighted_log_norm import SlopeBox
from netgain.solvers.implicit.well_posedness import Condition, conditions, find_witness, is_witness

from .implicit_bank import HIERARCHY, random_matrix


def relu(v):
    return np.maximum(v, 0)


@pytest.mark.parametrize(("A", "radius", "abscissa", "monotone", "stable"), HIERARCHY)
def test_hierarchy_side_by_side(A, radius, abscissa, monotone, stable):
    found = {finding.condition: finding for finding in conditions(A)}
    assert found[Condition.ABSOLUTE].margin == pytest.approx(1 - radius, abs=1e-3)
    assert found[Condition.LOG_NORM].margin == pytest.approx(1 - abscissa, abs=1e-3)
    assert found[Condition.MONOTONE].margin == pytest.approx(2 * monotone, abs=1e-2)
    assert found[Condition.MONOTONE].holds == (monotone > 0)
    assert found[Condition.DIAGONAL].holds == stable
    for finding in found.values():
        assert finding.margin <= finding.reached


@pytest.mark.parametrize("seed", range(25))
def test_conditions_imply_each_other_and_exclude_witnesses(seed):
    A = np.random.default_rng(seed).standard_normal((4, 4)) - (seed % 3) * np.eye(4)
    absolute, log_norm, monotone, diagonal = (finding.holds for finding in conditions(A))
    assert absolute <= log_norm <= diagonal
    assert monotone <= diagonal
    witness = find_witness(A)
    assert witness is None or not diagonal


@pytest.mark.parametrize("seed", range(25))
def test_witnesses_are_found_exactly_where_a_principal_minor_is_not_positive(seed):
    """I - A is a P-matrix if and only if ReLU has one solution for every c."""
    A = np.random.default_rng(seed).standard_normal((5, 5)) * 0.8
    subsets = [list(s) for k in range(1, 6) for s in itertools.combinations(range(5), k)]
    least = min(np.linalg.det(np.eye(len(s)) - A[np.ix_(s, s)]) for s in subsets)
    witness = find_witness(A)
    assert (witness is not None) == (least <= 0)
    if witness is not None:
        first, second = relu(witness), relu(-witness)
        v = A @ witness
        c = first - A @ first - relu(witness - v)
        for x in (first, second):
            assert x == pytest.approx(relu(A @ x + c), abs=1e-12)
        assert np.max(np.abs(first - second)) > 0.1


@pytest.mark.parametrize("seed", range(4))
def test_many_neurons(seed):
    A = np.random.default_rng(seed).standard_normal((30, 30))
    assert is_witness(A, find_witness(A, seed=seed), SlopeBox.uniform(30))
    assert find_witness(random_matrix(seed, 30)) is None


def test_slopes_away_from_zero():
    A, z = np.array([[0.0, 2.0], [-2.0, 0.0]]), np.ones(2)
    assert find_witness(A, SlopeBox.uniform(2, 0.1, 1.0)) is None
    assert find_witness(A, SlopeBox(np.array([0.1, -1.0]), np.ones(2))) is not None
    assert is_witness(np.eye(2), z, SlopeBox.uniform(2))
    assert not is_witness(np.eye(2) * (1 - 2.0**-53), z, SlopeBox.uniform(2))
    assert not is_witness(np.eye(2), np.zeros(2), SlopeBox.uniform(2))


def test_refusals():
    with pytest.raises(ValueError, match="finite numbers"):
        is_witness(np.eye(2), np.ones(3), SlopeBox.uniform(2))
    with pytest.raises(ValueError, match="2 rows"):
        find_witness(np.eye(2), SlopeBox.uniform(3))
