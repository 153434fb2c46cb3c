"""The options of the loop around every rule: what it does with a move and with weight decay.

They are fields that a class gets where they are sound for its rule; no rule declares or reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from stepsize.optimizers.fields import Field, Flag, Value, flag

if TYPE_CHECKING:
    from stepsize.optimizers.rule import Rule


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
}
LOOP: dict[str, Field] = {name: option.field for name, option in OPTIONS.items()}
_OF_DECAY = ("cautious_decay",)

for _name, _field in LOOP.items():
    _field.__set_name__(object, _name)


def offered(cls: type[Rule]) -> dict[str, Field]:
    """The options that are sound for a class, by name."""
    single = cls.scope is None and not cls.shaped
    free = single and not cls.anchored and not hasattr(cls, "averaged")
    decoupled = single and bool(_switch(cls, _defaults(cls)))
    sound = {"cautious": free, "cautious_decay": decoupled}
    return {name: field for name, field in LOOP.items() if sound[name]}


def check(cls: type[Rule], values: Mapping[str, Value]) -> None:
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
    cls.check_together(values)


def _defaults(cls: type[Rule]) -> dict[str, Value]:
    return {name: field.default for name, field in cls.fields.items()}


def _switch(cls: type[Rule], values: Mapping[str, Value]) -> str:
    """What makes the decay of a class decoupled; nothing where it cannot be."""
    if cls.decay_kind(values) == "decoupled":
        return "weight_decay"
    for name, field in cls.fields.items():
        for value in (True, False) if isinstance(field, Flag) else ():
            if cls.decay_kind({**values, name: value}) == "decoupled":
                return f"{name}={value}"
    return ""


def caution(values: Mapping[str, Value]) -> float:
    """Both flags in one number, as the compiled step reads them: 1 for moves, 2 for the decay."""
    return float(bool(values.get("cautious"))) + 2 * float(bool(values.get("cautious_decay")))


def decay_share(h: SimpleNamespace) -> float:
    """The share of a parameter that decoupled weight decay takes in this step."""
    return float(h.lr * getattr(h, "weight_decay", 0.0))


def shown(fields: Mapping[str, Field], tables: Any) -> list[Field]:
    """The fields without the options of the loop that no group uses, for those who read them."""
    return [
        field
        for name, field in fields.items()
        if name not in LOOP or any(table[name] != field.default for table in tables)
    ]
