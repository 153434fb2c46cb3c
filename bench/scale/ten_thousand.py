"""What a run costs the driver of a sweep or search, at a thousand runs and at ten thousand.

    python bench/scale/ten_thousand.py

The objective does next to nothing. Memory is what the process grew by, most of it the records.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stepsize as ss

SPACE = {"lr": ss.LogUniform(1e-4, 1.0), "rule": ss.Choice("sgd", "adam")}


def cheap(point: dict[str, Any]) -> float:
    return float(point["lr"])


def reporting(point: dict[str, Any], trial: Any) -> float:
    for step in range(5):
        trial.report(step, point["lr"])
    return float(point["lr"])


def sweep(count: int, **more: Any) -> Any:
    return ss.sweep(cheap, {"lr": [k / count for k in range(1, count + 1)]}, **more)


def random(objective: Any, count: int, **more: Any) -> Any:
    return ss.tune(objective, SPACE, trials=count, method="random", **more)


def kept(count: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return random(cheap, count, storage=Path(folder) / "runs")


CASES: dict[str, Callable[[int], Any]] = {
    "sweep": sweep,
    "random": lambda count: random(cheap, count),
    "random, 5 reports a run": lambda count: random(reporting, count),
    "random, kept in a file": kept,
    "sweep, 2 processes": lambda count: sweep(count, executor=2),
}


def memory() -> float:
    """The most memory that the process had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    print(f"{'':26}  1,000 runs  10,000 runs  grown by")
    for name, run in CASES.items():
        run(10)
        took, before = [], memory()
        for count in (1000, 10_000):
            began = time.perf_counter()
            assert len(run(count).trials) == count
            took.append((time.perf_counter() - began) / count * 1e3)
        print(f"{name:26}  {took[0]:7.3f} ms  {took[1]:8.3f} ms  {memory() - before:5.1f} MB")


if __name__ == "__main__":
    main()
