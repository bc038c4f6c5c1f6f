"""Convolution, pooling and padding in ONNX files: every attribute, and the traps of each."""

import itertools

import numpy as np
import onnx
import pytest
from netgain.layers import AveragePool, Convolution, Mean, ModelError, Pad, Scale, UnsupportedModelError
from netgain.layers.formats.agreement import _reference
from onnx_models import imported, node, write

RANDOM = np.random.default_rng(3)
X = RANDOM.standard_normal((4, 2, 5, 7))  # channels, height and width all differ
W = RANDOM.standard_normal((6, 2, 3, 2)).astype(np.float32)
B = RANDOM.standard_normal(6).astype(np.float32)
IMAGE = ("batch", 2, 5, 7)


def layers(graph):
    return [graph.layer(name) for name in graph.order[1:-1]]


def only(graph):
    (layer,) = layers(graph)
    return layer


def correlate(x, weight, bias, strides, dilations, pads, groups):
    """The definition, one tap at a time."""
    top, left, bottom, right = pads
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    out, channels, height, width = weight.shape
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[2:], (height, width), dilations, strides,
                                                                  strict=True)]
    result = np.zeros((len(x), out, *counts))
    for m, c, i, j in np.ndindex(weight.shape):
        source = x[:, m // (out // groups) * channels + c]
        rows, columns = i * dilations[0] + strides[0] * np.arange(counts[0]), j * dilations[1] + strides[1] * np.arange(
            counts[1])
        result[:, m] += float(weight[m, c, i, j]) * source[:, rows[:, None], columns]
    return result + bias.reshape(-1, 1, 1)


@pytest.mark.parametrize(("strides", "dilations", "pads", "groups", "bias"), [
    ((1, 1), (1, 1), (0, 0, 0, 0), 1, False),
    ((2, 1), (1, 1), (0, 0, 0, 0), 1, True),
    ((1, 3), (2, 3), (0, 1, 2, 3), 1, True),
    ((2, 2), (1, 2), (1, 2, 0, 1), 2, True),
    ((1, 1), (1, 1), (3, 4, 0, 0), 2, False),
])
def test_conv_honours_every_attribute(tmp_path, strides, dilations, pads, groups, bias):
    weight = W[:, : 2 // groups]
    conv = node("Conv", "x W b" if bias else "x W", strides=strides, dilations=dilations, pads=pads, group=groups,
                kernel_shape=[3, 2])
    graph = imported(tmp_path, [conv], {"W": weight} | ({"b": B} if bias else {}), shape=IMAGE)
    expected = correlate(X, weight, B.astype(float) if bias else np.zeros(6), strides, dilations, pads, groups)
    np.testing.assert_allclose(graph.forward(X), expected, rtol=1e-12, atol=1e-12)
    assert only(graph).padding == (pads[:2], pads[2:])
    assert np.array_equal(only(graph).weight, weight)


@pytest.mark.parametrize(("mode", "total"), [("VALID", (0, 0, 0, 0)), ("SAME_UPPER", (1, 0, 1, 1)),
                                             ("SAME_LOWER", (1, 1, 1, 0))])
@pytest.mark.parametrize("opset", [1, 11, 22])
def test_auto_pad_of_convolution(tmp_path, mode, total, opset):
    graph = imported(tmp_path, [node("Conv", "x W", auto_pad=mode)], {"W": W}, shape=IMAGE, opset=opset)
    expected = correlate(X, W, np.zeros(6), (1, 1), (1, 1), total, 1)
    np.testing.assert_allclose(graph.forward(X), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("mode", "stride", "dilation", "size"), list(itertools.product(
    ("SAME_UPPER", "SAME_LOWER"), (1, 2, 3, 4), (1, 2, 3), (1, 2, 5, 6))))
def test_same_gives_one_window_for_each_stride(tmp_path, mode, stride, dilation, size):
    conv = node("Conv", "x W", auto_pad=mode, strides=[stride], dilations=[dilation])
    graph = imported(tmp_path, [conv], {"W": W[:, :, :, 0]}, shape=("batch", 2, size))
    assert graph.shape(graph.output) == (6, -(-size // stride))
    begins, ends = only(graph).padding
    assert (ends[0] - begins[0]) * (1 if mode == "SAME_UPPER" else -1) in (0, 1)


def test_convolution_along_one_and_three_axes(tmp_path):
    x = RANDOM.standard_normal((3, 2, 9))
    graph = imported(tmp_path, [node("Conv", "x W", pads=[2, 0])], {"W": W[:, :, :, 0]}, shape=("batch", 2, 9))
    expected = correlate(x[:, :, :, None], W[..., :1], np.zeros(6), (1, 1), (1, 1), (2, 0, 0, 0), 1)
    np.testing.assert_allclose(graph.forward(x), expected[..., 0], rtol=1e-12, atol=1e-12)
    cube = RANDOM.standard_normal((2, 2, 2, 3, 2)).astype(np.float32)
    graph = imported(tmp_path, [node("Conv", "x W")], {"W": cube}, shape=("batch", 2, 3, 5, 4))
    assert graph.shape(graph.output) == (2, 2, 3, 3)


@pytest.mark.parametrize(("attributes", "weight", "message"), [
    ({"auto_pad": "SAME_UPPER", "pads": [1, 0, 0, 0]}, W, "exclude each other"),
    ({"auto_pad": "SAME"}, W, "auto_pad = 'SAME'"),
    ({"pads": [1, 1]}, W, r"pads = \[1, 1\], expected 4 numbers"),
    ({"pads": [0, 0, -1, 0]}, W, "from 0 on"),
    ({"strides": [1]}, W, "strides"),
    ({"strides": [0, 1]}, W, "strides"),
    ({"dilations": [1, 0]}, W, "dilations"),
    ({"kernel_shape": [2, 3]}, W, "kernel_shape differs"),
    ({"group": 2}, W, "4 channels"),
    ({"group": 4}, W[:, :1], "do not split"),
    ({}, W[:, :, :, 0], "expected 4 axes"),
    ({}, np.ones((1, 2, 6, 1), np.float32), "does not fit into an input of 5 x 7"),
])
def test_convolutions_without_meaning_are_refused(tmp_path, attributes, weight, message):
    with pytest.raises(ModelError, match=message):
        imported(tmp_path, [node("Conv", "x W", **attributes)], {"W": weight}, shape=IMAGE)


def test_a_kernel_computed_from_the_input_is_refused(tmp_path):
    with pytest.raises(UnsupportedModelError, match="must be a constant"):
        imported(tmp_path, [node("Relu", "x", "W"), node("Conv", "x W")], shape=(1, 2, 5, 7))


def test_count_include_pad_is_off_by_default(tmp_path):
    pool = {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1], "strides": [2, 3]}
    x = np.ones((1, *X.shape[1:]))
    plain = imported(tmp_path, [node("AveragePool", "x", **pool)], shape=IMAGE)
    assert np.array_equal(plain.forward(x), np.ones((1, 2, 3, 3)))
    counted = imported(tmp_path, [node("AveragePool", "x", count_include_pad=1, **pool)], shape=IMAGE)
    np.testing.assert_allclose(counted.forward(x)[0, 0], [[0.5, 0.5, 0.25], [1, 1, 0.5], [1, 1, 0.5]])
    assert [only(g).count_include_pad for g in (plain, counted)] == [False, True]


@pytest.mark.parametrize(("size", "kernel", "stride", "include", "pads", "opset"), [
    case for case in itertools.product((2, 4, 7), (3, 4), (3, 4), (0, 1), ([0, 0], [1, 0], [0, 1]), (11, 22))
    if case[0] + sum(case[4]) - case[1] > -case[2]
])
def test_ceil_mode_does_not_move_the_windows(tmp_path, size, kernel, stride, include, pads, opset):
    """Where two entries or more are lacking, the reference evaluator of onnx moves them; mended, it takes part."""
    pool = node("AveragePool", "x", kernel_shape=[kernel], strides=[stride], ceil_mode=1, pads=pads,
                count_include_pad=include)
    graph = imported(tmp_path, [pool], shape=("batch", 2, size), opset=opset)
    x = RANDOM.standard_normal((1, 2, size)).astype(np.float32)
    reference = _reference(onnx.load(tmp_path / "net.onnx"), "x")(x)
    np.testing.assert_allclose(graph.forward(x.astype(float)), reference, rtol=1e-5, atol=1e-6)
    first = slice(max(0, -pads[0]), kernel - pads[0])
    counted = kernel if include and kernel <= size + sum(pads) else x[0, 0, first].size + (pads[0] if include else 0)
    if kernel <= size + sum(pads):
        assert graph.forward(x.astype(float))[0, 0, 0] == pytest.approx(x[0, 0, first].astype(float).sum() / counted)


@pytest.mark.parametrize(("mode", "padding"), [("VALID", ((0, 0), (0, 0))), ("SAME_UPPER", ((0, 1), (1, 1))),
                                               ("SAME_LOWER", ((1, 1), (0, 1)))])
def test_auto_pad_of_average_pooling(tmp_path, mode, padding):
    pool = node("AveragePool", "x", kernel_shape=[2, 3], strides=[2, 2], auto_pad=mode)
    assert only(imported(tmp_path, [pool], shape=IMAGE)).padding == padding


@pytest.mark.parametrize(("attributes", "message"), [
    ({"auto_pad": "VALID", "ceil_mode": 1, "strides": [2, 2]}, "ceil_mode = 1, which runtimes read differently"),
    ({"auto_pad": "SAME_UPPER", "dilations": [2, 1]}, "dilations, or with windows"),
    ({"auto_pad": "SAME_LOWER", "strides": [1, 4]}, "windows that leave a gap"),
    ({"pads": [0, 0, 0, 3], "strides": [1, 2]}, "lies in the padding"),
])
def test_what_runtimes_read_differently_is_refused(tmp_path, attributes, message):
    with pytest.raises(UnsupportedModelError, match=message):
        imported(tmp_path, [node("AveragePool", "x", kernel_shape=[2, 2], **attributes)], shape=IMAGE, opset=19)


def test_dilations_of_average_pooling_since_operator_set_19(tmp_path):
    pool = node("AveragePool", "x", kernel_shape=[2, 2], dilations=[3, 2])
    graph = imported(tmp_path, [pool], shape=IMAGE, opset=19)
    expected = (X[:, :, :2, :5] + X[:, :, 3:, :5] + X[:, :, :2, 2:] + X[:, :, 3:, 2:]) / 4
    np.testing.assert_allclose(graph.forward(X), expected, rtol=1e-13, atol=1e-14)
    with pytest.raises(ModelError):
        imported(tmp_path, [pool], shape=IMAGE, opset=18)


def test_means_over_axes(tmp_path):
    for nodes, weights, opset, expected in (
        ([node("GlobalAveragePool", "x")], {}, 11, X.mean((2, 3), keepdims=True)),
        ([node("ReduceMean", "x", axes=[2, 3], keepdims=0)], {}, 13, X.mean((2, 3))),
        ([node("ReduceMean", "x", axes=[-1])], {}, 13, X.mean(3, keepdims=True)),
        ([node("ReduceMean", "x a", keepdims=0)], {"a": np.array([1, -1])}, 18, X.mean((1, 3))),
        ([node("ReduceMean", "x", noop_with_empty_axes=1, output="h"), node("Relu", "h")], {}, 18, np.maximum(X, 0)),
    ):
        graph = imported(tmp_path, nodes, weights, shape=IMAGE, opset=opset)
        np.testing.assert_allclose(graph.forward(X), expected, rtol=1e-13, atol=1e-14)
    for options in ({"opset": 13}, {"opset": 18}):
        with pytest.raises(UnsupportedModelError, match="batch axis"):
            imported(tmp_path, [node("ReduceMean", "x")], shape=IMAGE, **options)


@pytest.mark.parametrize(("pads", "expected"), [
    ([0, 0, 1, 2, 0, 0, 0, 3], np.pad(X, ((0, 0), (0, 0), (1, 0), (2, 3)))),
    ([0, 1, 0, 0, 0, 0, 0, 0], np.pad(X, ((0, 0), (1, 0), (0, 0), (0, 0)))),
    ([0, 0, -1, 2, 0, 0, 0, -3], np.pad(X[:, :, 1:, :-3], ((0, 0), (0, 0), (0, 0), (2, 0)))),
    ([0] * 8, X),
])
def test_padding_lists_all_begins_then_all_ends(tmp_path, pads, expected):
    files = [
        ([node("Pad", "x", "h", pads=pads), node("Neg", "h")], {}, 2),
        ([node("Pad", "x p", "h"), node("Neg", "h")], {"p": np.array(pads)}, 11),
        ([node("Pad", "x p v", "h"), node("Neg", "h")], {"p": np.array(pads), "v": np.float32(0)}, 18),
        ([node("Pad", "x p - a", "h"), node("Neg", "h")],
         {"p": np.array([*pads[1:4], *pads[5:]]), "a": np.array([1, -2, 3])}, 18),
    ]
    for nodes, weights, opset in files:
        if min(pads) < 0 and opset == 2:
            continue
        graph = imported(tmp_path, nodes, weights, shape=IMAGE, opset=opset)
        assert np.array_equal(graph.forward(X), -expected)


def test_padding_with_a_number_is_zeros_and_a_constant(tmp_path):
    pads = {"p": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "v": np.float32(-1.5)}
    graph = imported(tmp_path, [node("Pad", "x p v")], pads, shape=IMAGE)
    assert np.array_equal(graph.forward(X), np.pad(X, ((0, 0), (0, 0), (1, 0), (0, 2)), constant_values=-1.5))
    assert [type(layer) for layer in layers(graph)] == [Pad, Scale]


@pytest.mark.parametrize(("nodes", "pads", "message"), [
    ([node("Pad", "x p", mode="reflect")], [0, 0, 1, 0, 0, 0, 0, 0], "mode = 'reflect'"),
    ([node("Pad", "x p", mode="edge")], [0, 0, 1, 0, 0, 0, 0, 0], "mode = 'edge'"),
    ([node("Pad", "x p")], [1, 0, 0, 0, 0, 0, 0, 0], "batch axis"),
    ([node("Pad", "x p")], [0, 0, -5, 0, 0, 0, 0, 0], "cut off everything"),
    ([node("Pad", "x p")], [0, 0, 1], "do not fit"),
])
def test_padding_without_a_linear_meaning_is_refused(tmp_path, nodes, pads, message):
    with pytest.raises(UnsupportedModelError, match=message):
        imported(tmp_path, nodes, {"p": np.array(pads)}, shape=IMAGE)


def test_flattening_is_channels_then_rows_then_columns(tmp_path):
    weight = RANDOM.standard_normal((6 * 3 * 6, 4)).astype(np.float32)
    for reshape in (node("Flatten", "h", "f"), node("Reshape", "h s", "f")):
        nodes = [node("Conv", "x W", "h"), reshape, node("MatMul", "f M")]
        graph = imported(tmp_path, nodes, {"W": W, "M": weight, "s": np.array([0, -1])}, shape=IMAGE)
        images = correlate(X, W, np.zeros(6), (1, 1), (1, 1), (0,) * 4, 1)
        np.testing.assert_allclose(graph.forward(X), images.reshape(4, -1) @ weight.astype(float), rtol=1e-11)


def test_a_vector_without_batch_axis_can_be_read_as_one_image(tmp_path):
    nodes = [node("Reshape", "x s", "h"), node("Conv", "h W", "c"), node("GlobalAveragePool", "c", "g"),
             node("Flatten", "g")]
    graph = imported(tmp_path, nodes, {"W": W, "s": np.array([1, 2, 5, 7])}, shape=(70,))
    images = correlate(X, W, np.zeros(6), (1, 1), (1, 1), (0,) * 4, 1)
    np.testing.assert_allclose(graph.forward(X.reshape(4, 70))[:, 0], images.mean((2, 3)), rtol=1e-12, atol=1e-13)
    kinds = {type(layer) for layer in layers(graph)}
    assert {Convolution, Mean} <= kinds
    assert AveragePool not in kinds
    with pytest.raises(UnsupportedModelError, match="holds several images"):
        imported(tmp_path, nodes, {"W": W[:, :1], "s": np.array([2, 1, 5, 7])}, shape=(70,))


def test_a_residual_block_with_a_strided_projection(tmp_path):
    three, one = RANDOM.standard_normal((4, 2, 3, 3)).astype(np.float32), W[:4, :, :1, :1]
    nodes = [node("Conv", "x A", "a", strides=[2, 2], pads=[1, 1, 1, 1]), node("Conv", "x P", "p", strides=[2, 2]),
             node("Add", "a p", "s"), node("Relu", "s")]
    graph = imported(tmp_path, nodes, {"A": three, "P": one}, shape=IMAGE)
    expected = correlate(X, three, np.zeros(4), (2, 2), (1, 1), (1,) * 4, 1) + correlate(
        X, one, np.zeros(4), (2, 2), (1, 1), (0,) * 4, 1)
    np.testing.assert_allclose(graph.forward(X), np.maximum(expected, 0), rtol=1e-12, atol=1e-12)


def test_shapes_that_inference_gets_wrong_do_not_matter(tmp_path):
    """The file may state any shape for what lies between input and output."""
    nodes = [node("AveragePool", "x", "h", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
             node("Relu", "h")]
    path = write(tmp_path / "net.onnx", nodes, shape=("batch", 1, 6, 6))
    model = onnx.load(path)
    stated = onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, ["batch", 1, 9, 9])
    model.graph.value_info.append(stated)
    onnx.save(model, path)
    from netgain.layers import load

    graph = load(path)
    assert graph.shape(graph.output) == (1, 4, 4)
