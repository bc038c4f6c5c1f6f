"""Blocks of NAIS-Net in numpy archives of one layer after the other (see `npz`), where a block is one of the layers.

For a block as layer k an archive holds

- `step{k}`: h, one number; it says that layer k is a block;
- `depth{k}`: K, a whole number;
- `A{k}`, `B{k}`, and optionally `C{k}`: matrices (n, n), (n, m) and a vector (n,), or kernels (channels, channels,
  *taps), (channels, channels of u, *taps) and one number per channel; with `shared{k}` = False they have a leading axis
  of length K, one entry for each stage;
- `activation{k}`: s by name, as `tanh`, `relu` or `leaky_relu:0.1`;
- `border{k}`, optionally: `zeros` (the default) or `circular`, what kernels read outside the image.

The block maps its input u to x_K, from x_0 = 0. A stack alternates blocks with projections `W{k}`, poolings and other
layers; `input_shape` is needed unless layer 1 is a matrix, or a fully connected block.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import ModelError
from ..layer import parameter
from ..linear import Scale
from ..stable_block import Border, StableBlock, StableNetwork
from .npz_save import normalisation_parts, parts_of_layer
from .perceptron import activation_named, name_of

COMPANIONS = {"A", "B", "C", "depth", "activation", "shared", "border"}
"""What may go with `step`."""


def has_blocks(keys: Iterable[str]) -> bool:
    """Whether these keys of an archive are those of a network with blocks."""
    return any(re.fullmatch(r"step[1-9]\d{0,8}", key) for key in keys)


def block_of_parts(k: int, parts: dict[str, np.ndarray]) -> StableBlock:
    """Layer k of an archive that has a `step`.

    **Raises:** `ModelError` saying what is missing or does not fit.
    """
    if lacking := [f"{name}{k}" for name in ("A", "B", "depth", "activation") if name not in parts]:
        raise ModelError(f"missing {' and '.join(lacking)} for the block of step{k}")
    step, depth = parameter(parts["step"], f"step{k}"), parts["depth"]
    if step.size != 1 or depth.size != 1 or depth.dtype.kind not in "iu":
        raise ModelError(f"step{k} is one number and depth{k} one whole number; got {step.tolist()} and "
                         f"{depth.tolist()}")
    shared = parts.get("shared", np.array(True))
    if shared.dtype.kind not in "biu" or shared.size != 1 or shared.item() not in (0, 1):
        raise ModelError(f"shared{k} = {shared.tolist()}, expected True or False")
    arrays = {name: parameter(parts[name], f"{name}{k}") for name in "ABC" if name in parts}
    for name, array in arrays.items():
        if not shared.item() and (array.ndim == 0 or len(array) != depth.item()):
            raise ModelError(f"{name}{k} has the shape {array.shape}, but as shared{k} is False its first axis is that "
                             f"of the {depth.item()} stages")
    stages = {name: (array,) if shared.item() else tuple(array) for name, array in arrays.items()}
    return StableBlock(stages["A"], stages["B"], stages.get("C", ()), activation_named(_text(k, parts, "activation")),
                       float(step.item()), int(depth.item()), _border(k, parts))


def save_stable_npz(path: str | Path, network: StableNetwork) -> None:
    """Writes a network of blocks that `load_stable` reads back the same.

    **Raises:** `ModelError` for a layer between the blocks that has no place in an archive.
    """
    content: dict[str, np.ndarray] = {}
    pairs = list(zip(network.parts, network.shapes, strict=False))
    while pairs and isinstance(first := pairs[0][0], Scale):
        content |= normalisation_parts(first, set(content))
        pairs.pop(0)
    content["input_shape"] = np.array(network.input_shape)
    for k, (part, shape) in enumerate(pairs, 1):
        found = _parts(part) if isinstance(part, StableBlock) else parts_of_layer(part, shape)
        content |= {f"{name}{k}": value for name, value in found.items()}
    with Path(path).open("wb") as stream:
        np.savez(stream, allow_pickle=False, **content)  # type: ignore[arg-type]


def _parts(block: StableBlock) -> dict[str, np.ndarray]:
    arrays = {"A": block.states, "B": block.inputs, "C": block.offsets}
    stages = {name: values[0] if block.shared else np.stack(values) for name, values in arrays.items() if values}
    settings = {"step": block.step, "depth": block.depth, "activation": name_of(block.activation),
                "shared": block.shared} | ({"border": block.border.value} if block.convolutional else {})
    return stages | {name: np.array(value) for name, value in settings.items()}


def _border(k: int, parts: dict[str, np.ndarray]) -> Border:
    text = _text(k, parts, "border") if "border" in parts else Border.ZEROS.value
    if text not in [border.value for border in Border]:
        raise ModelError(f"border{k} = {text!r}, expected {' or '.join(border.value for border in Border)}")
    return Border(text)


def _text(k: int, parts: dict[str, np.ndarray], name: str) -> str:
    if parts[name].dtype.kind != "U" or parts[name].ndim:
        raise ModelError(f"{name}{k} must be one string, got {parts[name].dtype} of shape {parts[name].shape}")
    return str(parts[name]).strip()
