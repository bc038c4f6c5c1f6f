"""What proofs on implicit networks cost: random ones in the parametrisation of NEMON, with 784 inputs and 10 outputs.

Two questions: the l_inf analysis (weights eta, the logarithmic norm proved, the l_inf gain proved by a bound on every
neuron) and the l2 gain by the matrix inequality, solved and proved. One thread of BLAS, seconds of the processor.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable

import numpy as np
import rich.box
import rich.table
from netgain.layers import Affine, FixedPoint, Graph, Relu, sequential
from netgain.solvers.implicit.state_bound import state_bound
from netgain.solvers.implicit.weighted_log_norm import SlopeBox, least_log_norm
from netgain.solvers.result import Limits
from netgain.verify.balls import BALLS, precision
from netgain.verify.constraints import constraint_rows
from netgain.verify.implicit.state_bound_check import proved_output_bound
from netgain.verify.implicit.weighted_log_norm_check import proves_log_norm
from netgain.verify.lipschitz import lipschitz
from netgain.verify.rounding import rounded_up
from threadpoolctl import threadpool_limits

LARGEST_NORM, EUCLIDEAN_NORM = "l_inf analysis", "l2 inequality"
SIZES = {LARGEST_NORM: (100, 300, 1000), EUCLIDEAN_NORM: (100, 300)}
_INPUTS, _OUTPUTS = 784, 10
_BITS = 128


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One question on a network of so many neurons.

    **Attributes:** `log_norm`: the least mu_eta(A), proved, None if it was not asked for; `gain`: proved; `seconds`: of
    the processor.
    """

    question: str
    neurons: int
    log_norm: float | None
    gain: float
    seconds: float


def random_network(neurons: int, seed: int = 0) -> Graph:
    """A = T - diag(|T| 1), so that mu_1(A) <= 0, with uniform entries scaled by the root of how many are added up."""
    rng = np.random.default_rng(seed)

    def uniform(rows: int, columns: int) -> np.ndarray:
        return np.asarray(rng.uniform(-1, 1, (rows, columns)) / np.sqrt(columns))

    T = uniform(neurons, neurons)
    A, B, C = T - np.diag(np.abs(T).sum(axis=1)), uniform(neurons, _INPUTS), uniform(_OUTPUTS, neurons)
    return sequential((_INPUTS,), [Affine(B), FixedPoint(Affine(A), Relu()), Affine(C)], f"random, n = {neurons}")


def largest_norm(graph: Graph) -> tuple[float, float]:
    """The least logarithmic norm over weights, and the l_inf gain by the M-matrix, both proved.

    **Raises:** `RuntimeError` if something is not proved.
    """
    with precision(_BITS):
        rows = constraint_rows(graph, BALLS, in_double=True)
    layer, B = rows.loops[0], np.asarray(rows.loops[0].maps[0])
    assert layer.loop is not None
    slopes = SlopeBox(layer.lower, layer.upper)
    found = least_log_norm(layer.loop, slopes)
    log_norm = found.value + 1e-11 * (1 + float(np.abs(np.diagonal(layer.loop)).max()))
    bound = state_bound(layer.loop, slopes, np.abs(B).sum(axis=1) * (1 + 1e-8))
    gain = None if bound is None else proved_output_bound(rows, (bound,))
    if gain is None or not proves_log_norm(layer.loop, found.weights, layer.lower, layer.upper, log_norm):
        raise RuntimeError(f"{graph.name}: the l_inf analysis proves nothing.")
    return log_norm, gain[0]


def measure(question: str, neurons: int, tolerance: float = Limits.tolerance, seed: int = 0) -> Measurement:
    """One measurement.

    **Raises:** `RuntimeError` if nothing is proved.
    """
    graph = random_network(neurons, seed)
    with threadpool_limits(limits=1, user_api="blas"):
        begin = time.process_time()
        if question == LARGEST_NORM:
            log_norm, gain = largest_norm(graph)
            return Measurement(question, neurons, log_norm, gain, time.process_time() - begin)
        report = lipschitz(graph, limits=Limits(tolerance=tolerance), lower_bounds=False)
        if not report.proved:
            raise RuntimeError(f"{graph.name}: the l2 gain is not proved: {'; '.join(report.notes)}")
        return Measurement(question, neurons, None, report.upper, time.process_time() - begin)


def measurements(tell: Callable[[Measurement], None], largest: int) -> list[Measurement]:
    """All of `SIZES` up to so many neurons; `tell` hears of each at once."""
    found = []
    for question, sizes in SIZES.items():
        for neurons in (size for size in sizes if size <= largest):
            found.append(measure(question, neurons))
            tell(found[-1])
    return found


def costs(rows: Iterable[Measurement]) -> rich.table.Table:
    """The measurements as a table for the terminal."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("question", no_wrap=True)
    for heading in ("neurons", "mu, proved", "gain, proved", "processor (s)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        log_norm = "-" if row.log_norm is None else rounded_up(row.log_norm, 6)
        table.add_row(row.question, str(row.neurons), log_norm, rounded_up(row.gain, 6), f"{row.seconds:.3g}")
    return table
