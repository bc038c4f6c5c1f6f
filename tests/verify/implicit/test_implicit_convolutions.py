"""Implicit layers with convolutions, zero-padded and circular: their matrices, archives, bounds and steps."""

import numpy as np
import pytest
from netgain.layers import (
    Affine,
    Convolution,
    FixedPoint,
    Flatten,
    ModelError,
    Relu,
    ShapeError,
    Tanh,
    load,
    sequential,
)
from netgain.layers.formats import save_npz
from netgain.verify.implicit.layer_report import WellPosedness
from netgain.verify.implicit.report import EUCLIDEAN, LARGEST, implicit
from netgain.verify.implicit.unrolling import StepKind, UnrolledStep, unroll

SHAPE = (2, 4, 5)


def kernel(seed, out=2, channels=2, size=(3, 3), scale=0.15):
    return scale * np.random.default_rng(seed).standard_normal((out, channels, *size))


def correlated(x, weight, circular):
    """The sum over taps, pixel by pixel, for a batch of images."""
    result = np.zeros((len(x), len(weight), *x.shape[2:]))
    reach = [n // 2 for n in weight.shape[2:]]
    for index in np.ndindex(*x.shape[2:]):
        for tap in np.ndindex(*weight.shape[2:]):
            at = [i + t - r for i, t, r in zip(index, tap, reach, strict=True)]
            if circular:
                at = [a % n for a, n in zip(at, x.shape[2:], strict=True)]
            if all(0 <= a < n for a, n in zip(at, x.shape[2:], strict=True)):
                result[(slice(None), slice(None), *index)] += x[(slice(None), slice(None), *at)] @ weight[
                    (slice(None), slice(None), *tap)].T
    return result


def layer(weight, activation, circular):
    reach = tuple(n // 2 for n in weight.shape[2:])
    padding = ((), ()) if circular else (reach, reach)
    return FixedPoint(Convolution(weight, padding=padding), activation, circular=circular)


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("size", [(3, 3), (1, 5), (3, 1)])
def test_the_matrix_and_the_solution(circular, size):
    weight, rng = kernel(0, size=size), np.random.default_rng(1)
    implicit_layer = layer(weight, Tanh(), circular)
    x, v = rng.standard_normal((3, *SHAPE)), rng.standard_normal((3, *SHAPE))
    flat = x.reshape((3, -1)) @ implicit_layer.matrix(SHAPE).T
    np.testing.assert_allclose(flat.reshape(x.shape), correlated(x, weight, circular), atol=1e-12)
    z = implicit_layer.forward(v)
    np.testing.assert_allclose(z, np.tanh(correlated(z, weight, circular) + v), atol=1e-10)


def archive(path, border, **changes):
    content = {"input_shape": np.array([1, 4, 5]), "W1": kernel(2, 2, 1), "b1": np.ones(2), "implicit2": kernel(3),
               "activation2": "relu", "layer3": "flatten", "W4": np.random.default_rng(4).standard_normal((2, 40)),
               "border1": border, "border2": border}
    if border == "zeros":
        content["padding1"] = np.array(1)
    np.savez(path, **{key: value for key, value in (content | changes).items() if value is not None})
    return content


@pytest.mark.parametrize("border", ["zeros", "circular"])
def test_archives_and_bounds(border, tmp_path):
    content = archive(tmp_path / "net.npz", border)
    graph, circular = load(tmp_path / "net.npz"), border == "circular"
    u = np.random.default_rng(0).standard_normal((3, 1, 4, 5))
    v = correlated(u, content["W1"], circular) + 1
    x = graph.values(u)[graph.inputs(next(n for n in graph.order if n == "flatten"))[0]]
    np.testing.assert_allclose(x, np.maximum(correlated(x, content["implicit2"], circular) + v, 0), atol=1e-9)
    found = implicit(graph)
    assert found.verdict is WellPosedness.PROVED
    for norms in (EUCLIDEAN, LARGEST):
        assert 0.3 * found.best(norms).value <= found.best(norms, upper=False).value <= found.best(norms).value
    step = {"fixedpoint": UnrolledStep(StepKind.AVERAGE, 0.7, 1.0)}
    state = np.zeros_like(x)
    for _ in range(3):
        state = 0.3 * state + 0.7 * np.maximum(correlated(state, content["implicit2"], circular) + v, 0)
    np.testing.assert_allclose(unroll(graph, 3, step).forward(u), state.reshape((3, -1)) @ content["W4"].T, atol=1e-12)


@pytest.mark.parametrize("circular", [False, True])
def test_saved_networks_are_read_back(circular, tmp_path):
    graph = sequential(SHAPE, [layer(kernel(5), Relu(), circular), Flatten(), Affine(np.ones((1, 40)))])
    save_npz(tmp_path / "net.npz", graph)
    assert load(tmp_path / "net.npz").digest == graph.digest
    other = sequential(SHAPE, [layer(kernel(5), Relu(), not circular), Flatten(), Affine(np.ones((1, 40)))])
    assert other.digest != graph.digest


@pytest.mark.parametrize(("changes", "message"), [
    ({"implicit2": kernel(0, size=(2, 2))}, "odd size"),
    ({"implicit2": kernel(0, 2, 1)}, "as many channels"),
    ({"implicit2": kernel(0, size=(5, 7)), "border2": "circular"}, "larger than the image"),
    ({"border2": "mirror"}, "expected 'zeros' or 'circular'"),
    ({"border1": "circular"}, "without padding1"),
    ({"activation2": None}, "needs activation2"),
])
def test_archives_that_are_refused(changes, message, tmp_path):
    archive(tmp_path / "net.npz", "zeros", **changes)
    with pytest.raises(ModelError, match=message):
        load(tmp_path / "net.npz")


def test_layers_that_are_refused():
    with pytest.raises(ModelError, match="are circular"):
        FixedPoint(Affine(np.eye(2)), Relu(), circular=True)
    with pytest.raises(ModelError, match="are circular"):
        FixedPoint(Convolution(kernel(0), padding=((1, 1), (1, 1))), Relu(), circular=True)
    with pytest.raises(ShapeError, match="keep the shape"):
        sequential(SHAPE, [FixedPoint(Convolution(kernel(0)), Relu())])
