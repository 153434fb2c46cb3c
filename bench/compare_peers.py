"""One step beside the same by hand in NumPy, by torch (fused where it can), optax and DeepSpeed.

    python bench/compare_peers.py [--quick] [--threads N] [--rules R ...] [--sizes S ...]
        [--out DIR]

Every pair alternates within this one process, and the figure is the median of the ratios of
neighbouring runs, so that a slow moment of the machine affects both. Before it is timed each
library's result is checked against ours. Bandwidth is given beside a triad of the same run. Prints
the table of docs/speed-and-bits.md and writes bench/results/<date>-<machine>.json.

OMP_WAIT_POLICY=passive is set unless it is set already: the libraries bring an OpenMP runtime each,
and spinning threads of one would take processors from the other.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed's, before it looks for another

import numpy as np

import stepsize as ss

HERE = Path(__file__).parent
LR, BETAS, EPS, DECAY = 1e-3, (0.9, 0.999), 1e-8, 0.999
SIZES = {"1 x 1,000": (1, 1_000), "100 x 1,000": (100, 1_000), "1,000 x 100": (1_000, 100)}
SIZES |= {"1 x 1 M": (1, 1_000_000), "1 x 10 M": (1, 10_000_000), "1 x 50 M": (1, 50_000_000)}
LARGE = [10_000_000, 50_000_000]
# Bytes of one element in float32: parameter and state are read and written, the gradient read; a
# norm or a check reads it once more.
BYTES = {"Adam": 28, "AdamW": 28, "RMSprop": 20, "SGD momentum": 20, "Adagrad": 20}
BYTES |= {"AdamW, checked": 32, "AdamW, clip_norm": 32, "AdamW, EMA": 36}
Step = Callable[[], object]


@dataclass
class Contestant:
    """A library's step on arrays of its own: call it, then look at the first parameter."""

    step: Step
    first: Callable[[], np.ndarray]


def data(count: int, size: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(0)
    params = [random.standard_normal(size, np.float32) for _ in range(count)]
    return params, [random.standard_normal(size, np.float32) * np.float32(0.1) for _ in params]


OURS: dict[str, Callable[[Any], Any]] = {
    "Adam": lambda p: ss.Adam(p, lr=LR, on_nonfinite="ignore"),
    "AdamW": lambda p: ss.AdamW(p, lr=LR, weight_decay=0.01, on_nonfinite="ignore"),
    "RMSprop": lambda p: ss.RMSprop(p, lr=LR, on_nonfinite="ignore"),
    "SGD momentum": lambda p: ss.SGD(p, lr=LR, momentum=0.9, on_nonfinite="ignore"),
    "Adagrad": lambda p: ss.Adagrad(p, lr=LR, on_nonfinite="ignore"),
    "AdamW, checked": lambda p: ss.AdamW(p, lr=LR, weight_decay=0.01),
    "AdamW, clip_norm": lambda p: ss.AdamW(
        p, lr=LR, weight_decay=0.01, clip_norm=1.0, on_nonfinite="ignore"
    ),
    "AdamW, EMA": lambda p: ss.EMA(OURS["AdamW"](p), DECAY),
}


def ours(rule: str, count: int, size: int) -> Contestant:
    params, grads = data(count, size)
    nest = {str(k): leaf for k, leaf in enumerate(params)}
    given = {str(k): leaf for k, leaf in enumerate(grads)}
    optimizer = OURS[rule](nest)
    first = (lambda: optimizer.eval_params()["0"]) if rule.endswith("EMA") else lambda: params[0]
    return Contestant(lambda: optimizer.step(given), first)


def by_hand(rule: str, count: int, size: int) -> Contestant | None:
    """The step as one writes it in NumPy, with in-place operations where they are natural."""
    params, grads = data(count, size)
    first = [np.zeros_like(leaf) for leaf in params]
    second = [np.zeros_like(leaf) for leaf in params]
    averages = [leaf.copy() for leaf in params]
    b1, b2 = BETAS
    t = 0

    def adam(given: list[np.ndarray] = grads) -> None:
        nonlocal t
        t += 1
        for x, g, m, v in zip(params, given, first, second, strict=True):
            if rule.startswith("AdamW"):
                x *= 1 - LR * 0.01
            m *= b1
            m += (1 - b1) * g
            v *= b2
            v += (1 - b2) * (g * g)
            x -= LR / (1 - b1**t) * m / (np.sqrt(v) / math.sqrt(1 - b2**t) + EPS)

    def clipped() -> None:
        norm = math.sqrt(sum(float(np.vdot(g, g)) for g in grads))
        adam([g * np.float32(min(1.0, 1.0 / norm)) for g in grads])

    def averaged() -> None:
        adam()
        for e, x in zip(averages, params, strict=True):
            e += (1 - DECAY) * (x - e)

    def rmsprop() -> None:
        for x, g, v in zip(params, grads, second, strict=True):
            v *= 0.99
            v += 0.01 * (g * g)
            x -= LR * g / (np.sqrt(v) + EPS)

    def momentum() -> None:
        for x, g, m in zip(params, grads, first, strict=True):
            m *= 0.9
            m += g
            x -= LR * m

    def adagrad() -> None:
        for x, g, v in zip(params, grads, second, strict=True):
            v += g * g
            x -= LR * g / (np.sqrt(v) + 1e-10)

    steps = {"RMSprop": rmsprop, "SGD momentum": momentum, "Adagrad": adagrad}
    steps |= {"AdamW, clip_norm": clipped, "AdamW, EMA": averaged}
    answer = averages if rule.endswith("EMA") else params
    return Contestant(steps.get(rule, adam), lambda: answer[0])


def tensors_of(count: int, size: int) -> list[Any]:
    """The parameters as tensors that hold their gradients."""
    import torch

    params, grads = data(count, size)
    tensors = [torch.from_numpy(leaf).requires_grad_() for leaf in params]
    for tensor, grad in zip(tensors, grads, strict=True):
        tensor.grad = torch.from_numpy(grad)
    return tensors


def by_torch(rule: str, count: int, size: int) -> Contestant | None:
    import torch

    tensors = tensors_of(count, size)
    makers = {
        "Adam": lambda: torch.optim.Adam(tensors, lr=LR, fused=True),
        "AdamW": lambda: torch.optim.AdamW(tensors, lr=LR, weight_decay=0.01, fused=True),
        "RMSprop": lambda: torch.optim.RMSprop(tensors, lr=LR),  # it has no fused kernel
        "SGD momentum": lambda: torch.optim.SGD(tensors, lr=LR, momentum=0.9, fused=True),
        "Adagrad": lambda: torch.optim.Adagrad(tensors, lr=LR, fused=True),
    }
    step = makers[rule.partition(",")[0]]().step
    held = [tensor.detach() for tensor in tensors]
    averages = [tensor.clone() for tensor in held]

    def clipped() -> None:
        torch.nn.utils.clip_grad_norm_(tensors, 1.0)
        step()

    def averaged() -> None:
        step()
        torch._foreach_lerp_(averages, held, 1 - DECAY)  # as torch.optim.swa_utils does

    steps = {"AdamW, clip_norm": clipped, "AdamW, EMA": averaged}
    answer = averages if rule.endswith("EMA") else held
    return Contestant(steps.get(rule, step), lambda: answer[0].numpy())


def by_deepspeed(rule: str, count: int, size: int) -> Contestant | None:
    """Its CPU Adam, which is compiled at first use."""
    if rule not in ("Adam", "AdamW"):
        return None
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    tensors = tensors_of(count, size)
    decay = 0.01 if rule == "AdamW" else 0.0
    step = DeepSpeedCPUAdam(tensors, lr=LR, weight_decay=decay, adamw_mode=rule == "AdamW").step
    return Contestant(step, lambda: tensors[0].detach().numpy())


def by_optax(rule: str, count: int, size: int) -> Contestant | None:
    import jax
    import optax

    makers = {
        "Adam": lambda: optax.adam(LR),
        "AdamW": lambda: optax.adamw(LR, weight_decay=0.01),
        "AdamW, EMA": lambda: optax.adamw(LR, weight_decay=0.01),
        "AdamW, clip_norm": lambda: optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(LR, weight_decay=0.01)
        ),
        "SGD momentum": lambda: optax.sgd(LR, momentum=0.9),
        "RMSprop": lambda: optax.rmsprop(LR, decay=0.99, eps_in_sqrt=False),
    }
    if rule not in makers:
        return None
    params, grads = data(count, size)
    rules = makers[rule]()

    averaging = rule.endswith("EMA")

    def update(held: Any, state: Any, average: Any, grad: Any) -> Any:
        change, state = rules.update(grad, state, held)
        held = optax.apply_updates(held, change)
        return held, state, optax.incremental_update(held, average, 1 - DECAY) if averaging else []

    jitted = jax.jit(update, donate_argnums=(0, 1, 2))
    held = [jax.numpy.asarray(leaf) for leaf in params]
    average = [jax.numpy.array(leaf) for leaf in params] if averaging else []
    given = [jax.numpy.asarray(leaf) for leaf in grads]
    state = jax.jit(rules.init)(held)

    def step() -> None:
        nonlocal held, state, average
        held, state, average = jitted(held, state, average, given)
        jax.block_until_ready(held)

    return Contestant(step, lambda: np.asarray((average if averaging else held)[0]))


PEERS = {"NumPy": by_hand, "torch": by_torch, "optax": by_optax, "DeepSpeed": by_deepspeed}


def installed() -> dict[str, str]:
    """The peers that can be imported, with their versions."""
    found = {"NumPy": np.__version__}
    for name in list(PEERS)[1:]:
        try:
            found[name] = __import__(name.lower()).__version__
        except ImportError:
            print(f"{name} is not installed: left out", file=sys.stderr)
    return found


def seconds(step: Step, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) / calls


def calls_for(step: Step, budget: float) -> int:
    """How many calls fill about a sixth of the budget, by the best of three trials."""
    once = min(seconds(step, 1) for _ in range(3))
    return max(1, int(budget / 6 / max(once, 1e-7)))


def compare(mine: Contestant, other: Contestant, budget: float, rounds: int) -> dict[str, float]:
    """Medians of both times and of the ratio of neighbouring runs."""
    counts = [calls_for(side.step, budget) for side in (mine, other)]
    left, right = [], []
    for k in range(rounds):
        order = [(left, mine, counts[0]), (right, other, counts[1])]
        for times, side, calls in order if k % 2 else reversed(order):
            times.append(seconds(side.step, calls))
    ratios = [b / a for a, b in zip(left, right, strict=True)]
    return {
        "ours_us": statistics.median(left) * 1e6,
        "theirs_us": statistics.median(right) * 1e6,
        "ours_best_us": min(left) * 1e6,
        "theirs_best_us": min(right) * 1e6,
        "ratio": statistics.median(ratios),
    }


def check(rule: str, name: str, count: int, size: int) -> None:
    """Three steps of both on fresh arrays end at the same parameters."""
    mine, other = ours(rule, count, size), PEERS[name](rule, count, size)
    for _ in range(3):
        mine.step()
        other.step()
    a, b = mine.first(), other.first()
    if not np.max(np.abs(a - b)) <= 2e-6 * np.max(np.abs(a)):  # float32, other order of operations
        raise AssertionError(f"{rule}: {name} computes something else ({np.max(np.abs(a - b))})")


def triad(size: int = 20_000_000) -> float:
    """Bytes a second of ``x -= s * g``, which reads two arrays and writes one, in our own loop."""
    x, g = np.zeros(size, np.float32), np.ones(size, np.float32)
    optimizer = ss.SGD(x, lr=1e-3, on_nonfinite="ignore")
    optimizer.step(g)
    return 12 * size / min(seconds(lambda: optimizer.step(g), 1) for _ in range(7))


def machine() -> dict[str, Any]:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = lines[0].partition(":")[2].strip() if lines else name
    commit = subprocess.run(
        ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
    ).stdout.strip()
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "commit": commit,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "wait_policy": os.environ["OMP_WAIT_POLICY"],
        **ss.build_info(),
    }


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    budget, rounds = (0.03, 5) if args.quick else (0.3, 25)
    rows = []
    for rule in args.rules:
        for label in args.sizes:
            count, size = SIZES[label]
            if rule not in ("Adam", "AdamW") and count * size not in (1_000, *LARGE):
                continue
            for name in args.peers:
                other = PEERS[name](rule, count, size)
                if other is None:
                    continue
                check(rule, name, count, size)
                found = compare(ours(rule, count, size), other, budget, rounds)
                speed = BYTES[rule] * count * size / found["ours_us"] / 1e3
                rows.append({"rule": rule, "size": label, "peer": name, "gb_s": speed, **found})
                print(line_of(rows[-1]), flush=True)
    return rows


def line_of(row: dict[str, Any]) -> str:
    theirs, mine = readable(row["theirs_us"]), readable(row["ours_us"])
    return (
        f"| {row['rule']} | {row['size']} | {mine} | {row['peer']} | {theirs} "
        f"| {row['ratio']:.3g}x | {row['gb_s']:.0f} |"
    )


def readable(us: float) -> str:
    return f"{us:.3g} us" if us < 1e3 else f"{us / 1e3:.3g} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="rough figures in a minute")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rules", nargs="+", choices=list(OURS), default=list(OURS))
    sizes = list(SIZES)
    parser.add_argument("--sizes", nargs="+", choices=sizes, default=sizes[:-1])
    parser.add_argument("--peers", nargs="+", choices=list(PEERS))
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    versions = installed()
    args.peers = [name for name in args.peers or PEERS if name in versions]
    ss.set_num_threads(args.threads)
    if "torch" in versions:
        import torch

        torch.set_num_threads(args.threads)
    bandwidth = triad()
    print("| rule | arrays | stepsize | peer | its step | ratio | GB/s |")
    print("|---|---|---|---|---|---|---|")
    rows = measure(args)
    bandwidth = max(bandwidth, triad())
    print(f"\nTriad: {bandwidth / 1e9:.0f} GB/s on {args.threads} threads.")
    day = datetime.date.today().isoformat()
    path = args.out / f"{day}-{platform.machine()}-{os.cpu_count()}.json"
    args.out.mkdir(parents=True, exist_ok=True)
    report = {"date": day, "machine": machine(), "peers": versions, "triad_gb_s": bandwidth / 1e9}
    path.write_text(json.dumps({**report, "rows": rows}, indent=1) + "\n")
    print(f"Written to {path}")


if __name__ == "__main__":
    main()
