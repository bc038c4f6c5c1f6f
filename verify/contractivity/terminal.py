"""What a person sees of contractivity: bounds of the logarithmic norm, and the slopes for which it keeps a level."""

import math

from netgain.solvers.result import Status
from rich.console import Console
from rich.text import Text

from ..rounding import rounded_down, rounded_up
from ..terminal import arithmetic_text, duration_text, show_bound, show_line
from .check import LogNormVerdict
from .report import ContractivityReport, ContractivityVerdict, FieldCertificate


def show_contractivity(
    console: Console, report: ContractivityReport, activation_slopes: tuple[float, float], written: dict[str, str]
) -> None:
    """Bounds, verdict and slope intervals. `written`: what was written where, by what it is called."""
    field, worst, intervals = report.field, report.worst, report.intervals
    slopes = _slopes(field.lower, field.upper)
    _show_meaning(console, report.name, field.size, slopes)
    for label, value in (("norm bound", worst.norm_product), ("closed form", worst.closed_form)):
        if value < math.inf:
            show_bound(console, label, rounded_up(value), ">= mu; in floating point")
    if worst.search is not None and worst.semidefinite < math.inf:
        show_bound(console, "semidefinite", rounded_up(worst.semidefinite), ">= mu; proved")
    if report.certificate is not None:
        arithmetic = arithmetic_text(report.certificate.arithmetic)
        show_bound(console, "certified", rounded_up(worst.upper), f">= mu; proved in {arithmetic}", "bold green")
    else:
        show_line(console, "certified", "nothing: no multipliers were proved, mu may be any number", "bold red")
    show_bound(console, "worst slopes", rounded_down(worst.lower), "<= mu; proved: these slopes reach it", "bold")
    show_bound(console, "gradient", rounded_down(worst.gradient), "a local maximum, optimistic; floating point")
    verdict = report.verdict
    style = {ContractivityVerdict.CONTRACTIVE: "bold green", ContractivityVerdict.NOT_CONTRACTIVE: "bold red"}
    show_line(console, "level", f"mu <= {report.level!r}? {verdict.value}", style.get(verdict, "bold"))
    if report.gradient_is_wrong:
        show_line(console, "note", "The gradient system's verdict is wrong: its maximum keeps the level.")
    if report.log_gain is not None:
        gain = rounded_up(math.exp(report.log_gain) * (1 + 1e-12))
        show_bound(console, "flow map", gain, ">= its Lipschitz constant from the first to the last time; proved")
    console.print()
    console.print(Text(f"m: the least number such that slopes in [m, {field.upper:g}] keep mu <= {report.level!r}"))
    if worst.search is not None:
        _show_interval(console, "semidefinite", intervals.semidefinite, ">= m; proved")
    _show_interval(console, "certified", intervals.high, ">= m; proved", "bold green")
    if report.worst.search is not None and intervals.low is not None:
        show_bound(console, "not below", rounded_down(intervals.low), "<= m; floating point")
    if intervals.gradient is not None:
        show_bound(console, "gradient", rounded_down(intervals.gradient), "optimistic: local maxima only, not proved")
    else:
        show_bound(console, "gradient", "none", "not even slopes of one size keep the level")
    inside = field.lower <= activation_slopes[0] and activation_slopes[1] <= field.upper
    if not inside:
        show_line(console, "note", f"The activation's slopes reach over {_slopes(*activation_slopes)}: what is said of "
                                   f"mu holds while they stay within {slopes}.")
    _show_search(console, report)
    show_line(console, "time", ", ".join(f"{stage} {duration_text(value)}" for stage, value in report.seconds.items()))
    for note in report.notes:
        show_line(console, "note", note)
    for label, path in written.items():
        show_line(console, label, path)


def show_contractivity_verdict(
    console: Console, name: str, size: int, certificate: FieldCertificate,
    activation_slopes: tuple[float, float], verdict: LogNormVerdict,
) -> None:
    """A certificate of contractivity that the checker accepted."""
    slopes = _slopes(certificate.lower, certificate.upper)
    _show_meaning(console, name, size, slopes)
    arithmetic = arithmetic_text(verdict.arithmetic)
    show_bound(console, "certified", rounded_up(certificate.level), f">= mu; proved in {arithmetic}", "bold green")
    inside = certificate.lower <= activation_slopes[0] and activation_slopes[1] <= certificate.upper
    what = "within, so it holds for f" if inside else f"not all within: it holds while they stay in {slopes}"
    show_line(console, "slopes", f"the activation's are {_slopes(*activation_slopes)}, {what}")
    show_line(console, "time", f"check {duration_text(verdict.seconds)}")


def _show_meaning(console: Console, name: str, size: int, slopes: str) -> None:
    console.print(Text.assemble((name, "bold"), f": u' = f(u) in R^{size}"), soft_wrap=True)
    console.print(Text(f"mu: the largest logarithmic norm of f' over all slopes in {slopes}; solutions satisfy"))
    console.print("|u(t) - v(t)| <= exp(mu t) |u(0) - v(0)|, Euclidean norms, real arithmetic")


def _show_interval(console: Console, label: str, start: float | None, meaning: str, style: str = "") -> None:
    if start is None:
        show_bound(console, label, "none", "no m was found", style and "bold")
    else:
        show_bound(console, label, rounded_up(start), meaning, style)


def _show_search(console: Console, report: ContractivityReport) -> None:
    search = report.worst.search
    if search is not None:
        status = search.status.name.lower().replace("_", " ")
        show_line(console, "search", f"{search.nodes} boxes: {status}")
        if search.status not in (Status.OPTIMAL, Status.CLOSED_FORM):
            show_line(console, "note", search.status.value)


def _slopes(lower: float, upper: float) -> str:
    return f"[{lower:g}, {upper:g}]"
