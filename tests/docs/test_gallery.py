"""The stories of the gallery: that they are stories. That they run, and that their claims hold, is
what the build of the site asks: it runs each of them, and fails where one does."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

import gallery_setup

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
STORIES = sorted((DOCS / "gallery").glob("plot_*.py"))


def calls(tree):
    """What is called in a story, as it is written."""
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_every_story_has_its_place():
    assert sorted(gallery_setup.ORDER) == [path.stem.removeprefix("plot_") for path in STORIES]
    assert sorted(STORIES, key=lambda path: gallery_setup.place(str(path)))[0].stem == "plot_digits"


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_story_is_short_tells_numbers_draws_and_holds_what_it_claims(path):
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    title, line = ast.get_docstring(tree).splitlines()[:2]
    assert line == "=" * len(title)
    assert 40 <= sum(bool(line.strip()) for line in text.splitlines()) <= 100
    called = calls(tree)
    assert "print" in called
    assert 1 <= called.count("plt.show") <= 2
    assert any(isinstance(node, ast.Assert) for node in ast.walk(tree))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_what_is_random_in_a_story_is_seeded(path):
    assert not re.search(r"default_rng\(\)|random_state=None|time\.", path.read_text("utf-8"))


def test_pages_and_stories_link_to_what_is_there():
    for path in STORIES:
        for page in re.findall(r":doc:`/([\w/-]+)`", path.read_text("utf-8")):
            assert (DOCS / f"{page}.md").exists(), path
    for path in DOCS.glob("*.md"):
        for story in re.findall(r"stories/(plot_\w+)", path.read_text("utf-8")):
            assert (DOCS / "gallery" / f"{story}.py").exists(), path


@pytest.mark.parametrize(
    ("library", "story"), [("torch", "torch_finetuning"), ("distributed", "dask_sweep")]
)
def test_a_story_whose_library_is_absent_is_shown_and_not_run(monkeypatch, library, story):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == library else name)
    assert gallery_setup.left_out() == [f"plot_{story}"]
    pattern = re.compile(gallery_setup.runnable())
    run = [path.stem for path in STORIES if pattern.search(path.as_posix())]
    assert len(run) == len(STORIES) - 1 and f"plot_{story}" not in run
