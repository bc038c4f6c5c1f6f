import re
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import typer
from netgain.experiments import data
from netgain.experiments.training.classifier import Recipe, accuracy, main, metadata, train
from netgain.experiments.training.export import Perceptron, to_onnx, write
from typer.testing import CliRunner

MODELS = Path(__file__).parents[2] / "experiments" / "models"


@pytest.fixture
def network() -> Perceptron:
    rng = np.random.default_rng(2)
    sizes = ((4, 3), (5, 4), (2, 5))
    return Perceptron(tuple(rng.normal(size=size).astype(np.float32) for size in sizes),
                      tuple(rng.normal(size=size[0]).astype(np.float32) for size in sizes))


def test_exported_file_computes_the_network(network, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    write(to_onnx(network, "small", "A small network.", {"seed": "0"}), tmp_path / "small.onnx")
    session = runtime.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 7):
        x = np.random.default_rng(batch).normal(size=(batch, 3)).astype(np.float32)
        np.testing.assert_allclose(session.run(None, {"image": x})[0], network.forward(x), rtol=1e-5, atol=1e-5)


def test_equal_models_are_equal_files(network, tmp_path):
    for name in ("a", "b"):
        write(to_onnx(network, "small", "", {"seed": "0", "epochs": "1"}), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_weights_that_do_not_fit():
    with pytest.raises(ValueError, match="do not make a network"):
        Perceptron((np.zeros((2, 3)), np.zeros((2, 3))), (np.zeros(2), np.zeros(2)))


@pytest.mark.parametrize("settings", [{"hidden": ()}, {"epochs": 0}, {"rate": 0.0}, {"decay": -1.0}])
def test_impossible_recipes(settings):
    with pytest.raises(ValueError, match=r"must|needs"):
        Recipe(**settings)


@pytest.mark.parametrize(("name", "sizes"), [("mnist_mlp", (784, 64, 32, 10)), ("digits_mlp", (64, 32, 32, 10))])
def test_committed_models(name, sizes):
    path = MODELS / f"{name}.onnx"
    assert path.stat().st_size < 2**20
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert not any(t.external_data for t in model.graph.initializer)
    weights = [tensors[f"linear_{k}.weight"] for k in range(len(sizes) - 1)]
    assert (weights[0].shape[1], *(w.shape[0] for w in weights)) == sizes
    # The README states which file it speaks of.
    assert data.sha256(path.read_bytes()) in (MODELS / "README.md").read_text()
    recorded = {entry.key: entry.value for entry in model.metadata_props}
    assert {"dataset", "dataset_sha256", "seed", "epochs", "test_accuracy", "normalisation"} <= set(recorded)
    assert f"{100 * float(recorded['test_accuracy']):.2f} %" in (MODELS / "README.md").read_text()


def test_committed_digits_model_is_as_accurate_as_recorded():
    pytest.importorskip("sklearn")
    model = onnx.load(MODELS / "digits_mlp.onnx")
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    network = Perceptron(tuple(tensors[f"linear_{k}.weight"] for k in range(3)),
                         tuple(tensors[f"linear_{k}.bias"] for k in range(3)))
    recorded = {entry.key: entry.value for entry in model.metadata_props}
    digits = data.digits()
    assert recorded["dataset_sha256"] == digits.digest
    assert float(recorded["test_accuracy"]) == pytest.approx(
        accuracy(network, digits.test_images, digits.test_labels), abs=0.003)


def test_readme_commands_name_the_recorded_recipe():
    commands = re.findall(r"--seed (\d+) --epochs (\d+) --out (\S+)", (MODELS / "README.md").read_text())
    assert len(commands) == 2
    for seed, epochs, file in commands:
        recorded = {entry.key: entry.value for entry in onnx.load(MODELS / file).metadata_props}
        assert (recorded["seed"], recorded["epochs"]) == (seed, epochs)


def test_training_learns_and_repeats_itself():
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    digits, recipe, losses = data.digits(), Recipe(hidden=(32,), epochs=5, seed=3, batch=32), []
    first = train(digits, recipe, lambda epoch, loss: losses.append((epoch, loss)))
    second = train(digits, recipe)
    assert all(np.array_equal(a, b) for a, b in zip(first.weights, second.weights, strict=True))
    assert first.sizes == (64, 32, 10)
    assert [epoch for epoch, _ in losses] == [1, 2, 3, 4, 5]
    assert losses[-1][1] < losses[0][1] / 2
    assert float(metadata(digits, recipe, first)["test_accuracy"]) > 0.7


def test_command_trains_and_writes(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    command = typer.Typer()
    command.command()(main)
    out = tmp_path / "digits.onnx"
    result = CliRunner().invoke(command, ["--data", "digits", "--epochs", "1", "--hidden", "4", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert {entry.key: entry.value for entry in onnx.load(out).metadata_props}["hidden"] == "(4,)"


@pytest.mark.parametrize("wrong", [["--data", "/nonexistent"], ["--hidden", "wide"], ["--out", "/nonexistent/m.onnx"]])
def test_command_refuses(wrong, tmp_path):
    pytest.importorskip("torch")
    command = typer.Typer()
    command.command()(main)
    given = {"--data": "digits", "--out": str(tmp_path / "m.onnx")} | dict([wrong])
    result = CliRunner().invoke(command, [word for pair in given.items() for word in pair])
    assert result.exit_code == 2
    assert wrong[0] in result.output
