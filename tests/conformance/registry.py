"""What is stated: rules and schedules, each with its source, numbers, choices and cases."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

RULES: dict[str, "Rule"] = {}
SCHEDULES: dict[str, "Schedule"] = {}
DECAYS = ("coupled", "decoupled", "decoupled, not times the rate", "ignored")
SHAPES = ((3,), (2, 3))


@dataclass(frozen=True)
class Rule:
    """An update rule: a generator that is sent `(x, g)` and yields the next `x`.

    `numbers` are hyperparameters in neutral names with values that binary holds exactly. `choices`
    are what authors and libraries do differently, the source's way first: the statement follows
    them, so that a difference can be named. A rule is applied to each leaf, or to `whole` vectors
    of all parameters. `cases` are numbers to set beside the plain case.
    """

    name: str
    source: str
    step: Callable[..., Any]
    numbers: dict[str, Any]
    choices: dict[str, tuple[str, ...]]
    cases: tuple[dict[str, Any], ...] = ()
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    whole: bool = False
    decays: bool = True
    gradients: tuple[str, ...] = ("plain", "zeros", "moving rate")


@dataclass(frozen=True)
class Schedule:
    """A schedule: a function of the number of updates already applied, from 0."""

    name: str
    source: str
    value: Callable[..., Any]
    numbers: dict[str, Any]
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    cases: tuple[dict[str, Any], ...] = ()
    ends: Callable[..., int] | None = None  # of the numbers: from this step on the value holds


def rule(name, source, *, decay=DECAYS, choices=None, cases=(), **options):
    """Register a rule. `decay` lists kinds of weight decay, the source's first; None: its own."""
    shape = {k: options.pop(k) for k in ("shapes", "whole", "gradients") if k in options}
    choices = dict(choices or {})
    if decay:
        options.setdefault("weight_decay", 0.0)
        choices["decay"] = (*decay, *(kind for kind in DECAYS if kind not in decay))
        cases = (*cases, {"weight_decay": 0.125})

    def register(step):
        RULES[name] = Rule(
            name, source, step, options, choices, tuple(cases), decays=bool(decay), **shape
        )
        return step

    return register


def schedule(name, source, *, choices=None, cases=(), ends=None, **numbers):
    """Register a schedule, given as a function of the step and the numbers."""

    def register(value):
        SCHEDULES[name] = Schedule(name, source, value, numbers, choices or {}, tuple(cases), ends)
        return value

    return register
