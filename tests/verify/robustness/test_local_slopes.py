"""Slopes on intervals hold for all points that are sampled, and come close to what is sampled."""

import numpy as np
import pytest
from netgain.layers import Elementwise, GeluTanh, Mish, Relu
from netgain.verify.balls import BALLS, lower, precision, upper
from netgain.verify.robustness.local_slopes import enclosing_line, slopes_between, slopes_from

from ..small_networks import ACTIVATIONS

ELEMENTWISE = {name: layer for name, layer in ACTIVATIONS.items() if isinstance(layer, Elementwise)}
COUNT = 120
# Sampled slopes come this near to the ends of intervals where these are those of s'.
NEAR = 0.02


def intervals(layer, seed=0):
    """Random intervals of many widths with a point in each, some with ends at kinks."""
    rng = np.random.default_rng(seed)
    centre, width = 2 * rng.standard_normal(COUNT), 10.0 ** rng.uniform(-2, 0.7, COUNT)
    low, high = centre - width * rng.uniform(size=COUNT), centre + width * rng.uniform(size=COUNT)
    low[:10], high[10:20] = 0.0, 0.0
    low[:10], high[:10] = np.minimum(low[:10], high[:10]), np.abs(high[:10])
    low[10:20] = -np.abs(low[10:20])
    low[20], high[20] = -40.0, 40.0
    size = (3, COUNT // 3) if np.ndim(getattr(layer, "slope", 0)) else (COUNT,)
    return size, low, high


def shaped(layer):
    size, low, high = intervals(layer)
    return (size[::-1] if len(size) == 2 else size), low, high


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_slopes_between_and_from_points_are_enclosed(name):
    layer = ELEMENTWISE[name]
    shape, low, high = shaped(layer)
    rng = np.random.default_rng(1)
    with precision(64):
        least, most = slopes_between(layer, shape, low, high)
        centre = low + (high - low) * rng.uniform(size=COUNT)
        nearer, farther = slopes_from(layer, shape, BALLS.constant(centre), low, high)
    own = layer.slopes(shape)
    assert np.all(np.broadcast_to(own.lower, shape).ravel() <= least)
    assert np.all(most <= np.broadcast_to(own.upper, shape).ravel())
    assert np.all(least <= nearer)
    assert np.all(farther <= most)
    a, b = low + (high - low) * rng.uniform(size=(2, 500, COUNT))
    far = np.abs(a - b) > 1e-5

    def value(v):
        return layer.value(v.reshape((-1, *shape))).reshape(v.shape)

    between = np.where(far, (value(a) - value(b)) / np.where(far, a - b, 1.0), np.nan)
    assert np.nanmin(between - least) >= -1e-9
    assert np.nanmax(between - most) <= 1e-9
    apart = np.abs(a - centre) > 1e-5
    rise = value(a) - value(centre[None])
    secants = np.where(apart, rise / np.where(apart, a - centre, 1.0), np.nan)
    assert np.nanmin(secants - nearer) >= -1e-9
    assert np.nanmax(secants - farther) <= 1e-9
    if not isinstance(layer, Mish | GeluTanh):
        # Tight, where derivatives are sampled densely.
        grid = low + (high - low) * np.linspace(1e-6, 1 - 1e-6, 4001)[:, None]
        slopes = layer.derivative(grid.reshape((-1, *shape))).reshape(grid.shape)
        assert np.all(np.min(slopes, axis=0) - least <= NEAR)
        assert np.all(most - np.max(slopes, axis=0) <= NEAR)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_graph_lies_within_its_line(name):
    layer = ELEMENTWISE[name]
    shape, low, high = shaped(layer)
    with precision(64):
        slopes = slopes_between(layer, shape, low, high)
        line, least, most = enclosing_line(layer, shape, low, high, slopes)
    below, above = np.array([lower(ball) for ball in least]), np.array([upper(ball) for ball in most])
    grid = low + (high - low) * np.linspace(0, 1, 800)[:, None]
    g = layer.value(grid.reshape((-1, *shape))).reshape(grid.shape) - line * grid
    scale = 1 + np.max(np.abs(g), axis=0)
    assert np.all(g >= below - 1e-12 * scale)
    assert np.all(g <= above + 1e-12 * scale)
    # No wider than the parallelogram of all slopes.
    assert np.all(above - below <= (slopes[1] - slopes[0]) * (high - low) / 2 * (1 + 1e-9) + 1e-9)


def test_lines_of_relu_are_those_of_the_literature():
    low, high = np.array([-1.0, -3.0, 1.0, -2.0]), np.array([1.0, 1.0, 2.0, -1.0])
    with precision(64):
        slopes = slopes_between(Relu(), (4,), low, high)
        line, least, most = enclosing_line(Relu(), (4,), low, high, slopes)
    assert list(zip(*slopes, strict=True)) == [(0, 1), (0, 1), (1, 1), (0, 0)]
    assert line == pytest.approx([0.5, 0.25, 1.0, 0.0])
    assert [float(b - a) for a, b in zip(least, most, strict=True)] == pytest.approx([0.5, 0.75, 0.0, 0.0], abs=1e-15)


def test_secants_of_relu_are_exact():
    with precision(64):
        nearer, farther = slopes_from(Relu(), (3,), BALLS.constant(np.array([1.0, -1.0, 2.0])),
                                      np.array([-1.0, -2.0, 1.0]), np.array([2.0, 3.0, 5.0]))
    assert nearer == pytest.approx([0.5, 0.0, 1.0])
    assert farther == pytest.approx([1.0, 0.75, 1.0])
    assert (nearer[2], farther[2]) == (1.0, 1.0)
