"""Rules that find their rate beside a tuned AdamW on handwritten digits.

    python bench/digits_rules.py [--seeds N] [--epochs N]

Every run has the same batches and a factor that falls to 0 as half a cosine wave. AdamW gets the
best of a grid of rates, by mean validation accuracy over the seeds; the others get no rate at all.
"""

import argparse

import numpy as np

import stepsize as ss

GRID = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
RULES = (ss.DoG, ss.LDoG, ss.DoWG, ss.COCOB, ss.DAdaptSGD, ss.DAdaptAdam, ss.Prodigy)
# Unbounded, D-Adaptation's estimate may jump past what a network bears; its authors suggest this.
BOUND = {"growth_rate": 1.02}


def accuracy(cls: type, rate: float, seeds: int, epochs: int, **more: float) -> list[float]:
    """Validation accuracy at the end of training, in points, for each seed."""
    found = []
    for seed in range(seeds):
        problem = ss.problems.digits(seed)
        steps = epochs * -(-len(problem.train[0]) // 32)
        optimizer = cls(problem.params, lr=ss.schedules.cosine(rate, 0.0, steps), **more)
        history = ss.fit(
            problem.value_and_grad,
            problem.params,
            optimizer,
            problem.train,
            epochs=epochs,
            batch_size=32,
            validation=problem.validation,
            evaluate=problem.evaluate,
            seed=seed,
        )
        scores = history["val_accuracy"]
        found.append(100 * float(scores[~np.isnan(scores)][-1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=40)
    args = parser.parse_args()
    tuned = {rate: accuracy(ss.AdamW, rate, args.seeds, args.epochs) for rate in GRID}
    best = max(GRID, key=lambda rate: np.mean(tuned[rate]))
    goal = np.mean(tuned[best])
    print("| rule | rate | accuracy | to tuned AdamW |\n|---|---|---|---|")
    print(f"| AdamW | {best:g} | {goal:.2f} | |", flush=True)
    for cls, more in [(cls, {}) for cls in RULES] + [(ss.DAdaptSGD, BOUND), (ss.DAdaptAdam, BOUND)]:
        mean = np.mean(accuracy(cls, 1.0, args.seeds, args.epochs, **more))
        label = cls.__name__ + "".join(f", {name}={value}" for name, value in more.items())
        print(f"| {label} | none | {mean:.2f} | {mean - goal:+.2f} |", flush=True)


if __name__ == "__main__":
    main()
