"""Filling the compiled engine with the groups and leaves of an optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from stepsize.arrays import is_narrow, view_as_real
from stepsize.optimizers.fields import Choice, Count
from stepsize.optimizers.groups import ParameterGroups
from stepsize.optimizers.leaves import Leaves
from stepsize.optimizers.loop import caution, square_slot
from stepsize.optimizers.options import Options
from stepsize.optimizers.rule import COMPILED, Rule, runs_compiled
from stepsize.optimizers.slots import Slots


def _words(rule: Rule, values: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Counts, and the places of words among those to choose from, as compiled rules read them."""
    for name, field in rule.fields.items():
        value = values[name]
        if isinstance(field, Choice):
            value = field.words.index(value)
        elif not isinstance(field, Count) or value is None:
            continue
        yield (name, -math.inf, math.inf, True, True, float(value))


def fill(
    engine: Any,
    rule: Rule,
    leaves: Leaves,
    groups: ParameterGroups,
    slots: Slots,
    options: Options,
) -> None:
    """Hand groups and leaves, with their constraints, to the compiled step."""
    # Matrix rules have half precision in the reference loop alone.
    matrices = rule.shaped and any(is_narrow(leaf.dtype) for leaf in leaves.arrays)
    compiled = runs_compiled(type(rule))
    for k, values in enumerate(groups.tables):
        numbers = []
        for name, field in rule.fields.items():
            if values[name] is None:
                continue
            for part, (_, value) in zip(field.parts(), groups.sources(k, field), strict=True):
                limits = (part.low, part.high, part.low_open, part.high_open)
                numbers.append((part.name, *limits, value))
        numbers += _words(rule, values)
        if rule.needs_loss:
            numbers.append(("loss", -math.inf, math.inf, True, True, 0.0))
        kernel = rule.variant(values)[0]
        engine.add_group(
            kernel if compiled and kernel in COMPILED and not matrices else None,
            rule.decay_kind(values),
            caution(values),
            square_slot(rule, values),
            list(rule.scalars.values()),
            rule.scope or "",
            numbers,
        )
    columns = (leaves.contiguous, leaves.masters, groups.assignment, slots.arrays, slots.scales)
    given = {i: leaf for i, leaf, _ in leaves.strided}
    for i, (leaf, master, group, arrays, scales) in enumerate(zip(*columns, strict=True)):
        pairs = [(view_as_real(slot), scales.get(name)) for name, slot in arrays.items()]
        engine.add_leaf(leaf, master, leaf.shape, group, pairs)
        if i in given:
            engine.keep_base(given[i])
        one = options.constraint(i)
        if one is not None:
            engine.constrain(*one)
    engine.finish()
    engine.strided = bool(leaves.strided)
