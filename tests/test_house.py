"""The house keeps its shape: who may import whom, where things live, how long they may grow."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "stepsize"
CPP = ROOT / "cpp"
PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))
CPP_FILES = sorted([*CPP.rglob("*.hpp"), *CPP.rglob("*.cpp"), *CPP.rglob("*.def")])
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCHES = sorted((ROOT / "bench").rglob("*.py"))
SOURCES = [*PYTHON_FILES, *CPP_FILES, *TESTS, *BENCHES]


def name_of(path):
    return str(path.relative_to(ROOT))


# Python: the arrows point down, whatever lies between two modules.

# Every part has its floor; a part may import those before it in this list, and no other.
FLOORS = [
    ["_core", "errors", "runtime", "curves", "arrays", "serialization"],
    ["schedules"],
    ["optimizers"],
    ["functional", "noise_scale", "diagnosis"],
    ["callbacks", "finder"],
    ["training"],
    ["tuning", "automatic", "minimization"],
    ["problems", "plots", "report"],
    ["cli", "demo", "guide", "interop"],
    ["__main__"],
]
LAZY = {"matplotlib", "plotext", "sklearn", "optuna", "pandas", "tensorboardX", "tqdm", "torch"}
LAZY |= {"jax", "optax", "scipy", "distributed", "mpi4py", "ml_dtypes", "autograd"}


def imports_of(path):
    """The modules that importing a file imports; not those inside functions or for types only."""
    pending = list(ast.parse(path.read_text()).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the package"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending.extend(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending.extend(ast.iter_child_nodes(node))


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


PARTS = {part_of(path) for path in PYTHON_FILES} | {"_core"}


@cache
def arrows():
    """Which parts of the package each part imports."""
    found = {part: set() for part in PARTS}
    for path in PYTHON_FILES:
        names = [name.split(".") for name in imports_of(path)]
        named = {words[1] for words in names if words[0] == "stepsize" and len(words) > 1}
        found[part_of(path)] |= named & PARTS - {part_of(path)}
    return found


def reach(graph, part):
    """Everything a part imports, by itself or through others."""
    seen, pending = set(), [part]
    while pending:
        new = graph[pending.pop()] - seen
        seen |= new
        pending.extend(new)
    return seen


def test_every_part_has_its_floor():
    listed = [part for floor in FLOORS for part in floor]
    assert sorted(listed) == sorted(PARTS - {"__init__"})


@pytest.mark.parametrize("part", sorted(PARTS - {"__init__"}))
def test_imports_point_down(part):
    graph = arrows()
    assert part not in reach(graph, part), "a circle"
    floor = next(k for k, parts in enumerate(FLOORS) if part in parts)
    allowed = {name for parts in FLOORS[: floor + 1] for name in parts}
    assert graph[part] <= allowed


@pytest.mark.parametrize(
    "path", [path for path in PYTHON_FILES if part_of(path) != "interop"], ids=name_of
)
def test_extras_are_imported_where_they_are_used(path):
    roots = {name.split(".")[0] for name in imports_of(path)}
    assert not roots & LAZY


# C++: types <- math <- rules, reduce, storage <- kernel <- kernels.cpp; targets <- driver <- bind.

WORDS = {"core/types.hpp", "core/math.hpp", "core/waves.hpp", "core/reduce.hpp"}
INCLUDES = {
    "core/types.hpp": set(),
    "core/waves.hpp": {"core/types.hpp"},
    "core/math.hpp": {"core/types.hpp", "core/waves.hpp"},
    "core/narrow.hpp": {"core/types.hpp", "core/math.hpp"},
    "core/reduce.hpp": {"core/types.hpp", "core/math.hpp", "core/narrow.hpp"},
    "core/storage.hpp": {"core/types.hpp", "core/math.hpp", "core/narrow.hpp"},
    "core/streams.hpp": {*WORDS, "core/narrow.hpp", "core/storage.hpp"},
    "core/prepared.hpp": {*WORDS, "core/storage.hpp"},
    "core/coded.hpp": {"core/prepared.hpp", "core/streams.hpp"},
    "core/kernel.hpp": {*WORDS, "core/coded.hpp"},
    "core/sheets.hpp": {*WORDS, "core/storage.hpp", "core/kernel.hpp"},
    "core/targets.hpp": {"core/types.hpp"},
    "core/driver.hpp": {"core/types.hpp"},
    "core/targets.cpp": {"core/targets.hpp"},
    "core/driver.cpp": {"core/driver.hpp"},
    "schedule.hpp": {"core/types.hpp"},
    "schedule_eval.hpp": {*WORDS, "schedule.hpp"},
}


def allowed_includes(name):
    if name in INCLUDES:
        return INCLUDES[name]
    if name.startswith("rules/"):
        # Families whose members share the arithmetic of the first one.
        kernels = {"core/kernel.hpp", "core/sheets.hpp"}
        return {*WORDS, *kernels, "rules/adam.hpp", "rules/dadapt.hpp"} - {name}
    if name == "kernels.cpp":
        rules = {f"rules/{path.name}" for path in (CPP / "rules").iterdir()}
        return {*WORDS, *rules, "core/kernel.hpp", "schedule_eval.hpp"}
    assert name.startswith("bind/"), f"{name} has no place in INCLUDES"
    bind = {f"bind/{path.name}" for path in (CPP / "bind").glob("*.hpp")}
    return bind | {"core/types.hpp", "core/targets.hpp", "core/driver.hpp", "schedule.hpp"}


@pytest.mark.parametrize("path", CPP_FILES, ids=name_of)
def test_includes_point_down(path):
    name = str(path.relative_to(CPP))
    found = set(re.findall(r'#include "([^"]+)"', path.read_text()))
    assert found <= allowed_includes(name)


@pytest.mark.parametrize(
    ("pattern", "home"),
    [
        (r"pybind11|\bpy::|Python\.h|\bPyObject\b", r"bind/.*"),
        (r"omp\.h|#pragma omp parallel|\bomp_\w+\(", r"core/driver\.cpp"),
        (r"cpu_supports|cpuid|__get_cpuid", r"core/targets\.cpp"),
        (r"<immintrin\.h>|_mm\d*_\w+", r"nowhere"),
        # As the type of an argument it converts silently, and an update in place is lost.
        (r"array_t<[^;={}()]*>\s*(&|&&)?\s*\w*\s*[,)]", r"nowhere"),
    ],
)
def test_each_thing_has_its_home(pattern, home):
    strays = [
        str(path.relative_to(CPP))
        for path in CPP_FILES
        if re.search(pattern, path.read_text())
        and not re.fullmatch(home, str(path.relative_to(CPP)))
    ]
    assert strays == []


def test_no_flag_that_changes_bits_or_needs_this_machine():
    build = (ROOT / "CMakeLists.txt").read_text() + (ROOT / "pyproject.toml").read_text()
    for flag in (
        "-march=native",
        "-mtune=native",
        "fast-math",
        "-Ofast",
        "-mfma",
        "-flto",
        "/fp:fast",
    ):
        assert flag not in build
    assert "-ffp-contract=off" in build and "INTERPROCEDURAL_OPTIMIZATION OFF" in build


def kernel_flags():
    """The flags that CMakeLists.txt gives each target's kernels, without a compiler's warnings."""
    build = (ROOT / "CMakeLists.txt").read_text()
    common = re.search(r"PRIVATE\s+(-O3 [^$]*)\$\{flags_", build).group(1).split()
    found = dict(re.findall(r"set\(flags_(\w+) ?([^)]*)\)", build))
    return {
        target: [*common, "-ffp-contract=off", *words.split()] for target, words in found.items()
    }


def machine_is_x86():
    found = subprocess.run(["c++", "-dumpmachine"], capture_output=True, text=True, check=True)
    return found.stdout.startswith(("x86_64", "amd64"))


@pytest.mark.parametrize("target", kernel_flags())
def test_an_object_exports_its_table_and_nothing_else(target, tmp_path):
    # An inline function that leaks from an object of a newer instruction set could be the copy
    # the linker keeps for old processors. A fused multiply-add rounds once where others do twice.
    flags = kernel_flags()[target] if machine_is_x86() else kernel_flags()["baseline"]
    # Where less is inlined more could leak, in half the time.
    flags = [flag.replace("-O3", "-O1") for flag in flags]
    out = tmp_path / "kernels.o"
    command = ["c++", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden"]
    command += [*flags, f"-I{CPP}", f"-DSTEPSIZE_TARGET_NAME={target}"]
    command += ["-c", str(CPP / "kernels.cpp"), "-o", str(out)]
    subprocess.run(command, check=True, timeout=200)
    names = subprocess.run(
        ["nm", "--extern-only", "--defined-only", "--demangle", out],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[-1] for line in names.stdout.splitlines()] == [f"stepsize::table_{target}"]
    code = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", out], capture_output=True, text=True, check=True
    )
    assert len(code.stdout) > 10_000
    assert not re.search(r"\bv?f(n?m)(add|sub)\d*[sp]|\bfml[as]\b", code.stdout)
    registers = {"avx512": "%zmm", "avx2": "%ymm", "baseline": "%xmm"}
    assert not machine_is_x86() or registers[target] in code.stdout


# Size and manners.


@pytest.mark.parametrize("path", [*PYTHON_FILES, *CPP_FILES, *BENCHES], ids=name_of)
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", [p for p in SOURCES if p.suffix == ".py"], ids=name_of)
def test_python_functions_stay_short(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            prose = first.end_lineno - first.lineno + 1 if documented else 0
            assert node.end_lineno - node.lineno + 1 - prose <= 60, node.name


@pytest.mark.parametrize("path", [p for p in CPP_FILES if p.suffix != ".def"], ids=name_of)
def test_cpp_functions_stay_short(path):
    # The code is formatted, so the body of a function ends at the brace that opens its line.
    start = None
    for number, line in enumerate(path.read_text().splitlines()):
        if re.match(r"(    )?[^\s#/}].*\)( const| override| noexcept)* \{$", line):
            start = number
        elif re.match(r"(    )?\}", line) and start is not None:
            assert number - start <= 60, f"the function at line {start + 1}"
            start = None


MARKS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


@pytest.mark.parametrize("path", [p for p in SOURCES if p != Path(__file__)], ids=name_of)
def test_nothing_is_left_for_later(path):
    assert not MARKS.search(path.read_text())


def test_no_pickle_but_the_protocol():
    for path in PYTHON_FILES:
        imports = {name.split(".")[0] for name in imports_of(path)}
        assert not imports & {"pickle", "marshal", "shelve", "dill", "joblib"}, path
