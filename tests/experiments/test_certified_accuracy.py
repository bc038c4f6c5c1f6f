"""Certified radii hold against what is known exactly, and no attack gets within them."""

import numpy as np
import pytest
from netgain.experiments.training.certified_accuracy import (
    certified_radii,
    condensed,
    flow_constants,
    flow_logits,
    network_constants,
    spectral_norm_bound,
    unrolled,
)
from netgain.experiments.training.neural_ode import Method, OdeClassifier, OdeRecipe, train_ode
from netgain.experiments.training.ode_fields import TrainedForm
from netgain.verify.contractivity.report import FieldForm
from scipy.integrate import solve_ivp

from .blobs import blobs

torch = pytest.importorskip("torch")


def classifier(form: FieldForm, seed: int = 0, steps: int = 4) -> OdeClassifier:
    """Random weights, float32 as after training."""
    rng = np.random.default_rng(seed)
    field = TrainedForm(form=form, size=3, hidden=4, nodes=3)

    def random(*shape):
        return (rng.standard_normal(shape) / shape[-1] ** 0.5).astype(np.float32)

    dynamics = tuple(random(*shape) for shape in field.shapes())
    return OdeClassifier((random(3, 6), random(3)), dynamics, (random(3, 3), random(3)),
                         OdeRecipe(field=field, steps=steps))


@pytest.mark.parametrize("shape", [(3, 7), (4, 4), (5, 2), (1, 1)])
def test_condensed_weights_reach_no_less_and_hardly_more(shape):
    weight = np.random.default_rng(1).standard_normal(shape)
    factor = condensed(weight)
    assert np.linalg.eigvalsh(factor @ factor.T - weight @ weight.T)[0] >= -1e-14
    assert np.linalg.norm(factor, 2) == pytest.approx(np.linalg.norm(weight, 2), rel=1e-6)
    bound = spectral_norm_bound(weight)
    assert np.linalg.norm(weight, 2) <= bound <= np.linalg.norm(weight, 2) * (1 + 1e-8)


@pytest.mark.parametrize("weight", [np.full((2, 2), np.nan), np.zeros((2, 2))])
def test_weights_that_cannot_be_condensed(weight):
    with pytest.raises(ValueError, match="condensed"):
        condensed(weight)


@pytest.mark.parametrize("form", list(FieldForm))
def test_the_unrolled_graph_is_the_classifier(form):
    made = classifier(form)
    images = np.random.default_rng(2).uniform(size=(5, 6))
    readout, bias = (array.astype(np.float64) for array in made.readout)
    graph = unrolled(made, made.encoder[0].astype(np.float64), readout)
    expected = made.logits(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(graph.forward(images) + bias, expected, atol=1e-12)


@pytest.mark.parametrize("form", list(FieldForm))
def test_pair_constants_bound_sampled_differences(form):
    made = classifier(form)
    constants = network_constants(made)
    assert np.array_equal(constants, constants.T)
    assert not np.diagonal(constants).any()
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2000, 6))
    y = x + rng.normal(size=(2000, 6)) * rng.choice([0.01, 1.0], (2000, 1))
    z = made.logits(torch.from_numpy(x)).numpy() - made.logits(torch.from_numpy(y)).numpy()
    ratios = np.abs(z[:, :, None] - z[:, None]) / np.linalg.norm(x - y, axis=1)[:, None, None]
    assert np.all(ratios.max(axis=0) <= constants)
    # Not vacuous: what is sampled comes within a factor of the bound.
    assert np.all(ratios.max(axis=0) >= 0.3 * constants)


def test_radii_of_a_linear_classifier_are_distances_to_its_hyperplanes():
    rows = np.array([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    images = np.array([[1.0, 0.5], [0.2, 2.0], [-1.0, -1.0]])
    constants = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    radii = certified_radii(images @ rows.T, np.array([0, 1, 0]), constants)
    assert radii == pytest.approx([1 / 5, 7.4 / 5, 0.0], rel=1e-7)
    assert np.all(certified_radii(images @ rows.T, np.array([0, 1, 0]), constants, 1.0) <= radii)


@pytest.mark.parametrize("form", list(FieldForm))
def test_flow_logits_are_as_near_the_flow_as_they_say(form):
    made = classifier(form)
    images = np.random.default_rng(4).uniform(size=(3, 6))
    dynamics = [array.astype(np.float64) for array in made.dynamics]

    def velocity(t, u):
        for weight, bias in made.recipe.field.layers_at(dynamics, t):
            v = weight @ u + bias
            u = np.where(v > 0, v, made.recipe.field.slope * v)
        return u

    rate = 2.0  # no logarithmic norm exceeds the norms of these weights
    assert max(float(np.prod([np.linalg.norm(a, 2) for a, _ in made.recipe.field.layers_at(dynamics, t)]))
               for t in (0.0, 0.5, 1.0)) < rate
    coarse, fine = (flow_logits(made, images, rate, substeps) for substeps in (4, 64))
    assert np.all(fine.state_error < coarse.state_error / 8)
    for k, image in enumerate(images):
        start = made.encoder[0].astype(np.float64) @ image + made.encoder[1]
        end = solve_ivp(velocity, (0, 1), start, rtol=1e-10, atol=1e-12, max_step=0.02).y[:, -1]
        exact = made.readout[0] @ end + made.readout[1]
        for found in (coarse, fine):
            off = np.abs((found.logits[k, 0] - found.logits[k]) - (exact[0] - exact))
            assert np.all(off <= found.errors(made, np.zeros(3, int))[k] + 1e-8)


def test_no_attack_gets_within_a_certified_radius():
    from netgain.experiments.training.ode_experiment import RADII, accuracies, bounded

    dataset = blobs()
    recipe = OdeRecipe(field=TrainedForm(size=5), method=Method.PENALTY, steps=4, epochs=4, batch=32, rate=1e-2)
    trained = train_ode(dataset, recipe)
    found = accuracies(trained, dataset, bounded(trained, 0.0, 5.0), 100)
    assert [row["radius"] for row in found["euclidean"]] == list(RADII)
    for row in found["euclidean"]:
        assert row["certified"] <= row["pgd"] <= found["clean"]
        assert row["flow_certified"] <= row["flow_pgd"] <= found["flow_clean"]
    assert found["euclidean"][0]["certified"] > 0.3
    # The flow does not expand, so its constants are norms: the encoder's times a difference of rows.
    rows = trained.readout[0].astype(np.float64)
    expected = np.linalg.norm(rows[:, None] - rows[None], axis=2) * np.linalg.norm(trained.encoder[0], 2)
    np.testing.assert_allclose(flow_constants(trained, 0.0), expected, rtol=1e-5)
