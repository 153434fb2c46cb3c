"""The options of the loop around every rule: what it does with a move and with weight decay.

They are fields that a class gets where they are sound for its rule; no rule declares or reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from stepsize.arrays import Array
from stepsize.optimizers.fields import Field, Flag, Value, flag, nonnegative, positive
from stepsize.optimizers.primitives import maximum, power, select, sum_of_blocks


class Option(NamedTuple):
    """One option.

    Attributes:
        field: Its name, default and range.
        words: What it does.
        source: Where it is from.
        whom: The rules that it is sound for.
    """

    field: Field
    words: str
    source: str
    whom: str


OPTIONS = {
    "cautious": Option(
        flag(),
        "A coordinate whose step does not descend along the gradient stays where it is.",
        "Liang et al. 2024, arXiv:2411.16085, Algorithm 1, without its rescaling",
        "rules that update each element by itself, from where it is",
    ),
    "cautious_decay": Option(
        flag(),
        "Weight decay acts only where the update does not lead away from 0, and after it: "
        "`x - lr * (u + weight_decay * x)` where `u * x >= 0`, else `x - lr * u`; of the update "
        "that `cautious` leaves.",
        "Chen et al. 2025, arXiv:2510.12402, Algorithm 1",
        "rules with decoupled weight decay",
    ),
    "decay_max_lr": Option(
        positive(None),
        "The highest rate of the schedule: weight decay takes `lr**2 / decay_max_lr * "
        "weight_decay` of a parameter, where it takes `lr * weight_decay` without. For layers that "
        "a normalization follows; groups may do without.",
        "Defazio 2025, arXiv:2506.02285, Algorithm 1 (AdamC)",
        "rules with decoupled weight decay",
    ),
    "update_clip": Option(
        positive(None),
        "Divide the rate of the update, and not of weight decay, by `max(1, rms / update_clip)`, "
        "leaf by leaf, where `rms` is the root of the mean of `g**2 / max(v, eps**2)`, with `v` "
        "the second moment after the step and its bias correction. 1 is usual.",
        "Wortsman et al. 2023, arXiv:2304.13013, Algorithm 2 (StableAdamW), with the decay at the "
        "plain rate as in the authors' code",
        "rules of Adam's kind that divide by the root of an average of squares",
    ),
    "mars_gamma": Option(
        nonnegative(None),
        "The rule sees `c / max(1, norm(c))` of each leaf in place of the gradient `g`, where `c` "
        "is `g + mars_gamma * beta1 / (1 - beta1) * (g - last_grad)`. Another state array "
        "(`last_grad`). 0.025 is usual.",
        "Yuan et al. 2024, arXiv:2411.10438, Algorithm 2 (MARS-approx), with no difference at the "
        "first step as in the paper; the authors' code takes 0 for the gradient before it",
        "rules of Adam's kind with a momentum `exp_avg`",
    ),
}
LOOP: dict[str, Field] = {name: option.field for name, option in OPTIONS.items()}
OF_LEAVES = ("update_clip", "mars_gamma")  # that take sums over a leaf before its update
_OF_DECAY = ("cautious_decay", "decay_max_lr")
LAST = "last_grad"

for _name, _field in LOOP.items():
    _field.__set_name__(object, _name)


def offered(cls: type[Any]) -> dict[str, Field]:
    """The options that are sound for a class, by name."""
    single = cls.scope is None and not cls.shaped
    free = single and not cls.anchored and not hasattr(cls, "averaged")
    decoupled = single and bool(_switch(cls, _defaults(cls)))
    numbers = {part.name for field in cls.fields.values() for part in field.parts()}
    momentum = free and "exp_avg" in cls.slots and LAST not in cls.slots and "beta1" in numbers
    sound = {
        "cautious": free,
        "cautious_decay": decoupled,
        "decay_max_lr": decoupled,
        "update_clip": free and cls.second_moment in cls.slots and {"beta2", "eps"} <= numbers,
        "mars_gamma": momentum,
    }
    return {name: field for name, field in LOOP.items() if sound[name]}


def check(cls: type[Any], values: Mapping[str, Value]) -> None:
    """Refuse options that these hyperparameters leave nothing to do, and then what the rule does.

    Raises:
        ValueError: naming the option and what would give it something to do.
    """
    for name in _OF_DECAY:
        given = name in values and values[name] != LOOP[name].default
        if given and cls.decay_kind(values) != "decoupled":
            raise ValueError(
                f"{cls.__name__}: {name}={values[name]!r} is for decoupled weight decay; give "
                f"{_switch(cls, values)} as well, or leave it out"
            )
    if values.get("update_clip") is not None and values.get("amsgrad"):
        raise ValueError(
            f"{cls.__name__}: update_clip={values['update_clip']!r} is for steps that divide by "
            "the average of squares, not by its largest; leave out amsgrad or update_clip"
        )
    cls.check_together(values)


def layout(cls: Any, values: Mapping[str, Value]) -> tuple[str, tuple[str, ...]]:
    """The compiled rule and all state arrays: those of the rule, then those of the loop."""
    kernel, slots = cls.variant(values)
    return kernel, slots if values.get("mars_gamma") is None else (*slots, LAST)


def sees_leaves(values: Mapping[str, Value]) -> bool:
    """Whether the update of an element depends on its whole leaf by an option of the loop."""
    return any(values.get(name) is not None for name in OF_LEAVES)


def without_sums(owner: str, cls: type[Any], given: Mapping[str, Value]) -> dict[str, Value]:
    """What is given, without the options by which an element depends on its whole leaf: all off."""
    for name in OF_LEAVES:
        if given.get(name) is not None:
            raise TypeError(
                f"{owner}: {name} sums over whole arrays, of which these may be parts; use the "
                f"class, stepsize.{cls.__name__}"
            )
    return {name: value for name, value in given.items() if name not in OF_LEAVES}


def _defaults(cls: type[Any]) -> dict[str, Value]:
    return {name: field.default for name, field in cls.fields.items()}


def _switch(cls: type[Any], values: Mapping[str, Value]) -> str:
    """What makes the decay of a class decoupled; nothing where it cannot be."""
    if cls.decay_kind(values) == "decoupled":
        return "weight_decay"
    for name, field in cls.fields.items():
        for value in (True, False) if isinstance(field, Flag) else ():
            if cls.decay_kind({**values, name: value}) == "decoupled":
                return f"{name}={value}"
    return ""


def caution(values: Mapping[str, Value]) -> float:
    """What the loop does at each element in one number, as the compiled step reads it.

    The sum of 1 for moves, 2 for the decay, 4 for a corrected gradient.
    """
    on = values.get("cautious"), values.get("cautious_decay"), values.get("mars_gamma") is not None
    return float(sum(2**k * bool(it) for k, it in enumerate(on)))


def square_slot(cls: Any, values: Mapping[str, Value]) -> int:
    """The place of the second moment among the state arrays, or -1."""
    slots = [str(slot) for slot in cls.variant(values)[1]]
    return slots.index(cls.second_moment) if cls.second_moment in slots else -1


def decay_share(h: SimpleNamespace) -> float:
    """The share of a parameter that decoupled weight decay takes in this step."""
    share = h.lr * getattr(h, "weight_decay", 0.0)
    most = getattr(h, "decay_max_lr", None)
    return float(share if most is None else share * (h.lr / most))


def corrected(g: Array, last: Array, h: SimpleNamespace) -> Any:
    """MARS: the gradient with its change, at most of norm 1; ``last`` becomes the gradient."""
    gain = h.mars_gamma * (h.beta1 / (1 - h.beta1)) if h.t > 1 else 0.0
    found = g + g.dtype.type(gain) * (g - last)
    norm = np.inf
    for unit in (1.0, 2.0**-600):  # squares leave the range of double long before the numbers
        if norm == np.inf:
            terms = np.square(found * g.dtype.type(unit), dtype=np.float64)
            norm = np.sqrt(sum_of_blocks(terms)) / unit
    last[...] = g
    factor = 1 / norm if norm > 1 else 1.0
    return found * g.dtype.type(factor)


def rate_factor(g: Array, second: Array, h: SimpleNamespace) -> float:
    """Update clipping: what multiplies the rate, from the second moment before the step."""
    after = h.beta2 * second + (1 - h.beta2) * g * g
    scaled = after * g.dtype.type(1 / (1 - power(h.beta2, h.t)))
    ratio = g * g / maximum(scaled, g.dtype.type(h.eps * h.eps))
    rms = np.sqrt(sum_of_blocks(select(g != 0, ratio, g.dtype.type(0)).astype(float)) / g.size)
    return float(h.update_clip / rms) if rms > h.update_clip else 1.0


def shown(fields: Mapping[str, Field], tables: Any) -> list[Field]:
    """The fields without the options of the loop that no group uses, for those who read them."""
    off = {name: field.default for name, field in LOOP.items()}
    return [
        field
        for name, field in fields.items()
        if name not in off or any(table.get(name, off[name]) != off[name] for table in tables)
    ]
