"""The conic form of a family: its real members against complex matrices, its optimum against our solver."""

import numpy as np
import pytest
from netgain.solvers.availability import Backend
from netgain.solvers.family import Family, SharedConstraint, scale_family
from netgain.solvers.family_conic import FamilyConic, family_program, real_member
from netgain.solvers.family_interior_point import FamilyInteriorPoint
from netgain.solvers.inequality import Inequality, SlopeConstraint
from netgain.solvers.result import Limits, Status

CHANNELS, MEMBERS = 2, 3


def stack(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.normal(size=(MEMBERS, *shape)) + 1j * rng.normal(size=(MEMBERS, *shape))) / np.sqrt(2 * shape[-1])


def family(name: str) -> Family:
    """Two layers: slopes in [0, 1]; or slopes of both signs, pairs of rows with one multiplier, rows without answer."""
    rng = np.random.default_rng(3)
    if name == "plain":
        each, low, high, kept = 1, 0.0, 1.0, (0, 1)
    else:
        each, low, high, kept = 2, -0.5, 0.75, (0, 2) if name == "pooled" else (0, 1, 2, 3)
    rows = CHANNELS * each
    constraints, size = [], 3
    for block in range(2):
        constraints.append(SharedConstraint({block: stack(rng, rows, size)}, np.full(rows, low), np.full(rows, high),
                                            np.repeat(np.arange(CHANNELS), each), np.array(kept)))
        size = len(kept)
    return Family(3, tuple(constraints), {1: stack(rng, 2, size), 2: stack(rng, 2, size)}, 2, 1, None)


def complex_matrix(family: Family, member: int, rho: float, lam: np.ndarray) -> np.ndarray:
    """M_w of the module `family`, by its definition."""
    offsets, identity = family.offsets, np.eye(family.offsets[-1])
    result = rho * identity * (np.arange(len(identity)) < family.input_size)
    first = 0
    for k, c in enumerate(family.constraints, start=1):
        v = sum(a[member] @ identity[offsets[j] : offsets[j + 1]] for j, a in c.maps.items())
        z = np.zeros_like(v)
        z[c.kept] = identity[offsets[k] : offsets[k + 1]]
        p, q = z - c.lower[:, None] * v, z - c.upper[:, None] * v
        half = p.conj().T @ (lam[first + c.variable][:, None] * q)
        result = result + half + half.conj().T
        first += c.multipliers
    y = sum(a[member] @ identity[offsets[j] : offsets[j + 1]] for j, a in family.output.items())
    return result - y.conj().T @ y


each = pytest.mark.parametrize("name", ["plain", "coupled", "pooled"])


@each
def test_members_have_the_eigenvalues_of_the_complex_matrices_twice(name):
    posed = family(name)
    w = np.random.default_rng(4).uniform(0.5, 2, 1 + posed.multipliers)
    program = family_program(posed)
    assert (program.variables, program.multipliers, len(program.blocks)) == (len(w), len(w) - 1, MEMBERS)
    for member, block in enumerate(program.blocks):
        real = (block.matrix @ w - block.constant).reshape(block.order, block.order)
        values = np.linalg.eigvalsh(complex_matrix(posed, member, w[0], w[1:]))
        np.testing.assert_allclose(real, real.T, atol=1e-12)
        np.testing.assert_allclose(np.linalg.eigvalsh(real), np.repeat(values, 2), rtol=1e-9, atol=1e-9)


@each
def test_optimum_is_that_of_the_interior_point_method(name):
    scaled = scale_family(family(name))
    conic = FamilyConic(Backend.CLARABEL).solve(scaled, Limits())
    own = FamilyInteriorPoint().solve(scaled, Limits(tolerance=1e-7))
    assert conic.status is Status.OPTIMAL
    assert conic.bound == pytest.approx(own.bound, rel=1e-6)
    assert conic.dual_bound == pytest.approx(own.dual_bound, rel=1e-6)
    assert [len(lam) for lam in conic.multipliers] == [CHANNELS, CHANNELS]


def test_memory_grows_with_the_members():
    scaled = scale_family(family("plain"))
    whole = FamilyConic(Backend.CLARABEL).memory(scaled)
    one = scale_family(family("plain").restrict(np.array([0])))
    assert whole == MEMBERS * FamilyConic(Backend.CLARABEL).memory(one) > 0


def test_heads_and_unequal_shares_are_refused():
    posed = family("plain")
    slopes = SlopeConstraint({0: np.eye(2)}, np.zeros(2), np.ones(2))
    head = Inequality(2, (slopes,), {1: np.ones((1, 2))})
    parts = {f: getattr(posed, f) for f in ("input_size", "constraints", "output", "channels", "copies")}
    with pytest.raises(ValueError, match="head"):
        real_member(Family(**parts, head=head), 0)
    rng = np.random.default_rng(5)
    uneven = SharedConstraint({0: stack(rng, 3, 3)}, np.zeros(3), np.ones(3), np.array([0, 0, 1]), np.arange(3))
    with pytest.raises(ValueError, match=r"\[1, 2\] rows"):
        real_member(Family(3, (uneven,), {1: stack(rng, 2, 3)}, 2, 1, None), 0)
