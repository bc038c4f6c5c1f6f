"""Readers of network files: what the file says, exactly, or a reason why not."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

from ..errors import ModelError
from ..graph import Graph
from ..sampled_weights import SampledWeights
from .mat import load_mat as load_mat
from .nnet import load_nnet as load_nnet
from .npz import archive_keys as archive_keys
from .npz import copy_npz as copy_npz
from .npz import load_npz as load_npz
from .npz import load_npz_field
from .npz import load_stable as load_stable
from .npz_field import is_field
from .npz_save import save_npz as save_npz
from .npz_stable import has_blocks
from .npz_stable import save_stable_npz as save_stable_npz
from .onnx_file import external_files
from .onnx_import import load_onnx as load_onnx
from .torch_implicit import load_torch as load_torch
from .torch_module import from_torch as from_torch

READERS: dict[str, tuple[str, Callable[[Path], Graph]]] = {
    ".onnx": ("ONNX", load_onnx),
    ".npz": ("numpy archive", load_npz),
    ".mat": ("MATLAB", load_mat),
    ".nnet": ("nnet", load_nnet),
    ".pt": ("PyTorch state dict", load_torch),
    ".pth": ("PyTorch state dict", load_torch),
}
"""File extension: the format's name and its reader."""

_PICKLES = (".pkl", ".pickle", ".ckpt", ".bin", ".joblib")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a network was read from.

    **Attributes:** `sha256`: of the file; if the weights lie in files beside it, of all those digests in order of name.
    """

    path: str
    sha256: str
    format: str


def load(path: str | Path) -> Graph:
    """The network in a file, by extension: .onnx, .npz, .mat or .nnet; parameters of implicit networks in .pt or .pth.

    **Raises:** `ModelError` if the file is missing, damaged, or of another kind; `UnsupportedModelError` if it holds
    something without an exact meaning here.
    """
    path, reader = _reader(path)
    return reader[1](path)


def load_field(path: str | Path) -> Graph | SampledWeights:
    """The right-hand side of a neural ODE: a network as `load` reads it, or weights that change with time.

    Whether a network can be a field, with as many outputs as inputs, is for those to say who use it.

    **Raises:** `ModelError`, `UnsupportedModelError` as `load`.
    """
    path, reader = _reader(path)
    return load_npz_field(path) if reader[1] is load_npz else reader[1](path)


def holds_field(path: str | Path) -> bool:
    """Whether a file is laid out as the right-hand side of a neural ODE and not as a network; see `npz_field`."""
    return is_field(archive_keys(Path(path)))


def holds_blocks(path: str | Path) -> bool:
    """Whether a file is an archive with blocks of NAIS-Net; see `npz_stable`."""
    return has_blocks(archive_keys(Path(path)))


def describe_source(path: str | Path) -> Source:
    """The file's format and hash, for reports.

    **Raises:** `ModelError` as `load`, for what concerns the file and not the network in it.
    """
    path, reader = _reader(path)
    digests = [_digest(path)]
    if path.suffix.lower() == ".onnx":
        digests += [_digest(extra) for extra in external_files(path)]
    total = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return Source(str(path), total, reader[0])


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _reader(path: str | Path) -> tuple[Path, tuple[str, Callable[[Path], Graph]]]:
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        raise ModelError(f"{path} is a folder, not a file.")
    if not path.is_file():
        raise ModelError(f"{path} does not exist.")
    if suffix in _PICKLES:
        raise ModelError(f"{path}: files ending in {suffix} are pickles, which can run any code when opened, and hold "
                         "weights without the network. Export the model to ONNX (in torch: torch.onnx.export).")
    if suffix not in READERS:
        kind = suffix or "files without an extension"
        raise ModelError(f"{path}: no reader for {kind}; known are {', '.join(READERS)}.")
    if path.stat().st_size == 0:
        raise ModelError(f"{path} is empty.")
    return path, READERS[suffix]
