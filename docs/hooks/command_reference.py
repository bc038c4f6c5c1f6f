"""Writes the reference of the command line from the program itself, so that it cannot go stale."""

import subprocess
import sys
from typing import Any

from mkdocs.exceptions import PluginError

_MARK = "<!-- the commands -->"
_DESCRIBE = (sys.executable, "-m", "typer", "netgain.verify.cli", "utils", "docs", "--name", "netgain")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What mkdocs calls with the text of every page."""
    if _MARK not in markdown:
        return markdown
    described = subprocess.run(_DESCRIBE, capture_output=True, text=True, check=False)
    if described.returncode:
        raise PluginError(f"{' '.join(_DESCRIBE)} failed:\n{described.stderr}")
    commands = described.stdout.split("\n## ", 1)[1]
    return markdown.replace(_MARK, "## " + commands)
