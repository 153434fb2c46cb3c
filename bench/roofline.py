"""How near each rule comes to what memory allows, and how a step grows with size and threads.

    python bench/roofline.py [--quick] [--size N] [--seconds S] [--out DIR]

Writes roofline.md, roofline.json and roofline.png. Every rule runs in turns with a triad,
`x = x / 2 + y` over arrays of the same length in C++, and its share is the median of the ratios of
neighbouring runs. The curves over sizes run in turns with the peers of compare_peers.py, whose
answers are checked.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from tqdm import tqdm

import compare_peers as peers
import stepsize as ss
from roofline_page import draw, page
from stepsize.benchmarking import (
    Entry,
    Yardstick,
    bytes_per_element,
    entries,
    in_turns,
    medians,
    ratio,
)

SIZES = [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 200_000_000]
CURVE = "AdamW"
FIRST = ["torch", "DeepSpeed", "optax", "NumPy"]  # where memory is short


def available() -> int:
    """Bytes of memory that are free."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("/proc/meminfo names no MemAvailable")


def arrays(size: int) -> tuple[np.ndarray, np.ndarray]:
    x, g = np.empty(size, np.float32), np.empty(size, np.float32)
    block = np.random.default_rng(0).standard_normal(min(size, 1 << 16), np.float32)
    for at in range(0, size, block.size):
        x[at : at + block.size] = block[: size - at]
        g[at : at + block.size] = block[: size - at] * np.float32(0.1)
    return x, g


def check(entry: Entry, steps: int, x: np.ndarray, start: np.ndarray, g: np.ndarray) -> None:
    """A part of the array has gone where it goes alone, if the rule moves elements one by one."""
    if not np.all(np.isfinite(x[:: max(1, x.size // 1000)])):
        raise AssertionError(f"{entry.name} went astray")
    if entry.passes == 1:
        alone = start[:1000].copy()
        step = entry.stepper(entry.make(alone), g[:1000])
        for _ in range(steps):
            step()
        if not np.array_equal(alone, x[:1000]):
            raise AssertionError(f"{entry.name} computed something else")


def of_rules(size: int, seconds: float, rounds: int = 3) -> list[dict[str, Any]]:
    """Every rule on one large array, in turns with the triad.

    All of them once and again, so that a slow spell of the machine meets a rule one time only.
    """
    yardstick = Yardstick(size)
    x, g = arrays(size)
    start = x.copy()
    found: dict[Entry, dict[str, list[float]]] = {}
    for entry in tqdm(rounds * entries(), desc="rules", unit="rule"):
        x[...] = start
        optimizer = entry.make(x)
        steps = {"rule": entry.stepper(optimizer, g), "triad": yardstick.run}
        times = in_turns(steps, seconds / rounds, least=3)
        check(entry, optimizer.step_count, x, start, g)
        yardstick.check()
        known = found.setdefault(entry, {"rule": [], "triad": []})
        for name, more in times.items():
            known[name] += more
    return [row_of(entry, size, times) for entry, times in found.items()]


def row_of(entry: Entry, size: int, times: dict[str, list[float]]) -> dict[str, Any]:
    middle, moved = medians(times), bytes_per_element(entry)
    return {
        "rule": entry.name,
        "passes": entry.passes,
        "bytes": moved,
        "ns": 1e9 * middle["rule"] / size,
        "gb_s": moved * size / middle["rule"] / 1e9,
        "share": moved / Yardstick.bytes * ratio(times, "triad", "rule"),
        "triad_gb_s": Yardstick.bytes * size / middle["triad"] / 1e9,
        "runs": len(times["rule"]),
    }


def of_sizes(sizes: list[int], names: list[str], seconds: float) -> list[dict[str, Any]]:
    """Nanoseconds an element over the size of one array, ours and the peers' in turns."""
    rows = []
    for size in tqdm(sizes, desc="sizes", unit="size"):
        # NumPy by hand and optax hold temporaries besides: all at once must leave room.
        here = sorted(names, key=FIRST.index)
        room = int((0.6 * available() / (4 * size) - 11) / 5)
        if room < 0:
            print(f"{size:,} elements need more memory than there is: left out", file=sys.stderr)
            continue
        del here[room:]
        for name in here:
            peers.check(CURVE, name, 1, min(size, 10_000))
        contestants = {name: peers.PEERS[name](CURVE, 1, size) for name in here}
        mine = peers.ours(CURVE, 1, size)
        steps = {"stepsize": mine.step} | {name: one.step for name, one in contestants.items()}
        found = medians(in_turns(steps, seconds))
        if not np.isfinite(mine.first()[0]):
            raise AssertionError("the steps went astray")
        rows.append({"size": size, **{name: 1e9 * s / size for name, s in found.items()}})
    return rows


def of_threads(size: int, threads: int, seconds: float) -> list[dict[str, Any]]:
    """GB/s over the number of threads, of the triad and of three rules."""
    chosen = [entry for entry in entries() if entry.name in ("SGD, momentum", "AdamW", "AdEMAMix")]
    x, g = arrays(size)
    rows = []
    for count in range(1, threads + 1):
        ss.set_num_threads(count)
        yardstick = Yardstick(size)
        row: dict[str, Any] = {"threads": count}
        for entry in chosen:
            step = entry.stepper(entry.make(x), g)
            times = medians(in_turns({"rule": step, "triad": yardstick.run}, seconds))
            row[entry.name] = bytes_per_element(entry) * size / times["rule"] / 1e9
            row["triad"] = Yardstick.bytes * size / times["triad"] / 1e9
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="rough figures in two minutes")
    parser.add_argument("--size", type=int, default=50_000_000, help="of the rules' arrays")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    parser.add_argument("--threads", type=int, default=int(ss.build_info()["threads"]))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--out", type=Path, default=peers.HERE / "results")
    args = parser.parse_args()
    size = min(args.size, 10_000_000) if args.quick else args.size
    seconds = min(args.seconds, 0.2) if args.quick else args.seconds
    ss.set_num_threads(args.threads)
    names = list(peers.installed())
    if "torch" in names:
        import torch

        torch.set_num_threads(args.threads)
    report = {
        "date": datetime.date.today().isoformat(),
        "machine": peers.machine(),
        "size": size,
        "threads_used": args.threads,
        "rules": of_rules(size, seconds),
        "sizes": of_sizes(args.sizes, names, seconds),
        "threads": of_threads(size, args.threads, seconds),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "roofline.json").write_text(json.dumps(report, indent=1) + "\n")
    (args.out / "roofline.md").write_text(page(report))
    draw(report, args.out / "roofline.png")
    print(page(report))


if __name__ == "__main__":
    main()
