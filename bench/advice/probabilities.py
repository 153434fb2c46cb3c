"""Fit `Diagnosis.probabilities` on runs labelled by the definitions of the verdicts.

    python bench/advice/probabilities.py --runs FILE [--tasks N]        needs truth.json

FILE keeps the labelled runs, hours of one processor, and is read when it is there, also by
diagnosis.py, which scores the verdicts on them. Prints how often what was said was right on tasks
held out, in eight folds, and the table of weights for `stepsize/diagnosis/calibration.py`.

The labels say what would happen otherwise (`width`: first loss minus the lowest level seen):

    diverging      not finite, or the end above the start by a tenth of the width;
    too_high, too_low   a regret of 0.1 (0.5) beyond thrice (a tenth of) the rates within 5 (20) %;
    overfitting    the validation loss was best before 60 % and rose by a tenth of its range since;
    converged      third and last quarter alike, and neither the same rate nor a tenth gains 0.5 %;
    underfitting   the same, and a larger model ends at three quarters of the loss;
    healthy        the last half gained 2 % (or 10 % of the loss), going on gains 1 % (or 10 %);
    plateau        going on gains nothing, a tenth of the rate 2 % (or 15 % of the loss).
"""

from __future__ import annotations

import argparse
import math
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
from diagnosis import best
from runs import LARGER, SHIFTS, Runner, _larger, subjects
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from tasks import RULES

from stepsize.diagnosis import VERDICTS, calibration
from stepsize.diagnosis.checks import judge
from stepsize.diagnosis.measurement import measure

C = 0.1
GIVEN = (None, ("loss", "lr", "val_loss"), ("loss", "lr"))  # what a history may hold
NAMES = list(VERDICTS)


def trained(task: Any, rule: str) -> list[dict[str, Any]]:
    """Runs at every rate of the grid, of half and all of the steps, with their labels."""
    exponent = best(task.name, rule)
    runs = {
        10 ** (exponent + shift): Runner(task, rule, 10 ** (exponent + shift)) for shift in SHIFTS
    }
    return [
        {**row, "rule": rule, "split": task.split, "sure": None}
        for steps in (task.steps // 2, task.steps)
        for row in after(task, runs, steps)
    ]


def after(task: Any, runs: dict[float, Runner], steps: int) -> list[dict[str, Any]]:
    """The runs trained on to so many steps, and what going on from each good one gains."""
    rows = []
    for rate, run in runs.items():
        loss = run.train(steps - len(run.history["loss"]))
        rows.append({"rate": rate, "loss": loss, "run": run})
    ends = [row["loss"] for row in rows if math.isfinite(row["loss"])]
    start, low = rows[0]["run"].start, min(ends)
    curve = [(row["rate"], row["loss"]) for row in rows]
    for row in rows:
        run = row.pop("run")
        finite = math.isfinite(row["loss"])
        row["regret"] = (row["loss"] - low) / (start - low) if finite else math.inf
        row |= {"task": task.name, "start": start, "levels": list(run.levels), "gains": None}
        row |= {"history": run.until(steps), "curve": curve}
        if row["regret"] <= 0.05:
            on = [run.copy(factor).train(steps) for factor in (1.0, 0.1)]
            row["gains"] = [row["loss"] - (v if math.isfinite(v) else math.inf) for v in on]
            small = task.name in LARGER or task.name.endswith("-narrow")
            row["larger"] = _larger(task.name) if small else math.inf
    for row in rows:
        row["label"] = label(row, [(r["rate"], r["regret"]) for r in rows])
    return rows


def label(row: dict[str, Any], curve: list[tuple[float, float]]) -> str:
    """The label of a run, empty between labels."""
    loss = row["history"]["loss"]
    if not math.isfinite(row["loss"]) or not np.isfinite(loss).all():
        return "diverging"
    levels = np.array(row["levels"])
    known = len(levels) > 4
    blocks = levels[:, 1] if known else np.array([b.mean() for b in np.array_split(loss, 20)])
    width = max(row["start"] - min(float(blocks.min()), row["loss"]), 1e-300)
    if row["loss"] > row["start"]:
        return "diverging" if row["loss"] > row["start"] + 0.1 * width else ""
    if row["regret"] >= 0.1 and row["rate"] > 2.9 * max(r for r, g in curve if g <= 0.05):
        return "too_high"
    if row["regret"] >= 0.5 and row["rate"] < min(r for r, g in curve if g <= 0.2) / 9:
        return "too_low"
    if known and overfits(levels, len(loss)):
        return "overfitting" if row["regret"] <= 0.2 else ""
    return at_the_end(row, blocks, width) if row["gains"] is not None else ""


def overfits(levels: Any, steps: int) -> bool:
    """Whether the validation loss turned while the training loss fell."""
    pairs = (levels[1:, 2] + levels[:-1, 2]) / 2
    turn = int(pairs.argmin())
    risen = pairs[-1] - pairs[turn] > 0.1 * np.ptp(pairs)
    return bool(levels[turn, 0] < 0.6 * steps and risen and levels[-1, 1] < levels[turn, 1])


def at_the_end(row: dict[str, Any], blocks: Any, width: float) -> str:
    """The label of a run near the best rate."""
    loss = row["history"]["loss"]
    same, tenth = (gain / width for gain in row["gains"])
    left = row["loss"] / width
    middle = len(blocks) // 2
    noise = float(np.std(np.diff(loss[len(loss) // 2 :]))) / math.sqrt(2 * max(len(loss) // 20, 1))
    error = 0.0 if len(row["levels"]) > 4 else noise / width
    late = (blocks[middle] - blocks[-1]) / width
    third, last = np.array_split(blocks[middle:], 2)
    quarter = abs(third.mean() - last.mean()) / width
    if quarter < 0.005 + 2 * error and max(same, tenth) < 0.005:
        return "underfitting" if row["larger"] <= 0.75 * row["loss"] else "converged"
    if late > max(min(0.02, 0.1 * left), 3 * error) and same >= min(0.01, 0.1 * left):
        return "healthy" if tenth - same < 0.01 else ""
    rests = same < 0.005 and quarter < 0.01 + 2 * error
    return "plateau" if rests and tenth >= min(0.02, 0.15 * left) else ""


def features(rows: list[dict[str, Any]]) -> tuple[Any, Any, Any]:
    """Features with the verdict, labels, and the task of each run, as histories may hold them."""
    x, y, tasks = [], [], []
    for row in (row for row in rows if row["label"]):
        for given in GIVEN:
            series = {k: row["history"][k] for k in given or row["history"]}
            seen = measure(series)
            verdict = judge(seen)[0].kind
            x.append([*calibration.row(seen), *(float(name == verdict) for name in NAMES)])
            y.append(NAMES.index(row["label"]))
            tasks.append(row["task"].removesuffix("-scarce").removesuffix("-narrow"))
    return np.array(x), np.array(y), np.array(tasks)


def bins(said: Any, y: Any) -> list[str]:
    """How often the most probable verdict was right, by how probable it was said to be."""
    top, right = said.max(axis=1), said.argmax(axis=1) == y
    out = []
    for low, high in ((0, 0.6), (0.6, 0.8), (0.8, 0.9), (0.9, 0.97), (0.97, 1.01)):
        here = (top >= low) & (top < high)
        mean, share = top[here].mean(), right[here].mean()
        out.append(f"said {low} to {high}, mean {mean:.3f}: right {share:.3f} of {here.sum()}")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--tasks", type=int, default=None, help="only the first so many")
    chosen = parser.parse_args()
    if chosen.runs.exists():
        rows = pickle.loads(chosen.runs.read_bytes())
    else:
        some = subjects()[: chosen.tasks]
        rows = [row for task in some for rule in RULES for row in trained(task, rule)]
        chosen.runs.write_bytes(pickle.dumps(rows))
    x, y, tasks = features(rows)
    said = np.zeros((len(y), len(NAMES)))
    for train, test in GroupKFold(8).split(x, y, tasks):
        model = LogisticRegression(C=C, max_iter=2000).fit(x[train], y[train])
        said[np.ix_(test, model.classes_)] = model.predict_proba(x[test])
    out = [f"{len(y)} histories of {len(set(tasks))} tasks", *bins(said, y)]
    for k, given in enumerate(GIVEN):
        out += [f"given {given or 'all that fit records'}", *bins(said[k::3], y[k::3])]
    # The verdict, and the most probable other one.
    verdict = x[:, -len(NAMES) :].argmax(axis=1)
    others = np.where(np.eye(len(NAMES), dtype=bool)[verdict], 0, said)
    second, runner_up = others.max(axis=1), others.argmax(axis=1)
    for low, high in ((0.1, 0.2), (0.2, 0.3), (0.3, 0.5), (0.5, 1)):
        here = (second >= low) & (second < high)
        part = [np.mean(some[here] == y[here]) for some in (verdict, runner_up)]
        out.append(
            f"runner-up {low} to {high}: verdict right {part[0]:.3f}, runner-up {part[1]:.3f} "
            f"of {here.sum()}"
        )
    own, top = said[np.arange(len(y)), verdict], said.argmax(axis=1)
    for low, high in ((0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.5)):
        here = (own >= low) & (own < high) & (top != verdict)
        part = [np.mean(some[here] == y[here]) for some in (verdict, top)]
        out.append(
            f"verdict given {low} to {high}: right {part[0]:.3f}, the likeliest {part[1]:.3f} "
            f"of {here.sum()}"
        )
    rests = y == NAMES.index("plateau")
    told, next_ = np.mean(verdict[rests] == y[rests]), np.mean(runner_up[rests] == y[rests])
    out.append(f"a plateau is the verdict in {told:.3f}, the runner-up in {next_:.3f}")
    model = LogisticRegression(C=C, max_iter=2000).fit(x, y)
    table = (model.intercept_, *model.coef_.T)
    for name, row in zip(("bias", *calibration.WEIGHTS), table, strict=True):
        out.append(f"{name:20s}" + "".join(f"{v:8.2f}" for v in row - row.mean()))
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
