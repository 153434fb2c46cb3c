"""Prints what every compiled rule computes, for the instruction set that STEPSIZE_TARGET names."""

import json
import os
import sys

import cases
import stepsize as ss
from stepsize import _core
from stepsize.optimizers import loop

THREADS = (1, 2, 3, 5)


def runs():
    """Each compiled case; a number changed, or two switches, with one of the dtypes in turn."""
    for turn, case in enumerate(cases.COMPILED):
        switches = [case.cls.fields[name] for name in case.keywords if name in case.cls.fields]
        both = len(case.keywords) != 2 and all(map(cases.is_structural, switches))
        for dtype in cases.DTYPES if both else [cases.DTYPES[turn % 2]]:
            yield case, dtype


RUNS = list(runs())
# Threads choose who computes a chunk, whatever the options: one case of each rule shows it.
FIRST = {case.cls: case for case in reversed(cases.COMPILED)}


def sums(case):
    """Whether the loop sums over leaves, which it does alike for all rules."""
    return case.cls is ss.AdamW and not loop.LOOP.keys().isdisjoint(case.keywords)


def name(case, dtype):
    return f"{case}|{dtype.__name__}"


def main(part: int = 0, parts: int = 1) -> None:
    _core.set_back_off(False)  # on a crowded machine too
    found = {
        f"{name(case, dtype)}|{threads}": cases.digest(cases.run_edges(case, dtype, threads))
        for case, dtype in RUNS[part::parts]
        for threads in (THREADS if case is FIRST[case.cls] or sums(case) else THREADS[:1])
    }
    info = ss.build_info()
    counted = info["openmp"] and os.path.isdir("/proc/self/task")
    tasks = len(os.listdir("/proc/self/task")) if counted else max(THREADS)
    print(json.dumps({"target": info["target"], "tasks": tasks, "digests": found}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
