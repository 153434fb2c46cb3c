"""Score `check_gradients` on right gradients alone: ``python bench/gradients/right.py``.

The families of both halves in other sizes and from other starts, and two whose parameters are
single numbers, in every combination of dtype, smooth or kinked, and kind of noise. "wrong" is a
false alarm, "unclear" is none: it says that noise hides the answer; both are counted. ``--last``
scores the sizes that nothing was decided on, ``--first 300`` starts that were not drawn before.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import held_out
import models
import numpy as np
from faults import noisy, without_part
from models import Model, Params, Sizes, activation, arrays_of, penalty

import stepsize as ss

STORE = Path(__file__).with_name("scores.json")
STARTS = 3  # of each combination and size


def decay_curve(rng: np.random.Generator, dtype: Any, kinked: bool, sizes: Sizes = (30,)) -> Model:
    """Amplitude, rate and offset of an exponential decay, each a number of its own."""
    (n,) = sizes
    t = np.linspace(0, 3, n).astype(dtype)
    y = (2 * np.exp(-t) + 0.3 + 0.2 * rng.standard_normal(n)).astype(dtype)
    params = arrays_of(rng, dtype, amplitude=(1, ()), rate=(0.1, ()), offset=(0.03, (1,)))

    def core(p: Params, batch: Any) -> Any:
        y, t = batch
        curve = np.exp(-np.exp(p["rate"]) * t)
        loss, d = penalty(p["amplitude"] * curve + p["offset"] - y, kinked)
        grads = {
            "amplitude": d @ curve,
            "rate": -(d * p["amplitude"] * curve * t).sum() * np.exp(p["rate"]),
            "offset": d.sum(keepdims=True),
        }
        ready = {name: np.asarray(g / t.size, t.dtype) for name, g in grads.items()}
        return loss / t.dtype.type(t.size), ready, None

    return Model("decay curve", core, params, (y, t), "", "", "", n, 1)


def tempered(
    rng: np.random.Generator, dtype: Any, kinked: bool, sizes: Sizes = (20, 6, 3)
) -> Model:
    """A layer with a gain, a shift for each output, and a temperature."""
    n, d, k = sizes
    x = rng.standard_normal((n, d)).astype(dtype)
    target = rng.integers(0, k, n)
    params = arrays_of(
        rng, dtype, w=(0.7, (d, k)), shift=(0.05, (k,)), gain=(0.3, ()), heat=(0.02, ())
    )

    def core(p: Params, batch: Any) -> Any:
        x, target = batch
        a, s = activation(x @ p["w"] + p["shift"], kinked)
        gain, heat = np.exp(p["gain"]), np.exp(-p["heat"])
        loss, dl = models.softmax_loss(gain * heat * a, target)
        pull = (dl * a).sum() * gain * heat
        dz = dl * gain * heat * s
        grads = {"w": x.T @ dz, "shift": dz.sum(0), "gain": pull, "heat": -pull}
        return loss, {name: np.asarray(g, x.dtype) for name, g in grads.items()}, None

    return Model("tempered", core, params, (x, target), "", "", "", n, k)


# Two sizes that were looked at, and two that were not.
SIZES: dict[str, tuple[Any, list[Sizes], list[Sizes]]] = {
    "linear": (models.linear, [(40, 3), (9, 8)], [(60, 2), (15, 10)]),
    "mlp": (models.mlp, [(12, 3, 5, 1), (50, 9, 4, 6)], [(20, 2, 12, 2), (64, 4, 3, 1)]),
    "embedding": (
        models.embedding, [(15, 30, 4, 2), (60, 8, 3, 6)], [(25, 12, 9, 3), (30, 50, 2, 5)],
    ),
    "factorisation": (
        models.factorisation, [(6, 20, 2, 1), (15, 5, 4, 9)], [(30, 3, 5, 2), (8, 8, 2, 6)],
    ),
    "convolution": (
        held_out.convolution, [(5, 8, 2, 3), (16, 4, 6, 2)], [(8, 5, 3, 7), (6, 7, 5, 2)],
    ),
    "recurrent": (
        held_out.recurrent,
        [(8, 10, 2, 4, 1), (30, 3, 6, 9, 5)],
        [(20, 8, 1, 5, 2), (6, 4, 5, 12, 3)],
    ),
    "gaussian process": (held_out.gaussian_process, [(12, 2), (25, 4)], [(30, 1), (16, 5)]),
    "pde": (held_out.pde, [(9, 2), (24, 6)], [(18, 3), (12, 8)]),
    "decay curve": (decay_curve, [(15,), (80,)], [(25,), (50,)]),
    "tempered": (tempered, [(30, 4, 2), (12, 9, 5)], [(50, 3, 6), (18, 12, 3)]),
}  # fmt: skip


def jobs(last: bool, starts: int, first: int | None = None) -> Any:
    first = first or (200 if last else 100)
    for name, (_, seen, unseen) in SIZES.items():
        yield from itertools.product(
            [name], unseen if last else seen, ("float32", "float64"), (False, True),
            ("exact", "drawn", "hidden"), range(first, first + starts),
        )  # fmt: skip


def row_of(job: Any) -> Any:
    name, sizes, dtype, kinked, noise, seed = job
    rng = np.random.default_rng((seed, *sizes))
    model = SIZES[name][0](rng, np.dtype(dtype).type, kinked, sizes)
    function = without_part(noisy(model, noise))
    check = ss.check_gradients(function, model.params, model.batch, seed=seed)
    verdicts = {path: one.verdict for path, one in check.leaves.items()}
    worst = next((v for v in ("wrong", "unclear") if v in verdicts.values()), "ok")
    worst = worst if check.ok == (worst == "ok") else "wrong"
    return {
        "family": name, "sizes": sizes, "dtype": dtype, "kinked": kinked, "noise": noise,
        "seed": seed, "said": worst, "verdicts": verdicts, "calls": check.calls,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--last", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--first", type=int, help="the first start, and nothing is written")
    parser.add_argument("--noise", help="one kind alone, and nothing is written")
    chosen = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # for the processes
    drawn = jobs(chosen.last, chosen.starts, chosen.first)
    asked = [j for j in drawn if chosen.noise in (None, j[4])]
    with ProcessPoolExecutor(chosen.processes, get_context("spawn")) as pool:
        rows = list(pool.map(row_of, asked, chunksize=4))
    for key in ("family", "dtype", "kinked", "noise"):
        counts = Counter((row[key], row["said"]) for row in rows)
        for value in dict.fromkeys(row[key] for row in rows):
            parts = [f"{said} {counts[value, said]:4d}" for said in ("ok", "unclear", "wrong")]
            sys.stdout.write(f"{value!s:18s} {'  '.join(parts)}\n")
    for row in rows:
        if row["said"] != "ok":
            sys.stdout.write(f"{row}\n")
    whole = Counter(row["said"] for row in rows)
    calls = float(np.median([row["calls"] for row in rows]))
    found = {"right gradients": len(rows), **whole, "calls": calls}
    sys.stdout.write(f"{found}\n")
    if chosen.noise is None and chosen.first is None:
        kept = json.loads(STORE.read_text("utf-8")) if STORE.exists() else {}
        name = "right, last" if chosen.last else "right, looked at"
        STORE.write_text(json.dumps(kept | {name: found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
