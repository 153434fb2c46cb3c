"""What `lr_find` and `diagnose` say of wrong gradients: ``python bench/gradients/told.py``.

The tasks of ``bench/advice``, each with one rule: gradients that are right, that are twice or a
third of what they should be, or that have one leaf wrong: flipped, half, 0, of another place.
`lr_find` is asked at once; `fit` trains 150 steps at 0.01 to 100 times the best rate (wrong ones at
0.1 times and at it), and `diagnose` reads its history. A fault is "detectable" where
`check_gradients` sees it at the start.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import stepsize as ss

ADVICE = Path(__file__).parents[1] / "advice"
sys.path.insert(0, str(ADVICE))
from families import make  # noqa: E402
from tasks import RULES, SPLITS, tasks  # noqa: E402

KINDS: dict[str, Callable[[Any, str], Any]] = {
    "right": lambda grads, leaf: grads,
    "sign": lambda grads, leaf: grads | {leaf: -grads[leaf]},
    "twice": lambda grads, leaf: {name: 2 * g for name, g in grads.items()},
    "third": lambda grads, leaf: {name: g / 3 for name, g in grads.items()},
    "half a leaf": lambda grads, leaf: grads | {leaf: grads[leaf] / 2},
    "zero leaf": lambda grads, leaf: grads | {leaf: 0 * grads[leaf]},
    "shifted leaf": lambda grads, leaf: grads | {leaf: np.roll(grads[leaf], 1)},
}
RATES = (-2.0, -1.0, 0.0, 1.0, 2.0)  # decades from the best
STEPS = 150
NO_ADVICE = ("healthy", "converged", "overfitting", "not_enough_data")


def planted(task: Any, kind: str, leaf: str) -> Callable[[Any, Any], Any]:
    def function(params: Any, batch: Any) -> Any:
        loss, grads = task.value_and_grad(params, batch)
        return loss, KINDS[kind](grads, leaf)

    return function


def best_rate(truth: Any, task: str, rule: str) -> float:
    row = next(r for r in truth if (r["task"], r["rule"]) == (task, rule))
    means = [np.mean([np.inf if v is None else v for v in losses]) for losses in row["losses"]]
    return float(row["log10_rates"][int(np.argmin(means))])


def detectable(task: Any, kind: str, leaf: str) -> bool:
    batch = next(iter(task.batches(0)))
    try:
        check = ss.check_gradients(planted(task, kind, leaf), task.params(0), batch)
        return bool(check.wrong)
    except ValueError:  # the loss is not finite there
        return False


def ask(task: Any, rule: str, leaf: str, centre: float, kinds: list[str]) -> list[Any]:
    rows = []
    for kind in kinds:
        function = planted(task, kind, leaf)
        row = {"task": task.name, "split": task.split, "rule": rule, "kind": kind, "leaf": leaf}
        row |= {"detectable": kind != "right" and detectable(task, kind, leaf)}
        found = ss.lr_find(
            function, task.params(0), lambda: task.batches(0), optimizer=make(rule), progress=False
        )
        told = bool(found.mismatch)
        rows.append(row | {"who": "lr_find", "told": told, "advice": found.usable})
        for decades in RATES if kind == "right" else (-1.0, 0.0):
            params = task.params(0)
            optimizer = make(rule)(params, lr=10.0 ** (centre + decades))
            steps = min(STEPS, task.steps)
            history = ss.fit(function, params, optimizer, task.batches(0), steps=steps)
            found = ss.diagnose(history)
            told = found.mismatch is not None
            advice = (not told and found.verdict not in NO_ADVICE) or found.suggested_lr is not None
            row |= {"who": "fit", "decades": decades, "verdict": found.verdict}
            rows.append(row | {"told": told, "advice": advice})
    return rows


def mixed(chosen: Sequence[Any]) -> list[Any]:
    """In an order of which each beginning has tasks of all splits."""
    golden = (np.sqrt(5) - 1) / 2
    return [chosen[k] for k in np.argsort(golden * np.arange(len(chosen)) % 1)]


def table(rows: list[Any], title: str) -> str:
    names = {row["task"] for row in rows}
    heading = f"{title}, {len(names)} tasks"
    lines = [f"{heading:22s}   asked    told  advice | detectable, advice about the rate"]
    for who in ("lr_find", "fit"):
        for kind in dict.fromkeys(row["kind"] for row in rows):
            these = [row for row in rows if (row["who"], row["kind"]) == (who, kind)]
            seen = [row for row in these if row["detectable"]]
            counts = [len(these), *(sum(row[name] for row in these) for name in ("told", "advice"))]
            counts += [len(seen), sum(row["advice"] for row in seen)]
            lines.append(f"{who:8s}{kind:14s}" + "".join(f"{n:8d}" for n in counts))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=10**6, help="tasks")
    parser.add_argument("--every", type=int, default=1, help="one task in so many")
    parser.add_argument("--first", type=int, default=0, help="where to begin")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--rows", type=Path, help="gets a line of JSON for each; goes on from it")
    chosen = parser.parse_args()
    truth = json.loads((ADVICE / "truth.json").read_text("utf-8"))
    rows: list[Any] = []
    if chosen.rows is not None and chosen.rows.exists():
        rows = [json.loads(line) for line in chosen.rows.read_text("utf-8").splitlines()]
    done = {row["task"] for row in rows}
    warnings.simplefilter("ignore")
    with np.errstate(all="ignore"):
        for task in mixed(tasks()[chosen.first : chosen.first + chosen.most : chosen.every]):
            if task.name in done:
                continue
            rng = np.random.default_rng(zlib.crc32(task.name.encode()))
            leaves = sorted(task.params(0))
            rule = str(rng.choice(sorted(RULES)))
            leaf = leaves[int(rng.integers(len(leaves)))]
            new = ask(task, rule, leaf, best_rate(truth, task.name, rule), chosen.kinds)
            rows += new
            if chosen.rows is not None:
                with chosen.rows.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in new)
    for split in SPLITS:
        of_split = [row for row in rows if row["split"] == split]
        sys.stdout.write(table(of_split, split) + "\n\n" if of_split else "")
    sys.stdout.write(table(rows, "all") + "\n")


if __name__ == "__main__":
    main()
