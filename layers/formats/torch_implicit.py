r"""Trained parameters of implicit networks as PyTorch state dicts: x = s(A x + B u + b), y = C x + c.

State dicts hold parameters, not the network, so it is told by its keys which parametrisation they belong to. Behind
any common prefix, as `mon.linear_module.`, these are known, all with B = `U.weight` and b = `U.bias` but for the last:

- `A.weight` (T) and `d`, NEMON (arXiv 2106.03194): A = m I + diag(e^-d) T diag(e^d) - diag(|T| 1);
- `A.weight` (F) and `B.weight` (S), MON (arXiv 2006.08591): A = (1 - m) I - F^T F + S - S^T;
- `V.weight`, `S.weight` and `psi`, LBEN (arXiv 2010.01732): A = I - diag(e^psi) (V^T V + m I + S^T - S);
- `Wp`: A itself;
- `A.weight`, `B.weight`, `g` and `h`, or `A.weight` and `g`, of four axes: convolutional MON and NEMON, see
  `torch_convolutional`;
- those of LBEN with `B.weight`, `B.bias`, `G.weight` and `G.bias` for B, b, C and c, LBEN with a bound: with
  P = diag(e^psi), A = I - P ((C^T C + P^-1 B B^T P^-1) / (2 gamma) + V^T V + m I + S^T - S).

C and c are `Wout.weight` and `Wout.bias` but for the last. m and gamma are no parameters, so a file is either

    torch.save({"state_dict": model.state_dict(), "m": 0.1, "gamma": 1.0, "activation": "relu"}, path)

with `gamma` where it is needed, `activation` (see `perceptron.activation_named`) `relu` if missing, and for
convolutions `image`, (rows, columns), or, where no m is needed, the state dict alone. Files are opened with
`weights_only=True`, which runs no code from them. A is computed in float64, with its rounding errors; what is proved is
proved of this A.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..activation import Relu
from ..errors import ModelError, ShapeError
from ..graph import Graph
from ..layer import parameter
from .npz_implicit import implicit_activation, implicit_network
from .torch_convolutional import FORMS as CONVOLUTIONAL
from .torch_convolutional import OPTIONS as CONVOLUTIONAL_OPTIONS
from .torch_convolutional import convolutional_network

_Arrays = dict[str, np.ndarray]

_OPTIONS = {"state_dict", "m", "gamma", "activation"} | CONVOLUTIONAL_OPTIONS
_READOUT = {"Wout.weight", "Wout.bias"}
# By keys without the injection and the readout: names as in the table above.
_FORMS = {
    frozenset({"A.weight", "d"}): "NEMON",
    frozenset({"A.weight", "B.weight"}): "MON",
    frozenset({"V.weight", "S.weight", "psi"}): "LBEN",
    frozenset({"Wp"}): "free",
    frozenset({"V.weight", "S.weight", "psi", "B.weight", "B.bias", "G.weight", "G.bias"}): "LBEN with a bound",
} | CONVOLUTIONAL


def load_torch(path: Path) -> Graph:
    """The network whose parameters a file holds as above.

    **Raises:** `ModelError` if torch is not installed, the file holds anything but tensors and numbers, or naming keys
    that make none of the parametrisations.
    """
    content = _content(path)
    try:
        given, options = (content["state_dict"], content) if "state_dict" in content else (content, {})
        if unknown := sorted(set(map(str, options)) - _OPTIONS):
            raise ModelError(f"keys not understood beside `state_dict`: {', '.join(unknown)}; known are m, gamma, "
                             "activation, image, pool and shift.")
        arrays = _arrays(given)
        form, arrays = _form(arrays)
        text = options.get("activation", "relu")
        if not isinstance(text, str):
            raise ModelError(f"`activation` must be a string, got {text!r}.")
        activation = implicit_activation(text) if "activation" in options else Relu()
        if form in CONVOLUTIONAL.values():
            return convolutional_network(form, arrays, _number(options, "m", form), options, activation, path.stem)
        if beside := sorted(set(options) & CONVOLUTIONAL_OPTIONS):
            raise ModelError(f"{', '.join(beside)}: an option of convolutions, and these are parameters of {form}.")
        return implicit_network(_network(form, arrays, options), activation, path.stem)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from None


def _content(path: Path) -> dict[Any, Any]:
    try:
        import torch
    except ImportError:
        raise ModelError(f"{path}: reading PyTorch parameters needs torch, which is not installed: "
                         "pip install '.[torch]'.") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError):
        raise ModelError(f"{path} is no file of tensors alone, or it is damaged. Whole models are pickles, which can "
                         "run any code when opened, and are not read. Save model.state_dict() of an implicit network; "
                         "export other models to ONNX (in torch: torch.onnx.export).") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, expected a state dict.")
    return content


def _arrays(given: Any) -> _Arrays:
    if not isinstance(given, dict) or not all(hasattr(value, "detach") for value in given.values()):
        raise ModelError("a state dict holds tensors by name.")
    return {str(key): parameter(value.detach().to("cpu").numpy(), str(key)) for key, value in given.items()}


def _form(arrays: _Arrays) -> tuple[str, _Arrays]:
    """The parametrisation, and the arrays without the prefix of its module."""
    readout = {key for key in arrays if key in _READOUT}
    module = {key: value for key, value in arrays.items() if key not in readout}
    for keys, form in _FORMS.items():
        expected = keys if form == "LBEN with a bound" else keys | {"U.weight", "U.bias"}
        for prefix in {key[: -len(name)] for key in module for name in expected if key.endswith(name)}:
            if {prefix + name for name in expected} == set(module):
                if (form == "LBEN with a bound") == bool(readout):
                    raise ModelError(f"the parameters are those of {form}, which has "
                                     f"{'its readout in G, not' if readout else 'no readout without'} `Wout.weight`.")
                return form, {name: module[prefix + name] for name in expected} | {key: arrays[key] for key in readout}
    known = "; ".join(f"{form}: {', '.join(sorted(keys))}" for keys, form in _FORMS.items())
    raise ModelError(f"the keys {', '.join(sorted(arrays))} are those of no parametrisation that is known. With "
                     f"U.weight, U.bias, Wout.weight and Wout.bias, and behind any common prefix, these are: {known}.")


def _number(options: dict[Any, Any], name: str, form: str) -> float:
    value = options.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ModelError(f"{form} has the number `{name}`, which is no parameter and got lost (found: {value!r}). Save "
                         f'torch.save({{"state_dict": model.state_dict(), "{name}": ..}}, path).')
    return float(value)


def _network(form: str, arrays: _Arrays, options: dict[Any, Any]) -> _Arrays:
    """A, B, b, C and c."""
    name = "A.weight" if "A.weight" in arrays else "V.weight" if "V.weight" in arrays else "Wp"
    n = len(arrays[name])
    for key in {"A.weight", "V.weight", "S.weight", "Wp", *(["B.weight"] if form == "MON" else [])} & arrays.keys():
        if arrays[key].shape != (n, n):
            raise ShapeError(f"{key} has the shape {arrays[key].shape}, expected ({n}, {n}).")
    for key in {"d", "psi"} & arrays.keys():
        if arrays[key].shape != (n,):
            raise ShapeError(f"{key} has the shape {arrays[key].shape}, expected ({n},).")
    bounded = form == "LBEN with a bound"
    outer = ("B", "G") if bounded else ("U", "Wout")
    B, b = arrays[f"{outer[0]}.weight"], arrays[f"{outer[0]}.bias"]
    C = arrays[f"{outer[1]}.weight"]
    if B.ndim != 2 or C.ndim != 2 or len(B) != n or C.shape[1] != n:
        raise ShapeError(f"{outer[0]}.weight and {outer[1]}.weight have the shapes {B.shape} and {C.shape}, expected "
                         f"({n}, m) and (q, {n}).")
    values = {"B": B, "b": b, "C": C}
    if f"{outer[1]}.bias" in arrays:
        values["c"] = arrays[f"{outer[1]}.bias"]
    if form == "free":
        return values | {"A": arrays["Wp"]}
    m, identity = _number(options, "m", form), np.eye(n)
    if form == "NEMON":
        T, weights = arrays["A.weight"], np.exp(arrays["d"])
        A = m * identity + T * weights / weights[:, None] - np.diag(np.abs(T).sum(axis=1))
    elif form == "MON":
        F, S = arrays["A.weight"], arrays["B.weight"]
        A = (1 - m) * identity - F.T @ F + S - S.T
    else:
        V, S, psi = arrays["V.weight"], arrays["S.weight"], np.exp(arrays["psi"])
        inner = V.T @ V + m * identity + S.T - S
        if bounded:
            scaled = B / psi[:, None]
            inner = inner + (C.T @ C + scaled @ scaled.T) / (2 * _number(options, "gamma", form))
        A = identity - psi[:, None] * inner
    return values | {"A": parameter(A, "A")}
