"""What each option of the loop costs, beside the bytes that it moves.

    python bench/loop_options.py [ROUNDS]

AdamW in float32 over ten million parameters on one thread; the steps alternate in one process, and
each ratio is the median of the ratios to the step without options in the same round.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

import stepsize as ss

SIZE = 10_000_000
PLAIN = 28  # bytes a parameter: gradient, parameter and two averages, three of them stored
# Each option with the bytes that it adds, none where it works on what is in cache.
OPTIONS: dict[str, tuple[dict[str, Any], int]] = {
    "none": ({}, 0),
    "cautious": ({"cautious": True}, 0),
    "cautious_decay": ({"cautious_decay": True}, 0),
    "decay_max_lr": ({"decay_max_lr": 1e-3}, 0),
    "update_clip": ({"update_clip": 1.0}, 8),  # reads gradient and second moment first
    "mars_gamma": ({"mars_gamma": 0.025}, 16),  # reads both gradients first, then stores one
}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    ss.set_num_threads(1)
    random = np.random.default_rng(0)
    grads = random.standard_normal(SIZE, np.float32)
    optimizers = {
        name: ss.AdamW(np.ones(SIZE, np.float32), lr=1e-3, weight_decay=0.1, **options)
        for name, (options, _) in OPTIONS.items()
    }
    times: dict[str, list[float]] = {name: [] for name in OPTIONS}
    for _ in range(rounds):
        for name, optimizer in optimizers.items():
            start = time.process_time()
            optimizer.step(grads)
            times[name].append(time.process_time() - start)
    print(f"{'option':<16}{'time':>8}{'bytes':>8}")
    for name, (_, more) in OPTIONS.items():
        ratios = np.array(times[name]) / np.array(times["none"])
        print(f"{name:<16}{np.median(ratios):>8.2f}{(PLAIN + more) / PLAIN:>8.2f}")


if __name__ == "__main__":
    main()
