"""Convergence of fixed-point iterations: the length of each step beside what is guaranteed of it."""

import dataclasses
import math
from collections.abc import Sequence

from .content import Figure
from .drawing import drawable
from .lines_figure import Axis, Curve, lines_figure

_SERIES = 6


@dataclasses.dataclass(frozen=True)
class Convergence:
    """One iteration: pairs of iteration and length of the step; `guaranteed`: the factor from one step to the next."""

    label: str
    course: Sequence[tuple[float, float]]
    guaranteed: float | None


def convergence_figure(identifier: str, title: str, iterations: Sequence[Convergence]) -> Figure | None:
    """Steps over iterations on a logarithmic scale, with a dashed line for each guaranteed factor; None without any."""
    shown = [iteration for iteration in iterations
             if len(iteration.course) > 1 and drawable(length for _, length in iteration.course)]
    if not shown:
        return None
    ends = [iteration.course[-1][0] for iteration in shown]
    # A method that does not converge would squeeze all others into a corner.
    last = 2 * sorted(ends)[(len(ends) - 1) // 2]
    curves = []
    for number, iteration in enumerate(shown):
        course = [(k, length) for k, length in iteration.course if k <= last and length > 0]
        colour = f"series-{number % _SERIES + 1}"
        curves.append(Curve(iteration.label, [k for k, _ in course], [length for _, length in course], colour))
        if iteration.guaranteed is not None and 0 < iteration.guaranteed < 1 and course:
            (first, start), smallest = course[0], min(length for _, length in course)
            # Straight on a logarithmic scale, as far as the picture goes.
            steps = min(course[-1][0] - first, math.log(smallest / start) / math.log(iteration.guaranteed))
            end = start * iteration.guaranteed**steps
            curves.append(Curve("", [first, first + steps], [start, end], colour, dashed=True))
    description = "; ".join(f"{iteration.label}: {iteration.course[-1][0]:g} iterations" for iteration in shown)
    return lines_figure(identifier, title, description, Axis("iteration", False), Axis("length of the step", True),
                        curves)
