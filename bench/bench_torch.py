"""The torch optimizers beside torch's own: the time of a step while a model trains, and its loss.

``python bench/bench_torch.py`` prints both. Copies of one model train alternately with our
optimizer and with each of torch's implementations (fused, foreach, loop); only
``optimizer.step()`` is timed, after a backward pass, as in real training. Ratios are of medians.
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
    "SGD": {"momentum": 0.9},
    "Adagrad": {},
    "RMSprop": {},
    "NAdam": {},
}
FORMS: dict[str, dict[str, Any]] = {
    "fused": {"fused": True},
    "foreach": {"foreach": True},
    "loop": {"foreach": False},
}


class Transformer(torch.nn.Module):
    """Next-symbol prediction."""

    def __init__(self, width: int, layers: int, symbols: int = 32) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(symbols, width)
        layer = torch.nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True)
        self.body = torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = torch.nn.Linear(width, symbols)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        mask = torch.nn.Transformer.generate_square_subsequent_mask(text.shape[1])
        found: torch.Tensor = self.head(self.body(self.embedding(text), mask, is_causal=True))
        return found


class Deep(torch.nn.Module):
    """A thousand small tensors."""

    def __init__(self, width: int = 10, layers: int = 500, symbols: int = 32) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(symbols, width)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(layers))
        self.head = torch.nn.Linear(width, symbols)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(text)
        for layer in self.layers:
            hidden = hidden + 0.1 * torch.tanh(layer(hidden))
        found: torch.Tensor = self.head(hidden)
        return found


MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "large": lambda: Transformer(384, 6),
    "many": Deep,
    "small": lambda: Transformer(64, 2),
}


def text(step: int, rows: int = 4, length: int = 16) -> torch.Tensor:
    """Sequences in which each symbol depends on the two before it."""
    generator = torch.Generator().manual_seed(step)
    found = torch.randint(32, (rows, length), generator=generator)
    for at in range(2, length):
        found[:, at] = (found[:, at - 1] + 3 * found[:, at - 2]) % 32
    return found


def train(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range
) -> tuple[list[float], list[float]]:
    """Losses, and the seconds of each step of the optimizer."""
    losses, seconds = [], []
    for step in steps:
        batch = text(step)
        optimizer.zero_grad()
        out = model(batch[:, :-1])
        loss = torch.nn.functional.cross_entropy(out.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        start = time.perf_counter()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        losses.append(loss.item())
    return losses, seconds


def race(rule: str, kind: str, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """The median seconds of a step and the loss at the end, by form."""
    torch.manual_seed(0)
    model = MODELS[kind]()
    called = {"lr": 1e-3, **RULES[rule]}
    models = {"ours": copy.deepcopy(model)}
    optimizers = {"ours": CLASSES[rule](models["ours"].parameters(), **called)}
    for form, keywords in FORMS.items():
        models[form] = copy.deepcopy(model)
        try:
            theirs = getattr(torch.optim, rule)(models[form].parameters(), **called, **keywords)
        except TypeError:  # the class has no such form
            continue
        optimizers[form] = theirs
    losses: dict[str, list[float]] = {form: [] for form in optimizers}
    seconds: dict[str, list[float]] = {form: [] for form in optimizers}
    for turn in range(rounds):
        for form, optimizer in optimizers.items():
            reached, spent = train(models[form], optimizer, range(3 * turn, 3 * turn + 3))
            losses[form] += reached
            seconds[form] += spent if turn else []
    ends = {form: statistics.mean(values[-10:]) for form, values in losses.items()}
    return {form: statistics.median(values) for form, values in seconds.items()}, ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=20, help="of three steps each")
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    args = parser.parse_args()
    ss.set_num_threads(args.threads)
    torch.set_num_threads(args.threads)
    for kind in args.models:
        shapes = [p.numel() for p in MODELS[kind]().parameters()]
        print(f"\n{kind}: {len(shapes)} tensors, {sum(shapes):,} parameters\n")
        print("| rule | stepsize | fused | foreach | loop | loss, ours - torch's | among torch's |")
        print("| --- | --: | --: | --: | --: | --: | --: |")
        for rule in args.rules:
            medians, losses = race(rule, kind, args.rounds)
            mine, reached = medians.pop("ours"), losses.pop("ours")
            ratios = [f"{medians[form] / mine:.2f}x" if form in medians else "" for form in FORMS]
            apart = min(abs(loss - reached) for loss in losses.values())
            theirs = max(losses.values()) - min(losses.values())
            cells = [rule, f"{mine * 1e6:,.0f} µs", *ratios, f"{apart:.0e}", f"{theirs:.0e}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
