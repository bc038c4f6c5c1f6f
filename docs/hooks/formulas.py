"""Turns the formulas of a page into MathML, which browsers draw and print without a script or a network.

`pymdownx.arithmatex` marks formulas, and leaves TeX within. An error in a formula ends the build.
"""

import html
import re
from typing import Any

from math_core import LatexError, LatexToMathML
from mkdocs.exceptions import PluginError

_MARKED = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_CONVERTER = LatexToMathML(fancy_error=False)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """What mkdocs calls with the HTML of every page."""

    def convert(match: re.Match[str]) -> str:
        formula = html.unescape(match[3])
        try:
            return _CONVERTER.convert_with_local_state(formula, displaystyle=match[2] == "[")
        except LatexError as error:
            raise PluginError(f"{page.file.src_uri}: the formula {formula.strip()!r}: {error}") from error

    return _MARKED.sub(convert, content)
