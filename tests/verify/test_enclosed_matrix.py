from fractions import Fraction

import numpy as np
import pytest
from netgain.verify.balls import from_matrix, precision
from netgain.verify.enclosed_matrix import BALLS, DOUBLE, DoubleMatrix

from .exact_inequality import is_semidefinite


def rational(array):
    return np.frompyfunc(Fraction, 1, 1)(np.asarray(array, dtype=object))


def assert_encloses(matrix, exact):
    """In rational numbers: |middle - exact| <= radius."""
    assert np.all(np.abs(rational(matrix.middle) - exact) <= rational(matrix.radius))


@pytest.fixture(params=range(8))
def rng(request):
    return np.random.default_rng(request.param)


def wild(rng, *shape):
    """Entries of very different sizes, so that sums and products round."""
    return rng.standard_normal(shape) * 10.0 ** rng.uniform(-12, 12, shape)


def test_operations_enclose_the_exact_results(rng):
    a, b, c = wild(rng, 4, 5), wild(rng, 5, 4), wild(rng, 4, 4)
    x, y, z = (rational(m) for m in (a, b, c))
    factor = float(wild(rng, 1)[0])
    product = DOUBLE.exact(a) * DOUBLE.exact(b)
    assert_encloses(product, x @ y)
    assert_encloses(product - DOUBLE.exact(c), x @ y - z)
    assert_encloses(product.transpose() + DOUBLE.exact(c), (x @ y).T + z)
    assert_encloses(DOUBLE.scaled(product, factor), x @ y * Fraction(factor))
    assert_encloses(product * DOUBLE.exact(c) * product, x @ y @ z @ x @ y)


def test_enclosed_factors_stay_enclosed(rng):
    """Every member of the operands, at the ends of the radii too, gives a member of the result."""
    middles = [wild(rng, 3, 3) for _ in range(2)]
    radii = [np.abs(m) * 10.0 ** rng.uniform(-15, -1, (3, 3)) for m in middles]
    left, right = (DoubleMatrix(m, r) for m, r in zip(middles, radii, strict=True))
    for _ in range(20):
        x, y = (rational(m) + rational(rng.choice([-1, 0, 1], (3, 3))) * rational(r)
                for m, r in zip(middles, radii, strict=True))
        assert_encloses(left * right, x @ y)
        assert_encloses(left + right, x + y)
        assert_encloses(left - right, x - y)
        assert_encloses(DOUBLE.scaled(left, 0.3), x * Fraction(0.3))


def test_radii_are_small(rng):
    a, b = rng.standard_normal((30, 30)), rng.standard_normal((30, 30))
    assert np.all((DOUBLE.exact(a) * DOUBLE.exact(b)).radius <= 1e-13 * (np.abs(a) @ np.abs(b)))


def test_inverse_diagonals_enclose(rng):
    entries, numerator = np.abs(wild(rng, 6)), float(rng.uniform(0, 2))
    exact = [Fraction(numerator) ** 2 / (16 * Fraction(entry)) for entry in entries]
    assert_encloses(DOUBLE.inverse_diagonal(numerator, 16.0, entries), rational(np.diag(exact)))
    with precision(128):
        balls = from_matrix(BALLS.inverse_diagonal(numerator, 16.0, entries))
        for i, value in enumerate(exact):
            assert abs(float(balls[i, i]) - float(value)) <= 1e-12 * float(value)


@pytest.mark.parametrize("entry", [1e-300, 5e-324, 1e70, 1e308, np.inf, np.nan])
def test_numbers_out_of_range_enclose_everything_or_fit(entry):
    """An infinite radius proves nothing, and no warning is raised on the way."""
    with np.errstate(all="ignore"):
        matrix = DOUBLE.exact(np.array([[entry, 1.0], [1.0, 1.0]]))
        product = matrix * matrix
        inverse = DOUBLE.inverse_diagonal(1.0, 16.0, np.array([entry, 1.0]))
        assert not DOUBLE.semidefinite({(0, 0): product - product}, 1)
    if entry > 1e65 or np.isnan(entry):
        assert np.all(np.isinf(matrix.radius))
        assert not DOUBLE.semidefinite({(0, 0): product}, 1)
    if not 1e-60 < entry < 1e60:
        assert not DOUBLE.semidefinite({(0, 0): inverse}, 1)


@pytest.mark.parametrize("margin", [-1e-6, -1e-12, 1e-12, 1e-6])
@pytest.mark.parametrize("blocks", [1, 2])
def test_both_arithmetics_prove_what_is_semidefinite_only(rng, margin, blocks):
    root = rng.standard_normal((4, 2))
    matrix = root @ root.T
    matrix = np.tril(matrix) + np.tril(matrix, -1).T + margin * np.eye(4)
    parts = {(0, 0): matrix} if blocks == 1 else {
        (0, 0): matrix[:2, :2], (1, 0): matrix[2:, :2], (1, 1): matrix[2:, 2:]}
    truth = is_semidefinite(rational(matrix))
    assert truth == (margin > 0)
    assert DOUBLE.semidefinite({key: DOUBLE.exact(part) for key, part in parts.items()}, blocks) == truth
    with precision(128):
        assert BALLS.semidefinite({key: BALLS.exact(part) for key, part in parts.items()}, blocks) == truth
