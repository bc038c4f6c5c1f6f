"""Convolutions, poolings and padding against their definitions, written out tap by tap."""

import dataclasses
import itertools
import math
from fractions import Fraction

import flint
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from netgain.layers import AveragePool, Convolution, Mean, ModelError, Pad, ShapeError, windows
from netgain.verify.balls import BALLS, precision

RNG = np.random.default_rng(11)
SETTINGS = settings(max_examples=80, deadline=None)


def normal(*shape):
    return RNG.standard_normal(shape)


def sizes(axes, least, most):
    return st.tuples(*[st.integers(least, most)] * axes)


@st.composite
def convolutions(draw):
    """A layer with every attribute at random, and the shape of an input it fits."""
    axes, groups = draw(st.sampled_from([1, 1, 2, 2, 2, 3])), draw(st.integers(1, 3))
    out, channels = draw(st.integers(1, 2)) * groups, draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    most = 3 if axes < 3 else 2
    layer = Convolution(
        rng.standard_normal((out, channels, *draw(sizes(axes, 1, most)))),
        draw(st.sampled_from([None, rng.standard_normal(out)])),
        draw(sizes(axes, 1, 3)), draw(sizes(axes, 1, most)), (draw(sizes(axes, 0, 3)), draw(sizes(axes, 0, 3))), groups)
    return fitting(layer, (channels * groups, *draw(sizes(axes, 1, 6 if axes < 3 else 3))))


@st.composite
def poolings(draw):
    axes, most = draw(st.integers(1, 2)), 3
    layer = AveragePool(
        draw(sizes(axes, 1, 4)), draw(sizes(axes, 1, 4)), draw(sizes(axes, 1, 2)),
        (draw(sizes(axes, 0, most)), draw(sizes(axes, 0, most))), draw(st.booleans()), draw(st.booleans()))
    return fitting(layer, (draw(st.integers(1, 3)), *draw(sizes(axes, 1, 7))))


@st.composite
def means(draw):
    shape = draw(sizes(draw(st.integers(1, 3)), 1, 4))
    axes = draw(st.sets(st.integers(-len(shape), -1), min_size=1))
    return Mean(tuple(axes), draw(st.booleans())), shape


@st.composite
def paddings(draw):
    shape = draw(sizes(draw(st.integers(1, 3)), 1, 3))
    axes = draw(st.integers(1, len(shape)))
    return Pad((draw(sizes(axes, 0, 2)), draw(sizes(axes, 0, 2)))), shape


def fitting(layer, shape):
    try:
        layer.output_shape(shape)
    except ShapeError:
        assume(False)
    return layer, shape


def reads(layer, kernel, shape, out):
    """Pairs (tap, entry) along the spatial axes for the window `out`, in the input or not."""
    begins = layer.padding[0]
    for tap in itertools.product(*map(range, kernel)):
        entry = tuple(o * s - b + k * d for o, s, b, k, d in
                      zip(out, layer.strides, begins, tap, layer.dilations, strict=True))
        yield tap, entry


def inside(entry, shape, before=None, after=None):
    before, after = before or (0,) * len(shape), after or (0,) * len(shape)
    return all(-b <= e < n + a for e, n, b, a in zip(entry, shape, before, after, strict=True))


def toeplitz(layer, shape):
    """The matrix of the linear part as rational numbers, (entries of the output, entries of the input)."""
    target = layer.output_shape(shape)
    matrix = np.full((*target, *shape), Fraction(0), dtype=object)
    for out in np.ndindex(target):
        if isinstance(layer, Convolution):
            per_group = layer.weight.shape[0] // layer.groups
            first = out[0] // per_group * layer.weight.shape[1]
            for tap, entry in reads(layer, layer.weight.shape[2:], shape, out[1:]):
                if inside(entry, shape[1:]):
                    for c in range(layer.weight.shape[1]):
                        matrix[(*out, first + c, *entry)] += Fraction(float(layer.weight[(out[0], c, *tap)]))
        elif isinstance(layer, AveragePool):
            entries = [entry for _, entry in reads(layer, layer.kernel, shape, out[1:])]
            counted = sum(inside(e, shape[1:], *(layer.padding if layer.count_include_pad else ())) for e in entries)
            for entry in entries:
                if inside(entry, shape[1:]):
                    matrix[(*out, out[0], *entry)] += Fraction(1, counted)
        elif isinstance(layer, Mean):
            kept = iter(out)
            index = []
            for axis, n in enumerate(shape, -len(shape)):
                place = 0 if axis in layer.axes and not layer.keep else next(kept)
                index.append(range(n) if axis in layer.axes else [place])
            for entry in itertools.product(*index):
                matrix[(*out, *entry)] = Fraction(1, math.prod(map(len, index)))
        else:
            begins = (0,) * (len(shape) - len(layer.padding[0])) + layer.padding[0]
            entry = tuple(o - b for o, b in zip(out, begins, strict=True))
            if inside(entry, shape):
                matrix[(*out, *entry)] = Fraction(1)
    return matrix.reshape(math.prod(target), math.prod(shape))


anything = st.one_of(convolutions(), convolutions(), poolings(), poolings(), means(), paddings())


@given(anything, st.integers(0, 2**32 - 1))
@settings(max_examples=250, deadline=None)
def test_the_operator_is_its_explicit_matrix_and_the_transposed_its_adjoint(case, seed):
    layer, shape = case
    rng, matrix, target = np.random.default_rng(seed), toeplitz(layer, shape).astype(float), layer.output_shape(shape)
    x, y = rng.standard_normal((3, *shape)), rng.standard_normal((2, *target))
    image = layer.apply(x, 0, (shape,))
    assert image.shape == (3, *target)
    np.testing.assert_allclose(image.reshape(3, -1), x.reshape(3, -1) @ matrix.T, rtol=1e-12, atol=1e-12)
    back = layer.apply_transposed(y, 0, (shape,))
    assert back.shape == (2, *shape)
    np.testing.assert_allclose(back.reshape(2, -1), y.reshape(2, -1) @ matrix, rtol=1e-12, atol=1e-12)
    offset = layer.offset()
    np.testing.assert_allclose(layer.forward(x), image + (0 if offset is None else offset), rtol=1e-13, atol=1e-13)
    if layer.keeps_order():
        assert np.array_equal(matrix, np.eye(len(matrix)))


@given(anything)
@SETTINGS
def test_unrolled_without_arithmetic_it_is_exact_and_otherwise_enclosed(case):
    layer, shape = case
    exact = toeplitz(layer, shape)
    with precision(80):
        unrolled = layer.unrolled(0, (shape,), BALLS)
        if unrolled is None:
            assert isinstance(layer, Pad)
            unrolled = layer.apply(np.eye(math.prod(shape)).reshape((-1, *shape)), 0, (shape,), BALLS)
        assert unrolled.shape == (math.prod(shape), *layer.output_shape(shape))
        found = unrolled.reshape(len(unrolled), -1).T
        if isinstance(layer, Convolution | Pad):
            assert found.dtype == np.float64
        if found.dtype == np.float64:
            assert all(Fraction(a) == b for a, b in zip(found.ravel().tolist(), exact.ravel(), strict=True))
        else:
            assert enclosed(found, exact)
    double = layer.unrolled(0, (shape,))
    assert double is None or np.allclose(double.reshape(len(double), -1).T, exact.astype(float), rtol=1e-15)


def test_shares_that_float64_holds_stay_exact():
    for layer in (AveragePool((2, 2), (2, 2)), AveragePool((3, 3), (1, 1), padding=((1, 1), (1, 1))), Mean((-1,))):
        dtype = layer.unrolled(0, ((1, 4, 4),), BALLS).dtype
        assert (dtype == np.float64) is (getattr(layer, "kernel", None) != (3, 3))


def enclosed(balls, exact):
    pairs = zip(np.asarray(balls).ravel(), np.asarray(exact).ravel(), strict=True)
    return all(ball.contains(flint.arb(flint.fmpq(q.numerator, q.denominator))) and float(ball.rad()) < 1e-15
               for ball, q in pairs)


@given(anything, st.booleans(), st.integers(0, 2**32 - 1))
@SETTINGS
def test_balls_enclose_the_image_of_balls_and_of_exact_numbers(case, converted, seed):
    layer, shape = case
    x = np.random.default_rng(seed).standard_normal((2, *shape))
    rational = np.array([Fraction(v) for v in x.ravel().tolist()], dtype=object).reshape(2, -1)
    expected = rational @ toeplitz(layer, shape).T
    with precision(400):
        tight = [flint.arb(flint.fmpq(q.numerator, q.denominator)) for q in expected.ravel()]
    with precision(60):
        image = layer.apply(BALLS.constant(x) if converted else x, 0, (shape,), BALLS)
        if image.dtype == np.float64:
            assert isinstance(layer, Pad)
            assert all(Fraction(v) == q for v, q in zip(image.ravel().tolist(), expected.ravel(), strict=True))
        else:
            pairs = zip(image.ravel(), tight, strict=True)
            assert all(ball.contains(q) and float(ball.rad()) < 1e-13 for ball, q in pairs)
        # Zeros of the padding are balls like the others, so that any function can follow.
        if converted:
            BALLS.tanh(layer.forward(BALLS.constant(x), arithmetic=BALLS))


@pytest.mark.parametrize("arithmetic", [None, BALLS])
def test_large_batches_are_gathered_in_parts(monkeypatch, arithmetic):
    convolution = Convolution(normal(4, 1, 2, 3), normal(4), (2, 1), (1, 2), ((1, 0), (0, 2)), 2)
    x, options = normal(5, 2, 5, 6), {"arithmetic": arithmetic} if arithmetic else {}
    for layer in (convolution, AveragePool((3, 2), (2, 2))):
        whole = layer.forward(x, **options)
        with monkeypatch.context() as patch:
            patch.setattr(windows, "_GATHERED", 1)
            parts = layer.forward(x, **options)
        if arithmetic is None:
            np.testing.assert_allclose(parts, whole, rtol=1e-14)
        else:
            assert all(a.overlaps(b) for a, b in zip(parts.ravel(), whole.ravel(), strict=True))


@given(convolutions())
@SETTINGS
def test_convolution_agrees_with_torch(case):
    torch = pytest.importorskip("torch")
    layer, shape = case
    x = torch.tensor(np.random.default_rng(0).standard_normal((2, *shape)))
    around = [n for pair in reversed(list(zip(*layer.padding, strict=True))) for n in pair]
    function = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[len(shape) - 2]
    expected = function(torch.nn.functional.pad(x, around), torch.tensor(layer.weight),
                        None if layer.bias is None else torch.tensor(layer.bias),
                        stride=layer.strides, dilation=layer.dilations, groups=layer.groups)
    np.testing.assert_allclose(layer.forward(x.numpy()), expected.numpy(), rtol=1e-12, atol=1e-12)


@given(poolings())
@SETTINGS
def test_average_pooling_agrees_with_torch(case):
    torch = pytest.importorskip("torch")
    layer, shape = case
    begins = tuple(min(b, k // 2) for b, k in zip(layer.padding[0], layer.kernel, strict=True))
    layer = dataclasses.replace(layer, padding=(begins, begins), dilations=())  # all that torch has
    x = torch.tensor(np.random.default_rng(0).standard_normal((2, *shape)))
    function = (torch.nn.functional.avg_pool1d, torch.nn.functional.avg_pool2d)[len(shape) - 2]
    try:
        expected = function(x, layer.kernel, layer.strides, begins, layer.ceil_mode, layer.count_include_pad)
    except RuntimeError:
        with pytest.raises(ShapeError):
            layer.output_shape(shape)
        return
    np.testing.assert_allclose(layer.forward(x.numpy()), expected.numpy(), rtol=1e-12, atol=1e-12)


def test_a_partial_window_counts_what_it_reads():
    x = np.arange(1.0, 6).reshape(1, 1, 5)
    for options, expected in (
        ({}, [1.5, 3.5]),
        ({"ceil_mode": True}, [1.5, 3.5, 5]),
        ({"ceil_mode": True, "count_include_pad": True}, [1.5, 3.5, 5]),
        ({"padding": ((1,), (0,))}, [1, 2.5, 4.5]),
        ({"padding": ((1,), (0,)), "count_include_pad": True}, [0.5, 2.5, 4.5]),
        ({"padding": ((1,), (1,)), "ceil_mode": True, "count_include_pad": True}, [0.5, 2.5, 4.5]),
    ):
        assert AveragePool((2,), (2,), **options).forward(x).ravel().tolist() == expected


@pytest.mark.parametrize(("layer", "shape", "message"), [
    (Convolution(normal(4, 3, 3, 3)), (4, 8, 8), r"takes 3 channels and 2 spatial axes, got \(4, 8, 8\)"),
    (Convolution(normal(4, 3, 3, 3), groups=2), (3, 8, 8), "2 group.* takes 6 channels"),
    (Convolution(normal(4, 3, 3, 3)), (3, 8), "2 spatial axes"),
    (Convolution(normal(4, 3, 3, 3), padding=((0, 0), (0, 1))), (3, 8, 1),
     "3 x 3 entries does not fit into an input of 8 x 1 padded to 8 x 2"),
    (AveragePool((2, 2)), (3, 8), "2 axes takes channels"),
    (AveragePool((2,)), (3, 1), "does not fit"),
    (AveragePool((2,), (2,), padding=((2,), (0,))), (3, 4), "lies in the padding"),
    (Mean((-2, -1)), (3,), "does not fit an input"),
    (Pad(((1, 1), (0, 0))), (3,), "does not fit an input"),
])
def test_shapes_that_do_not_fit_are_named(layer, shape, message):
    with pytest.raises(ShapeError, match=message):
        layer.output_shape(shape)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Convolution(normal(4, 3)), r"\(out, channels / groups, \*kernel\).*got \(4, 3\)"),
    (lambda: Convolution(normal(4, 0, 3)), "empty"),
    (lambda: Convolution(normal(4, 3, 3), groups=3), "4 channels of the output do not split into 3 groups"),
    (lambda: Convolution(normal(4, 3, 3), groups=0), "0 groups"),
    (lambda: Convolution(normal(4, 3, 3), normal(3)), r"bias has shape \(3,\) for 4"),
    (lambda: Convolution(np.full((1, 1, 1), np.nan)), "NaN"),
    (lambda: Convolution(normal(4, 3, 3), strides=(1, 1)), r"`strides`.* 1 axes, got \(1, 1\)"),
    (lambda: Convolution(normal(4, 3, 3), strides=(0,)), "`strides` holds whole numbers from 1"),
    (lambda: Convolution(normal(4, 3, 3), dilations=(0,)), "`dilations`"),
    (lambda: Convolution(normal(4, 3, 3), padding=((0,), (-1,))), "`padding` holds whole numbers from 0"),
    (lambda: AveragePool(()), "at least one axis"),
    (lambda: AveragePool((0,)), "`kernel`"),
    (lambda: Mean((0,)), "counted from the end"),
    (lambda: Mean((-1, -1)), "different axes"),
    (lambda: Mean(()), "different axes"),
    (lambda: Pad(((1,), (-1,))), "`padding`"),
    (lambda: Pad(((1,), ())), "same axes"),
])
def test_parameters_without_meaning_are_refused(make, message):
    with pytest.raises(ModelError, match=message):
        make()


def test_defaults_are_written_out():
    layer = Convolution(normal(2, 1, 3, 3))
    assert (layer.strides, layer.dilations, layer.padding) == ((1, 1), (1, 1), ((0, 0), (0, 0)))
    assert layer.describe() == "Convolution 3x3, 1 -> 2"
    assert Convolution(normal(2, 1, 3), None, (2,), groups=2).describe() == "Convolution 3, 2 -> 2, stride 2, 2 groups"
    assert AveragePool((2, 3)).describe() == "AveragePool 2x3"
    assert Mean((-1, -2)).describe() == "Mean over axes -2, -1"
