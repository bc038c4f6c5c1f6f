"""A data set that small networks learn within a second."""

import numpy as np
from netgain.experiments.data import Dataset


def blobs(side: int = 4, classes: int = 3, train: int = 600, test: int = 300) -> Dataset:
    """Images around a few patterns."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(0.2, 0.8, (classes, side, side))

    def images(count):
        labels = rng.integers(0, classes, count)
        noise = 0.1 * rng.standard_normal((count, side, side))
        return np.clip(patterns[labels] + noise, 0, 1).astype(np.float32), labels

    return Dataset("blobs", "made here", {}, *images(train), *images(test))
