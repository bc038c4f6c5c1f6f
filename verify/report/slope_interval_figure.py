"""Slope intervals of neural ODEs: for slopes in [m, high] the flow keeps its level, as each method has it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ..rounding import rounded_down, rounded_up
from .content import Figure
from .drawing import COLOURS, drawable, drawn, label_of

_ROW, _MARGIN = 36, 58


@dataclasses.dataclass(frozen=True)
class SlopeInterval:
    """[m, high]. `proved`: whether it is proved to keep the level; otherwise it is only suggested."""

    label: str
    m: float
    high: float
    proved: bool

    @property
    def text(self) -> str:
        """The interval, rounded to the side on which a proof stays true."""
        return f"[{rounded_up(self.m, 5)}, {rounded_down(self.high, 5)}]"


def slope_interval_figure(identifier: str, title: str, intervals: Sequence[SlopeInterval]) -> Figure | None:
    """A bar for each interval, the proved ones filled; None without any."""
    if not intervals or not drawable(end for interval in intervals for end in (interval.m, interval.high)):
        return None
    description = "; ".join(f"{interval.label}: {interval.text}{', proved' if interval.proved else ''}"
                            for interval in intervals)

    def paint(axes: Any) -> None:
        for row, interval in enumerate(intervals):
            colour = COLOURS["upper" if interval.proved else "loose"]
            axes.barh(row, interval.high - interval.m, left=interval.m, height=0.42, edgecolor=colour, linewidth=1.4,
                      facecolor=colour if interval.proved else "none", alpha=None,
                      linestyle="-" if interval.proved else (0, (3, 2)))
        labels = [f"{label_of(interval.label)}\n{interval.text}" for interval in intervals]
        axes.set_yticks(range(len(intervals)), labels, linespacing=1.25)
        axes.set_ylim(len(intervals) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.set_xlim(min(0.0, *(interval.m for interval in intervals)), max(interval.high for interval in intervals))
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("slopes of the activation")

    return drawn(identifier, title, description, _MARGIN + _ROW * len(intervals), paint)
