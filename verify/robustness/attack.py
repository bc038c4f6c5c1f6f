"""Projected gradients within Euclidean balls: misclassified inputs near samples, in floating point."""

import dataclasses
import math
import time
from collections.abc import Sequence

import numpy as np
from netgain.layers import Graph
from netgain.layers.differential import Linearisation

_BATCH = 256
# Of the largest output: what a rival class has to lead by, to be none of rounding's making.
_LEAD = 1e-9
# Points projected onto a ball are kept this far within it, relative to its radius, for the same reason.
_WITHIN = 1e-9
_HALVINGS = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attack:
    """Projected gradient ascent (Madry et al., arXiv 1706.06083) of the lead of another class, in l2.

    **Arguments:** `steps`: each of length 2.5 radius / steps along the gradient; `restarts`: the first starts at the
    sample and follows the best rival, the others start at random and follow one rival each, the best first; `seed`;
    `deadline`: of `time.perf_counter()`, after which nothing more is tried.
    """

    steps: int = 40
    restarts: int = 4
    seed: int = 0
    deadline: float = math.inf

    def distances(self, graph: Graph, inputs: np.ndarray, labels: np.ndarray, radii: Sequence[float]) -> np.ndarray:
        """How near to each sample a misclassified input was found, 0 where it is misclassified itself, inf for none.

        Balls of all the radii are tried, from small to large; a point that is found is moved towards its sample as far
        as it stays misclassified.
        """
        found = np.full(len(inputs), math.inf)
        for k in range(0, len(inputs), _BATCH):
            part = slice(k, k + _BATCH)
            found[part] = self._distances(graph, inputs[part], labels[part], sorted(radii), self.seed + k)
        return found

    def _distances(self, graph: Graph, inputs: np.ndarray, labels: np.ndarray, radii: list[float],
                   seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        found = np.where(_lead(graph, inputs, labels) > 0, 0.0, math.inf)
        for radius in radii:
            left = np.flatnonzero(np.isinf(found))
            if radius <= 0 or not len(left) or time.perf_counter() > self.deadline:
                continue
            x, y = inputs[left], labels[left]
            for restart in range(self.restarts):
                moved = self._ascended(graph, x, y, radius * (1 - _WITHIN), restart, rng)
                for index, point in moved.items():
                    reached = _shortened(graph, x[index], point, int(y[index]))
                    found[left[index]] = min(found[left[index]], reached)
        return found

    def _ascended(self, graph: Graph, x: np.ndarray, labels: np.ndarray, radius: float, restart: int,
                  rng: np.random.Generator) -> dict[int, np.ndarray]:
        """A misclassified point for those inputs that one was met for."""
        moved = x.copy()
        found: dict[int, np.ndarray] = {}
        if restart:
            moved = x + _within(rng.standard_normal(x.shape), radius, onto=True) * rng.uniform(size=_column(x))
        rivals = _rivals(graph, x, labels)[:, restart - 1] if 0 < restart < _classes(graph) else None
        for step in range(self.steps + 1):
            here = Linearisation(graph, moved)
            logits = here.values[graph.output].reshape((len(x), -1))
            for index in np.flatnonzero(_leads(logits, labels) > 0):
                found.setdefault(int(index), moved[index].copy())
            if step == self.steps or time.perf_counter() > self.deadline:
                break
            towards = _best_rival(logits, labels) if rivals is None else rivals
            change = np.zeros_like(logits)
            rows = np.arange(len(x))
            change[rows, towards], change[rows, labels] = 1.0, -1.0
            gradient = here.transpose(change.reshape(here.values[graph.output].shape))
            ascent = moved + _within(gradient, 2.5 * radius / self.steps, onto=True)
            moved = x + _within(ascent - x, radius)
        return found


def _classes(graph: Graph) -> int:
    return math.prod(graph.shape(graph.output))


def _column(x: np.ndarray) -> tuple[int, ...]:
    return (len(x), *(1,) * (x.ndim - 1))


def _within(change: np.ndarray, radius: float, onto: bool = False) -> np.ndarray:
    """Members shortened to the radius where they are longer, or with `onto` brought to it; zeros stay."""
    length = np.sqrt(np.sum(change**2, axis=tuple(range(1, change.ndim)), keepdims=True))
    factor = radius / np.maximum(length, np.finfo(np.float64).tiny)
    scaled: np.ndarray = change * (factor if onto else np.minimum(factor, 1.0))
    return scaled


def _others(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The logits, -inf at the label."""
    others = logits.copy()
    others[np.arange(len(logits)), labels] = -math.inf
    return others


def _best_rival(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.asarray(np.argmax(_others(logits, labels), axis=1))


def _rivals(graph: Graph, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The classes but the label, the best first, (count, classes - 1)."""
    logits = graph.forward(x).reshape((len(x), -1))
    return np.asarray(np.argsort(-_others(logits, labels), axis=1)[:, :-1])


def _leads(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """By how much the best other class leads, less what may be rounding."""
    lead = np.max(_others(logits, labels), axis=1) - logits[np.arange(len(logits)), labels]
    return np.asarray(lead - _LEAD * np.max(np.abs(logits), axis=1))


def _lead(graph: Graph, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return _leads(graph.forward(x).reshape((len(x), -1)), labels)


def _shortened(graph: Graph, x: np.ndarray, point: np.ndarray, label: int) -> float:
    """The distance from x of a misclassified point on the way to this one."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        wrong = _lead(graph, (x + middle * (point - x))[None], np.array([label]))[0] > 0
        low, high = (low, middle) if wrong else (middle, high)
    # No further than the point itself: rounding of x + t (point - x) may only bring it nearer by a trifle.
    return high * float(np.linalg.norm(point - x))
