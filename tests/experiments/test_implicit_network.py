"""Training of implicit classifiers: gradients through fixed points, parametrisations, and what is proved of them."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from netgain.experiments.data import Dataset
from netgain.experiments.data import load as dataset
from netgain.experiments.training.implicit_recipe import ImplicitRecipe, Method, Penalty
from netgain.layers import load
from netgain.solvers.implicit.network import equilibria, relu_network
from netgain.solvers.implicit.weighted_log_norm import least_log_norm, weighted_log_norm

torch = pytest.importorskip("torch")

from netgain.experiments.training.implicit_layer import (  # noqa: E402
    AverageIteration,
    ImplicitClassifier,
    NotConverged,
    PeacemanRachford,
    equilibrium,
)
from netgain.experiments.training.implicit_network import main, save_implicit, train_implicit  # noqa: E402
from netgain.experiments.training.implicit_report import RADII, RADII_2, measure, table  # noqa: E402


def classifier(method: str, level: float, seed: int = 0) -> ImplicitClassifier:
    generator = torch.Generator().manual_seed(seed)
    network = ImplicitClassifier(Method(method), 5, 6, 3, level, generator).double()
    with torch.no_grad():
        for part in (network.d, network.b):
            part.copy_(0.4 * torch.randn(6, generator=generator))
    exact = network.iteration
    network.iteration = lambda A: dataclasses.replace(exact(A), tolerance=1e-13, most=100_000)
    return network


LOSSES = {
    "classes": lambda net, u, y: torch.nn.functional.cross_entropy(net(u), y),
    "boxes": lambda net, u, y: torch.nn.functional.cross_entropy(net.worst_logits(u - 0.1, u + 0.1, y), y),
    "majorant": lambda net, u, y: net.lipschitz_bound(),
    "surrogate": lambda net, u, y: net.surrogate(),
}


@pytest.mark.parametrize(("method", "level", "loss"), [
    *(("nemon", level, loss) for level in (0.0, 0.4) for loss in LOSSES),
    *(("norm", 0.9, loss) for loss in ("classes", "boxes", "majorant")), ("mon", 1.0, "classes")])
def test_gradients_are_those_of_finite_differences(method, level, loss):
    network = classifier(method, level)
    u = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0])
    LOSSES[loss](network, u, labels).backward()
    for name, part in network.named_parameters():
        if part.grad is None:
            continue
        numeric = torch.zeros_like(part)
        for index in np.ndindex(*part.shape):
            values = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    part[index] += step
                    values.append(float(LOSSES[loss](network, u, labels)))
                    part[index] -= step
            numeric[index] = (values[0] - values[1]) / 2e-6
        assert part.grad.numpy() == pytest.approx(numeric.numpy(), abs=1e-7), name


def test_both_iterations_solve_the_equation():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((6, 6))
    A = torch.tensor(A - (np.linalg.norm(A, 2) - 0.5) * np.eye(6))
    c = torch.tensor(rng.standard_normal((20, 6)))
    found = [equilibrium(A, c, iteration) for iteration in (AverageIteration(0.2, 1e-12, 10_000),
                                                            PeacemanRachford(0.5, 1e-12, 10_000))]
    for x in found:
        assert torch.allclose(x, torch.relu(x @ A.T + c), atol=1e-10)
    assert torch.allclose(*found, atol=1e-9)
    with pytest.raises(NotConverged, match="after 3 iterations"):
        equilibrium(A, c, AverageIteration(0.2, 1e-12, 3))
    failures = []
    equilibrium(A, c, AverageIteration(0.2, 1e-12, 3, failures))
    assert len(failures) == 1


def test_the_parametrisation_of_nemon():
    """T = [[-.2, 1, -.5], [.3, .4, .2], [0, -.7, -.1]], w = (1, 2, .5), m = .1, worked by hand."""
    network = ImplicitClassifier(Method.NEMON, 2, 3, 2, 0.1, torch.Generator()).double()
    with torch.no_grad():
        network.T.copy_(torch.tensor([[-0.2, 1, -0.5], [0.3, 0.4, 0.2], [0, -0.7, -0.1]]))
        w = torch.tensor([1, 2, 0.5], dtype=torch.float64)
        network.d.copy_(torch.log(w))
    A = network.matrix().detach().numpy()
    assert pytest.approx(np.array([[-1.8, 2, -0.25], [0.15, -0.4, 0.05], [0, -2.8, -0.8]]), abs=1e-7) == A
    assert weighted_log_norm(A, 1 / w.numpy()) == pytest.approx(0.1, abs=1e-7)
    # Every A with this log norm has a T: the off-diagonal of diag(w) A diag(w)^-1, and half of what a row has left.
    other = np.random.default_rng(0).standard_normal((3, 3))
    other -= (weighted_log_norm(other, 1 / w.numpy()) - 0.1 + 0.3) * np.eye(3)
    scaled = w.numpy()[:, None] * other / w.numpy()
    row = np.diagonal(scaled) + np.abs(scaled).sum(1) - np.abs(np.diagonal(scaled))
    T = scaled.copy()
    np.fill_diagonal(T, (row - 0.1) / 2)
    with torch.no_grad():
        network.T.copy_(torch.tensor(T))
    assert network.matrix().detach().numpy() == pytest.approx(other, abs=1e-12)


def test_the_surrogate_of_the_network_at_initialisation():
    """n = 100, uniform entries: 121.882, above the bound 79.3089 of the norms and 71.6306 of the M-matrix."""
    rng = np.random.default_rng(0)
    network = ImplicitClassifier(Method.NEMON, 784, 100, 10, 0.0, torch.Generator()).double()
    with torch.no_grad():
        network.T.copy_(torch.tensor(rng.uniform(-1, 1, (100, 100)) / 10))
        network.B.copy_(torch.tensor(rng.uniform(-1, 1, (100, 784)) / 28))
        network.C.copy_(torch.tensor(rng.uniform(-1, 1, (10, 100)) / 10))
    assert float(network.surrogate().detach()) == pytest.approx(121.882, abs=1e-3)
    assert float(network.lipschitz_bound().detach()) == pytest.approx(71.6306, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_matrices_keep_their_promise(seed):
    assert least_log_norm(classifier("nemon", 0.3, seed).matrix().detach().numpy()).value <= 0.3 + 1e-9
    norm = classifier("norm", 0.4, seed).matrix().detach().numpy()
    assert np.abs(norm).sum(1).max() <= 0.4 + 1e-12
    monotone = np.eye(6) - classifier("mon", 0.7, seed).matrix().detach().numpy()
    assert np.linalg.eigvalsh(monotone + monotone.T)[0] >= 1.4 - 1e-9


@pytest.fixture(scope="module")
def blobs():
    """Three classes of 4 x 4 images, around three patterns."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(0.2, 0.8, (3, 4, 4))

    def images(count):
        labels = rng.integers(0, 3, count)
        return np.clip(patterns[labels] + 0.1 * rng.standard_normal((count, 4, 4)), 0, 1).astype(np.float32), labels

    return Dataset("blobs", "made here", {}, *images(600), *images(300))


@pytest.mark.parametrize("change", [
    {}, {"weight": 1e-3}, {"weight": 1e-3, "penalty": Penalty.SURROGATE}, {"radius": 0.05}, {"method": Method.MON},
    {"method": Method.NORM}, {"method": Method.PLAIN}, {"channels": 2, "stride": 1, "weight": 1e-4},
    {"channels": 2, "stride": 1, "method": Method.MON}], ids=str)
def test_training_and_what_is_proved(change, blobs, tmp_path):
    recipe = ImplicitRecipe(size=8, epochs=6, batch=20, rate=1e-2, **change)
    losses = []
    parts = train_implicit(blobs, recipe, lambda epoch, loss: losses.append(loss))
    assert len(losses) == 6
    found = measure(parts, blobs, attacked=100, pairs=recipe.radius > 0)
    assert found["test_accuracy"] > 0.9
    # Without a guarantee an iteration may fail, and is reported.
    assert recipe.method is Method.PLAIN or "not_converged" not in found
    for radius in map(str, RADII if "not_converged" not in found else ()):
        assert found["pgd"][radius] <= found["fgsm"][radius] + 0.02
        for kind in ("certified_boxes", "certified_gains"):
            assert found[kind] is None or found[kind][radius] <= found["pgd"][radius]
    for radius in map(str, RADII_2 if found.get("certified_2") else ()):
        assert found["certified_2"][radius] <= found["pgd_2"][radius]
    assert found.get("certified_2") or found["bound_2"] is None
    if found["bound_2"] is not None and "not_converged" not in found:
        assert found["witness_2"] <= found["bound_2"]
        assert found["witness_inf"] <= found["bound_inf"]
    if recipe.method.is_bounded:
        assert found["log_norm"] <= max(recipe.bound, 0.0) + 1e-5
        assert found["bound_inf"] <= found["majorant_inf"] <= found["weighted_inf"] * (1 + 1e-6)
    else:
        assert found["majorant_inf"] is None or found["log_norm"] < 1
    if recipe.method is Method.MON:
        assert found["diagonal_metric"]
    save_implicit(parts, found, tmp_path / "network.npz")
    stored = np.load(tmp_path / "network.npz", allow_pickle=False)
    assert {"A", "B", "b", "C", "c", "activation", "about"} == set(stored)
    assert np.array_equal(stored["A"], parts["A"])
    assert json.loads(str(stored["about"])) == json.loads(json.dumps(found))
    text = table({"network": found | {"seconds": 1.0}})
    assert f"{100 * found['test_accuracy']:.2f} %" in text
    assert len({line.count("|") for line in text.splitlines() if "|" in line}) == 1


def test_penalties_and_boxes_do_what_they_are_for(blobs):
    recipe = ImplicitRecipe(size=8, epochs=6, batch=20, rate=1e-2)
    plain, penalised, boxes = (
        measure(train_implicit(blobs, dataclasses.replace(recipe, **change)), blobs, 100, pairs=False)
        for change in ({}, {"weight": 0.03}, {"radius": 0.1}))
    assert penalised["majorant_inf"] < plain["majorant_inf"]
    assert boxes["certified_boxes"]["0.1"] >= plain["certified_boxes"]["0.1"]
    assert boxes["median_radius"] > plain["median_radius"]


@pytest.mark.parametrize("settings", [
    {"size": 0}, {"rate": 0.0}, {"weight": -1.0}, {"share": 1.5}, {"method": Method.MON, "weight": 1.0},
    {"method": Method.PLAIN, "radius": 0.1}, {"level": 1.0}, {"method": Method.NORM, "level": 0.0},
    {"method": Method.MON, "level": 0.0}, {"channels": -1}, {"channels": 2, "kernel": 2}, {"channels": 2, "stride": 0}])
def test_impossible_recipes(settings):
    with pytest.raises(ValueError, match="must"):
        ImplicitRecipe(**settings)


def test_ramp():
    recipe = ImplicitRecipe()
    assert [recipe.ramp(share) for share in (0.0, 0.25, 0.375, 0.5, 1.0)] == [0.0, 0.0, 0.5, 1.0, 1.0]




def test_the_command_writes_a_model_that_loads(tmp_path):
    pytest.importorskip("sklearn")
    main("digits", tmp_path, only="nemon", epochs=2, jobs=1)
    rows = json.loads((tmp_path / "implicit.json").read_text(encoding="utf-8"))
    assert rows["nemon"]["epochs"] == 2
    assert "| nemon |" in (tmp_path / "implicit.md").read_text(encoding="utf-8")
    stored = np.load(tmp_path / "mnist_nemon.npz", allow_pickle=False)
    graph, digits = load(tmp_path / "mnist_nemon.npz"), dataset("digits")
    images = digits.test_images.reshape(len(digits.test_images), -1).astype(np.float64)
    network = relu_network(*(stored[key].astype(np.float64) for key in ("A", "B", "b", "C", "c")))
    logits = graph.forward(images)
    assert logits == pytest.approx(equilibria(network).outputs(images), abs=1e-7)
    assert np.mean(logits.argmax(1) == digits.test_labels) == pytest.approx(rows["nemon"]["test_accuracy"])


@pytest.mark.parametrize(("change", "message"), [
    ({"data": "nowhere"}, "nowhere"), ({"only": "nothing"}, "no recipe"), ({"out": Path("/nowhere")}, "no folder")])
def test_the_command_refuses(change, message, tmp_path):
    with pytest.raises(typer.BadParameter, match=message):
        main(**({"data": "digits", "out": tmp_path, "only": "nemon", "jobs": 1} | change))
