"""The object files: each exports its table alone, and no instruction in it rounds only once."""

import re
import subprocess

import pytest

from source_tree import CPP, ROOT
from stepsize import _core


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
    """The flags that CMakeLists.txt gives the kernels of every target."""
    build = (ROOT / "CMakeLists.txt").read_text()
    return re.search(r"PRIVATE\s+(-O3 [^$]*)\$\{flags_", build).group(1).split()


def machine_is_x86():
    found = subprocess.run(["c++", "-dumpmachine"], capture_output=True, text=True, check=True)
    return found.stdout.startswith(("x86_64", "amd64"))


def said_by(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=200).stdout


@pytest.mark.parametrize(("source", "table"), [("kernels", "table"), ("matrices", "whole")])
def test_an_object_exports_its_table_and_nothing_else(source, table, tmp_path):
    # An inline function that leaks from an object of a newer instruction set could be the copy
    # the linker keeps for old processors. Where nothing is inlined all that could leak does.
    out = tmp_path / "kernels.o"
    command = ["c++", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden"]
    command += [flag.replace("-O3", "-O0") for flag in kernel_flags()]
    command += [f"-I{CPP}", "-DSTEPSIZE_TARGET_NAME=some"]
    said_by(*command, "-c", str(CPP / f"{source}.cpp"), "-o", str(out))
    names = said_by("nm", "--extern-only", "--defined-only", "--demangle", out)
    assert [line.split()[-1] for line in names.splitlines()] == [f"stepsize::{table}_some"]


def test_no_instruction_rounds_once_where_others_do_twice():
    # A fused multiply-add, in the kernels as they are installed.
    code = said_by("objdump", "-d", "--no-show-raw-insn", _core.__file__)
    assert len(code) > 100_000
    assert not re.search(r"\bv?f(n?m)(add|sub)\d*[sp]|\bfml[as]\b", code)
    assert not machine_is_x86() or all(name in code for name in ("%zmm", "%ymm", "%xmm"))
