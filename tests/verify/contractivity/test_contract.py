"""Contractive weights: all vertices keep the level, distances in order and as in closed forms, proofs hold."""

import itertools

import numpy as np
import pytest
from netgain.layers import ModelError
from netgain.layers.formats.npz_field import field_of_arrays
from netgain.solvers.result import Limits
from netgain.verify.contractivity.certificate import check_contractivity
from netgain.verify.contractivity.contract import (
    CUTTING_PLANES,
    ONE_INEQUALITY,
    SHIFT,
    UnreachableError,
    contract,
)

A3 = np.array([[-1, 2, 0], [0, -1, 1.5], [-1, 0, -0.5]])


def read(activation="leaky_relu:0.1", **arrays):
    return field_of_arrays({"activation": np.array(activation), **arrays}, "field")


def by_vertices(weights, lower, linear=0.0):
    slopes = np.array(list(itertools.product((lower, 1.0), repeat=len(weights))))
    jacobians = slopes[:, :, None] * weights + linear
    return float(np.linalg.eigvalsh((jacobians + np.swapaxes(jacobians, 1, 2)) / 2)[:, -1].max())


def by_method(report):
    return {result.method: result for result in report.results}


def random_weights(n, seed):
    return np.random.default_rng(seed).standard_normal((n, n)) / n**0.5 - 0.5 * np.eye(n)


@pytest.mark.parametrize(("weights", "level"), [
    (A3, 0.0), (A3, 0.3), (A3, -0.2), (random_weights(4, 0), 0.0), (random_weights(4, 1), 0.1)])
def test_all_methods_keep_the_level_and_are_in_order(weights, level):
    report = contract(read(A=weights), level)
    found = by_method(report)
    for result in found.values():
        assert result.proved
        assert by_vertices(result.weights, 0.1) <= level + 1e-13
        assert result.distance == pytest.approx(np.linalg.norm(result.weights - weights))
        assert check_contractivity(result.certificate, result.weights).proved
        assert not check_contractivity(result.certificate, weights).proved
    nearest = found[CUTTING_PLANES].distance
    assert nearest <= found[ONE_INEQUALITY].distance + 1e-5
    assert nearest <= found[SHIFT].distance + 1e-5
    assert report.nearest.distance == min(result.distance for result in found.values())
    assert report.before == pytest.approx(by_vertices(weights, 0.1), abs=1e-5)


def test_facts():
    found = by_method(contract(read(A=A3)))
    assert found[ONE_INEQUALITY].distance == pytest.approx(1.603249, abs=1e-4)
    assert found[CUTTING_PLANES].distance == pytest.approx(1.578911, abs=1e-4)


def test_the_shift_is_the_least():
    """The weights just before are above the level, and those found are not."""
    result = by_method(contract(read(A=A3), methods=(SHIFT,)))[SHIFT]
    tau = -np.mean(np.diag(result.weights - A3))
    assert result.weights == pytest.approx(A3 - tau * np.eye(3), abs=1e-15)
    assert result.distance == pytest.approx(tau * 3**0.5)
    assert by_vertices(A3 - (tau - 2e-5) * np.eye(3), 0.1) > 0


def test_a_field_with_slopes_near_one_has_nearly_the_closed_form_of_symmetric_matrices():
    """With slopes of one the nearest weights are A - (sym A)_+."""
    values, vectors = np.linalg.eigh((A3 + A3.T) / 2)
    positive = (vectors * np.maximum(values, 0)) @ vectors.T
    result = by_method(contract(read(A=A3, activation="leaky_relu:0.9999"), methods=(CUTTING_PLANES,)))[CUTTING_PLANES]
    assert result.weights == pytest.approx(A3 - positive, abs=2e-3)


def test_weights_that_keep_the_level_stay():
    report = contract(read(A=A3 - 3 * np.eye(3)), 0.0)
    for result in report.results:
        assert result.distance == 0.0
        assert np.array_equal(result.weights, A3 - 3 * np.eye(3))
        assert check_contractivity(result.certificate, result.weights).proved


def test_a_linear_part_counts():
    linear = 0.05 * np.eye(3)
    report = contract(read(A=A3, B=linear))
    assert all(result.proved for result in report.results)
    for result in report.results:
        assert by_vertices(result.weights, 0.1, linear) <= 1e-13


def test_no_weights_help_where_slopes_of_zero_exceed_the_level():
    for methods in ((ONE_INEQUALITY,), (CUTTING_PLANES,)):
        with pytest.raises(UnreachableError, match="slopes zero"):
            contract(read(A=A3, B=np.eye(3), activation="relu"), methods=methods)


def test_with_slopes_down_to_zero_levels_above_zero_are_kept():
    report = contract(read(A=A3, activation="relu"), 0.2, methods=(ONE_INEQUALITY, SHIFT))
    for result in report.results:
        assert result.proved
        assert by_vertices(result.weights, 0.0) <= 0.2 + 1e-13
    with pytest.raises(UnreachableError, match="Ask for a level above 0"):
        contract(read(A=A3, activation="relu"), 0.0)


@pytest.mark.parametrize("exponent", [-300, 300])
def test_units_do_not_matter(exponent):
    plain = by_method(contract(read(A=A3), 0.125))
    scaled = by_method(contract(read(A=np.ldexp(A3, exponent)), float(np.ldexp(0.125, exponent))))
    for method, result in scaled.items():
        assert result.proved
        assert np.ldexp(result.distance, -exponent) == pytest.approx(plain[method].distance, abs=1e-5)


def test_what_takes_too_long_is_named():
    matrix = np.random.default_rng(0).standard_normal((60, 60)) / 60**0.5
    found = by_method(contract(read(A=matrix), methods=(ONE_INEQUALITY,), limits=Limits(time_limit=3.0)))
    assert not found[ONE_INEQUALITY].proved
    assert "predicted" in found[ONE_INEQUALITY].note


@pytest.mark.parametrize("arrays", [
    dict(A1=A3, A2=A3), dict(A=np.stack([A3, A3]), times=np.arange(2.0), lipschitz=np.array(0.0)),
    dict(A=A3, E=np.eye(3) * 2)])
def test_other_forms_are_refused_with_the_command_for_them(arrays):
    with pytest.raises(ModelError, match="netgain contractivity"):
        contract(read(**arrays))


def test_methods_are_checked():
    with pytest.raises(ValueError, match="Unknown methods: banana"):
        contract(read(A=A3), methods=("banana",))
