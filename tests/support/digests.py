"""Prints what every compiled rule computes, for the instruction set that STEPSIZE_TARGET names."""

import json
import os

import cases
import stepsize as ss
from stepsize import _core

THREADS = (1, 2, 3, 5)


def main() -> None:
    _core.set_back_off(False)  # on a crowded machine too
    # Threads choose who computes a chunk, whatever the options: one case of each rule shows it.
    first = {case.cls: case for case in reversed(cases.COMPILED)}
    found = {
        f"{case}|{dtype.__name__}|{threads}": cases.digest(cases.run_edges(case, dtype, threads))
        for case in cases.COMPILED
        for dtype in cases.DTYPES
        for threads in (THREADS if case is first[case.cls] else THREADS[:1])
    }
    info = ss.build_info()
    counted = info["openmp"] and os.path.isdir("/proc/self/task")
    tasks = len(os.listdir("/proc/self/task")) if counted else max(THREADS)
    print(json.dumps({"target": info["target"], "tasks": tasks, "digests": found}))


if __name__ == "__main__":
    main()
