"""The site: its blocks run, and everything public has a docstring and a place on it."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

import stepsize as ss
from stepsize import plots

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MODULES = (ss, ss.schedules, ss.optimizers, ss.problems, ss.functional, plots)
MODULES += (ss.gradients, ss.projections)


@pytest.fixture(scope="module")
def pages():
    """The generator of the pages that are made from the code."""
    sys.path.insert(0, str(DOCS))
    try:
        yield importlib.import_module("pages")
    finally:
        sys.path.remove(str(DOCS))


def names():
    """Every public name with what it stands for."""
    for module in MODULES:
        for name in module.__all__:
            yield f"{module.__name__}.{name}", getattr(module, name)


def members():
    """The public methods and properties of public classes."""
    for name, cls in names():
        for member, value in inspect.getmembers_static(cls) if inspect.isclass(cls) else ():
            kinds = property | classmethod | staticmethod
            if not member.startswith("_") and (callable(value) or isinstance(value, kinds)):
                yield f"{name}.{member}", getattr(cls, member)


def test_everything_public_is_documented():
    things = {**dict(names()), **dict(members())}
    assert len(things) > 1000
    # The docstring of a string is that of its type.
    assert [name for name, thing in things.items() if not inspect.getdoc(thing)] == []


def test_what_is_raised_is_an_exception_and_a_property_has_no_type_by_mistake():
    # The site reads what stands before a colon as the exception's name, or the property's type.
    for name, value in [*names(), *members()]:
        text = inspect.getdoc(value) or ""
        for block in re.findall(r"^Raises:\n((?: .*\n?)+)", text, re.MULTILINE):
            for line in re.findall(r"^    (\S.*)", block, re.MULTILINE):
                assert re.match(r"\w*(Error|Warning)(, \w+Error)*: ", line), f"{name}: {line}"
        if isinstance(value, property):
            assert not re.match(r"[^`]*: ", text.partition("\n")[0]), name


def test_every_public_name_is_on_a_page(pages):
    text = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    text += "\n".join([*pages.rules().values(), *pages.recipes().values()])
    assert ".. automodule:: stepsize.functional\n   :members:" in text
    shown = re.findall(r"\.\. auto(?:class|function|exception|data):: ([\w.]+)", text)
    assert len(set(shown)) == len(shown), "shown twice"
    there = {id(resolve(name)) for name in shown}
    there |= {id(thing) for name, thing in names() if name.startswith("stepsize.functional.")}
    missing = [
        name
        for name, thing in names()
        if not (inspect.ismodule(thing) or id(thing) in there or name in shown)
    ]
    assert missing == []


def resolve(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_every_recipe_is_drawn(pages):
    there = {
        name
        for name in ss.schedules.__all__
        if not inspect.isclass(getattr(ss.schedules, name))
        and not re.match("from_(?!function)", name)
    }
    helpers = {"check_run", "cyclic_momentum", "epochs", "layerwise_lr", "one_cycle_momentum"}
    helpers |= {"refined"}  # of a run, whose curve it takes
    assert set(pages.RECIPES) == there - helpers
    for name, call in pages.RECIPES.items():
        assert call.startswith(f"{name}(")
        assert 0 < max(pages.schedule(call).values(1000)) <= 5e-3


PAGES = [
    "index",
    "quick-start",
    "advice",
    "gradients",
    "complex",
    "speed-and-bits",
    "embeddings",
    "notebooks",
    "adding-a-rule",
]


@pytest.mark.parametrize("name", [f"{page}.md" for page in PAGES])
def test_the_blocks_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text("utf-8"), re.DOTALL)
    assert blocks
    scope = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, name, "exec"), scope)


def test_every_page_is_in_the_contents():
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = {
        line for block in re.findall(r"```{toctree}.*?```", text, re.S) for line in block.split()
    }
    pages = {path.stem for path in DOCS.glob("*.md")} | {
        f"api/{p.stem}" for p in DOCS.glob("api/*")
    }
    assert pages - listed == {"index"}
