"""The source tree as text: its files, its parts, and who imports whom. Nothing here is imported."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "stepsize"
CPP = ROOT / "cpp"
PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))
CPP_FILES = sorted([*CPP.rglob("*.hpp"), *CPP.rglob("*.cpp"), *CPP.rglob("*.def")])
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCHES = sorted((ROOT / "bench").rglob("*.py"))
GENERATORS = sorted((ROOT / "docs").glob("*.py"))
SOURCES = [*PYTHON_FILES, *CPP_FILES, *TESTS, *BENCHES, *GENERATORS]


def name_of(path):
    """A file's path below the root of the repository, as tests and errors show it."""
    return str(path.relative_to(ROOT))


def module_of(path):
    """The full name of a file of the package."""
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def part_of(path):
    """The folder or module directly below `stepsize` that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = {module_of(path) for path in PYTHON_FILES} | {"stepsize._core"}
PARTS = {part_of(path) for path in PYTHON_FILES} | {"_core"}


def imports_of(path, types=False):
    """The modules that a file imports when it is imported, so not those inside functions.

    With `types`, those under TYPE_CHECKING too. `from stepsize.a import b` is `stepsize.a.b` where
    that is a module, else `stepsize.a`.
    """
    pending = list(ast.parse(path.read_text("utf-8")).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the package"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in full)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not types:
            pending.extend(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending.extend(ast.iter_child_nodes(node))


def graph_of_modules(types=False):
    """Each module of the package, and the modules of the package that it imports."""
    graph = {"stepsize._core": set()}
    for path in PYTHON_FILES:
        name = module_of(path)
        graph[name] = set(imports_of(path, types)) & MODULES - {name}
    return graph


def graph_of_parts(types=False):
    """Each part of the package, and the parts that it imports."""
    graph = {part: set() for part in PARTS}
    for name, imported in graph_of_modules(types).items():
        part = part_of_module(name)
        graph[part] |= {part_of_module(other) for other in imported} - {part, "__init__"}
    return graph


def part_of_module(name):
    return name.split(".")[1] if "." in name else "__init__"


def reach(graph, node):
    """Everything that a node leads to, by itself or through others."""
    seen, pending = set(), [node]
    while pending:
        new = graph[pending.pop()] - seen
        seen |= new
        pending.extend(new)
    return seen
