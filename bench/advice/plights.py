"""Plant plights that no rate mends, and count wrong advice about the rate.

    python bench/advice/plights.py [--processes N] [--only PLIGHT ...] [--json FILE] [--split NAME]

Eighteen plights are planted, one at a time, in the thirty tasks of `tasks/plights.py`, at the rate
that is best without them. `diagnose` is asked by the curves alone and with branches, and `lr_find`
for a rate. What is said of the rate is then tried, with the plight left in: the run is made again
at the rate that was advised, and goes on at it for as many steps again. Advice is

    wrong      where neither ends below what the present rate would reach, by half a per cent of
               how far the loss can fall or a tenth of the loss (a run that diverged, below its
               start);
    harmful    where both end above it by 2 %;

and a rate of `lr_find` is wrong where its run has a regret over 0.2 against the best of a grid of
rates with the plight in it, or where no rate of the grid lowers the loss by 1 % at all. One that it
calls "low" is counted apart.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from planting import PLIGHTS, Planted, plant
from tasks.plights import Subject, subjects

import stepsize as ss
from stepsize.diagnosis.verdicts import VERDICTS

GRID = np.arange(-3.5, 1.1, 0.5)  # exponents around which the best rate of a task is looked for
AROUND = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0)  # factors of it, with the plight planted
USUAL = {"sgd": 0.0, "momentum": -0.5, "adam": -1.0, "rmsprop": -1.0}  # shift of the grid
WAYS = ("curves", "branches", "finder")
NONE = "no plight"  # to compare with: what the advice is worth there
OF_THE_RATE = re.compile(r"(lower|raise|higher) (the )?rate|rate (decay|fade)")
ENDS = 4  # looks at the loss in the last twentieth of a run
GAIN, LEFT, HARM, REGRET, NOTHING = 0.005, 0.1, 0.02, 0.2, 0.01


def trained(planted: Planted, state: tuple[Any, Any], steps: int, seed: int) -> float:
    """Train on in place; the mean loss of the last looks, infinite where it is none."""
    params, optimizer = state
    ends, first = [], steps - max(ENDS, steps // 20)
    for step, batch in enumerate(islice(planted.stream(seed), steps)):
        loss, grads = planted.value_and_grad(params, batch)
        try:
            if not math.isfinite(loss):
                return math.inf
            optimizer.step(grads, loss=loss)
        except ss.NonFiniteGradientError:
            return math.inf
        if step >= first and (step - first) % max(1, (steps - first) // ENDS) == 0:
            ends.append(planted.loss(params))
    level = float(np.mean(ends))
    return level if math.isfinite(level) else math.inf


def anew(planted: Planted, rate: float) -> float:
    params = planted.params()
    return trained(planted, (params, planted.optimizer(params, rate)), planted.steps, 0)


@cache
def best_rate(name: str) -> float:
    """The best rate of the grid without a plight."""
    subject = of(name)
    planted = plant(subject, "", math.nan)
    rates = 10.0 ** (GRID + USUAL[subject.rule])
    return float(rates[int(np.argmin([anew(planted, rate) for rate in rates]))])


@cache
def known() -> dict[str, Subject]:
    return {subject.name: subject for subject in subjects()}


def of(name: str) -> Subject:
    return known()[name]


def way_of(d: ss.Diagnosis) -> int:
    """Whether what is printed says to lower (-1) or to raise (1) the rate, 0 where neither."""
    if d.mismatch is not None or not d.enough_data:
        return 0
    told, *others = d.findings
    if d.suggested_lr is not None or OF_THE_RATE.search(told.advice):
        return VERDICTS[d.verdict].way
    if VERDICTS[d.verdict].way:
        return 0
    ways = [VERDICTS[other.kind].way for other in others if f"{other.evidence}. {other.advice}"
            in str(d) and other.kind in VERDICTS and OF_THE_RATE.search(other.advice)]  # fmt: skip
    return next((way for way in ways if way), 0)


def futures(planted: Planted, run: Any, rate: float, fade: bool) -> Iterator[float]:
    """Where the run ends that goes on at another rate, and, for a plateau, at one that fades."""
    params, optimizer, lr = run
    for schedule in (rate, ss.schedules.linear(lr, 0, planted.steps)) if fade else (rate,):
        copied = {name: leaf.copy() for name, leaf in params.items()}
        on = optimizer.clone(copied)
        on.lr = schedule if isinstance(schedule, float) else schedule.shift(-on.step_count)
        yield trained(planted, (copied, on), planted.steps, 1)


def judged(d: ss.Diagnosis, planted: Planted, run: Any, ended: float, start: float) -> str:
    """What became of what was said of the rate: "none", "helps", "wrong" or "harmful"."""
    way = way_of(d)
    if not way:
        return "none"
    lr = run[2]
    rate = d.suggested_lr or lr * (0.3 if way < 0 else 3.0)
    again = anew(planted, rate)
    level = min(ended, start)
    ends = [level - again]
    lost = not math.isfinite(ended) or ended > start
    if not lost:
        on = next(futures(planted, run, lr, False))
        ends += [min(on, start) - other for other in futures(planted, run, rate, way < 0)]
        level = min(level, on)
    width = max(start - min(level, again), 1e-12 * abs(start), 1e-300)
    if max(ends) > min(GAIN * width, LEFT * level if level > 0 else math.inf):
        return "helps"
    harms = again > level + HARM * width and max(ends) < -HARM * width
    return "harmful" if harms and not lost else "wrong"


def of_the_finder(found: Any, planted: Planted, start: float, lr: float) -> str:
    """The same for the rate that `lr_find` gives."""
    if found is None or not found.usable or not math.isfinite(found.suggestion):
        return "none"
    level = min(anew(planted, found.suggestion), start)
    best = min(level, *(anew(planted, lr * factor) for factor in AROUND))
    low = "low, " if found.confidence == "low" else ""
    nothing = start - best < NOTHING * abs(start)
    return low + ("wrong" if nothing or level - best > REGRET * (start - best) else "helps")


def tried(job: tuple[str, str]) -> dict[str, Any] | None:
    """One plight in one task: what is said, and what came of it."""
    name, plight = job
    warnings.simplefilter("ignore")
    subject, lr = of(name), best_rate(name)
    planted = plant(subject, "" if plight == NONE else plight, lr)
    if planted is None:
        return None
    with np.errstate(all="ignore"):
        return {"task": name, "plight": plight, "held_out": subject.held_out, "lr": lr} | looked_at(
            planted, lr
        )


def looked_at(planted: Planted, lr: float) -> dict[str, Any]:
    params = planted.params()
    optimizer = planted.optimizer(params, lr)
    start = planted.loss(params)
    arguments = {"batch_size": planted.batch} if isinstance(planted.train, tuple) else {}
    history = ss.fit(
        planted.value_and_grad,
        params,
        optimizer,
        planted.train,
        steps=planted.steps,
        validation=planted.validation,
        progress=False,
        **arguments,
    )
    ended = planted.loss(params) if "diverged" not in str(history.stopped) else math.inf
    ended = ended if math.isfinite(ended) else math.inf
    asked = []

    def experiment() -> Any:
        asked.append(1)
        return ss.what_if(
            planted.value_and_grad,
            params,
            optimizer,
            planted.train,
            history=history,
            progress=False,
            **arguments,
        )

    run, row = (params, optimizer, lr), {"start": start, "ended": ended}
    passive = active = ss.diagnose(history)
    try:
        active = ss.diagnose(history, what_if=experiment)
    except Exception as error:
        row["error"] = repr(error)
    row |= {"curves": judged(passive, planted, run, ended, start), "branches": ""}
    same = (active.verdict, active.suggested_lr) == (passive.verdict, passive.suggested_lr)
    row["branches"] = row["curves"] if same else judged(active, planted, run, ended, start)
    found = finder(planted, arguments)
    row |= {"finder": of_the_finder(found, planted, start, lr), "asked": len(asked)}
    row |= {"verdicts": [passive.verdict, active.verdict], "said": [str(passive), str(active)]}
    row |= {"rates": [passive.suggested_lr, active.suggested_lr]}
    row["found"] = "" if found is None else str(found)
    row["kinds"] = [finding.kind for finding in active.findings]
    return row


def finder(planted: Planted, arguments: dict[str, int]) -> Any:
    try:
        return ss.lr_find(
            planted.value_and_grad,
            planted.params(),
            planted.train,
            optimizer=lambda params: planted.optimizer(params, None),
            progress=False,
            **arguments,
        )
    except (ValueError, FloatingPointError):
        return None


def table(rows: list[dict[str, Any]]) -> list[str]:
    """By plight, how often a rate was advised and how often that was wrong."""
    ways = WAYS
    out = [f"{'advised, wrong, of':24s}" + "".join(f"{way:>18s}" for way in ways)]
    for plight in [*PLIGHTS, NONE, "all"]:
        some = [row for row in rows if plight == row["plight"]]
        some = [row for row in rows if row["plight"] != NONE] if plight == "all" else some
        cells = ""
        for way in ways if some else ():
            said = [row[way] for row in some]
            bad = sum(word in ("wrong", "harmful") for word in said)
            given = sum(word in ("helps", "wrong", "harmful") for word in said)
            cells += f"{given:6d} {bad:4d} {len(said):4d}   "
        out += [f"{plight:24s}{cells}"] if some else []
    planted = [row for row in rows if row["plight"] != NONE]
    for way in ways if planted else ():
        bad = np.mean([row[way] in ("wrong", "harmful") for row in planted])
        worse = np.mean([row[way] == "harmful" for row in planted])
        out.append(f"{way}: never wrong in {1 - bad:.3f}, harmful in {worse:.3f}")
    low = [row["finder"] for row in planted if row["finder"].startswith("low")]
    return [*out, f"finder, called low: {len(low)}, of them wrong {low.count('low, wrong')}"]


def order_of(job: tuple[str, str]) -> int:
    """Neighbours in no order, so that both processes have the same to do."""
    return zlib.crc32(job[0].encode())


def main() -> None:
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # for the processes
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=[*PLIGHTS, NONE], default=[*PLIGHTS, NONE])
    parser.add_argument("--split", choices=("seen", "held_out"))
    parser.add_argument("--json", type=Path, help="keep what was said")
    chosen = parser.parse_args()
    parts: dict[str, Callable[[Subject], bool]] = {
        "seen": lambda subject: not subject.held_out,
        "held_out": lambda subject: subject.held_out,
    }
    wanted = parts.get(chosen.split, lambda subject: True)
    names = [subject.name for subject in subjects() if wanted(subject)]
    jobs = sorted(((name, plight) for name in names for plight in chosen.only), key=order_of)
    with ProcessPoolExecutor(chosen.processes, get_context("spawn")) as pool:
        chunk = max(1, len(chosen.only))
        rows = [row for row in pool.map(tried, jobs, chunksize=chunk) if row is not None]
    for split, held in (("seen", False), ("held out", True)):
        if some := [row for row in rows if row["held_out"] is held]:
            sys.stdout.write("\n".join([f"\n{split}", *table(some)]) + "\n")
    if chosen.json:
        for row in rows:
            if not any("wrong" in row[way] or row[way] == "harmful" for way in WAYS):
                row |= {"said": [], "found": ""}  # what was wrong is kept in words
        chosen.json.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
