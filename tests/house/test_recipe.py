"""The recipe for conda-forge says what pyproject.toml says."""

from __future__ import annotations

import re
import tomllib

import stepsize as ss
from source_tree import ROOT

RECIPE = (ROOT / ".ci/conda/recipe.yaml").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def section(name: str) -> list[str]:
    """The packages under a key of the requirements."""
    lines = RECIPE[RECIPE.index(f"  {name}:\n") :].splitlines()[1:]
    found = []
    for line in lines:
        if not line.startswith("    "):
            break
        if listed := re.match(r"    - ([\w-]+(?: [><=.\w]+)?)$", line):
            found.append(listed[1])
    return found


def as_conda(requirement: str) -> str:
    return re.sub(r"(?=[><])", " ", requirement, count=1)


def test_it_needs_what_the_package_needs():
    wanted = [as_conda(each) for each in PROJECT["project"]["dependencies"]]
    assert [each for each in section("run") if each != "python"] == wanted
    built = [as_conda(each) for each in PROJECT["build-system"]["requires"]]
    assert [each for each in section("host") if each not in ("python", "pip")] == built


def test_it_is_of_this_version_and_about_this_package():
    assert f'version: "{ss.__version__}"' in RECIPE
    for key in ("description", "license"):
        assert PROJECT["project"][key] in RECIPE


def test_it_skips_the_pythons_that_the_package_does_not_take():
    least = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert f'- match(python, "<{least}")' in RECIPE
