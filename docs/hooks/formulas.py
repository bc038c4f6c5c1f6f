"""Turns the formulas of a page into MathML, which browsers draw and print without a script or a network.

`pymdownx.arithmatex` marks formulas, and leaves TeX within. An error in a formula ends the build. The font is that of
the package ziamath, STIX Two Math, because a font without mathematical metrics puts subscripts on the line.
"""

import html
import importlib.metadata
import re
from typing import Any

from math_core import LatexError, LatexToMathML
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

_FONT = "STIXTwoMath-Regular.ttf"

_MARKED = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_CONVERTER = LatexToMathML(fancy_error=False)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """What mkdocs calls with the files of the site."""
    font = importlib.metadata.distribution("ziamath").locate_file(f"ziamath/fonts/{_FONT}")
    files.append(File.generated(config, _FONT, abs_src_path=str(font)))


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """What mkdocs calls with the HTML of every page."""

    def convert(match: re.Match[str]) -> str:
        formula = html.unescape(match[3])
        try:
            drawn = _CONVERTER.convert_with_local_state(formula, displaystyle=match[2] == "[")
        except LatexError as error:
            raise PluginError(f"{page.file.src_uri}: the formula {formula.strip()!r}: {error}") from error
        return f'<div class="formula">{drawn}</div>' if match[2] == "[" else drawn

    return _MARKED.sub(convert, content)
