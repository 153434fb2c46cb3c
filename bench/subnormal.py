"""How much longer a step takes whose gradients and state are all subnormal.

Subnormal numbers are computed with as they are, since rounding them to 0 would change bits;
processors take longer over them. Medians of alternating steps over a million numbers in float32.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

import stepsize as ss

SIZE, STEPS = 1_000_000, 15
RULES = [ss.SGD, ss.Lion, ss.Adagrad, ss.RMSprop, ss.AdamW, ss.Adan]


def steps(cls: type, scale: float) -> tuple[object, np.ndarray]:
    """An optimizer whose state has been filled by gradients of this size."""
    x = np.full(SIZE, scale, np.float32)
    g = (np.linspace(0.1, 1, SIZE) * scale).astype(np.float32)
    optimizer = cls(x, lr=1e-3, on_nonfinite="ignore")
    for _ in range(5):
        optimizer.step(g)
    return optimizer, g


def main() -> None:
    ss.set_num_threads(1)
    print(f"{'float32, 1 M':<14}{'normal':>10}{'subnormal':>12}{'ratio':>8}")
    for cls in RULES:
        pairs = [steps(cls, scale) for scale in (1.0, 1e-39)]
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(STEPS):
            for (optimizer, g), taken in zip(pairs, times, strict=True):
                start = time.perf_counter()
                optimizer.step(g)
                taken.append(time.perf_counter() - start)
        normal, small = map(statistics.median, times)
        print(
            f"{cls.__name__:<14}{1e3 * normal:>7.2f} ms{1e3 * small:>9.2f} ms{small / normal:>8.1f}"
        )


if __name__ == "__main__":
    main()
