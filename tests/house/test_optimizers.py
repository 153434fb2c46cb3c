"""Inside `optimizers/`: an object owns its data, and imports go one way."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import stepsize as ss

HOME = Path(ss.__file__).parent
HERE = HOME / "optimizers"

# A module may import those on floors before its own, and no other of the folder.
FLOORS = [
    ["elementary", "fields", "quantization", "stats"],
    ["half", "options", "primitives", "sparse"],
    ["groups", "rule"],
    ["leaves"],
    ["slots"],
    ["internals"],
    ["averages", "engine", "gradients", "reference", "snapshot", "state_dict"],
    ["host"],
    ["optimizer"],
    ["registration", "rules"],
    ["population", "wrappers"],
]
FLOOR = {name: k for k, names in enumerate(FLOORS) for name in names}
FILES = [path for path in sorted(HERE.rglob("*.py")) if path != HERE / "__init__.py"]


def part_of(path):
    return path.relative_to(HERE).parts[0].removesuffix(".py")


def imported(path):
    """The parts of the folder that a file imports, types apart."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            words = node.module.split(".")[1:]
            if words == ["optimizers"]:
                yield from (alias.name for alias in node.names)
            elif words[:1] == ["optimizers"]:
                yield words[1]


def test_every_part_has_its_floor():
    assert set(FLOOR) == {part_of(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HERE)))
def test_imports_point_down(path):
    here = part_of(path)
    # Rules build on rules, wrappers on wrappers.
    assert all(FLOOR[name] < FLOOR[here] or name == here for name in imported(path))


def test_nobody_but_the_optimizer_reads_its_underscores():
    names = set(vars(ss.SGD(np.ones(2))))
    assert names == {"_engine", "_groups", "_host", "_leaves", "_options", "_slots"}
    read = re.compile(rf"\b(?!self\b)\w+\.({'|'.join(names)})\b")
    for path in HOME.rglob("*.py"):
        if path != HERE / "optimizer.py":
            found = read.findall(path.read_text("utf-8"))
            assert not found, f"{path.name} reads {found}"
