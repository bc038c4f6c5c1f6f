"""The page: sections, an overview where there are several, and the template that makes HTML of them."""

import functools
import importlib.resources
from collections.abc import Callable, Sequence

from ..result_json import RESULT, tool
from .batch_section import batch_section
from .certificates import Checker
from .comparison_section import SCHEMA as COMPARISON
from .comparison_section import comparison_section
from .content import Block, Section, Standing
from .contractivity_section import SCHEMA as CONTRACTIVITY
from .contractivity_section import contractivity_section
from .drawing import require_libraries
from .fields import FieldError, Fields
from .flow_section import SCHEMA as FLOW
from .flow_section import flow_section
from .implicit_section import SCHEMA as IMPLICIT
from .implicit_section import implicit_section
from .lipschitz_section import lipschitz_section
from .other_section import SCHEMAS as OTHERS
from .other_section import other_section
from .overview import overview
from .reading import BATCH, Document, ReportError
from .robustness_section import SCHEMA as ROBUSTNESS
from .robustness_section import robustness_section
from .section import Context
from .stability_section import SCHEMA as STABILITY
from .stability_section import stability_section
from .table_section import SCHEMA as TABLE
from .table_section import table_section

SECTIONS: dict[str, Callable[[Context], Section]] = {
    RESULT: lipschitz_section,
    COMPARISON: comparison_section,
    CONTRACTIVITY: contractivity_section,
    FLOW: flow_section,
    IMPLICIT: implicit_section,
    STABILITY: stability_section,
    TABLE: table_section,
    ROBUSTNESS: robustness_section,
    BATCH: batch_section,
    **dict.fromkeys(OTHERS, other_section),
}
"""Schemas of results, and what makes a section of one."""


def sections_of(documents: Sequence[Document], checker: Checker) -> list[Section]:
    """A section for each document, in order.

    **Raises:** `ReportError` naming all documents with fields that are missing or of the wrong kind;
    `ReportUnavailable`.
    """
    require_libraries()
    sections, wrong = [], []
    for number, document in enumerate(documents, start=1):
        context = Context(document, Fields(document.body), f"result{number}", checker)
        try:
            sections.append(SECTIONS[document.schema](context))
        except FieldError as error:
            wrong.append(f"{document.origin} is no result of the schema {document.schema}: {error}.")
    if wrong:
        raise ReportError("\n".join(wrong))
    return sections


def page(sections: Sequence[Section], documents: Sequence[Document], date: str | None) -> str:
    """The page as HTML, with all that it needs inside. `date`: when certificates were checked, if they were."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True)
    template = environment.from_string(_resource("page.html"))
    blocks: list[Block] = overview(sections, documents) if len(sections) > 1 else []
    return template.render(
        sections=sections, overview=blocks, style=_resource("style.css"), version=tool()["version"], date=date,
        standings=Standing, title=sections[0].title if len(sections) == 1 else f"{len(sections)} results")


@functools.cache
def _resource(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")

