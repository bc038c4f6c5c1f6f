"""The .nnet text format of the ACAS Xu networks."""

from pathlib import Path

import numpy as np

from ..activation import Relu
from ..errors import ModelError
from ..graph import Graph, sequential
from ..layer import Layer
from ..linear import Affine, Scale


def load_nnet(path: Path) -> Graph:
    """The ReLU network in a .nnet file, in the physical units of its inputs and outputs.

    The file states means and ranges: the map is x -> range_y * f((x - mean) / range) + mean_y, and the graph holds the
    scaling as layers of its own. Some evaluators first clip x to the file's minima and maxima; that is not part of
    the map here. Decimals are read as the nearest float64.

    **Raises:** `ModelError` with the line's number for a file that is cut short or malformed.
    """
    lines = _Lines(path)
    count, inputs, outputs, _ = lines.integers("number of layers, inputs, outputs, largest layer", 4)
    sizes = lines.integers("sizes of the layers", count + 1)
    if count < 1 or min(sizes) < 1 or (sizes[0], sizes[-1]) != (inputs, outputs):
        raise lines.error(f"sizes {sizes} do not fit {count} layers from {inputs} inputs to {outputs} outputs")
    if lines.integers("flag", 1) != [0]:
        raise lines.error("the flag is not 0: its meaning is not known")
    lines.numbers("minima of the inputs", inputs)
    lines.numbers("maxima of the inputs", inputs)
    means = lines.numbers("means of the inputs and of the output", inputs + 1)
    ranges = lines.numbers("ranges of the inputs and of the output", inputs + 1)
    if np.any(ranges == 0):
        raise lines.error("a range is zero, and the inputs are divided by it")
    layers: list[Layer] = [Scale(shift=-means[:-1]), Scale(divisor=ranges[:-1])]
    for number in range(1, count + 1):
        size, out = sizes[number - 1], sizes[number]
        weight = np.array([lines.numbers(f"row {row + 1} of weight {number}", size) for row in range(out)])
        bias = np.array([lines.numbers(f"entry {row + 1} of bias {number}", 1)[0] for row in range(out)])
        layers.append(Affine(weight, bias))
        if number < count:
            layers.append(Relu())
    lines.finish()
    layers.append(Scale(multiplier=ranges[-1], shift=means[-1:]))
    return sequential((inputs,), layers, path.stem)


class _Lines:
    """The lines of numbers in a file, in order, after its comments."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            text = path.read_text(encoding="ascii")
        except UnicodeDecodeError:
            raise ModelError(f"{path} is no text file, so no .nnet network.") from None
        self._lines = text.splitlines()
        self._position = 0

    def error(self, text: str) -> ModelError:
        return ModelError(f"{self._path}, line {self._position}: {text}.")

    def _next(self) -> str | None:
        while self._position < len(self._lines):
            line = self._lines[self._position].strip()
            self._position += 1
            if line and not line.startswith("//"):
                return line
        return None

    def numbers(self, what: str, count: int) -> np.ndarray:
        line = self._next()
        if line is None:
            raise self.error(f"the file ends before the {what}; it is cut short")
        parts = line.removesuffix(",").split(",")
        try:
            values = np.array([float(part) for part in parts])
        except ValueError:
            raise self.error(f"the {what} should be numbers between commas, got {line[:60]!r}") from None
        if len(values) != count:
            raise self.error(f"{len(values)} numbers for the {what}, expected {count}")
        if not np.isfinite(values).all():
            raise self.error(f"the {what} are not all finite")
        return values

    def integers(self, what: str, count: int) -> list[int]:
        values = self.numbers(what, count)
        if np.any(values != np.round(values)):
            raise self.error(f"the {what} should be integers, got {values.tolist()}")
        return [int(value) for value in values]

    def finish(self) -> None:
        line = self._next()
        if line is not None:
            raise self.error(f"more numbers follow the last layer: {line[:60]!r}")
