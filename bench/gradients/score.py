"""Score `check_gradients` on planted faults: ``python bench/gradients/score.py [--held-out]``.

A pair is a problem (family, dtype, smooth or kinked, kind of noise) and a fault. The verdict is
right if exactly the leaf with the fault is called wrong (none where there is none); the cause, if
it is one that names the fault. A right gradient that is called wrong is a false alarm; those that
are "unclear" are counted apart. `--held-out` scores problems and faults that nothing was decided
on; scores go to ``scores.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import held_out
import models
import numpy as np
from faults import RIGHT, SEEN, UNSEEN, Fault, noisy
from models import Model

import stepsize as ss

SEEN_FAMILIES = (models.linear, models.mlp, models.embedding, models.factorisation)
UNSEEN_FAMILIES = (
    held_out.convolution,
    held_out.recurrent,
    held_out.gaussian_process,
    held_out.pde,
)
RIGHT_SEEDS = 5  # starts of each problem whose gradient is right, for the false alarms
STORE = Path(__file__).with_name("scores.json")


def problems(families: Any) -> Iterator[tuple[Any, Any, bool, str]]:
    """Half of the combinations: each value of a property with each of every other one."""
    dtypes, noises = (np.float32, np.float64), ("exact", "drawn", "hidden")
    for family in families:
        for i, kinked, k in itertools.product(range(2), (False, True), range(3)):
            if (i + kinked + k) % 2 == 0:
                yield family, dtypes[i], kinked, noises[k]


def make(family: Any, dtype: Any, kinked: bool, seed: int) -> Model:
    key = zlib.crc32(family.__name__.encode())
    found: Model = family(np.random.default_rng((key, seed)), dtype, kinked)
    return found


def applies(fault: Fault, model: Model, noise: str) -> bool:
    """Whether the fault is one: it changes something, and chance can be told from it."""
    if fault.name == "other draw" and noise != "drawn":
        return False
    return not (fault.name == "jitters" and noise == "hidden")


def accepted(fault: Fault, model: Model) -> tuple[str, ...]:
    """The causes that name a fault; a use in a term of its own is that term."""
    more = ("missing_term",) if fault.name == "one use" and model.additive else ()
    return (*fault.causes, *more)


def judge(family: Any, dtype: Any, kinked: bool, noise: str, fault: Fault, seed: int) -> Any:
    """One row: what was planted, and what was found."""
    model = make(family, dtype, kinked, seed)
    if not applies(fault, model, noise):
        return None
    leaf = getattr(model, fault.leaf) if fault.leaf else ""
    function = fault.plant(model, noisy(model, noise), leaf)
    check = ss.check_gradients(function, model.params, model.batch, seed=seed)
    expected = [leaf] if leaf else []
    if fault.name == "changes batch":
        # What such a function says of itself at the next call is nobody's gradient.
        right, cause = not check.ok, check.cause
    else:
        right = check.wrong == expected and (check.cause is None) == (fault is RIGHT)
        cause = check.leaves[leaf].cause if leaf else check.cause
    return {
        "family": model.name,
        "dtype": np.dtype(dtype).name,
        "kinked": kinked,
        "noise": noise,
        "fault": fault.name,
        "seed": seed,
        "right": bool(right),
        "unclear": bool(check.unclear),
        "cause": cause,
        "named": cause in accepted(fault, model) if fault.causes else cause is None,
        "verdicts": {path: one.verdict for path, one in check.leaves.items()},
        "calls": check.calls,
    }


def jobs(families: Any, faults: list[str], seeds: int) -> Iterator[Any]:
    for problem in problems(families):
        yield from ((*problem, fault, 0) for fault in faults)
        yield from ((*problem, RIGHT.name, seed) for seed in range(seeds))


def row_of(job: Any) -> Any:
    """A row of the table, by the name of its fault: functions do not travel to processes."""
    *problem, name, seed = job
    return judge(*problem, next(f for f in (RIGHT, *SEEN, *UNSEEN) if f.name == name), seed)


def summary(rows: list[Any]) -> dict[str, Any]:
    planted = [row for row in rows if row["fault"] != RIGHT.name]
    clean = [row for row in rows if row["fault"] == RIGHT.name]
    return {
        "faults": len(planted),
        "verdict": float(np.mean([row["right"] for row in planted])) if planted else None,
        "cause": float(np.mean([row["named"] for row in planted])) if planted else None,
        "right gradients": len(clean),
        "false alarms": sum(not row["right"] for row in clean),
        "unclear": sum(row["unclear"] for row in clean),
        "calls": float(np.median([row["calls"] for row in rows])),
    }


def table(rows: list[Any], key: str) -> Iterator[str]:
    for value in dict.fromkeys(row[key] for row in rows):
        found = summary([row for row in rows if row[key] == value])
        shares = [f"{found[k]:7.1%}" if found[k] is not None else " " * 7 for k in KINDS]
        alarms = f"{found['false alarms']:3d} {found['unclear']:3d} of {found['right gradients']}"
        yield f"{value!s:18s} {found['faults']:4d} {' '.join(shares)}  {alarms}"


KINDS = ("verdict", "cause")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--faults", nargs="*", help="some of them alone, and nothing is written")
    parser.add_argument("--families", nargs="*", help="some of them alone, and nothing is written")
    parser.add_argument("--seeds", type=int, default=RIGHT_SEEDS, help="of right gradients")
    chosen = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # for the processes
    half = "held out" if chosen.held_out else "seen"
    families = UNSEEN_FAMILIES if chosen.held_out else SEEN_FAMILIES
    if chosen.families is not None:
        families = [family for family in families if family.__name__ in chosen.families]
    faults = [f.name for f in ([*SEEN, *UNSEEN] if chosen.held_out else SEEN)]
    if chosen.faults is not None:
        faults = [name for name in faults if name in chosen.faults]
    with ProcessPoolExecutor(chosen.processes, get_context("spawn")) as pool:
        found = pool.map(row_of, jobs(families, faults, chosen.seeds), chunksize=4)
        rows = [row for row in found if row is not None]
    lines = [f"{half}: {summary(rows)}"]
    for key in ("family", "dtype", "kinked", "noise", "fault"):
        lines += ["", f"{key:18s} pairs verdict  cause  false alarms, unclear", *table(rows, key)]
    lines += [""] + [f"{row}" for row in rows if not (row["right"] and row["named"])]
    sys.stdout.write("\n".join(lines) + "\n")
    if chosen.faults is not None or chosen.families is not None:
        return
    kept = json.loads(STORE.read_text("utf-8")) if STORE.exists() else {}
    STORE.write_text(json.dumps(kept | {half: summary(rows)}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
