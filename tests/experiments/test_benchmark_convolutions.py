"""The convolutional networks of the benchmark, against correlations by scipy."""

import numpy as np
import pytest
import scipy.io
import scipy.signal
from netgain.experiments.benchmarks.convolutional_networks import TRAINED_ACTIVATION, TRAINED_GAIN
from netgain.experiments.benchmarks.networks import affine_chain, read_folder
from netgain.experiments.idx import DataError

IMAGE = (4, 6)


def array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def convolved(images: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Kernel of shape (out, in, rows, columns); the output is as large as the images, zeros are read around them."""
    result = np.zeros((len(images), len(kernel), *images.shape[2:]))
    for n, m, c in np.ndindex(*result.shape[:2], kernel.shape[1]):
        result[n, m] += scipy.signal.correlate2d(images[n, c], kernel[m, c].astype(np.float64), mode="same")
    return result + bias.reshape(-1, 1, 1)


@pytest.fixture
def folder(tmp_path):
    """A folder of the benchmark's layout, with random weights."""
    for name in ("cnn", "digits"):
        (tmp_path / name).mkdir()
    params = {"linear_0_weight": array(8, 10, 2), "linear_0_bias": array(9, 1, 10)}
    for k in range(3):
        params |= {f"conv_{k}_weight": array(k, 2, 2 if k else 1, 3, 3), f"conv_{k}_bias": array(10 + k, 1, 2)}
    for count in (3, 4):
        scipy.io.savemat(tmp_path / "cnn" / f"cnn_C{count}_CH2.mat",
                         {"params": params, "metadata": {"input_shape": np.array([1, *IMAGE])}})
    digits = {"conv1_weight": array(20, 3, 3, 1, 2), "conv1_bias": array(21, 1, 2)}
    linear = {"fc1_weight": array(24, 2 * 64, 10), "fc1_bias": array(25, 1, 10)}
    scipy.io.savemat(tmp_path / "digits" / "cnn2_seed3_weights.mat", digits | linear)
    digits |= {"conv2_weight": array(22, 3, 3, 2, 3), "conv2_bias": array(23, 1, 3)}
    linear = {"fc1_weight": array(26, 3 * 64, 10), "fc1_bias": array(27, 1, 10)}
    scipy.io.savemat(tmp_path / "digits" / "cnn3_seed3_weights.mat", digits | linear)
    (tmp_path / "published.csv").write_text(
        "family,network,method,bound,seconds\n"
        "cnn,cnn_C3_CH2 conv_1..conv_2,GLipSDP,1.5,0.25\n"
        "cnn,cnn_C3_CH2 conv_1..conv_2,CLipSDP,1.25,\n"
        "digits,cnn2_seed3,GLipSDP,2.5,\n"
        "digits,cnn2_seed3,LipSDP,3.5,\n"
        "digits,cnn2_seed3,norm product,9.5,\n")
    return tmp_path


def test_every_network_with_the_bounds_of_its_map(folder):
    published = {network.name: [(row.method, row.bound, row.seconds) for row in network.published]
                 for network in read_folder(folder)}
    assert published == {
        "cnn2_seed3 as trained": [("GLipSDP", 2.5, None)],
        "cnn2_seed3 flattened column-major": [("LipSDP", 3.5, None)],
        "cnn3_seed3 as trained": [],
        "cnn3_seed3 flattened column-major": [],
        "cnn_C3_CH2 conv_1..conv_2": [("GLipSDP", 1.5, 0.25), ("CLipSDP", 1.25, None)],
        "cnn_C3_CH2 as trained": [],
    }


def test_maps_of_the_digits_networks(folder):
    graphs = {network.name: network.build() for network in read_folder(folder)}
    images = array(60, 3, 1, 8, 8).astype(np.float64)
    features = images
    for k, (name, shape) in enumerate({"cnn2_seed3": (3, 3, 1, 2), "cnn3_seed3": (3, 3, 2, 3)}.items()):
        kernel = array(20 + 2 * k, *shape).transpose(3, 2, 0, 1)
        features = np.maximum(convolved(features, kernel, array(21 + 2 * k, 1, shape[3])), 0)
        weight, bias = array(24 + 2 * k, shape[3] * 64, 10), array(25 + 2 * k, 1, 10)
        # The entry of channel c, row i, column j stands at 64 c + 8 i + j, or at c + channels (i + 8 j).
        orders = {"as trained": features, "flattened column-major": features.transpose(0, 3, 2, 1)}
        for suffix, ordered in orders.items():
            logits = ordered.reshape(3, -1) @ weight + bias
            graph = graphs[f"{name} {suffix}"]
            np.testing.assert_allclose(graph.forward(images), logits[:, 7:8], rtol=1e-9, atol=1e-9)
            assert affine_chain(graph) is None


def test_maps_of_the_deep_networks(folder):
    graphs = {network.name: network.build() for network in read_folder(folder)}
    kernels = [array(k, 2, 2 if k else 1, 3, 3) for k in range(3)]
    biases = [array(10 + k, 1, 2) for k in range(3)]
    inner = array(61, 2, 2, *IMAGE).astype(np.float64)
    expected = convolved(np.maximum(convolved(inner, kernels[1], biases[1]), 0), kernels[2], biases[2])
    chain = graphs["cnn_C3_CH2 conv_1..conv_2"]
    np.testing.assert_allclose(chain.forward(inner), expected, rtol=1e-9, atol=1e-9)

    images = array(62, 2, 1, *IMAGE).astype(np.float64)
    value = images
    for kernel, bias in zip(kernels, biases, strict=True):
        value = TRAINED_GAIN * convolved(value, kernel, bias)
        value = np.where(value > 0, value, TRAINED_ACTIVATION.slope * value)
    logits = value.mean(axis=(2, 3)) @ array(8, 10, 2).T + array(9, 1, 10)
    np.testing.assert_allclose(graphs["cnn_C3_CH2 as trained"].forward(images), logits, rtol=1e-9, atol=1e-9)


def test_files_that_are_something_else(folder):
    path = folder / "cnn" / "cnn_C3_CH2.mat"
    chain = next(network for network in read_folder(folder) if network.name.startswith("cnn_C3"))
    scipy.io.savemat(path, {"metadata": {"input_shape": np.array([28, 28])}, "params": {"conv_1_weight": np.eye(2)}})
    with pytest.raises(DataError, match="expected channels, rows, columns"):
        chain.build()
    scipy.io.savemat(path, {"params": {"conv_1_weight": np.eye(2)}})
    with pytest.raises(DataError, match="no struct `metadata`"):
        chain.build()
