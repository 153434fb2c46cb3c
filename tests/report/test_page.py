"""A page shows what it is given and never lets it become markup."""

import re

from stepsize.report import Page
from stepsize.report.page import highlight


def test_page_escapes_what_it_is_given():
    page = Page("<b>")
    page.text("a < b & `c<d>`")
    page.table(["x", "y"], [["<i>", "1"]], best=0)
    page.verdict("No.", "<u>", "bad")
    text = page.html()
    for raw in ("<b></h1>", "<i>", "<u>", "c<d>"):
        assert raw not in text
    assert "<code>c&lt;d&gt;</code>" in text


def test_highlighting_changes_no_character_of_the_code():
    source = 'def f(x):\n    # why\n    return x < 2 and f"""\n{x}""" or 1e-3  # end\n\n\ny = f(1)'
    text = re.sub(r"<[^>]+>", "", highlight(source))
    assert text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == source
