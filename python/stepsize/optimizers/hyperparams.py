"""Reading and setting the hyperparameters of a running optimizer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from stepsize.optimizers import slots as states
from stepsize.optimizers.fields import Choice, Count, Field, Flag, Value

if TYPE_CHECKING:
    from stepsize.optimizers.optimizer import Optimizer


def read(optimizer: Optimizer, field: Field) -> Any:
    """The value that the next step will use; with groups, a tuple of one entry a group."""
    count = len(optimizer._tables)
    values = tuple(_read_group(optimizer, field, k) for k in range(count))
    return values if count > 1 or optimizer._grouped else values[0]


def _read_group(optimizer: Optimizer, field: Field, group: int) -> Any:
    value = optimizer._tables[group][field.name]
    parts = field.parts()
    if not parts or isinstance(field, Flag) or value is None:
        return value
    number = optimizer._engine.number
    if isinstance(field.default, tuple):
        return tuple(number(group, part.name) for part in parts)
    return number(group, parts[0].name)


def write(optimizer: Optimizer, field: Field, value: Value) -> None:
    """Set a hyperparameter, in every group or (a tuple with one entry a group) in each."""
    owner = type(optimizer).__name__
    count = len(optimizer._tables)
    single = not isinstance(field.default, tuple)
    several = single and isinstance(value, tuple | list)
    if several and len(value) != count:
        raise ValueError(
            f"{owner}: {field.name} has {len(value)} values for {count} "
            f"{'group' if count == 1 else 'groups'}; give one number for all, or one for each"
        )
    values = [field.check(owner, item) for item in (value if several else [value] * count)]
    for table, new in zip(optimizer._tables, values, strict=True):
        changed = {**table, field.name: new}
        if not field.same_kind(table[field.name], new):
            raise ValueError(
                f"{owner}: {field.name} is settled when the optimizer is made (it is "
                f"{table[field.name]!r}); make a new one"
            )
        optimizer.check_together(changed)
        if not set(optimizer.variant(changed)[1]) <= set(optimizer.variant(table)[1]):
            raise ValueError(
                f"{owner}: {field.name}={new!r} needs state that this optimizer was made without; "
                f"make a new one with {field.name}={new!r}"
            )
    for group, new in enumerate(values):
        optimizer._tables[group][field.name] = new
        states.set_numbers(optimizer, group, field)


def evaluated(optimizer: Optimizer, group: int, t: int) -> SimpleNamespace:
    """One step's hyperparameters as a rule reads them, by name, with the update's number ``t``."""
    words = {
        name: value
        for name, value in optimizer._tables[group].items()
        if isinstance(optimizer.fields[name], Choice | Count | Flag)
    }
    return SimpleNamespace(**{**optimizer._engine.values(group), **words}, t=t)


def current(optimizer: Optimizer, group: int) -> SimpleNamespace:
    """The numbers that the next step will use, by name."""
    table = optimizer._tables[group]
    fields = [field for name, field in optimizer.fields.items() if table[name] is not None]
    names = [part.name for field in fields for part in field.parts()]
    return SimpleNamespace(**{name: optimizer._engine.number(group, name) for name in names})
