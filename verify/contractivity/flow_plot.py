"""The flow's bounds and those of its Euler networks over the number of steps, as a picture. Needs matplotlib."""

import importlib.util
from pathlib import Path

from .flow import FlowReport

FORMATS = (".svg", ".png", ".pdf")


class PlotUnavailable(RuntimeError):
    """There is no matplotlib; the text says how to get it."""


def require_matplotlib() -> None:
    """**Raises:** `PlotUnavailable`."""
    if importlib.util.find_spec("matplotlib") is None:
        raise PlotUnavailable("Plots need matplotlib, which is not installed: pip install 'netgain[plot]'.")


def plot_flow(report: FlowReport, path: Path) -> None:
    """Writes the picture in the format of the file's ending.

    **Raises:** `PlotUnavailable`; `OSError` if the file cannot be written.
    """
    require_matplotlib()
    # It takes longer to import than most fields take to bound.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    networks = [network for network in report.networks if network.report.proved]
    counts = [network.steps for network in networks]
    axes.plot(counts, [network.report.upper for network in networks], "o-", label="Euler network, proved bound")
    witnessed = [network for network in report.networks if network.report.witness is not None]
    axes.plot([network.steps for network in witnessed], [network.report.lower for network in witnessed], "s--",
              label="Euler network, pair of inputs")
    for number, bound in enumerate(report.bounds):
        if bound.gain is not None:
            axes.axhline(bound.gain, color=f"C{number + 2}", linestyle="-.", label=f"flow, {bound.method}")
    axes.set_xscale("log", base=2)
    low, high = axes.get_ylim()
    if low > 0 and high > 10 * low:
        axes.set_yscale("log")
    axes.set_xlabel(f"Euler steps N, of length {report.duration:g} / N")
    axes.set_ylabel("Lipschitz constant")
    axes.set_title(f"{report.name}: u' = f(u) over the time {report.duration:g}")
    axes.legend()
    figure.savefig(path)
