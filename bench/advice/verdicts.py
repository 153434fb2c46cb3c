"""Score `diagnose`, by the curves alone and with branches, on runs that `what_if` has looked at.

    python bench/advice/verdicts.py FILE [FILE ...] [--split NAME] [--json FILE]

The files are those of counterfactual.py (the fifth split) and experiments.py (the other four). The
thresholds of branches were fitted on tuning, report and validation; held_out and fifth had no say.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import stepsize as ss
from stepsize.diagnosis import VERDICTS, words

NAMES = list(VERDICTS)


def rows_of(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        with path.open("rb") as file:
            while True:
                try:
                    yield from pickle.load(file)
                except EOFError:
                    break


def split_of(row: dict[str, Any]) -> str:
    return str(row.get("split", "fifth"))


def judged(row: dict[str, Any]) -> dict[str, Any]:
    """The verdicts on a run, by its curves and where it may ask for its branches."""
    result, asked = row.get("what_if"), []

    def experiment() -> Any:
        if result is not None:
            asked.append(result.gradients)
        return result

    passive = ss.diagnose(row["history"])
    active = ss.diagnose(row["history"], what_if=experiment)
    return {
        "task": row["task"],
        "label": row["label"],
        "steps": row["steps"],
        "gradients": sum(asked),
        "passive": passive.verdict,
        "active": active.verdict,
        "said": [passive.probabilities[n] for n in NAMES],
        "tried": [active.probabilities[n] for n in NAMES],
    }


def table(rows: list[dict[str, Any]], by: str) -> list[str]:
    """How often each label is told, and by which verdicts."""
    counts = Counter((row["label"], row[by]) for row in rows)
    out = [" " * 13 + "".join(f"{words(n)[:9]:>10s}" for n in NAMES) + "   right"]
    shares = []
    for label in NAMES:
        line = [counts[label, name] for name in NAMES]
        if not sum(line):
            continue
        shares.append(counts[label, label] / sum(line))
        cells = "".join(f"{n:10d}" for n in line)
        out.append(f"{words(label):13s}{cells}   {shares[-1]:.2f}")
    right = np.mean([row["label"] == row[by] for row in rows])
    out.append(f"right {right:.3f}, every label counted alike {np.mean(shares):.3f}")
    return out


def bins(rows: list[dict[str, Any]], by: str) -> list[str]:
    """How often the most probable verdict was right, by how probable it was said to be."""
    said = np.array([row[by] for row in rows])
    top = said.max(axis=1)
    right = said.argmax(axis=1) == [NAMES.index(row["label"]) for row in rows]
    out = []
    for low in np.arange(10) / 10:
        here = (top >= low) & (top < low + 0.1 + (low > 0.85))
        if here.any():
            out.append(
                f"said {low:.1f} to {low + 0.1:.1f}, mean {top[here].mean():.3f}: right "
                f"{right[here].mean():.3f} of {here.sum()}"
            )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--split", choices=("tuning", "report", "validation", "held_out", "fifth"))
    parser.add_argument("--json", type=Path, help="keep the verdicts and probabilities")
    chosen = parser.parse_args()
    given = (
        row for row in rows_of(chosen.files) if split_of(row) == (chosen.split or split_of(row))
    )
    rows = [judged(row) for row in given]
    out = [f"{len(rows)} runs of {len({row['task'] for row in rows})} tasks"]
    for title, verdict, said in (("curves", "passive", "said"), ("branches", "active", "tried")):
        out += [f"\n{title}", *table(rows, verdict), *bins(rows, said)]
    spent, made = (sum(row[name] for row in rows) for name in ("gradients", "steps"))
    asked = np.mean([row["gradients"] > 0 for row in rows])
    out.append(f"\nasked in {asked:.2f} of the runs, {spent / made:.3f} of their gradients")
    sys.stdout.write("\n".join(out) + "\n")
    if chosen.json:
        for row in rows:
            row |= {name: [round(share, 3) for share in row[name]] for name in ("said", "tried")}
        chosen.json.write_text(json.dumps(rows, indent=None, separators=(",", ":")))


if __name__ == "__main__":
    main()
