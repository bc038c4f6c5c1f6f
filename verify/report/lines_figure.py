"""Curves over a common axis: bounds over depth, convergence of iterations, series of reproduced tables."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from .content import Figure
from .drawing import COLOURS, SERIES, drawn, is_wide, label_of, plain_ticks

_STYLES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LEGEND_ROW = 15


@dataclasses.dataclass(frozen=True)
class Curve:
    """Points joined by lines; None leaves a gap.

    **Attributes:** `label`: empty for a curve that is explained by others; `colour`: a name of `drawing.COLOURS`, by
    default the next of the series; `dashed`: for what is not measured or proved but compared with; `marked`: whether
    points are shown; `low`, `high`: intervals around them.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: str | None = None
    dashed: bool = False
    marked: bool = False
    joined: bool = True
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


@dataclasses.dataclass(frozen=True)
class Axis:
    """`logarithmic`: None where the values decide; `ticks`: the only values marked, if there are any; `labels`: names
    of the values 0, 1, ... where they stand for something else."""

    label: str
    logarithmic: bool | None = None
    ticks: Sequence[float] = ()
    labels: Sequence[str] = ()


def lines_figure(identifier: str, title: str, description: str, x_axis: Axis, y_axis: Axis, curves: Sequence[Curve],
                 levels: Sequence[tuple[str, float, str]] = (), height: float = 230) -> Figure | None:
    """The curves that have points; None where none has. `levels`: label, value and colour of horizontal lines."""
    known = [curve for curve in curves if any(value is not None for value in curve.y)]
    if not known:
        return None

    def paint(axes: Any) -> None:
        for number, curve in enumerate(known):
            _draw(axes, number, curve)
        for label, value, colour in levels:
            axes.axhline(value, color=COLOURS[colour], linewidth=1.2, linestyle=(0, (2, 2)), label=label_of(label))
        xs = [value for curve in known for value in curve.x]
        ys = [value for curve in known for value in curve.y if value is not None] + [value for _, value, _ in levels]
        for axis, values, setting, setter in ((axes.xaxis, xs, x_axis, axes.set_xscale),
                                              (axes.yaxis, ys, y_axis, axes.set_yscale)):
            wide = is_wide(values, 12) if setting.logarithmic is None else setting.logarithmic
            # What is not positive has no place on a logarithmic scale, and must not vanish.
            if wide and min(values) > 0:
                setter("log")
            elif not setting.ticks and all(float(value).is_integer() for value in values) and axis is axes.xaxis:
                axis.get_major_locator().set_params(integer=True)
        for axis in (axes.xaxis, axes.yaxis):
            plain_ticks(axis)
        if x_axis.ticks:
            axes.set_xticks(list(x_axis.ticks))
        if x_axis.labels:
            slanted = {"rotation": 35, "ha": "right"} if sum(map(len, x_axis.labels)) > 40 else {}
            axes.set_xticks(range(len(x_axis.labels)), [label_of(label) for label in x_axis.labels], **slanted)
        axes.set_xlabel(label_of(x_axis.label))
        axes.set_ylabel(label_of(y_axis.label))
        axes.grid()
        axes.set_axisbelow(True)
        if entries > 1:
            axes.figure.legend(loc="outside lower left", handlelength=2.6, borderaxespad=0.2, labelspacing=0.35)

    entries = sum(bool(curve.label) for curve in known) + len(levels)
    return drawn(identifier, title, description, height + (_LEGEND_ROW * entries if entries > 1 else 0), paint)


def _draw(axes: Any, number: int, curve: Curve) -> None:
    colour = COLOURS[curve.colour] if curve.colour else SERIES[number % len(SERIES)]
    repeated = 0 if curve.colour else number // len(SERIES) % len(_STYLES)
    style = (0, (4, 3)) if curve.dashed else _STYLES[repeated]
    nothing = float("nan")
    values = [nothing if value is None else value for value in curve.y]
    axes.plot(list(curve.x), values, color=colour, linestyle=style if curve.joined else "none",
              marker=_MARKERS[number % len(_MARKERS)] if curve.marked else None, markersize=5,
              linewidth=1.1 if curve.dashed else 1.8, label=label_of(curve.label) or None)
    for x, low, high in zip(curve.x, curve.low, curve.high, strict=False):
        if low is not None and high is not None:
            axes.plot([x, x], [low, high], color=colour, linewidth=3, alpha=0.45, solid_capstyle="butt")
