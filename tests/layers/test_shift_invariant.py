"""Stencils and kernels against the layers they restate."""

import itertools

import numpy as np
import pytest
from netgain.layers import (
    FLOAT,
    Add,
    AveragePool,
    BatchNormalization,
    Concatenate,
    Convolution,
    LinearLayer,
    Pad,
    Scale,
    StateSpace,
)
from netgain.layers.shift_invariant import Kernel, Stencil, add, compose, polyphase
from netgain.verify.balls import BALLS, precision, to_midpoint_radius

RNG = np.random.default_rng(0)

LAYERS = [
    (Convolution(RNG.standard_normal((4, 3, 3, 2)), strides=(2, 1), padding=((1, 0), (0, 2))), (3, 7, 6)),
    (Convolution(RNG.standard_normal((4, 2, 2, 3)), dilations=(2, 1), groups=2), (4, 6, 6)),
    (Convolution(RNG.standard_normal((2, 3, 4)), strides=(3,), padding=((2,), (2,))), (3, 11)),
    (AveragePool((2, 2), (2, 2)), (3, 6, 6)),
    (AveragePool((3,), (1,), padding=((1,), (1,)), count_include_pad=True), (2, 7)),
    (BatchNormalization(*RNG.uniform(0.5, 2, (4, 3)), trailing=2), (3, 4, 4)),
    (Scale(multiplier=3.0, divisor=np.array([7.0, 9.0])[:, None]), (2, 5)),
    (Pad(((1, 0), (2, 1))), (3, 4, 5)),
    (StateSpace(RNG.uniform(-0.9, 0.9, 3), RNG.standard_normal((3, 2)), RNG.standard_normal((2, 3))), (2, 6)),
]


def _applied(stencil: Stencil, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    result = np.zeros((len(x), *shape))
    for o in itertools.product(*map(range, shape[1:])):
        for offset, coefficient in zip(stencil.offsets, stencil.coefficients, strict=True):
            place = tuple(np.array(o) * stencil.strides + offset)
            if all(0 <= i < n for i, n in zip(place, x.shape[2:], strict=True)):
                result[(slice(None), slice(None), *o)] += x[(slice(None), slice(None), *place)] @ coefficient.T
    return result


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_a_stencil_is_the_layer(layer: LinearLayer, shape: tuple[int, ...]) -> None:
    x = RNG.standard_normal((2, *shape))
    stencil = layer.stencil(0, (shape,))
    assert stencil is not None
    expected = layer.apply(x, 0, (shape,))
    np.testing.assert_allclose(_applied(stencil, x, layer.output_shape(shape)), expected, atol=1e-12)


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_balls_enclose_the_stencil(layer: LinearLayer, shape: tuple[int, ...]) -> None:
    value = layer.stencil(0, (shape,))
    with precision(64):
        enclosed = layer.stencil(0, (shape,), BALLS)
    assert value is not None
    assert enclosed is not None
    middle, radius = to_midpoint_radius(enclosed.coefficients) if enclosed.coefficients.dtype == object else (
        enclosed.coefficients, 0.0)
    assert np.all(np.abs(middle - value.coefficients) <= radius + 1e-14 * (1 + np.abs(value.coefficients)))


@pytest.mark.parametrize("axis", [-3, -1])
def test_sums_and_concatenations(axis: int) -> None:
    shapes = ((2, 4, 4), (2, 4, 4))
    for layer in (Add((1, -1)), Concatenate(axis)):
        for position in (0, 1):
            stencil = layer.stencil(position, shapes)
            if isinstance(layer, Concatenate) and axis == -1:
                assert stencil is None
                continue
            assert stencil is not None
            x = RNG.standard_normal((1, 2, 4, 4))
            expected = layer.apply(x, position, shapes)
            np.testing.assert_allclose(_applied(stencil, x, layer.output_shape(*shapes)), expected)


def test_what_differs_from_pixel_to_pixel_has_no_stencil() -> None:
    assert AveragePool((3, 3), padding=((1, 1), (1, 1))).stencil(0, ((1, 5, 5),)) is None
    assert AveragePool((2, 2), (2, 2), ceil_mode=True).stencil(0, ((1, 5, 5),)) is None
    assert Scale(multiplier=RNG.standard_normal(5)).stencil(0, ((2, 5),)) is None


def _on_torus(kernel: Kernel, x: np.ndarray) -> np.ndarray:
    """The kernel on periodic signals of shape (columns, *cells)."""
    axes = tuple(range(1, x.ndim))
    return sum(
        np.tensordot(c, np.roll(x, tuple(-s), axes), axes=(1, 0))
        for s, c in zip(kernel.shifts, kernel.coefficients, strict=True)
    )


def _cells(x: np.ndarray, rate: tuple[int, ...]) -> np.ndarray:
    """Polyphase components of a periodic signal (channels, *pixels)."""
    cells = [n // r for n, r in zip(x.shape[1:], rate, strict=True)]
    split = x.reshape((len(x), *(n for pair in zip(cells, rate, strict=True) for n in pair)))
    axes = len(rate)
    order = (0, *range(2, 2 * axes + 1, 2), *range(1, 2 * axes, 2))
    return split.transpose(order).reshape((-1, *cells))


@pytest.mark.parametrize(("strides", "rate"), [((1, 1), (1, 1)), ((1, 1), (2, 3)), ((2, 3), (1, 1)), ((2, 1), (2, 2))])
def test_polyphase_kernels_are_the_stencil_on_a_torus(strides: tuple[int, ...], rate: tuple[int, ...]) -> None:
    offsets = np.array([(0, 0), (-1, 2), (3, -2), (5, 1)])
    stencil = Stencil(offsets, RNG.standard_normal((4, 2, 3)), strides)
    rate_in = tuple(r * s for r, s in zip(rate, strides, strict=True))
    cells = (3, 4)
    x = RNG.standard_normal((3, *(n * r for n, r in zip(cells, rate_in, strict=True))))
    expected = np.zeros((2, *(n * r for n, r in zip(cells, rate, strict=True))))
    for o in itertools.product(*map(range, expected.shape[1:])):
        for offset, coefficient in zip(offsets, stencil.coefficients, strict=True):
            place = np.mod(np.array(o) * strides + offset, x.shape[1:])
            expected[(slice(None), *o)] += coefficient @ x[(slice(None), *place)]
    np.testing.assert_allclose(_on_torus(polyphase(stencil, rate, FLOAT), _cells(x, rate_in)), _cells(expected, rate))


def test_kernels_add_and_compose_like_maps() -> None:
    first = Kernel(np.array([(0, 0), (1, -1)]), RNG.standard_normal((2, 3, 2)))
    second = Kernel(np.array([(0, 1), (1, -1), (2, 0)]), RNG.standard_normal((3, 3, 2)))
    outer = Kernel(np.array([(0, 0), (-1, 1)]), RNG.standard_normal((2, 4, 3)))
    x = RNG.standard_normal((2, 4, 5))
    total = add([first, second], FLOAT)
    np.testing.assert_allclose(_on_torus(total, x), _on_torus(first, x) + _on_torus(second, x))
    np.testing.assert_allclose(_on_torus(compose(outer, total, FLOAT), x), _on_torus(outer, _on_torus(total, x)))
    with precision(64):
        enclosed = compose(outer, total, BALLS)
    np.testing.assert_allclose(to_midpoint_radius(enclosed.coefficients)[0],
                               compose(outer, total, FLOAT).coefficients)
