"""Cases, and the exact trajectory of each: what a statement computes from closed formulas."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .exact import array, mp, number
from .registry import DECAYS, RULES, Rule

STEPS = 12


class Numbers:
    """Hyperparameters as attributes and items; what has been read is known."""

    def __init__(self, values):
        self.__dict__["values"], self.__dict__["read"] = dict(values), set()

    def __getitem__(self, name):
        self.read.add(name)
        return self.values[name]

    def __getattr__(self, name):
        if name not in self.values:
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name, value):
        self.values[name] = value


@dataclass(frozen=True)
class Case:
    """A rule with numbers, a start and gradients: formulas of `kind`, or values one by one."""

    rule: str
    numbers: dict[str, Any] = field(default_factory=dict)
    kind: str = "plain"
    steps: int = STEPS
    shapes: tuple[tuple[int, ...], ...] | None = None
    start: float | None = None  # of every coordinate; None: a formula
    values: tuple[float, ...] | None = None  # of the gradient at each step, of every coordinate
    label: str = ""

    @property
    def statement(self) -> Rule:
        return RULES[self.rule]

    @property
    def all_numbers(self):
        return self.statement.numbers | self.numbers

    def first(self, steps):
        return replace(self, steps=steps)

    def x0(self):
        shapes = self.shapes or self.statement.shapes
        if self.start is not None:
            return [np.full(shape, self.start) for shape in shapes]
        return [formula(shape, 5, 3 * k + 1) / 8 for k, shape in enumerate(shapes)]

    def gradient(self, t, k, x):
        """The gradient of step `t` for leaf `k` at `x`, floats or exact numbers alike."""
        if self.kind == "quadratic":
            return (np.arange(1, x.size + 1).reshape(x.shape) + k) * (x - 1) / 4
        if self.values is not None:
            return np.full(x.shape, self.values[t])
        g = formula(x.shape, 7, 7 * t + 3 * k) / 16
        if self.kind == "of one sign":
            g = abs(g)
        if self.kind == "zeros":
            i = np.arange(g.size).reshape(g.shape)
            g = g * ((t + i + k) % 3 != 0)
        return g

    def rate(self, t):
        """The factor of the rate at step `t`."""
        return (1.0, 1.0, 0.5, 0.25, 2.0)[min(t, 4)] if self.kind == "moving rate" else 1.0

    def loss(self, t):
        return 1.0 + (5 * t % 7) / 4 if self.values is None else 1.0


def formula(shape, slope, offset):
    """Odd whole numbers from -9 to 11 in no simple order: never 0, and exact in every format."""
    i = np.arange(int(np.prod(shape))).reshape(shape)
    return 2.0 * ((slope * i * (i + 2) + offset * (offset + 4)) % 11) - 9.0


def cases_of(name: str, steps: int = STEPS) -> Iterator[Case]:
    """All cases of a rule: its kinds of gradients, then its options one by one."""
    rule = RULES[name]
    for kind in rule.gradients:
        yield Case(name, kind=kind, steps=steps, label=kind)
    for numbers in rule.cases:
        label = ", ".join(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
                          for key, value in numbers.items())  # fmt: skip
        yield Case(name, numbers, kind=rule.gradients[0], steps=steps, label=label)


def exact(case: Case, choices: dict[str, str] | None = None):
    """The leaves after each step by the statement, with the source's choices or those given."""
    rule = case.statement
    values = {name: number(value) for name, value in case.all_numbers.items()}
    values |= {name: options[0] for name, options in rule.choices.items()} | (choices or {})
    leaves = [array(x) for x in case.x0()]
    groups = [list(range(len(leaves)))] if rule.whole else [[k] for k in range(len(leaves))]
    runs = []
    for group in groups:
        h = Numbers(values)
        x = joined([leaves[k] for k in group], rule.whole)
        runs.append((h, group, rule.step(x, h)))
        next(runs[-1][2])
    lr = values.get("lr")
    trajectory = []
    for t in range(case.steps):
        gradients = [array(case.gradient(t, k, x)) if case.kind != "quadratic"
                     else case.gradient(t, k, x) for k, x in enumerate(leaves)]  # fmt: skip
        for h, group, run in runs:
            if lr is not None:
                h.lr = lr * number(case.rate(t))
            h.loss = mp.mpf(case.loss(t))
            x = joined([leaves[k] for k in group], rule.whole)
            g = joined([gradients[k] for k in group], rule.whole)
            x, g = decayed(x, g, h) if rule.decays else (x, g)
            x = run.send((x, g))
            for k, part in zip(group, parts(x, [leaves[k] for k in group]), strict=True):
                leaves[k] = part
        trajectory.append(list(leaves))
    return trajectory


def decayed(x, g, h):
    if h.decay == "coupled":
        return x, g + h.weight_decay * x
    if h.decay not in ("decoupled", DECAYS[2]) or not h.weight_decay:
        return x, g
    rate = h.values.get("lr", 1) if h.decay == "decoupled" else 1
    return x * (1 - rate * h.weight_decay), g


def joined(leaves, whole):
    return np.concatenate([np.ravel(x) for x in leaves]) if whole else leaves[0]


def parts(x, like):
    if len(like) == 1:
        return [x.reshape(like[0].shape)]
    ends = np.cumsum([leaf.size for leaf in like])[:-1]
    return [p.reshape(leaf.shape) for p, leaf in zip(np.split(x, ends), like, strict=True)]


def digits(found, wanted, x0):
    """Decimal digits of the largest difference, relative to the farthest move so far; the step."""
    least, where, far = mp.mpf(50), 0, mp.zero
    for t, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        off = mp.zero
        for a, b, start in zip(ours, theirs, x0, strict=True):
            if not np.all(np.isfinite(a)):
                return 0.0, t
            far = max(far, *(abs(v - s) for v, s in zip(b.ravel(), start.ravel(), strict=True)))
            off = max(
                off,
                *(abs(mp.mpf(float(u)) - v) for u, v in zip(np.ravel(a), b.ravel(), strict=True)),
            )
        if off:
            now = -mp.log10(off / far) if far else mp.zero
            if now < least:
                least, where = now, t
    return max(0.0, min(float(least), 50.0)), where
