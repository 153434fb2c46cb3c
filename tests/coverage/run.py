"""Which decisions of the C++ part and of the code of checkpoints no test takes both ways.

    python tests/coverage/run.py files      python/stepsize/serialization; needs coverage of PyPI
    python tests/coverage/run.py cpp        cpp/, compiled without optimization; needs gcovr
    ... --shown                             the last run again, after exceptions.toml was edited

A decision that only goes one way stands in exceptions.toml with the reason, or is exit code 1. What
is built and found lies in build/coverage.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILDS = ROOT / "build" / "coverage"
PYTEST = [sys.executable, "-m", "pytest", "-q"]
PYTEST += ["-p", "no:cacheprovider", "-p", "thinned", "-o", "timeout=3000"]

FILES = [
    *("serialization/test_container.py", "serialization/test_saving.py"),
    *("serialization/test_faults.py", "training/test_resume.py", "optimizers/test_state_dict.py"),
    *("training/test_resumed_functions.py", "training/test_resumed_options.py"),
    *("outside/test_foreign_files.py", "outside/test_writes.py", "outside/test_state_dicts.py"),
    *("outside/test_reports_resumes.py", "serialization/test_rare.py", "training/test_given.py"),
    *("serialization/test_functions.py", "training/test_refilled.py"),
]
# Forks come before what makes threads; of the second list every parameter counts.
CPP = [
    *("outside/test_processes.py", "optimizers/test_core_corners.py", "mutation/bits.py"),
    *("schedules", "optimizers/test_bind.py", "optimizers/test_sparse.py"),
    *("optimizers/test_half.py", "optimizers/test_quantization.py", "optimizers/test_bounds.py"),
    *("optimizers/test_row_doors.py", "optimizers/test_population.py", "optimizers/test_errors.py"),
    *("optimizers/test_atomic.py", "optimizers/test_extents.py", "optimizers/test_primitives.py"),
    *("optimizers/test_extreme_norms.py", "optimizers/test_state_dict.py"),
    *("optimizers/test_complex.py", "optimizers/test_ownership.py", "optimizers/test_prefetch.py"),
    *("optimizers/test_parameters.py", "optimizers/test_refused_steps.py"),
    *("optimizers/test_threads.py", "optimizers/test_limits.py"),
    *("optimizers/test_core_refusals.py", "optimizers/test_stacked.py", "interop/test_mpi.py"),
    *("interop/test_mpi_alike.py", "house/test_kernel_bits.py", "optimizers/test_sentinel.py"),
    *("outside/test_shared_optimizers.py", "outside/test_inside_of_functions.py"),
]
CPP_WHOLE = [
    *("optimizers/test_arriving.py", "optimizers/test_memory_errors.py"),
    *("optimizers/test_partition.py", "optimizers/test_functional.py"),
    *("peers/test_torch_tensors.py",),
]
# As sitecustomize.py: a child of a fork writes what was counted, too.
LEAVES_BY_EXIT = """import ctypes, os
os._exit = ctypes.CDLL(None).exit
"""


class Missing(NamedTuple):
    """A decision that was not taken one way, or a line that was not reached."""

    file: str
    line: int
    code: str
    way: str


class Found(NamedTuple):
    decisions: int  # ways of them: two of each
    taken: int
    missing: list[Missing]


def must(command: list[object], log: Path, **environment: str) -> None:
    words = [str(word) for word in command]
    with open(log, "a") as out:
        done = subprocess.run(words, cwd=ROOT, env={**os.environ, **environment}, stdout=out,
                              stderr=out, check=False)  # fmt: skip
    if done.returncode > 1:  # 1: a test has failed, which says nothing of what was reached
        raise SystemExit(log.read_text()[-3000:])


def paths(package: Path) -> str:
    found = [package, ROOT / "docs", ROOT / "tests" / "support", ROOT / "tests" / "golden"]
    return os.pathsep.join([*map(str, found), os.environ.get("PYTHONPATH", "")])


def code_of(file: str, line: int) -> str:
    lines = (ROOT / file).read_text().splitlines()
    return lines[line - 1].strip() if 0 < line <= len(lines) else "the end"


def run_files(work: Path) -> None:
    data = {"COVERAGE_FILE": str(work / "data"), "PYTHONPATH": paths(ROOT / "python")}
    coverage = [sys.executable, "-m", "coverage"]
    source = f"--source={ROOT / 'python' / 'stepsize' / 'serialization'}"
    tests = [ROOT / "tests" / name for name in FILES]
    must([*coverage, "run", "--branch", source, *PYTEST[1:], *tests], work / "log", **data)
    must([*coverage, "json", "-q", "-o", work / "found.json"], work / "log", **data)


def read_files(work: Path) -> Found:
    ways = taken = 0
    missing = []
    for file, found in json.loads((work / "found.json").read_text())["files"].items():
        name = os.path.relpath(ROOT / file, ROOT)
        ways += found["summary"]["num_branches"]
        taken += found["summary"]["covered_branches"]
        away = set(found["missing_lines"])
        for start, end in found["missing_branches"]:
            if start not in away:
                to = code_of(name, end) if end > 0 else "the end"
                missing.append(Missing(name, start, code_of(name, start), f"to: {to}"))
        missing += [Missing(name, n, code_of(name, n), "not reached") for n in sorted(away)]
    return Found(ways, taken, missing)


def run_cpp(work: Path) -> None:
    build, tree = work / "build", work / "python"
    pybind = subprocess.check_output([sys.executable, "-m", "pybind11", "--cmakedir"], text=True)
    must(["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "-DSTEPSIZE_BASELINE_ONLY=ON",
          "-DSTEPSIZE_OPTIMIZATION=-O0;--coverage;-fprofile-update=atomic", "-Wno-dev",
          "-DCMAKE_SHARED_LINKER_FLAGS=--coverage", "-DCMAKE_MODULE_LINKER_FLAGS=--coverage",
          "-DCMAKE_BUILD_TYPE=None", f"-Dpybind11_DIR={pybind.strip()}",
          f"-DPython_EXECUTABLE={sys.executable}"], work / "log")  # fmt: skip
    must(["cmake", "--build", build, "--parallel", "1"], work / "log")
    shutil.rmtree(tree, ignore_errors=True)
    left_out = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "python" / "stepsize", tree / "stepsize", ignore=left_out)
    shutil.copy(next(build.glob("_core*.so")), tree / "stepsize")
    (tree / "sitecustomize.py").write_text(LEAVES_BY_EXIT)
    for counts in build.rglob("*.gcda"):
        counts.unlink()
    for names, each in ((CPP, "12"), (CPP_WHOLE, "1000")):
        tests = [ROOT / "tests" / name for name in names]
        must([*PYTEST, *tests], work / "log", PYTHONPATH=paths(tree), OMP_WAIT_POLICY="passive",
             STEPSIZE_EACH=each)  # fmt: skip
    must([sys.executable, "-m", "gcovr", "--root", ROOT, "--filter", ROOT / "cpp", "--decisions",
          "--exclude-throw-branches", "--exclude-unreachable-branches", "--json",
          work / "found.json", "--gcov-ignore-errors=all", "--gcov-suspicious-hits-threshold=0",
          build], work / "log",
         PYTHONPATH=paths(tree))  # fmt: skip


def read_cpp(work: Path) -> Found:
    ways = taken = 0
    missing = []
    for entry in json.loads((work / "found.json").read_text())["files"]:
        lines: dict[int, dict[str, int]] = {}
        for line in entry["lines"]:  # once for each function whose lines they are
            decision = line.get("gcovr/decision") or {}
            found = lines.setdefault(line["line_number"], {})
            names = {"count_true": "true", "count_false": "false", "count": "the case"}
            for name, way in names.items():
                if name in decision:
                    found[way] = found.get(way, 0) + decision[name]
        for number, found in sorted(lines.items()):
            code = code_of(entry["file"], number)
            if code.startswith(("throw ", '"')):  # a message with the word "for"
                continue
            ways += len(found)
            taken += sum(count > 0 for count in found.values())
            missing += [Missing(entry["file"], number, code, f"never {way}")
                        for way, count in found.items() if not count]  # fmt: skip
    return Found(ways, taken, missing)


def exceptions() -> dict[tuple[str, str, str], str]:
    entries = tomllib.loads((HERE / "exceptions.toml").read_text()).get("exception", [])
    return {
        (entry["file"], code, way): entry["why"]
        for entry in entries
        for code, way in entry["decisions"]
    }


def unexplained(found: Found) -> Iterator[Missing]:
    known = exceptions()
    for missing in found.missing:
        if (missing.file, missing.code, missing.way) not in known:
            yield missing


SESSIONS = {"files": (run_files, read_files), "cpp": (run_cpp, read_cpp)}


def main() -> int:
    words = sys.argv[1:]
    if not words or words[0] not in SESSIONS:
        raise SystemExit(__doc__)
    run, read = SESSIONS[words[0]]
    work = BUILDS / words[0]
    work.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    if "--shown" not in words:
        (work / "log").unlink(missing_ok=True)
        run(work)
    found = read(work)
    for line in (work / "log").read_text().splitlines():
        if line.startswith(("FAILED", "ERROR")):
            print(line)
    left = list(unexplained(found))
    for missing in left:
        print(f"{missing.file}:{missing.line}: {missing.code} | {missing.way}")
    print(f"{found.taken} of {found.decisions} ways of decisions taken; not taken or not reached "
          f"{len(found.missing)}, of which {len(left)} are in no list of exceptions")  # fmt: skip
    print(f"{time.monotonic() - start:.0f} s")
    return int(bool(left))


if __name__ == "__main__":
    raise SystemExit(main())
