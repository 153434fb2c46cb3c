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


def count() -> str:
    """How many were tried, and with which result."""
    results = [result for path in TESTS for _, _, result in marks(path)]
    mended = sum("mended" in result for result in results)
    holds = results.count("holds")
    return (
        f"{len(results)} reports were tried. {holds} hold; in {mended} the fault, or one of its "
        f"kind, was here too and was mended; {len(results) - holds - mended} end in an error that "
        "names it, or behave as the documentation says, as their rows tell. A dozen more were "
        "tried before this list was kept: their results are lost, and they are not counted.\n"
    )


def fill(text: str) -> str:
    """The page with every table, and the sentence that counts them, made anew."""
    text = re.sub(r"(<!-- count -->\n).*?(<!-- /count -->)", rf"\g<1>{count()}\2", text, flags=re.S)
    for path in TESTS:
        name = path.stem.removeprefix("test_reports_")
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda found, path=path: found[1] + table(path) + found[2], text)
    return text


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text("utf-8")), "utf-8")
