"""Training of NAIS-Net blocks and baselines: measurements agree with what is known, tables say what was found."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import typer
from netgain.experiments.data import sha256
from netgain.layers.formats import load_stable
from netgain.solvers.stability.spectral_growth import growth_of
from netgain.verify.stability.conditions import SlopeBox, fully_connected_conditions
from typer.testing import CliRunner

from .blobs import blobs

torch = pytest.importorskip("torch")

from netgain.experiments.training.stable_blocks import BlockForm, Family  # noqa: E402
from netgain.experiments.training.stable_network import Task, main, run, subset  # noqa: E402
from netgain.experiments.training.stable_tables import gap_verdict, markdown  # noqa: E402
from netgain.experiments.training.stable_training import (  # noqa: E402
    BlockRecipe,
    conditions,
    measured,
    settling,
    spectral_radii,
    state_matrix,
    train_block,
)


def trained(epochs=3, seed=0, **settings):
    form = BlockForm(**({"width": 4, "depth": 4} | settings))
    return train_block(blobs(8), BlockRecipe(form=form, epochs=epochs, seed=seed, rate=1e-2, records=2))


@pytest.mark.parametrize("convolutional", [False, True])
@pytest.mark.parametrize("family", list(Family))
def test_classes_are_learned_and_only_nais_net_keeps_its_conditions(family, convolutional):
    found = trained(8, family=family, convolutional=convolutional, activation="relu", width=8)
    result = measured(found, blobs(8), 100, 20)
    assert result["test_accuracy"] > 0.8
    assert result["accuracy_gap"] == pytest.approx(result["train_accuracy"] - result["test_accuracy"])
    assert result["robustness"]["pgd l_inf 0.05"] <= result["test_accuracy"] + 0.1
    assert [record["epoch"] for record in result["records"]] == [0, 4, 8]
    if family is Family.NAIS:
        assert result["conditions"]["satisfied"]
        assert result["conditions"]["rate"] <= 1
        assert all(record["full"] < 1 for record in result["records"])
    else:
        assert conditions(found.classifier) is None


def test_training_repeats_itself():
    first, second = trained(1), trained(1)
    for one, other in zip(first.classifier.parameters(), second.classifier.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(first.classifier.raw, trained(1, seed=1).classifier.raw)


@pytest.mark.parametrize("convolutional", [False, True])
def test_spectral_radii_are_those_of_the_exported_matrices(convolutional):
    found = trained(1, convolutional=convolutional)
    classifier, x = found.classifier, torch.from_numpy(blobs(8).test_images[:3].astype(np.float64))
    u = classifier.encoded(x)
    block = classifier.block()
    a, b, c = block.matrices(tuple(u.shape[1:]))
    np.testing.assert_allclose(state_matrix(classifier, classifier.supplied(u)[0].shape[1:]), a, atol=1e-12)
    states = block.states_of(u.numpy())[-1].reshape(3, -1)
    slopes = 1 / np.cosh(states @ a.T + u.numpy().reshape(3, -1) @ b.T + c) ** 2
    full, visited = spectral_radii(classifier, x)
    assert full == pytest.approx(growth_of(a, block.step, np.ones((1, len(a)))), abs=1e-9)
    assert visited == pytest.approx(max(growth_of(a, block.step, row[None]) for row in slopes), abs=1e-9)


def test_nais_net_settles_at_the_equilibrium_in_closed_form():
    rows = settling(trained(1, epsilon=0.1, eta=0.2).classifier, blobs(8).test_images[:10])
    assert [row["stages"] for row in rows] == [4, 8, 20, 80, 400]
    assert rows[-1]["to_equilibrium"] < 1e-8
    assert rows[-1]["apart"] < 1e-8
    apart = [row["apart"] for row in rows]
    assert apart == sorted(apart, reverse=True)


def test_states_that_leave_are_reported_as_infinite():
    classifier = trained(1, family=Family.UNCONSTRAINED, activation="relu").classifier
    with torch.no_grad():
        classifier.raw.copy_(torch.eye(4, dtype=torch.float64) * 10)
    rows = settling(classifier, blobs(8).test_images[:5])
    assert rows[-1]["diverged"]
    assert rows[-1]["update"] == math.inf
    assert rows[-1]["to_equilibrium"] is None


@pytest.mark.parametrize(("ours", "theirs", "said"), [
    ([0.1, 0.2], [0.3, 0.4], "below that of other for all seeds"),
    ([0.1, 0.35], [0.3, 0.4], "below that of other on average, but"),
    ([0.3, 0.5], [0.3, 0.4], "NOT below that of other on average"),
    ([0.5, 0.6], [0.3, 0.4], "ABOVE that of other for all seeds"),
])
def test_the_gap_is_said_as_it_is(ours, theirs, said):
    runs = [{"family": name, "accuracy_gap": gap} for name, gaps in (("NAIS-Net", ours), ("other", theirs))
            for gap in gaps]
    assert said in gap_verdict(runs)


def test_a_run_writes_tables_and_a_model(tmp_path):
    task = Task("dense tanh", False, "tanh", 3, 2)
    found = run(subset(blobs(8), 200), (task,), 2, tmp_path, lambda text: None)
    stored = json.loads((tmp_path / "stable.json").read_text())
    assert (stored["train_images"], len(stored["tasks"][0]["runs"])) == (200, 6)
    assert stored["tasks"][0]["runs"][0]["records"][0]["loss"] is None
    text = (tmp_path / "stable.md").read_text()
    assert text == markdown(found)
    assert "2 of 2 exported blocks" in text
    network = load_stable(tmp_path / "nais_dense_tanh.npz")
    images = blobs(8).test_images
    logits = network.graph().forward(images[:, None].astype(np.float64))
    right = np.mean(np.argmax(logits, axis=1) == blobs(8).test_labels)
    assert right == pytest.approx(found["tasks"][0]["runs"][0]["test_accuracy"])


def test_pictures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from netgain.experiments.training.stable_plots import draw

    found = run(blobs(8), (Task("dense relu", False, "relu", 3, 1),), 1, tmp_path, lambda text: None)
    (path,) = draw(found, tmp_path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("wrong", [["--data", "/nonexistent"], ["--only", "nothing"], ["--out", "/nonexistent"]])
def test_command_refuses(wrong, tmp_path):
    app = typer.Typer()
    app.command()(main)
    given = {"--data": "digits", "--out": str(tmp_path)} | dict([wrong])
    result = CliRunner().invoke(app, [word for pair in given.items() for word in pair])
    assert result.exit_code == 2
    assert wrong[0] in result.output


@pytest.mark.parametrize("settings", [{"epochs": 0}, {"batch": 0}, {"records": 0}, {"radius_images": 0}, {"rate": 0.0}])
def test_impossible_recipes(settings):
    with pytest.raises(ValueError, match="must"):
        BlockRecipe(form=BlockForm(), **settings)


def test_the_committed_block_is_what_the_readme_says():
    path = Path(__file__).parents[2] / "experiments" / "models" / "mnist_nais.npz"
    assert sha256(path.read_bytes()) in (path.parent / "README.md").read_text(encoding="utf-8")
    assert path.stat().st_size < 2**20
    network = load_stable(path)
    ((block, shape),) = network.blocks
    assert (network.input_shape, shape, block.depth, len(block.states[0])) == ((1, 28, 28), (196,), 10, 64)
    found = fully_connected_conditions(block.states[0], 0.01, SlopeBox(block.step, *block.slopes))
    assert found.satisfied
    assert found.converges
