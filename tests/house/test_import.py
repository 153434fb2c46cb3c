"""`import stepsize` is quick: names are there before their modules are."""

import ast
import json
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

import stepsize as ss
from source_tree import PARTS

STUB = Path(ss.__file__).with_suffix(".pyi")

# What nobody should wait for who has not asked for it.
OTHERS = {"matplotlib", "sklearn", "torch", "jax", "optax", "autograd", "scipy", "optuna", "pandas"}
OTHERS |= {"tqdm", "ml_dtypes", "tensorboardX", "distributed", "mpi4py", "asyncio", "unittest"}
OTHERS |= {"mlflow", "wandb"}
OWN = {"plots", "report", "demo", "guide", "cli", "interop"}


def loaded(code):
    """The modules that a fresh interpreter has after running the code."""
    code += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def test_the_import_alone_loads_next_to_nothing():
    modules = loaded("import stepsize")
    assert not modules & (OTHERS | {"numpy", "optree", "safetensors"})
    assert {name for name in modules if name.startswith("stepsize.")} == {
        "stepsize._core",
        "stepsize.runtime",
    }


def test_not_even_all_names_load_an_extra_or_a_picture():
    modules = loaded("import stepsize\nfor name in stepsize.__all__: getattr(stepsize, name)")
    assert "stepsize.tuning.search" in modules
    assert not modules & OTHERS
    assert not modules & {f"stepsize.{part}" for part in OWN}


def test_the_stub_says_where_names_come_from():
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    homes, pages, modules = {}, [], set()
    for node in tree.body[1:]:
        home = node.module.removeprefix("stepsize").removeprefix(".")
        names = [alias.name for alias in node.names]
        if names == ["*"]:
            pages.append(home)
        elif home:
            homes |= dict.fromkeys(names, home)
        else:
            modules |= set(names)
    assert homes == ss._HOME and sorted(pages) == sorted(ss._CONTENTS)
    assert modules == {*ss._MODULES, *ss._EXTRAS}


def test_all_is_what_the_homes_and_the_contents_pages_hold():
    assert {*ss._HOME, *ss._MODULES} < set(ss.__all__) < set(dir(ss))
    assert ss.__all__ == sorted(set(ss.__all__))
    assert set(dir(ss)) - set(ss.__all__) == set(ss._EXTRAS)
    rules = {cls.__name__ for cls in ss.optimizers.registry() if cls.__module__[:8] == "stepsize"}
    assert rules <= set(ss.__all__)
    assert all(getattr(ss, name) is getattr(ss.optimizers, name) for name in rules)


def test_what_the_wheels_are_tested_with_is_there():
    root = Path(__file__).parents[2]
    sources = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["cibuildwheel"]
    assert all((root / name).is_file() for name in sources["test-sources"])
    tests = sources["test-command"].split()[1:]
    assert tests and set(tests) < set(sources["test-sources"])
    code = "".join((root / name).read_text("utf-8") for name in tests)
    helpers = {f"tests/support/{name}.py" for name in re.findall(r"^from (\w+) import", code, re.M)}
    assert {name for name in helpers if (root / name).exists()} < set(sources["test-sources"])


def test_every_name_is_there_and_stays():
    for name in ss.__all__:
        assert getattr(ss, name) is getattr(ss, name)
        # A module of the same name would take its place once it is imported.
        assert name in ss._MODULES or not (STUB.parent / f"{name}.py").exists(), name


def test_modules_are_there_without_an_import():
    assert loaded("import stepsize; stepsize.arrays; stepsize.interop") >= {"stepsize.interop"}
    for name in ("nothing", "_nothing", "torch", "adam"):
        with pytest.raises(AttributeError, match=f"module 'stepsize' has no attribute '{name}'"):
            getattr(ss, name)


def test_modules_that_are_not_public_have_to_be_imported():
    loaded("import stepsize\nassert not hasattr(stepsize, 'training')")
    assert not {"errors", "training", "groups", "adam"} & set(dir(ss))


ORDERS = """
import importlib, sys
for name in sys.argv[1:]:
    for known in [m for m in sys.modules if m.startswith("stepsize") and m != "stepsize._core"]:
        del sys.modules[known]
    importlib.import_module(name)
"""


def test_every_part_can_be_imported_first():
    parts = {f"stepsize.{part}" for part in PARTS - {"__init__", "__main__", "_core"}}
    subprocess.run([sys.executable, "-c", ORDERS, *sorted(parts)], check=True)


def test_a_compiled_module_of_other_sources_is_refused(monkeypatch):
    import stepsize.runtime as runtime

    runtime.refuse_other_build()
    for stub in (b"older", None):
        monkeypatch.setattr(runtime, "_core", types.SimpleNamespace(stub=stub, __file__="_core.so"))
        with pytest.raises(ImportError, match=r"built from other sources .* build it again"):
            runtime.refuse_other_build()
