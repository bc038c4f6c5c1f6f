"""The page in a real browser: no errors, nothing loaded, all figures there, text that can be read; and a page that is
broken on purpose is found out."""

import re
from collections import Counter

import pytest

from .browser import DESKTOP, PHONE, complaints, launched
from .conftest import made

FIGURES = Counter({"graph": 2, "sandwich": 9, "depth": 3, "course": 1, "slopes": 1, "convergence": 1, "rates": 1,
                   "series": 1, "accuracy": 1})
ONE = Counter({"graph": 1, "sandwich": 1, "depth": 1, "course": 1})


@pytest.fixture(scope="module")
def browser():
    with launched() as found:
        yield found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "page.html"


@pytest.fixture(scope="module")
def text(documents):
    """The page of one result, to be broken."""
    return made(documents[:1])


@pytest.mark.parametrize(("width", "scheme", "media"), [
    (PHONE, "light", "screen"), (DESKTOP, "dark", "screen"), (DESKTOP, "dark", "print"),
    pytest.param(PHONE, "dark", "screen", marks=pytest.mark.slow),
    pytest.param(DESKTOP, "light", "screen", marks=pytest.mark.slow)])
def test_a_reader_has_nothing_to_complain_of(browser, whole, path, width, scheme, media):
    path.write_text(whole, encoding="utf-8")
    assert complaints(browser, path, FIGURES, width, scheme, media) == []


def _without(key):
    pattern = rf'<figure class="[a-z]+" data-figure="{key}">.*?</figure>'
    return lambda text: re.sub(pattern, "", text, count=1, flags=re.DOTALL)


def _replaced(old, new):
    def change(text):
        assert old in text
        return text.replace(old, new)

    return change


BROKEN = {
    "a figure is missing": (_without("course"), "figure: 0 of 'course'"),
    "the layer graph is missing": (_without("graph"), "figure: 0 of 'graph'"),
    "a drawing is empty": (lambda text: re.sub(r'(<svg [^>]*role="img".*?</desc>).*?</svg>', r"\1</svg>", text, count=1,
                                               flags=re.DOTALL), "with 0 shapes"),
    "figures have no size": (_replaced("figure { margin: 0;", "figure { margin: 0; display: none;"), "is 0 x 0"),
    "grey on white": (_replaced("--muted: #55606b", "--muted: #b8bfc6"), "contrast: 1."),
    "drawings pale": (_replaced(".drawing svg {", ".drawing svg text { fill: #ddd !important } .drawing svg {"),
                      "contrast: 1."),
    "a script": (_replaced("</body>", "<script>throw new Error('broken')</script></body>"), "console: "),
    "a script that is let in and fails": (
        lambda text: _replaced("</body>", "<script>throw new Error('broken')</script></body>")(
            re.sub(r"<meta http-equiv[^>]*>", "", text)), "error: broken"),
    "a picture from elsewhere": (
        lambda text: _replaced("</body>", '<img alt="" src="http://127.0.0.1:9/x.png"></body>')(
            re.sub(r"<meta http-equiv[^>]*>", "", text)), "request: http://127.0.0.1:9/x.png"),
    "too wide": (_replaced("</main>", '<div style="width:700px">x</div></main>'), "width: the page is 7"),
    "too small": (_replaced(".legend, .detail, footer {", ".legend { font-size: 6px !important } .detail, footer {"),
                  "size: 6.0 px"),
    "hidden text": (_replaced(".headline {", ".headline { visibility: hidden;"), "hidden: "),
}


def test_the_page_to_be_broken_is_whole(browser, path, text):
    path.write_text(text, encoding="utf-8")
    assert complaints(browser, path, ONE, PHONE, "light") == []


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pages_are_found_out(browser, path, text, name):
    change, expected = BROKEN[name]
    broken = change(text)
    assert broken != text
    path.write_text(broken, encoding="utf-8")
    found = complaints(browser, path, ONE, PHONE, "light")
    assert any(expected in complaint for complaint in found), found


def test_text_upon_a_shape_is_compared_with_the_shape(browser, path, text):
    """The page is white and so is the text: what counts is what is drawn between them."""
    shape = '<svg viewBox="0 0 100 40" width="200"><rect width="100" height="40" fill="{}"/>' \
            '<text x="10" y="25" fill="#ffffff">Text</text></svg></main>'
    for colour, fine in (("#0a6b52", True), ("#f4f4f4", False)):
        path.write_text(text.replace("</main>", shape.format(colour)), encoding="utf-8")
        found = complaints(browser, path, ONE, DESKTOP, "light")
        assert (found == []) is fine
        assert all('"Text"' in complaint for complaint in found)
