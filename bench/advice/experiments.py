"""Look at labelled runs with `what_if`: train each again to where it was, and keep the branches.

    python bench/advice/experiments.py --runs FILE --out FILE [--most N] [--every FIRST STEP]

FILE is what probabilities.py keeps; at most N runs of each label and task are taken.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from runs import Runner, subjects

import stepsize as ss


def looked_at(row: dict[str, Any]) -> Any:
    """What `what_if` says of the run of a row, trained again bit for bit."""
    task = next(task for task in subjects() if task.name == row["task"])
    run = Runner(task, row["rule"], row["rate"])
    run.train(row["steps"])
    history = run.until(row["steps"])
    known = np.asarray(row["history"]["loss"])[: row["steps"]]
    if not np.allclose(history["loss"], known, rtol=1e-3, equal_nan=True):
        return None
    return ss.what_if(
        run.task.value_and_grad,
        run.params,
        run.optimizer,
        run.task.data,
        batch_size=run.task.batch_size,
        history=history,
        loss=lambda params, batch: run.task.value_and_grad(params, batch)[0],
        progress=False,
    )


def chosen_of(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most so many of each label and task, in an order that mixes tasks."""
    taken: Counter[tuple[str, str]] = Counter()
    out = []
    for at in np.random.default_rng(0).permutation(len(rows)):
        row = rows[at]
        taken[row["label"], row["task"]] += 1
        if row["label"] and taken[row["label"], row["task"]] <= most:
            out.append(row)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=3)
    parser.add_argument(
        "--every", type=int, nargs=2, default=(0, 1), help="first, and each so many"
    )
    chosen = parser.parse_args()
    rows = chosen_of(pickle.loads(chosen.runs.read_bytes()), chosen.most)
    rows = rows[chosen.every[0] :: chosen.every[1]]
    with chosen.out.open("ab") as file:
        for number, row in enumerate(rows):
            what_if = None
            if row["label"] != "diverging":
                what_if = looked_at(row)
                if what_if is None:
                    sys.stdout.write(f"{row['task']} {row['rule']} is another run by now\n")
                    continue
            keep = ("task", "rule", "rate", "steps", "label", "split", "regret", "start", "loss")
            history = {k: np.asarray(v)[: row["steps"]] for k, v in row["history"].items()}
            told = {k: row[k] for k in keep} | {"history": history}
            pickle.dump([told | ({"what_if": what_if} if what_if else {})], file)
            if number % 20 == 0:
                file.flush()
                sys.stdout.write(f"{number} of {len(rows)}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
