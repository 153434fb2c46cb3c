"""What low-precision state and parameters cost in quality and time.

    python bench/low_precision.py [--seeds N] [--epochs N] [--size N]

The digits classifier and an autoencoder of the same digits (64-24-8-24-64) by AdamW under a cosine
schedule, in every format of state and parameters: the final loss over the seeds, beside that of
float32. Then a step of AdamW on one large array in each format, alternating, as a ratio to float32
and, where it is installed, to torch's fused kernel.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import ml_dtypes
import numpy as np

import stepsize as ss
from stepsize.problems import networks

FORMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "float32": (np.float32, {}),
    "bfloat16 state": (np.float32, {"state_dtype": "bfloat16"}),
    "int8 state": (np.float32, {"state_dtype": "int8"}),
    "bfloat16 parameters, masters": (ml_dtypes.bfloat16, {}),
    "bfloat16 parameters alone": (ml_dtypes.bfloat16, {"master_weights": False}),
    "bfloat16 parameters, stochastic": (
        ml_dtypes.bfloat16,
        {"master_weights": False, "param_rounding": "stochastic"},
    ),
    "bfloat16 parameters, split": (ml_dtypes.bfloat16, {"master_weights": "split"}),
    "bfloat16 parameters, split8": (ml_dtypes.bfloat16, {"master_weights": "split8"}),
    "bfloat16 parameters, stochastic, int8 state": (
        ml_dtypes.bfloat16,
        {"master_weights": False, "param_rounding": "stochastic", "state_dtype": "int8"},
    ),
    "bfloat16 parameters, split, int8 state": (
        ml_dtypes.bfloat16,
        {"master_weights": "split", "state_dtype": "int8"},
    ),
    "float16 parameters, masters": (np.float16, {}),
}


def to_float32(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The same loss for half-precision parameters, computed in float32."""

    def value_and_grad(params: Any, batch: Any) -> Any:
        wide = ss.arrays.map_leaves(lambda leaf: np.asarray(leaf, np.float32), params)
        return loss(wide, batch)

    return value_and_grad


def tasks(seed: int) -> dict[str, tuple[Any, Any, Any]]:
    """Loss, parameters and data of the two tasks."""
    problem = ss.problems.digits(seed)
    images = problem.train[0]
    coder = networks.init_mlp((64, 24, 8, 24, 64), seed)
    return {
        "digits": (problem.value_and_grad, problem.params, problem.train),
        "autoencoder": (networks.squared_error_loss, coder, (images, images)),
    }


def last_loss(loss: Any, params: Any, data: Any, form: str, seed: int, epochs: int) -> float:
    """The mean loss over the training data after training."""
    dtype, keywords = FORMS[form]
    params = ss.arrays.map_leaves(lambda leaf: leaf.astype(dtype), params)
    steps = epochs * -(-len(data[0]) // 64)
    optimizer = ss.AdamW(params, lr=ss.schedules.cosine(3e-3, 0.0, steps), **keywords)
    function = to_float32(loss)
    ss.fit(function, params, optimizer, data, epochs=epochs, batch_size=64, seed=seed)
    return float(function(params, data)[0])


def quality(seeds: int, epochs: int) -> None:
    print("| task | form | final loss, mean ± deviation over seeds | beside float32 |")
    print("|---|---|--:|--:|")
    for task in tasks(0):
        first = None
        for form in FORMS:
            losses = [last_loss(*tasks(seed)[task], form, seed, epochs) for seed in range(seeds)]
            mean, spread = statistics.mean(losses), statistics.stdev(losses)
            first = first or (mean, spread)
            noise = (mean - first[0]) / first[1]
            print(f"| {task} | {form} | {mean:.5f} ± {spread:.5f} | {noise:+.2f} deviations |")


def stepper(form: str, size: int) -> Callable[[], object]:
    dtype, keywords = FORMS[form]
    x = np.zeros(size, dtype)
    gradient = np.random.default_rng(0).standard_normal(size, np.float32)
    optimizer = ss.AdamW(x, on_nonfinite="ignore", **keywords)
    given = gradient.astype(dtype)
    return lambda: optimizer.step(given)


def by_torch(size: int) -> Callable[[], object] | None:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(int(ss.build_info()["threads"]))
    x = torch.zeros(size, requires_grad=True)
    x.grad = torch.from_numpy(np.random.default_rng(0).standard_normal(size, np.float32))
    return torch.optim.AdamW([x], fused=True).step


def speed(size: int, rounds: int) -> None:
    steps = {form: stepper(form, size) for form in FORMS}
    theirs = by_torch(size)
    if theirs is not None:
        steps["torch fused, float32"] = theirs
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    print(f"\n| AdamW, {size:,} numbers | ns a number | float32 / this | torch fused / this |")
    print("|---|--:|--:|--:|")
    for name, found in times.items():
        ratios = [
            statistics.median(a / b for a, b in zip(times[other], found, strict=True))
            if other in times
            else float("nan")
            for other in ("float32", "torch fused, float32")
        ]
        ns = 1e9 * statistics.median(found) / size
        print(f"| {name} | {ns:.3f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--size", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    speed(args.size, args.rounds)
    if args.seeds > 1:
        quality(args.seeds, args.epochs)


if __name__ == "__main__":
    main()
