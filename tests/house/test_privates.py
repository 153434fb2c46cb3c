"""What an optimizer keeps for itself is read by its own class alone."""

import ast
from functools import cache

from source_tree import PACKAGE, PYTHON_FILES, name_of

HOME = PACKAGE / "optimizers" / "optimizer.py"
# The machinery that the class is made of, one object a file.
MACHINERY = {HOME, PACKAGE / "optimizers" / "rule.py", PACKAGE / "optimizers" / "engine.py"}


@cache
def nodes(path):
    return list(ast.walk(ast.parse(path.read_text("utf-8"))))


def classes(path):
    return [node for node in nodes(path) if isinstance(node, ast.ClassDef)]


def private(name):
    ours = not name.startswith("__") and not name.startswith("_repr_")  # IPython's: all may call
    return name.startswith("_") and ours


def privates_of(node):
    """The private names of a class: methods, fields, and what it assigns to itself."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef) and private(inner.name):
            yield inner.name
        elif isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
            name = inner.target.id
            yield from [name] if private(name) else []
        elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
            itself = isinstance(inner.value, ast.Name) and inner.value.id == "self"
            yield from [inner.attr] if itself and private(inner.attr) else []


def strangers(path, known):
    """The private names that a file reads and that none of its classes, nor of theirs, has."""
    pending, own = [node.name for node in classes(path)], set()
    while pending:
        for file, node in known.get(pending.pop(), []):
            if file not in MACHINERY:
                own |= set(privates_of(node))
                pending += [base.id for base in node.bases if isinstance(base, ast.Name)]
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in own:
            yield node.lineno, node.attr


def test_nobody_reads_what_an_optimizer_keeps_for_itself():
    known = {}
    for file in PYTHON_FILES:
        for found in classes(file):
            known.setdefault(found.name, []).append((file, found))
    kept = {name for node in classes(HOME) for name in privates_of(node)}
    assert len(kept) > 5
    for path in PYTHON_FILES:
        if path not in MACHINERY:
            found = [(line, name) for line, name in strangers(path, known) if name in kept]
            assert not found, name_of(path)
    nodes.cache_clear()
