import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from flint import arb, arb_mat
from netgain.verify import positive_definite
from netgain.verify.balls import precision
from netgain.verify.positive_definite import gamma, proved_in_balls, proved_in_double, refuted_in_double

from .exact_inequality import is_semidefinite

PARTITIONS = [(1,), (2,), (1, 1), (2, 1), (1, 2, 1), (2, 2), (1, 1, 1, 1), (4,), (3, 2)]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def blocks(matrix, sizes):
    starts = np.cumsum([0, *sizes])
    return {
        (i, j): matrix[starts[i] : starts[i + 1], starts[j] : starts[j + 1]]
        for i in range(len(sizes))
        for j in range(i + 1)
        if i == j or np.any(matrix[starts[i] : starts[i + 1], starts[j] : starts[j + 1]])
    }


def double(matrix, radius, sizes):
    return proved_in_double(blocks(matrix, sizes), blocks(radius, sizes), len(sizes))


def in_balls(matrix, radius, sizes, bits=256):
    with precision(bits):
        table = {key: arb_mat([[arb(float(m), float(r)) for m, r in zip(*rows, strict=True)]
                               for rows in zip(block, blocks(radius + 1e-320, sizes)[key], strict=True)])
                 for key, block in blocks(matrix, sizes).items()}
        return proved_in_balls(table, len(sizes))


def rational(matrix):
    return np.frompyfunc(Fraction, 1, 1)(matrix)


def all_semidefinite(matrix, radius):
    """Whether every symmetric matrix within the radius is semidefinite: it suffices to look at these (Rohn 1994)."""
    exact, width = rational(matrix), rational(radius)
    signs = (np.array((1, *rest)) for rest in itertools.product((1, -1), repeat=len(matrix) - 1))
    return all(is_semidefinite(exact - sign[:, None] * width * sign) for sign in signs)


def nearly_singular(rng, size):
    """A symmetric float64 matrix within rounding of a singular semidefinite one."""
    root = rng.standard_normal((size, int(rng.integers(1, max(size, 2))))) * np.exp(rng.normal(0, 2, (size, 1)))
    return np.tril(root @ root.T) + np.tril(root @ root.T, -1).T


def radius_of(rng, matrix):
    kind = rng.integers(3)
    if kind == 0:
        return np.zeros_like(matrix)
    width = 10.0 ** rng.uniform(-17, -12) * np.sqrt(np.outer(np.diag(matrix), np.diag(matrix)))
    width = width * (rng.random(matrix.shape) if kind == 1 else 1.0)
    return np.tril(width) + np.tril(width, -1).T


def shifted(matrix, margin):
    return matrix + np.diag(margin * np.diag(matrix))


def least_margin(matrix, radius, sizes):
    """A relative shift of the diagonal with which the matrix is proved, and with little less it is not."""
    low, high = -1e-15, 1e-10
    assert double(shifted(matrix, high), radius, sizes)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if double(shifted(matrix, middle), radius, sizes) else (middle, high)
    return high


@pytest.mark.parametrize("sizes", PARTITIONS)
def test_the_least_margin_proved_in_double_is_enough_and_small(sizes, rng):
    for _ in range(25):
        matrix = nearly_singular(rng, sum(sizes))
        radius = radius_of(rng, matrix)
        margin = least_margin(matrix, radius, sizes)
        assert all_semidefinite(shifted(matrix, margin), radius)
        width = (radius / np.sqrt(np.outer(np.diag(matrix), np.diag(matrix)))).max()
        assert margin <= 1e-13 + 10 * len(matrix) * width


@pytest.mark.parametrize("sizes", PARTITIONS)
def test_random_matrices_at_the_border_are_never_proved_wrongly(sizes, rng):
    decided = 0
    for _ in range(300):
        matrix = nearly_singular(rng, sum(sizes))
        radius = radius_of(rng, matrix) * rng.integers(2)
        margin = rng.choice([-1, 1]) * 10.0 ** rng.uniform(-18, -9)
        matrix = shifted(matrix, margin)
        if double(matrix, radius, sizes):
            decided += 1
            assert all_semidefinite(matrix, radius)
    assert decided > 50


@pytest.mark.parametrize("sizes", PARTITIONS)
def test_what_is_refuted_is_indefinite_and_what_is_clearly_so_is_refuted(sizes, rng):
    refuted = 0
    for _ in range(200):
        matrix = nearly_singular(rng, sum(sizes))
        radius = radius_of(rng, matrix) * rng.integers(2)
        margin = rng.choice([-1, 1]) * 10.0 ** rng.uniform(-9, -2)
        matrix = shifted(matrix, margin)
        asked = (blocks(matrix, sizes), blocks(radius + 1e-320, sizes), len(sizes))
        if refuted_in_double(*asked):
            refuted += 1
            assert not is_semidefinite(rational(matrix))
    assert sum(sizes) == 1 or refuted > 20
    wide = np.full((2, 2), 1.0)
    assert not refuted_in_double(blocks(np.array([[1.0, 1.1], [1.1, 1.0]]), (1, 1)), blocks(wide, (1, 1)), 2)
    assert refuted_in_double(blocks(np.array([[1.0, 0.0], [0.0, -1.0]]), (2,)), blocks(0 * wide, (2,)), 1)


@pytest.mark.parametrize("sizes", PARTITIONS)
def test_balls_decide_what_is_definite_by_any_margin(sizes, rng):
    for _ in range(40):
        matrix = nearly_singular(rng, sum(sizes))
        radius = np.zeros_like(matrix)
        margin = rng.choice([-1, 1]) * 10.0 ** rng.uniform(-18, -9)
        matrix = shifted(matrix, margin)
        # Rounded, none of them is singular: semidefinite ones are definite.
        assert in_balls(matrix, radius, sizes, 1024) == is_semidefinite(rational(matrix))


@pytest.mark.parametrize(("corner", "semidefinite"), [
    (1 - 2.0**-53, False), (1.0, True), (1 + 2.0**-52, True), (1 - 1e-11, False), (1 + 1e-11, True),
])
def test_two_by_two(corner, semidefinite):
    matrix, nothing = np.array([[1.0, 1.0], [1.0, corner]]), np.zeros((2, 2))
    for sizes in ((2,), (1, 1)):
        proved = double(matrix, nothing, sizes)
        assert semidefinite or not proved
        assert proved == semidefinite or abs(corner - 1) < 1e-12
        assert in_balls(matrix, nothing, sizes) == (corner > 1)


@pytest.mark.parametrize("exponent", [-500, -160, 160, 500])
@pytest.mark.parametrize("sizes", [(2,), (1, 1)])
def test_units_do_not_matter(sizes, exponent):
    scales = np.array([1.0, 2.0**exponent])
    for corner, proved in ((1 - 1e-12, False), (1 + 1e-12, True)):
        matrix = scales[:, None] * np.array([[1.0, 1.0], [1.0, corner]]) * scales
        assert double(matrix, np.zeros((2, 2)), sizes) == proved


@pytest.mark.parametrize("entry", [5e-324, 1e-310, 1e308])
def test_numbers_at_the_ends_of_the_range_neither_crash_nor_prove(entry):
    for other in (5e-324, 1.0, 1e308):
        matrix = np.array([[entry, max(entry, other)], [max(entry, other), other]])
        if not is_semidefinite(rational(matrix)):
            assert not double(matrix, np.zeros((2, 2)), (2,))
            assert not double(matrix, np.zeros((2, 2)), (1, 1))
    assert double(np.diag([entry, 1.0]), np.zeros((2, 2)), (1, 1))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("sizes", [(3,), (1, 2), (1, 1, 1)])
def test_what_is_not_finite_proves_nothing(bad, sizes):
    for at in itertools.combinations_with_replacement(range(3), 2):
        for where in range(2):
            pair = [3 * np.eye(3) + 0.5, np.full((3, 3), 1e-3)]
            assert double(*pair, sizes)
            pair[where][at] = pair[where][at[::-1]] = bad
            assert not double(*pair, sizes)
            if where == 0 and bad != math.inf:  # an infinite square would only be too large
                assert not in_balls(*pair, sizes)


def test_of_a_diagonal_block_only_the_lower_triangle_counts(rng):
    for _ in range(20):
        matrix = shifted(nearly_singular(rng, 4), rng.choice([-1e-12, 1e-12]))
        other = matrix + np.triu(rng.standard_normal((4, 4)), 1) * 1e-10 * np.abs(matrix)
        assert double(matrix, np.zeros((4, 4)), (4,)) == double(other, np.zeros((4, 4)), (4,))


def test_zero_and_negative_pivots_prove_nothing():
    nothing = np.zeros((2, 2))
    diagonals = [(0.0, 0.0), (1.0, 0.0), (1.0, -0.0), (-1.0, 1.0)]
    for matrix in (*(np.diag(entries) for entries in diagonals), np.array([[0.0, 1.0], [1.0, 0.0]])):
        for sizes in ((2,), (1, 1)):
            assert not double(matrix, nothing, sizes)
            assert not in_balls(matrix, nothing, sizes)


@pytest.mark.parametrize("margin", [-1e-11, 1e-11])
def test_long_chains_are_decided(margin, rng):
    """Blocks (i, i - 1) and one skip, so that elimination fills in; singular but for the margin."""
    sizes, count = (20,) * 6, 6
    root = np.zeros((120, 120))
    for i, j in [(i, i) for i in range(count)] + [(i, i - 1) for i in range(1, count)] + [(5, 0)]:
        root[20 * i : 20 * i + 20, 20 * j : 20 * j + 20] = rng.standard_normal((20, 20)) / 5
    matrix = root @ root.T
    matrix -= np.linalg.eigvalsh(matrix)[0] * np.eye(120)
    matrix += margin * np.eye(120)
    assert double(matrix, np.zeros_like(matrix), sizes) == (margin > 0)
    assert in_balls(matrix, np.zeros_like(matrix), sizes) == (margin > 0)


@pytest.mark.parametrize("margin", [-1e-11, 1e-11])
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("count", [4, 5, 7])
def test_rings_fill_in(count, size, margin):
    """2 I less the neighbours on a ring: singular, and elimination joins the last block to every other."""
    ring = np.eye(count, k=1) + np.eye(count, k=-1)
    ring[0, -1] = ring[-1, 0] = 1
    matrix = np.kron((2 + margin) * np.eye(count) - ring, np.eye(size))
    sizes = (size,) * count
    assert double(matrix, np.zeros_like(matrix), sizes) == (margin > 0)
    assert in_balls(matrix, np.zeros_like(matrix), sizes) == (margin > 0)


@pytest.mark.parametrize("sizes", [(3,), (1, 2), (1, 1, 1)])
def test_a_broken_factorisation_proves_nothing(sizes, monkeypatch):
    """Nothing is assumed of the factor: it is multiplied out and compared."""
    nothing = np.zeros((3, 3))
    for corner, size in ((-1.0, 1.0), (0.999, 1.0), (1.0, 0.999), (1.0, 1.001), (1.0, 0.0), (1.0, math.nan)):
        columns = [{k: size * np.eye(n)} for k, n in enumerate(sizes)]
        monkeypatch.setattr(positive_definite, "_cholesky", lambda matrix, sizes, columns=columns: columns)
        matrix = np.eye(3)
        matrix[2, 2] = corner
        matrix[2, 0] = matrix[0, 2] = 1.0
        assert not double(matrix, nothing, sizes)
    monkeypatch.undo()
    assert double(np.eye(3), nothing, sizes)


def test_balls_too_wide_to_solve_with_decide_nothing(rng):
    for size in (2, 3, 5):
        for width in np.geomspace(1e-12, 1.0, 40):
            matrix = nearly_singular(rng, size) + 1e-6 * np.eye(size)
            joint = np.block([[matrix, np.ones((size, 1))], [np.ones((1, size)), np.full((1, 1), 1e9)]])
            if in_balls(joint, np.full_like(joint, width), (size, 1), 53):
                assert all_semidefinite(joint, np.full_like(joint, width))


def test_an_unsolvable_block_is_undecided_not_an_error(monkeypatch):
    wide = arb_mat([[arb(1, 2), arb(1, 2)], [arb(1, 2), arb(1, 2)]])
    with pytest.raises(ZeroDivisionError):
        wide.solve(arb_mat([[1], [1]]))
    monkeypatch.setattr("netgain.verify.positive_definite._pivots_positive", lambda matrix: True)
    assert not proved_in_balls({(0, 0): wide, (1, 0): arb_mat([[1, 1]]), (1, 1): arb_mat([[9]])}, 2)


@pytest.mark.parametrize("sizes", [(24,), (10, 14), (8, 8, 8)])
def test_the_residual_is_bounded_for_any_factor(sizes, rng, monkeypatch):
    """Also where the rounded residual vanishes: the matrix is the rounded product of the factor with itself."""
    total, count = sum(sizes), len(sizes)
    starts = np.cumsum([0, *sizes])
    for _ in range(3):
        factor = np.linalg.qr(rng.standard_normal((total, total)))[0]
        for k in range(count):  # block lower triangular
            factor[: starts[k], starts[k] : starts[k + 1]] = 0
        cut = [slice(a, b) for a, b in itertools.pairwise(starts)]
        columns = [{i: factor[cut[i], cut[k]] for i in range(k, count)} for k in range(count)]
        product = {(i, j): sum(columns[k][i] @ columns[k][j].T for k in range(j + 1))
                   for i in range(count) for j in range(i + 1)}
        monkeypatch.setattr(positive_definite, "_cholesky", lambda matrix, sizes, columns=columns: columns)
        for shift in (0.0, 1e-16, 1e-15, 1e-10):
            shifts = [np.full(size, shift) for size in sizes]
            bound = np.concatenate(positive_definite._residual(product, shifts, sizes))
            whole = np.zeros((total, total))
            for (i, j), block in product.items():
                whole[cut[i], cut[j]] = np.tril(block) if i == j else block
            whole = np.tril(whole) + np.tril(whole, -1).T
            exact = rational(whole) - rational(np.diag(np.full(total, shift))) - rational(factor) @ rational(factor).T
            needed = np.abs(exact).sum(axis=1)
            # What is short of a shift by its own rounding is within the slack of 1e-9 of that shift.
            assert all(Fraction(b) + Fraction(1e-9) * Fraction(shift) >= n for b, n in zip(bound, needed, strict=True))


def test_gamma_bounds_accumulated_rounding():
    unit = Fraction(1, 2**53)
    for operations in (1, 2, 10, 1000, 10**6):
        assert Fraction(gamma(operations)) * (1 + 2 * unit) >= (1 + unit) ** min(operations, 1000) - 1


@pytest.mark.parametrize("sizes", PARTITIONS)
def test_stacks_are_decided_one_by_one(sizes, rng):
    """Each as if it stood alone, next to neighbours that are indefinite, not finite or badly scaled."""
    matrices, radii = [], []
    for margin in (1e-9, -1e-9, 1e-13, 1e-10, 1e-9, 1e-9, 1e-9):
        matrices.append(shifted(nearly_singular(rng, sum(sizes)), margin))
        radii.append(radius_of(rng, matrices[-1]) * 1e-2)
    matrices[4] = -matrices[4]
    matrices[5] = matrices[5] * np.nan
    radii[6] = radii[6] + np.inf
    alone = [double(m, r, sizes) for m, r in zip(matrices, radii, strict=True)]
    parts = [[blocks(m, sizes) for m in given] for given in (matrices, radii)]
    keys = {key: next(part[key] for part in (*parts[0], *parts[1]) if key in part).shape
            for given in parts for part in given for key in part}
    stacks = [{key: np.stack([part.get(key, np.zeros(shape)) for part in given]) for key, shape in keys.items()}
              for given in parts]
    assert alone == positive_definite.decided_in_double(*stacks, len(sizes)).tolist()
    assert alone[0]
    assert not any(alone[4:])
    assert not proved_in_double(*stacks, len(sizes))
    first = [{key: stack[:1] for key, stack in given.items()} for given in stacks]
    assert proved_in_double(*first, len(sizes))


def test_one_block_of_a_stack_may_be_common_to_all():
    coupling = np.array([0.5, 0.99, 1.01, -0.5])[:, None, None] * np.ones((1, 1))
    one, zero = np.eye(1), np.zeros((1, 1))
    middle = {(0, 0): one, (1, 0): coupling, (1, 1): one}
    radius = {(0, 0): zero, (1, 0): 0 * coupling, (1, 1): zero}
    assert positive_definite.decided_in_double(middle, radius, 2).tolist() == [True, True, False, True]
