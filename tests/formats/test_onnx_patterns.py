"""Activations written as several operators: every arrangement is recognised, and look-alikes are not."""

import math

import numpy as np
import pytest
import scipy.special
from netgain.layers import UnsupportedModelError
from onnx_models import imported, node, single

GRID = np.linspace(-12, 12, 1201)[:, None]
ROOT2 = np.float32(math.sqrt(2))
NUMBERS = {"root2": ROOT2, "one": np.float32(1), "half": np.float32(0.5), "three": np.float32(3), "six": np.float32(6),
           "zero": np.float32(0), "k": np.float32(math.sqrt(2 / math.pi)), "c": np.float32(0.044715),
           "inv": np.float32(math.sqrt(0.5)), "beta": np.float32(2.5), "two": np.float32(2)}


def chain(*steps: str):
    """Nodes from lines such as `h = Div x root2`."""
    nodes = []
    for step in steps:
        output, _, rest = step.partition(" = ")
        kind, inputs = rest.split(" ", 1)
        nodes.append(node(kind, inputs, output))
    return nodes


def graph_of(tmp_path, *steps, constants=None):
    return imported(tmp_path, chain(*steps), NUMBERS | (constants or {}), shape=("batch", 1))


def kinds(graph):
    names = [type(graph.layer(name)).__name__ for name in graph.order[1:-1]]
    return [name for name in names if name != "Scale"]


def erf_gelu(c):
    return 0.5 * GRID * (1 + scipy.special.erf(c * GRID))


GELU = [
    ("h = Div x root2", "e = Erf h", "p = Add e one", "q = Mul x p", "y = Mul q half"),
    ("h = Div x root2", "e = Erf h", "p = Add one e", "q = Mul p x", "y = Mul half q"),
    ("h = Div x root2", "e = Erf h", "p = Add e one", "q = Mul x half", "y = Mul q p"),
    ("h = Div x root2", "e = Erf h", "p = Add e one", "q = Mul p half", "y = Mul x q"),
    ("h = Div x root2", "e = Erf h", "p = Mul e half", "q = Add p half", "y = Mul x q"),
    ("h = Div x root2", "e = Erf h", "p = Add e one", "q = Mul x p", "y = Div q two"),
]


@pytest.mark.parametrize("steps", GELU)
def test_gelu_in_every_order_of_its_factors(tmp_path, steps):
    graph = graph_of(tmp_path, *steps)
    assert kinds(graph) == ["Gelu"]
    np.testing.assert_allclose(graph.forward(GRID), erf_gelu(1 / float(ROOT2)), rtol=1e-13, atol=1e-15)


def test_gelu_keeps_the_rounding_of_its_constant(tmp_path):
    graph = graph_of(tmp_path, "h = Mul x inv", "e = Erf h", "p = Add e one", "q = Mul x p", "y = Mul q half")
    layer = graph.layer(graph.order[1])
    assert layer.c == float(NUMBERS["inv"]) != math.sqrt(0.5)


@pytest.mark.parametrize("cube", [("u = Pow x three",), ("s = Mul x x", "u = Mul s x"), ("s = Mul x x", "u = Mul x s")])
def test_gelu_tanh(tmp_path, cube):
    graph = graph_of(tmp_path, *cube, "v = Mul u c", "w = Add x v", "i = Mul w k", "t = Tanh i", "p = Add t one",
                     "q = Mul x p", "y = Mul q half")
    assert kinds(graph) == ["GeluTanh"]
    inner = float(NUMBERS["k"]) * (GRID + float(NUMBERS["c"]) * GRID**3)
    np.testing.assert_allclose(graph.forward(GRID), 0.5 * GRID * (1 + np.tanh(inner)), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("steps", "kind", "formula"), [
    (("s = Sigmoid x", "y = Mul x s"), "Silu", lambda x: x * scipy.special.expit(x)),
    (("h = Mul x beta", "s = Sigmoid h", "y = Mul s x"), "Swish", lambda x: x * scipy.special.expit(2.5 * x)),
    (("h = Neg x", "e = Exp h", "d = Add e one", "y = Div x d"), "Silu", lambda x: x * scipy.special.expit(x)),
    (("h = Neg x", "e = Exp h", "d = Add e one", "y = Div one d"), "Sigmoid", scipy.special.expit),
    (("s = Softplus x", "t = Tanh s", "y = Mul x t"), "Mish", lambda x: x * np.tanh(np.logaddexp(0, x))),
    (("a = Abs x", "d = Add a one", "y = Div x d"), "Softsign", lambda x: x / (1 + np.abs(x))),
    (("a = Abs x", "m = Mul a two", "d = Add one m", "y = Div x d"), "Softsign", lambda x: x / (1 + 2 * np.abs(x))),
    (("a = Add x three", "b = Clip a zero six", "m = Mul x b", "y = Div m six"), "HardSwish",
     lambda x: x * np.clip(x + 3, 0, 6) / 6),
    (("a = Add x three", "b = Clip a zero six", "d = Div b six", "y = Mul d x"), "HardSwish",
     lambda x: x * np.clip(x + 3, 0, 6) / 6),
    (("h = Mul x beta", "s = Softplus h", "y = Div s beta"), "Softplus", lambda x: np.logaddexp(0, 2.5 * x) / 2.5),
])
def test_one_layer_for_each_formula(tmp_path, steps, kind, formula):
    graph = graph_of(tmp_path, *steps)
    assert kinds(graph) == [kind]
    np.testing.assert_allclose(graph.forward(GRID), formula(GRID), rtol=1e-11, atol=1e-14)


def test_hard_sigmoid_times_x_with_a_rounded_sixth_is_a_rescaled_hard_swish(tmp_path):
    nodes = [node("HardSigmoid", "x", "s", alpha=1 / 6), node("Mul", "x s")]
    graph = imported(tmp_path, nodes, shape=("batch", 1))
    sixth = float(np.float32(1 / 6))
    assert kinds(graph) == ["HardSwish"]
    np.testing.assert_allclose(graph.forward(GRID), GRID * np.clip(sixth * GRID + 0.5, 0, 1), rtol=1e-12)


def test_a_scalar_bias_before_the_activation_is_not_mistaken_for_a_part_of_it(tmp_path):
    graph = graph_of(tmp_path, "m = MatMul x w", "z = Add m b", "s = Sigmoid z", "y = Mul z s",
                     constants={"w": single([2.0]), "b": single(0.75)})
    assert kinds(graph) == ["Affine", "Silu"]
    z = 2 * GRID + 0.75
    np.testing.assert_allclose(graph.forward(GRID), z * scipy.special.expit(z), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("steps", [
    ("s = Sigmoid x", "t = Tanh x", "y = Mul s t"),
    ("y = Mul x x",),
    ("y = Div one x",),
    ("h = Div x root2", "e = Erf h", "p = Add e half", "q = Mul x p", "y = Mul q half"),
    ("a = Add x two", "b = Clip a zero six", "m = Mul x b", "y = Div m six"),
    ("h = Add x one", "s = Sigmoid h", "y = Mul x s"),
    ("a = Abs x", "y = Div x a"),
    ("h = Neg x", "s = Sigmoid h", "y = Mul x s"),
])
def test_look_alikes_are_refused(tmp_path, steps):
    with pytest.raises(UnsupportedModelError):
        graph_of(tmp_path, *steps)


def test_gelu_tanh_with_other_constants_is_refused(tmp_path):
    steps = ("u = Pow x three", "v = Mul u c", "w = Add x v", "i = Mul w k", "t = Tanh i", "p = Add t one",
             "y = Mul x p")
    with pytest.raises(UnsupportedModelError, match="part of a decomposed activation"):
        graph_of(tmp_path, *steps, constants={"c": np.float32(0.05)})


def test_the_product_of_two_different_activations_is_no_silu(tmp_path):
    nodes = chain("u = MatMul x v", "s = Sigmoid u", "y = Mul x s")
    with pytest.raises(UnsupportedModelError, match="product of two activations"):
        imported(tmp_path, nodes, {"v": np.eye(4, dtype=np.float32)})


def test_a_softplus_with_a_threshold_is_refused_since_it_jumps(tmp_path):
    nodes = chain("h = Mul x beta", "s = Softplus h", "d = Div s beta", "g = Greater h twenty", "y = Where g x d")
    with pytest.raises(UnsupportedModelError, match="threshold") as caught:
        imported(tmp_path, nodes, NUMBERS | {"twenty": np.float32(20)}, shape=("batch", 1))
    assert len(caught.value.offenders) == 2


def test_constants_that_add_axes_are_refused(tmp_path):
    nodes = chain("h = Mul x b", "s = Sigmoid h", "y = Mul x s")
    with pytest.raises(UnsupportedModelError, match="axes"):
        imported(tmp_path, nodes, {"b": single([[2.0]])[None]})
