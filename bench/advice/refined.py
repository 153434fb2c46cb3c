"""Does a schedule refined from the gradient norms of a run end lower than linear decay or cosine?

    python bench/advice/refined.py [--seeds N]

Tasks of transfer.py, SGD with momentum (power 2) and AdamW (power 1). For each schedule the best
peak of a grid. The refined one is made of a run with linear decay at its best peak, and tried at
peaks around that. Regret is (loss - best) / (start - best) over the three schedules.
"""

from __future__ import annotations

import argparse

import numpy as np
from transfer import FACTORS, RULES, Case, tasks

import stepsize as ss


def norms_of(case: Case, settings: dict) -> list[float]:
    """Gradient norms of one training."""
    params = case.start(0)
    optimizer = case.cls(params, **settings)
    rng, norms = np.random.default_rng(1000), []
    for _ in range(case.steps):
        rows = rng.choice(len(case.data[0]), case.batch, replace=False)
        grads = case.value_and_grad(params, tuple(a[rows] for a in case.data))[1]
        norms.append(optimizer.step(grads, stats=True).grad_norm)
    return norms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    seeds = parser.parse_args().seeds
    regrets: dict[str, list[float]] = {}
    for name, (data, network) in tasks().items():
        for rule, (_, others, middle) in RULES.items():
            case = Case(data, network, rule, (1.0, 1.0, 1))
            rates = [middle * f for f in FACTORS]

            def best(make, case=case, others=others, rates=rates):  # type: ignore[no-untyped-def]
                ends = [case.mean({"lr": make(r), **others}, {}, seeds) for r in rates]
                k = int(np.argmin(ends))
                return rates[k], ends[k]

            linear = best(case.schedule)
            cosine = best(lambda r, n=case.steps: ss.schedules.cosine(r, 0.0, n))
            norms = norms_of(case, {"lr": case.schedule(linear[0]), **others})
            power = 2.0 if rule == "momentum" else 1.0
            shape = ss.schedules.refined({"grad_norm": norms}, 1.0, power=power)
            ends = {
                "linear": linear[1],
                "cosine": cosine[1],
                "refined": best(shape.__mul__)[1],
            }
            start = float(np.mean([case.loss(case.start(seed)) for seed in range(seeds)]))
            low = min(ends.values())
            for way, loss in ends.items():
                regrets.setdefault(way, []).append((loss - low) / (start - low))
            words = ", ".join(f"{w} {v[-1]:.4f}" for w, v in regrets.items())
            fall = np.median(norms[:40]) / np.median(norms[-40:])
            print(f"{name} {rule}: {words}; norms fell by {fall:.3g}", flush=True)
    for way, values in regrets.items():
        lowest = sum(v == 0 for v in values)
        print(f"{way}: median {np.median(values):.4f}, worst {max(values):.4f}, lowest in {lowest}")


if __name__ == "__main__":
    main()
