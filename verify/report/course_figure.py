"""Bound against time: what an interrupted solve would have given, second by second."""

from collections.abc import Sequence
from typing import Any

from .content import Figure
from .drawing import COLOURS, drawable, drawn, is_wide, plain_ticks


def course_figure(identifier: str, title: str, course: Sequence[tuple[float, float | None, float | None]],
                  certified: float | None, witness: float | None) -> Figure | None:
    """The course of a solve over the seconds: (seconds, bound, dual bound) line by line; None for less than two lines.

    **Arguments:** `certified`, `witness`: what was proved in the end, from above and below.
    """
    upper = [(seconds, bound) for seconds, bound, _ in course if bound is not None]
    lower = [(seconds, dual) for seconds, _, dual in course if dual is not None and dual > 0]
    if len(upper) < 2 or not drawable([*(bound for _, bound in (*upper, *lower)), certified, witness]):
        return None
    description = (f"From {upper[0][1]:.6g} at the start to {upper[-1][1]:.6g} after {upper[-1][0]:.3g} seconds, "
                   f"{len(course)} points.")

    def paint(axes: Any) -> None:
        axes.step(*zip(*upper, strict=True), where="post", color=COLOURS["upper"], label="bound so far")
        if len(lower) > 1:
            axes.step(*zip(*lower, strict=True), where="post", color=COLOURS["muted"], linestyle=(0, (5, 2)),
                      label="no multipliers give less")
        if certified is not None:
            axes.axhline(certified, color=COLOURS["upper"], linewidth=1, linestyle=":", label="certified in the end")
        if witness is not None and witness > 0:
            axes.axhline(witness, color=COLOURS["lower"], linewidth=1, linestyle="-.", label="witness")
        shown = [value for _, value in upper] + [value for value in (certified, witness) if value]
        # The dual bound starts at nothing; what it has to say is where the two meet.
        low, high = min(shown), max(shown)
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        if is_wide(shown, 8):
            axes.set_yscale("log")
            axes.set_ylim(low / 1.3, high * 1.15)
        else:
            axes.set_ylim(low - 2 * margin, high + margin)
        axes.set_xlim(left=0)
        plain_ticks(axes.yaxis)
        axes.set_xlabel("seconds of the solve")
        axes.set_ylabel("bound")
        axes.grid()
        axes.set_axisbelow(True)
        axes.legend(loc="upper right")

    return drawn(identifier, title, description, 230, paint)
