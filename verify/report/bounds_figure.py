"""The sandwich: all bounds on one number on one scale, with the interval that proved bounds leave."""

from collections.abc import Sequence
from typing import Any

from .content import Bound, Figure, Side
from .drawing import COLOURS, decimal_of, drawable, drawn, is_wide, label_of, plain_ticks

_ROW, _MARGIN = 25, 62
_MOST = 40
_LOOKS = {Side.UPPER: ("<", "upper"), Side.LOWER: (">", "lower"), Side.EXACT: ("D", "upper"),
          Side.LIMIT: ("|", "muted")}


def bounds_figure(identifier: str, title: str, symbol: str, bounds: Sequence[Bound], level: float | None = None
                  ) -> Figure | None:
    """The bounds from the largest down, each with its value; None where there are none, or none that can be drawn.

    Triangles point to where the quantity lies; filled ones are proved. **Arguments:** `symbol`: of the quantity;
    `level`: a number it is compared with.
    """
    if not bounds or not drawable(bound.value for bound in bounds):
        return None
    rows = sorted(bounds, key=lambda bound: bound.value, reverse=True)[:_MOST]
    low, high = interval(bounds)
    description = f"{len(bounds)} bounds of {symbol}."
    if low is not None and high is not None and low <= high:
        description += f" Proved: it lies between {decimal_of(Bound('', low, Side.LOWER, True))} and " \
                       f"{decimal_of(Bound('', high, Side.UPPER, True))}."

    distant = _distant(rows, level)

    def paint(axes: Any) -> None:
        values = [bound.value for bound in rows if bound not in distant] + ([] if level is None else [level])
        if is_wide(values, 6):
            axes.set_xscale("log")
        elif _spread(values):
            # Values near zero of both signs stay apart although others are far away.
            axes.set_xscale("asinh", linear_width=_spread(values))
        if low is not None and high is not None and low <= high:
            axes.axvspan(low, high, color=COLOURS["band"], linewidth=0, zorder=0)
            axes.axvline(low, color=COLOURS["lower"], linewidth=0.8, zorder=1)
            axes.axvline(high, color=COLOURS["upper"], linewidth=0.8, zorder=1)
        if level is not None:
            axes.axvline(level, color=COLOURS["muted"], linestyle=(0, (4, 3)), linewidth=1, zorder=1)
        for row, bound in enumerate(rows):
            if bound in distant:
                axes.annotate("", (1.0, row), (0.93, row), xycoords=("axes fraction", "data"),
                              arrowprops={"arrowstyle": "->", "color": COLOURS["loose"], "linewidth": 1.6})
                continue
            marker, colour = _LOOKS[bound.side]
            colour = COLOURS["loose" if bound.loose else colour]
            axes.plot(bound.value, row, marker, color=colour, markeredgecolor=colour, markersize=8, zorder=3,
                      markerfacecolor=colour if bound.proved else "none", markeredgewidth=1.4)
        off = [", off the scale" if bound in distant else "" for bound in rows]
        labels = [f"{label_of(bound.label)}{far}\n{decimal_of(bound)}" for bound, far in zip(rows, off, strict=True)]
        axes.set_yticks(range(len(rows)), labels, linespacing=1.25)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.margins(x=0.08)
        axes.autoscale_view()
        _ticks(axes)
        axes.set_xlabel(symbol)

    return drawn(identifier, title, description, _MARGIN + (_ROW + 11) * len(rows), paint)


def interval(bounds: Sequence[Bound]) -> tuple[float | None, float | None]:
    """The largest proved lower bound and the least proved upper bound; None where there is none."""
    low = [bound.value for bound in bounds if bound.proved and bound.side in (Side.LOWER, Side.EXACT)]
    high = [bound.value for bound in bounds if bound.proved and bound.side in (Side.UPPER, Side.EXACT)]
    return max(low, default=None), min(high, default=None)


def _distant(rows: Sequence[Bound], level: float | None) -> list[Bound]:
    """Coarse bounds so large that the others would coincide beside them."""
    others = [bound.value for bound in rows if not bound.loose] + ([] if level is None else [level])
    if len(set(others)) < 2:
        return []
    low, high = min(others), max(others)
    return [bound for bound in rows if bound.loose and bound.value > high + 4 * (high - low)]


def _spread(values: Sequence[float]) -> float:
    """The size of most of the values if one of them is far beyond it; else 0."""
    sizes = sorted(abs(value) for value in values if value)
    if len(sizes) < 3 or sizes[-1] < 30 * sizes[len(sizes) // 2]:
        return 0.0
    return sizes[len(sizes) // 2]


def _ticks(axes: Any) -> None:
    from matplotlib.ticker import FixedLocator

    plain_ticks(axes.xaxis)
    if axes.get_xscale() == "asinh":
        low, high = sorted(axes.get_xlim())
        width = axes.xaxis.get_transform().linear_width
        powers = [10.0**k for k in range(-12, 13) if 10.0**k >= 2 * width]
        ticks = [sign * power for sign in (-1, 1) for power in powers if low <= sign * power <= high]
        axes.xaxis.set_major_locator(FixedLocator(sorted({0.0, *ticks[:: max(1, len(ticks) // 4)]})))
    elif axes.get_xscale() == "linear":
        axes.locator_params(axis="x", nbins=5)
