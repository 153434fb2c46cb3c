"""Score `ss.diagnose` on the labelled runs of runs.py.

    python bench/advice/diagnosis.py [--processes N] [--runs FILE]          needs truth.json

FILE keeps the labelled runs and is read when it is there: forty minutes become seconds. It may be
one that probabilities.py made, whose labels follow the definitions of the verdicts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from runs import labelled, subjects
from tasks import RULES, SPLITS
from truth import STORE

import stepsize as ss
from stepsize.diagnosis import VERDICTS, words


def best(name: str, rule: str) -> float:
    """The exponent of the best rate of the grid."""
    base = name.removesuffix("-scarce").removesuffix("-narrow")
    rows = json.loads(STORE.read_text())
    cell = next(r for r in rows if (r["task"], r["rule"]) == (base, rule))
    table = [
        np.mean([s if v is None else min(v, s) for v, s in zip(row, cell["start"], strict=True)])
        for row in cell["losses"]
    ]
    return float(cell["log10_rates"][int(np.argmin(table))])


def collect(job: tuple[str, str]) -> list[dict[str, Any]]:
    task = next(t for t in subjects() if t.name == job[0])
    return labelled(task, job[1], best(*job))


def ends(row: dict[str, Any], rate: float) -> float:
    """The loss another rate ends at, read off the runs at the rates around it."""
    curve = sorted(row["curve"])
    losses = [v if math.isfinite(v) else 1e300 for _, v in curve]
    return float(np.interp(math.log10(rate), [math.log10(r) for r, _ in curve], losses))


def judge(row: dict[str, Any]) -> None:
    """Write the verdict, and whether a suggested rate is better, into the row."""
    said = ss.diagnose(row["history"])
    row |= {"verdict": said.verdict, "better": None}
    if row["label"] in ("too_low", "too_high", "diverging") and said.suggested_lr is not None:
        level = row["start"] if row["label"] == "diverging" else row["loss"]
        row["better"] = ends(row, said.suggested_lr) < level


def report(rows: list[dict[str, Any]], title: str) -> None:
    counts = Counter((r["label"], r["verdict"]) for r in rows)
    out = [f"\n{title}: rows are labels, columns verdicts", " " * 13]
    out[-1] += "".join(f"{words(v)[:9]:>10s}" for v in VERDICTS) + "   right"
    right_of = {}
    for named in VERDICTS:
        row = [counts[named, v] for v in VERDICTS]
        right_of[named] = counts[named, named] / max(sum(row), 1)
        out.append(
            f"{words(named):13s}" + "".join(f"{n:10d}" for n in row) + f"   {right_of[named]:.2f}"
        )
    right = np.mean([r["label"] == r["verdict"] for r in rows])
    apart = [r for r in rows if {r["label"], r["verdict"]} != {"converged", "underfitting"}]
    out.append(f"right: {right:.3f}; leaving converged / underfitting aside: ")
    out[-1] += f"{np.mean([r['label'] == r['verdict'] for r in apart]):.3f}"
    fixed = [r["better"] for r in rows if r["label"] in ("too_low", "too_high")]
    told = [b for b in fixed if b is not None]
    means = []
    for some in (rows, apart):
        seen = [v for v in VERDICTS if any(r["label"] == v for r in some)]
        alike = [np.mean([r["verdict"] == v for r in some if r["label"] == v]) for v in seen]
        means.append(f"{np.mean(alike):.3f}")
    out.append(f"mean over the labels: {'; leaving the same aside: '.join(means)}")
    out.append(
        f"of {len(fixed)} runs at a wrong rate {len(told)} were given another, "
        f"better in {np.mean(told):.3f}"
    )
    lost = [r["better"] for r in rows if r["label"] == "diverging" and r["better"] is not None]
    out.append(f"the next rate of a diverging run ends below the start in {np.mean(lost):.3f}")
    sys.stdout.write("\n".join(out) + "\n")


def main() -> None:
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # for the processes
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--runs", type=Path, help="keep the labelled runs in this file, or read it")
    chosen = parser.parse_args()
    if chosen.runs and chosen.runs.exists():
        rows = pickle.loads(chosen.runs.read_bytes())
    else:
        jobs = [(t.name, rule) for t in subjects() for rule in RULES]
        with ProcessPoolExecutor(chosen.processes, get_context("spawn")) as pool:
            rows = [row for some in pool.map(collect, jobs, chunksize=2) for row in some]
        if chosen.runs:
            chosen.runs.write_bytes(pickle.dumps(rows))
    rows = [row for row in rows if row["label"]]
    for row in rows:
        judge(row)
    for split in SPLITS:
        some = [r for r in rows if r["split"] == split]
        sure = [r for r in some if r["sure"]]
        report(some, split)
        if sure:
            report(sure, f"{split}, the {len(sure) / len(some):.0%} whose label no seed changes")


if __name__ == "__main__":
    main()
