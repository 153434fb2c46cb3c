"""Filling the compiled engine with the groups and leaves of an optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from stepsize.arrays import is_narrow, view_as_real
from stepsize.optimizers.fields import Choice, Count
from stepsize.optimizers.internals import Internals
from stepsize.optimizers.loop import LOOP, caution, square_slot
from stepsize.optimizers.rule import COMPILED, Rule, runs_compiled


def _words(rule: Rule, values: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Counts, and the places of words among those to choose from, as compiled rules read them."""
    for name, field in rule.fields.items():
        value = values[name]
        if isinstance(field, Choice):
            value = field.words.index(value)
        elif not isinstance(field, Count) or value is None:
            continue
        yield (name, -math.inf, math.inf, True, True, float(value))


def fill(parts: Internals) -> None:
    """Hand groups and leaves, with their constraints, to the compiled step."""
    engine, leaves, groups, slots = parts.engine, parts.leaves, parts.groups, parts.slots
    rules = [parts.rule.rule_at(k) for k in range(len(groups.tables))]
    # Matrix rules have half precision in the reference loop alone.
    narrow = [id(parts.rule_of(i)) for i, x in enumerate(leaves.arrays) if is_narrow(x.dtype)]
    for k, (rule, values) in enumerate(zip(rules, groups.tables, strict=True)):
        compiled = runs_compiled(type(rule)) and not (rule.shaped and id(rule) in narrow)
        numbers = []
        for name, field in rule.fields.items():
            if values[name] is None:
                if compiled and name not in LOOP:  # the compiled rule knows what that stands for
                    limits = (-math.inf, math.inf, True, True)
                    numbers += [(part.name, *limits, -1.0) for part in field.parts()]
                continue
            for part, (_, value) in zip(field.parts(), groups.sources(k, field), strict=True):
                limits = (part.low, part.high, part.low_open, part.high_open)
                numbers.append((part.name, *limits, value))
        numbers += _words(rule, values)
        if rule.needs_loss:
            numbers.append(("loss", -math.inf, math.inf, True, True, 0.0))
        kernel = groups.variants[k][0]
        engine.add_group(
            kernel if compiled and kernel in COMPILED else None,
            rule.decay_kind(values),
            caution(values),
            square_slot(rule, values),
            list(rule.scalars.values()),
            rule.scope or "",
            next(first for first, other in enumerate(rules) if other is rule),
            numbers,
        )
    columns = (leaves.contiguous, leaves.masters, groups.assignment, slots.arrays, slots.scales)
    given = {i: leaf for i, leaf, _ in leaves.strided}
    for i, (leaf, master, group, arrays, scales) in enumerate(zip(*columns, strict=True)):
        pairs = [(view_as_real(slot), scales.get(name)) for name, slot in arrays.items()]
        engine.add_leaf(leaf, master, leaf.shape, group, pairs)
        if leaves.stochastic[i]:
            engine.round_stochastically()
        if i in given:
            engine.keep_base(given[i])
        one = parts.options.constraint(i)
        if one is not None:
            engine.constrain(*one)
        place = slots.places[i]
        if place != (i, 0):
            engine.set_place(i, *place)
    engine.finish()
    engine.strided = bool(leaves.strided)
