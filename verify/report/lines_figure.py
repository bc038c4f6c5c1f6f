"""Curves over a common axis: bounds over depth, convergence of iterations, series of reproduced tables."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from .content import Figure
from .drawing import COLOURS, SERIES, drawable, drawn, is_wide, label_of, plain_ticks

_STYLES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LEGEND_ROW, _ROW, _MARGIN = 15, 22, 50


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
    """The curves that have points; None where none has, or numbers cannot be drawn.

    `levels`: label, value and colour of horizontal lines. Where x stands for names, these are written one below
    the other, and y runs to the right.
    """
    known = [curve for curve in curves if any(value is not None for value in curve.y)]
    numbers = [value for curve in known for value in (*curve.x, *curve.y, *curve.low, *curve.high)]
    if not known or not drawable([*numbers, *(value for _, value, _ in levels)]):
        return None
    entries = sum(bool(curve.label) for curve in known) + len(levels)

    def paint(axes: Any) -> None:
        for number, curve in enumerate(known):
            _draw(axes, number, curve, across=bool(x_axis.labels))
        for label, value, colour in levels:
            line = axes.axvline if x_axis.labels else axes.axhline
            line(value, color=COLOURS[colour], linewidth=1.2, linestyle=(0, (2, 2)), label=label_of(label))
        ys = [value for curve in known for value in curve.y if value is not None] + [value for _, value, _ in levels]
        if x_axis.labels:
            _scale(axes.xaxis, axes.set_xscale, ys, y_axis)
            axes.set_yticks(range(len(x_axis.labels)), [label_of(label) for label in x_axis.labels])
            axes.set_ylim(len(x_axis.labels) - 0.5, -0.5)
            axes.set_xlabel(label_of(y_axis.label))
        else:
            xs = [value for curve in known for value in curve.x]
            _scale(axes.xaxis, axes.set_xscale, xs, x_axis, whole=all(float(value).is_integer() for value in xs))
            _scale(axes.yaxis, axes.set_yscale, ys, y_axis)
            axes.set_xlabel(label_of(x_axis.label))
            axes.set_ylabel(label_of(y_axis.label))
        axes.grid()
        axes.set_axisbelow(True)
        if entries > 1:
            axes.figure.legend(loc="outside lower left", handlelength=2.6, borderaxespad=0.2, labelspacing=0.35)

    if x_axis.labels:
        height = _MARGIN + _ROW * len(x_axis.labels)
    return drawn(identifier, title, description, height + (_LEGEND_ROW * entries if entries > 1 else 0), paint)


def _scale(axis: Any, setter: Callable[[str], None], values: Sequence[float], setting: Axis, whole: bool = False
           ) -> None:
    """Logarithmic if asked for, or if the values call for it; what is not positive has no place there."""
    wide = is_wide(values, 12) if setting.logarithmic is None else setting.logarithmic
    if wide and min(values) > 0:
        setter("log")
    elif whole and not setting.ticks:
        axis.get_major_locator().set_params(integer=True)
    plain_ticks(axis)
    if setting.ticks:
        axis.set_ticks(list(setting.ticks))


def _draw(axes: Any, number: int, curve: Curve, across: bool) -> None:
    colour = COLOURS[curve.colour] if curve.colour else SERIES[number % len(SERIES)]
    repeated = 0 if curve.colour else number // len(SERIES) % len(_STYLES)
    style = (0, (4, 3)) if curve.dashed else _STYLES[repeated]
    values = [math.nan if value is None else value for value in curve.y]
    points = (values, list(curve.x)) if across else (list(curve.x), values)
    # Names have no order that a line could follow.
    axes.plot(*points, color=colour, linestyle=style if curve.joined and not across else "none",
              marker=_MARKERS[number % len(_MARKERS)] if curve.marked or across else None, markersize=5,
              linewidth=1.1 if curve.dashed else 1.8, label=label_of(curve.label) or None)
    for x, low, high in zip(curve.x, curve.low, curve.high, strict=False):
        if low is not None and high is not None:
            ends = ([low, high], [x, x]) if across else ([x, x], [low, high])
            axes.plot(*ends, color=colour, linewidth=3, alpha=0.45, solid_capstyle="butt")
