"""Web pages: every text is escaped, every part is in the order in which it was added."""

from __future__ import annotations

import html
from html.parser import HTMLParser

import pytest

from stepsize.report import Page
from stepsize.report.page import highlight, inline

HOSTILE = "<script>alert('x')</script> & \"y\""


class Balanced(HTMLParser):
    """Fails on a tag that is closed without being open."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page():
    one = Page(HOSTILE, HOSTILE)
    one.text(HOSTILE)
    one.note(HOSTILE)
    one.heading(HOSTILE)
    one.cards([(HOSTILE, HOSTILE)])
    one.verdict(HOSTILE, HOSTILE, "good")
    one.table([HOSTILE, "b"], [[HOSTILE, "1"], ["2", "3"]], best=1)
    one.code(f"x = {HOSTILE!r}  # {HOSTILE}")
    return one


def test_nothing_that_is_said_becomes_markup():
    text = page().html()
    assert "<script" not in text
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert "".join(parser.text).count("alert('x')") >= 8


def test_the_parts_stand_in_their_order(tmp_path):
    one = Page("Title")
    for word in ("first", "second", "third"):
        one.text(word)
    text = one.write(tmp_path / "deep" / "page.html").read_text()
    assert text.index("first") < text.index("second") < text.index("third")


def test_backquotes_become_code():
    assert inline("use `a < b`") == "use <code>a &lt; b</code>"


@pytest.mark.parametrize(
    "source", ["def f(x):\n    return x + 1\n", 's = """two\nlines"""\n', "x = [\n  1,\n]  # one\n"]
)
def test_highlighted_source_keeps_its_text(source):
    parser = Balanced()
    parser.feed(highlight(source))
    assert "".join(parser.text).rstrip() == html.unescape(source).rstrip()
