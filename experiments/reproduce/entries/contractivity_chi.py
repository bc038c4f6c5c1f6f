"""The slope interval chi = [m, 1] that keeps mu(D A) <= 0, for examples of matrices A, by all methods."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from netgain.layers import Affine, LeakyRelu, sequential
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.result import Limits
from netgain.verify import contractivity
from netgain.verify.contractivity.contract import CUTTING_PLANES, METHODS, contract

from ...data import sha256
from ..context import Context
from ..published import load_published
from ..registry import Entry, Needs
from ..table import Axis, Cell, Column, Figure, Kind, Series, Shape, Source, Table

NAME = "contractivity-chi"
_LOWER_SLOPE = 0.1
# Of the example whose worst logarithmic norm is drawn over the least slope.
_GRID = tuple(k / 10 for k in range(11))
_LARGEST_CUT = 6
_COLUMNS = (
    Column("example", Kind.LABEL),
    Column("n", Kind.VALUE),
    Column("mu gradient", Kind.VALUE, proved=False),
    Column("mu reached", Kind.LOWER, proved=True),
    Column("mu certified", Kind.UPPER, proved=True),
    Column("mu semidefinite", Kind.UPPER, proved=True),
    Column("mu norm bound", Kind.UPPER, proved=False),
    Column("m gradient", Kind.VALUE, proved=False),
    Column("m not below", Kind.LOWER, proved=False),
    Column("m certified", Kind.UPPER, proved=True),
    Column("m semidefinite", Kind.UPPER, proved=True),
    *(Column(f"distance, {method}", Kind.UPPER, proved=True) for method in METHODS),
    Column("seconds", Kind.SECONDS, "s"),
)


def examples(seed: int) -> dict[str, np.ndarray]:
    """The matrices A by name, all with mu(A) < 0; random ones are drawn from the seed."""
    first = np.array([-1, 0.8, 0.4, 0, 0, -0.6])
    second_difference = np.diag(np.full(6, -2.0)) + np.diag(np.ones(5), 1) + np.diag(np.ones(5), -1)
    found = {
        "three neurons": np.array([[-1, 2, 0], [0, -1, 1.5], [-1, 0, -0.5]]) - 0.9 * np.eye(3),
        "rotation": np.array([[-0.3, 2], [-2, -0.3]]),
        "convolution": np.array([np.roll(first, k) for k in range(6)]),
        "second difference": second_difference,
    }
    rng = np.random.default_rng(seed)
    for n in (5, 10, 20):
        A = rng.standard_normal((n, n)) / math.sqrt(n)
        found[f"random {n}"] = A - (np.linalg.eigvalsh((A + A.T) / 2)[-1] + 0.3) * np.eye(n)
    return found


def run(context: Context) -> Table:
    """All bounds of every example, and the nearest weights that are contractive for all slopes in [0.1, 1]."""
    published = load_published(NAME)
    rows: list[list[Cell]] = []
    matrices = examples(context.request.seed)
    for name, A in matrices.items():
        found = _bounds(context, name, A)
        near = _nearest(context, name, A)
        rows.append([name, len(A), *(None if found is None else found[column.name] for column in _COLUMNS[2:11]),
                     *(None if near is None else near[method] for method in METHODS),
                     None if found is None else found["seconds"]])
    curve = {m: _bounds(context, f"three neurons, slopes from {m:g}", matrices["three neurons"], m) for m in _GRID}
    notes = [
        published.unavailable,
        f"mu: the largest logarithmic norm of D A over slopes in [{_LOWER_SLOPE:g}, 1]; reached by some slopes, "
        "certified by branch and bound. m: the least number such that mu(D A) <= 0 for slopes in [m, 1]. gradient: the "
        "gradient system of the paper ends in local maxima, so its mu can be too small and its m too optimistic.",
        f"distance: |A' - A| in the Frobenius norm to weights proved to keep mu <= 0 for slopes in "
        f"[{_LOWER_SLOPE:g}, 1]; cutting planes are left out above {_LARGEST_CUT} neurons.",
    ]
    wrong = [str(row[0]) for row in rows if _signs_differ(row)]
    if wrong:
        notes.append(f"The gradient system says contractive, and some slopes are not: {', '.join(wrong)}.")
    return Table(NAME, ENTRY.title, ENTRY.source, context.made((context.request.seed,)), _COLUMNS, rows,
                 published.deviations(_COLUMNS, rows), [*notes, *context.notes], [_intervals(rows), _curve(curve)])


def _signs_differ(row: list[Cell]) -> bool:
    gradient, reached = row[2], row[3]
    return isinstance(gradient, float) and isinstance(reached, float) and gradient <= 0 < reached


def _bounds(context: Context, name: str, A: np.ndarray, lower: float = _LOWER_SLOPE) -> dict[str, Any] | None:
    def compute() -> dict[str, Any]:
        report = contractivity(SlopeField(A, lower), 0.0, name=name, limits=Limits(time_limit=60))
        worst, m = report.worst, report.intervals
        values = (worst.gradient, worst.lower, worst.upper, worst.semidefinite, worst.norm_product,
                  m.gradient, m.low, m.high, m.semidefinite)
        return {column.name: value if value is not None and math.isfinite(value) else None
                for column, value in zip(_COLUMNS[2:11], values, strict=True)} | {
                    "seconds": sum(report.seconds.values())}

    found: dict[str, Any] | None = context.job(name, {"A": _digest(A), "lower": lower}, compute)
    return found


def _nearest(context: Context, name: str, A: np.ndarray) -> dict[str, float | None] | None:
    methods = tuple(method for method in METHODS if method != CUTTING_PLANES or len(A) <= _LARGEST_CUT)

    def compute() -> dict[str, float | None]:
        graph = sequential((len(A),), [Affine(A, np.zeros(len(A))), LeakyRelu(_LOWER_SLOPE)], name)
        report = contract(graph, 0.0, methods=methods, limits=Limits(time_limit=60))
        distances = {result.method: result.distance for result in report.results if result.proved}
        return {method: distances.get(method) for method in METHODS}

    inputs = {"A": _digest(A), "lower": _LOWER_SLOPE, "methods": list(methods)}
    found: dict[str, float | None] | None = context.job(f"{name}, nearest weights", inputs, compute)
    return found


def _digest(A: np.ndarray) -> str:
    return sha256(np.ascontiguousarray(A, dtype="<f8").tobytes())


def _intervals(rows: list[list[Cell]]) -> Figure:
    names = [str(row[0]) for row in rows]
    places = {column.name: place for place, column in enumerate(_COLUMNS)}
    series = []
    for label in ("m gradient", "m certified", "m semidefinite"):
        lows = [float(row[places[label]]) if isinstance(row[places[label]], float) else None  # type: ignore[arg-type]
                for row in rows]
        ends = [None if low is None else 1.0 for low in lows]
        series.append(Series(f"chi, {label[2:]}", Shape.INTERVALS, names, lows, lows, ends))
    return Figure("The slopes that keep the logarithmic norm below 0", Axis("example"), Axis("slopes"), series)


def _curve(curve: Mapping[float, Mapping[str, Any] | None]) -> Figure:
    series = [Series(label, Shape.LINE, list(curve), [None if found is None else found[label]
                                                      for found in curve.values()])
              for label in ("mu gradient", "mu certified", "mu semidefinite", "mu norm bound")]
    return Figure("Three neurons: the worst logarithmic norm over slopes in [m, 1]", Axis("m"),
                  Axis("logarithmic norm"), series)


ENTRY = Entry(
    NAME, "Contractivity: slope intervals of examples, by gradient system, branch and bound, semidefinite programming",
    Source("Guglielmi, De Marinis, Savostianov, Tudisco: Contractivity of neural ODEs: an eigenvalue optimization "
           "problem", "2402.13092", "numerical examples of the interval chi"),
    Needs(minutes=1, memory=0.5), run=run)
