"""The table of public bug reports in the page on reliability: ``python docs/reports_page.py``.

Made from the marks of the tests in `tests/outside/`, which try each report here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
TESTS = sorted((ROOT / "tests" / "outside").glob("test_reports_*.py"))


def marks(path: Path) -> Iterator[tuple[str, str, str]]:
    """Thread, fault and result of every mark in a file of tests."""
    for node in ast.parse(path.read_text("utf-8")).body:
        for mark in getattr(node, "decorator_list", ()):
            if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "report":
                thread, fault, *result = [ast.literal_eval(argument) for argument in mark.args]
                yield thread, fault, result[0] if result else "holds"


def table(path: Path) -> str:
    """One row per report of a file, in the order of its tests."""
    rows = ["| report | fault there | here |\n| --- | --- | --- |\n"]
    for thread, fault, result in marks(path):
        name, number = thread.split("#")
        link = f"[{thread}](https://github.com/{name}/issues/{number})"
        rows.append(f"| {link} | {fault} | {result} |\n")
    return "".join(rows)


def fill(text: str) -> str:
    """The page with every table between its two markers made anew."""
    for path in TESTS:
        name = path.stem.removeprefix("test_reports_")
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda found, path=path: found[1] + table(path) + found[2], text)
    return text


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text("utf-8")), "utf-8")
