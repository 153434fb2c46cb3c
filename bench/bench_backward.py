"""The step inside of the backward pass beside the plain step: memory, time and bits.

    python bench/bench_backward.py [--layers 20] [--width 1000] [--rounds 15]

An MLP of torch with layers x width x width parameters in float32 and AdamW of
`stepsize.interop.torch`. The peak of each way is that of a process of its own; times are of whole
training steps (forward, backward, step), alternating in one process, as the median of the ratios of
neighbours. Parameters must be equal at the end, to the bit.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from stepsize.interop.torch import AdamW, in_backward

WAYS = ("plain", "in backward", "in backward, worker")


def made(layers: int, width: int) -> torch.nn.Module:
    torch.manual_seed(0)
    parts = (torch.nn.Linear(width, width, bias=False) for _ in range(layers))
    return torch.nn.Sequential(*(each for part in parts for each in (part, torch.nn.Tanh())))


def training(way: str, layers: int, width: int) -> tuple[torch.nn.Module, Callable[[], None]]:
    """A model, and what makes one training step of it."""
    net = made(layers, width)
    optimizer = AdamW(net.parameters(), lr=1e-3)
    if way != "plain":
        in_backward(optimizer, worker="worker" in way)
    batch = torch.randn(32, width, generator=torch.Generator().manual_seed(1))

    def step() -> None:
        net(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return net, step


def peak(way: str, layers: int, width: int) -> float:
    """MB of a process that makes three steps."""
    command = [sys.executable, __file__, "--way", way]
    command += ["--layers", str(layers), "--width", str(width)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--way", choices=WAYS, help="print the peak of this way alone")
    options = parser.parse_args()
    size = options.layers, options.width
    if options.way:
        _, step = training(options.way, *size)
        for _ in range(3):
            step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    gradients = options.layers * options.width**2 * 4 / 2**20
    print(
        f"{options.layers * options.width**2 / 1e6:.1f} M parameters, gradients {gradients:.0f} MB"
    )
    peaks = {way: peak(way, *size) for way in WAYS}
    trained = {way: training(way, *size) for way in WAYS}
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds + 2):
        for way in WAYS:
            start = time.perf_counter()
            trained[way][1]()
            times[way].append(time.perf_counter() - start)
    first = list(trained["plain"][0].parameters())
    print("| way | peak | less by | step | ratio | same bits |\n|---|---|---|---|---|---|")
    for way in WAYS:
        ratios = [a / b for a, b in zip(times[way][2:], times["plain"][2:], strict=True)]
        same = all(map(torch.equal, first, trained[way][0].parameters()))
        print(
            f"| {way} | {peaks[way]:.0f} MB | {peaks['plain'] - peaks[way]:.0f} MB "
            f"| {statistics.median(times[way][2:]) * 1e3:.0f} ms "
            f"| {statistics.median(ratios):.3f} | {'yes' if same else 'NO'} |"
        )


if __name__ == "__main__":
    main()
