"""Files of test images are what `netgain robustness` reads, and the one that is kept is made by the command."""

from pathlib import Path

import numpy as np
import pytest
from netgain.experiments import data
from netgain.experiments.samples import main
from netgain.verify.robustness.samples import read_samples

KEPT = Path(__file__).resolve().parents[2] / "experiments/models/digits_held_out.npz"


def test_the_kept_file_is_the_held_out_digits(tmp_path, capsys):
    pytest.importorskip("sklearn")
    main("digits", tmp_path / "d.npz", None)
    assert "359 test images of digits" in capsys.readouterr().out
    kept, made = (read_samples(path, (64,), 10) for path in (KEPT, tmp_path / "d.npz"))
    assert np.array_equal(kept.inputs, made.inputs)
    assert np.array_equal(kept.labels, made.labels)
    assert np.array_equal(kept.inputs, data.digits().test_images.reshape((-1, 64)).astype(np.float64))
    assert (kept.inputs.min(), kept.inputs.max()) == (0.0, 1.0)


def test_only_the_first_so_many(tmp_path):
    pytest.importorskip("sklearn")
    main("digits", tmp_path / "d.npz", 7)
    assert len(read_samples(tmp_path / "d.npz", (8, 8), 10)) == 7
