"""Training of neural-ODE classifiers: what is kept contractive is, and the file says what was trained."""

import json
from pathlib import Path

import numpy as np
import pytest
from netgain.experiments.data import sha256
from netgain.experiments.training.evaluation import Attack, Norm
from netgain.experiments.training.neural_ode import Method, OdeRecipe
from netgain.experiments.training.ode_fields import TrainedForm
from netgain.layers import LeakyRelu, load_field
from netgain.solvers.contractivity.logarithmic_norm import logarithmic_norm
from netgain.solvers.contractivity.multilayer_field import MultilayerField
from netgain.solvers.contractivity.sdp import upper_bound
from netgain.solvers.contractivity.time_dependent_field import SampledField
from netgain.verify.contractivity.report import FieldForm
from netgain.verify.contractivity.slope_fields import slope_field

from .blobs import blobs

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


@pytest.mark.parametrize("method", ["plain", "projection", "penalty"])
def test_methods_keep_the_level(method, tmp_path):
    pytest.importorskip("torch")
    from netgain.experiments.training.neural_ode import report, save_ode, train_ode

    dataset = blobs()
    recipe = OdeRecipe(field=TrainedForm(size=6), method=Method(method), epochs=4, batch=32, level=-0.05, rate=1e-2)
    losses = []
    classifier = train_ode(dataset, recipe, lambda epoch, loss: losses.append((epoch, loss)))
    assert [epoch for epoch, _ in losses] == [1, 2, 3, 4]
    about = report(classifier, dataset)
    assert about["test_accuracy"] > 0.9
    attacks = [None, Attack(Norm.LARGEST, 0.1, 1), Attack(Norm.LARGEST, 0.1, 10)]
    attacked = [classifier.accuracy(dataset.test_images, dataset.test_labels, attack) for attack in attacks]
    assert attacked[2] <= attacked[1] + 0.02
    assert attacked[1] <= attacked[0]
    save_ode(classifier, about, tmp_path / "ode.npz")
    field = slope_field(load_field(tmp_path / "ode.npz"))
    assert np.array_equal(field.inputs, classifier.dynamics[0])
    if method == "plain":
        assert logarithmic_norm(field.inputs) > recipe.level
    else:
        assert upper_bound(field).value <= recipe.level


@pytest.mark.parametrize("method", ["projection", "penalty"])
def test_weights_in_time_keep_the_level_at_all_times(method, tmp_path):
    pytest.importorskip("torch")
    from netgain.experiments.training.neural_ode import report, save_ode, train_ode

    dataset = blobs()
    form = TrainedForm(form=FieldForm.IN_TIME, size=4, nodes=3)
    recipe = OdeRecipe(field=form, method=Method(method), epochs=5, batch=32, steps=4, level=-0.2, rate=1e-2)
    classifier = train_ode(dataset, recipe)
    about = report(classifier, dataset)
    assert about["test_accuracy"] > 0.8
    save_ode(classifier, about, tmp_path / "ode.npz")
    sampled = slope_field(load_field(tmp_path / "ode.npz"))
    assert isinstance(sampled, SampledField)
    assert sampled.times[[0, -1]].tolist() == [0.0, 1.0]
    # Between the nodes the level is kept because the norm is convex, up to the rounding of the samples.
    assert all(upper_bound(sampled.at(j)).value <= -0.2 + 1e-6 for j in range(len(sampled.times)))
    assert not np.allclose(sampled.inputs[0], sampled.inputs[-1])


@pytest.mark.parametrize("form", list(FieldForm))
def test_saved_fields_are_those_trained(form, tmp_path):
    pytest.importorskip("torch")
    from netgain.experiments.training.neural_ode import save_ode, train_ode

    recipe = OdeRecipe(field=TrainedForm(form=form, size=3, hidden=5, nodes=3), steps=2, epochs=1, batch=64)
    classifier = train_ode(blobs(), recipe)
    save_ode(classifier, {"made": "here"}, tmp_path / "ode.npz")
    stored, field = slope_field(load_field(tmp_path / "ode.npz")), recipe.field.field(classifier.dynamics)
    assert type(stored) is type(field)
    for name in ("inputs", "weights", "times"):
        assert np.all([np.array_equal(*pair) for pair in zip(getattr(stored, name, ()), getattr(field, name, ()),
                                                             strict=True)])
    assert stored.lower == recipe.field.slope


def test_weights_in_time_run_linearly_between_the_nodes():
    form = TrainedForm(form=FieldForm.IN_TIME, size=1, nodes=3)
    nodes = [np.array([[[1.0]], [[3.0]], [[-1.0]]]), np.zeros(1)]
    found = [float(form.layers_at(nodes, t)[0][0][0, 0]) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert found == [1, 2, 3, 1, -1]
    assert float(form.arrays(nodes)["lipschitz"]) == pytest.approx(8.0)


@pytest.mark.parametrize("settings", [{"steps": 0}, {"rate": 0.0}, {"weight": -1.0}])
def test_impossible_recipes(settings):
    with pytest.raises(ValueError, match="must"):
        OdeRecipe(**settings)


@pytest.mark.parametrize("settings", [{"size": 0}, {"hidden": 0}, {"nodes": 1}, {"slope": 1.0}, {"slope": 0.0}])
def test_impossible_forms(settings):
    with pytest.raises(ValueError, match="must"):
        TrainedForm(**settings)


def test_only_what_is_convex_can_be_kept():
    with pytest.raises(ValueError, match="plain"):
        OdeRecipe(field=TrainedForm(form=FieldForm.LAYERS), method=Method.PENALTY)


@pytest.mark.parametrize(("name", "kind"), [("mnist_ode_in_time", SampledField), ("mnist_ode_layers", MultilayerField)])
def test_the_other_committed_fields_are_what_they_say(name, kind):
    path = MODEL.with_name(f"{name}.npz")
    field, readme = slope_field(load_field(path)), (MODEL.parent / "README.md").read_text(encoding="utf-8")
    about = json.loads(str(np.load(path, allow_pickle=False)["about"]))
    assert isinstance(field, kind)
    assert (field.size, field.lower) == (about["size"], about["slope"]) == (12, 0.1)
    assert f"{100 * about['test_accuracy']:.2f} %" in readme
    assert sha256(path.read_bytes()) in readme
    assert path.stat().st_size < 100_000
    if isinstance(field, SampledField):
        assert max(upper_bound(field.at(j)).value for j in range(len(field.times))) <= about["level"]
