"""Builds and runs the C++ core and parts of the suite under sanitizers and on other machines.

    python tests/sanitizers/run.py quick      the next one on a single instruction set
    python tests/sanitizers/run.py address    addresses, leaks and undefined behaviour, GCC
    python tests/sanitizers/run.py undefined  undefined behaviour, Clang
    python tests/sanitizers/run.py thread     data races, with Clang and its OpenMP
    python tests/sanitizers/run.py python     the extension under a cross-section of the suite
    python tests/sanitizers/run.py machines   equal digests of GCC, Clang and aarch64 under qemu
    python tests/sanitizers/run.py allocations  each one of a step, a save and a load fails
    python tests/sanitizers/run.py fuzz 600   libFuzzer steers the driver for so many seconds

The first four commit a fault on purpose that the sanitizer must find. Nothing is suppressed.
Packages of Debian: clang-14, libclang-rt-14-dev and libomp-14-dev; g++-aarch64-linux-gnu and
qemu-user. CLANG names another compiler. What is built lies in build/sanitizers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILDS = ROOT / "build" / "sanitizers"
CLANG = os.environ.get("CLANG", "clang++-14")
RELEASE = "-O3"

# What keeps arrays, state and files; the loops have the driver.
CROSS_SECTION = [
    *("serialization/test_container.py", "schedules/test_laws.py", "outside/test_memory.py"),
    *("outside/test_processes.py", "optimizers/test_bind.py", "optimizers/test_sparse.py"),
    *("optimizers/test_row_doors.py", "optimizers/test_atomic.py", "optimizers/test_functional.py"),
    *("optimizers/test_population.py", "optimizers/test_state_dict.py"),
    *("optimizers/test_arriving.py", "optimizers/test_loop_options.py"),
    *("optimizers/test_partition.py", "optimizers/test_partition_in_runs.py"),
]


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, env={**os.environ, **environment}, text=True, check=False)


def must(*command: object, **environment: str) -> None:
    found = run(*command, **environment).returncode
    if found:
        raise SystemExit(f"exit code {found}: {' '.join(map(str, command))}")


def build(name: str, *options: str, compiler: str = "g++") -> Path:
    """The folder with what was built."""
    folder = BUILDS / name
    command = ["cmake", "-S", ROOT / "tests" / "sanitizers", "-B", folder]
    command += [f"-DCMAKE_CXX_COMPILER={compiler}", *(f"-D{option}" for option in options)]
    if shutil.which("ninja"):
        command += ["-G", "Ninja"]
    log = folder.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as out:
        for words in (command, ["cmake", "--build", folder, "--parallel", str(os.cpu_count())]):
            if subprocess.run(words, stdout=out, stderr=out, check=False).returncode:
                raise SystemExit(log.read_text()[-4000:])
    return folder


def finds(drive: list[object], *faults: str, **environment: str) -> None:
    """Stop unless the sanitizer of this build ends each of these faults."""
    for fault in faults:
        done = subprocess.run(
            [*map(str, drive), "--fault", fault],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if "Sanitizer" not in done.stderr and "runtime error" not in done.stderr:
            raise SystemExit(f"the fault '{fault}' was not found:\n{done.stdout}{done.stderr}")


def quick() -> None:  # most of its time goes into compiling
    drive = build("quick", "SANITIZE=address,undefined", "TARGETS=baseline", "KERNEL_OPTIONS=-O0")
    drive = drive / "drive"
    finds([drive], "address", "undefined", "leak")
    must(drive)


def address() -> None:
    # GCC's OpenMP leaks nothing.
    drive = build("address", "SANITIZE=address,undefined") / "drive"
    finds([drive], "address", "undefined", "leak")
    must(drive, "--rounds", 3)


def undefined() -> None:
    # Clang's checks know more: pointers that are moved from null, for one.
    drive = build("undefined", "SANITIZE=undefined", compiler=CLANG) / "drive"
    finds([drive], "undefined")
    must(drive, "--rounds", 3)


def thread() -> None:
    # Threads that never sleep: to wake one, Clang's OpenMP takes a lock that its threads make, in
    # code that no sanitizer sees. setarch, since TSan wants its addresses where they are.
    drive = build("thread", "SANITIZE=thread", compiler=CLANG) / "drive"
    awake = {"KMP_BLOCKTIME": "infinite"}
    finds(["setarch", "-R", drive], "thread", **awake)
    must("setarch", "-R", drive, "--rounds", 3, **awake)


def python() -> None:
    """In a copy of the tree, whose extension is compiled with GCC's sanitizers."""
    tree = BUILDS / "python"
    shutil.rmtree(tree, ignore_errors=True)
    left_out = shutil.ignore_patterns("build", ".git", "*.so", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=left_out)
    flags = "-O1 -g1 -fsanitize=address,undefined -fno-omit-frame-pointer"
    pybind = subprocess.check_output([sys.executable, "-m", "pybind11", "--cmakedir"], text=True)
    must("cmake", "-S", tree, "-B", tree / "build", "-DCMAKE_BUILD_TYPE=None",
         f"-DCMAKE_CXX_FLAGS={flags}", f"-Dpybind11_DIR={pybind.strip()}",
         f"-DPython_EXECUTABLE={sys.executable}")  # fmt: skip
    must("cmake", "--build", tree / "build", "--parallel", os.cpu_count())
    for module in (tree / "build").glob("_core*.so"):
        shutil.copy(module, tree / "python" / "stepsize")
    libraries = [
        subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    os.chdir(tree)
    must(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "timeout=1800"),
        *(f"tests/{path}" for path in CROSS_SECTION),
        PYTHONPATH="python",
        LD_PRELOAD=" ".join(libraries),
        ASAN_OPTIONS="detect_leaks=0",  # Python itself keeps what it has until the end
        UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1",
        PYTHONMALLOC="malloc",
    )


def machines() -> None:
    release = f"KERNEL_OPTIONS={RELEASE}"
    cross = "aarch64-linux-gnu-g++"
    qemu = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]
    drives = {
        "GCC": [build("gcc", release) / "drive"],
        "Clang": [build("clang", release, compiler=CLANG) / "drive"],
        "aarch64": [
            *qemu,
            build("aarch64", release, "TARGETS=baseline", "CMAKE_SYSTEM_NAME=Linux",
                  "CMAKE_SYSTEM_PROCESSOR=aarch64", compiler=cross) / "drive",
        ],
    }  # fmt: skip
    answers = {}
    for name, drive in drives.items():
        words = [*map(str, drive), "--digests"]
        answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        answers[name] = [line for line in answer.splitlines() if len(line.split()[0]) == 16]
        print(f"{name}: {answer.splitlines()[-2]}, {len(answers[name])} digests")
    first = answers["GCC"]
    for name, lines in answers.items():
        wrong = [line for line, right in zip(lines, first, strict=True) if line != right]
        if wrong:
            raise SystemExit(f"{name} differs:\n" + "\n".join(wrong))
    print(f"{len(first)} digests agree on {', '.join(answers)}")


def allocations(how: str = "") -> None:
    """With the extension of this tree, or the installed one where the tree has none.

    "quick" for some optimizers and without Python's own memory.
    """
    shim = BUILDS / "allocations.so"
    shim.parent.mkdir(parents=True, exist_ok=True)
    here = ROOT / "tests" / "sanitizers"
    compiler = os.environ.get("CXX") or shutil.which("g++") or "clang++"
    must(compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-o", shim, here / "allocations.cpp",
         "-ldl")  # fmt: skip
    own = ["python"] if list((ROOT / "python" / "stepsize").glob("_core.*so")) else []
    path = os.pathsep.join(str(ROOT / name) for name in (*own, "tests/support"))
    must(sys.executable, here / "allocations.py", how, LD_PRELOAD=str(shim), PYTHONPATH=path,
         OMP_NUM_THREADS="1")  # fmt: skip


def fuzz(seconds: str = "60") -> None:
    sets = "TARGETS=avx2;baseline"  # the third makes each execution longer, and the build
    folder = build("fuzz", "SANITIZE=address,undefined", "FUZZER=ON", sets, compiler=CLANG)
    corpus = BUILDS / "corpus"
    corpus.mkdir(exist_ok=True)
    must(folder / "fuzz", corpus, f"-max_total_time={seconds}", "-max_len=256",
         "-print_final_stats=1", f"-artifact_prefix={BUILDS}/")  # fmt: skip


SESSIONS = {
    work.__name__: work
    for work in (quick, address, undefined, thread, python, machines, allocations, fuzz)
}


def main() -> None:
    words = sys.argv[1:]
    if not words or words[0] not in SESSIONS:
        raise SystemExit(__doc__)
    start = time.monotonic()
    SESSIONS[words[0]](*words[1:])
    print(f"{words[0]}: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
