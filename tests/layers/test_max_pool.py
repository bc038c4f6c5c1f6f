"""Max pooling against its definition, window by window."""

import collections
import itertools

import flint
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from netgain.layers import (
    Affine,
    Convolution,
    Flatten,
    GraphBuilder,
    MaxPool,
    ModelError,
    NonlinearLayer,
    Relu,
    ShapeError,
    sequential,
)
from netgain.layers.differential import Linearisation
from netgain.layers.dynamics import lower
from netgain.verify.balls import BALLS, precision
from netgain.verify.inspection import summarise
from netgain.verify.lower_bound import WitnessSearch, prove_witness

SETTINGS = settings(max_examples=100, deadline=None)


@st.composite
def poolings(draw):
    """A layer with every attribute at random, an input shape it fits, and a seed."""
    axes = draw(st.integers(1, 3))

    def sizes(least, most):
        return st.tuples(*[st.integers(least, most)] * axes)

    layer = MaxPool(draw(sizes(1, 4)), draw(sizes(1, 4)), draw(sizes(1, 2)), (draw(sizes(0, 3)), draw(sizes(0, 3))),
                    draw(st.booleans()))
    shape = (draw(st.integers(1, 3)), *draw(sizes(1, 7 if axes < 3 else 4)))
    try:
        layer.output_shape(shape)
    except ShapeError:
        assume(False)
    return layer, shape, draw(st.integers(0, 2**32 - 1))


def read(layer, shape):
    """The spatial entries each window reads, in row-major order, by window."""
    result = {}
    for window in np.ndindex(layer.output_shape(shape)[1:]):
        along = [[o * s - b + k * d for k in range(size)] for o, s, b, size, d in zip(
            window, layer.strides, layer.padding[0], layer.kernel, layer.dilations, strict=True)]
        inside = [[p for p in places if 0 <= p < n] for places, n in zip(along, shape[1:], strict=True)]
        result[window] = list(itertools.product(*inside))
    return result


def maxima(layer, x):
    result = np.empty((len(x), *layer.output_shape(x.shape[1:])))
    for window, entries in read(layer, x.shape[1:]).items():
        result[(..., *window)] = np.max([x[(..., *entry)] for entry in entries], axis=0)
    return result


@given(poolings())
@SETTINGS
def test_each_window_gives_its_largest_entry(case):
    layer, shape, seed = case
    x = np.random.default_rng(seed).standard_normal((2, *shape))
    assert np.array_equal(layer.forward(x), maxima(layer, x))
    assert np.array_equal(layer.forward(x - 100), maxima(layer, x - 100))  # padding is not zero


@given(poolings())
@SETTINGS
def test_reuse_counts_the_windows_over_an_entry_and_bounds_the_gain(case):
    layer, shape, seed = case
    counts = collections.Counter(entry for entries in read(layer, shape).values() for entry in entries)
    assert layer.reuse(shape) == max(counts.values())
    rng = np.random.default_rng(seed)
    x, entry = rng.standard_normal((20, *shape)), counts.most_common(1)[0][0]
    y = x + rng.standard_normal((20, *shape))
    changes, steps = (np.sum(d.reshape(20, -1) ** 2, axis=1) for d in (layer.forward(x) - layer.forward(y), x - y))
    assert np.all(changes <= layer.reuse(shape) * steps * (1 + 1e-12))
    peak = np.zeros((1, *shape))
    peak[(0, 0, *entry)] = 1
    assert np.sum(layer.forward(peak) ** 2) == layer.reuse(shape)


@pytest.mark.parametrize(("kernel", "stride", "expected"), [(2, 2, 1), (3, 2, 4), (3, 1, 9), (2, 3, 1), (5, 3, 4)])
def test_reuse_is_the_overlap_of_kernels_and_strides(kernel, stride, expected):
    layer = MaxPool((kernel, kernel), (stride, stride))
    assert layer.reuse((1, 20, 20)) == expected == (-(-kernel // stride)) ** 2
    assert layer.reuse((1, kernel, kernel)) == 1  # there is but one window


@given(poolings(), st.booleans())
@SETTINGS
def test_balls_enclose_all_maxima_and_little_more(case, ties):
    layer, shape, seed = case
    rng = np.random.default_rng(seed)
    # Numbers of few digits, so that sums with the radii are exact.
    size = 2 if ties else 2**20
    middle = rng.integers(-size, size, (1, *shape)) / size
    radius = rng.choice([0.0, 0.0, 2.0**-20, 0.25], middle.shape)
    with precision(80):
        balls = np.frompyfunc(flint.arb, 2, 1)(middle, radius)
        image = layer.forward(balls, arithmetic=BALLS)
        assert image.shape == (1, *layer.output_shape(shape))
        highs, lows = maxima(layer, middle + radius), maxima(layer, middle - radius)
        for ball, low, high in zip(image.ravel(), lows.ravel(), highs.ravel(), strict=True):
            assert ball.contains(flint.arb(low))
            assert ball.contains(flint.arb(high))
            assert float(ball.rad()) <= (high - low) / 2 * (1 + 1e-6)  # radii have 30 bits
        exact = layer.forward(BALLS.constant(middle), arithmetic=BALLS)
        assert all(a == flint.arb(b) for a, b in zip(exact.ravel(), maxima(layer, middle).ravel(), strict=True))


@given(poolings())
@SETTINGS
def test_the_derivative_selects_and_its_transposed_is_the_adjoint(case):
    layer, shape, seed = case
    rng = np.random.default_rng(seed)
    x, dx = rng.standard_normal((3, *shape)), rng.standard_normal((3, *shape))
    tangent = layer.apply_derivative(x, dx)
    np.testing.assert_allclose((layer.forward(x + 1e-9 * dx) - layer.forward(x)) / 1e-9, tangent, atol=1e-5)
    dy = rng.standard_normal(tangent.shape)
    adjoint = layer.apply_derivative_transposed(x, dy)
    assert adjoint.shape == x.shape
    np.testing.assert_allclose(np.sum(dy * tangent), np.sum(adjoint * dx), rtol=1e-10, atol=1e-10)


@given(poolings())
@SETTINGS
def test_where_entries_tie_the_derivative_is_one_of_a_point_nearby(case):
    layer, shape, seed = case
    rng = np.random.default_rng(seed)
    x, dx = rng.integers(0, 2, (2, *shape)).astype(float), rng.standard_normal((2, *shape))
    # Nearby, of equal entries the first is the largest.
    nearby = x - 1e-6 * np.arange(x.size).reshape(x.shape)
    assert np.array_equal(layer.apply_derivative(x, dx), layer.apply_derivative(nearby, dx))


@given(poolings())
@SETTINGS
def test_a_soft_maximum_is_a_mean_that_tends_to_the_derivative(case):
    layer, shape, seed = case
    rng = np.random.default_rng(seed)
    x = rng.permutation(2 * int(np.prod(shape))).reshape((2, *shape)).astype(float)  # no two are nearly equal
    dx, dy = rng.standard_normal(x.shape), rng.standard_normal((2, *layer.output_shape(shape)))
    np.testing.assert_allclose(layer.softened(x, 0.01).apply(dx), layer.apply_derivative(x, dx), rtol=1e-12)
    soft, step = layer.softened(x, 3.0), 1e-4
    np.testing.assert_allclose(soft.apply(np.ones(x.shape)), 1, rtol=1e-13)
    np.testing.assert_allclose(np.sum(dy * soft.apply(dx)), np.sum(soft.transpose(dy) * dx), rtol=1e-10, atol=1e-10)
    towards = rng.standard_normal(x.shape)
    above, below = (np.sum(dy * layer.softened(x + s * towards, 3.0).apply(dx)) for s in (step, -step))
    np.testing.assert_allclose(np.sum(soft.gradient(dy, dx) * towards), (above - below) / (2 * step), atol=1e-6)


@given(poolings())
@SETTINGS
def test_it_agrees_with_torch(case):
    torch = pytest.importorskip("torch")
    layer, shape, seed = case
    begins = tuple(min(b, k // 2) for b, k in zip(layer.padding[0], layer.kernel, strict=True))
    layer = MaxPool(layer.kernel, layer.strides, layer.dilations, (begins, begins), layer.ceil_mode)  # all torch has
    x = torch.tensor(np.random.default_rng(seed).standard_normal((2, *shape)))
    functional = torch.nn.functional
    function = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[len(shape) - 2]
    try:
        expected = function(x, layer.kernel, layer.strides, begins, layer.dilations, layer.ceil_mode).numpy()
    except RuntimeError:
        expected = np.array(-np.inf)  # as where a window reads nothing
    if np.all(np.isfinite(expected)):
        assert np.array_equal(layer.forward(x.numpy()), expected)
    else:
        with pytest.raises(ShapeError):
            layer.output_shape(shape)


@pytest.mark.parametrize(("layer", "shape", "message"), [
    (MaxPool((2, 2)), (3, 8), "2 axes takes channels"),
    (MaxPool((2,)), (3, 1), "does not fit"),
    (MaxPool((2,), (2,), padding=((2,), (0,))), (3, 4), "lies in the padding and reads nothing"),
])
def test_shapes_that_do_not_fit_are_named(layer, shape, message):
    with pytest.raises(ShapeError, match=message):
        layer.output_shape(shape)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: MaxPool(()), "at least one axis"),
    (lambda: MaxPool((0,)), "`kernel`"),
    (lambda: MaxPool((2,), (0,)), "`strides`"),
    (lambda: MaxPool((2,), padding=((1,), (-1,))), "`padding`"),
])
def test_parameters_without_meaning_are_refused(make, message):
    with pytest.raises(ModelError, match=message):
        make()


def pooled():
    """A network with an overlapping pooling between activations, and a skip around it."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder()
    x = builder.input((1, 6, 6))
    h = builder.add(Relu(), builder.add(Convolution(rng.standard_normal((2, 1, 3, 3)), rng.standard_normal(2)), x))
    pool = builder.add(MaxPool((3, 3), (1, 1), padding=((1, 1), (1, 1))), h, name="pool")
    second = builder.add(Convolution(rng.standard_normal((1, 2, 2, 2)), padding=((0, 0), (1, 1))), pool)
    flat = builder.add(Affine(rng.standard_normal((3, 16))), builder.add(Flatten(), builder.add(Relu(), second)))
    return builder.build(flat)


def test_it_is_a_step_of_the_dynamical_system():
    system = lower(pooled())
    assert [step.node for step in system.steps] == ["relu", "pool", "relu_2"]
    assert [step.reads for step in system.steps] == [("input",), ("relu",), ("pool",)]
    assert system.widest_cut == 36


def test_a_network_with_it_is_linearised():
    graph, rng = pooled(), np.random.default_rng(1)
    assert isinstance(graph.layer("pool"), NonlinearLayer)
    x, dx = rng.standard_normal((4, 1, 6, 6)), rng.standard_normal((4, 1, 6, 6))
    here = Linearisation(graph, x)
    quotient = (graph.forward(x + 1e-8 * dx) - graph.forward(x - 1e-8 * dx)) / 2e-8
    np.testing.assert_allclose(here.apply(dx), quotient, atol=1e-5)
    dy = rng.standard_normal((4, 3))
    np.testing.assert_allclose(np.sum(here.apply(dx) * dy), np.sum(dx * here.transpose(dy)), rtol=1e-12)


def test_the_gradient_of_the_gain_sees_which_entry_is_the_largest():
    """After a linear layer the widths of the shares are all that stands between the formula and the derivative."""
    rng = np.random.default_rng(2)
    graph = sequential((1, 6), [Convolution(rng.standard_normal((2, 1, 2))), MaxPool((3,), (2,)), Flatten()])
    x, q, p = rng.standard_normal((1, 1, 6)), rng.standard_normal((1, 1, 6)), rng.standard_normal((1, 4))
    convolution, pool = (graph.layer(name) for name in graph.order[1:3])
    v, dv = convolution.forward(x), convolution.apply(q, 0, ((1, 6),))
    width = 0.3 * np.sqrt(np.mean(v**2))

    def gain(x):
        return np.sum(p * pool.softened(convolution.forward(x), width).apply(dv).reshape(1, -1))

    here = Linearisation(graph, x, smoothing=0.3)
    assert np.sum(p * here.apply(q)) == pytest.approx(gain(x))
    np.testing.assert_allclose(np.sum(here.apply(q) * p), np.sum(q * here.transpose(p)), rtol=1e-12)
    unit = 1e-5 * np.eye(6).reshape(6, 1, 1, 6)
    expected = [(gain(x + step) - gain(x - step)) / 2e-5 for step in unit]
    np.testing.assert_allclose(here.gain_gradient(p, q).ravel(), expected, rtol=1e-6, atol=1e-8)


def test_witnesses_reach_the_gain_of_the_pooling():
    """Between pairs that move the entry which every window reads, the gain is the square root of the reuse."""
    graph = sequential((1, 5, 5), [MaxPool((3, 3), (1, 1))])
    x = np.zeros((1, 5, 5))
    x[0, 2, 2] = 1
    assert prove_witness(graph, x, 2 * x) == pytest.approx(3, rel=1e-8)
    assert prove_witness(graph, x, 2 * x) <= 3
    found = WitnessSearch(starts=16, steps=20).find(graph)
    assert 2 < found.ratio <= 3
    assert found.ratio == pytest.approx(prove_witness(graph, found.x, found.x_prime))


def test_the_layer_table_says_what_a_window_does():
    (row,) = [row for row in summarise(pooled()) if row.name == "pool"]
    assert row.kind == "MaxPool 3x3"
    assert row.slopes == "[0, 1], windows overlap 9 times"
