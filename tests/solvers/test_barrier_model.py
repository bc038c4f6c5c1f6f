"""The barrier's model against dense matrices: its minimiser, the dual point it gives, and the tests of definiteness."""

import numpy as np
import pytest
from netgain.solvers import compress, scale
from netgain.solvers.barrier_model import Directions, is_positive, relative, ritz, root_of
from netgain.solvers.block_matrix import apply, factorise
from netgain.solvers.newton_system import NewtonSystem
from netgain.solvers.schur import scaled_cholesky
from netgain.solvers.structure import diagonals_first, structure
from scipy.optimize import minimize

from .bank import BANK, mlp

NETWORKS = {name: BANK[name] for name in ("leaky", "residual", "pooled", "signed")} | {"wide": mlp(30, (5, 40, 8, 3))}


class Point:
    """A strictly feasible point, with everything dense."""

    def __init__(self, name):
        scaled = scale(compress(NETWORKS[name]))
        self.x = 1.3 * np.append(np.concatenate(scaled.start), scaled.bound**2)
        pattern = structure(scaled.inequality, diagonals_first(scaled.inequality))
        self.system = NewtonSystem(scaled.inequality, pattern)
        self.factor = factorise(self.system.matrix(self.x), pattern)
        z = self.factor.inverse()
        forms = self.system.forms(z)
        self.gradient = self.system.gradient(z, forms)
        hessian = self.system.schur(z, z, forms, forms)
        self.hessian = np.tril(hessian) + np.tril(hessian, -1).T
        self.solve = scaled_cholesky(hessian)
        self.f = np.array([self.dense(self.system.matrix(e, homogeneous=True)) for e in np.eye(len(self.x))])
        self.m, self.z = self.dense(self.system.matrix(self.x)), z
        self.root = np.linalg.inv(self.factor.solve_lower(np.eye(len(z))))

    def dense(self, blocks):
        return apply(blocks, np.eye(self.factor.structure.size), self.factor.structure)

    def directions(self, count, seed=0):
        q = np.random.default_rng(seed).standard_normal((len(self.m), count))
        none = Directions.none(self.system, self.factor, self.solve, len(self.x))
        return none.extended(q[:, : count // 2]).extended(q[:, count // 2 :])


@pytest.mark.parametrize("name", NETWORKS)
def test_directions_are_orthonormal_and_their_pairs_those_of_dense_matrices(name):
    point = Point(name)
    directions = point.directions(5)
    v = directions.v
    np.testing.assert_allclose(directions.q.T @ directions.q, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(v.T @ point.m @ v, np.eye(5), atol=1e-9)
    a = np.concatenate([np.arange(b + 1) for b in range(5)])
    b = np.repeat(np.arange(5), np.arange(1, 6))
    expected = np.einsum("ip,kij,jp->kp", v[:, a], point.f, v[:, b])
    np.testing.assert_allclose(directions.pairs, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    np.testing.assert_allclose(point.hessian @ directions.solved, expected, rtol=1e-6,
                               atol=1e-6 * np.abs(expected).max())
    assert directions.extended(v[:, :0]).count == directions.extended(directions.q @ np.ones((5, 2))).count == 5


@pytest.mark.parametrize("name", NETWORKS)
def test_directions_stay_orthonormal_when_some_of_the_new_ones_are_known(name):
    point = Point(name)
    directions, rng = point.directions(5), np.random.default_rng(1)
    known = directions.q @ rng.standard_normal((5, 3))
    room = min(4, len(point.m) - 5)
    new = rng.standard_normal((len(point.m), room))
    for together in ((known, new), (new, known), (known[:, :1], new, known), (known, new, new)):
        found = directions.extended(np.hstack(together))
        assert found.count == 5 + room
        np.testing.assert_allclose(found.q.T @ found.q, np.eye(found.count), atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("fall", [1.0, 1.5, 3.0])
def test_the_step_minimises_the_model_and_its_dual_point_satisfies_the_equations(name, fall):
    point = Point(name)
    cost = np.eye(len(point.x))[-1]
    # From the mu for which the Newton step is shortest.
    mu = point.solve(cost)[-1] / point.solve(point.gradient)[-1] / fall
    directions = point.directions(4)
    v = directions.v
    dx, r = directions.step(point.solve(point.gradient - cost / mu))

    def model(dx):
        w = v.T @ np.tensordot(dx, point.f, 1) @ v
        value = cost @ dx / mu - point.gradient @ dx + dx @ point.hessian @ dx / 2
        sign, logarithm = np.linalg.slogdet(np.eye(4) + w)
        return value - logarithm + np.trace(w) - np.sum(w**2) / 2 if sign > 0 else np.inf

    scale = np.sqrt(np.diag(point.hessian))
    for seed in range(20):
        other = dx + 1e-2 * np.random.default_rng(seed).standard_normal(len(dx)) / scale
        assert model(other) >= model(dx)
    assert minimize(lambda s: model(dx + s / scale), np.zeros(len(dx))).fun >= model(dx) - 1e-5 * (1 + abs(model(dx)))
    dm = np.tensordot(dx, point.f, 1)
    y = mu * (point.z - point.z @ dm @ point.z + v @ r @ v.T)
    residual = np.einsum("kij,ij->k", point.f, y) - cost
    np.testing.assert_allclose(residual / (mu * scale), 0, atol=1e-5 / mu)
    np.testing.assert_allclose(root_of(r) @ root_of(r).T, r, atol=1e-10 * (1 + np.abs(r).max()))
    assert np.linalg.eigvalsh(r)[0] >= -1e-9


@pytest.mark.parametrize("name", NETWORKS)
def test_ritz_values_at_the_ends_are_eigenvalues(name):
    point = Point(name)
    dx = point.solve(point.gradient)
    step = point.system.matrix(dx, homogeneous=True)
    inverse = np.linalg.inv(point.root)
    expected = np.linalg.eigvalsh(inverse @ point.dense(step) @ inverse.T)
    values, vectors = ritz(relative(step, point.factor), len(expected), len(expected))
    assert values[[0, -1]] == pytest.approx(expected[[0, -1]], rel=1e-6, abs=1e-8 * np.abs(expected).max())
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(values)), atol=1e-9)
    some, _ = ritz(relative(step, point.factor), len(expected), 6)
    assert expected[0] - 1e-8 <= some[0] <= some[-1] <= expected[-1] + 1e-8


@pytest.mark.parametrize("name", NETWORKS)
def test_definiteness_with_an_update_of_low_rank(name):
    point, rng = Point(name), np.random.default_rng(1)
    step = point.system.matrix(rng.standard_normal(len(point.x)) * point.x, homogeneous=True)
    decided = set()
    for t in np.geomspace(1e-3, 10, 20):
        change = {key: block + t * step[key] if key in step else block
                  for key, block in point.system.matrix(point.x).items()}
        u = point.root @ rng.standard_normal((len(point.m), 3))
        truth = np.linalg.eigvalsh(point.dense(change) + u @ u.T)[0] > 0
        found = is_positive(change, u, point.factor.structure)
        assert truth or not found
        if not np.any(point.factor.structure.diagonal):
            assert found == truth
        decided.add(found)
    assert decided == {False, True}
