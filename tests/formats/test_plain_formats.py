"""Weights in .npz, .mat and .nnet files."""

import numpy as np
import pytest
import scipy.io
from netgain.layers import Affine, LeakyRelu, ModelError, Relu, Scale, Tanh, describe_source, load, sequential
from netgain.layers.formats import load_mat, save_npz
from netgain.layers.formats.perceptron import ACTIVATIONS, activation_named, name_of

RANDOM = np.random.default_rng(3)
W1, W2 = RANDOM.standard_normal((5, 3)).astype(np.float32), RANDOM.standard_normal((2, 5)).astype(np.float32)
B1, B2 = RANDOM.standard_normal(5).astype(np.float32), RANDOM.standard_normal(2).astype(np.float32)
X = RANDOM.standard_normal((7, 3))
PLAIN = {"W1": W1, "b1": B1, "W2": W2, "b2": B2, "activation": "relu"}


def relu_net(x):
    return np.maximum(x @ W1.T.astype(float) + B1, 0) @ W2.T.astype(float) + B2


def npz(tmp_path, **arrays):
    np.savez(tmp_path / "net.npz", **arrays)
    return tmp_path / "net.npz"


def mat(tmp_path, content):
    scipy.io.savemat(tmp_path / "net.mat", content)
    return tmp_path / "net.mat"


def test_npz_holds_a_perceptron(tmp_path):
    path = npz(tmp_path, **PLAIN)
    np.testing.assert_allclose(load(path).forward(X), relu_net(X), rtol=1e-12)
    assert load(path).name == "net"
    assert describe_source(path).format == "numpy archive"
    mean, scale = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 0.5])
    scaled = load(npz(tmp_path, **PLAIN, input_mean=mean, input_scale=scale))
    np.testing.assert_allclose(scaled.forward(X), relu_net((X - mean) / scale), rtol=1e-12)
    per_layer = load(npz(tmp_path, W1=W1, W2=W2, activation=np.array(["leaky_relu:0.25"])))
    assert per_layer.layer(per_layer.order[2]).slope == 0.25


@pytest.mark.parametrize(("change", "text"), [
    ({"W2": W2.T}, r"W2 is 5x2 but expects k x 5"),
    ({"W2": np.ones((10, 4))}, r"W2 is 10x4 but expects k x 5"),
    ({"b1": B1[None]}, "b1 has shape"),
    ({"activation": "cube"}, "not known"),
    ({"activation": "clip:-1,1,2"}, "at most 2"),
    ({"activation": "leaky_relu:much"}, "no numbers"),
    ({"activation": np.array(["relu", "relu"])}, "2 activations for 1"),
    ({"activation": np.array(1.0)}, "strings"),
    ({"W4": W1}, "missing W3"),
    ({"scale": W1, "bias": B1}, "not understood: bias, scale"),
    ({"W1": W1 * np.nan}, "NaN"),
    ({"W1": W1.astype(complex)}, "dtype"),
    ({"input_mean": B2}, "input_mean has shape"),
    ({"input_scale": np.zeros(3)}, "zero"),
])
def test_npz_errors_say_what_is_wrong(tmp_path, change, text):
    with pytest.raises(ModelError, match=text):
        load(npz(tmp_path, **(PLAIN | change)))


def test_npz_never_unpickles(tmp_path):
    with pytest.raises(ModelError, match="plain arrays"):
        load(npz(tmp_path, **(PLAIN | {"W1": np.array([W1, None], dtype=object)})))
    path = npz(tmp_path, W1=W1, W2=W2)
    with pytest.raises(ModelError, match="`activation` is missing"):
        load(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ModelError, match="cut short"):
        load(path)


def test_save_npz_round_trips_to_the_same_digest(tmp_path):
    layers = [Scale(shift=np.array([0.1, 0.2, 0.3])), Scale(divisor=np.array([3.0, 1.0, 0.1])), Affine(W1, B1),
              LeakyRelu(0.1), Affine(W2)]
    graph = sequential((3,), layers)
    save_npz(tmp_path / "again.npz", graph)
    assert load(tmp_path / "again.npz").digest == graph.digest
    for wrong in ([Affine(W1), Scale(2.0)], [Scale(multiplier=2.0), Affine(W1)], [Scale(shift=np.ones(3))],
                  [Affine(W1), LeakyRelu(B1), Affine(W2)]):
        with pytest.raises(ModelError):
            save_npz(tmp_path / "wrong.npz", sequential((3,), wrong))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_names_of_activations_round_trip(name):
    layer = activation_named(name)
    assert name_of(activation_named(name_of(layer))) == name_of(layer)


def cell(*matrices):
    result = np.empty((1, len(matrices)), dtype=object)
    for position, matrix in enumerate(matrices):
        result[0, position] = matrix
    return result


def test_mat_in_the_layout_of_lipsdp(tmp_path):
    graph = load(mat(tmp_path, {"weights": cell(W1, W2)}))
    np.testing.assert_allclose(graph.forward(X), np.maximum(X @ W1.T.astype(float), 0) @ W2.T.astype(float), rtol=1e-12)
    assert isinstance(graph.layer(graph.order[2]), Relu)
    with pytest.raises(ModelError, match=r"W2 is 5x2 but expects k x 5"):
        load(mat(tmp_path, {"weights": cell(W1, W2.T)}))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("struct", [False, True])
def test_mat_with_numbered_weights_in_either_orientation(tmp_path, transposed, struct):
    first, second = (W1.T, W2.T) if transposed else (W1, W2)
    if struct:
        content = {"params": {"linear_0_weight": first, "linear_0_bias": B1, "linear_1_weight": second,
                              "linear_1_bias": B2}, "metadata": {"model_type": "MLP"}}
    else:
        content = {"fc1_weight": first, "fc1_bias": B1, "fc2_weight": second, "fc2_bias": B2}
    np.testing.assert_allclose(load(mat(tmp_path, content)).forward(X), relu_net(X), rtol=1e-12)


def test_mat_square_matrices_follow_the_others_or_an_argument(tmp_path):
    square = RANDOM.standard_normal((4, 4))
    wide = RANDOM.standard_normal((4, 6))
    graph = load(mat(tmp_path, {"fc1_weight": wide.T, "fc2_weight": square}))
    assert np.array_equal(graph.layer(graph.order[3]).weight, square.T)
    path = mat(tmp_path, {"fc1_weight": square, "fc2_weight": square})
    with pytest.raises(ModelError, match="transposed="):
        load(path)
    graph = load_mat(path, transposed=True)
    assert np.array_equal(graph.layer(graph.order[1]).weight, square.T)


def test_mat_standardises_the_input_and_reads_the_activation(tmp_path):
    content = {"fc1_weight": W1, "fc1_bias": B1, "fc2_weight": W2, "fc2_bias": B2, "input_mean": np.ones((1, 3)),
               "input_scale": np.full((1, 3), 4.0), "activation": "tanh"}
    path = mat(tmp_path, content)
    graph = load(path)
    expected = np.tanh((X - 1) / 4 @ W1.T.astype(float) + B1) @ W2.T.astype(float) + B2
    np.testing.assert_allclose(graph.forward(X), expected, rtol=1e-12)
    bare = load_mat(path, standardised=False)
    np.testing.assert_allclose(bare.forward((X - 1) / 4), expected, rtol=1e-12)
    assert isinstance(bare.layer(bare.order[2]), Tanh)


@pytest.mark.parametrize(("content", "text"), [
    ({"fc1_weight": W1, "fc3_weight": W2}, "without gaps"),
    ({"fc1_weight": W1, "fc2_weight": W2, "conv1_weight": W1}, "not understood: conv1_weight"),
    ({"fc1_weight": W1, "fc2_weight": W1}, "neither"),
    ({"fc1_weight": W1, "fc1_bias": B2}, "neither"),
    ({"weights": W1}, "cell array"),
    ({"params": {"linear_0_weight": W1}, "metadata": {"model_type": "CNN"}}, "of type CNN"),
    ({"params": {"linear_0_weight": W1, "conv_0_weight": W1}}, "conv_0_weight"),
    ({"nothing": 1.0}, "no weights"),
])
def test_mat_errors_say_what_is_wrong(tmp_path, content, text):
    with pytest.raises(ModelError, match=text):
        load(mat(tmp_path, content))


def test_mat_files_that_cannot_be_read(tmp_path):
    path = mat(tmp_path, {"fc1_weight": np.ones((40, 30))})
    content = path.read_bytes()
    for length in (1, 100, 130, 200, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError):
            load(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelError, match=r"7\.3"):
        load(path)


NNET = """// a comment
2,3,2,5,
3,5,2,
0
-1.0,-1.0,-1.0,
1.0,1.0,1.0,
0.5,1.0,-2.0,7.5,
2.0,4.0,0.5,10.0,
"""


def nnet(path, header=NNET, extra=""):
    rows = [",".join(repr(float(v)) for v in np.atleast_1d(row)) + "," for block in (W1, B1, W2, B2) for row in block]
    path.write_text(header + "\n".join(rows) + "\n" + extra)
    return path


def test_nnet_is_in_physical_units(tmp_path):
    graph = load(nnet(tmp_path / "a.nnet"))
    mean, scale = np.array([0.5, 1.0, -2.0]), np.array([2.0, 4.0, 0.5])
    np.testing.assert_allclose(graph.forward(X), relu_net((X - mean) / scale) * 10 + 7.5, rtol=1e-12)


def test_nnet_errors_name_the_line(tmp_path):
    path = nnet(tmp_path / "a.nnet")
    lines = path.read_text().splitlines(keepends=True)
    for count in range(len(lines)):
        path.write_text("".join(lines[:count]) or "\n")
        with pytest.raises(ModelError, match=r"line \d+: the file ends before"):
            load(path)
    for line, replacement, text in ((1, "2,3,2\n", "line 2: 3 numbers"), (3, "1\n", "flag"),
                                    (2, "3,5,3,\n", "do not fit"),
                                    (7, "2.0,0.0,0.5,10.0,\n", "line 8: a range is zero"), (9, "1,two,3,\n", "line 10"),
                                    (9, "1,nan,3,\n", "finite"), (1, "2.5,3,2,5,\n", "integers")):
        path.write_text("".join([*lines[:line], replacement, *lines[line + 1:]]))
        with pytest.raises(ModelError, match=text):
            load(path)
    with pytest.raises(ModelError, match="more numbers"):
        load(nnet(path, extra="1.0,\n"))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="no text file"):
        load(path)
