"""Every example in the documentation runs, and every generated table is up to date."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import conformance_page
import pages
import stepsize
import tables
from stepsize.optimizers import registry

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


@pytest.mark.parametrize("page", ["README.md", "docs/all-rules.md"])
def test_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert len(blocks) >= 2
    scope = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, page, "exec"), scope)


def test_the_readme_is_read_in_a_minute():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200


def test_the_readme_counts_rules_and_schedules_as_they_are():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{len(registry())} update rules" in text
    assert f"| update rules | {len(registry())} |" in text
    assert f"| schedules | {len(pages.RECIPES)} as values" in text


def test_tables_are_made_from_the_code():
    texts = [(ROOT / "docs" / page).read_text(encoding="utf-8") for page in tables.PAGES]
    for name in tables.TABLES:
        assert sum(f"<!-- {name} -->" in text for text in texts) == 1
    for text in texts:
        assert tables.fill(text) == text, "run: python docs/tables.py"


def test_the_page_of_conformance_is_made_from_its_results():
    text = conformance_page.PAGE.read_text(encoding="utf-8")
    assert conformance_page.page() == text, "run: python docs/conformance_page.py"


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
