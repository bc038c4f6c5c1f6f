"""What is trained, what is kept as a graph, what is written and what is read back are one network."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from netgain.experiments import data
from netgain.experiments.training.architecture import ARCHITECTURES
from netgain.experiments.training.classifier import Recipe, accuracy, metadata, train
from netgain.experiments.training.export import to_onnx, write
from netgain.layers import load
from netgain.verify import check, lipschitz

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

WIDTHS = {"mlp": (9, 5), "cnn": (4, 3), "resnet": (3, 3, 5)}
IMAGES = [(8, 8), (14, 11), (28, 28)]


def settled(name: str, image: tuple[int, int]) -> "torch.nn.Module":
    """A network with random parameters, also where torch starts with zeros and ones."""
    torch.manual_seed(3)
    network = ARCHITECTURES[name](WIDTHS[name]).build(image, 10)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
        for average in network.buffers():
            if average.is_floating_point():
                average.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize(("name", "image"), list(itertools.product(ARCHITECTURES, IMAGES)))
def test_graph_and_file_compute_what_torch_computes(name: str, image: tuple[int, int], tmp_path: Path) -> None:
    from netgain.experiments.training.modules import to_graph

    network, shape = settled(name, image), ARCHITECTURES[name](WIDTHS[name]).input_shape(image)
    graph = to_graph(network, shape, "net")
    write(to_onnx(graph, "", {}), tmp_path / "net.onnx")
    loaded = load(tmp_path / "net.onnx")
    x = torch.rand(5, *shape, dtype=torch.float64)
    expected = network.double()(x).detach().numpy()
    assert np.std(expected, axis=0).min() > 0
    np.testing.assert_allclose(graph.forward(x.numpy()), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(loaded.forward(x.numpy()), expected, rtol=1e-9, atol=1e-9)
    assert loaded.digest == graph.digest


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_runtime_computes_the_exported_file(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    from netgain.experiments.training.modules import to_graph

    graph = to_graph(settled(name, (8, 8)), ARCHITECTURES[name](WIDTHS[name]).input_shape((8, 8)), "net")
    write(to_onnx(graph, "", {}), tmp_path / "net.onnx")
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 7):
        x = np.random.default_rng(batch).random((batch, *graph.shape("image")), dtype=np.float32)
        expected = graph.forward(x.astype(np.float64))
        np.testing.assert_allclose(session.run(None, {"image": x})[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_training_learns_and_repeats_itself(name: str) -> None:
    digits, losses = data.digits(), []
    recipe = Recipe(architecture=ARCHITECTURES[name]((16,)), epochs=5, seed=3, batch=32, rate=5e-3)
    state = torch.random.get_rng_state()
    first = train(digits, recipe, on_epoch=lambda epoch, loss: losses.append((epoch, loss)))
    torch.random.set_rng_state(state)
    torch.rand(7)
    second = train(digits, recipe)
    # Whatever torch's global generator has given before.
    assert first.digest == second.digest
    assert train(digits, Recipe(architecture=recipe.architecture, epochs=1, seed=4)).digest != first.digest
    assert [epoch for epoch, _ in losses] == [1, 2, 3, 4, 5]
    assert losses[-1][1] < losses[0][1] / 2
    entries = metadata(digits, recipe, first)
    assert float(entries["test_accuracy"]) > 0.7
    assert entries["hidden" if name == "mlp" else "channels"] == "(16,)"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_decay_lowers_the_proved_bound(name: str) -> None:
    digits, bounds = data.digits(), []
    for decay in (0.0, 3.0):
        recipe = Recipe(architecture=ARCHITECTURES[name]((4,)), epochs=4, batch=32, rate=5e-3, decay=decay)
        network = train(digits, recipe)
        report = lipschitz(network, lower_bounds=False)
        assert report.certificate is not None
        assert check(report.certificate, network)
        bounds.append(report.upper)
    assert bounds[1] < 0.7 * bounds[0]


def test_accuracy_counts() -> None:
    digits = data.digits()
    network = train(digits, Recipe(architecture=ARCHITECTURES["cnn"]((4,)), epochs=1))
    x, y = digits.test_images[:50], digits.test_labels[:50]
    answers = [int(np.argmax(network.forward(image.reshape(1, 1, 8, 8).astype(np.float64)))) for image in x]
    assert accuracy(network, x, y) == sum(int(a == b) for a, b in zip(answers, y, strict=True)) / 50


def test_modules_without_counterpart_are_named() -> None:
    from netgain.experiments.training.modules import to_graph

    nn = torch.nn
    for module in (nn.Tanh(), nn.Conv2d(1, 2, 3, padding="same"), nn.Conv2d(1, 2, 3, padding_mode="circular"),
                   nn.BatchNorm2d(1, affine=False), nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(2)):
        with pytest.raises(TypeError, match="has no counterpart"):
            to_graph(nn.Sequential(nn.ReLU(), module), (1, 8, 8), "net")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_widths_that_are_none(name: str) -> None:
    for widths in ((), (4, 0)):
        with pytest.raises(ValueError, match="needs at least one entry, each at least 1"):
            ARCHITECTURES[name](widths)
