"""Does lowering a constant rate where the run is stationary end as low as a decay of known length?

    python bench/advice/stationarity.py [--kinds regression classes] [--seeds N]

Linear and logistic regression with noise, 12,000 steps of 8 rows: a constant rate,
`ReduceOnStationarity` and `ReduceOnPlateau("loss")` with their defaults, and linear decay to 0.
Prints the loss over all rows at the end, and the first steps at which the rate was lowered.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import stepsize as ss

STEPS, ROWS, WIDTH = 12_000, 2_000, 20
RATES = {ss.SGD: (0.01, 0.1, 0.4), ss.Adam: (0.001, 0.01, 0.1)}
WAYS = {
    "constant": list,
    "stationary": lambda: [ss.ReduceOnStationarity()],
    "plateau": lambda: [ss.ReduceOnPlateau("loss")],
    "linear": list,
}


def problem(kind: str, seed: int) -> tuple[Any, Any]:
    """Rows, and loss and gradient of some of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, WIDTH)) * np.geomspace(1, 0.3, WIDTH)
    scores = x @ rng.normal(size=WIDTH)
    if kind == "regression":
        y = scores + rng.normal(size=ROWS)
    else:
        y = (rng.uniform(size=ROWS) < 1 / (1 + np.exp(-scores))) * 1.0

    def value_and_grad(params: Any, batch: Any) -> tuple[float, Any]:
        a, target = batch
        out = a @ params["w"]
        if kind == "regression":
            error = out - target
            return float(np.mean(error**2)) / 2, {"w": a.T @ error / len(target)}
        loss = float(np.mean(np.logaddexp(0, out) - target * out))
        return loss, {"w": a.T @ (1 / (1 + np.exp(-out)) - target) / len(target)}

    return (x, y), value_and_grad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=["regression", "classes"])
    parser.add_argument("--seeds", type=int, default=2)
    chosen = parser.parse_args()
    cells = [(k, c, r) for k in chosen.kinds for c, rates in RATES.items() for r in rates]
    for kind, cls, lr in cells:
        ends: dict[str, list[float]] = {way: [] for way in WAYS}
        lowered = []
        for seed in range(chosen.seeds):
            data, value_and_grad = problem(kind, seed)
            for way, made in WAYS.items():
                params, callbacks = {"w": np.zeros(WIDTH)}, made()
                rate = ss.schedules.linear(lr, 0.0, STEPS) if way == "linear" else lr
                ss.fit(
                    value_and_grad,
                    params,
                    cls(params, lr=rate),
                    data,
                    steps=STEPS,
                    batch_size=8,
                    callbacks=callbacks,
                    progress=False,
                )
                ends[way].append(value_and_grad(params, data)[0])
                lowered += [c.reduced[:3] for c in callbacks if way == "stationary"]
        words = ", ".join(f"{way} {np.mean(v):.4f}" for way, v in ends.items())
        print(f"{kind} {cls.__name__} {lr}: {words}; lowered at {lowered}", flush=True)


if __name__ == "__main__":
    main()
