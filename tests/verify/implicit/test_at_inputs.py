"""Implicit networks at given inputs: solutions, outputs, boxes and radii that hold, and the files inputs come from."""

import functools
import json

import numpy as np
import pytest
from netgain.layers import Affine, Convolution, FixedPoint, Flatten, LeakyRelu, Relu, Scale, Tanh, sequential
from netgain.solvers.result import Limits
from netgain.verify import cli
from netgain.verify.implicit.at_inputs import EUCLIDEAN_NORM, WEIGHTED_NORM, at_inputs
from netgain.verify.implicit.report import implicit
from netgain.verify.implicit.samples import SampleError, Samples, load_samples
from typer.testing import CliRunner

from ...solvers.implicit.implicit_bank import A1, B1, C1, HIERARCHY, random_matrix


def network(A, B, C, activation=None, b=None, c=None):
    return sequential((B.shape[1],), [Affine(B, b), FixedPoint(Affine(A), activation or Relu()), Affine(C, c)])


def random_network(seed, activation, most=0.7):
    rng = np.random.default_rng(seed)
    return network(random_matrix(seed, 5, most), rng.standard_normal((5, 3)), rng.standard_normal((3, 5)), activation,
                   rng.standard_normal(5), rng.standard_normal(3))


def convolutional():
    rng = np.random.default_rng(7)
    recurrence = Convolution(0.1 * rng.standard_normal((2, 2, 3, 3)), padding=((1, 1), (1, 1)))
    return sequential((1, 4, 4), [
        Convolution(rng.standard_normal((2, 1, 3, 3)), rng.standard_normal(2), padding=((1, 1), (1, 1))),
        FixedPoint(recurrence, Relu()), Flatten(), Affine(rng.standard_normal((3, 32)), rng.standard_normal(3))])


# The rotation has no weights, only a metric.
BANK = {
    "relu": random_network(0, Relu()),
    "tanh": random_network(1, Tanh()),
    "leaky": random_network(2, LeakyRelu(0.1)),
    "rotation": network(HIERARCHY[0][0], np.eye(2), np.array([[1.0, 2.0], [-1.0, 0.5]])),
    "scaled": sequential((2,), [Scale(divisor=np.full(2, 0.3)), Affine(B1), FixedPoint(Affine(A1), Relu()),
                                Affine(np.eye(2))]),
    "two": sequential((2,), [Affine(B1), FixedPoint(Affine(A1), Relu()), Affine(np.ones((2, 2))),
                             FixedPoint(Affine(A1 / 2), Tanh()), Affine(np.array([[1.0, -1.0], [0.5, 2.0]]))]),
    "images": convolutional(),
}
RADIUS = 0.05


@functools.cache
def proved(name):
    return implicit(BANK[name], Limits(time_limit=20.0, tolerance=1e-3), lower_bounds=False)


@functools.cache
def looked(name):
    graph = BANK[name]
    u = np.random.default_rng(5).standard_normal((8, *graph.shape(graph.input)))
    return u, at_inputs(graph, proved(name), Samples(u), radius=RADIUS)


@pytest.mark.parametrize("name", BANK)
def test_outputs_classes_and_solutions(name):
    u, found = looked(name)
    y = BANK[name].forward(u)
    assert found.looked_at == found.asked == len(u)
    assert np.all((found.outputs.lower <= y + 1e-9) & (y - 1e-9 <= found.outputs.upper))
    assert np.max(found.outputs.upper - found.outputs.lower) < 1e-9
    ordered = np.sort(y, axis=1)
    # Where both outputs are 0 neither is the largest.
    assert np.array_equal(found.classes, np.where(ordered[:, -1] > ordered[:, -2], y.argmax(axis=1), -1))
    layers = [node for node in BANK[name].order if isinstance(BANK[name].layer(node), FixedPoint)]
    assert [layer.node for layer in found.layers] == layers
    for layer, proof in zip(found.layers, proved(name).layers, strict=True):
        assert layer.norm == (EUCLIDEAN_NORM if proof.proof.norm is None else WEIGHTED_NORM)
        assert np.all((layer.radii >= 0) & (layer.radii < 1e-9))
        for iteration in layer.iterations:
            assert iteration.reached.shape == (len(u),)
            if iteration.guaranteed < 1:
                assert np.all(iteration.reached >= 0)
                assert 0 < iteration.reached.max() <= iteration.iterations
                assert iteration.measured <= iteration.guaranteed * (1 + 1e-6)


@pytest.mark.parametrize("name", BANK)
def test_no_input_within_a_radius_leaves_its_class_or_its_box(name):
    u, found = looked(name)
    rng, graph = np.random.default_rng(6), BANK[name]
    assert np.any(found.radii_l2 > 0)
    axes = tuple(range(1, u.ndim))
    for radii, order in ((found.radii_linf, np.inf), (found.radii_l2, 2)):
        for _ in range(40):
            d = np.sign(rng.standard_normal(u.shape)) if order == np.inf else rng.standard_normal(u.shape)
            d = d if order == np.inf else d / np.sqrt((d**2).sum(axes, keepdims=True))
            y = graph.forward(u + radii.reshape(-1, *(1,) * (u.ndim - 1)) * d * 0.999)
            assert np.all((y.argmax(axis=1) == found.classes) | (radii == 0))
    exists = name in ("relu", "tanh", "leaky", "images")
    assert (found.boxes is not None) == exists
    assert exists or any("No boxes" in note for note in found.notes)
    if found.boxes is not None:
        assert np.all(found.boxed)
        for _ in range(40):
            y = graph.forward(u + RADIUS * np.sign(rng.standard_normal(u.shape)))
            assert np.all((found.boxes.lower <= y + 1e-9) & (y - 1e-9 <= found.boxes.upper))


def test_the_example_worked_by_hand():
    """x = (1.15, 59/30), y = -49/60 and y in [-1.676667, 0.043333] for inputs within 0.1."""
    graph = network(A1, B1, C1, b=np.array([0.2, -0.1]))
    u = np.array([[0.5, 0.4]])
    found = at_inputs(graph, implicit(graph, lower_bounds=False), Samples(u), radius=0.1)
    assert found.outputs.lower[0, 0] <= -49 / 60 <= found.outputs.upper[0, 0]
    assert found.boxes.lower[0, 0] == pytest.approx(-1.676667, abs=1e-6)
    assert found.boxes.upper[0, 0] == pytest.approx(0.043333, abs=1e-6)
    assert any("one output" in note for note in found.notes)


@pytest.mark.parametrize(("u", "exact"), [(3.0, 2.0), (1.25, 0.25), (0.5, 0.5), (-4.0, 5.0)])
def test_radii_that_are_known(u, exact):
    """y = (relu(u), 2 - relu(u)): the first is larger from u = 1 on."""
    graph = network(np.zeros((1, 1)), np.ones((1, 1)), np.array([[1.0], [-1.0]]), c=np.array([0.0, 2.0]))
    found = at_inputs(graph, implicit(graph, lower_bounds=False), Samples(np.array([[u]])))
    assert found.classes[0] == int(u < 1)
    assert 0.98 * exact <= found.radii_linf[0] <= exact
    assert 0 < found.radii_l2[0] <= exact


def test_wrong_labels_have_no_radius_and_the_region_counts():
    graph, u = BANK["relu"], looked("relu")[0]
    right = looked("relu")[1]
    found = at_inputs(graph, proved("relu"), Samples(u, (right.classes + 1) % 3))
    assert not np.any(found.radii_linf)
    assert not np.any(found.radii_l2)
    inside = at_inputs(graph, proved("relu"), Samples(u), floor=u.min(), ceiling=u.max())
    assert np.all(inside.radii_linf >= right.radii_linf * 0.98)
    assert found.boxes is None


def test_inputs_after_the_time_are_left_out_and_it_is_said():
    u = np.random.default_rng(0).standard_normal((120, 3))
    found = at_inputs(BANK["relu"], proved("relu"), Samples(u), time_limit=1e-9)
    assert (found.looked_at, found.asked) == (50, 120)
    assert any("50 of 120" in note for note in found.notes)
    with pytest.raises(ValueError, match="not proved"):
        at_inputs(BANK["tanh"], proved("relu"), Samples(u))


def test_shapes_of_files(tmp_path):
    images = np.arange(32.0).reshape(2, 1, 4, 4)
    for stored, count in ((images, 2), (images[0], 1), (images.reshape(2, 16), 2), (images[1].ravel(), 1),
                          (images.astype(np.uint8), 2), (images.astype(np.float16), 2)):
        np.save(tmp_path / "u.npy", stored)
        found = load_samples(tmp_path / "u.npy", (1, 4, 4), 3)
        assert found.inputs.shape == (count, 1, 4, 4)
        assert found.labels is None
        assert np.array_equal(found.inputs.ravel(), stored.ravel())
    np.savez(tmp_path / "u.npz", inputs=images, labels=np.array([2, 0]))
    assert np.array_equal(load_samples(tmp_path / "u.npz", (1, 4, 4), 3).labels, [2, 0])
    np.savez(tmp_path / "v.npz", x=images, y=np.array([2, 0]))
    assert np.array_equal(load_samples(tmp_path / "v.npz", (1, 4, 4), 3).inputs, images)


GOOD = {"inputs": np.zeros((2, 3)), "labels": np.array([0, 1])}


@pytest.mark.parametrize(("change", "said"), [
    ({"inputs": np.zeros((2, 4))}, r"shape \(2, 4\), expected \(batch, 3\)"),
    ({"inputs": np.zeros((0, 3))}, "at least one"),
    ({"inputs": np.full((2, 3), np.nan)}, "6 of 6 numbers"),
    ({"inputs": np.zeros((2, 3), dtype=complex)}, "complex128"),
    ({"inputs": np.array(["a"])}, "expected real numbers"),
    ({"inputs": np.full((2, 3), 2**60)}, "beyond 2"),
    ({"labels": np.array([0, 3])}, "from 0 to 2, one for each input; got int64 of shape .* from 0 to 3"),
    ({"labels": np.array([0.0, 1.0])}, "float64"),
    ({"labels": np.array([1])}, "2 integers"),
    ({"images": np.zeros(3)}, "keys images, inputs, labels"),
    ({"more": np.zeros(3)}, "keys inputs, labels, more"),
], ids=str)
def test_files_that_hold_something_else(change, said, tmp_path):
    np.savez(tmp_path / "u.npz", **(GOOD | change))
    with pytest.raises(SampleError, match=said):
        load_samples(tmp_path / "u.npz", (3,), 3)


def test_files_that_are_none(tmp_path):
    (tmp_path / "u.npy").write_text("hello")
    (tmp_path / "u.npz").write_bytes(b"PK\x03\x04 and then nothing")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    for name in ("u.npy", "u.npz", "objects.npy"):
        with pytest.raises(SampleError, match="damaged, or holds objects"):
            load_samples(tmp_path / name, (3,), 3)
    with pytest.raises(SampleError, match=r"\.npy and \.npz"):
        load_samples(tmp_path / "u.csv", (3,), 3)


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_the_command(tmp_path):
    np.savez(tmp_path / "net.npz", A=A1, B=B1, C=np.eye(2), activation="relu")
    np.savez(tmp_path / "u.npz", inputs=np.random.default_rng(0).standard_normal((12, 2)), labels=np.arange(12) % 2)
    arguments = ("implicit", tmp_path / "net.npz", "--certificate", tmp_path / "c.json", "--input", tmp_path / "u.npz",
                 "--radius", 0.1)
    shown = run(*arguments)
    assert shown.exit_code == 0
    for text in ("inputs: 12 of 12", "label stays the largest", "and 2 more", "l_inf radius", "12 of 12 proved"):
        assert text in shown.stdout
    body = json.loads(run(*arguments, "--json", "--floor", -9).stdout)["inputs"]
    assert len(body["certified_radii_linf"]) == len(body["classes"]) == len(body["boxes"]["lower"]) == 12
    assert all(body["boxes_proved"])
    assert {len(iteration["by_input"]) for iteration in body["layers"][0]["iterations"]} == {12}
    assert max(body["layers"][0]["solution_within"]) < 1e-12


@pytest.mark.parametrize("arguments", [("--radius", 1), ("--floor", 0), ("--input", "nothing.npy"),
                                       ("--input", "u.npz", "--radius", -1),
                                       ("--input", "u.npz", "--floor", 1, "--ceiling", 0)], ids=str)
def test_usage(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("net.npz", A=A1, B=B1, C=C1, activation="relu")
    np.savez("u.npz", inputs=np.zeros((1, 2)))
    assert run("implicit", "net.npz", *arguments).exit_code == 2


def test_of_a_network_that_is_not_proved_well_posed_nothing_is_said_at_inputs(tmp_path):
    np.savez(tmp_path / "net.npz", A=[[2.0]], B=[[1.0]], C=[[1.0]])
    np.save(tmp_path / "u.npy", np.zeros((2, 1)))
    result = run("implicit", tmp_path / "net.npz", "--json", "--input", tmp_path / "u.npy")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["inputs"] is None
