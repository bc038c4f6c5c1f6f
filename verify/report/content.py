"""What a page is made of, before any of it is drawn or written as HTML."""

import dataclasses
import enum
from collections.abc import Sequence


class Side(enum.Enum):
    """On which side of the quantity a value lies; the value is the relation between the two."""

    UPPER = "≥"
    LOWER = "≤"
    EXACT = "="
    LIMIT = "of methods"
    """Of the methods that bound the quantity, not of the quantity itself."""


@dataclasses.dataclass(frozen=True)
class Bound:
    """One value for a quantity.

    **Attributes:** `proved`: whether the result says that a checker proved it; `loose`: a bound known to be coarse,
    such as the norm product, drawn apart from the others.
    """

    label: str
    value: float
    side: Side
    proved: bool
    note: str = ""
    loose: bool = False


@dataclasses.dataclass(frozen=True)
class Figure:
    """A drawing as inline SVG.

    **Attributes:** `key`: what it shows, one word for machines; `description`: the same in a sentence, with the numbers
    that matter, for those who do not see it.
    """

    key: str
    title: str
    description: str
    svg: str

    kind = "figure"


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under headings. `numeric`: columns that are set flush right; `folded`: shown on request; `wide`: over the
    whole width of the page."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    folded: bool = False
    wide: bool = False

    kind = "table"


@dataclasses.dataclass(frozen=True)
class Note:
    """A paragraph; `warning`: one that must not be overlooked."""

    text: str
    warning: bool = False

    kind = "note"


@dataclasses.dataclass(frozen=True)
class Line:
    """A piece of an edge of the layer graph inside one row: from x1 at the height y1 (0 top, 100 bottom) to x2, y2."""

    x1: float
    y1: int
    x2: float
    y2: int


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """A layer in the drawing of the graph.

    **Attributes:** `column`: where its node stands; `lines`: edges through this row; `gain`: as text; `start`, `width`:
    of its bar, in per cent of the scale; `fed_by`: names, where it is not the row above alone.
    """

    name: str
    layer: str
    shape: str
    slopes: str
    fed_by: str
    column: int
    lines: tuple[Line, ...]
    gain: str
    start: float
    width: float
    reached: str


@dataclasses.dataclass(frozen=True)
class LayerGraph:
    """The layer graph, from input to output. `columns`: how many branches run side by side; `scale`: what bars mean."""

    rows: tuple[LayerRow, ...]
    columns: int
    scale: str

    kind = "graph"
    key = "graph"


Block = Figure | Table | Note | LayerGraph


class Standing(enum.Enum):
    """What is known of a certificate while the page is made."""

    PROVED_ANEW = "proved anew"
    NOT_CHECKED = "not re-checked"
    REFUSED = "refused"
    NONE = "no certificate"


@dataclasses.dataclass(frozen=True)
class CertificateStatus:
    """A certificate and its standing. `statement`: what it is about; `text`: what was done, for people."""

    path: str
    standing: Standing
    statement: str
    text: str


@dataclasses.dataclass(frozen=True)
class Section:
    """One result on the page.

    **Attributes:** `identifier`: of the HTML element; `headline`: the number that matters, as label and text;
    `facts`: about the model and the computation; `certificates`: all that the result names; `proved`: whether the
    result says that its question was answered by a proof, None where there is nothing to prove.
    """

    identifier: str
    title: str
    question: str
    headline: tuple[str, str]
    facts: Sequence[tuple[str, str]]
    blocks: Sequence[Block]
    certificates: Sequence[CertificateStatus] = ()
    proved: bool | None = None

    @property
    def standing(self) -> Standing:
        """The worst of its certificates."""
        standings = [certificate.standing for certificate in self.certificates]
        for standing in (Standing.REFUSED, Standing.NOT_CHECKED, Standing.PROVED_ANEW):
            if standing in standings:
                return standing
        return Standing.NONE
