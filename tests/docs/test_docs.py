"""Every example in the documentation runs, and every generated table is up to date."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import stepsize
import tables

ROOT = Path(__file__).parents[2]


def modules():
    found = pkgutil.walk_packages(stepsize.__path__, "stepsize.")
    return sorted(m.name for m in found if not m.name.endswith(("_core", "__main__")))


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in ["stepsize", *modules()]:
        if ".interop" not in name:
            yield from (
                test for test in finder.find(importlib.import_module(name)) if test.examples
            )


@pytest.mark.parametrize("example", list(examples()), ids=lambda test: test.name)
def test_docstring_example(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failures, attempted = doctest.DocTestRunner(optionflags=flags).run(example)
    assert attempted > 0
    assert failures == 0


def test_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 4
    scope = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)


def test_readme_tables_are_made_from_the_code():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in tables.TABLES:
        assert f"<!-- {name} -->" in text
    assert tables.fill(text) == text, "run: python docs/tables.py README.md"


@pytest.mark.parametrize("page", tables.PAGES)
def test_tables_of_pages_are_made_from_the_code(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in tables.PAGES[page]:
        assert f"<!-- {name} -->" in text
    assert tables.fill(text) == text, f"run: python docs/tables.py {page}"


def test_contributing_shows_lion_as_it_is():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sources = "\n".join(
        path.read_text(encoding="utf-8")
        for path in [
            ROOT / "cpp/rules/rules.def",
            *sorted((ROOT / "cpp/rules").glob("*.hpp")),
        ]
    )
    squeezed = re.sub(r"\s+", " ", sources)
    blocks = re.findall(r"```(?:cpp)?\n(\s+(?://|RULE).*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        assert re.sub(r"\s+", " ", block).strip() in squeezed


def test_contributing_shows_the_class_of_lion_as_it_is():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    source = (ROOT / "python/stepsize/optimizers/rules/sign.py").read_text(encoding="utf-8")
    lion = source[source.index("class Lion") :].split("\n\n\n")[0]
    shown = re.search(r"```py\n(.*?)```", text, re.DOTALL)[1].splitlines()
    lines = [line.strip() for line in shown if line.strip() and '"""' not in line]
    assert len(lines) == 9
    for line in lines:
        assert line.replace("(self, x, g, s, h):", "") in lion
