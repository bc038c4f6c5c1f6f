"""Labelled inputs from a file, checked against the network that is to classify them."""

import csv
import dataclasses
import hashlib
import zipfile
from pathlib import Path

import numpy as np
from netgain.layers.layer import Shape

INPUT_KEYS, LABEL_KEYS = ("x", "images", "inputs", "X"), ("y", "labels", "Y")
"""Under which one of the keys of an archive inputs and labels are."""

_FORMATS = (".npz", ".npy", ".csv")


class SamplesError(ValueError):
    """A data file does not hold labelled inputs of the network; the text says how it differs."""


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Labelled inputs, in the units of the network's input.

    **Attributes:** `inputs`: float64, (count, *input shape); `labels`: int64, (count,); `path`, `sha256`: of the file;
    `available`: how many the file holds; `notes`: what was done to them.
    """

    inputs: np.ndarray
    labels: np.ndarray
    path: str
    sha256: str
    available: int
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def read_samples(path: Path, shape: Shape, classes: int, *, labels: Path | None = None, limit: int | None = None,
                 scale: float = 1.0) -> Samples:
    """The labelled inputs in a file.

    `.npz` with an array x (or images, inputs) and an array y (or labels); `.npy` with the inputs, and the labels in
    another such file; `.csv` with one input to a line, its label last, after a line of names if there is one.
    An input may come flat or with axes of one entry more or less; it is taken in row-major order.

    **Arguments:** `shape`: of the network's input; `classes`: of its output; `limit`: only the first so many; `scale`:
    what inputs are divided by.

    **Raises:** `SamplesError` for files that cannot be read, other shapes, numbers that are not finite, and labels that
    are no classes.
    """
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise SamplesError(f"{path}: samples are read from {', '.join(_FORMATS)}, not from {suffix or 'such'} files.")
    if (labels is not None) != (suffix == ".npy"):
        wrong = "needs its labels in a file of their own (--labels)" if suffix == ".npy" else "holds its own labels"
        raise SamplesError(f"{path}: a {suffix} file {wrong}.")
    try:
        found, classes_of = _READERS[suffix](path, labels)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError, zipfile.BadZipFile, csv.Error, EOFError) as error:
        if isinstance(error, SamplesError):
            raise
        raise SamplesError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    notes: list[str] = []
    # Whatever is wrong is told at once.
    refused: list[str] = []
    given = known = np.zeros(0)
    try:
        given = _inputs(found, path, shape, notes)
    except SamplesError as error:
        refused.append(str(error))
    try:
        known = _labels(classes_of, path, len(found) if found.ndim else 0, classes)
    except SamplesError as error:
        refused.append(str(error))
    if refused:
        raise SamplesError("\n".join(refused))
    count = len(given) if limit is None else min(limit, len(given))
    return Samples(given[:count] / scale if scale != 1 else given[:count], known[:count], str(path), digest,
                   len(given), tuple(notes))


def _from_npz(path: Path, labels: Path | None) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise SamplesError(f"{path} is no archive of arrays, whatever its name says.")
        found = []
        for names, what in ((INPUT_KEYS, "inputs"), (LABEL_KEYS, "labels")):
            present = [name for name in names if name in archive.files]
            if len(present) != 1:
                raise SamplesError(f"{path}: {what} are expected under one of the keys {', '.join(names)}; it has "
                                   f"{', '.join(archive.files) or 'none'}.")
            found.append(np.asarray(archive[present[0]]))
    return found[0], found[1]


def _from_npy(path: Path, labels: Path | None) -> tuple[np.ndarray, np.ndarray]:
    assert labels is not None
    arrays = [np.load(part, allow_pickle=False) for part in (path, labels)]
    if not all(isinstance(array, np.ndarray) for array in arrays):
        raise SamplesError(f"{path}, {labels}: one array is expected in each; for archives there is .npz.")
    return arrays[0], arrays[1]


def _from_csv(path: Path, labels: Path | None) -> tuple[np.ndarray, np.ndarray]:
    with path.open(newline="", encoding="utf-8") as stream:
        lines = [line for line in csv.reader(stream) if line]
    if lines and not _numeric(lines[0]):
        lines = lines[1:]
    widths = {len(line) for line in lines}
    if len(widths) != 1 or widths == {1}:
        raise SamplesError(f"{path}: every line holds the numbers of an input and its label; found lines of "
                           f"{sorted(widths)[:5]} entries.")
    wrong = [number for number, line in enumerate(lines, 1) if not _numeric(line)]
    if wrong:
        raise SamplesError(f"{path}: sample {wrong[0]} holds something else than numbers.")
    table = np.array(lines, dtype=np.float64)
    return table[:, :-1], table[:, -1]


_READERS = {".npz": _from_npz, ".npy": _from_npy, ".csv": _from_csv}


def _numeric(line: list[str]) -> bool:
    try:
        [float(entry) for entry in line]
    except ValueError:
        return False
    return True


def _inputs(found: np.ndarray, path: Path, shape: Shape, notes: list[str]) -> np.ndarray:
    if found.dtype.kind not in "fiub":
        raise SamplesError(f"{path}: inputs are of type {found.dtype}, expected real numbers.")
    given = found.shape[1:]
    flat = int(np.prod(shape))
    same = [d for d in given if d != 1] == [d for d in shape if d != 1]
    flattened = int(np.prod(given)) == flat and 1 in (len(given), len(shape))
    if found.ndim < 1 or not len(found) or not (same or flattened):
        raise SamplesError(f"{path}: inputs of shape {found.shape} do not fit the network, which takes (count, "
                           f"{', '.join(map(str, shape))}).")
    if given != shape:
        notes.append(f"Inputs of shape {given} are read as {shape}, in row-major order.")
    if found.dtype.kind in "iu":
        notes.append(f"The data are whole numbers from {found.min()} to {found.max()}, taken as they are: divide them "
                     "with --scale if the network was trained on others.")
    inputs = found.astype(np.float64).reshape((len(found), *shape))
    bad = np.flatnonzero(~np.all(np.isfinite(inputs.reshape((len(inputs), -1))), axis=1))
    if len(bad):
        raise SamplesError(f"{path}: {len(bad)} of {len(inputs)} inputs hold NaN or infinity, the first is number "
                           f"{bad[0]}, counted from 0.")
    return inputs


def _labels(found: np.ndarray, path: Path, count: int, classes: int) -> np.ndarray:
    if found.ndim == 2 and found.shape == (count, 1):
        found = found[:, 0]
    if found.shape != (count,) or found.dtype.kind not in "fiu":
        hint = " Are they one-hot? Then give their argmax." if found.shape == (count, classes) else ""
        raise SamplesError(f"{path}: {count} inputs take as many whole numbers as labels, found an array of shape "
                           f"{found.shape} and type {found.dtype}.{hint}")
    wrong = [k for k, label in enumerate(found.tolist()) if not (0 <= label < classes and label == int(label))]
    if wrong:
        raise SamplesError(f"{path}: the network has the classes 0 to {classes - 1}, but {len(wrong)} labels are none "
                           f"of them, the first being {found[wrong[0]].item()!r} of sample {wrong[0]}.")
    return found.astype(np.int64)
