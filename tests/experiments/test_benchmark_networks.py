import numpy as np
import pytest
import scipy.io
from netgain.experiments.benchmarks.networks import affine_chain, perceptron, read_folder
from netgain.experiments.idx import DataError
from netgain.layers import Tanh, sequential


def matrix(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def leaky_relu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


@pytest.fixture
def folder(tmp_path):
    """A folder of the benchmark's layout, with random weights."""
    for name in ("mlp", "digits", "versatility"):
        (tmp_path / name).mkdir()
    params = {}
    for k, shape in enumerate([(3, 5), (3, 3), (3, 3), (2, 3)]):
        params |= {f"linear_{k}_weight": matrix(k, *shape), f"linear_{k}_bias": matrix(10 + k, 1, shape[0])}
    scipy.io.savemat(tmp_path / "mlp" / "mlp_L3_W3.mat", {"params": params})
    digits = {}
    for k, shape in enumerate([(6, 4), (4, 10)], start=1):
        digits |= {f"fc{k}_weight": matrix(20 + k, *shape), f"fc{k}_bias": matrix(30 + k, 1, shape[1])}
    scipy.io.savemat(tmp_path / "digits" / "fnn2_seed0_weights.mat", digits)
    residual = {}
    for k, (name, shape) in enumerate({"input_layer": (3, 5), "blocks_0_fc1": (3, 3), "blocks_0_fc2": (3, 3),
                                       "output_layer": (2, 3)}.items()):
        residual |= {f"{name}_weight": matrix(40 + k, *shape), f"{name}_bias": matrix(50 + k, 1, shape[0])}
    scipy.io.savemat(tmp_path / "versatility" / "FC-R18.mat", residual)
    (tmp_path / "published.csv").write_text(
        "family,network,method,bound,seconds\n"
        "mlp,mlp_L3_W3 first 2 weights,LipSDP,1.5,0.25\n"
        "digits,fnn2_seed0,GLipSDP,2.5,\n"
        "digits,fnn2_seed0,norm product,9.5,\n"
        "versatility,FC-R18,GLipSDP (omits the ReLU after each sum),3.5,7\n"
        "versatility,FC-R18,norm product,8.5,\n")
    return tmp_path


def test_every_network_with_its_published_bounds(folder):
    published = {network.name: [(row.method, row.bound, row.seconds) for row in network.published]
                 for network in read_folder(folder)}
    assert published == {
        "fnn2_seed0": [("GLipSDP", 2.5, None)],
        "mlp_L3_W3 first 2 weights": [("LipSDP", 1.5, 0.25)],
        "mlp_L3_W3 as trained": [],
        "FC-R18 as trained": [],
        "FC-R18 without the ReLU after each sum": [("GLipSDP (omits the ReLU after each sum)", 3.5, 7.0)],
    }


def test_maps_of_the_networks(folder):
    graphs = {network.name: network.build() for network in read_folder(folder)}
    x = matrix(60, 4, 5).astype(np.float64)
    hidden = leaky_relu(2 * (x @ matrix(0, 3, 5).T + matrix(10, 1, 3)))
    for k in (1, 2):
        hidden = leaky_relu(2 * (hidden @ matrix(k, 3, 3).T + matrix(10 + k, 1, 3)))
    np.testing.assert_allclose(graphs["mlp_L3_W3 as trained"].forward(x),
                               1.1 * (hidden @ matrix(3, 2, 3).T + matrix(13, 1, 2)))

    u = x[:, :3]
    square = relu(u @ matrix(1, 3, 3)) @ matrix(2, 3, 3)
    np.testing.assert_allclose(graphs["mlp_L3_W3 first 2 weights"].forward(u), square)

    v = matrix(61, 4, 6).astype(np.float64)
    logits = relu(v @ matrix(21, 6, 4) + matrix(31, 1, 4)) @ matrix(22, 4, 10) + matrix(32, 1, 10)
    np.testing.assert_allclose(graphs["fnn2_seed0"].forward(v), logits[:, 7:8])


@pytest.mark.parametrize(("name", "after"), [("FC-R18 as trained", relu),
                                             ("FC-R18 without the ReLU after each sum", lambda x: x)])
def test_residual_block(folder, name, after):
    graph = next(network for network in read_folder(folder) if network.name == name).build()
    u = matrix(62, 4, 5).astype(np.float64)
    x = relu(u @ matrix(40, 3, 5).T + matrix(50, 1, 3))
    x = after(x + relu(x @ matrix(41, 3, 3).T + matrix(51, 1, 3)) @ matrix(42, 3, 3).T + matrix(52, 1, 3))
    np.testing.assert_allclose(graph.forward(u), x @ matrix(43, 2, 3).T + matrix(53, 1, 2), rtol=1e-6)
    assert affine_chain(graph) is None


def test_chains_are_recognised():
    pairs = [(matrix(1, 3, 5), matrix(2, 3)), (matrix(3, 2, 3), matrix(4, 2))]
    chain = affine_chain(perceptron(pairs, "chain"))
    assert chain is not None
    for weight, (expected, _) in zip(chain, pairs, strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert affine_chain(sequential((2,), [Tanh()])) is None


def test_folders_and_files_that_are_something_else(tmp_path):
    with pytest.raises(DataError, match="no mlp/mlp_L"):
        read_folder(tmp_path)
    (tmp_path / "mlp").mkdir()
    (tmp_path / "mlp" / "mlp_L3_W3.mat").write_bytes(b"text")
    with pytest.raises(DataError, match=r"not a readable \.mat file"):
        read_folder(tmp_path)[0].build()
    scipy.io.savemat(tmp_path / "mlp" / "mlp_L3_W3.mat", {"weights": np.eye(2)})
    with pytest.raises(DataError, match="no struct `params`"):
        read_folder(tmp_path)[0].build()
