"""Data files: what is read is what was written, and what is no labelled input of the network is refused in words."""

import numpy as np
import pytest
from netgain.verify.robustness.samples import SamplesError, read_samples

X = np.random.default_rng(0).uniform(size=(4, 2, 3))
Y = np.array([0, 2, 1, 2])


def written(path, x=X, y=Y, keys=("x", "y")):
    np.savez(path, **dict(zip(keys, (x, y), strict=True)))
    return path


@pytest.mark.parametrize("keys", [("x", "y"), ("images", "labels"), ("inputs", "y")])
def test_archives_of_both_arrays(tmp_path, keys):
    found = read_samples(written(tmp_path / "d.npz", keys=keys), (2, 3), 3)
    assert np.array_equal(found.inputs, X)
    assert np.array_equal(found.labels, Y)
    assert (len(found), found.available, found.notes) == (4, 4, ())
    assert len(found.sha256) == 64


def test_arrays_of_their_own_and_lines_of_text_hold_the_same(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y.astype(np.float32))
    table = np.concatenate([X.reshape((4, 6)), Y[:, None]], axis=1)
    lines = [",".join(map(repr, row)) for row in table.tolist()]
    (tmp_path / "d.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "named.csv").write_text("\n".join(["a,b,c,d,e,f,label", *lines]) + "\n")
    first = read_samples(tmp_path / "x.npy", (2, 3), 3, labels=tmp_path / "y.npy")
    for name in ("d.csv", "named.csv"):
        second = read_samples(tmp_path / name, (2, 3), 3)
        assert np.array_equal(first.inputs, second.inputs)
        assert np.array_equal(first.labels, second.labels)


@pytest.mark.parametrize(("given", "shape"), [((6,), (2, 3)), ((2, 3), (6,)), ((2, 3), (1, 2, 3)), ((2, 3, 1), (2, 3))])
def test_shapes_that_can_only_be_meant_one_way_are_taken_in_row_major_order(tmp_path, given, shape):
    found = read_samples(written(tmp_path / "d.npz", X.reshape((4, *given))), shape, 3)
    assert np.array_equal(found.inputs, X.reshape((4, *shape)))
    assert "row-major" in found.notes[0]


def test_limit_and_scale(tmp_path):
    found = read_samples(written(tmp_path / "d.npz", (255 * X).astype(np.uint8)), (2, 3), 3, limit=3, scale=255)
    assert (len(found), found.available) == (3, 4)
    assert np.array_equal(found.inputs, (255 * X).astype(np.uint8)[:3] / 255)
    assert "whole numbers" in found.notes[0]


@pytest.mark.parametrize(("x", "y", "message"), [
    (X.reshape((4, 3, 2)), Y, r"shape \(4, 3, 2\) do not fit .* \(count, 2, 3\)"),
    (X[:0], Y[:0], "do not fit"),
    (X.astype(complex), Y, "complex"),
    (np.where(np.arange(24).reshape(X.shape) == 13, np.nan, X), Y, "1 of 4 inputs hold NaN or infinity, .* number 2"),
    (X, Y + 1, "the classes 0 to 2, but 2 labels .* 3 of sample 1"),
    (X, Y - 1, "classes 0 to 2"),
    (X, Y + 0.5, "classes 0 to 2"),
    (X, np.array([0.0, np.nan, 1.0, 1.0]), "classes 0 to 2"),
    (X, Y[:3], "4 inputs take as many whole numbers as labels"),
    (X, np.eye(4)[:, :3], "one-hot"),
    (X, np.array(list("abcd")), "type <U1"),
    (X.reshape((4, 3, 2)), Y + 1, r"(?s)do not fit .*2 labels .* 3 of sample 1"),
])
def test_what_does_not_fit_is_refused(tmp_path, x, y, message):
    with pytest.raises(SamplesError, match=message):
        read_samples(written(tmp_path / "d.npz", x, y), (2, 3), 3)


@pytest.mark.parametrize(("name", "content", "message"), [
    ("d.txt", b"1,2", "not from .txt"), ("d.npz", b"no archive", "cannot be read"), ("d.npz", b"", "cannot be read"),
    ("d.csv", b"1,2\n1,2,3\n", r"\[2, 3\]"), ("d.csv", b"", "every line"), ("d.csv", b"1,0\nx,0\n", "sample 2"),
    ("d.npy", b"", "--labels"),
])
def test_files_that_are_none(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SamplesError, match=message):
        read_samples(tmp_path / name, (1,), 2)


def test_files_that_are_not_there_pickles_and_other_keys(tmp_path):
    with pytest.raises(SamplesError, match="No such file"):
        read_samples(tmp_path / "d.npz", (2, 3), 3)
    with pytest.raises(SamplesError, match=r"keys x, images.* it has a, b"):
        read_samples(written(tmp_path / "d.npz", keys=("a", "b")), (2, 3), 3)
    np.savez(tmp_path / "o.npz", x=np.array([{}]), y=Y)
    with pytest.raises(SamplesError, match="cannot be read"):
        read_samples(tmp_path / "o.npz", (2, 3), 3)
    with pytest.raises(SamplesError, match="holds its own labels"):
        read_samples(written(tmp_path / "d.npz"), (2, 3), 3, labels=tmp_path / "d.npz")
