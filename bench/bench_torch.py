"""The torch optimizers beside torch's own: seconds a step and the loss reached.

``python bench/bench_torch.py`` prints both. Steps are timed in turns, the fastest form that torch
has (fused or foreach) beside ours, on the same gradients; ratios are of medians.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import stepsize as ss
from stepsize.interop.torch.making import CLASSES

RULES: dict[str, dict[str, Any]] = {
    "AdamW": {},
    "Adam": {"weight_decay": 0.01},
    "SGD": {"momentum": 0.9},
    "Adagrad": {},
    "RMSprop": {},
    "NAdam": {},
    "Adamax": {},
}
SHAPES = {
    "1 x 10 M": [(10_000_000,)],
    "transformer, 10.6 M": [(512, 512)] * 20 + [(2048, 512)] * 5 + [(512,)] * 60,
    "1,000 x 100": [(100,)] * 1000,
    "100 x 1,000": [(1000,)] * 100,
}


def parameters(shapes: list[tuple[int, ...]]) -> list[torch.nn.Parameter]:
    made = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in made:
        p.grad = torch.randn_like(p)
    return made


def theirs(rule: str, made: list[torch.nn.Parameter]) -> dict[str, torch.optim.Optimizer]:
    """The forms that torch has of the rule."""
    found = {}
    for form in ("fused", "foreach"):
        try:
            found[form] = getattr(torch.optim, rule)(made, **RULES[rule], **{form: True})
        except TypeError:
            continue
    return found


def timed(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def renewed(made: list[torch.nn.Parameter]) -> None:
    """New gradient tensors in new memory, as every backward pass makes them."""
    for p in made:
        assert p.grad is not None
        p.grad = p.grad.clone()


def race(rule: str, shapes: list[tuple[int, ...]], rounds: int) -> tuple[float, float, str]:
    """Medians in seconds, ours and that of torch's fastest form, and its name."""
    ours_on = parameters(shapes)
    ours = CLASSES[rule](ours_on, **RULES[rule])
    theirs_on = parameters(shapes)
    racers: dict[str, Any] = {"ours": ours, **theirs(rule, theirs_on)}
    size = sum(p.numel() for p in ours_on)
    repeats = max(1, 2_000_000 // (size + 200 * len(shapes)) // 4)
    seconds: dict[str, list[float]] = {name: [] for name in racers}
    for turn in range(rounds + 1):
        renewed(ours_on)
        renewed(theirs_on)
        for name, optimizer in racers.items():
            optimizer.step()  # gradients are in the caches as after a backward pass, or not
            spent = timed(optimizer.step, repeats)
            if turn:
                seconds[name].append(spent)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    mine = medians.pop("ours")
    best = min(medians, key=lambda name: medians[name])
    return mine, medians[best], best


class Transformer(torch.nn.Module):
    """Next-symbol prediction on a synthetic language."""

    def __init__(self, symbols: int = 32, width: int = 64) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(symbols, width)
        layer = torch.nn.TransformerEncoderLayer(width, 4, 128, 0.0, batch_first=True)
        self.body = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = torch.nn.Linear(width, symbols)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        mask = torch.nn.Transformer.generate_square_subsequent_mask(text.shape[1])
        found: torch.Tensor = self.head(self.body(self.embedding(text), mask, is_causal=True))
        return found


def text(step: int) -> torch.Tensor:
    """Sequences in which each symbol depends on the two before it."""
    generator = torch.Generator().manual_seed(step)
    rows = torch.randint(32, (16, 24), generator=generator)
    for at in range(2, 24):
        rows[:, at] = (rows[:, at - 1] + 3 * rows[:, at - 2]) % 32
    return rows


def train(rule: str, model: torch.nn.Module, cls: Any, steps: int) -> float:
    """The mean loss of the last ten steps."""
    optimizer = cls(model.parameters(), **{"lr": 1e-3, **RULES[rule]})
    losses = []
    for step in range(steps):
        batch = text(step)
        optimizer.zero_grad()
        out = model(batch[:, :-1])
        loss = torch.nn.functional.cross_entropy(out.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return statistics.mean(losses[-10:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    args = parser.parse_args()
    ss.set_num_threads(args.threads)
    torch.set_num_threads(args.threads)
    print("| rule | tensors | stepsize | torch | form | ratio |")
    print("| --- | --- | --: | --: | --- | --: |")
    for rule in args.rules:
        for name in args.shapes:
            mine, other, form = race(rule, SHAPES[name], args.rounds)
            print(
                f"| {rule} | {name} | {mine * 1e6:,.0f} µs | {other * 1e6:,.0f} µs | {form} "
                f"| {other / mine:.2f}x |",
                flush=True,
            )
    print(f"\nA transformer after {args.steps} steps:\n")
    print("| rule | loss with torch's class | with ours | difference |")
    print("| --- | --: | --: | --: |")
    for rule in args.rules if args.steps else []:
        torch.manual_seed(0)
        one = Transformer()
        two = copy.deepcopy(one)
        first = train(rule, one, getattr(torch.optim, rule), args.steps)
        second = train(rule, two, CLASSES[rule], args.steps)
        print(f"| {rule} | {first:.6f} | {second:.6f} | {abs(first - second):.1e} |", flush=True)


if __name__ == "__main__":
    main()
