"""By how much a class leads, and the radius that follows from a Lipschitz constant: both on the safe side."""

import dataclasses
import math
import time

import numpy as np
from flint import arb
from netgain.layers import Graph

from ..balls import BALLS, lower, precision

_BITS = 64
# Ball arithmetic holds every value of a batch at once.
_BATCH = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Margins:
    """Of every input the class and its lead.

    **Attributes:** `predicted`: the class, (count,); `values`: proved to be at most f_p(x) - f_j(x) in real arithmetic,
    p being the class, (count, classes); inf where j = p. Not positive where the class is not decided.
    """

    predicted: np.ndarray
    values: np.ndarray

    @property
    def decided(self) -> np.ndarray:
        """Of which inputs the class is proved."""
        return np.asarray(np.min(self.values, axis=1) > 0)


def margins(graph: Graph, inputs: np.ndarray, deadline: float = math.inf) -> Margins:
    """The class of each of a batch of inputs, and its lead by ball arithmetic.

    **Arguments:** `deadline`: of `time.perf_counter()`, after which those that are left are left out.
    """
    predicted: list[int] = []
    found: list[list[float]] = []
    for k in range(0, len(inputs), _BATCH):
        if found and time.perf_counter() > deadline:
            break
        batch = inputs[k : k + _BATCH]
        with precision(_BITS):
            logits = graph.forward(BALLS.constant(batch), BALLS).reshape((len(batch), -1))
            for row in logits:
                best = int(np.argmax([float(ball.mid()) for ball in row]))
                lead = [lower(row[best] - ball) for ball in row]
                lead[best] = math.inf
                predicted.append(best)
                found.append(lead)
    return Margins(np.array(predicted, dtype=np.int64), np.array(found))


def radius(margin: float, constant: float) -> float:
    """A number R with R `constant` < `margin`, as large as float64 allows; 0 if there is no positive one.

    A difference of outputs that is `margin` at x, and changes by at most `constant` times the distance, is then
    positive within the distance R of x. inf where nothing limits it.
    """
    if not margin > 0 or not constant < math.inf:
        return 0.0
    if constant == 0 or margin == math.inf:
        return math.inf
    found = margin / constant
    while found > 0 and not arb(found) * arb(constant) < arb(margin):
        found = math.nextafter(found, 0.0)
    return found


def radii(found: Margins, constants: np.ndarray) -> np.ndarray:
    """The certified radius of each input, (count,), for Lipschitz constants of differences, (classes, classes)."""
    return np.array([min(radius(margin, constants[p, j]) for j, margin in enumerate(row.tolist()) if j != p)
                     for p, row in zip(found.predicted.tolist(), found.values, strict=True)])
