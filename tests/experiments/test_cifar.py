"""CIFAR-10's binary batches, made here; pickles are refused."""

import numpy as np
import pytest
from netgain.experiments.cifar import TEST, TRAIN, cifar_from_folder, load_images
from netgain.experiments.data import sha256
from netgain.experiments.idx import DataError

NAMES = (*TRAIN, TEST)


def write(folder, count=4):
    """Random batches; returns the images (count, 3, 32, 32) and labels of each."""
    rng, content = np.random.default_rng(0), {}
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        images = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        records = b"".join(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True))
        (folder / name).write_bytes(records)
        content[name] = images, labels
    return content


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_images_are_those_written(inner, tmp_path):
    content = write(tmp_path / inner)
    dataset = cifar_from_folder(tmp_path)
    assert (dataset.name, dataset.channels, dataset.train_images.shape) == ("CIFAR-10", 3, (20, 3, 32, 32))
    assert np.array_equal(np.round(255 * dataset.test_images).astype(np.uint8), content[TEST][0])
    assert np.array_equal(dataset.train_labels[4:8], content[TRAIN[1]][1])
    assert dataset.train_images[9, 2, 30, 7] == np.float32(content[TRAIN[2]][0][1, 2, 30, 7]) / np.float32(255)
    assert dataset.digests[TEST] == sha256((tmp_path / inner / TEST).read_bytes())
    assert np.array_equal(load_images(str(tmp_path)).train_images, dataset.train_images)
    with pytest.raises(DataError, match="grey"):
        _ = dataset.image


def test_missing_files_are_listed(tmp_path):
    write(tmp_path)
    (tmp_path / TRAIN[1]).unlink()
    (tmp_path / TEST).unlink()
    with pytest.raises(DataError, match=rf"no {TRAIN[1]}, {TEST}"):
        cifar_from_folder(tmp_path)


def test_pickles_are_named_and_not_opened(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(b"not opened")
    with pytest.raises(DataError, match=r"pickles, which are never opened.*binary version"):
        load_images(str(tmp_path))


@pytest.mark.parametrize(("content", "match"), [(b"", "0 bytes"), (bytes(3074), "3074 bytes"),
                                                (bytes([10]) + bytes(3072), "label 10")])
def test_damaged_batches(content, match, tmp_path):
    write(tmp_path)
    (tmp_path / TRAIN[3]).write_bytes(content)
    with pytest.raises(DataError, match=match):
        cifar_from_folder(tmp_path)


def test_other_sources_are_those_of_all_trainers(tmp_path):
    with pytest.raises(DataError, match="four idx files"):
        load_images(str(tmp_path))
