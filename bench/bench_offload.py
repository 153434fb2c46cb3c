"""Whether copies and steps of `Offload` overlap, on a device that is made up.

    python bench/bench_offload.py [--layers 20] [--width 1000] [--rounds 7]

Its copies sleep as long as a link would take that copies a gradient in the time of its step, one
thread for each direction. Gradients arrive at once. Three times are taken, alternating: copies to
the CPU alone, steps alone, and all of it, whose end is that of the last parameter's way back. Were
nothing to overlap, the third would be twice the first plus the second.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import threading
import time
from typing import Any

import torch

import stepsize as ss
from stepsize.interop.torch.offload import Immediate, Offload


class Link(Immediate):
    """Copies that take as long as their bytes, by a thread for each direction."""

    def __init__(self, seconds_per_byte: float) -> None:
        self.pace = seconds_per_byte
        self._queues: tuple[queue.Queue[Any], queue.Queue[Any]] = queue.Queue(), queue.Queue()
        for tasks in self._queues:
            threading.Thread(target=self._run, args=(tasks,), daemon=True).start()

    def _run(self, tasks: queue.Queue[Any]) -> None:
        while True:
            target, source, done = tasks.get()
            ends = time.perf_counter() + source.nbytes * self.pace
            target.copy_(source)
            time.sleep(max(0.0, ends - time.perf_counter()))
            done.set()

    def start(self, target: torch.Tensor, source: torch.Tensor, *, back: bool) -> Any:
        done = threading.Event()
        self._queues[back].put((target, source, done))
        return done

    def wait(self, started: Any) -> None:
        started.wait()


def timed(offload: Offload, gradients: list[torch.Tensor]) -> float:
    start = time.perf_counter()
    for tensor, gradient in zip(offload.tensors, gradients, strict=True):
        tensor.grad = gradient
    offload.step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    shape = options.width, options.width
    gradients = [torch.ones(shape) for _ in range(options.layers)]

    def made(transfers: Any) -> Offload:
        tensors = [torch.zeros(shape, requires_grad=True) for _ in gradients]
        return Offload(tensors, ss.AdamW, transfers=transfers, on_nonfinite="ignore")

    alone = made(Immediate())
    steps = statistics.median(timed(alone, gradients) for _ in range(options.rounds))
    size = sum(gradient.nbytes for gradient in gradients)
    link = Link(steps / size)
    both = made(link)
    rows = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        copies = [link.start(torch.empty_like(g), g, back=False) for g in gradients]
        for copy in copies:
            link.wait(copy)
        copying = time.perf_counter() - start
        stepping = timed(alone, gradients)
        rows.append((copying, stepping, timed(both, gradients)))
    copying, stepping, whole = (statistics.median(column) for column in zip(*rows, strict=True))
    ratios = [together / max(copied, stepped) for copied, stepped, together in rows]
    print(
        f"{options.layers} x {options.width} x {options.width}: copies one way {copying * 1e3:.1f} "
        f"ms, steps {stepping * 1e3:.1f} ms, all of it {whole * 1e3:.1f} ms: "
        f"{statistics.median(ratios):.2f} times the longer one"
    )


if __name__ == "__main__":
    main()
