"""`compare` for feedforward networks: every mode, the closed form, the slope system and a witness side by side."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

from netgain import layers
from netgain.layers import Graph
from netgain.layers.formats import READERS
from netgain.solvers.result import Limits, Status
from threadpoolctl import threadpool_limits

from .comparison import (
    Comparison,
    ComparisonRequest,
    Finding,
    Kind,
    Order,
    Row,
    Side,
    crossings,
    out_of_order,
)
from .lipschitz import best_witness, lipschitz, slope_system
from .lower_bound import UndecidedError
from .memory import TooLargeError, gibibytes
from .mode import Mode
from .modes import Prediction, predictions
from .neuron import Neuron, unrolled
from .terminal import duration_text

LIPSCHITZ, GAIN = "L", "S"
WITNESS, SLOPES = "witness", "slope system"
CLOSED_FORM, NORM_PRODUCT = "closed form", "norm product"
_INPUTS, _FREE = "inputs", "free slopes"
# What the dual bound of a mode, the slope system and the bounds themselves may differ by through rounding.
_SLACK = 1e-5

_LEFT_OUT = "The slope system missed slopes that inputs do bring about: its search ended in local maxima."
_ORDERS = (
    Order(WITNESS, SLOPES, _LEFT_OUT),
    Order(Mode.NEURON.value, Mode.SPECTRAL.value, "Multipliers of single neurons include those shared by channels: "
                                                  "the solver of `neuron` stopped early."),
    Order(Mode.SPECTRAL.value, Mode.ROESSER.value, "Expected, but no law: the two treat the border of the image "
                                                   "differently. Both are sound."),
    Order(Mode.NEURON.value, Mode.ROESSER.value, "Multipliers of single neurons include those shared by channels: the "
                                                 "solver of `neuron` stopped early."),
    Order(Mode.NEURON.value, CLOSED_FORM, "The closed form is one choice of multipliers: the solver stopped early."),
)


def compare_network(
    graph: Graph, request: ComparisonRequest, on_stage: Callable[[str], None] = lambda stage: None
) -> Comparison:
    """All bounds on the l2 Lipschitz constant of a network, in order from below to above.

    Each mode that is predicted to be done gets an equal share of the time that is left.

    **Raises:** `ModelError` if the graph has a layer without an incremental constraint.
    """
    begin = time.perf_counter()
    predicted = predictions(graph)
    waiting = sum(prediction.fits for prediction in predicted)
    upper: list[Row] = []
    neuron = None
    with threadpool_limits(limits=1, user_api="blas"):
        for prediction in predicted:
            # The search from below is given a quarter of all.
            left = 0.75 * request.time_limit - (time.perf_counter() - begin)
            share = max(left, 1e-1) / max(waiting, 1)
            waiting -= prediction.fits
            if not prediction.fits or prediction.seconds > share:
                upper.append(_not_run(prediction, share))
                continue
            on_stage(f"solving in the mode {prediction.mode.value}")
            try:
                upper.append(_mode_row(graph, prediction.mode, share))
            except KeyboardInterrupt:
                upper.append(Row(prediction.mode.value, LIPSCHITZ, prediction.mode.value, None, Side.UPPER, False, None,
                                 "interrupted"))
        if predicted[0].fits:
            neuron = unrolled(graph)
            upper += _composed(graph, neuron)
        on_stage("searching witnesses")
        left = max(request.time_limit - (time.perf_counter() - begin), 1e-1)
        lower = _lower_rows(graph, neuron, request.seed, min(left, 0.25 * request.time_limit))
    rows = (*lower, *upper)
    inputs, outputs = (math.prod(graph.shape(node)) for node in (graph.input, graph.output))
    return Comparison(
        graph.name,
        f"f from R^{inputs} to R^{outputs}",
        {LIPSCHITZ: "the least number with |f(x) - f(x')| <= L |x - x'| for all inputs x, x', Euclidean norms",
         GAIN: "the largest gain that slopes of the activations give, chosen freely in their intervals; L <= S, and "
               "nothing below S can be proved from slopes alone"},
        rows,
        tuple(findings(rows)),
    )


def findings(rows: tuple[Row, ...]) -> list[Finding]:
    """All disagreements, from the rows alone.

    What multipliers prove of L they prove of S too, and a witness of L is one of S, so that all can be put in one
    order.
    """
    slack = _SLACK * min((row.value for row in rows if row.value and row.side is Side.UPPER and row.proved),
                         default=0.0)
    of_slopes = [dataclasses.replace(row, quantity=GAIN) for row in rows]
    found = [*crossings(rows, slack), *crossings([row for row in of_slopes if row.method != WITNESS], slack)]
    return list(dict.fromkeys([*found, *out_of_order(of_slopes, _ORDERS, slack)]))


def _not_run(prediction: Prediction, share: float) -> Row:
    if prediction.obstacle:
        why = prediction.obstacle
    elif not prediction.fits:
        why = f"not run: predicted to need {gibibytes(prediction.memory)}, more than is free"
    else:
        why = (f"not run: predicted to take {duration_text(prediction.seconds)} for {prediction.multipliers} "
               f"multipliers, more than its share of {duration_text(share)}; --time-limit raises it")
    return Row(prediction.mode.value, LIPSCHITZ, prediction.mode.value, None, Side.UPPER, False, None, why)


def _mode_row(graph: Graph, mode: Mode, time_limit: float) -> Row:
    begin = time.perf_counter()
    try:
        report = lipschitz(graph, limits=Limits(time_limit=time_limit), mode=mode, lower_bounds=False)
    except TooLargeError as error:
        return Row(mode.value, LIPSCHITZ, mode.value, None, Side.UPPER, False, time.perf_counter() - begin, str(error))
    seconds, notes = time.perf_counter() - begin, list(report.notes)
    if report.solution.status not in (Status.OPTIMAL, Status.CLOSED_FORM):
        notes.insert(0, report.solution.status.value)
    if report.solution.dual_bound > 0:
        notes.insert(0, f"at best {report.solution.dual_bound:.7g}")
    value = report.upper if report.proved else None
    return Row(mode.value, LIPSCHITZ, mode.value, value, Side.UPPER, report.proved, seconds, "; ".join(notes))


def _composed(graph: Graph, neuron: Neuron) -> list[Row]:
    """What takes no solver: the closed form, proved, and the norm product, in floating point."""
    begin = time.perf_counter()
    proof = neuron.prove(neuron.closed_form())
    seconds = time.perf_counter() - begin
    rows = [Row(Mode.NEURON.value, LIPSCHITZ, CLOSED_FORM, proof.value if proof else None, Side.UPPER,
                proof is not None, seconds, "" if proof else "the checker does not prove it")]
    if math.isfinite(neuron.norm_product):
        rows.append(Row(Mode.NEURON.value, LIPSCHITZ, NORM_PRODUCT, neuron.norm_product, Side.UPPER, False))
    return rows


def _lower_rows(graph: Graph, neuron: Neuron | None, seed: int, time_limit: float) -> list[Row]:
    """The witness, near the slopes of the slope system where the network can be unrolled, and that system."""
    rows, wanted = [], None
    if neuron is None:
        rows.append(Row(_FREE, GAIN, SLOPES, None, Side.LOWER, False, None, "not run: unrolled, the network does "
                                                                                  "not fit"))
    else:
        begin = time.perf_counter()
        value, wanted = slope_system(neuron, seed, time_limit / 2)
        rows.append(Row(_FREE, GAIN, SLOPES, value, Side.LOWER, False, time.perf_counter() - begin,
                        "what multipliers cannot get below; L may"))
    begin = time.perf_counter()
    try:
        witness, note = best_witness(graph, wanted, seed, time_limit).ratio, "a pair of inputs"
    except UndecidedError as error:
        witness, note = None, str(error)
    rows.insert(0, Row(_INPUTS, LIPSCHITZ, WITNESS, witness, Side.LOWER, witness is not None,
                       time.perf_counter() - begin, note))
    return rows


def _recognises(path: Path) -> bool:
    return path.suffix.lower() in READERS


NETWORK = Kind(
    name="network",
    what="a feedforward network: .onnx, .mat, .nnet, or an .npz archive with W1, or layer1, ..",
    recognises=_recognises,
    load=layers.load,
    compare=compare_network,
    options=frozenset({"seed"}),
)
