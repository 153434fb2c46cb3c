"""What `lr_find` and `diagnose` say of wrong gradients: ``python bench/gradients/told.py``.

The tasks of ``bench/advice``, each with one rule: gradients that are right, that have the sign of
one leaf flipped, and that are twice or a third of what they should be. `lr_find` is asked at once;
`fit` trains 150 steps at 0.01 to 100 times the best rate, and `diagnose` reads its history.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import stepsize as ss

ADVICE = Path(__file__).parents[1] / "advice"
sys.path.insert(0, str(ADVICE))
from families import make  # noqa: E402
from tasks import RULES, tasks  # noqa: E402

KINDS: dict[str, Callable[[Any, str], Any]] = {
    "right": lambda grads, leaf: grads,
    "sign": lambda grads, leaf: grads | {leaf: -grads[leaf]},
    "twice": lambda grads, leaf: {name: 2 * g for name, g in grads.items()},
    "third": lambda grads, leaf: {name: g / 3 for name, g in grads.items()},
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


def ask(task: Any, rule: str, leaf: str, centre: float, seen: Counter[Any]) -> None:
    for kind in KINDS:
        function = planted(task, kind, leaf)
        found = ss.lr_find(
            function, task.params(0), lambda: task.batches(0), optimizer=make(rule), progress=False
        )
        seen["lr_find", kind, "told" if found.mismatch else "not told"] += 1
        seen["lr_find", kind, "a rate" if found.usable else "no rate"] += 1
        for decades in RATES if kind == "right" else (-1.0, 0.0):
            params = task.params(0)
            optimizer = make(rule)(params, lr=10.0 ** (centre + decades))
            steps = min(STEPS, task.steps)
            history = ss.fit(function, params, optimizer, task.batches(0), steps=steps)
            diagnosis = ss.diagnose(history)
            told = diagnosis.mismatch is not None
            seen["fit", kind, "told" if told else "not told"] += 1
            advice = not told and diagnosis.verdict not in NO_ADVICE
            advice |= diagnosis.suggested_lr is not None
            seen["fit", kind, "advice" if advice else "no advice"] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=10**6, help="tasks")
    parser.add_argument("--every", type=int, default=1, help="one task in so many")
    chosen = parser.parse_args()
    truth = json.loads((ADVICE / "truth.json").read_text("utf-8"))
    seen: Counter[Any] = Counter()
    warnings.simplefilter("ignore")
    with np.errstate(all="ignore"):
        for task in tasks()[: chosen.most : chosen.every]:
            rng = np.random.default_rng(zlib.crc32(task.name.encode()))
            leaves = sorted(task.params(0))
            rule = str(rng.choice(sorted(RULES)))
            leaf = leaves[int(rng.integers(len(leaves)))]
            ask(task, rule, leaf, best_rate(truth, task.name, rule), seen)
    for key in sorted(seen):
        sys.stdout.write(f"{' '.join(key):28s} {seen[key]:5d}\n")


if __name__ == "__main__":
    main()
