"""Every rule on every problem of the map, with the same budget for each.

    python bench/rules_map/run.py              what is missing of results.json: rules, problems
    python bench/rules_map/run.py --only Muon  those again
    python bench/rules_map/run.py --list       the problems, and what is asked

A rule has ten trials of its rate on a seed that is not scored, then three seeds at the best of them
and three at its default rate. A run is 600 gradients; it passes where it ends below the goal of the
problem. The whole takes half an hour of one processor.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import networks  # noqa: E402, F401
import noisy  # noqa: E402, F401
import smooth  # noqa: E402, F401
import trials  # noqa: E402
from problem import PROBLEMS, Problem  # noqa: E402

import stepsize as ss  # noqa: E402

RESULTS = HERE / "results.json"
DIGITS = 3


def default_rate(cls: type) -> float:
    import inspect

    return float(inspect.signature(cls).parameters["lr"].default)


def scored(cls: type, problem: Problem) -> dict[str, object]:
    """The tuned rate, and how many of three seeds pass with it and with the default."""
    default = default_rate(cls)
    try:
        rate = trials.tuned(cls, problem, default)
        found = {
            lr: [trials.run(cls, problem, lr, seed) for seed in trials.SCORED_ON]
            for lr in {rate, default}
        }
    except trials.Refused:
        return {"refused": True}
    passes = {lr: sum(value <= problem.goal for value in values) for lr, values in found.items()}
    left = sorted(found[rate])[1]
    return {
        "rate": float(f"{rate:.{DIGITS}g}"),
        "left": float(f"{min(left, 1e300):.{DIGITS}g}"),
        "passes": passes[rate],
        "by default": passes[default],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--problems", default="", help="part of a problem's name")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    if given.list:
        for each in PROBLEMS:
            print(f"{each.situation:28} {each.name:42} left at most {each.goal:g}   {each.words}")
        return
    kept = read()
    kept["problems"] = {p.name: {"situation": p.situation, "goal": p.goal} for p in PROBLEMS}
    for cls in ss.optimizers.registry():
        rows = kept["rules"].setdefault(cls.__name__, {})
        if cls.__name__ in given.only:
            rows.clear()
        start = time.monotonic()
        for problem in PROBLEMS:
            if given.problems in problem.name and problem.name not in rows:
                rows[problem.name] = scored(cls, problem)
        for name in set(rows) - set(kept["problems"]):
            del rows[name]
        write(kept)
        passed = sum(row.get("passes", 0) == 3 for row in rows.values())
        print(
            f"{cls.__name__:20} {passed:3} of {len(rows)}  {time.monotonic() - start:.0f} s",
            flush=True,
        )


FIELDS = ("rate", "left", "passes", "by default")


def read() -> dict:
    """The results so far: of each rule and problem, by name."""
    if not RESULTS.exists():
        return {"problems": {}, "rules": {}}
    kept = json.loads(RESULTS.read_text())
    names = list(kept["problems"])
    kept["rules"] = {
        rule: {
            name: {"refused": True} if row is None else dict(zip(FIELDS, row, strict=True))
            for name, row in zip(names, rows, strict=True)
        }
        for rule, rows in kept["rules"].items()
    }
    return kept


def write(kept: dict) -> None:
    """A line for each problem and rule, whose rows are in the order of the problems."""
    problems = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in kept["problems"].items()
    )
    rules = ",\n".join(
        f"{json.dumps(rule)}: {json.dumps([row_of(rows[name]) for name in kept['problems']])}"
        for rule, rows in sorted(kept["rules"].items())
        if rows.keys() == kept["problems"].keys()
    )
    RESULTS.write_text(f'{{"problems": {{\n{problems}\n}},\n"rules": {{\n{rules}\n}}}}\n')


def row_of(found: dict) -> list | None:
    return None if "refused" in found else [found[field] for field in FIELDS]


if __name__ == "__main__":
    main()
