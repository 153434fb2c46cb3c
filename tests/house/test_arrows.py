"""The arrows point down: who may import whom in Python, and who may include whom in C++."""

import re
from functools import cache
from pathlib import Path

import pytest

from architecture import OPTIMIZERS, ORDER
from source_tree import (
    CPP,
    CPP_FILES,
    PARTS,
    PYTHON_FILES,
    graph_of_modules,
    graph_of_parts,
    imports_of,
    name_of,
    part_of,
    reach,
)

LAZY = {"matplotlib", "plotext", "sklearn", "optuna", "pandas", "tensorboardX", "tqdm", "torch"}
LAZY |= {"jax", "optax", "scipy", "distributed", "mpi4py", "ml_dtypes", "autograd"}
LAZY |= {"mlflow", "wandb"}

GENERATED = {"stub.hpp"}  # what CMake writes at the build

# A schedule prints itself and is read from text, and both make schedules.
OWN_PRINTING = {
    "stepsize.schedules.schedule",
    "stepsize.schedules.expression",
    "stepsize.schedules.display",
}

parts, modules = cache(graph_of_parts), cache(graph_of_modules)


def test_every_part_has_its_place():
    assert PARTS - {"__init__"} <= set(ORDER), "give it its place in docs/architecture.py"
    assert len(set(ORDER)) == len(ORDER)


def test_imports_point_down():
    above = {part: parts()[part] - set(ORDER[: ORDER.index(part)]) for part in PARTS - {"__init__"}}
    assert not {part: names for part, names in above.items() if names}


INSIDE = "stepsize.optimizers."
FLOOR = {room: number for number, rooms in enumerate(OPTIMIZERS) for room in rooms}


def here():
    return sorted(name for name in modules() if name.startswith(INSIDE))


def room_of(name):
    return name.removeprefix(INSIDE).split(".")[0]


def test_every_part_of_the_optimizers_has_its_floor():
    assert {room_of(name) for name in here()} == set(FLOOR), (
        "see OPTIMIZERS in docs/architecture.py"
    )


def test_imports_inside_optimizers_point_down():
    for name in here():
        own = room_of(name)
        rooms = {room_of(other) for other in modules()[name] if other.startswith(INSIDE)} - {own}
        assert not {room for room in rooms if FLOOR[room] >= FLOOR[own]}, name
        # The contents page is for users; a module names the module that it needs.
        assert "stepsize.optimizers" not in modules()[name], name


def circle_of(graph):
    return {name for name in graph if name in reach(graph, name)}


def test_no_circle_when_modules_are_imported():
    assert not circle_of(modules())


def test_hardly_a_circle_even_for_types():
    assert circle_of(modules(types=True)) <= OWN_PRINTING


def test_extras_are_imported_where_they_are_used():
    for path in PYTHON_FILES:
        if part_of(path) != "interop":
            assert not {name.split(".")[0] for name in imports_of(path)} & LAZY, name_of(path)


# C++: core <- kernels <- rules <- kernels.cpp and matrices.cpp, which are compiled per instruction
# set; core <- bind.

INCLUDES = {
    "core/types.hpp": set(),
    "core/table.hpp": {"core/types.hpp"},
    "core/whole.hpp": {"core/table.hpp"},
    "core/nodes.def": set(),
    "core/schedule.hpp": {"core/types.hpp", "core/nodes.def"},
    "core/targets.hpp": {"core/whole.hpp"},
    "core/driver.hpp": set(),
    "core/fpenv.hpp": set(),
    "core/targets.cpp": {"core/targets.hpp"},
    "core/driver.cpp": {"core/driver.hpp", "core/fpenv.hpp", "core/limits.hpp"},
    "core/limits.hpp": set(),
    "core/limits.cpp": {"core/limits.hpp"},
}
# What lies on one floor may include the floors below it.
KERNELS = [
    {"elementary"},
    {"primitives"},
    {"half", "bounds", "product"},
    {"reduce", "quantization"},
    {"rule", "operands"},
    {"quantized_loop", "options", "curves", "decompose"},
    {"look", "loop"},
    {"matrix_loop", "whole", "schedule"},
]
# Families whose members share the arithmetic of the first one.
SHARED_RULES = {"rules/adam.hpp", "rules/dadapt.hpp", "rules/by_axis.hpp"}


def allowed_includes(name):
    if name in INCLUDES:
        return INCLUDES[name]
    core = {"core/types.hpp", "core/table.hpp", "core/schedule.hpp", "core/nodes.def"}
    core |= {"core/whole.hpp"}
    if name.startswith("kernels/"):
        place = [i for i, floor in enumerate(KERNELS) if Path(name).stem in floor]
        assert place, f"{name} has no place in KERNELS"
        return core | {f"kernels/{part}.hpp" for lower in KERNELS[: place[0]] for part in lower}
    kernels = {f"kernels/{part}.hpp" for floor in KERNELS for part in floor}
    if name.startswith("rules/"):
        return kernels - {"kernels/schedule.hpp"} | SHARED_RULES - {name}
    if name in ("kernels.cpp", "matrices.cpp"):
        return core | kernels | {f"rules/{path.name}" for path in (CPP / "rules").iterdir()}
    assert name.startswith("bind/"), f"{name} has no place in INCLUDES"
    bind = {str(path.relative_to(CPP)) for path in (CPP / "bind").rglob("*.hpp")}
    return bind | core | {"core/targets.hpp", "core/driver.hpp", "core/fpenv.hpp"}


def test_includes_point_down():
    for path in CPP_FILES:
        name = str(path.relative_to(CPP))
        found = set(re.findall(r'#include "([^"]+)"', path.read_text())) - GENERATED
        assert found <= allowed_includes(name), name


@pytest.mark.parametrize(
    ("pattern", "home"),
    [
        (r"pybind11|\bpy::|Python\.h|\bPyObject\b", r"bind/.*"),
        (r"omp\.h|#pragma omp parallel|\bomp_\w+\(", r"core/driver\.cpp"),
        (r"cpu_supports|cpuid|__get_cpuid", r"core/targets\.cpp"),
        # Vectors are the compiler's; the processor is asked how it rounds, and for float16.
        (r"<immintrin\.h>|_mm\d*_\w+", r"core/fpenv\.hpp|kernels/half\.hpp"),
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
