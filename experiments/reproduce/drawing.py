"""Figures of a table as pictures. Needs matplotlib."""

from pathlib import Path

from .table import Figure, Series, Shape, Table


def draw(table: Table, folder: Path) -> list[Path]:
    """Writes figure-1.svg, figure-1.png, .. of the table's figures; the paths written."""
    # It takes longer to import than most tables take to be made from their journals.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    written = []
    for number, figure in enumerate(table.figures, 1):
        canvas = Canvas(figsize=(8, 5), layout="constrained")
        FigureCanvasAgg(canvas)
        _draw(figure, canvas.add_subplot())
        for ending in (".svg", ".png"):
            path = folder / f"figure-{number}{ending}"
            # Equal tables give equal files.
            with matplotlib.rc_context({"svg.hashsalt": table.name}):
                canvas.savefig(path, dpi=150, metadata={"Date": None} if ending == ".svg" else {})
            written.append(path)
    return written


def _draw(figure: Figure, axes) -> None:  # type: ignore[no-untyped-def]
    names = _names(figure)
    # Bars and intervals over the same name stand side by side.
    beside = [series for series in figure.series if series.shape is not Shape.LINE]
    width = 0.8 / max(len(beside), 1)
    for number, series in enumerate(figure.series):
        shift = (beside.index(series) - (len(beside) - 1) / 2) * width if names and series in beside else 0.0
        places = [shift + (names.index(x) if isinstance(x, str) else x) for x in series.x]
        known = [(x, y) for x, y in zip(places, series.y, strict=True) if y is not None]
        colour = f"C{number % 10}"
        if series.shape is Shape.BARS:
            axes.bar([x for x, _ in known], [y for _, y in known], width, color=colour, label=series.label,
                     hatch="//" if series.published else None)
        elif series.shape is Shape.INTERVALS:
            _intervals(axes, series, places, colour)
        else:
            # Between names there is nothing.
            line = "" if names else "--" if series.published else "-"
            axes.plot([x for x, _ in known], [y for _, y in known], marker="x" if series.published else "o",
                      linestyle=line, color=colour, label=series.label)
    if names:
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize="small")
    elif figure.x.log:
        axes.set_xscale("log", base=2)
    if figure.y.log:
        axes.set_yscale("log")
    axes.set_xlabel(figure.x.label)
    axes.set_ylabel(figure.y.label)
    axes.set_title(figure.title)
    if figure.series:
        axes.legend(fontsize="small")


def _intervals(axes, series: Series, places: list[float], colour: str) -> None:  # type: ignore[no-untyped-def]
    assert series.low is not None
    assert series.high is not None
    known = [(x, low, high) for x, low, high in zip(places, series.low, series.high, strict=True)
             if low is not None and high is not None]
    axes.vlines([x for x, _, _ in known], [low for _, low, _ in known], [high for _, _, high in known], color=colour,
                linewidth=4, label=series.label)


def _names(figure: Figure) -> list[str]:
    """The names on the horizontal axis, in order; empty if it is one of numbers."""
    return list(dict.fromkeys(x for series in figure.series for x in series.x if isinstance(x, str)))
