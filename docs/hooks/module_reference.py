"""A page for every module, generated from its docstrings, so that each formula can link to what computes it."""

import ast
import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_PACKAGES = ("netgain.layers", "netgain.solvers", "netgain.verify")
_MARK = "<!-- the modules -->"
# Exported functions that hide the module of their own name: they are shown in full on the package's page alone.
_ELSEWHERE = {
    "netgain.verify.check": "check",
    "netgain.verify.lipschitz": "lipschitz",
    "netgain.verify.contractivity.report": "contractivity",
}


def on_files(files: Files, config: MkDocsConfig) -> None:
    """What mkdocs calls with the files of the site."""
    for name, _ in _modules():
        # The title is that of the page; what mkdocstrings would add is the same again.
        text = f"# {name}\n\n::: {name}\n    options:\n      show_root_heading: false\n      heading_level: 2\n"
        if name in _ELSEWHERE:
            text += f'      filters: ["!^_", "!^{_ELSEWHERE[name]}$"]\n'
        files.append(File.generated(config, f"reference/modules/{name}.md", content=text))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What mkdocs calls with the text of every page: lists all modules with the first sentence of each."""
    if _MARK not in markdown:
        return markdown
    lines = []
    for package, modules in itertools.groupby(_modules(), lambda module: module[0].rpartition(".")[0]):
        lines += [f"\n## {package}\n"]
        lines += [f"- [`{name.rpartition('.')[2]}`](modules/{name}.md): {about}" for name, about in modules]
    return markdown.replace(_MARK, "\n".join(lines))


def _modules() -> Iterator[tuple[str, str]]:
    """Dotted names in order of packages, and the first sentence of what each module says of itself."""
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        for path in sorted(folder.rglob("*.py"), key=lambda path: (path.parent, path.name)):
            if not path.stem.startswith("_"):
                about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
                first = about.partition("\n\n")[0].replace("\n", " ")
                yield f"{package}.{'.'.join(path.relative_to(folder).with_suffix('').parts)}", first
