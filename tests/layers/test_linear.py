import dataclasses

import numpy as np
import pytest
from netgain.layers import (
    Add,
    Affine,
    BatchNormalization,
    Concatenate,
    Flatten,
    ModelError,
    Output,
    Reshape,
    Scale,
    Select,
    ShapeError,
)
from netgain.layers.layer import broadcasts, parameter
from netgain.layers.linear import Input
from netgain.verify.balls import BALLS, precision, to_midpoint_radius

RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.standard_normal(shape)


GAMMA, BETA, MEAN, VARIANCE = normal(3), normal(3), normal(3), RNG.uniform(0.5, 2, 3)

# layer, shapes of its inputs, the formula in numpy (batch first)
CASES = {
    "affine": (Affine(A := normal(4, 3), B := normal(4)), [(3,)], lambda x: x @ A.T + B),
    "affine without bias": (Affine(A1 := normal(1, 5)), [(5,)], lambda x: x @ A1.T),
    "affine on the last axis": (Affine(A, B), [(2, 3)], lambda x: np.einsum("oi,bki->bko", A, x) + B),
    "affine on a middle axis": (
        Affine(A, B[:, None], axis=-2), [(3, 5)], lambda x: np.einsum("oi,bik->bok", A, x) + B[:, None]),
    "affine with a full bias": (Affine(A, B2 := normal(2, 4)), [(2, 3)], lambda x: x @ A.T + B2),
    "scale": (
        Scale(M := normal(3), D := RNG.uniform(1, 2, 3), S := normal(3)), [(2, 3)], lambda x: x * M / D + S),
    "scale by a number": (Scale(0.5), [(2, 3)], lambda x: x / 2),
    "batch normalisation": (
        BatchNormalization(GAMMA, BETA, MEAN, VARIANCE), [(3,)],
        lambda x: (x - MEAN) * GAMMA / np.sqrt(VARIANCE + 1e-5) + BETA),
    "batch normalisation of images": (
        BatchNormalization(GAMMA, BETA, MEAN, VARIANCE, 0.1, trailing=2), [(3, 2, 4)],
        lambda x: np.moveaxis((np.moveaxis(x, 1, -1) - MEAN) * GAMMA / np.sqrt(VARIANCE + 0.1) + BETA, -1, 1)),
    "sum": (Add((1, 1)), [(2, 3), (2, 3)], lambda x, y: x + y),
    "difference": (Add((1, -1, 1)), [(3,)] * 3, lambda x, y, z: x - y + z),
    "negative": (Add((-1,)), [(3,)], lambda x: -x),
    "concatenation": (Concatenate(), [(2, 3), (2, 1)], lambda x, y: np.concatenate([x, y], axis=-1)),
    "concatenation of channels": (
        Concatenate(-3), [(1, 2, 2), (3, 2, 2), (2, 2, 2)], lambda *x: np.concatenate(x, axis=1)),
    "flatten": (Flatten(), [(2, 3, 2)], lambda x: x.reshape(len(x), 12)),
    "reshape": (Reshape((3, -1)), [(2, 6)], lambda x: x.reshape(len(x), 3, 4)),
    "output": (Output(), [(2, 2)], lambda x: x),
    "slice": (Select(np.array([0, 2]), (4,)), [(4,)], lambda x: x[:, ::2]),
    "transpose": (Select(np.arange(6).reshape(2, 3).T, (2, 3)), [(2, 3)], lambda x: x.swapaxes(1, 2)),
    "repeat": (Select(np.array([[1, 1], [0, 1]]), (2,)), [(2,)], lambda x: x[:, [[1, 1], [0, 1]]]),
}

each = pytest.mark.parametrize("name", CASES)


def inputs(shapes, batch=5):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((batch, *shape)) for shape in shapes]


@each
def test_forward_is_the_formula(name):
    layer, shapes, formula = CASES[name]
    x = inputs(shapes)
    result = layer.forward(*x)
    assert result.shape == (5, *layer.output_shape(*shapes))
    assert np.allclose(result, formula(*x), rtol=1e-14)


@each
def test_forward_is_linear_part_plus_constant(name):
    layer, shapes, _ = CASES[name]
    x, y = inputs(shapes), [2 * part + 1 for part in inputs(shapes)]
    difference = sum(layer.apply(a - b, i, tuple(shapes)) for i, (a, b) in enumerate(zip(x, y, strict=True)))
    assert np.allclose(layer.forward(*x) - layer.forward(*y), difference)


@each
def test_transposed_is_the_adjoint(name):
    layer, shapes, _ = CASES[name]
    y = np.random.default_rng(1).standard_normal((5, *layer.output_shape(*shapes)))
    for position, x in enumerate(inputs(shapes)):
        image = layer.apply(x, position, tuple(shapes))
        back = layer.apply_transposed(y, position, tuple(shapes))
        assert back.shape == x.shape
        axes = tuple(range(1, y.ndim)), tuple(range(1, x.ndim))
        assert np.allclose(np.sum(image * y, axis=axes[0]), np.sum(x * back, axis=axes[1]), rtol=1e-12)


@each
def test_layers_that_keep_the_order_are_the_identity(name):
    layer, shapes, _ = CASES[name]
    if layer.keeps_order():
        for position, x in enumerate(inputs(shapes)):
            assert np.array_equal(layer.apply(x, position, tuple(shapes)).ravel(), x.ravel())


@each
def test_balls_enclose_the_formula(name):
    layer, shapes, _ = CASES[name]
    x = inputs(shapes)
    with precision(100):
        balls = layer.forward(*(BALLS.constant(part) for part in x), arithmetic=BALLS)
        middle, radius = to_midpoint_radius(balls)
    assert np.all(radius < 1e-14)
    assert np.allclose(middle, layer.forward(*x), rtol=1e-13)


def test_a_quotient_is_enclosed_and_not_rounded():
    with precision(200):
        (third,) = Scale(1.0, 3.0).forward(BALLS.constant(np.ones((1, 1))), arithmetic=BALLS).ravel()
        assert (third * 3).contains(1)
        assert third != BALLS.constant(1 / 3)
    assert not Scale(1.0, 3.0).keeps_order()
    assert Scale(2.0, 2.0).keeps_order()


@pytest.mark.parametrize(("layer", "shapes", "message"), [
    (Affine(normal(4, 3)), [(4,)], r"The weight is 4 x 3, so axis -1 must have 3 entries.*Is the weight transposed\?"),
    (Affine(normal(4, 3)), [(5,)], r"must have 3 entries, but the input has shape \(5,\)\.$"),
    (Affine(normal(4, 3)), [(3,), (3,)], "Affine 3 -> 4 takes one input, got 2"),
    (Affine(normal(4, 3), normal(3)), [(3,)], r"bias of shape \(3,\) does not fit the output \(4,\)"),
    (Affine(normal(4, 3), normal(2, 4)), [(3,)], r"bias of shape \(2, 4\) does not fit"),
    (Affine(normal(4, 3), axis=-2), [(3,)], "axis -2 must have 3 entries"),
    (Scale(normal(2)), [(3,)], r"scale of shape \(2,\) does not fit the input \(3,\)"),
    (Scale(1.0, 1.0, normal(2, 3)), [(3,)], r"offset of shape \(2, 3\) does not fit"),
    (BatchNormalization(GAMMA, BETA, MEAN, VARIANCE, trailing=1), [(2, 4)], r"scale of shape \(3, 1\) does not fit"),
    (BatchNormalization(*[np.ones(1)] * 4), [(3,)], r"1 channels were normalised, the input \(3,\) has 3"),
    (Add((1, 1)), [(3,)], "addition of 2 inputs"),
    (Add((1, 1)), [(3,), (1,)], "one shape"),
    (Concatenate(-1), [(2, 3), (3, 3)], "Cannot concatenate"),
    (Concatenate(-2), [(3,), (3,)], "Cannot concatenate"),
    (Concatenate(-1), [], "Cannot concatenate"),
    (Reshape((4, -1)), [(6,)], r"Cannot reshape \(6,\) \(6 entries\) to \(4, -1\)"),
    (Reshape((-1, -1)), [(6,)], "Cannot reshape"),
    (Reshape((-2, -3)), [(6,)], "Cannot reshape"),
    (Select(np.array([0]), (2,)), [(3,)], r"for inputs of shape \(2,\), got \(3,\)"),
])
def test_shapes_that_do_not_fit_are_named(layer, shapes, message):
    with pytest.raises(ShapeError, match=message):
        layer.output_shape(*shapes)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Affine(normal(3)), r"matrix \(out, in\), got \(3,\)"),
    (lambda: Affine(normal(0, 3)), "non-empty"),
    (lambda: Affine(normal(2, 3), axis=1), "counted from the end"),
    (lambda: Affine(np.array([[np.nan]])), r"`weight` of shape \(1, 1\) has 1 entry that is NaN"),
    (lambda: Affine(np.ones((1, 1)), np.array([np.inf])), "`bias`"),
    (lambda: Affine(np.ones((1, 1), dtype=complex)), "dtype complex128"),
    (lambda: Affine(np.array([[True]])), "dtype bool"),
    (lambda: Affine(np.array([[2**53 + 1]])), "beyond 2\\^53"),
    (lambda: Affine(np.array([[2**64 - 1]], dtype=np.uint64)), "beyond 2\\^53"),
    (lambda: Affine(np.array([[1 / np.longdouble(3)]])), "longer than float64"),
    (lambda: Scale(1.0, np.array([1.0, 0.0])), "`divisor` has zero entries"),
    (lambda: BatchNormalization(GAMMA, BETA, MEAN, VARIANCE[:2]), "four vectors of one length"),
    (lambda: BatchNormalization(GAMMA, BETA, MEAN, -VARIANCE), r"variance \+ epsilon > 0"),
    (lambda: Add((1, 2)), r"\+1 or -1"),
    (lambda: Add(()), r"\+1 or -1"),
    (lambda: Concatenate(0), "counted from the end"),
    (lambda: Select(np.array([2]), (2,)), "Indices run from 2 to 2"),
    (lambda: Select(np.array([-1]), (2,)), "Indices run from -1 to -1"),
])
def test_parameters_without_meaning_are_refused(make, message):
    with pytest.raises(ModelError, match=message):
        make()


def test_parameters_are_copied_and_read_only():
    weight = np.ones((2, 2), dtype=np.float32)
    layer = Affine(weight, [1, 2])
    weight[0, 0] = 5
    assert layer.weight.dtype == np.float64
    assert layer.weight[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[0, 0] = 2
    with pytest.raises(ValueError, match="read-only"):
        Select(np.array([0]), (1,)).indices[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        layer.weight = weight


def test_widening_is_exact():
    narrow = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert np.array_equal(parameter(narrow, "w").astype(np.float32), narrow)
    assert parameter(np.float16(0.1), "w") == float(np.float16(0.1))
    assert np.array_equal(parameter([1, 2**53], "w"), [1.0, 2.0**53])
    assert parameter(np.longdouble(0.5), "w") == 0.5


def test_input_has_no_formula():
    assert Input((2, 3)).output_shape() == (2, 3)
    with pytest.raises(TypeError, match="given to the graph"):
        Input((2,)).forward()


@pytest.mark.parametrize(("shape", "to", "fits"), [
    ((), (2, 3), True), ((3,), (2, 3), True), ((1, 3), (2, 3), True), ((2, 1), (2, 3), True), ((2,), (2, 3), False),
    ((2, 3), (3,), False), ((1, 3), (3,), False), ((2,), (1,), False),
])
def test_broadcasts(shape, to, fits):
    assert broadcasts(shape, to) is fits
