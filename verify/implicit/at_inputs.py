r"""What is proved of an implicit network at given inputs: solutions, outputs, boxes around them, radii.

Values travel node by node in balls. At an implicit layer x = s(A x + v) an approximation of the solution is enclosed.
Where weights eta prove mu_eta(D A) <= mu < 1, it is by |x - x*|_eta <= |x - s(A x + v)|_eta / (1 - mu); else by its
metric, in the Euclidean norm (`solution_enclosure`). v being balls, what earlier layers leave open is included.

With margins y_label - y_j > 0 proved, and l_inf gains g_j of y_label - y_j, the label stays the largest output within
min_j (y_label - y_j) / g_j. Where mixed monotonicity applies, boxes of outputs are proved besides, and radii by them
(`reachability`); of two proved radii the larger one counts.
"""

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
from flint import arb
from netgain.layers import FixedPoint, Graph
from netgain.layers.arithmetic import Array
from threadpoolctl import threadpool_limits

from ..balls import BALLS, lower, precision, upper
from ..constraints import Rows, constraint_rows
from .certificate import plain_network
from .fixed_point_enclosure import enclosed_in_weights
from .layer_report import Iteration, iterations
from .reachability import Reachability, pairwise_gains
from .reachability_check import Boxes
from .report import EUCLIDEAN, LARGEST, ImplicitReport
from .samples import Samples
from .solution_enclosure import Solver, solver

WEIGHTED_NORM, EUCLIDEAN_NORM = "weighted l_inf", "Euclidean"
_BITS = 128
# Inputs at once: after each such batch the time is looked at.
_BATCH = 50
# Inputs that iterations are run for.
MOST_ITERATED = 250


@dataclasses.dataclass(frozen=True, eq=False)
class LayerSolutions:
    """The solutions of one implicit layer at each input.

    **Attributes:** `norm`: weighted l_inf, with the weights of the layer's proof, or Euclidean; `radii`: proved bounds
    on the distance of the solution from the float64 approximation, shape (batch,); `iterations`: how the first inputs
    come to it.
    """

    node: str
    norm: str
    radii: np.ndarray
    iterations: tuple[Iteration, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class InputReport:
    """What is proved at the first `looked_at` of the inputs; arrays have as many rows.

    **Attributes:** `outputs`: enclosures of y; `classes`: the output proved to be the largest, -1 where none is;
    `radius`: of the boxes asked for; `boxes`: proved to hold y for all inputs within it, None where they were not asked
    for or not found; `boxed`: for which inputs; `radii_linf`, `radii_l2`: within which the class, or the label if there
    are labels, is proved to stay the largest output; `notes`: why something is missing.
    """

    looked_at: int
    asked: int
    layers: tuple[LayerSolutions, ...]
    outputs: Boxes
    classes: np.ndarray
    labels: np.ndarray | None
    radius: float | None
    boxes: Boxes | None
    boxed: np.ndarray
    radii_linf: np.ndarray
    radii_l2: np.ndarray
    seconds: float
    notes: tuple[str, ...] = ()


def at_inputs(graph: Graph, report: ImplicitReport, samples: Samples, *, radius: float | None = None,
              floor: float = -math.inf, ceiling: float = math.inf, time_limit: float = math.inf,
              on_stage: Callable[[str], None] = lambda stage: None) -> InputReport:
    """Enclosures of solutions and outputs at the inputs, boxes for inputs within `radius`, and certified radii.

    **Arguments:** `report`: of the graph, proved well-posed; `floor`, `ceiling`: inputs beyond which boxes and their
    radii need not reach; `time_limit`: seconds; inputs after it, or after a KeyboardInterrupt, are left out.

    **Raises:** `ValueError` if the report has no proof for every implicit layer; `ConvergenceError` if the solution at
    some input is not found.
    """
    if report.certificate is None or report.certificate.digest != graph.digest:
        raise ValueError(f"{graph.name} is not proved well-posed by this report: what its solution is at an input is "
                         "open.")
    begin, notes = time.perf_counter(), list[str]()
    with threadpool_limits(limits=1, user_api="blas"):
        with precision(_BITS):
            rows = constraint_rows(graph, BALLS, in_double=True)
        look = _Look(graph, rows, report, notes)
        parts: list[_Part] = []
        done = 0
        try:
            while done < len(samples.inputs) and not (done and time.perf_counter() - begin > time_limit):
                on_stage(f"looking at inputs from the {done + 1}. of {len(samples.inputs)} on")
                chosen = slice(done, done + _BATCH)
                labels = None if samples.labels is None else samples.labels[chosen]
                parts.append(look.at(samples.inputs[chosen], labels, radius, floor, ceiling))
                done += len(parts[-1].classes)
            if done < len(samples.inputs):
                notes.append(f"The time was up after {done} of {len(samples.inputs)} inputs; raise --time-limit.")
            on_stage("running iterations")
            courses = look.iterations([part.fed for part in parts])
        except KeyboardInterrupt:
            if not parts:
                raise
            notes.append("Interrupted before all inputs were looked at, or iterations were run.")
            courses = {}
    return _joined(look, parts, courses, samples, radius, tuple(notes), time.perf_counter() - begin)


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """A batch: what the implicit layers are fed, in float64, and the findings."""

    fed: dict[str, np.ndarray]
    distances: dict[str, np.ndarray]
    outputs: Boxes
    classes: np.ndarray
    boxes: Boxes
    boxed: np.ndarray
    radii_linf: np.ndarray
    radii_l2: np.ndarray


class _Look:
    """How inputs of one network are looked at."""

    def __init__(self, graph: Graph, rows: Rows, report: ImplicitReport, notes: list[str]):
        self.graph, self.rows, self.report = graph, rows, report
        self.loops = {layer.node: (layer, found) for layer, found in zip(rows.loops, report.layers, strict=True)}
        self.solvers: dict[str, Solver] = {}
        for node, (layer, found) in self.loops.items():
            if found.proof.norm is None:
                assert found.proof.metric is not None
                own = solver(self._fixed_point(node), layer, found.proof.metric)
                if own is None:
                    raise ValueError(f"The metric of {node!r} is too close to none for solutions to be enclosed.")
                self.solvers[node] = own
        self.q = math.prod(graph.shape(graph.output))
        self.reachability = _reachability(graph, rows, notes)
        self.gains_linf, self.gains_l2 = _gains(rows, report, self.q)
        if self.q < 2:
            notes.append("There is one output: no radius is asked for within which it stays the largest.")

    def _fixed_point(self, node: str) -> FixedPoint:
        layer = self.graph.layer(node)
        assert isinstance(layer, FixedPoint)
        return layer

    def at(self, inputs: np.ndarray, labels: np.ndarray | None, radius: float | None, floor: float, ceiling: float
           ) -> _Part:
        with precision(_BITS):
            fed, distances, outputs = self._enclosed(inputs)
            classes, margins = _margins(outputs, labels)
            ends = (np.asarray(np.frompyfunc(end, 1, 1)(outputs), dtype=np.float64) for end in (lower, upper))
            boxes_of_outputs = Boxes(*ends)
        u, wanted = inputs.reshape((len(inputs), -1)), classes if labels is None else labels
        radii_linf, radii_l2 = (_by_gains(margins, wanted, gains) for gains in (self.gains_linf, self.gains_l2))
        boxes, boxed = boxes_of_outputs, np.zeros(len(u), dtype=bool)
        if self.reachability is not None:
            if radius is not None:
                reach = self.reachability.reach(Boxes.around(u, radius, floor, ceiling))
                boxes, boxed = reach.outputs, reach.proved
            right = np.flatnonzero((wanted == classes) & (wanted >= 0) & (self.q > 1))
            if len(right):
                found = self.reachability.radii(u[right], wanted[right], floor, ceiling,
                                                largest=max(1.0, 2 * float(np.abs(u).max())))
                radii_linf[right] = np.maximum(radii_linf[right], found)
        return _Part(fed, distances, boxes_of_outputs, classes, boxes, boxed, radii_linf, radii_l2)

    def _enclosed(self, inputs: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Array]:
        """What the implicit layers are fed, how far their solutions are at most from approximations, and y in balls."""
        graph = self.graph
        values: dict[str, Array] = {graph.input: BALLS.constant(inputs)}
        fed: dict[str, np.ndarray] = {}
        distances: dict[str, np.ndarray] = {}
        for node in graph.order[1:]:
            sources = [values[name] for name in graph.inputs(node)]
            if node not in self.loops:
                values[node] = graph.layer(node).forward(*sources, arithmetic=BALLS)
                continue
            v = sources[0]
            near = np.asarray(np.frompyfunc(lambda ball: float(ball.mid()), 1, 1)(v), dtype=np.float64)
            fed[node] = near.reshape((len(near), -1))
            norm = self.loops[node][1].proof.norm
            if norm is None:
                values[node] = self.solvers[node].enclose(v)
                radius = np.frompyfunc(lambda ball: upper(ball.rad()), 1, 1)(values[node])
                distances[node] = np.max(np.asarray(radius, dtype=np.float64).reshape((len(near), -1)), axis=1)
                continue
            layer = self._fixed_point(node)
            x = layer.forward(near).reshape((len(near), -1))
            A = np.asarray(self.loops[node][0].loop)
            distances[node] = enclosed_in_weights(A, layer.activation, norm.weights, norm.log_norm, x,
                                                  v.reshape((len(near), -1)))
            around = np.frompyfunc(lambda x, radius: arb(x, radius), 2, 1)
            values[node] = around(x, _upward(distances[node][:, None] * norm.weights)).reshape(v.shape)
        return fed, distances, values[graph.output].reshape((len(inputs), -1))

    def iterations(self, fed: list[dict[str, np.ndarray]]) -> dict[str, tuple[Iteration, ...]]:
        result = {}
        for node, (layer, found) in self.loops.items():
            inputs = np.concatenate([part[node] for part in fed])[:MOST_ITERATED]
            result[node] = iterations(self._fixed_point(node), layer, found, inputs)
        return result


def _upward(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.nextafter(values, np.inf))


def _margins(outputs: Array, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The class, -1 where none is proved the largest, and lower bounds of y_wanted - y_j, shape (batch, q)."""
    below, above = (np.asarray(np.frompyfunc(end, 1, 1)(outputs), dtype=np.float64) for end in (lower, upper))
    best = np.argmax(below, axis=1)
    rest = above.copy()
    rest[np.arange(len(rest)), best] = -np.inf
    sure = below[np.arange(len(below)), best] > np.max(rest, axis=1)
    classes = np.where(sure, best, -1)
    wanted = best if labels is None else labels
    margins = np.nextafter(below[np.arange(len(below)), wanted][:, None] - above, -np.inf)
    return classes, margins


def _by_gains(margins: np.ndarray, wanted: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """min over j of margin_j / gain_wanted,j, rounded down; 0 where there is no margin, or nothing is known."""
    result = np.zeros(len(margins))
    for row in np.flatnonzero(wanted >= 0):
        others = np.arange(len(gains)) != wanted[row]
        room, gain = margins[row][others], gains[wanted[row]][others]
        if len(room) and np.all(room > 0):
            with np.errstate(divide="ignore"):
                result[row] = max(float(np.min(np.nextafter(room / gain, -np.inf))), 0.0)
    return result


def _gains(rows: Rows, report: ImplicitReport, q: int) -> tuple[np.ndarray, np.ndarray]:
    """Proved gains of y_i - y_j, shape (q, q): from l_inf and from l2. Infinite where there is none."""
    certificate = report.certificate
    assert certificate is not None
    largest, euclidean = report.best(LARGEST), report.best(EUCLIDEAN)
    # |dy_i - dy_j| is at most twice the largest |dy_k|, and at most sqrt(2) |dy|_2.
    linf = np.full((q, q), np.inf if largest is None else 2 * largest.value)
    l2 = np.full((q, q), np.inf if euclidean is None else euclidean.value * math.sqrt(2) * (1 + 1e-15))
    linf = np.minimum(linf, l2 * math.sqrt(rows.input_size) * (1 + 1e-15))
    if certificate.outputs is not None:
        # What the inequality of each output says of it: the square root of the sum of its bounds per input.
        single = np.array([math.sqrt(math.nextafter(math.fsum(t.tolist()), math.inf))
                           for t in certificate.outputs.inputs])
        linf = np.minimum(linf, (single[:, None] + single) * (1 + 1e-15))
    plain = plain_network(rows)
    layer = rows.loops[0]
    if plain is not None and certificate.largest is not None and np.all((layer.lower >= 0) & (layer.upper <= 1)):
        pairs = pairwise_gains(*plain, certificate.largest.bounds[0])
        linf = linf if pairs is None else np.minimum(linf, pairs)
    return linf, l2


def _reachability(graph: Graph, rows: Rows, notes: list[str]) -> Reachability | None:
    """Mixed monotonicity, where the network is x = s(A x + B u + b), y = C x + c with weights as they are stored."""
    plain, offsets = plain_network(rows), _offsets(graph, rows)
    if plain is None or offsets is None:
        notes.append("No boxes: they need a network x = s(A x + B u + b), y = C x + c without layers beside, such as a "
                     "normalisation of the input.")
        return None
    layer = graph.layer(rows.loops[0].node)
    assert isinstance(layer, FixedPoint)
    A, B, C = plain
    try:
        return Reachability(A, B, offsets[0], C, offsets[1], layer.activation)
    except ValueError as error:
        notes.append(f"No boxes: {error}")
        return None


def _offsets(graph: Graph, rows: Rows) -> tuple[np.ndarray, np.ndarray] | None:
    """b and c as exact float64 numbers; None where they are none, as what is beside them rounds."""
    if len(rows.loops) != 1:
        return None
    node = rows.loops[0].node
    with precision(_BITS):
        values: dict[str, Array] = {graph.input: BALLS.constant(np.zeros((1, *graph.shape(graph.input))))}
        for other in graph.order[1:]:
            if other == node:
                values[other] = BALLS.constant(np.zeros((1, *graph.shape(node))))
            else:
                sources = (values[name] for name in graph.inputs(other))
                values[other] = graph.layer(other).forward(*sources, arithmetic=BALLS)
        found = [np.ravel(values[name]) for name in (graph.inputs(node)[0], graph.output)]
        if not all(ball.is_exact() and arb(float(ball)) == ball for array in found for ball in array):
            return None
        b, c = (np.array([float(ball) for ball in array]) for array in found)
        return b, c


def _joined(look: _Look, parts: list[_Part], courses: dict[str, tuple[Iteration, ...]], samples: Samples,
            radius: float | None, notes: tuple[str, ...], seconds: float) -> InputReport:
    def joined(get: Callable[[_Part], np.ndarray]) -> np.ndarray:
        return np.concatenate([get(part) for part in parts])

    def boxes(get: Callable[[_Part], Boxes]) -> Boxes:
        return Boxes(joined(lambda part: get(part).lower), joined(lambda part: get(part).upper))

    layers = tuple(
        LayerSolutions(node, WEIGHTED_NORM if found.proof.norm is not None else EUCLIDEAN_NORM,
                       np.concatenate([part.distances[node] for part in parts]), courses.get(node, ()))
        for node, (_, found) in look.loops.items())
    classes, boxed = joined(lambda part: part.classes), joined(lambda part: part.boxed)
    return InputReport(
        looked_at=len(classes), asked=len(samples.inputs), layers=layers, outputs=boxes(lambda part: part.outputs),
        classes=classes, labels=None if samples.labels is None else samples.labels[: len(classes)], radius=radius,
        boxes=boxes(lambda part: part.boxes) if np.any(boxed) else None, boxed=boxed,
        radii_linf=joined(lambda part: part.radii_linf), radii_l2=joined(lambda part: part.radii_l2), seconds=seconds,
        notes=notes)
