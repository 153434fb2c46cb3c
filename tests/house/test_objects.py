"""The object files: each exports its table alone, and no instruction in it rounds only once."""

import re
import subprocess

import pytest

from source_tree import CPP, ROOT


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


@pytest.mark.parametrize("source", ["kernels", "matrices"])
@pytest.mark.parametrize("target", kernel_flags())
def test_an_object_exports_its_table_and_nothing_else(target, source, tmp_path):
    # An inline function that leaks from an object of a newer instruction set could be the copy
    # the linker keeps for old processors. A fused multiply-add rounds once where others do twice.
    flags = kernel_flags()[target] if machine_is_x86() else kernel_flags()["baseline"]
    # Where less is inlined more could leak, in half the time.
    flags = [flag.replace("-O3", "-O1") for flag in flags]
    out = tmp_path / "kernels.o"
    command = ["c++", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden"]
    command += [*flags, f"-I{CPP}", f"-DSTEPSIZE_TARGET_NAME={target}"]
    command += ["-c", str(CPP / f"{source}.cpp"), "-o", str(out)]
    subprocess.run(command, check=True, timeout=200)
    names = subprocess.run(
        ["nm", "--extern-only", "--defined-only", "--demangle", out],
        capture_output=True,
        text=True,
        check=True,
    )
    table = {"kernels": "table", "matrices": "whole"}[source]
    expected = [f"stepsize::{table}_{target}"]
    assert [line.split()[-1] for line in names.stdout.splitlines()] == expected
    code = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", out], capture_output=True, text=True, check=True
    )
    assert len(code.stdout) > 10_000
    assert not re.search(r"\bv?f(n?m)(add|sub)\d*[sp]|\bfml[as]\b", code.stdout)
    registers = {"avx512": "%zmm", "avx2": "%ymm", "baseline": "%xmm"}
    assert not machine_is_x86() or registers[target] in code.stdout
