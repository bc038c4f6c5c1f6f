"""Matplotlib figures as inline SVG whose colours and fonts are the page's, light or dark, on screen or paper."""

import importlib.util
import io
import math
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from typing import Any

from ..rounding import rounded_down, rounded_up
from .content import Bound, Figure, Side

# Width in CSS pixels: a phone's column, so that the letters are as large as those of the text there.
WIDTH = 330
_PIXELS_PER_INCH = 72
_LONGEST_LABEL = 34

COLOURS = {name: f"#0a0b{number:02x}" for number, name in enumerate(
    ("ink", "muted", "grid", "upper", "lower", "loose", "band",
     "series-1", "series-2", "series-3", "series-4", "series-5", "series-6"))}
"""Names of colours, defined by the style sheet, and what stands for them until the SVG is written."""

SERIES = tuple(COLOURS[f"series-{number}"] for number in range(1, 7))

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.titlesize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.edgecolor": COLOURS["muted"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.color": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["ink"],
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
}


class ReportUnavailable(RuntimeError):
    """A library that reports need is not installed; the text says how to get it."""


def require_libraries() -> None:
    """**Raises:** `ReportUnavailable`."""
    missing = [name for name in ("jinja2", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise ReportUnavailable(f"Reports need {' and '.join(missing)}, not installed here: pip install "
                                "'netgain[report]'.")


def drawn(identifier: str, title: str, description: str, height: float, paint: Callable[[Any], None]) -> Figure:
    """The figure that `paint` draws on the axes it is given.

    **Arguments:** `identifier`: unique on the page, its last part after a hyphen being the figure's key; `height`: in
    CSS pixels at the width of a phone.
    """
    # Slower to import than all else of a report.
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    settings: Any = {**_STYLE, "svg.hashsalt": identifier}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The browser has letters that the font measured with has not.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        canvas = Canvas(figsize=(WIDTH / _PIXELS_PER_INCH, height / _PIXELS_PER_INCH), layout="constrained")
        FigureCanvasSVG(canvas)
        paint(canvas.add_subplot())
        stream = io.BytesIO()
        canvas.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = _inline(stream.getvalue(), identifier, title, description)
    return Figure(identifier.rsplit("-", 1)[1], title, description, svg)


def _inline(document: bytes, identifier: str, title: str, description: str) -> str:
    ET.register_namespace("", _SVG)
    root = ET.fromstring(document)
    for element in list(root):
        if element.tag == f"{{{_SVG}}}metadata":
            root.remove(element)
    for parent in root.iter():
        for child in [child for child in parent if child.tag == f"{{{_SVG}}}style"]:
            parent.remove(child)
    for element in root.iter():
        _localise(element, identifier)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib.update({"role": "img", "aria-labelledby": f"{identifier}-title {identifier}-description"})
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        label = ET.Element(f"{{{_SVG}}}{tag}", {"id": f"{identifier}-{'title' if tag == 'title' else 'description'}"})
        label.text = text
        root.insert(position, label)
    written = ET.tostring(root, encoding="unicode")
    for name, colour in COLOURS.items():
        written = written.replace(colour, f"var(--{name})")
    return written


def _localise(element: ET.Element, identifier: str) -> None:
    """Identifiers are made unique, links to them follow, and fonts are left to the page."""
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set(name, f"{identifier}-{value}")
        elif name == f"{{{_XLINK}}}href":
            del element.attrib[name]
            element.set("href", value.replace("#", f"#{identifier}-"))
        elif name == "style":
            value = _font_size(value)
            element.set(name, value.replace("url(#", f"url(#{identifier}-"))
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{identifier}-"))


def _font_size(style: str) -> str:
    """Of a font, such as 10px 'DejaVu Sans', the size alone."""
    return re.sub(r"font: (?:[\w-]+ )*([\d.]+px)[^;]*", r"font-size: \1", re.sub(r"font-family:[^;]*;? ?", "", style))


def label_of(text: str) -> str:
    """A name short enough to stand beside an axis."""
    return text if len(text) <= _LONGEST_LABEL else f"{text[:_LONGEST_LABEL - 1]}…"


def decimal_of(bound: Bound) -> str:
    """The bound's value, rounded to the side on which it stays true."""
    return rounded_down(bound.value) if bound.side in (Side.LOWER, Side.LIMIT) else rounded_up(bound.value)


def plain_ticks(axis: Any) -> None:
    """Numbers without powers written as exponents, at round values."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if axis.get_scale() == "log":
        low, high = sorted(axis.get_view_interval())
        decades = math.log10(high / low)
        steps = (1, 2, 5) if decades < 2.2 else (1, 3) if decades < 3.2 else (1,)
        axis.set_major_locator(LogLocator(subs=steps, numticks=6))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())


def drawable(values: Iterable[float | None]) -> bool:
    """Whether a picture of these numbers exists: beyond this range the arithmetic of axes over- or underflows."""
    return all(not value or 1e-250 <= abs(value) <= 1e250 for value in values)


def is_wide(values: Iterable[float], factor: float) -> bool:
    """Whether positive values are so far apart that a logarithmic scale serves them better."""
    known = list(values)
    return bool(known) and min(known) > 0 and max(known) > factor * min(known)
