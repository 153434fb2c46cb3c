"""How a rule of optimization answers to the size of gradients, which decides how its rate moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepsize.arrays import Array
from stepsize.optimizers import Optimizer
from stepsize.schedules import Schedule

POWERS = {"linear": 1.0, "sqrt": 0.5}
LARGER = 16.0  # factor on the gradient of the trial step
STEPS_GROW = 8.0  # a step that grows by this much scales with the gradient
STEPS_STAY = 2.0  # one that grows by less ignores its size
STEPS, RATE, DECAY = 16, 1e-3, 1e-3  # of the trial; RAdam rectifies after 5 steps
SQUARES = ("betas", "beta2", "alpha", "rho", "adamw_betas")  # hold decays of averaged squares


@dataclass(frozen=True)
class Law:
    """What decides how the hyperparameters of a rule move.

    Attributes:
        name: of the rule, as users know it.
        power: of the batch ratio: 1 where steps scale with the gradient, 0.5 where they ignore it.
        timed: whether weight decay has a timescale, 1 / (lr * weight_decay): not where it is part
            of a gradient whose size is ignored.
        elementwise: whether each element is updated by itself, which the rules for width need.
        adapts_lr: whether the rule finds its rate itself.
        squares: the settings that hold decays of averaged squares, with the first index to move.
    """

    name: str
    power: float
    timed: bool
    elementwise: bool
    adapts_lr: bool
    squares: tuple[str, ...]


def law_of(rule: Any, settings: Mapping[str, Any]) -> tuple[Law, dict[str, Any]]:
    """The law of an optimizer class or a word, and the settings with the defaults of the class."""
    if isinstance(rule, str) and rule in POWERS:
        names = tuple(n for n in SQUARES if n in settings) if rule == "sqrt" else ()
        law = Law(f"rule={rule!r}", POWERS[rule], True, True, False, names)
        return law, dict(settings)
    if not (isinstance(rule, type) and issubclass(rule, Optimizer)) or "lr" not in rule.fields:
        raise TypeError(
            "transfer: rule must be the class of the optimizer, such as ss.AdamW, or 'linear' (as "
            f"SGD) or 'sqrt' (as AdamW), got {rule!r:.80}"
        )
    defaults = {name: field.default for name, field in rule.fields.items()}
    given = {name: value for name, value in settings.items() if value is not None or name != "lr"}
    full = {**defaults, **given}
    rule(np.ones((4, 4)), **{**given, "groups": None})  # refuses what the rule does not take
    power = 1.0 if rule.adapts_lr else _power(rule, given)
    law = Law(
        name=rule.__name__,
        power=power,
        timed=not rule.adapts_lr
        and (power == 1 or rule.decay_kind(full) != "coupled")
        and _is_timed(rule, given),
        elementwise=not rule.shaped and rule.scope is None,
        adapts_lr=rule.adapts_lr,
        squares=_squares(rule, full),
    )
    return law, full


def _squares(rule: type[Optimizer], values: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields that are decays of averaged squares: shares, of a rule that keeps squares."""
    if not any(getattr(slot, "kind", "") == "squares" for slot in rule.variant(values)[1]):
        return ()
    return tuple(
        name
        for name in SQUARES
        if name in rule.fields and all(part.high == 1 for part in rule.fields[name].parts())
    )


def _power(rule: type[Optimizer], settings: Mapping[str, Any]) -> float:
    """1 where a step scales with its gradient, 0.5 where it is as long for a larger one."""
    ends = [_path(rule, settings, size, 0.0) for size in (1.0, LARGER)]
    short, long = (float(np.linalg.norm(last - before)) for before, last in ends)
    growth = long / short if short > 0 else np.nan
    if growth > STEPS_GROW:
        return 1.0
    if growth < STEPS_STAY:
        return 0.5
    raise ValueError(
        f"transfer: a step of {rule.__name__} grows {growth:.3g} times with a gradient {LARGER:g} "
        "times as large, so neither the linear nor the square-root rule fits it; say which to use, "
        "rule='linear' or rule='sqrt'"
    )


def _is_timed(rule: type[Optimizer], settings: Mapping[str, Any]) -> bool:
    """Whether what weight decay does is in proportion to it, whatever the size of gradients."""
    if "weight_decay" not in rule.fields:
        return False

    def shrinks(size: float, decay: float) -> float:
        free, decayed = (_path(rule, settings, size, d)[1] for d in (0.0, decay))
        return float(np.linalg.norm(decayed - free))

    little, much = shrinks(1.0, DECAY), shrinks(1.0, LARGER * DECAY)
    strong = shrinks(LARGER, DECAY)
    stays = little < STEPS_STAY * strong and strong < STEPS_STAY * little
    return stays and much > STEPS_GROW * little


def _path(
    rule: type[Optimizer], settings: Mapping[str, Any], size: float, decay: float
) -> tuple[Array, Array]:
    """The last two points of a few steps along one gradient of a given size."""
    plain = {n: v for n, v in settings.items() if n in rule.fields and not callable(v)}
    plain |= {"weight_decay": decay} if "weight_decay" in rule.fields else {}
    params = np.ones((4, 4))
    gradient = size * np.random.default_rng(0).normal(size=(4, 4))
    optimizer = rule(params, **{**plain, "lr": RATE})
    before = params.copy()
    with np.errstate(all="ignore"):
        for _ in range(STEPS):
            before[...] = params
            optimizer.step(gradient)
    return before, params


def stretched(value: Any, ratio: float) -> Any:
    """A schedule of finite length over `ratio` times as many steps; anything else as it is."""
    if not isinstance(value, Schedule) or ratio == 1 or not 0 < value.length < np.inf:
        return value
    return value.stretch(max(1, round(value.length * ratio)))
