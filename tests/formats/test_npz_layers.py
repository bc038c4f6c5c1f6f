"""Archives of networks with convolutions, poolings and state-space models."""

import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.signal
from netgain.layers import (
    Add,
    Affine,
    AveragePool,
    BatchNormalization,
    Convolution,
    Flatten,
    GraphBuilder,
    GroupSort,
    LeakyRelu,
    MaxPool,
    Mean,
    ModelError,
    Relu,
    Scale,
    StateSpace,
    Tanh,
    load,
    sequential,
)
from netgain.layers.formats import save_npz
from netgain.layers.formats.layer_names import layer_named, name_of_layer

RANDOM = np.random.default_rng(6)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def archive(tmp_path, **arrays):
    np.savez(tmp_path / "net.npz", **arrays)
    return tmp_path / "net.npz"


def kinds(graph):
    return [graph.layer(name).describe() for name in graph.order[1:-1]]


IMAGES = {"W1": normal(3, 1, 3, 3), "b1": normal(3), "padding1": 1, "stride1": [1, 2], "layer2": "relu",
          "layer3": "max_pool:2", "W4": normal(4, 1, 2, 1), "groups4": 1, "layer5": "tanh", "W6": normal(2, 8),
          "input_shape": [1, 4, 8]}
IMAGES["W4"] = normal(4, 3, 2, 1)
MODES = (0.8 * np.exp([0.3j, 1.2j])).astype(np.complex64)
SEQUENCES = {"W1": normal(3, 1, 1), "A2": MODES, "B2": normal(2, 3) + 1j * normal(2, 3), "C2": normal(3, 2) + 0j,
             "D2": np.eye(3), "A3": np.array([0.5, -0.25]), "B3": normal(2, 3), "C3": normal(3, 2), "b3": normal(3),
             "layer4": "mean", "W5": normal(2, 3), "input_shape": [1, 6], "activation": ["none", "relu", "relu"]}


def test_an_archive_of_a_convolutional_network(tmp_path):
    torch = pytest.importorskip("torch")
    graph = load(archive(tmp_path, **IMAGES))
    assert kinds(graph) == ["Convolution 3x3, 1 -> 3, stride 1x2", "Relu", "MaxPool 2x2", "Convolution 2x1, 3 -> 4",
                            "Tanh", "Flatten", "Affine 8 -> 2"]
    x = RANDOM.standard_normal((5, 1, 4, 8))
    weights = {key: torch.tensor(IMAGES[key]).double() for key in ("W1", "b1", "W4", "W6")}
    function = torch.nn.functional
    h = function.conv2d(torch.tensor(x), weights["W1"], weights["b1"], (1, 2), 1)
    h = torch.tanh(function.conv2d(function.max_pool2d(torch.relu(h), 2), weights["W4"]))
    np.testing.assert_allclose(graph.forward(x), (h.flatten(1) @ weights["W6"].T).numpy(), rtol=1e-11, atol=1e-12)


def test_an_archive_of_a_state_space_network(tmp_path):
    graph = load(archive(tmp_path, **SEQUENCES))
    assert kinds(graph) == ["Convolution 1, 1 -> 3", "StateSpace 3 -> 3, 4 states", "Relu",
                            "StateSpace 3 -> 3, 2 states", "Relu", "Mean over axes -1", "Affine 3 -> 2"]
    u = RANDOM.standard_normal((1, 6))
    h = SEQUENCES["W1"][:, :, 0].astype(float) @ u
    x, outputs = np.zeros(2, dtype=complex), []
    for t in range(6):
        outputs.append((SEQUENCES["C2"].astype(complex) @ x).real + h[:, t])
        x = MODES.astype(complex) * x + SEQUENCES["B2"].astype(complex) @ h[:, t]
    h = np.maximum(np.stack(outputs), 0)
    second = (np.diag(SEQUENCES["A3"]), SEQUENCES["B3"], SEQUENCES["C3"], np.zeros((3, 3)), 1.0)
    h = np.maximum(scipy.signal.dlsim(second, h)[1] + SEQUENCES["b3"], 0)
    np.testing.assert_allclose(graph.forward(u[None])[0], SEQUENCES["W5"] @ h.mean(axis=0), rtol=1e-6, atol=1e-7)


def test_conjugate_pairs_count_twice(tmp_path):
    arrays = {"A1": MODES, "B1": normal(2, 1) + 0j, "C1": 1j * normal(1, 2), "input_shape": [1, 5]}
    once = load(archive(tmp_path, **arrays))
    twice = load(archive(tmp_path, **arrays, conjugate_pairs1=True))
    x = RANDOM.standard_normal((3, 1, 5))
    np.testing.assert_allclose(twice.forward(x), 2 * once.forward(x), rtol=1e-14)
    assert load(archive(tmp_path, **arrays, conjugate_pairs1=False)).digest == once.digest


def test_options_of_windows(tmp_path):
    x = RANDOM.standard_normal((2, 4, 9, 8))
    options = {"stride1": 2, "dilation1": [1, 2], "padding1": [1, 0, 2, 3], "groups1": 2}
    graph = load(archive(tmp_path, W1=normal(2, 2, 3, 2), input_shape=[4, 9, 8], **options))
    layer = graph.layer(graph.order[1])
    assert (layer.strides, layer.dilations, layer.padding, layer.groups) == ((2, 2), (1, 2), ((1, 0), (2, 3)), 2)
    symmetric = load(archive(tmp_path, W1=normal(2, 4, 3, 2), input_shape=[4, 9, 8], padding1=[1, 2]))
    assert symmetric.layer(symmetric.order[1]).padding == ((1, 2), (1, 2))
    assert symmetric.forward(x).shape == (2, 2, 9, 11)


def test_normalisation_broadcasts_to_the_input(tmp_path):
    mean, scale = np.array([1.0, 2.0]).reshape(2, 1, 1), 4.0
    arrays = {"layer1": "mean", "W2": normal(3, 2), "input_shape": [2, 3, 3]}
    x = RANDOM.standard_normal((4, 2, 3, 3))
    plain = load(archive(tmp_path, **arrays))
    scaled = load(archive(tmp_path, **arrays, input_mean=mean, input_scale=scale))
    np.testing.assert_allclose(scaled.forward(x), plain.forward((x - mean) / scale), rtol=1e-13)


NETWORKS = {
    "images": sequential((1, 6, 6), [
        Scale(shift=np.full((1, 1, 1), -0.5)), Convolution(normal(4, 1, 3, 3), normal(4), (1, 1), (), ((1, 0), (0, 2))),
        Relu(), MaxPool((3, 2), (2, 1), padding=((1, 0), (1, 0))), Convolution(normal(4, 2, 2, 2), None, groups=2),
        LeakyRelu(0.1), AveragePool((2, 2), (2, 2)), Flatten(), Affine(normal(2, 8), normal(2)), Tanh()]),
    "alternating": sequential((2, 8), [
        Convolution(normal(3, 2, 2), None, (2,), (2,)), Relu(), Convolution(normal(2, 3, 1)), GroupSort(3),
        StateSpace(normal(2, 1, 1), normal(2, 2), normal(1, 2), normal(1, 2), normal(1))]),
    "sequences": sequential((1, 6), [
        StateSpace.from_modes(MODES, normal(2, 1) + 1j * normal(2, 1), normal(2, 2) + 0j, conjugate_pairs=True), Relu(),
        Mean((-1,), keep=False), Affine(normal(1, 2))]),
    "linear": sequential((3,), [Affine(normal(2, 3)), Affine(normal(3, 2), normal(3))]),
    "activation last": sequential((3,), [Affine(normal(2, 3)), Relu()]),
    "activation only": sequential((2, 3), [Relu()]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_saved_is_read_back_as_the_same_graph(tmp_path, name):
    graph = NETWORKS[name]
    save_npz(tmp_path / "again.npz", graph)
    assert load(tmp_path / "again.npz").digest == graph.digest


def test_all_layers_without_a_place_in_an_archive_are_listed(tmp_path):
    layers = [BatchNormalization(*np.ones((4, 2)), trailing=1), Affine(normal(2, 2), axis=-2),
              MaxPool((2,), padding=((1,), (0,))), AveragePool((2,), count_include_pad=True),
              StateSpace(np.ones(1), np.ones((1, 2)), np.ones((1, 1)), initial_state=np.ones(1)), Mean((-1,))]
    with pytest.raises(ModelError) as caught:
        save_npz(tmp_path / "net.npz", sequential((2, 6), layers))
    text = str(caught.value)
    for part in ("BatchNormalization", "Affine 2 -> 2", "MaxPool 2", "AveragePool 2", "initial state", "Mean over"):
        assert part in text
    assert not (tmp_path / "net.npz").exists()
    builder = GraphBuilder()
    x = builder.input((2,))
    skip = builder.build(builder.add(Add((1, 1)), builder.add(Relu(), x), x))
    with pytest.raises(ModelError, match="one layer after the other"):
        save_npz(tmp_path / "net.npz", skip)


def without(content, *keys):
    return {key: value for key, value in content.items() if key not in keys}


@pytest.mark.parametrize(("arrays", "messages"), [
    (without(IMAGES, "input_shape"), ["`input_shape` is missing"]),
    (IMAGES | {"input_shape": [1.5, 4, 8]}, ["positive whole numbers, got [1.5, 4.0, 8.0]"]),
    (IMAGES | {"input_shape": [[1, 4, 8]]}, ["positive whole numbers"]),
    (IMAGES | {"input_shape": [1, 0, 8]}, ["positive whole numbers"]),
    (IMAGES | {"input_shape": [2, 4, 8]}, ["layer 1: A convolution with weights (3, 1, 3, 3)"]),
    (IMAGES | {"input_shape": [1, 4, 12]}, ["layer 6: W6 is 2x8 but expects k x 12"]),
    (IMAGES | {"W6": normal(8, 2)}, ["W6 is 8x2 but expects k x 8; transposed?"]),
    (IMAGES | {"layer3": "max_pool:9"}, ["layer 3: A window of 9 x 9 entries does not fit"]),
    (IMAGES | {"layer3": "max_pool:2,2x1x1"}, ["does not fit an input with 2 spatial axes"]),
    (IMAGES | {"stride1": 0, "padding6": 1, "layer3": "max_pool:x", "b4": normal(3), "colour": 1, "C5": normal(2, 2)},
     ["`strides` holds whole numbers from 1", "padding6 belong to convolutions, but W6 is a matrix",
      "layer 3: The layer 'max_pool:x' takes whole numbers", "layer 4: The bias has shape (3,)"]),
    (IMAGES | {"colour": 1, "C5": normal(2, 2), "W7": normal(2), "A7": normal(2), "layer9": "relu"},
     ["keys not understood: colour", "C5 cannot go with layer5", "layer 7 has A7, W7, expected one of", "missing W8"]),
    (IMAGES | {"activation": "relu"}, ["`activation` is given, and relu, tanh among the layers"]),
    (without(IMAGES, "layer2", "layer5") | {"layer2": "flatten", "layer5": "flatten"}, ["`activation` is missing"]),
    (IMAGES | {"stride1": [1, 2, 3]}, ["stride1 = [1, 2, 3], expected whole numbers, as many as one of 1, 2"]),
    (IMAGES | {"padding1": 0.5}, ["padding1 = 0.5, expected whole numbers, as many as one of 1, 2, 4"]),
    (IMAGES | {"layer2": "softmax:2"}, ["The layer 'softmax:2' is not known; known are flatten, mean, average_pool"]),
    (IMAGES | {"layer2": 3}, ["layer2 must be a string, got int64"]),
    (IMAGES | {"W4": normal(4)}, ["W4 has shape (4,), expected a matrix"]),
    (IMAGES | {"input_mean": normal(3)}, ["input_mean has shape (3,), which does not fit an input of shape (1, 4, 8)"]),
    (SEQUENCES | {"input_shape": [1, 6, 1]}, ["layer 1: A convolution with weights (3, 1, 1)"]),
    (without(SEQUENCES, "B2", "C3"), ["missing B2 for A2", "missing C3 for A3"]),
    (SEQUENCES | {"conjugate_pairs3": True}, ["conjugate_pairs3 belongs to complex modes"]),
    (SEQUENCES | {"conjugate_pairs2": 2}, ["conjugate_pairs2 = 2, expected True or False"]),
    (SEQUENCES | {"D2": 1j * np.eye(3)}, ["layer 2: `D` has dtype complex128"]),
    (SEQUENCES | {"A2": np.diag(MODES)}, ["layer 2: Modes have shapes"]),
    (SEQUENCES | {"A3": normal(3)}, ["layer 3: A has shape (3,)"]),
    (SEQUENCES | {"activation": ["relu"]}, ["names 1 activations for 3 hidden layers"]),
    ({"b1": normal(2)}, ["layer 1 has b1, expected one of W1, A1, implicit1 and layer1"]),
    ({"activation": "relu"}, ["missing W1, A1, implicit1 or layer1"]),
    ({"layer1": "mean", "input_shape": [3]}, ["layer 1: A mean runs over spatial axes, but its input is a vector"]),
])
def test_everything_wrong_is_listed_at_once(tmp_path, arrays, messages):
    with pytest.raises(ModelError) as caught:
        load(archive(tmp_path, **arrays))
    for message in messages:
        assert message in str(caught.value)


@pytest.mark.parametrize(("text", "axes", "layer"), [
    ("max_pool:2", 2, MaxPool((2, 2), (2, 2))),
    ("max_pool:3,2", 1, MaxPool((3,), (2,))),
    (" Max_Pool:3,2,1", 2, MaxPool((3, 3), (2, 2), padding=((1, 1), (1, 1)))),
    ("average_pool:3x2,1x4", 2, AveragePool((3, 2), (1, 4))),
    ("mean", 2, Mean((-2, -1), keep=False)),
    ("flatten", 0, Flatten()),
    ("leaky_relu:0.5", 2, LeakyRelu(0.5)),
])
def test_names_of_layers(text, axes, layer):
    found = layer_named(text, axes)
    shape = (3,) + (9,) * axes
    assert sequential(shape, [found]).digest == sequential(shape, [layer]).digest
    again = layer_named(name_of_layer(found, shape), axes)
    assert sequential(shape, [again]).digest == sequential(shape, [layer]).digest


@pytest.mark.parametrize("text", ["max_pool", "max_pool:", "max_pool:2,2,1,1", "max_pool:2x2,1x1x1", "max_pool:0",
                                  "mean:2", "flatten:1", "max_pool:-2", "pool:2", "max_pool:1.5"])
def test_names_without_meaning_are_refused(text):
    with pytest.raises(ModelError):
        layer_named(text, 2).output_shape((1, 8, 8))


@pytest.mark.parametrize("content", [IMAGES, IMAGES | {"layer3": "average_pool:2"}, SEQUENCES])
def test_archives_are_verified_and_their_certificates_checked(tmp_path, content):
    path = archive(tmp_path, **content)
    command = [sys.executable, "-m", "netgain.verify", "verify", str(path), "--json", "--certificate",
               str(tmp_path / "c.json"), "--time-limit", "3"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    lipschitz = json.loads(result.stdout)
    assert '"proved": true' in json.dumps(lipschitz)
    check = [sys.executable, "-m", "netgain.verify", "check", str(tmp_path / "c.json"), str(path)]
    assert subprocess.run(check, capture_output=True, timeout=120).returncode == 0
