"""A new rule is a class, a struct and a line: a copy of the tree gets one, is built and steps."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from source_tree import CPP, PACKAGE

CLASS = '''

class Toy(Optimizer):
    """Half a step along the sign of an average."""

    lr = nonnegative(0.5)
    momentum = unit(0.75)
    slots = ("average",)

    def rule(self, x, g, s, h):
        s.average[...] = lerp(g, s.average, h.momentum)
        x -= h.lr / 2 * sign(s.average)


__all__ += ["Toy"]
'''

STRUCT = """
template <class F> struct Toy {
    F half, momentum;
    Toy(const ToyNumbers& h, StepContext) : half(F(h.lr / 2)), momentum(F(h.momentum)) {}

    void operator()(F& x, F g, F& average) const {
        average = lerp(g, average, momentum);
        x -= half * sign(average);
    }
};
"""

LINE = "RULE(Toy, 1, lr, momentum)\n"

STEP = """
import numpy as np
import stepsize as ss

x = {"w": np.linspace(-1, 1, 1000, dtype=np.float32)}
start = x["w"].copy()
opt = ss.Toy(x, momentum=0.5)
assert opt.accelerated and ss.Toy in ss.optimizers.registry() and "Toy" in ss.__all__
assert ss.build_info()["target"] == "baseline"
for _ in range(3):
    opt.step({"w": x["w"].copy()})  # the gradient of a bowl
y, average = start, np.zeros_like(start)
for _ in range(3):
    average = average - np.float32(0.5) * (average - y)
    y = y - np.float32(0.25) * np.sign(average)
assert (x["w"] == y).all() and (y != start).sum() > 900
"""


def insert(path, text, before):
    """Write a text into a file, in front of the last place where `before` stands."""
    head, found, tail = path.read_text("utf-8").rpartition(before)
    assert found
    path.write_text(head + text + found + tail, "utf-8")


def build(tree):
    """Compile the copy for the baseline alone, all of it but the kernels as one source."""
    cpp, out = tree / "cpp", tree / "objects"
    out.mkdir()
    stub = (tree / "python/stepsize/_core.pyi").read_text("utf-8")  # as CMake does
    head = (cpp / "bind/stub.hpp.in").read_text("utf-8").replace("@STEPSIZE_STUB@", stub)
    (cpp / "stub.hpp").write_text(head, "utf-8")
    once = [*cpp.glob("bind/**/*.cpp"), *cpp.glob("core/**/*.cpp")]
    (cpp / "once.cpp").write_text("".join(f'#include "{path}"\n' for path in once))
    command = ["c++", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-O0"]
    command += [f"-I{cpp}", "-DSTEPSIZE_HAS_baseline", "-DSTEPSIZE_TARGET_NAME=baseline"]
    command += subprocess.check_output(
        [sys.executable, "-m", "pybind11", "--includes"], text=True
    ).split()

    def compiled(source):
        target = out / f"{source}.o"
        subprocess.run([*command, "-c", cpp / f"{source}.cpp", "-o", target], check=True)
        return target

    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(compiled, ["once", "kernels", "matrices"]))
    module = tree / "python" / "stepsize" / "_core.so"
    subprocess.run(["c++", "-shared", *objects, "-o", module], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="compiles and links as on Linux")
def test_a_rule_is_a_class_a_struct_and_a_line(tmp_path):
    ignored = shutil.ignore_patterns("_core*.so", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "python" / "stepsize", ignore=ignored)
    shutil.copytree(CPP, tmp_path / "cpp")
    family = tmp_path / "python/stepsize/optimizers/rules/sign.py"
    family.write_text(family.read_text("utf-8") + CLASS, "utf-8")
    insert(tmp_path / "cpp/rules/sign.hpp", STRUCT, "\n} // namespace\n} // namespace stepsize")
    with open(tmp_path / "cpp/rules/rules.def", "a") as contents:
        contents.write(LINE)
    build(tmp_path)
    environment = {"PYTHONPATH": str(tmp_path / "python"), "STEPSIZE_TARGET": "baseline"}
    subprocess.run([sys.executable, "-c", STEP], env=environment, cwd=tmp_path, check=True)
