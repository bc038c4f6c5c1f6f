"""What a reader with a real browser would complain of: errors, figures that are missing, text that cannot be read."""

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE, DESKTOP = 390, 1200
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
             "--disable-component-update", "--no-first-run")
LEAST_CONTRAST = 4.5

OPENED = """() => {
  const complaints = [], page = document.documentElement;
  if (page.scrollWidth > page.clientWidth)
    complaints.push(`width: the page is ${page.scrollWidth} wide in a window of ${page.clientWidth}`);
  for (const box of document.querySelectorAll(".scroll"))
    Object.assign(box.style, {overflow: "visible", maxHeight: "none"});
  for (const details of document.querySelectorAll("details")) details.open = true;
  return {complaints, height: page.scrollHeight};
}"""
"""Whether the page is too wide; then boxes that scroll and what is folded are opened up, for all text to be read."""

AUDIT = (Path(__file__).parent / "audit.js").read_text(encoding="utf-8")


def chromium() -> str:
    """The browser's path; skips the test without one, unless NETGAIN_REQUIRE_BROWSER says that there must be one."""
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        text = f"no browser: none of {', '.join(CHROMIUM)} is installed (Debian: apt-get install chromium)"
        if os.environ.get("NETGAIN_REQUIRE_BROWSER") == "1":
            pytest.fail(f"NETGAIN_REQUIRE_BROWSER=1, and {text}")
        pytest.skip(text)
    return found


@contextlib.contextmanager
def launched() -> Iterator[Any]:
    """A headless browser."""
    executable = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def complaints(browser: Any, path: Path, figures: Counter[str], width: int, scheme: str, media: str = "screen"
               ) -> list[str]:
    """What is wrong with a page: console, network, figures (how many of each kind are expected), width, contrast."""
    found: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        page = context.new_page()
        page.on("console", lambda message: found.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: found.append(f"error: {error}"))
        page.on("request", lambda request: found.append(f"request: {request.url}")
                if request.url != path.as_uri() and not request.url.startswith("data:") else None)
        page.goto(path.as_uri(), wait_until="load")
        page.emulate_media(media=media, color_scheme=scheme)
        opened = page.evaluate(OPENED)
        found += opened["complaints"]
        # All of the page is in sight, so that every point of it can be asked for what is drawn there.
        page.set_viewport_size({"width": width, "height": opened["height"] + 200})
        audit = page.evaluate(AUDIT, LEAST_CONTRAST)
        if media == "print":
            document = page.pdf(format="A4")
            if not document.startswith(b"%PDF") or len(document) < 10_000:
                found.append(f"print: a document of {len(document)} bytes")
    finally:
        context.close()
    drawn = Counter(audit["figures"])
    found += [f"figure: {count} of {key!r} are drawn, {figures[key]} expected" for key, count in
              ((key, drawn[key]) for key in figures | drawn) if count != figures[key]]
    return found + audit["complaints"]
