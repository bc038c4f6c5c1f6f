"""Blocks as trained: reprojection obeys its laws inside a network, and models exported are the networks trained."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netgain.layers.formats import load_stable, save_stable_npz
from netgain.verify.stability.conditions import SlopeBox, convolutional_conditions, fully_connected_conditions

torch = pytest.importorskip("torch")

from netgain.experiments.training.stable_blocks import BlockClassifier, BlockForm, Family  # noqa: E402

IMAGE = (1, 6, 6)
SMALL = {"width": 3, "depth": 4}


def classifier(seed=0, image=IMAGE, **settings):
    form = BlockForm(**(SMALL | settings))
    return BlockClassifier(form, image, 4, torch.Generator().manual_seed(seed))


def images(count=5, image=IMAGE, seed=1):
    return np.random.default_rng(seed).uniform(size=(count, *image))


@st.composite
def disturbed(draw):
    """A classifier after a step of training of any size."""
    convolutional = draw(st.booleans())
    epsilon = draw(st.floats(1e-6, 0.4))
    made = classifier(draw(st.integers(0, 9)), convolutional=convolutional, epsilon=epsilon,
                      eta=draw(st.floats(epsilon * 1.01, 0.99)))
    scale = 10.0 ** draw(st.integers(-3, 6))
    step = np.random.default_rng(draw(st.integers(0, 99))).standard_normal(tuple(made.raw.shape))
    with torch.no_grad():
        made.raw += torch.from_numpy(scale * step)
    return made


@settings(deadline=None, max_examples=60)
@given(disturbed())
def test_reprojection_is_feasible_in_exact_arithmetic_and_idempotent(made):
    made.reproject()
    once, form = made.raw.detach().clone(), made.form
    if form.convolutional:
        found = convolutional_conditions(made.block().states[0], form.epsilon, form.eta, SlopeBox(1.0, 0.0, 1.0))
        assert found.satisfied
        assert found.rate <= 1
    else:
        exact = np.vectorize(Fraction, otypes=[object])(once.numpy())
        assert ((exact.T @ exact) ** 2).sum() <= (1 - 2 * Fraction(form.epsilon)) ** 2
    made.reproject()
    assert torch.equal(made.raw, once)


@settings(deadline=None, max_examples=30)
@given(disturbed())
def test_feasible_blocks_are_not_moved(made):
    made.reproject()
    before = made.raw.detach().clone()
    with torch.no_grad():
        if not made.form.convolutional:
            made.raw *= 0.5
            before = made.raw.detach().clone()
    made.reproject()
    assert torch.equal(made.raw, before)


def test_baselines_are_not_reprojected():
    for family in (Family.UNCONSTRAINED, Family.RESIDUAL):
        made = classifier(family=family)
        with torch.no_grad():
            made.raw *= 100
        before = made.raw.detach().clone()
        made.reproject()
        assert torch.equal(made.raw, before)


@pytest.mark.parametrize("convolutional", [False, True])
def test_families_have_equal_sizes(convolutional):
    sizes = {sum(parameter.numel() for parameter in classifier(convolutional=convolutional, family=family).parameters())
             for family in Family}
    assert len(sizes) == 1
    nais, free = (classifier(convolutional=convolutional, family=family) for family in list(Family)[:2])
    assert torch.allclose(nais.weights(), free.weights(), atol=1e-14)
    x = torch.from_numpy(images())
    assert torch.allclose(nais(x), free(x), atol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "relu", "leaky_relu:0.2"])
@pytest.mark.parametrize("convolutional", [False, True])
@pytest.mark.parametrize("family", [Family.NAIS, Family.UNCONSTRAINED])
def test_exported_networks_are_those_trained(family, convolutional, activation, tmp_path):
    image = (3, 8, 8)
    made = classifier(2, image, family=family, convolutional=convolutional, activation=activation, step=0.5)
    network = made.network("block")
    x = images(image=image)
    with torch.no_grad():
        expected = made(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(network.graph().forward(x), expected, atol=1e-12)
    save_stable_npz(tmp_path / "block.npz", network)
    stored = load_stable(tmp_path / "block.npz")
    assert np.array_equal(stored.graph().forward(x), network.graph().forward(x))


def test_dense_blocks_exported_satisfy_the_conditions():
    made = classifier(3)
    weights = made.block().states[0]
    assert np.array_equal(weights, weights.T)
    found = fully_connected_conditions(weights, made.form.epsilon, SlopeBox(1.0, 0.0, 1.0))
    assert found.satisfied
    assert found.rate <= 1


def test_images_without_such_squares():
    with pytest.raises(ValueError, match="6 x 6 pixels has no squares of 4 x 4"):
        classifier(pool=4)


def test_residual_networks_start_at_the_image_and_are_no_blocks():
    made = classifier(family=Family.RESIDUAL)
    u = made.encoded(torch.from_numpy(images()))
    assert torch.allclose(u[:, 0], torch.from_numpy(images()[:, 0, :2, :2].mean(axis=(1, 2))))
    start, added = made.supplied(u)
    assert torch.equal(start, u @ made.inputs.T)
    assert torch.equal(added, made.offset)
    with pytest.raises(ValueError, match="residual"):
        made.block()


@pytest.mark.parametrize("activation", ["tanh", "relu", "leaky_relu:0.2"])
def test_derivatives_are_those_of_the_activation(activation):
    form = BlockForm(activation=activation)
    x = torch.linspace(-2, 2, 40, dtype=torch.float64).requires_grad_(True)  # an even count: not the kink at 0
    (expected,) = torch.autograd.grad(form.apply(x).sum(), x)
    assert torch.allclose(form.derivative(x.detach()), expected)


@pytest.mark.parametrize("settings", [{"width": 0}, {"depth": 0}, {"pool": 0}, {"step": 0.0}, {"step": 1.5},
                                      {"epsilon": 0.2}, {"epsilon": 0.5, "eta": 0.9}, {"activation": "gelu"}])
def test_impossible_forms(settings):
    with pytest.raises(ValueError, match=r"must|need"):
        BlockForm(**settings)
