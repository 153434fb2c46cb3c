"""What was fitted has a name: constants of the finder are named, used, and not written again."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import get_type_hints

import pytest

import stepsize as ss
from stepsize.finder import confidence, horizon
from stepsize.finder.settings import Options, Settings


@pytest.mark.parametrize("module", [confidence, horizon], ids=lambda module: module.__name__)
def test_functions_hold_no_number_of_their_own(module):
    tree = ast.parse(Path(module.__file__).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    numbers = {
        node.value
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Constant) and type(node.value) in (int, float)
    }
    assert numbers <= {0, 1, 2}
    source = Path(module.__file__).read_text()
    rest = source + "".join(path.read_text() for path in Path(module.__file__).parent.glob("*.py"))
    named = [name for name in vars(module) if name.isupper()]
    assert named and all(rest.count(name) > source.count(f"{name} = ") for name in named)


def test_the_signature_and_the_types_are_those_of_the_settings():
    fields = Settings.__dataclass_fields__
    signature = inspect.signature(ss.lr_find).parameters
    assert {n: f.default for n, f in fields.items()} == {n: signature[n].default for n in fields}
    assert get_type_hints(Options) == get_type_hints(Settings)
