"""Rules that find their rate beside a tuned AdamW on handwritten digits.

    python bench/lr_free_on_digits.py [--seeds N] [--epochs N]

Every run has the same batches of 32. AdamW gets the best of a grid of rates, by mean validation
accuracy over the seeds; the others get no rate at all, once with their defaults and once as their
authors run them. DoG, LDoG and DoWG then keep a factor of 1 and are looked at in their average of
polynomial decay; everything else has a factor that falls to 0 as half a cosine wave.
bench/results/lr_free_on_digits.md keeps the table.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import stepsize as ss

GRID = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
Factory = Callable[[Any, ss.Schedule], Any]


def plain(cls: Any, **more: Any) -> Factory:
    return lambda params, factor: cls(params, lr=factor, **more)


def averaged(cls: Any) -> Factory:
    return lambda params, _: ss.EMA(cls(params), decay=1.0, warmup=True, gamma=9.0, power=1.0)


# How the authors run it, in words and in code. The estimate of D-Adaptation may jump past what a
# network bears at its start: the authors bound its growth there, and give SGD momentum.
RULES: dict[Any, tuple[str, Factory]] = {
    ss.DoG: ("averaged", averaged(ss.DoG)),
    ss.LDoG: ("averaged", averaged(ss.LDoG)),
    ss.DoWG: ("averaged", averaged(ss.DoWG)),
    ss.COCOB: ("defaults", plain(ss.COCOB)),
    ss.DAdaptSGD: (
        "growth_rate=1.02, momentum=0.9",
        plain(ss.DAdaptSGD, growth_rate=1.02, momentum=0.9),
    ),
    ss.DAdaptAdam: ("growth_rate=1.02", plain(ss.DAdaptAdam, growth_rate=1.02)),
    ss.Prodigy: ("defaults", plain(ss.Prodigy)),
}


def accuracy(make: Factory, seeds: int, epochs: int, rate: float = 1.0) -> float:
    """Mean validation accuracy at the end of training, in points, over the seeds."""
    found = []
    for seed in range(seeds):
        problem = ss.problems.digits(seed)
        steps = epochs * -(-len(problem.train[0]) // 32)
        history = ss.fit(
            problem.value_and_grad,
            problem.params,
            make(problem.params, ss.schedules.cosine(rate, 0.0, steps)),
            problem.train,
            epochs=epochs,
            batch_size=32,
            validation=problem.validation,
            evaluate=problem.evaluate,
            seed=seed,
        )
        scores = history["val_accuracy"]
        found.append(100 * float(scores[~np.isnan(scores)][-1]))
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=40)
    args = parser.parse_args()
    tuned = {rate: accuracy(plain(ss.AdamW), args.seeds, args.epochs, rate) for rate in GRID}
    best = max(tuned, key=lambda rate: tuned[rate])
    goal = tuned[best]
    print("| rule | with defaults | as its authors run it | accuracy | to tuned AdamW |")
    print("| --- | --: | --- | --: | --: |")
    print(f"| AdamW | | lr={best:g}, the best of {len(GRID)} | {goal:.2f} | |", flush=True)
    for cls, (words, make) in RULES.items():
        simple = accuracy(plain(cls), args.seeds, args.epochs)
        careful = accuracy(make, args.seeds, args.epochs)
        print(
            f"| {cls.__name__} | {simple - goal:+.2f} | {words} | {careful:.2f} "
            f"| {careful - goal:+.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
