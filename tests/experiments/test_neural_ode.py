"""Training of neural-ODE classifiers: what is kept contractive is, and the file says what was trained."""

import json
from pathlib import Path

import numpy as np
import pytest
from netgain.experiments.data import Dataset
from netgain.layers import LeakyRelu, load_field
from netgain.solvers.contractivity.logarithmic_norm import logarithmic_norm
from netgain.solvers.contractivity.sdp import upper_bound
from netgain.verify.contractivity.slope_fields import slope_field

MODEL = Path(__file__).parents[2] / "experiments" / "models" / "mnist_ode.npz"


def test_the_committed_field_is_what_it_says():
    graph = load_field(MODEL)
    field = slope_field(graph)
    assert isinstance(graph.layer("s"), LeakyRelu)
    assert (field.size, field.lower, field.upper) == (32, 0.1, 1.0)
    about = json.loads(str(np.load(MODEL, allow_pickle=False)["about"]))
    assert (about["method"], about["size"], about["slope"], about["level"]) == ("penalty", 32, 0.1, 0.0)
    bound = upper_bound(field).value
    assert bound == pytest.approx(about["semidefinite_bound"], abs=1e-5)
    assert bound <= about["level"]
    readme = (MODEL.parent / "README.md").read_text(encoding="utf-8")
    assert f"{100 * about['test_accuracy']:.2f} %" in readme
    assert MODEL.stat().st_size < 200_000


@pytest.fixture
def blobs():
    """Three classes of 4 x 4 images, around three patterns."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(0.2, 0.8, (3, 4, 4))

    def images(count):
        labels = rng.integers(0, 3, count)
        return np.clip(patterns[labels] + 0.1 * rng.standard_normal((count, 4, 4)), 0, 1).astype(np.float32), labels

    return Dataset("blobs", "made here", {}, *images(600), *images(300))


@pytest.mark.parametrize("method", ["plain", "projection", "penalty"])
def test_methods_keep_the_level(method, blobs, tmp_path):
    pytest.importorskip("torch")
    from netgain.experiments.training.neural_ode import Method, OdeRecipe, report, save_ode, train_ode

    recipe = OdeRecipe(method=Method(method), size=6, epochs=4, batch=32, level=-0.05, rate=1e-2)
    losses = []
    classifier = train_ode(blobs, recipe, lambda epoch, loss: losses.append((epoch, loss)))
    assert [epoch for epoch, _ in losses] == [1, 2, 3, 4]
    about = report(classifier, blobs)
    assert about["test_accuracy"] > 0.9
    attacked = [classifier.accuracy(blobs.test_images, blobs.test_labels, 0.1, steps) for steps in (0, 1, 10)]
    assert attacked[2] <= attacked[1] + 0.02
    assert attacked[1] <= attacked[0]
    save_ode(classifier, about, tmp_path / "ode.npz")
    field = slope_field(load_field(tmp_path / "ode.npz"))
    assert np.array_equal(field.inputs, classifier.dynamics[0])
    if method == "plain":
        assert logarithmic_norm(field.inputs) > recipe.level
    else:
        assert upper_bound(field).value <= recipe.level


@pytest.mark.parametrize("settings", [{"size": 0}, {"steps": 0}, {"slope": 1.0}, {"slope": 0.0}, {"rate": 0.0},
                                      {"weight": -1.0}])
def test_impossible_recipes(settings):
    from netgain.experiments.training.neural_ode import OdeRecipe

    with pytest.raises(ValueError, match="must"):
        OdeRecipe(**settings)
