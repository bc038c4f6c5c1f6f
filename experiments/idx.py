"""The idx format of the MNIST files: big-endian header, then unsigned bytes, row-major.

The magic number is 0, 0, type, rank: 2051 for images (rank 3), 2049 for labels (rank 1). **Source:** LeCun, Cortes and
Burges, "The MNIST database", file formats section.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

_UNSIGNED_BYTE = 0x08
_GZIP = b"\x1f\x8b"


class DataError(ValueError):
    """A data file is missing, damaged or not the one it should be; the text says which and what to do."""


def decode(content: bytes, rank: int, source: str) -> np.ndarray:
    """The array of uint8 an idx file of this rank holds.

    **Raises:** `DataError` if the magic number, the sizes or the length are wrong; `source` names the file there.
    """
    header = 4 + 4 * rank
    if len(content) < header:
        raise DataError(f"{source}: an idx file of rank {rank} has a header of {header} bytes, this one ends after "
                        f"{len(content)}. The file is truncated: fetch it again.")
    magic, expected = int.from_bytes(content[:4], "big"), _UNSIGNED_BYTE << 8 | rank
    if magic != expected:
        raise DataError(f"{source}: the magic number is {magic}, not {expected} (unsigned bytes of rank {rank}). "
                        "Are images and labels exchanged, or is this no idx file?")
    shape = tuple(int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(rank))
    if 0 in shape:
        raise DataError(f"{source}: the header states an empty array of shape {shape}.")
    size, found = math.prod(shape), len(content) - header
    if found != size:
        fault = "The file is truncated: fetch it again." if found < size else "Bytes follow the data."
        raise DataError(f"{source}: shape {shape} needs {size} bytes of data, the file has {found}. {fault}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def encode(array: np.ndarray) -> bytes:
    """The idx file that holds an array of uint8."""
    if array.dtype != np.uint8:
        raise DataError(f"Only arrays of uint8 are written, got {array.dtype}.")
    header = (_UNSIGNED_BYTE << 8 | array.ndim).to_bytes(4, "big")
    return header + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def read(path: Path) -> bytes:
    """The content of a file, decompressed if it is a gzip file.

    **Raises:** `DataError` if it cannot be read or its gzip stream is damaged.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP) else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: the gzip stream is damaged ({error}). Fetch the file again.") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}.") from None
