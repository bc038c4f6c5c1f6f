"""Implicit networks x = s(A x + B u + b), y = C x + c as numpy archives.

An archive holds, and nothing else:

- `A`, a matrix (n, n); `B`, a matrix (n, m); `C`, a matrix (q, n): what makes it an implicit network is that there are
  `A` and `C` without numbers;
- `b` (n,) and `c` (q,), each optional: zero if missing;
- `activation`, optional: a string that names s, such as `tanh` or `leaky_relu:0.1` (see `perceptron.activation_named`);
  `relu` if missing, as in the published networks of this kind;
- `input_mean` (m,), `input_scale` (m,), each optional: the network maps u to f((u - input_mean) / input_scale);
- `about`, a text for people, and what training left behind: `multipliers_trained` (n,) and `gamma_trained`, a number.
  Nothing is taken from them.

Several implicit layers, and convolutional ones, are `implicit{k}` among the layers of `npz`.
"""

import numpy as np

from ..activation import Elementwise, Relu
from ..errors import ModelError, ShapeError
from ..graph import Graph, sequential
from ..implicit import FixedPoint
from ..layer import Layer, parameter
from ..linear import Affine, Scale
from .perceptron import activation_named

_Arrays = dict[str, np.ndarray]

_MATRICES, _VECTORS = ("A", "B", "C"), ("b", "c", "input_mean", "input_scale")
_REMARKS = ("about", "multipliers_trained", "gamma_trained")


def is_implicit(arrays: _Arrays) -> bool:
    """Whether the keys are those of one implicit network."""
    return "A" in arrays and "C" in arrays


def implicit_of_arrays(arrays: _Arrays, name: str) -> Graph:
    """The network in an archive laid out as above.

    **Raises:** `ModelError` listing all keys not understood, missing, or of the wrong kind.
    """
    problems: list[str] = []
    known = (*_MATRICES, *_VECTORS, *_REMARKS, "activation")
    if unknown := sorted(set(arrays) - set(known)):
        problems.append(f"keys not understood: {', '.join(unknown)}; those of an implicit network are "
                        f"{', '.join(known)}")
    problems += [f"{key} is missing, which x = s(A x + B u + b), y = C x + c needs" for key in _MATRICES
                 if key not in arrays]
    activation = _activation(arrays, problems)
    values: _Arrays = {}
    for key in (*_MATRICES, *_VECTORS):
        if key in arrays:
            try:
                values[key] = parameter(arrays[key], key)
            except ModelError as error:
                problems.append(str(error))
    problems += [f"{key} must be a matrix, got the shape {values[key].shape}" for key in _MATRICES
                 if key in values and (values[key].ndim != 2 or not values[key].size)]
    if not problems:
        assert activation is not None
        try:
            return implicit_network(values, activation, name)
        except ModelError as error:
            problems.append(str(error))
    raise ModelError("; ".join(problem.rstrip(".") for problem in problems) + ".")


def implicit_network(values: _Arrays, activation: Elementwise, name: str) -> Graph:
    """The graph of x = s(A x + B u + b), y = C x + c from arrays by these names.

    **Raises:** `ShapeError` listing all shapes that do not fit.
    """
    n, m, q = len(values["A"]), values["B"].shape[1], len(values["C"])
    expected = {"A": (n, n), "B": (n, m), "C": (q, n), "b": (n,), "c": (q,), "input_mean": (m,), "input_scale": (m,)}
    if wrong := [f"{key} has the shape {values[key].shape}, expected {shape}" for key, shape in expected.items()
                 if key in values and values[key].shape != shape]:
        raise ShapeError("; ".join(wrong) + f", as A has {n} rows and B {m} columns")
    layers: list[Layer] = []
    if "input_mean" in values:
        layers.append(Scale(shift=-values["input_mean"]))
    if "input_scale" in values:
        layers.append(Scale(divisor=values["input_scale"]))
    layers += [Affine(values["B"], values.get("b")), FixedPoint(Affine(values["A"]), activation),
               Affine(values["C"], values.get("c"))]
    return sequential((m,), layers, name)


def _activation(arrays: _Arrays, problems: list[str]) -> Elementwise | None:
    for key in ("about", "activation"):
        if key in arrays and (arrays[key].dtype.kind != "U" or arrays[key].ndim):
            problems.append(f"`{key}` must be one string, got {arrays[key].dtype} of shape {arrays[key].shape}")
            return None
    try:
        return implicit_activation(str(arrays["activation"])) if "activation" in arrays else Relu()
    except ModelError as error:
        problems.append(str(error))
        return None


def implicit_activation(text: str) -> Elementwise:
    """The activation of an implicit layer by name.

    **Raises:** `ModelError` if it is not known, or acts on several entries at once.
    """
    activation = activation_named(text)
    if not isinstance(activation, Elementwise):
        raise ModelError(f"The activation {text!r} acts on several entries at once; an implicit layer needs one that "
                         "acts on each alone.")
    return activation
