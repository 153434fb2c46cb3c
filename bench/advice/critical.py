"""Does the critical rate of the first update bound the rates that a training wants?

    python bench/advice/critical.py          needs truth.json

The critical rate, found by doubling and bisection from losses, is measured at the start of every
task and rule, on one batch. Printed are, in decades above it, the best constant rate and the
highest one with a regret of at most 0.05, the share of runs whose best rate lies above it, and what
it cost in gradients where the loss comes with them.
"""

from __future__ import annotations

import json
import math
import sys

import numpy as np
from automatic import task_of
from families import make
from score import best_rate
from tasks import RULES
from truth import STORE

import stepsize as ss

GUESS = 1e-3


def main() -> None:
    found: dict[str, list[tuple[float, float, int]]] = {rule: [] for rule in RULES}
    for cell in json.loads(STORE.read_text()):
        task = task_of(cell["task"])
        params = task.params(0)
        optimizer = make(cell["rule"])(params, lr=GUESS)
        with np.errstate(all="ignore"):
            batch = next(task.batches(100))
            seen = ss.sharpness(task.value_and_grad, params, batch, optimizer=optimizer)
        if not 0 < seen.critical_rate < math.inf:
            continue
        start = np.array(cell["start"])
        rows = np.array([[np.nan if v is None else v for v in row] for row in cell["losses"]])
        ends = np.fmin(rows, start).mean(axis=1)
        regret = (ends - ends.min()) / (start.mean() - ends.min())
        highest = float(np.array(cell["log10_rates"])[regret <= 0.05].max())
        critical = math.log10(seen.critical_rate)
        best = math.log10(best_rate(cell)) - critical
        found[cell["rule"]].append((best, highest - critical, seen.gradients))
    found["all"] = [row for rows in found.values() for row in rows]
    for rule, values in found.items():
        best, highest, gradients = np.array(values).T
        low, middle, high = np.quantile(best, (0.05, 0.5, 0.95))
        sys.stdout.write(
            f"{rule:9s} runs {len(best)}  best {middle:+.2f} ({low:+.2f} to {high:+.2f})  highest "
            f"{np.median(highest):+.2f}  above {np.mean(best > 0):.2f}  gradients "
            f"{gradients.mean():.1f}\n"
        )


if __name__ == "__main__":
    main()
