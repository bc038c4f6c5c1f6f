"""Enclosures in double precision against rational numbers, and the rows the checker starts from against balls."""

from fractions import Fraction

import numpy as np
import pytest
from netgain.layers import (
    Add,
    Affine,
    AveragePool,
    BatchNormalization,
    Convolution,
    Flatten,
    GraphBuilder,
    MaxPool,
    Mean,
    Relu,
    Scale,
    sequential,
)
from netgain.verify.balls import BALLS, precision
from netgain.verify.constraints import constraint_rows, is_zero
from netgain.verify.enclosure import Enclosure

from .small_networks import BANK

_exact = np.frompyfunc(Fraction, 1, 1)


def random(rng, *shape):
    """Numbers of very different size, some of them zero, known to within a part of themselves."""
    mid = rng.standard_normal(shape) * np.exp(rng.uniform(-20, 20, shape)) * (rng.random(shape) < 0.7)
    rad = np.abs(mid) * rng.choice([0.0, 1e-16, 1e-3], shape)
    return Enclosure(mid, rad)


def members(rng, enclosure):
    """Extreme and inner members, as rational numbers."""
    for share in (np.ones(enclosure.shape), -np.ones(enclosure.shape), rng.uniform(-1, 1, enclosure.shape)):
        yield _exact(enclosure.mid) + _exact(share) * _exact(enclosure.rad)


def holds(enclosure, numbers):
    return np.all(np.abs(_exact(enclosure.mid) - numbers) <= _exact(enclosure.rad))


@pytest.mark.parametrize("seed", range(5))
def test_operations_enclose_what_rational_numbers_give(seed):
    rng = np.random.default_rng(seed)
    a, b, c = random(rng, 4, 6), random(rng, 6, 5), random(rng, 4, 6)
    exact = rng.standard_normal((4, 6)) + 3
    for x, y, z in zip(members(rng, a), members(rng, b), members(rng, c), strict=True):
        assert holds(a @ b, x @ y)
        assert holds(a + c, x + z)
        assert holds(a * c, x * z)
        assert holds(a / exact, x / _exact(exact))
        assert holds(a.T.reshape((3, 8))[1:], x.T.reshape(3, 8)[1:])


def test_underflow_is_enclosed_and_zeros_stay_zeros():
    tiny = Enclosure.of(np.array([[1e-200, 0.0]]))
    product = tiny @ np.array([[1e-200, 0.0], [0.0, 1.0]])
    assert holds(product, np.array([[Fraction(1e-200) ** 2, Fraction(0)]]))
    assert product.rad[0, 0] > 0
    assert product.rad[0, 1] == 0
    assert (Enclosure.of(np.zeros((2, 2))) @ np.ones((2, 2))).is_zero
    assert (Enclosure.of(np.zeros((2, 2))) * np.ones((2, 2))).is_zero


def test_only_exact_numbers_divide():
    with pytest.raises(ValueError, match="exact"):
        Enclosure.of(np.ones(2)) / Enclosure(np.ones(2), np.ones(2))


def composed():
    rng = np.random.default_rng(0)
    normalisation = BatchNormalization(*rng.uniform(0.5, 2, (4, 3)), trailing=2)
    around = ((1, 1), (1, 1))
    return sequential((2, 7, 7), [
        Scale(rng.uniform(1, 2, (2, 1, 1)), 3.0), Convolution(rng.standard_normal((3, 2, 3, 3)), padding=around),
        normalisation, Relu(), AveragePool((3, 3), (2, 2)), Convolution(rng.standard_normal((2, 3, 2, 2))),
        MaxPool((2, 2), (1, 1), padding=((1, 1), (0, 0))), Mean((-1,)), Flatten(), Affine(rng.standard_normal((3, 4))),
        Affine(rng.standard_normal((2, 3)))])


def branched():
    rng = np.random.default_rng(1)
    builder = GraphBuilder()
    x = builder.input((2, 4, 4))
    first = builder.add(AveragePool((2, 2), (2, 2)), builder.add(Convolution(rng.standard_normal((2, 2, 1, 1))), x))
    second = builder.add(Convolution(rng.standard_normal((2, 2, 2, 2)), strides=(2, 2)), x)
    total = builder.add(Relu(), builder.add(Add((1, -1)), first, second))
    return builder.build(builder.add(Affine(rng.standard_normal((2, 8))), builder.add(Flatten(), total)))


NETWORKS = BANK | {"composed": composed(), "branched": branched()}


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_in_double_enclose_the_same_numbers_as_balls(name):
    graph = NETWORKS[name]
    with precision(300):
        balls, double = constraint_rows(graph, BALLS), constraint_rows(graph, BALLS, in_double=True)
    assert [layer.node for layer in balls.activations] == [layer.node for layer in double.activations]
    pairs = [(a.maps, b.maps) for a, b in zip(balls.activations, double.activations, strict=True)]
    for exact, enclosed in [*pairs, (balls.output, double.output)]:
        assert exact.keys() == enclosed.keys()
        for block in exact:
            found = enclosed[block]
            if not isinstance(found, Enclosure):
                assert np.array_equal(found, exact[block]) or found.dtype == object
                continue
            assert is_zero(found) == is_zero(exact[block])
            with precision(300):
                wide, narrow = found.balls(), BALLS.constant(np.zeros(found.shape)) + exact[block]
            assert all(a.contains(b) for a, b in zip(wide.ravel(), narrow.ravel(), strict=True))
            assert np.all(found.rad <= 1e-12 * max(np.abs(found.mid).max(), 1e-300))
    if name in ("composed", "branched"):
        assert any(isinstance(a, Enclosure) for layer in double.activations for a in layer.maps.values())
