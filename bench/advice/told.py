"""Fit what the verdict of curves and branches adds to the probabilities of the curves.

    python bench/advice/told.py FILE [FILE ...] [--fit]

The files are those of experiments.py. For each run that an experiment is asked for, the powers of
the shares of the curves and a row for the verdict of the rule are fitted (L2 on the rows) on the
tuning, report and validation splits; `--fit` prints them for `stepsize/diagnosis/calibration.py`.
What is printed of how often the most probable verdict was right is of tasks that had no say: in
eight folds of these splits, and of the held-out split, beside the table as it is.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.model_selection import GroupKFold
from verdicts import NAMES, rows_of, split_of

from stepsize.diagnosis import calibration
from stepsize.diagnosis.ahead import ahead_of, revised
from stepsize.diagnosis.checks import judge
from stepsize.diagnosis.doubt import TOLD_BY_BRANCHES, in_doubt
from stepsize.diagnosis.measurement import measure

WEIGHT = 0.5  # of the squares of the rows
BINS = (0.0, 0.4, 0.6, 0.8, 0.9, 1.01)


def seen(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Logarithms of the shares of the curves, the verdict of the rule, label and task of each."""
    logs, verdicts, labels, tasks, splits = [], [], [], [], []
    for row in rows:
        if "what_if" not in row:
            continue
        features = measure(row["history"])
        found = judge(features)
        shares = calibration.probabilities(features, found[0].kind)
        if not in_doubt(features, found[0].kind, shares):
            continue
        ahead = ahead_of(row["what_if"], features)
        told = revised(found, features, ahead, row["what_if"], doubtful=True)
        if ahead.broke or told[0].kind not in TOLD_BY_BRANCHES:
            continue
        logs.append(np.log(np.maximum(list(shares.values()), 1e-300)))
        verdicts.append(TOLD_BY_BRANCHES.index(told[0].kind))
        labels.append(NAMES.index(row["label"]))
        tasks.append(row["task"].removesuffix("-scarce").removesuffix("-narrow"))
        splits.append(split_of(row))
    return {
        "logs": np.array(logs),
        "verdicts": np.array(verdicts),
        "labels": np.array(labels),
        "tasks": np.array(tasks),
        "splits": np.array(splits),
    }


def said(theta: Any, logs: Any, verdicts: Any) -> Any:
    power, rows = theta[0], theta[1:].reshape(len(TOLD_BY_BRANCHES), len(NAMES))
    scores = power * logs + rows[verdicts]
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def fitted(logs: Any, verdicts: Any, labels: Any) -> Any:
    def cost(theta: Any) -> float:
        likely = said(theta, logs, verdicts)[np.arange(len(labels)), labels]
        return float(
            -np.log(np.maximum(likely, 1e-300)).sum() + WEIGHT * np.square(theta[1:]).sum()
        )

    start = np.append(1.0, np.zeros(len(TOLD_BY_BRANCHES) * len(NAMES)))
    return minimize(cost, start, method="L-BFGS-B").x


def present() -> Any:
    rows = [calibration.TOLD[name] for name in TOLD_BY_BRANCHES]
    return np.append(calibration.CURVES_COUNT, np.ravel(rows))


def report(title: str, shares: Any, labels: Any) -> list[str]:
    top, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    likely = shares[np.arange(len(labels)), labels]
    out = [f"\n{title}: {len(labels)} runs, right {right.mean():.3f}"]
    out[0] += f", mean log {np.log(np.maximum(likely, 1e-300)).mean():.3f}"
    for low, high in pairwise(BINS):
        here = (top >= low) & (top < high)
        if here.any():
            means = f"{top[here].mean():.3f}: right {right[here].mean():.3f}"
            out.append(f"said {low} to {high}, mean {means} of {here.sum()}")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--fit", action="store_true", help="print the table")
    chosen = parser.parse_args()
    data = seen(list(rows_of(chosen.files)))
    held = data["splits"] == "held_out"
    parts = ("logs", "verdicts", "labels", "tasks")
    logs, verdicts, labels, tasks = (data[name][~held] for name in parts)
    folds = np.zeros((len(labels), len(NAMES)))
    for train, test in GroupKFold(8).split(logs, labels, tasks):
        theta = fitted(logs[train], verdicts[train], labels[train])
        folds[test] = said(theta, logs[test], verdicts[test])
    theta = fitted(logs, verdicts, labels)
    others = [data[name][held] for name in parts]
    out = report("three splits, the table as it is", said(present(), logs, verdicts), labels)
    out += report("three splits, in folds", folds, labels)
    out += report("held out, the table as it is", said(present(), *others[:2]), others[2])
    out += report("held out, fitted on the three", said(theta, *others[:2]), others[2])
    if chosen.fit:
        out.append(f"\nCURVES_COUNT = {theta[0]:.2f}")
        for name, row in zip(TOLD_BY_BRANCHES, theta[1:].reshape(-1, len(NAMES)), strict=True):
            out.append(f'"{name}": ({", ".join(f"{v:.2f}" for v in row - row.mean())}),')
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
