"""The page on reliability lists every report that a test tries here, once."""

import reports_page


def test_the_tables_are_made_from_the_tests():
    text = reports_page.PAGE.read_text("utf-8")
    assert reports_page.fill(text) == text, "run: python docs/reports_page.py"
    for path in reports_page.TESTS:
        assert f"<!-- {path.stem.removeprefix('test_reports_')} -->" in text


def test_no_report_is_listed_twice():
    threads = [mark[0] for path in reports_page.TESTS for mark in reports_page.marks(path)]
    assert len(threads) == len(set(threads)) >= 60
