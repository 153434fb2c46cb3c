"""Files and functions stay short, the root stays small, and nothing is left for later."""

import ast
import re
from pathlib import Path

import pytest

from source_tree import (
    BENCHES,
    CPP_FILES,
    GENERATORS,
    PACKAGE,
    PYTHON_FILES,
    ROOT,
    SOURCES,
    imports_of,
    name_of,
)


def test_files_stay_short():
    files = [*PYTHON_FILES, *CPP_FILES, *BENCHES, *GENERATORS]
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in files}
    assert not {name: length for name, length in lengths.items() if length > 400}


def long_python_functions(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            prose = first.end_lineno - first.lineno + 1 if documented else 0
            if node.end_lineno - node.lineno + 1 - prose > 60:
                yield f"{name_of(path)}: {node.name}"


def long_cpp_functions(path):
    # The code is formatted, so the body of a function ends at the brace that opens its line.
    start = None
    for number, line in enumerate(path.read_text().splitlines()):
        if re.match(r"(    )?[^\s#/}].*\)( const| override| noexcept)* \{$", line):
            start = number
        elif re.match(r"(    )?\}", line) and start is not None:
            if number - start > 60:
                yield f"{name_of(path)}: the function at line {start + 1}"
            start = None


@pytest.mark.parametrize(
    ("suffixes", "long"),
    [((".py",), long_python_functions), ((".cpp", ".hpp"), long_cpp_functions)],
    ids=("Python", "C++"),
)
def test_functions_stay_short(suffixes, long):
    paths = [path for path in SOURCES if path.suffix in suffixes]
    assert len(paths) > 30 and not [name for path in paths for name in long(path)]


def test_the_root_holds_few_modules():
    # The subjects are folders; what is left is what every subject needs.
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert len(modules) <= 12, sorted(modules)


def test_every_folder_has_its_tests():
    folders = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    assert not [name for name in folders if not list((ROOT / "tests" / name).glob("**/test_*.py"))]


def literals_of(path):
    """The numbers that a file writes out, with their lines."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float, complex):
            yield node.lineno, node.value


def test_the_checks_of_a_diagnosis_name_their_thresholds():
    strays = [pair for pair in literals_of(PACKAGE / "diagnosis/checks.py") if pair[1] > 2]
    strays += [pair for pair in literals_of(PACKAGE / "diagnosis/checks.py") if pair[1] % 1]
    assert not strays, "a number that decides belongs in thresholds.py, with its unit and source"


MARKS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def test_nothing_is_left_for_later():
    others = [path for path in SOURCES if path != Path(__file__)]
    assert not [name_of(path) for path in others if MARKS.search(path.read_text())]


def test_nothing_is_unpickled():
    # Whether something can be pickled may be asked; nothing is made of what was read.
    for path in PYTHON_FILES:
        imports = {name.split(".")[0] for name in imports_of(path)}
        assert not imports & {"marshal", "shelve", "dill", "joblib"}, path
        assert not re.search(r"\bpickle\.(?!dumps\b)|from pickle", path.read_text("utf-8")), path
