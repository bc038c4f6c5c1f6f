"""Fields of neural ODEs as numpy archives: the right-hand side f of u' = f(u), or of u' = f(t, u).

An archive holds one of these three, with `activation` naming s, such as `tanh` or `leaky_relu:0.1` (see
`perceptron.activation_named`), and nothing else:

- `A`, a matrix (n, n), and optionally `b` (n,): u' = s(A u + b). With a matrix `E` (n, k), where A is (k, n) and b is
  (k,): u' = E s(A u + b). With a matrix `B` (n, n), a linear part: u' = B u + E s(A u + b);
- `A1`, .., `Ak`, matrices (n_1, n), (n_2, n_1), .., (n, n_{k-1}), and optionally `b1`, .., `bk`: several layers,
  u' = s(A_k .. s(A_1 u + b_1) .. + b_k);
- `A` (g, n, n), `times` (g,) and `lipschitz`, a number, and optionally `b` (n,) or (g, n): u' = s(A(t) u + b(t)), with
  A(t) at increasing times t and |A(s) - A(t)| <= lipschitz |s - t| in the spectral norm everywhere in between, which
  has to be derived from how A(t) is made.

`about`, optionally, is a text for people. The first two are ordinary graphs with as many outputs as inputs; so is any
network of such a form, in any format, which then is the same field.
"""

import re
from collections.abc import Collection

import numpy as np

from ..activation import Activation
from ..errors import ModelError, ShapeError
from ..graph import Graph, GraphBuilder
from ..layer import parameter
from ..linear import Add, Affine
from ..sampled_weights import SampledWeights
from .perceptron import activation_named

_Arrays = dict[str, np.ndarray]

_LAYER = re.compile(r"([Ab])([1-9]\d{0,8})")
_NETWORK = re.compile(r"(W|B|C|layer)[1-9]\d{0,8}")
_GENERAL = ("activation", "about")
_ONE_LAYER = ("A", "b", "E", "B", "times", "lipschitz")


def is_field(keys: Collection[str]) -> bool:
    """Whether the keys are those of a field, and not of a network of one layer after the other."""
    return not any(_NETWORK.fullmatch(key) for key in keys) and ("A" in keys or "A1" in keys)


def field_of_arrays(arrays: _Arrays, name: str) -> Graph | SampledWeights:
    """The field in an archive laid out as above.

    **Raises:** `ModelError` listing all keys not understood, missing, or of the wrong kind.
    """
    problems: list[str] = []
    activation = _activation(arrays, problems)
    numbered = {key: values for key, values in arrays.items() if _LAYER.fullmatch(key)}
    general = set(arrays) - set(numbered) - set(_GENERAL)
    if unknown := sorted(general - set(_ONE_LAYER)):
        problems.append(f"keys not understood: {', '.join(unknown)}; expected are A, b, E, B, or A, b, times, "
                        "lipschitz, or A1, b1, A2, .., and activation, about")
    if "A" in arrays and numbered:
        problems.append(f"A is a field of one layer, which {', '.join(sorted(numbered))} cannot go with")
    elif "A" not in arrays and (lone := sorted(general & set(_ONE_LAYER))):
        problems.append(f"{', '.join(lone)} belong to a field of one layer, A, but there are several: "
                        f"{', '.join(sorted(numbered))}")
    values: _Arrays = {}
    for key in sorted((general & set(_ONE_LAYER)) | set(numbered)):
        try:
            values[key] = parameter(arrays[key], key)
        except ModelError as error:
            problems.append(str(error))
    if not problems:
        assert activation is not None
        try:
            if "times" in values or "lipschitz" in values:
                return _sampled(values, activation, name)
            return _one_layer(values, activation, name) if "A" in values else _several(values, activation, name)
        except ModelError as error:
            problems.append(str(error))
    raise ModelError("; ".join(problem.rstrip(".") for problem in problems) + ".")


def _activation(arrays: _Arrays, problems: list[str]) -> Activation | None:
    if "about" in arrays and arrays["about"].dtype.kind != "U":
        problems.append(f"`about` must be a text, got {arrays['about'].dtype}")
    if "activation" not in arrays:
        problems.append("the key `activation` is missing; add it, for example as 'tanh'")
        return None
    text = arrays["activation"]
    if text.dtype.kind != "U" or text.ndim:
        problems.append(f"`activation` must be one string, got {text.dtype} of shape {text.shape}")
        return None
    try:
        return activation_named(str(text))
    except ModelError as error:
        problems.append(str(error))
        return None


def _sampled(values: _Arrays, activation: Activation, name: str) -> SampledWeights:
    problems = [f"{key} is missing, which weights that change with time need" for key in ("times", "lipschitz")
                if key not in values]
    if lone := sorted(values.keys() & {"E", "B"}):
        problems.append(f"{', '.join(lone)} cannot go with weights that change with time")
    if "lipschitz" in values and values["lipschitz"].ndim:
        problems.append(f"`lipschitz` must be one number, got the shape {values['lipschitz'].shape}")
    if problems:
        raise ModelError("; ".join(problems))
    lipschitz = float(values["lipschitz"])
    return SampledWeights(values["times"], values["A"], activation, lipschitz, values.get("b"), name)


def _one_layer(values: _Arrays, activation: Activation, name: str) -> Graph:
    a, problems = values["A"], []
    if a.ndim != 2 or not a.size:
        more = "; weights that change with time need `times` and `lipschitz`" if a.ndim == 3 else ""
        raise ShapeError(f"A must be a matrix (k, n), got the shape {a.shape}{more}")
    k, n = a.shape
    if "E" not in values and k != n:
        problems.append(f"A has the shape {a.shape}, which is not square, and there is no E of shape ({n}, {k})")
    for key, shape in (("b", (k,)), ("E", (n, k)), ("B", (n, n))):
        if key in values and values[key].shape != shape:
            problems.append(f"{key} has the shape {values[key].shape}, expected {shape} as A is {k} x {n}")
    if problems:
        raise ShapeError("; ".join(problems))
    builder = GraphBuilder()
    u = builder.input((n,), name="u")
    node = builder.add(activation, builder.add(Affine(a, values.get("b")), u, name="A"), name="s")
    if "E" in values:
        node = builder.add(Affine(values["E"]), node, name="E")
    if "B" in values:
        node = builder.add(Add((1, 1)), builder.add(Affine(values["B"]), u, name="B"), node, name="sum")
    return builder.build(node, name)


def _several(values: _Arrays, activation: Activation, name: str) -> Graph:
    count = max(int(key[1:]) for key in values)
    problems = [f"A{k} is missing" for k in range(1, count + 1) if f"A{k}" not in values]
    weights = {k: values[f"A{k}"] for k in range(1, count + 1) if f"A{k}" in values}
    problems += [f"A{k} must be a matrix, got the shape {a.shape}" for k, a in weights.items() if a.ndim != 2]
    if not problems:
        for k, a in weights.items():
            before = weights[k - 1 if k > 1 else count].shape[0]
            if a.shape[1] != before:
                source = f"A{k - 1} gives" if k > 1 else f"A{count} gives, and the field has to return to its input,"
                problems.append(f"A{k} takes {a.shape[1]} numbers, but {source} {before}")
            bias = values.get(f"b{k}")
            if bias is not None and bias.shape != a.shape[:1]:
                problems.append(f"b{k} has the shape {bias.shape}, expected {a.shape[:1]}")
    if problems:
        raise ShapeError("; ".join(problems))
    builder = GraphBuilder()
    node = builder.input((weights[1].shape[1],), name="u")
    for k, a in weights.items():
        node = builder.add(activation, builder.add(Affine(a, values.get(f"b{k}")), node, name=f"A{k}"), name=f"s{k}")
    return builder.build(node, name)
