"""What each ONNX operator means, against formulas written out in numpy."""

import itertools

import numpy as np
import pytest
import scipy.special
from netgain.layers import Add, Affine, BatchNormalization, ModelError, Select, UnsupportedModelError
from onnx import TensorProto
from onnx_models import imported, node, single

RANDOM = np.random.default_rng(7)
W = RANDOM.standard_normal((4, 4)).astype(np.float32)
RECTANGLE = RANDOM.standard_normal((4, 3)).astype(np.float32)
B = RANDOM.standard_normal(4).astype(np.float32)
X = RANDOM.standard_normal((6, 4))


def kinds(graph):
    return [type(graph.layer(name)).__name__ for name in graph.order[1:-1]]


@pytest.mark.parametrize(("alpha", "beta", "transposed", "bias"), list(itertools.product(
    (1.0, 0.3), (1.0, -0.7), (0, 1), (None, B, B[None], B[:1], B[:1, None], np.float32(2)))))
def test_gemm_honours_every_attribute_on_a_square_weight(tmp_path, alpha, beta, transposed, bias):
    weights = {"W": W} | ({} if bias is None else {"c": bias})
    gemm = node("Gemm", "x W" + " c" * (bias is not None), alpha=alpha, beta=beta, transB=transposed)
    graph = imported(tmp_path, [gemm], weights)
    expected = np.float32(alpha) * (X @ (W.T if transposed else W).astype(float))
    expected = expected + (0 if bias is None else np.float32(beta) * np.asarray(bias, dtype=float))
    np.testing.assert_allclose(graph.forward(X), expected, rtol=1e-13, atol=1e-14)
    assert kinds(graph) == ["Affine"]


@pytest.mark.parametrize("shape", [("batch", 4), (1, 4)])
def test_gemm_refuses_to_transpose_the_batch(tmp_path, shape):
    with pytest.raises(UnsupportedModelError, match="batch axis"):
        imported(tmp_path, [node("Gemm", "x W", transA=1)], {"W": W}, shape=shape)


def test_a_product_in_double_precision_is_not_folded_inexactly(tmp_path):
    weight = np.full((4, 4), 0.1) + np.eye(4)
    graph = imported(tmp_path, [node("Gemm", "x W", alpha=0.3)], {"W": weight}, elem=TensorProto.DOUBLE)
    assert kinds(graph) == ["Affine", "Scale"]
    assert np.array_equal(graph.layer(graph.order[1]).weight, weight.T)


def test_matmul_side_follows_the_constant_not_the_shape(tmp_path):
    x = RANDOM.standard_normal((5, 4, 4))
    right = imported(tmp_path, [node("MatMul", "x W")], {"W": W}, shape=("batch", 4, 4))
    left = imported(tmp_path, [node("MatMul", "W x")], {"W": W}, shape=("batch", 4, 4))
    np.testing.assert_allclose(right.forward(x), x @ W.astype(float), rtol=1e-12)
    np.testing.assert_allclose(left.forward(x), W.astype(float) @ x, rtol=1e-12)


def test_matmul_with_the_constant_left_of_a_batch_of_vectors_mixes_samples(tmp_path):
    with pytest.raises(UnsupportedModelError, match="batch axis"):
        imported(tmp_path, [node("MatMul", "W x")], {"W": W}, shape=(1, 4))


def test_a_vector_without_batch_axis_is_multiplied_from_either_side(tmp_path):
    right = imported(tmp_path, [node("MatMul", "x W")], {"W": RECTANGLE}, shape=(4,))
    left = imported(tmp_path, [node("MatMul", "W x")], {"W": RECTANGLE.T}, shape=(4,))
    np.testing.assert_allclose(right.forward(X), X @ RECTANGLE.astype(float), rtol=1e-12)
    np.testing.assert_allclose(left.forward(X), X @ RECTANGLE.astype(float), rtol=1e-12)


def test_a_sum_after_a_matrix_product_becomes_its_bias_only_if_nobody_else_uses_the_product(tmp_path):
    nodes = [node("MatMul", "x W", "h"), node("Add", "b h")]
    assert kinds(imported(tmp_path, nodes, {"W": W, "b": B})) == ["Affine"]
    shared = [node("MatMul", "x W", "h"), node("Add", "b h", "s"), node("Relu", "h", "r"), node("Add", "s r")]
    graph = imported(tmp_path, shared, {"W": W, "b": B})
    assert kinds(graph) == ["Affine", "Scale", "Relu", "Add"]
    h = X @ W.astype(float)
    np.testing.assert_allclose(graph.forward(X), h + B + np.maximum(h, 0), rtol=1e-12)


@pytest.mark.parametrize(("kind", "formula"), [("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply)])
@pytest.mark.parametrize("constant", [B, B[None], np.float32(3), RECTANGLE.T[:, None, :][:1]])
def test_elementwise_with_a_constant_on_either_side(tmp_path, kind, formula, constant):
    if constant.ndim == 3:
        with pytest.raises(UnsupportedModelError, match="batch"):
            imported(tmp_path, [node(kind, "x c")], {"c": constant})
        return
    for inputs, expected in (("x c", formula(X, constant.astype(float))), ("c x", formula(constant.astype(float), X))):
        np.testing.assert_allclose(imported(tmp_path, [node(kind, inputs)], {"c": constant}).forward(X), expected)


def test_division_is_affine_only_by_a_constant(tmp_path):
    graph = imported(tmp_path, [node("Div", "x c")], {"c": B})
    np.testing.assert_array_equal(graph.forward(X), X * (np.ones(4) / B.astype(float)))
    with pytest.raises(UnsupportedModelError, match="divides by an activation"):
        imported(tmp_path, [node("Div", "c x")], {"c": B})


def test_activations_are_added_with_broadcasting_and_signs(tmp_path):
    nodes = [node("MatMul", "x v", "h"), node("Sub", "x h", "d"), node("Sum", "d x h")]
    graph = imported(tmp_path, nodes, {"v": RECTANGLE[:, :1]})
    h = X @ RECTANGLE[:, :1].astype(float)
    np.testing.assert_allclose(graph.forward(X), X - h + X + h, rtol=1e-12)
    assert any(isinstance(graph.layer(name), Select) for name in graph.order)
    assert any(isinstance(graph.layer(name), Add) for name in graph.order)


def test_an_activation_added_to_itself_is_a_factor(tmp_path):
    graph = imported(tmp_path, [node("Relu", "x", "r"), node("Add", "r r")])
    np.testing.assert_array_equal(graph.forward(X), 2 * np.maximum(X, 0))
    assert kinds(graph) == ["Relu", "Scale"]


def test_axes_that_would_meet_the_batch_axis_are_refused(tmp_path):
    for nodes, weights in (
        ([node("Flatten", "x", axis=0)], {}),
        ([node("Transpose", "x", perm=[1, 0, 2])], {}),
        ([node("Concat", "x x", axis=0)], {}),
        ([node("Reshape", "x s")], {"s": np.array([-1, 4])}),
        ([node("Reshape", "x s")], {"s": np.array([12])}),
        ([node("Unsqueeze", "x s")], {"s": np.array([0])}),
        ([node("Slice", "x a b s")], {"a": np.array([0]), "b": np.array([1]), "s": np.array([0])}),
        ([node("Gather", "x a")], {"a": np.array([0])}),
        ([node("Softmax", "x", axis=0)], {}),
        ([node("MatMul", "x W", "h"), node("MatMul", "x v", "g"), node("Reshape", "g s", "f"), node("Add", "h f")],
         {"W": W, "v": W[:, 0], "s": np.array([0, 3])}),
    ):
        with pytest.raises(UnsupportedModelError, match="batch"):
            imported(tmp_path, nodes, weights, shape=("batch", 3, 4))


def test_shapes_computed_in_the_file_keep_the_batch_axis_symbolic(tmp_path):
    nodes = [node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Unsqueeze", "n zeros", "first"),
             node("Concat", "first rest", "target", axis=0), node("Reshape", "x target", "f"), node("MatMul", "f W")]
    weight = RANDOM.standard_normal((12, 2)).astype(np.float32)
    constants = {"zero": np.array(0), "zeros": np.array([0]), "rest": np.array([-1]), "W": weight}
    x = RANDOM.standard_normal((3, 3, 4))
    for first in ("batch", 1):
        graph = imported(tmp_path, nodes, constants, shape=(first, 3, 4))
        np.testing.assert_allclose(graph.forward(x), x.reshape(3, 12) @ weight.astype(float), rtol=1e-12)


def test_arithmetic_with_the_batch_size_is_refused(tmp_path):
    nodes = [node("Shape", "x", "s"), node("Mul", "s two", "t"), node("Reshape", "x t")]
    with pytest.raises(UnsupportedModelError, match="batch size"):
        imported(tmp_path, nodes, {"two": np.array([2])})


@pytest.mark.parametrize("opset", [9, 13, 18])
def test_rearrangements_match_numpy(tmp_path, opset):
    x = RANDOM.standard_normal((5, 3, 4))
    if opset == 9:
        cut = node("Slice", "t", "c", starts=[1], ends=[3], axes=[1])
        split = node("Split", "c", "p q", axis=2, split=[2, 1])
        outer = [node("Unsqueeze", "j", "u", axes=[1]), node("Squeeze", "u", "v", axes=[1])]
    else:
        cut = node("Slice", "t one three one", "c")
        equal = {"num_outputs": 2} if opset > 13 else {}
        split = node("Split", "c" if equal else "c sizes", "p q", axis=2, **equal)
        outer = [node("Unsqueeze", "j one", "u"), node("Squeeze", "u one", "v")]
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 1]), cut, split, node("Concat", "q p", "j", axis=-1), *outer,
             node("Flatten", "v")]
    constants = {"one": np.array([1]), "three": np.array([3]), "sizes": np.array([2, 1])}
    graph = imported(tmp_path, nodes, constants, opset=opset, shape=("batch", 3, 4))
    part = x.transpose(0, 2, 1)[:, 1:3]
    expected = np.concatenate([part[..., 2:], part[..., :2]], axis=-1).reshape(5, -1)
    np.testing.assert_array_equal(graph.forward(x), expected)


def test_reshape_reads_zeros_and_minus_one(tmp_path):
    x = RANDOM.standard_normal((2, 3, 4))
    for target, shape in (([0, 0, 2, 2], (2, 3, 2, 2)), ([0, -1, 2], (2, 6, 2)), ([-1, 12], (2, 12))):
        graph = imported(tmp_path, [node("Reshape", "x s")], {"s": np.array(target)}, shape=("batch", 3, 4))
        np.testing.assert_array_equal(graph.forward(x), x.reshape(shape))
    old = imported(tmp_path, [node("Reshape", "x", shape=[0, 2, 6])], shape=("batch", 3, 4), opset=1)
    np.testing.assert_array_equal(old.forward(x), x.reshape(2, 2, 6))
    with pytest.raises(UnsupportedModelError, match="without entries"):
        imported(tmp_path, [node("Reshape", "x s", allowzero=1)], {"s": np.array([0, 12])}, shape=("batch", 3, 4))


def test_batch_normalization_is_kept_with_its_epsilon(tmp_path):
    gamma, beta, mean = (RANDOM.standard_normal(3).astype(np.float32) for _ in range(3))
    variance = single(1e-3, 0.5, 2.0)
    weights = {"g": gamma, "b": beta, "m": mean, "v": variance}
    x = RANDOM.standard_normal((5, 3, 2))
    for opset in (9, 14, 15):
        graph = imported(tmp_path, [node("BatchNormalization", "x g b m v", epsilon=1e-3)], weights, opset=opset,
                         shape=("batch", 3, 2))
        column = (slice(None), None)
        expected = (x - mean[column]) / np.sqrt(variance[column].astype(float) + np.float32(1e-3)) * gamma[column]
        np.testing.assert_allclose(graph.forward(x), expected + beta[column], rtol=1e-12)
        assert isinstance(graph.layer(graph.order[1]), BatchNormalization)
    with pytest.raises(UnsupportedModelError, match="training_mode = 1"):
        imported(tmp_path, [node("BatchNormalization", "x g b m v", "y p q", training_mode=1)], weights, opset=15,
                 shape=("batch", 3, 2))


def test_dropout_is_the_identity_unless_it_trains(tmp_path):
    assert kinds(imported(tmp_path, [node("Dropout", "x", "h", ratio=0.3), node("Relu", "h")], opset=9)) == ["Relu"]
    flags = {"r": np.float32(0.3), "t": np.array(False)}
    assert kinds(imported(tmp_path, [node("Dropout", "x r t", "h"), node("Relu", "h")], flags)) == ["Relu"]
    with pytest.raises(UnsupportedModelError, match="training_mode is true"):
        imported(tmp_path, [node("Dropout", "x r t", "h"), node("Relu", "h")], flags | {"t": np.array(True)})


def test_a_cast_is_accepted_only_where_it_changes_nothing(tmp_path):
    up = [node("Cast", "x", "h", to=TensorProto.DOUBLE), node("Cast", "W", "V", to=TensorProto.DOUBLE)]
    graph = imported(tmp_path, [*up, node("MatMul", "h V", "z"), node("Identity", "z")], {"W": W})
    np.testing.assert_allclose(graph.forward(X), X @ W.astype(float), rtol=1e-12)
    for to, text in ((TensorProto.FLOAT16, "FLOAT16"), (TensorProto.INT64, "rounds")):
        with pytest.raises(UnsupportedModelError, match=text):
            imported(tmp_path, [node("Cast", "x", "h", to=to), node("Cast", "h", to=TensorProto.FLOAT)])
    with pytest.raises(UnsupportedModelError, match="constants change"):
        imported(tmp_path, [node("Cast", "c", "d", to=TensorProto.FLOAT), node("Add", "x d")], {"c": np.full(4, 0.1)})


def test_constants_are_folded_only_exactly(tmp_path):
    nodes = [node("Mul", "a a", "s"), node("Transpose", "W", "V"), node("MatMul", "x V", "h"), node("Mul", "h s")]
    graph = imported(tmp_path, nodes, {"a": single(0.1), "W": W})
    scale = float(np.float32(0.1)) ** 2
    np.testing.assert_allclose(graph.forward(X), (X @ W.T.astype(float)) * scale, rtol=1e-14)
    with pytest.raises(UnsupportedModelError, match="folding would round"):
        imported(tmp_path, [node("Div", "a b", "s"), node("Mul", "x s")], {"a": single(1.0), "b": single(3.0)})


def test_constant_nodes_hold_weights_and_numbers(tmp_path):
    from onnx import numpy_helper

    nodes = [node("Constant", "", "W", value=numpy_helper.from_array(W)), node("Constant", "", "c", value_float=0.1),
             node("Constant", "", "d", value_floats=[1.0, 2.0, 3.0, 4.0]), node("MatMul", "x W", "h"),
             node("Mul", "h c", "k"), node("Add", "k d")]
    graph = imported(tmp_path, nodes)
    expected = X @ W.astype(float) * float(np.float32(0.1)) + np.arange(1, 5)
    np.testing.assert_allclose(graph.forward(X), expected, rtol=1e-12)


def test_softmax_before_operator_set_13_takes_all_axes_from_its_axis_on(tmp_path):
    x = RANDOM.standard_normal((3, 2, 4))
    old = imported(tmp_path, [node("Softmax", "x", axis=1)], opset=11, shape=("batch", 2, 4))
    np.testing.assert_allclose(old.forward(x), scipy.special.softmax(x.reshape(3, 8), axis=1).reshape(3, 2, 4))
    new = imported(tmp_path, [node("Softmax", "x", axis=1)], opset=13, shape=("batch", 2, 4))
    np.testing.assert_allclose(new.forward(x), scipy.special.softmax(x, axis=1))


def test_prelu_slopes_broadcast_from_the_right(tmp_path):
    x = RANDOM.standard_normal((5, 3, 2))
    slope = single(0.1, -0.2, 1.5)[:, None]
    graph = imported(tmp_path, [node("PRelu", "x s")], {"s": slope}, shape=("batch", 3, 2))
    np.testing.assert_allclose(graph.forward(x), np.where(x > 0, x, x * slope.astype(float)))
    lower = np.broadcast_to(graph.layer(graph.order[1]).slopes((3, 2)).lower, (3, 2))
    np.testing.assert_array_equal(lower[:, 0], np.minimum(slope[:, 0].astype(float), 1))


SCALAR = {
    "Relu": ({}, lambda x: np.maximum(x, 0)),
    "LeakyRelu": ({"alpha": 0.3}, lambda x: np.where(x > 0, x, np.float32(0.3) * x)),
    "Tanh": ({}, np.tanh),
    "Sigmoid": ({}, scipy.special.expit),
    "HardSigmoid": ({"alpha": 0.4, "beta": 0.25}, lambda x: np.clip(np.float32(0.4) * x + 0.25, 0, 1)),
    "Elu": ({"alpha": 1.5}, lambda x: np.where(x > 0, x, 1.5 * np.expm1(x))),
    "Selu": ({"alpha": 1.25, "gamma": 1.5}, lambda x: 1.5 * np.where(x > 0, x, 1.25 * np.expm1(x))),
    "Celu": ({"alpha": 2.0}, lambda x: np.maximum(0, x) + np.minimum(0, 2 * np.expm1(x / 2))),
    "Softplus": ({}, lambda x: np.logaddexp(0, x)),
    "Softsign": ({}, lambda x: x / (1 + np.abs(x))),
    "Atan": ({}, np.arctan),
    "Abs": ({}, np.abs),
    "Mish": ({}, lambda x: x * np.tanh(np.logaddexp(0, x))),
    "HardSwish": ({}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "Gelu": ({}, lambda x: x * scipy.special.ndtr(x)),
    "Neg": ({}, np.negative),
}


@pytest.mark.parametrize("kind", SCALAR)
def test_activations_match_their_formulas_on_a_dense_grid(tmp_path, kind):
    attributes, formula = SCALAR[kind]
    graph = imported(tmp_path, [node(kind, "x", **attributes)], opset=22, shape=("batch", 1))
    grid = np.linspace(-20, 20, 4001)[:, None]
    np.testing.assert_allclose(graph.forward(grid), formula(grid), rtol=1e-12, atol=1e-14)


def test_gelu_and_swish_read_their_attributes(tmp_path):
    grid = np.linspace(-9, 9, 401)[:, None]
    tanh = imported(tmp_path, [node("Gelu", "x", approximate="tanh")], opset=20, shape=("batch", 1))
    inner = np.sqrt(2 / np.pi) * (grid + 0.044715 * grid**3)
    np.testing.assert_allclose(tanh.forward(grid), 0.5 * grid * (1 + np.tanh(inner)), rtol=1e-12, atol=1e-15)
    swish = imported(tmp_path, [node("Swish", "x", alpha=1.75)], opset=24, shape=("batch", 1))
    np.testing.assert_allclose(swish.forward(grid), grid * scipy.special.expit(1.75 * grid), rtol=1e-12, atol=1e-14)


def test_clip_in_both_forms(tmp_path):
    for graph in (imported(tmp_path, [node("Clip", "x", min=-0.5, max=0.25)], opset=9),
                  imported(tmp_path, [node("Clip", "x a b")], {"a": np.float32(-0.5), "b": np.float32(0.25)}),
                  imported(tmp_path, [node("Max", "x a", "h"), node("Min", "b h")],
                           {"a": np.float32(-0.5), "b": np.float32(0.25)})):
        np.testing.assert_array_equal(graph.forward(X), np.clip(X, -0.5, 0.25))
    half = imported(tmp_path, [node("Clip", "x - b")], {"b": np.float32(0.25)})
    np.testing.assert_array_equal(half.forward(X), np.minimum(X, 0.25))
    with pytest.raises(ModelError, match="low < high"):
        imported(tmp_path, [node("Clip", "x a b")], {"a": np.float32(0.5), "b": np.float32(0.25)})


def test_parameters_widen_exactly(tmp_path):
    graph = imported(tmp_path, [node("Gemm", "x W b", transB=1)], {"W": W, "b": B})
    layer = graph.layer(graph.order[1])
    assert isinstance(layer, Affine)
    assert np.array_equal(layer.weight, W.astype(np.float64))
    assert np.array_equal(layer.bias, B.astype(np.float64))
