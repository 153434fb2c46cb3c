"""A plan on paper: bytes, messages and seconds of a step on many ranks, and which way pays where.

``PYTHONPATH=python python bench/scale/plan.py`` writes plan.md beside this file. The counts of
bytes are held to those of real runs by tests/collectives/test_plan.py; the seconds are a model
(latency and bandwidth), of machines that were not measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

RANKS = (8, 32, 128, 512, 1024, 4096)
SIZES = (1e9, 1e11)
PAGE = Path(__file__).with_name("plan.md")


@dataclass(frozen=True)
class Machine:
    """One rank: a node with its memory, its link to the others and its disk."""

    memory: float = 1e12  # bytes
    latency: float = 2e-6  # seconds a message
    network: float = 25e9  # bytes a second, each way
    stream: float = 2e11  # bytes a second, of memory
    disk: float = 6e9  # bytes a second
    flops: float = 5e13  # a second, as reached


@dataclass(frozen=True)
class Model:
    """Parameters, and the bytes of each; the state is AdamW's with master weights."""

    parameters: float
    parameter: int = 2
    gradient: int = 2
    state: int = 12
    samples: float = 4e6  # tokens of a step, of all ranks


def sent(plan: str, model: Model, ranks: int) -> float:
    """Bytes that a rank sends in a step: gradients to their owners, and what comes back."""
    back = model.gradient if plan == "data parallel" else model.parameter
    if plan == "offload":
        back = model.gradient
    return (ranks - 1) / ranks * model.parameters * (model.gradient + back)


def seconds_of(way: str, size: float, ranks: int, machine: Machine) -> float:
    """An all-reduce of so many bytes: reduce-scatter and all-gather, or up and down a tree."""
    bytes_each = 2 * (ranks - 1) / ranks * size
    levels = math.ceil(math.log2(ranks)) if ranks > 1 else 0
    messages = {
        "ring": 2 * (ranks - 1),
        "direct": 2 * (ranks - 1),  # ours: to each owner at once, and back
        "halving": 2 * levels,
        "tree": 2 * levels,
    }
    if way == "tree":  # all of it goes through each level
        bytes_each = 2 * levels * size
    return messages[way] * machine.latency + bytes_each / machine.network


def memory_of(plan: str, model: Model, ranks: int) -> float:
    """Bytes a rank holds, without activations."""
    held = model.parameters * (model.parameter + model.gradient)
    share = {"data parallel": 1.0, "ZeRO-1": 1 / ranks, "offload": 0.0}[plan]
    return held + share * model.parameters * model.state


def seconds(plan: str, model: Model, ranks: int, machine: Machine) -> dict[str, float]:
    """The parts of a step."""
    size = model.parameters * model.gradient
    traffic = model.parameters * (2 * model.state + model.gradient + 2 * model.parameter)
    share = 1 / ranks if plan == "ZeRO-1" else 1.0
    disk = 2 * model.parameters * model.state / machine.disk if plan == "offload" else 0.0
    return {
        "compute": 6 * model.parameters * model.samples / ranks / machine.flops,
        "messages": seconds_of("direct", size, ranks, machine),
        "update": share * traffic / machine.stream,
        "disk": disk,
    }


PLANS = ("data parallel", "ZeRO-1", "offload")


def best(model: Model, ranks: int, machine: Machine) -> str:
    """The fastest plan that fits; "none" where parameters and gradients alone do not."""
    fitting = [p for p in PLANS if memory_of(p, model, ranks) <= machine.memory]
    times = {p: sum(seconds(p, model, ranks, machine).values()) for p in fitting}
    return min(times, key=lambda p: times[p]) if times else "none"


def table(parameters: float, machine: Machine) -> list[str]:
    """Rows of a table in Markdown."""
    lines = [
        "| ranks | plan | GB a rank | GB sent | compute s | messages s | update s | disk s | |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    model = Model(parameters)
    for ranks in RANKS:
        chosen = best(model, ranks, machine)
        for plan in PLANS:
            need = memory_of(plan, model, ranks)
            parts = seconds(plan, model, ranks, machine).values()
            mark = "fastest" if plan == chosen else "" if need <= machine.memory else "too large"
            cells = [f"{need / 1e9:.3g}", f"{sent(plan, model, ranks) / 1e9:.3g}"]
            cells += [f"{part:.3g}" for part in parts]
            lines.append(f"| {ranks} | {plan} | {' | '.join(cells)} | {mark} |")
    return lines


def ways(parameters: float, machine: Machine) -> list[str]:
    """What an all-reduce of the gradients takes, by algorithm."""
    names = ("direct", "ring", "halving", "tree")
    lines = [f"| ranks | {' | '.join(f'{name} s' for name in names)} |", "| ---: " * 5 + "|"]
    for ranks in RANKS:
        size = 2 * parameters
        cells = [f"{seconds_of(name, size, ranks, machine):.4g}" for name in names]
        lines.append(f"| {ranks} | {' | '.join(cells)} |")
    return lines


def page() -> str:
    """The plan as a page."""
    m = Machine()
    lines = ["# Many ranks, on paper", ""]
    lines += [
        f"Nodes of {m.memory / 1e9:g} GB, {m.network / 1e9:g} GB/s and {m.latency * 1e6:g} us to "
        f"each other, {m.stream / 1e9:g} GB/s to memory, {m.disk / 1e9:g} GB/s to disk, "
        f"{m.flops / 1e12:g} Tflop/s; 4 million tokens a step; bfloat16 parameters and gradients, "
        "AdamW with master weights (12 bytes of state). None of this was measured: only the bytes "
        "sent and the memory of state are checked, on the ranks that there are. Made by plan.py.",
    ]
    for size in SIZES:
        lines += ["", f"## {size:.0e} parameters", "", *table(size, m)]
    lines += ["", "## An all-reduce of 1e9 gradients of two bytes", "", *ways(1e9, m)]
    lines += [
        "",
        "* Data parallelism and ZeRO-1 send the same bytes. ZeRO-1 divides the update by n as well "
        "as the state, and so is never slower here: data parallelism is for state that is small "
        "beside the parameters, and for rules that cannot be cut.",
        "* Offload pays in none of these rows: where ZeRO-1 does not fit, the parameters and "
        "gradients alone hardly do, and the disk takes longer than the messages.",
        "* Direct exchange sends what a ring sends, in as many messages, one hop each; halving "
        "saves a tenth of that time on 4,096 ranks at this size, and more for smaller leaves.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
