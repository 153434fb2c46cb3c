"""Every path of this repository that a comment, a docstring or a page names is there."""

import re
from functools import cache

from source_tree import PACKAGE, ROOT, SOURCES, name_of

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
STUBS = sorted(PACKAGE.rglob("*.pyi"))
# The history names files as they were.
NAMING = [path for path in (*SOURCES, *STUBS, *PAGES) if path.name != "CHANGELOG.md"]
NAMED = re.compile(r"(?<![\w./-])((?:cpp|python|docs|tests|bench|stepsize)/[\w./*-]*\w)")


@cache
def found(name):
    folder = ROOT / "python" if name.startswith("stepsize/") else ROOT
    return any(any(folder.glob(pattern)) for pattern in (name, f"{name}.*"))


def missing(text):
    """The paths that a text names and nobody has, as patterns or without their suffix too."""
    return [name for name in NAMED.findall(text) if not found(name)]


def test_named_paths_exist():
    gone = {name_of(path): missing(path.read_text()) for path in NAMING}
    assert not {name: paths for name, paths in gone.items() if paths}


def test_a_path_that_has_moved_is_noticed():
    gone = "/".join(("cpp", "elementary.hpp")), "/".join(("docs", "no-such-page.md"))
    assert missing(f"the twin of {gone[0]}; see {gone[1]} and `bench/*.py`") == list(gone)
    assert not missing("the twin of cpp/kernels/elementary.hpp, and python/stepsize/plots")
