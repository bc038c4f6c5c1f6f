"""Max pooling and maxima over axes in ONNX files: every attribute, and what is refused."""

import itertools

import numpy as np
import onnx
import pytest
from netgain.layers import MaxPool, ModelError, UnsupportedModelError
from netgain.layers.formats.agreement import _reference
from onnx.reference import ReferenceEvaluator
from onnx_models import imported, node, write

RANDOM = np.random.default_rng(5)
X = RANDOM.standard_normal((4, 2, 5, 7))  # channels, height and width all differ
IMAGE = ("batch", 2, 5, 7)


def kinds(graph):
    return [type(graph.layer(name)).__name__ for name in graph.order[1:-1]]


def maxima(x, kernel, strides, dilations, pads, counts):
    """The definition, one window at a time; what lies outside does not count."""
    result = np.empty((*x.shape[:2], *counts))
    for window in np.ndindex(*counts):
        places = [[o * s - b + k * d for k in range(size)] for o, s, b, size, d in zip(
            window, strides, pads[:2], kernel, dilations, strict=True)]
        inside = [[p for p in along if 0 <= p < n] for along, n in zip(places, x.shape[2:], strict=True)]
        result[(..., *window)] = x[(slice(None), slice(None), *np.ix_(*inside))].max((2, 3))
    return result


@pytest.mark.parametrize(("kernel", "strides", "dilations", "pads", "ceil_mode", "counts"), [
    ((2, 2), (2, 2), (1, 1), (0, 0, 0, 0), 0, (2, 3)),
    ((2, 2), (2, 2), (1, 1), (0, 0, 0, 0), 1, (3, 4)),
    ((3, 3), (2, 2), (1, 1), (1, 1, 1, 1), 0, (3, 4)),
    ((3, 2), (1, 3), (2, 1), (0, 1, 1, 0), 0, (2, 3)),
    ((2, 3), (3, 2), (1, 2), (1, 2, 0, 1), 1, (2, 4)),
    ((5, 7), (1, 1), (1, 1), (0, 0, 0, 0), 0, (1, 1)),
])
def test_max_pool_honours_every_attribute(tmp_path, kernel, strides, dilations, pads, ceil_mode, counts):
    pool = node("MaxPool", "x", kernel_shape=kernel, strides=strides, dilations=dilations, pads=pads,
                ceil_mode=ceil_mode)
    graph = imported(tmp_path, [pool], shape=IMAGE)
    assert np.array_equal(graph.forward(X), maxima(X, kernel, strides, dilations, pads, counts))


def test_padding_is_never_the_maximum(tmp_path):
    graph = imported(tmp_path, [node("MaxPool", "x", kernel_shape=[2, 2], pads=[1, 1, 1, 1])], shape=IMAGE)
    assert np.all(graph.forward(-np.ones((1, 2, 5, 7))) == -1)


@pytest.mark.parametrize(("mode", "size", "kernel", "stride"), [
    case for case in itertools.product(("SAME_UPPER", "SAME_LOWER"), (4, 5, 7), (2, 3), (1, 2, 3))
])
def test_same_gives_one_window_for_each_stride(tmp_path, mode, size, kernel, stride):
    """The reference evaluator of onnx reads SAME_LOWER in its own way; mended, it takes part in the comparison."""
    pool = node("MaxPool", "x", kernel_shape=[kernel], strides=[stride], auto_pad=mode)
    if (size - 1) // stride * stride + kernel < size:
        with pytest.raises(UnsupportedModelError, match="windows that leave a gap"):
            imported(tmp_path, [pool], shape=("batch", 2, size))
        return
    graph = imported(tmp_path, [pool], shape=("batch", 2, size))
    (layer,) = [graph.layer(name) for name in graph.order[1:-1]]
    assert graph.shape(graph.output) == (2, -(-size // stride))
    (before,), (after,) = layer.padding
    assert (after - before) * (1 if mode == "SAME_UPPER" else -1) in (0, 1)


@pytest.mark.parametrize("seed", range(20))
def test_the_mended_reference_is_the_one_of_onnx_where_that_is_right(tmp_path, seed):
    random = np.random.default_rng(seed)
    attributes = {"kernel_shape": random.integers(2, 5, 2), "strides": random.integers(1, 4, 2),
                  "dilations": random.integers(1, 3, 2)}
    if seed % 4:
        attributes |= {"pads": random.integers(0, 2, 4), "ceil_mode": int(random.integers(0, 2))}
    else:
        attributes |= {"auto_pad": ["VALID", "SAME_UPPER"][seed % 8 // 4], "dilations": [1, 1]}
    pool = node("MaxPool", "x", **attributes)
    model = onnx.load(write(tmp_path / "net.onnx", [pool], shape=IMAGE))
    x = X.astype(np.float32)
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    assert np.array_equal(_reference(model, "x")(x), expected)


def test_global_maxima(tmp_path):
    for nodes, weights, opset, expected in (
        ([node("GlobalMaxPool", "x")], {}, 11, X.max((2, 3), keepdims=True)),
        ([node("ReduceMax", "x", axes=[2, 3], keepdims=0)], {}, 13, X.max((2, 3))),
        ([node("ReduceMax", "x", axes=[-1])], {}, 12, X.max(3, keepdims=True)),
        ([node("ReduceMax", "x a", keepdims=0)], {"a": np.array([1, -1])}, 18, X.max((1, 3))),
        ([node("ReduceMax", "x a")], {"a": np.array([1])}, 20, X.max(1, keepdims=True)),
        ([node("ReduceMax", "x", noop_with_empty_axes=1, output="h"), node("Neg", "h")], {}, 18, -X),
    ):
        graph = imported(tmp_path, nodes, weights, shape=IMAGE, opset=opset)
        assert np.array_equal(graph.forward(X), expected)
    assert kinds(imported(tmp_path, [node("GlobalMaxPool", "x")], shape=IMAGE)) == ["MaxPool"]
    vector = imported(tmp_path, [node("ReduceMax", "x", axes=[1])], shape=("batch", 5), opset=13)
    assert np.array_equal(vector.forward(X[:, 0, :, 0]), X[:, 0, :, 0].max(1, keepdims=True))
    with pytest.raises(UnsupportedModelError, match="batch axis"):
        imported(tmp_path, [node("ReduceMax", "x")], shape=IMAGE)


def test_a_vector_without_batch_axis_can_be_read_as_one_image(tmp_path):
    nodes = [node("Reshape", "x s", "h"), node("MaxPool", "h", "m", kernel_shape=[2, 3], strides=[2, 3]),
             node("Flatten", "m")]
    graph = imported(tmp_path, nodes, {"s": np.array([1, 2, 5, 7])}, shape=(70,))
    expected = maxima(X, (2, 3), (2, 3), (1, 1), (0, 0), (2, 2))
    assert np.array_equal(graph.forward(X.reshape(4, 70)), expected.reshape(4, 1, 8))


def test_indices_of_the_maxima_are_refused_if_they_are_used(tmp_path):
    pool = {"kernel_shape": [2, 2], "strides": [2, 2], "storage_order": 1}
    unused = imported(tmp_path, [node("MaxPool", "x", "y i", **pool)], shape=IMAGE)
    assert kinds(unused) == ["MaxPool"]
    used = [node("MaxPool", "x", "h i", **pool), node("Cast", "i", "f", to=1), node("Add", "h f")]
    with pytest.raises(UnsupportedModelError, match=r"\(MaxPool\): its output 1 \('i'\) is used, and has no meaning"):
        imported(tmp_path, used, shape=IMAGE)


@pytest.mark.parametrize(("attributes", "opset", "message"), [
    ({"auto_pad": "VALID", "ceil_mode": 1, "strides": [2, 2]}, 19, "ceil_mode = 1, which runtimes read differently"),
    ({"auto_pad": "SAME_UPPER", "dilations": [2, 1]}, 19, "dilations, or with windows"),
    ({"auto_pad": "SAME_LOWER", "strides": [1, 4]}, 19, "windows that leave a gap"),
    ({"pads": [0, 0, 0, 3], "strides": [1, 2]}, 19, "lies in the padding"),
    ({"pads": [0, 0, 0, -1]}, 19, "pads"),
    ({"strides": [1]}, 19, "strides"),
    ({"kernel_shape": [6, 1]}, 19, "does not fit into an input of 5 x 7"),
    ({"kernel_shape": [2]}, 19, "kernel_shape"),
    ({"dilations": [2, 1]}, 8, "dilations"),
    ({"ceil_mode": 1}, 8, "ceil_mode"),
])
def test_what_has_no_meaning_or_several_is_refused(tmp_path, attributes, opset, message):
    with pytest.raises(ModelError, match=message):
        imported(tmp_path, [node("MaxPool", "x", **({"kernel_shape": [2, 2]} | attributes))], shape=IMAGE, opset=opset)


def test_max_pooling_knows_the_size_of_its_windows(tmp_path):
    graph = imported(tmp_path, [node("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 1])], shape=IMAGE)
    (layer,) = [graph.layer(name) for name in graph.order[1:-1]]
    assert isinstance(layer, MaxPool)
    assert layer.reuse((2, 5, 7)) == 4
