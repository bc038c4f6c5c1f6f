"""The implicit layer x = s(A x + v): its value solves the equation, its derivative is that of the solution."""

import numpy as np
import pytest
from netgain.layers import (
    Affine,
    ConvergenceError,
    FixedPoint,
    GroupSort,
    LeakyRelu,
    ModelError,
    Relu,
    ShapeError,
    Sigmoid,
    Tanh,
    sequential,
)
from netgain.layers.differential import Linearisation
from netgain.layers.formats import load_npz, save_npz
from netgain.verify.balls import BALLS

ACTIVATIONS = [Relu(), Tanh(), Sigmoid(), LeakyRelu(0.1)]


def stable(seed, n=6, spread=1.0):
    """I - A has a positive definite symmetric part, after a change of units."""
    rng = np.random.default_rng(seed)
    V, S, units = rng.standard_normal((n, n)), rng.standard_normal((n, n)), np.exp(spread * rng.standard_normal(n))
    return np.eye(n) - units[:, None] * (V @ V.T / n + 0.2 * np.eye(n) + S - S.T)


def network(seed, activation, n=6):
    rng = np.random.default_rng(seed + 100)
    return sequential((3,), [Affine(rng.standard_normal((n, 3)), rng.standard_normal(n)),
                             FixedPoint(Affine(stable(seed, n)), activation), Affine(rng.standard_normal((2, n)))])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_value_solves_the_equation_whatever_the_size_of_the_weights(seed, activation):
    for size in (1.0, 30.0):
        A = np.eye(6) - size * (np.eye(6) - stable(seed))
        v = 10.0 ** np.random.default_rng(seed).uniform(-3, 3, (7, 1)) * np.random.default_rng(seed).normal(size=(7, 6))
        x = FixedPoint(Affine(A), activation).forward(v)
        np.testing.assert_allclose(x, activation.value(x @ A.T + v), atol=1e-10 * np.abs(x).max())


def test_a_solution_known_in_closed_form():
    """Picard's iteration alternates between 0 and 1 here."""
    layer = FixedPoint(Affine([[-2.0]]), Relu())
    np.testing.assert_allclose(layer.forward(np.array([[1.0], [-1.0], [6.0]])), [[1 / 3], [0.0], [2.0]], atol=1e-14)


@pytest.mark.parametrize("A", [[[2.0]], [[0.0, 3.0], [3.0, 0.0]], [[1.0]]])
def test_without_a_solution_there_is_an_error(A):
    """x = max(2 x + 1, 0) has none."""
    with pytest.raises(ConvergenceError, match="well-posed"):
        FixedPoint(Affine(A), Relu(), max_iterations=50).forward(np.ones((1, len(A))))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("activation", [Tanh(), Sigmoid(), LeakyRelu(0.1)])
def test_the_derivative_is_the_limit_of_quotients_and_has_its_adjoint(seed, activation):
    graph, rng = network(seed, activation), np.random.default_rng(seed)
    x, dx, dy = rng.standard_normal((5, 3)), rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    here, step = Linearisation(graph, x), 1e-6
    quotient = (graph.forward(x + step * dx) - graph.forward(x - step * dx)) / (2 * step)
    np.testing.assert_allclose(here.apply(dx), quotient, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(np.sum(dy * here.apply(dx)), np.sum(dx * here.transpose(dy)), rtol=1e-10)
    layer, v = graph.layer("fixedpoint"), rng.standard_normal((5, 6))
    dv, dz = rng.standard_normal((5, 6)), rng.standard_normal((5, 6))
    np.testing.assert_allclose(np.sum(dz * layer.apply_derivative(v, dv)),
                               np.sum(dv * layer.apply_derivative_transposed(v, dz)), rtol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_of_the_gain(seed):
    graph, rng = network(seed, Tanh()), np.random.default_rng(seed)
    x, q, p, direction = (rng.standard_normal((1, size)) for size in (3, 3, 2, 3))
    step, smoothing = 1e-4, 1e-4

    def gain(point):
        return float(np.sum(p * Linearisation(graph, point).apply(q)))

    quotient = (gain(x + step * direction) - gain(x - step * direction)) / (2 * step)
    slope = float(np.sum(Linearisation(graph, x, smoothing).gain_gradient(p, q) * direction))
    assert slope == pytest.approx(quotient, rel=1e-3, abs=1e-6)


def test_what_determines_the_digest():
    def digest(A, activation, **options):
        return sequential((1,), [Affine([[1.0]]), FixedPoint(Affine(A), activation, **options)]).digest

    assert digest([[0.5]], Relu()) == digest([[0.5]], Relu(), tolerance=1e-6, max_iterations=7)
    assert len({digest([[0.5]], Relu()), digest([[0.25]], Relu()), digest([[0.5]], Tanh())}) == 3


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: FixedPoint(Affine(np.eye(2), np.ones(2)), Relu()), ModelError, "bias"),
    (lambda: FixedPoint(Affine(np.eye(2)), GroupSort(2)), ModelError, "each entry alone"),
    (lambda: FixedPoint(Relu(), Relu()), ModelError, "matrix or a convolution"),
    (lambda: FixedPoint(Affine(np.eye(2)), Relu(), tolerance=0.0), ModelError, "positive tolerance"),
    (lambda: sequential((2,), [FixedPoint(Affine(np.ones((3, 2))), Relu())]), ShapeError, "keep the shape"),
    (lambda: sequential((2, 2), [FixedPoint(Affine(np.eye(2)), Relu())]), ShapeError, "vectors"),
    (lambda: FixedPoint(Affine(np.eye(1)), Relu()).forward(np.ones((1, 1)), arithmetic=BALLS), ModelError, "enclosed"),
])
def test_refusals(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_archives_of_one_network(tmp_path):
    rng, A = np.random.default_rng(0), stable(0)
    content = {"A": A, "B": rng.standard_normal((6, 3)), "C": rng.standard_normal((2, 6)), "b": rng.standard_normal(6),
               "c": rng.standard_normal(2), "input_mean": np.ones(3), "input_scale": np.full(3, 4.0)}
    np.savez(tmp_path / "net.npz", activation="tanh", about="a test", **content)
    u = rng.standard_normal((4, 3))
    x = FixedPoint(Affine(A), Tanh()).forward((u - 1) / 4 @ content["B"].T + content["b"])
    np.testing.assert_allclose(load_npz(tmp_path / "net.npz").forward(u), x @ content["C"].T + content["c"], rtol=1e-9)
    np.savez(tmp_path / "plain.npz", **{key: content[key] for key in "ABC"}, gamma_trained=1.0)
    assert isinstance(load_npz(tmp_path / "plain.npz").layer("fixedpoint").activation, Relu)


@pytest.mark.parametrize(("changes", "message"), [
    ({"B": None}, "B is missing"),
    ({"b": np.ones(5)}, "b has the shape"),
    ({"A": np.ones((6, 5))}, "A has the shape"),
    ({"C": np.ones(6)}, "C must be a matrix"),
    ({"D": np.ones(6)}, "keys not understood: D"),
    ({"activation": "group_sort:2"}, "several entries"),
    ({"activation": "unheard"}, "not known"),
    ({"A": np.full((6, 6), np.nan)}, "NaN"),
])
def test_archives_that_are_refused(tmp_path, changes, message):
    content = {"A": np.eye(6), "B": np.ones((6, 3)), "C": np.ones((2, 6)), **changes}
    np.savez(tmp_path / "net.npz", **{key: value for key, value in content.items() if value is not None})
    with pytest.raises(ModelError, match=message):
        load_npz(tmp_path / "net.npz")


@pytest.mark.parametrize("explicit", [False, True])
def test_layered_archives_hold_implicit_layers(tmp_path, explicit):
    rng = np.random.default_rng(1)
    layers = [Affine(rng.standard_normal((6, 3)), rng.standard_normal(6)), FixedPoint(Affine(stable(1)), Tanh()),
              Affine(rng.standard_normal((5, 6))), *([Relu(), Affine(rng.standard_normal((5, 5)))] if explicit else []),
              FixedPoint(Affine(stable(2, 5)), LeakyRelu(0.1)), Affine(rng.standard_normal((2, 5)))]
    graph = sequential((3,), layers)
    save_npz(tmp_path / "net.npz", graph)
    assert load_npz(tmp_path / "net.npz").digest == graph.digest


def test_activations_named_once_skip_the_layers_before_implicit_ones(tmp_path):
    W = [np.ones((2, 2)) * k for k in (1, 2, 3)]
    np.savez(tmp_path / "net.npz", W1=W[0], W2=W[1], implicit3=-np.eye(2), activation3="tanh", W4=W[2],
             activation=["relu"])
    graph = load_npz(tmp_path / "net.npz")
    kinds = [type(graph.layer(node)).__name__ for node in graph.order]
    assert kinds == ["Input", "Affine", "Relu", "Affine", "FixedPoint", "Affine", "Output"]
