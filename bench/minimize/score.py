"""Score the rate that `minimize` finds on functions without noise, against a grid of rates.

    python bench/minimize/score.py [--steps 1000] [--only NAME] [--truth]

The gap is the best value seen minus the lowest value of the function. The truth, `truth.json`, is
the smallest gap of constant rates and of half a run at a rate and half a cosine down to 0, four
rates per decade from 1e-7 to 100. Every run may make all of its steps (`gtol=0`). A gap below 1e-10
of the start's counts as that much: there it is rounding that wins. The scores are printed and
written to scores.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
from functions import Function, functions

import stepsize as ss

HERE = Path(__file__).parent
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("sgd", {}),
    "nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}),
    "adam": ("adam", {}),
    "rmsprop": ("rmsprop", {}),
}
RATES = np.geomspace(1e-7, 1e2, 37)
SOLVED = 1e-10  # of the gap of the start
FACTOR = 10  # of the best gap within which a run counts


def lowest(function: Function) -> float:
    """The lowest value; of the convex fits what BFGS finds."""
    if function.lowest is not None:
        return function.lowest
    found = scipy.optimize.minimize(
        function.fun_and_grad, function.x0, jac=True, method="BFGS", options={"gtol": 1e-13}
    )
    return float(found.fun)


def grid(function: Function, name: str, steps: int) -> dict[str, Any]:
    """The lowest value over the grid, and with which rate of which schedule."""
    rule, options = RULES[name]
    best: dict[str, Any] = {"fun": np.inf}
    for lr in map(float, RATES):
        for shape, rate in (("constant", lr), ("flat_cosine", None)):
            rate = ss.schedules.flat_cosine(lr, steps, flat=0.5) if rate is None else rate
            result = ss.minimize(
                function.fun_and_grad,
                function.x0,
                rule,
                rate,
                max_iter=steps,
                gtol=0.0,
                **options,
            )
            if result.fun < best["fun"]:
                best = {"fun": result.fun, "rate": lr, "schedule": shape}
    return best


def score(function: Function, name: str, truth: dict[str, Any], steps: int) -> dict[str, Any]:
    """One row: the gap with the rate found and the best of the grid, of the start's."""
    rule, options = RULES[name]
    result = ss.minimize(
        function.fun_and_grad, function.x0, rule, max_iter=steps, gtol=0.0, **options
    )
    low = min(lowest(function), truth["fun"], result.fun)
    whole = function.fun_and_grad(function.x0)[0] - low
    gaps = [(fun - low) / whole for fun in (result.fun, truth["fun"])]
    ours, best = (max(gap, SOLVED) for gap in gaps)
    rate = result.lr if isinstance(result.lr, float) else result.lr(0)
    return {
        "function": function.name,
        "rule": name,
        "gap": float(f"{gaps[0]:.3g}"),
        "best": float(f"{gaps[1]:.3g}"),
        "ratio": float(f"{ours / best:.3g}"),
        "rate": float(f"{rate:.4g}"),
        "best_rate": float(f"{truth['rate']:.4g}"),
        "schedule": truth["schedule"],
        "calls": result.nfev,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--only", default="", help="functions whose name holds this")
    parser.add_argument("--truth", action="store_true", help="make the truth again")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")  # of functions that overflow at rates too high
    store = HERE / "truth.json"
    cells = [(f, name) for f in functions() for name in RULES if chosen.only in f.name]
    known = {}
    if store.exists():
        known = {(r["function"], r["rule"], r["steps"]): r for r in json.loads(store.read_text())}
    rows = []
    for f, name in cells:
        key = (f.name, name, chosen.steps)
        if chosen.truth or key not in known:
            row = {"function": f.name, "rule": name, "steps": chosen.steps}
            known[key] = row | grid(f, name, chosen.steps)
            write(store, list(known.values()))
        rows.append(score(f, name, known[key], chosen.steps))
        sys.stdout.write(f"{json.dumps(rows[-1])}\n")
        sys.stdout.flush()
    for name in (*RULES, ""):
        part = [r for r in rows if name in ("", r["rule"])]
        within = np.mean([r["ratio"] <= FACTOR for r in part])
        calls = np.mean([r["calls"] for r in part])
        words = f"{name or 'all':10s} {len(part)} runs, within {FACTOR}x: {within:.3f}"
        sys.stdout.write(f"{words}, calls {calls:.0f}\n")
    if not chosen.only:
        write(HERE / f"scores-{chosen.steps}.json", rows)


if __name__ == "__main__":
    main()
