"""Chordal block matrices against dense linear algebra."""

import numpy as np
import pytest
from netgain.solvers.block_matrix import complete, factorise, inner, multiply, on_cliques, on_pattern, symmetric_product
from netgain.solvers.dual_bound import dual_bound
from netgain.solvers.newton_system import NewtonSystem
from netgain.solvers.structure import structure

from .bank import BANK, dense


def to_dense(blocks, pattern):
    result = np.zeros((pattern.size, pattern.size))
    for (i, j), block in blocks.items():
        result[pattern.rows[i], pattern.rows[j]] = block
        result[pattern.rows[j], pattern.rows[i]] = block.T
    return result


NAMES = ["three layers", "residual", "residual, no outer activation", "mixed", "deep"]


@pytest.fixture(params=[(name, width) for name in NAMES for width in (0, 12, 1000)], ids=str)
def matrix(request, monkeypatch):
    """A positive definite matrix on the pattern of an inequality, its layers merged a little, fully or not at all."""
    name, width = request.param
    monkeypatch.setattr("netgain.solvers.structure._WORTH_A_BLOCK", width)
    inequality = BANK[name]
    pattern = structure(inequality)
    rng = np.random.default_rng(0)
    blocks = NewtonSystem(inequality, pattern).matrix(rng.random(inequality.multipliers + 1))
    shift = 1 - np.linalg.eigvalsh(to_dense(blocks, pattern))[0]
    for k in range(pattern.blocks):
        blocks[k, k] = blocks[k, k] + shift * np.eye(len(blocks[k, k]))
    return inequality, pattern, blocks, to_dense(blocks, pattern)


def test_factor_inverse_and_products(matrix):
    _, pattern, blocks, whole = matrix
    factor = factorise(blocks, pattern)
    np.testing.assert_allclose(factor.inverse() @ whole, np.eye(len(whole)), atol=1e-10)
    right = np.random.default_rng(1).standard_normal((len(whole), 3))
    np.testing.assert_allclose(whole @ factor.solve(right), right, atol=1e-10)
    np.testing.assert_allclose(multiply(blocks, right, pattern), whole @ right, atol=1e-11)
    y = right @ right.T
    assert inner(blocks, y, pattern) == pytest.approx(np.trace(whole @ y))
    k = np.random.default_rng(2).standard_normal(whole.shape)
    product = on_pattern(pattern, lambda i, j: symmetric_product(k, y, i, j))
    expected = (k @ y + y @ k.T) / 2
    for own, later in zip(pattern.rows, pattern.later_rows, strict=True):
        np.testing.assert_allclose(product[own, own], expected[own, own])
        np.testing.assert_allclose(product[own, later], expected[own, later])


def test_completion_is_that_of_largest_determinant(matrix):
    """Among completions, the one whose inverse vanishes outside the pattern; here known: an inverse on the pattern."""
    _, pattern, _, whole = matrix
    y = np.linalg.inv(whole)
    spoilt = on_pattern(pattern, lambda i, j: y[i, j])
    np.testing.assert_allclose(complete(spoilt, pattern), y, atol=1e-9 * np.abs(y).max())
    assert all(np.linalg.eigvalsh(block)[0] > 0 for block in on_cliques(y, pattern))


@pytest.mark.parametrize("name", BANK)
def test_dual_bound_is_below_every_feasible_point_and_exact_on_feasible_ones(name):
    """For any covariance Y whatever: <C^T C, Y'> <= rho for every feasible (rho, lam), tested by M >= 0 shifted up."""
    inequality = BANK[name]
    if "weights" in name:
        pytest.skip("unscaled by design")
    pattern = structure(inequality)
    rng = np.random.default_rng(3)
    for _ in range(5):
        lam = [rng.random(c.groups) + 0.1 for c in inequality.constraints]
        x = rng.standard_normal((pattern.size, pattern.size))
        value = dual_bound(inequality, x @ x.T)
        # The hidden block must be positive definite for any rho to do; then a large rho does.
        for scale in 10.0 ** np.arange(-3, 9):
            scaled = [v * scale ** (1 / (1 + k)) for k, v in enumerate(lam)]
            for rho in 10.0 ** np.arange(-6, 9):
                if np.linalg.eigvalsh(dense(inequality, rho, scaled))[0] > 0:
                    assert value <= rho
                    break
