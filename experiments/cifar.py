"""CIFAR-10 in its binary version, from a folder the user has (cs.toronto.edu/~kriz/cifar.html).

A file is records of 3073 bytes: the label, then 32 x 32 red, as many green and blue pixels, row by row. The Python
version holds the same images as pickles, which can run any code and are never opened here.
"""

from pathlib import Path

import numpy as np

from .data import Dataset, load, sha256
from .idx import DataError, read

TRAIN = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
TEST = "test_batch.bin"
_SHAPE, _CLASSES = (3, 32, 32), 10
_RECORD = 1 + 3 * 32 * 32


def cifar_from_folder(folder: Path) -> Dataset:
    """The images in a folder with the six files of the binary version, or in its subfolder cifar-10-batches-bin.

    **Raises:** `DataError` if files are missing (all are listed), of another size, or of the Python version.
    """
    inner = folder / "cifar-10-batches-bin"
    folder = inner if inner.is_dir() else folder
    if missing := [name for name in (*TRAIN, TEST) if not (folder / name).is_file()]:
        pickles = (folder / "data_batch_1").is_file()
        why = " What is there is the Python version, pickles, which are never opened." if pickles else ""
        raise DataError(f"{folder}: no {', '.join(missing)}.{why} CIFAR-10 is read from its binary version, "
                        "cifar-10-binary.tar.gz, unpacked.")
    files = {name: read(folder / name) for name in (*TRAIN, TEST)}
    parts = {name: _decoded(content, str(folder / name)) for name, content in files.items()}
    images, labels = (np.concatenate([parts[name][k] for name in TRAIN]) for k in range(2))
    digests = {name: sha256(content) for name, content in files.items()}
    return Dataset("CIFAR-10", "binary files given by path", digests, images, labels, *parts[TEST])


def load_images(source: str) -> Dataset:
    """What `data.load` knows, or CIFAR-10 if `source` is a folder that holds it, in either version."""
    folder = Path(source)
    batches = ("cifar-10-batches-bin", "data_batch_1.bin", "data_batch_1")
    return cifar_from_folder(folder) if any((folder / name).exists() for name in batches) else load(source)


def _decoded(content: bytes, source: str) -> tuple[np.ndarray, np.ndarray]:
    if not content or len(content) % _RECORD:
        raise DataError(f"{source}: {len(content)} bytes, expected records of {_RECORD} bytes, a label and 32 x 32 "
                        "pixels of three colours.")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, _RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() >= _CLASSES:
        raise DataError(f"{source}: the label {labels.max()}, expected 0 to {_CLASSES - 1}.")
    return records[:, 1:].reshape(-1, *_SHAPE).astype(np.float32) / np.float32(255), labels
