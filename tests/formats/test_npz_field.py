"""Fields of neural ODEs as archives: what they compute, and what is said of those that are wrong."""

import numpy as np
import pytest
from netgain.layers import Graph, LeakyRelu, ModelError, SampledWeights, Tanh, load, load_field
from netgain.layers.formats import copy_npz, holds_field

RANDOM = np.random.default_rng(11)
A, B = RANDOM.standard_normal((3, 3)), RANDOM.standard_normal((3, 3))
WIDE, E = RANDOM.standard_normal((5, 3)), RANDOM.standard_normal((3, 5))
b3, b5 = RANDOM.standard_normal(3), RANDOM.standard_normal(5)
U = RANDOM.standard_normal((6, 3))
SAMPLED = {"A": np.stack([A, A + 0.1 * B]), "times": np.array([0.0, 0.5]), "lipschitz": 1.0, "activation": "tanh"}


def written(folder, **arrays):
    np.savez(folder / "ode.npz", **arrays)
    return folder / "ode.npz"


@pytest.mark.parametrize(("arrays", "expected"), [
    ({"A": A}, np.tanh(U @ A.T)),
    ({"A": A, "b": b3}, np.tanh(U @ A.T + b3)),
    ({"A": A, "B": B}, U @ B.T + np.tanh(U @ A.T)),
    ({"A": WIDE, "b": b5, "E": E, "B": B}, U @ B.T + np.tanh(U @ WIDE.T + b5) @ E.T),
    ({"A1": WIDE, "b1": b5, "A2": E}, np.tanh(np.tanh(U @ WIDE.T + b5) @ E.T)),
    ({"A1": A, "A2": B, "A3": A, "b3": b3}, np.tanh(np.tanh(np.tanh(U @ A.T) @ B.T) @ A.T + b3)),
])
def test_fields_compute_what_their_keys_say(tmp_path, arrays, expected):
    path = written(tmp_path, activation="tanh", about="made for a test", **arrays)
    field = load_field(path)
    assert isinstance(field, Graph)
    assert field.name == "ode"
    np.testing.assert_allclose(field.forward(U), expected, rtol=1e-12)
    assert load(path).digest == field.digest


def test_weights_that_change_with_time(tmp_path):
    path = written(tmp_path, b=b3, **(SAMPLED | {"activation": "leaky_relu:0.25"}))
    field = load_field(path)
    assert isinstance(field, SampledWeights)
    assert isinstance(field.activation, LeakyRelu)
    assert (field.size, field.lipschitz, field.name) == (3, 1.0, "ode")
    assert np.array_equal(field.weights, SAMPLED["A"])
    with pytest.raises(ModelError, match="change with time, which are no network"):
        load(path)


def test_digests_tell_sampled_weights_apart():
    base = {"times": np.array([0.0, 1.0]), "weights": np.stack([A, A]), "activation": Tanh(), "lipschitz": 0.5}
    changes = [{}, {"times": np.array([0.0, 2.0])}, {"weights": np.stack([B, B])}, {"activation": LeakyRelu(0.5)},
               {"activation": LeakyRelu(0.25)}, {"lipschitz": 0.25}, {"biases": b3}, {"biases": np.stack([b3, b3])}]
    digests = [SampledWeights(**(base | change)).digest for change in changes]
    assert len(set(digests)) == len(changes)
    assert SampledWeights(**base).digest == digests[0]


@pytest.mark.parametrize(("arrays", "texts"), [
    ({"A": A}, ["`activation` is missing"]),
    ({"A": A, "activation": "tnh"}, ["'tnh' is not known"]),
    ({"A": A, "activation": np.array(["tanh"])}, ["one string"]),
    ({"A": A * np.nan, "b": b3 * np.inf, "activation": "tnh", "c": b3},
     ["`A` of shape", "`b` of shape", "'tnh'", "not understood: c"]),
    ({"A": WIDE, "activation": "tanh"}, [r"not square, and there is no E of shape \(3, 5\)"]),
    ({"A": A, "b": b5, "E": E, "B": E, "activation": "tanh"},
     ["b has the shape", "E has the shape", "B has the shape"]),
    ({"A": A, "A1": A, "activation": "tanh"}, ["which A1 cannot go with"]),
    ({"A1": A, "b": b3, "activation": "tanh"}, ["b belong to a field of one layer"]),
    ({"A1": WIDE, "A3": E, "activation": "tanh"}, ["A2 is missing"]),
    ({"A1": WIDE, "A2": A, "activation": "tanh"}, ["A2 takes 3 numbers, but A1 gives 5"]),
    ({"A1": WIDE, "b1": b3, "activation": "tanh"}, ["A1 takes 3 numbers, but A1 gives, and .* its input, 5",
                                                    r"b1 has the shape \(3,\)"]),
    ({"A1": b3, "activation": "tanh"}, ["A1 must be a matrix"]),
    ({"A": np.stack([A, A]), "activation": "tanh"}, ["need `times` and `lipschitz`"]),
    (SAMPLED | {"times": np.array([0.5, 0.0])}, ["increasing"]),
    (SAMPLED | {"lipschitz": 1e-3}, ["A changes by .* per unit of time between t = 0.0"]),
    (SAMPLED | {"lipschitz": -1.0}, ["at least 0"]),
    (SAMPLED | {"lipschitz": b3}, ["must be one number"]),
    (SAMPLED | {"A": A}, [r"shape \(2, n, n\)"]),
    (SAMPLED | {"b": b5}, [r"b must have the shape \(3,\), or \(2, 3\)"]),
    (SAMPLED | {"E": E, "B": B}, ["B, E cannot go with"]),
    ({"A": SAMPLED["A"], "times": SAMPLED["times"], "activation": "tanh"}, ["lipschitz is missing"]),
    ({"A": A, "activation": "tanh", "about": b3}, ["`about` must be a text"]),
])
def test_all_that_is_wrong_is_said_at_once(tmp_path, arrays, texts):
    for text in texts:
        with pytest.raises(ModelError, match=text):
            load_field(written(tmp_path, **arrays))


@pytest.mark.parametrize(("content", "said"), [
    (b"hello", "it holds none"), (b"PK\3\4 cut", "File is not a zip file"),
])
def test_files_that_are_no_archives_are_refused_without_advice_to_trust_them(tmp_path, content, said):
    (tmp_path / "field.npz").write_bytes(content)
    with pytest.raises(ModelError, match=said) as refused:
        load_field(tmp_path / "field.npz")
    assert "unsafely" not in str(refused.value)
    assert not str(refused.value).endswith("..")


def test_networks_are_read_as_ever(tmp_path):
    """Keys of networks make a network, also where A1 is among them; any of them may be a field."""
    network = written(tmp_path, W1=WIDE, layer2="relu", W3=E)
    np.testing.assert_allclose(load_field(network).forward(U), np.maximum(U @ WIDE.T, 0) @ E.T, rtol=1e-12)
    cases = (({"A1": A, "B1": B, "activation": "tanh"}, "missing C1"), ({"W1": A, "A": A}, "understood: A"))
    for keys, missing in cases:
        with pytest.raises(ModelError, match=missing):
            load_field(written(tmp_path, **keys))


def test_a_copy_differs_in_what_is_replaced_alone(tmp_path):
    np.savez(tmp_path / "a.npz", A=np.eye(2), b=np.ones(2), activation="tanh")
    copy_npz(tmp_path / "a.npz", tmp_path / "b.npz", {"A": 2 * np.eye(2)})
    with np.load(tmp_path / "b.npz") as copied:
        assert {key: copied[key].tolist() for key in copied} == {
            "A": [[2, 0], [0, 2]], "b": [1, 1], "activation": "tanh"}
    with pytest.raises(ModelError, match="has no C to be replaced"):
        copy_npz(tmp_path / "a.npz", tmp_path / "c.npz", {"C": np.eye(2)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


@pytest.mark.parametrize(("keys", "field"), [
    (("A", "activation"), True), (("A1", "A2", "activation"), True), (("A1", "B1", "C1"), False), (("W1",), False)])
def test_fields_are_told_from_networks_by_their_keys(tmp_path, keys, field):
    np.savez(tmp_path / "a.npz", **{key: np.eye(2) for key in keys})
    assert holds_field(tmp_path / "a.npz") == field


def test_files_that_are_no_archives_are_no_fields(tmp_path):
    (tmp_path / "a.npz").write_text("text")
    assert not holds_field(tmp_path / "a.npz")
    assert not holds_field(tmp_path / "missing.npz")
