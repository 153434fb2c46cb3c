"""Long versions of the fault tests: run them before a release and after a change to saving.

python bench/soak/soak.py flips            every single-bit flip and truncation of 64 KiB
python bench/soak/soak.py kills 1000       so many SIGKILLs at random moments of training
python bench/soak/soak.py resumes 1000     stop after each of so many steps and resume
python bench/soak/soak.py steps 1000000    memory of one long run
python bench/soak/soak.py fits 10000       memory, threads and files after many short runs
"""

import gc
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
import test_checkpoint
import test_resume

import fitting
import stepsize as ss
from stepsize.serialization import container

TESTS = Path(fitting.__file__).parent


def memory():
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def flips(folder):
    """Refuse each damaged version of a file."""
    array = np.random.default_rng(0).normal(size=8000)
    container.write(folder / "file", {"w": array}, {"epoch": 3})
    blob = (folder / "file").read_bytes()
    accepts = test_checkpoint.read_bytes
    damaged = bytearray(blob)
    for bit in range(8 * len(blob)):
        damaged[bit // 8] ^= 1 << bit % 8
        assert not accepts(bytes(damaged)), f"bit {bit}"
        damaged[bit // 8] ^= 1 << bit % 8
    assert not any(accepts(blob[:n]) for n in range(len(blob))) and accepts(blob)
    return f"{8 * len(blob):,} flips and {len(blob):,} truncations refused"


def kills(folder, count):
    """Kill training until so many kills have hit."""
    shim = folder / "shim.so"
    source, session = TESTS / "faults" / "shim.c", TESTS / "faults" / "session.py"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    (folder / "runs").mkdir()
    result = subprocess.run(
        [sys.executable, session, "kill_runs_at_random", folder / "runs", str(count), "60"],
        env=os.environ | {"LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return result.stdout.strip() + ", every one ended with the bits of the uninterrupted run"


def resumes(folder, count):
    """Schedule, plateau, averaged parameters, early stopping, shuffling: stopped anywhere."""
    whole = test_resume.Session(folder / "whole").run(count).bits()
    for step in range(1, count):
        path = folder / "part"
        path.unlink(missing_ok=True)
        test_resume.Session(path).run(step)
        assert test_resume.Session(path).run(count).bits() == whole, f"stopped after step {step}"
    return f"{count - 1} stops and resumes, 0 differing bits"


def steps(folder, count):
    """One run; what it holds beyond the numbers of its history."""
    params, grads, seen = {"x": np.zeros(8)}, {"x": np.full(8, 1e-3)}, []

    class Look:
        def on_step(self, run):
            if run.step % (count // 20) == 0:
                seen.append(memory())

    options = {"steps": count, "callbacks": [Look()], "progress": False}
    optimizer = ss.Adam(params, lr=ss.schedules.cosine(1e-3, 0, count))
    ss.fit(lambda p, b: (1.0, grads), params, optimizer, itertools.repeat(None), **options)
    history = 6 * 8 * count * 19 // 20
    growth = seen[-1] - seen[0] - history
    assert growth < 2**20, growth
    return f"{count:,} steps: {growth / 1024:.0f} KiB more than the {history >> 20} MiB of history"


def fits(folder, count):
    """Many runs made and dropped."""

    def one():
        fitting.fit(fitting.make_params(), epochs=1, batch_size=20, progress=False)

    for _ in range(count // 2):
        one()
    gc.collect()
    before = memory(), threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(count):
        one()
    gc.collect()
    after = memory(), threading.active_count(), len(os.listdir("/proc/self/fd"))
    assert after[1:] == before[1:] and after[0] - before[0] < 2**20, (before, after)
    return f"{count:,} runs: {(after[0] - before[0]) / 1024:.0f} KiB, no thread and no file more"


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        print(globals()[name](Path(folder), *map(int, numbers)))
    print(f"{time.perf_counter() - start:.0f} s")
