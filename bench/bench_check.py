"""What the default check for NaN and infinity, clipping and `stats=True` add to a step of AdamW.

Run: ``python bench/bench_check.py``. Alternating steps in one process, medians and minima; the
parameters of all but the clipped ones end with the same bits. A step reads 16 bytes an element
(gradient, parameter, two moments) and writes 12; the check reads 4 once more. Beside the ratio
stands at what rate these 4 bytes are read, and at what rate the plain step reads its 16: where both
are the same, the check costs what reading costs and nothing else.
"""

import argparse
import time

import numpy as np

import stepsize as ss

WAYS = {
    "plain": ({"on_nonfinite": "ignore"}, {}),
    "checked": ({}, {}),
    "clipped": ({"on_nonfinite": "ignore", "clip_norm": 1.0}, {}),
    "checked, with statistics": ({}, {"stats": True}),
}


def measured(size: int, rounds: int) -> dict[str, list[float]]:
    gradient = np.random.default_rng(0).standard_normal(size, dtype=np.float32)
    optimizers = {
        way: ss.AdamW({"w": np.ones(size, np.float32)}, lr=1e-3, **settings)
        for way, (settings, _) in WAYS.items()
    }
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, (_, asked) in WAYS.items():
            start = time.perf_counter()
            optimizers[way].step({"w": gradient}, **asked)
            times[way].append(time.perf_counter() - start)
    plain = optimizers["plain"].params["w"]
    for way in ("checked", "checked, with statistics"):
        if not np.array_equal(optimizers[way].params["w"], plain):
            raise SystemExit(f"{way}: other parameters than without")
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=float, nargs="*", default=[1e6, 1e7, 5e7])
    parser.add_argument("--rounds", type=int, default=41)
    given = parser.parse_args()
    print(f"{ss.build_info()['target']}, {ss.build_info()['threads']} threads")
    for size in map(int, given.sizes):
        times = measured(size, given.rounds)
        plain, least = np.median(times["plain"]), np.min(times["plain"])
        print(f"{size:,}: plain {1e3 * plain:.2f} ms, reading {16 * size / plain / 1e9:.0f} GB/s")
        for way in list(WAYS)[1:]:
            median = np.median(times[way])
            line = f"  {way}: {median / plain:.2f} (minima {np.min(times[way]) / least:.2f})"
            if way == "checked":
                line += f", reading {4 * size / (median - plain) / 1e9:.0f} GB/s more"
            print(line)


if __name__ == "__main__":
    main()
