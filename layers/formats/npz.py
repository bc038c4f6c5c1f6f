"""Networks of one layer after the other as numpy archives.

An archive holds, and nothing else:

- for each layer k = 1, 2, .., without gaps, one of
    - `W{k}`, a matrix (out, in): x becomes W x + b. An input of several axes is flattened first, row by row;
    - `W{k}`, a kernel (out, in / groups, *window) of three axes or more: a convolution, without flipping the kernel, of
      an input (in, *spatial axes), with the optional whole numbers `stride{k}`, `dilation{k}`, `groups{k}` and
      `padding{k}`. Each but the groups is one number or one for each spatial axis; the padding may also be two for
      each, all begins, then all ends. A window of one entry is a matrix applied at each place alone;
    - `A{k}`, `B{k}`, `C{k}`, and optionally `D{k}`: the state-space model x_{t+1} = A x_t + B u_t, y_t = C x_t + D u_t
      from x_0 = 0 on, of an input (channels, time). A is a matrix, or its diagonal, or its blocks; see `StateSpace`.
      Complex numbers, with A a diagonal, mean y_t = Re(C x_t) + D u_t, or with `conjugate_pairs{k}` = True 2 Re(C x_t);
    - `implicit{k}`, a matrix (n, n) or a kernel (channels, channels, *window) of odd size, and `activation{k}`, a
      string: an implicit layer x = s(A x + v) of what it is fed, v. Between it and a layer of weights before it,
      B u + b, there is no activation. With `border{k}`, `zeros` (the default) or `circular`, it is said what its kernel
      reads outside the image, and for kernels `W{k}` too, where `circular` takes the place of a padding;
    - `layer{k}`, a string: `flatten`, `mean`, `max_pool:3,2`, `average_pool:2`, or an activation such as `relu` or
      `leaky_relu:0.1`; see `layer_names.layer_named`;
    - `step{k}` with `A{k}`, `B{k}`, `depth{k}` and more: a block of NAIS-Net, which is unrolled; see `npz_stable`;
- `b{k}`, optionally, for a layer with weights: float vector (out,), one number for each channel of the output;
- `activation`: what follows each layer with weights but the last, and but those before an implicit layer: a string, or
  an array with one string for each. It takes the place of activations among the `layer{k}`, and `none` says that there
  is none. Only an archive with a single layer of weights may do without either;
- `input_shape`: the shape of one input, channels first. It can be left out if layer 1 is a matrix and takes a vector;
- `input_mean`, `input_scale`, each optional: the network maps x to f((x - input_mean) / input_scale). They have the
  shape of the input or one that broadcasts to it.

So a perceptron is `W1`, `b1`, `W2`, `b2`, .. and `activation`. The right-hand side of a neural ODE has keys of its own,
see `npz_field`; where it does not change with time it is a network too. So has a single implicit network, see
`npz_implicit`. Archives are read with `allow_pickle=False`,
always.
"""

import math
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..activation import Activation
from ..convolution import Convolution
from ..errors import ModelError, ShapeError
from ..graph import Graph, sequential
from ..implicit import FixedPoint
from ..layer import Layer, Shape, broadcasts, parameter
from ..linear import Affine, Flatten, Scale, Select
from ..sampled_weights import SampledWeights
from ..stable_block import StableBlock, StableNetwork
from ..state_space import StateSpace
from ..windows import wrapped_indices
from .layer_names import layer_named
from .npz_field import field_of_arrays, is_field
from .npz_implicit import implicit_activation, implicit_of_arrays, is_implicit
from .npz_stable import COMPANIONS as _WITH_STEP
from .npz_stable import block_of_parts
from .perceptron import activation_named

_Parts = dict[str, np.ndarray]

# By what makes a layer: what may go with it.
_WINDOW = {"stride", "padding", "dilation", "groups"}
_COMPANIONS = {"W": {"b", "border"} | _WINDOW, "A": {"B", "C", "D", "b", "conjugate_pairs"},
               "implicit": {"activation", "border"},
               "layer": set[str](), "step": _WITH_STEP}
_NUMBERED = re.compile(rf"({'|'.join(sorted({*_COMPANIONS, *set.union(*_COMPANIONS.values())}))})([1-9]\d{{0,8}})")
_GENERAL = ("activation", "input_shape", "input_mean", "input_scale")


def archive_keys(path: Path) -> frozenset[str]:
    """The names of an archive's arrays, of which none is read; none for a file that is no numpy archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return frozenset(name.removesuffix(".npy") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return frozenset()


def copy_npz(source: Path, target: Path, replaced: dict[str, np.ndarray]) -> None:
    """Writes a copy of an archive in which some arrays are others; a file that is there is replaced at the end.

    **Raises:** `ModelError` for a damaged archive, or one without an array of such a name; `OSError` if the copy cannot
    be written.
    """
    arrays = _arrays(source)
    if missing := sorted(replaced.keys() - arrays.keys()):
        raise ModelError(f"{source} has no {', '.join(missing)} to be replaced; it holds {', '.join(sorted(arrays))}.")
    part = target.with_name(target.name + ".part")
    try:
        with part.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **{**arrays, **replaced})  # type: ignore[arg-type]
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def load_npz(path: Path) -> Graph:
    """The network in an archive laid out as above.

    **Raises:** `ModelError` for a damaged archive, one of weights that change with time, or listing all keys not
    understood and layers that do not fit.
    """
    content = load_npz_field(path)
    if isinstance(content, SampledWeights):
        raise ModelError(f"{path} holds weights that change with time, which are no network; `netgain contractivity` "
                         "reads them.")
    return content


def load_npz_field(path: Path) -> Graph | SampledWeights:
    """The network or field in an archive.

    **Raises:** `ModelError` as `load_npz`.
    """
    arrays = _arrays(path)
    try:
        if is_implicit(arrays):
            return implicit_of_arrays(arrays, path.stem)
        if is_field(arrays):
            return field_of_arrays(arrays, path.stem)
        content = _network(arrays, path.stem)
        return content if isinstance(content, Graph) else content.graph()
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from None


def load_stable(path: str | Path) -> StableNetwork:
    """The blocks of NAIS-Net in an archive, and the layers between them.

    **Raises:** `ModelError` as `load_npz`, and for an archive without such blocks.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise ModelError(f"{path}: blocks of NAIS-Net are read from .npz archives; see `layers/formats/npz_stable.py`.")
    arrays = _arrays(path)
    try:
        content = None if is_field(arrays) else _network(arrays, path.stem)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from None
    if not isinstance(content, StableNetwork):
        raise ModelError(f"{path} holds no block x+ = x + h s(A x + B u + C): there is no `step1`, `step2`, ..; see "
                         "`layers/formats/npz_stable.py`.")
    return content


def _network(arrays: dict[str, np.ndarray], name: str) -> Graph | StableNetwork:
    numbered, unclear, problems = _numbered(arrays)
    start, before = _input(arrays, numbered.get(1), problems)
    layers: list[Layer | StableBlock] = [*before]
    after = _activations(arrays, numbered, problems)
    shape, last = start, 0
    for k, parts in sorted(numbered.items()):
        # Behind a layer that is missing or wrong, only what is wrong with the others alone can be said.
        shape = shape if k == last + 1 else None
        if k in unclear:
            continue
        try:
            found = _layers(k, parts, shape)
            if k in after:
                found.append(activation_named(after[k]))
            for layer in found:
                block = isinstance(layer, StableBlock)
                follow = layer.state_shape if block else layer.output_shape  # type: ignore[union-attr]
                shape = None if shape is None else follow(shape)
            layers += found
            last = k
        except ModelError as error:
            problems.append(f"layer {k}: {error}")
    if problems:
        raise ModelError("; ".join(problem.rstrip(".") for problem in problems) + ".")
    assert start is not None
    if any("step" in parts for parts in numbered.values()):
        return StableNetwork(tuple(layers), start, name)
    return sequential(start, [layer for layer in layers if isinstance(layer, Layer)], name)


def _numbered(arrays: dict[str, np.ndarray]) -> tuple[dict[int, _Parts], set[int], list[str]]:
    """The parts of each layer, the layers that they do not make, and what is wrong with the keys."""
    numbered: dict[int, _Parts] = {}
    unknown = []
    for key, value in arrays.items():
        match = _NUMBERED.fullmatch(key)
        if match:
            numbered.setdefault(int(match[2]), {})[match[1]] = value
        elif key not in _GENERAL:
            unknown.append(key)
    problems, unclear = [], set()
    for k, parts in sorted(numbered.items()):
        kinds = ["step"] if "step" in parts else [kind for kind in _COMPANIONS if kind in parts]
        if len(kinds) != 1:
            keys = ", ".join(sorted(f"{part}{k}" for part in kinds or parts))
            problems.append(f"layer {k} has {keys}, expected one of W{k}, A{k}, implicit{k} and layer{k}")
            unclear.add(k)
            continue
        if lone := sorted(f"{part}{k}" for part in parts.keys() - _COMPANIONS[kinds[0]] - {kinds[0]}):
            problems.append(f"{', '.join(lone)} cannot go with {kinds[0]}{k}")
        if kinds == ["A"] and not {"B", "C"} <= parts.keys():
            problems.append(f"missing {' and '.join(f'{part}{k}' for part in 'BC' if part not in parts)} for A{k}")
            unclear.add(k)
    gaps = [k for k in range(1, max(len(numbered), 1) + 1) if k not in numbered]
    problems += [f"missing W{k}, A{k}, implicit{k} or layer{k}" for k in gaps]
    if unknown:
        keys = ", ".join(f"{part}{{k}}" for part in ("W", *"ABCD", "implicit", "activation", "layer", "b",
                                                            *sorted(_WINDOW), "conjugate_pairs"))
        problems.append(f"keys not understood: {', '.join(sorted(unknown))}; expected are {keys} for layers k = 1, 2, "
                        f".., and {', '.join(_GENERAL)}")
    return numbered, unclear, problems


def _input(
    arrays: dict[str, np.ndarray], first: _Parts | None, problems: list[str]
) -> tuple[Shape | None, list[Layer]]:
    """The shape of the input, None if it is wrong or layer 1 is missing, and the layers that normalise it."""
    shape: Shape | None = None
    if "input_shape" in arrays:
        given = arrays["input_shape"]
        if given.dtype.kind in "iu" and given.ndim < 2 and given.size and np.all(given > 0):
            shape = tuple(map(int, given.ravel()))
        else:
            problems.append(f"`input_shape` holds positive whole numbers, got {given.tolist()}")
    elif first and "W" in first and first["W"].ndim == 2:
        shape = (first["W"].shape[1],)
    elif first and "step" in first and "B" in first and "activation" in first and _is_matrix(first):
        shape = (first["B"].shape[-1],)
    elif first:
        problems.append("`input_shape` is missing, which only a network that begins with a matrix can do without")
    layers: list[Layer] = []
    for key, field in (("input_mean", "shift"), ("input_scale", "divisor")):
        if key in arrays:
            try:
                values = parameter(arrays[key], key)
                if shape is not None and not broadcasts(values.shape, shape):
                    raise ShapeError(f"{key} has shape {values.shape}, which does not fit an input of shape {shape}")
                layers.append(Scale(**{field: -values if field == "shift" else values}))
            except ModelError as error:
                problems.append(str(error))
    return shape, layers


def _is_matrix(block: _Parts) -> bool:
    """Whether B of a block is a matrix, or one for each stage."""
    return block["B"].ndim == 2 or (block["B"].ndim == 3 and "shared" in block and not np.any(block["shared"]))


def _activations(arrays: dict[str, np.ndarray], numbered: dict[int, _Parts], problems: list[str]) -> dict[int, str]:
    """The activation that `activation` puts after a layer, by the layer's number."""
    blocks = any("step" in parts for parts in numbered.values())
    weighted = [k for k, parts in sorted(numbered.items()) if parts.keys() & {"W", "A"} and "step" not in parts]
    hidden = [k for k in weighted[:-1] if "implicit" not in numbered.get(k + 1, {})]
    given = arrays.get("activation")
    texts = [str(parts["layer"]) for parts in numbered.values() if "layer" in parts]
    own = [text for text in texts if _is_activation(text)]
    if given is None:
        if hidden and not own and not blocks:
            problems.append("the key `activation` is missing; add it, for example as 'relu', or as 'none'")
        return {}
    if own:
        problems.append(f"`activation` is given, and {', '.join(own)} among the layers; one of both must go")
        return {}
    if given.dtype.kind != "U":
        problems.append(f"`activation` must hold strings, got {given.dtype}")
        return {}
    names = [str(given)] * len(hidden) if given.ndim == 0 else [str(text) for text in given.ravel()]
    if len(names) != len(hidden):
        problems.append(f"`activation` names {len(names)} activations for {len(hidden)} hidden layers; the last layer "
                        "has none")
    return {k: text for k, text in zip(hidden, names, strict=False) if text.strip() != "none"}


def _is_activation(text: str) -> bool:
    try:
        return isinstance(layer_named(text, None), Activation)
    except ModelError:
        return False


def _layers(k: int, parts: _Parts, shape: Shape | None) -> list[Layer | StableBlock]:
    """Layer k, for an input of this shape if that is known, with what has to come before it."""
    if "step" in parts:
        return [block_of_parts(k, parts)]
    bias = parameter(parts["b"], f"b{k}") if "b" in parts else None
    if "layer" in parts:
        if parts["layer"].dtype.kind != "U" or parts["layer"].ndim:
            raise ModelError(f"layer{k} must be a string, got {parts['layer'].dtype} of shape {parts['layer'].shape}.")
        return [layer_named(str(parts["layer"]), None if shape is None else len(shape) - 1)]
    if "A" in parts:
        return [_state_space(k, parts, bias)]
    if "implicit" in parts:
        return [_implicit(k, parts)]
    weight = parameter(parts["W"], f"W{k}")
    if weight.ndim < 2:
        raise ShapeError(f"W{k} has shape {weight.shape}, expected a matrix (out, in) or a kernel of more axes.")
    if weight.ndim > 2 and _border(k, parts) == "circular":
        if shape is None or len(shape) != weight.ndim - 1 or "padding" in parts or not all(
                n % 2 for n in weight.shape[2:]):
            raise ModelError(f"W{k} is circular: that takes a kernel of odd size without padding{k}, and an image.")
        around = Select(wrapped_indices(shape, tuple(n // 2 for n in weight.shape[2:])), shape)
        return [around, _convolution(k, parts, weight, bias)]
    if weight.ndim > 2:
        return [_convolution(k, parts, weight, bias)]
    if options := sorted((_WINDOW | {"border"}) & parts.keys()):
        raise ModelError(f"{', '.join(f'{name}{k}' for name in options)} belong to convolutions, but W{k} is a matrix.")
    size, (out, width) = None if shape is None else math.prod(shape), weight.shape
    if size not in (None, width):
        raise ShapeError(f"W{k} is {out}x{width} but expects k x {size}{'; transposed?' if out == size else ''}")
    if bias is not None and bias.shape != (out,):
        raise ShapeError(f"b{k} has shape {bias.shape}, expected ({out},) as W{k} is {out}x{width}.")
    return [*([Flatten()] if shape is not None and len(shape) > 1 else []), Affine(weight, bias)]


def _implicit(k: int, parts: _Parts) -> Layer:
    text, weight = parts.get("activation"), parameter(parts["implicit"], f"implicit{k}")
    if text is None or text.dtype.kind != "U" or text.ndim:
        raise ModelError(f"implicit{k} needs activation{k}, one string such as 'relu'.")
    if weight.ndim < 2 or weight.shape[0] != weight.shape[1] or not all(n % 2 for n in weight.shape[2:]):
        raise ShapeError(f"implicit{k} must be a square matrix, or a kernel of odd size from as many channels to as "
                         f"many channels, got the shape {weight.shape}.")
    activation, border = implicit_activation(str(text)), _border(k, parts)
    if weight.ndim == 2:
        if "border" in parts:
            raise ModelError(f"border{k} belongs to kernels, but implicit{k} is a matrix.")
        return FixedPoint(Affine(weight), activation)
    if border == "circular":
        return FixedPoint(Convolution(weight), activation, circular=True)
    reach = tuple(n // 2 for n in weight.shape[2:])
    return FixedPoint(Convolution(weight, padding=(reach, reach)), activation)


def _border(k: int, parts: _Parts) -> str:
    given = parts.get("border", np.array("zeros"))
    if given.dtype.kind != "U" or given.ndim or str(given) not in ("zeros", "circular"):
        raise ModelError(f"border{k} = {given.tolist()!r}, expected 'zeros' or 'circular'.")
    return str(given)


def _convolution(k: int, parts: _Parts, weight: np.ndarray, bias: np.ndarray | None) -> Layer:
    axes = weight.ndim - 2

    def numbers(name: str, default: int, lengths: tuple[int, ...]) -> tuple[int, ...]:
        values = parts.get(name, np.array(default))
        if values.dtype.kind not in "iu" or values.size not in (1, *lengths):
            expected = ", ".join(map(str, sorted({1, *lengths})))
            raise ModelError(f"{name}{k} = {values.tolist()}, expected whole numbers, as many as one of {expected}.")
        given = tuple(map(int, values.ravel()))
        return given * lengths[0] if len(given) == 1 else given

    padding = numbers("padding", 0, (axes, 2 * axes))
    return Convolution(weight, bias, numbers("stride", 1, (axes,)), numbers("dilation", 1, (axes,)),
                       (padding[:axes], padding[-axes:]), numbers("groups", 1, (1,))[0])


def _state_space(k: int, parts: _Parts, bias: np.ndarray | None) -> Layer:
    A, B, C, D = (parts.get(name) for name in "ABCD")
    pairs = parts.get("conjugate_pairs", np.array(False))
    if pairs.dtype.kind not in "biu" or pairs.size != 1 or pairs.item() not in (0, 1):
        raise ModelError(f"conjugate_pairs{k} = {pairs.tolist()}, expected True or False.")
    if any(values is not None and values.dtype.kind == "c" for values in (A, B, C)):
        return StateSpace.from_modes(A, B, C, D, bias, conjugate_pairs=bool(pairs.item()))
    if pairs.item():
        raise ModelError(f"conjugate_pairs{k} belongs to complex modes, but A{k}, B{k} and C{k} are real.")
    assert A is not None
    assert B is not None
    assert C is not None
    return StateSpace(A, B, C, D, bias)


def _reason(error: Exception) -> str:
    # numpy takes whatever it does not know for a pickle, and advises to open it unsafely.
    return "it holds none" if "pickled" in str(error) else str(error).rstrip(".")


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ModelError(f"{path} is a single array, not an archive of weights.")
            with archive:
                content = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} is no numpy archive of plain arrays, or it is cut short: {_reason(error)}.") from None
    if bad := [key for key, value in content.items() if not isinstance(value, np.ndarray)]:
        raise ModelError(f"{path}: these members are no arrays: {', '.join(bad)}.")
    return content
