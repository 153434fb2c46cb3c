"""An optimizer's state as a plain dict, and back: what does not fit is refused by name."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stepsize.arrays import Array
from stepsize.optimizers import loop
from stepsize.optimizers.fields import Value
from stepsize.optimizers.internals import Internals
from stepsize.optimizers.rule import Rule
from stepsize.optimizers.slots import State
from stepsize.optimizers.transaction import Uninterrupted, assignment
from stepsize.schedules import Schedule
from stepsize.serialization.functions import without_address

FORMAT = 1
LARGEST_COUNT = 1 << 62  # leaves room to count on in 64 bits


def save(parts: Internals) -> dict[str, Any]:
    """Everything but the parameters, as a plain dict of numbers, strings and copied arrays.

    Steps of other threads wait.
    """
    with parts.engine:
        parts.refuse_arriving("its state")
        return _copied(parts)


def _copied(parts: Internals) -> dict[str, Any]:
    engine, paths = parts.engine, parts.leaves.paths
    groups = [
        {
            **_rule_named(parts, k),
            "leaves": leaves,
            "hyperparams": {name: _saved(value) for name, value in values.items()},
        }
        for k, (leaves, values) in enumerate(
            zip(_group_leaves(parts), parts.groups.tables, strict=True)
        )
    ]
    return {
        "format": FORMAT,
        "rule": parts.owner,
        "step_count": int(engine.step_count),
        "lr_scale": float(engine.lr_scale),
        "loss_scale": [float(engine.loss_scale), int(engine.good_steps)],
        "groups": groups,
        "steps": dict(zip(paths, map(int, engine.times), strict=True)),
        "scalars": {
            path: dict(zip(parts.rule_of(i).scalars, engine.scalars(i), strict=True))
            for i, path in enumerate(paths)
        },
        "state": {
            path: {name: np.array(slot) for name, slot in slots.items()}
            for path, slots in zip(paths, parts.slots.stored(parts.leaves.masters), strict=True)
        },
    }


def _saved(value: Value) -> Any:
    if isinstance(value, tuple):
        return [_saved(item) for item in value]
    if isinstance(value, Schedule):
        try:
            return {"schedule": value.to_dict()}
        except ValueError:  # it holds a function that no import path names
            return {"function": without_address(repr(value))}
    if callable(value):
        return {"function": getattr(value, "__qualname__", type(value).__qualname__)}
    return value


def _loaded(owner: str, name: str, saved: Any, current: Value) -> Value:
    if isinstance(saved, list):
        alike = isinstance(current, tuple) and len(current) == len(saved)
        kept = current if alike else (None,) * len(saved)
        pairs = zip(saved, kept, strict=True)
        return tuple(_loaded(owner, name, item, old) for item, old in pairs)
    if isinstance(saved, dict) and set(saved) == {"schedule"}:
        return Schedule.from_dict(saved["schedule"], trust=current)
    if isinstance(saved, dict):
        check_names(owner, f"the saved {name}", saved, ("function",))
        if not (callable(current) and "function" in _saved(current)):
            raise ValueError(
                f"{owner}: {name} was the function {saved['function']}, which no file can hold; "
                f"make the optimizer with {name}= that function, then load"
            )
        return current
    return saved


def load(parts: Internals, d: Mapping[str, Any]) -> None:
    """Check everything, then take it over."""
    owner, paths = parts.owner, parts.leaves.paths
    parts.refuse_arriving("a state to load")
    _check_head(parts, d)
    tables: list[dict[str, Any]] = []
    for k, (current, entry) in enumerate(zip(parts.groups.tables, d["groups"], strict=True)):
        loaded = {}
        for name, field in parts.groups.rules[k].fields.items():
            usual = loop.LOOP.get(name, field).default  # a class may have another one
            saved = entry["hyperparams"].get(name, usual)
            value = _loaded(owner, name, saved, current[name])
            if value is None and field.default is not None:
                raise ValueError(f"{owner}: the saved {name} must be {field.range()}, got None")
            value = value if value is None else field.check(owner, value)
            absent = (value is None) != (current[name] is None)
            if absent or (not field.same_kind(current[name], value) and value != current[name]):
                raise ValueError(
                    f"{owner}: the saved {name} is {value!r:.80}, here it is "
                    f"{current[name]!r:.80}; make the optimizer with {name}={value!r:.80}, then "
                    "load"
                )
            loaded[name] = value
        if parts.groups.lacks_state(k, loaded):
            raise ValueError(
                f"{owner}: the saved hyperparameters of group {k} need state that this "
                "optimizer was made without; make one with the hyperparameters it was saved with, "
                "then load"
            )
        tables.append(loaded)
    stored = parts.slots.stored(parts.leaves.masters)
    for path, slots in zip(paths, stored, strict=True):
        check_slots(owner, path, slots, d["state"][path])
    _check_counters(parts, d)

    _take_over(parts, d, tables, stored)


def _take_over(
    parts: Internals, d: Mapping[str, Any], tables: list[dict[str, Any]], stored: State
) -> None:
    """All of it or nothing, also where memory runs out: the last call allocates nothing."""
    paths = parts.leaves.paths
    loss_scale, good_steps = d["loss_scale"]
    arrays = assignment(
        [slot for slots in stored for slot in slots.values()],
        [
            d["state"][path][name]
            for path, slots in zip(paths, stored, strict=True)
            for name in slots
        ],
    )
    counts = [*(d["steps"][path] for path in paths), d["step_count"], good_steps]
    scalars = [
        [float(d["scalars"][path][name]) for name in parts.rule_of(i).scalars]
        for i, path in enumerate(paths)
    ]
    with Uninterrupted(), parts.engine:
        before = list(parts.groups.tables)
        try:
            parts.groups.set_tables(tables)
            parts.engine.take_over(arrays, counts, scalars, [float(d["lr_scale"]), loss_scale])
        except BaseException:
            parts.groups.set_tables(before)
            raise


def _check_head(parts: Internals, d: Mapping[str, Any]) -> None:
    owner = parts.owner
    counters = ("step_count", "lr_scale", "loss_scale")
    keys = ("format", "rule", *counters, "groups", "steps", "scalars", "state")
    check_names(owner, "a state dict", d, keys)
    if d["format"] != FORMAT or isinstance(d["format"], bool):
        raise ValueError(
            f"{owner}: the state has format {d['format']!r:.80}, this stepsize reads {FORMAT}; "
            "load it with the version that wrote it"
        )
    if d["rule"] != owner:
        raise ValueError(f"{owner}: the state is one of {d['rule']!s:.80}; load it into that class")
    for name in ("state", "steps", "scalars"):
        check_names(owner, f"the {name}", d[name], parts.leaves.paths)
    groups = d["groups"] if isinstance(d["groups"], list | tuple) else [d["groups"]]
    here = [{**_rule_named(parts, k), "leaves": v} for k, v in enumerate(_group_leaves(parts))]
    names = (*here[0], "hyperparams")
    for entry in groups:
        check_names(owner, "a group of the state", entry, names)
    there = [{name: entry[name] for name in here[0]} for entry in groups]
    if here != there:
        plain = names[0] == "leaves"
        found, own = ([e["leaves"] for e in side] if plain else side for side in (there, here))
        raise ValueError(f"{owner}: the state's groups are {found}, here they are {own}")
    for k, entry in enumerate(groups):
        _check_hyperparams(parts, parts.groups.rules[k], entry["hyperparams"])


def _rule_named(parts: Internals, group: int) -> dict[str, str]:
    """The rule of a group, where it is not that of the optimizer."""
    rule = parts.rule.rule_at(group)
    return {} if rule is parts.rule else {"rule": type(rule).__name__}


def _check_hyperparams(parts: Internals, rule: type[Rule], saved: Any) -> None:
    """Refuse other hyperparameters than the rule's, but for those that older files lack."""
    known = (*rule.later, *loop.LOOP)
    later = [name for name in known if isinstance(saved, Mapping) and name not in saved]
    names = [name for name in rule.fields if name not in later]
    check_names(parts.owner, "the hyperparameters", saved, names)


def check_names(owner: str, what: str, found: Any, expected: Sequence[str]) -> None:
    """Refuse a part of a state dict that is no mapping, or one with other names than these."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{owner}: {what} must be a dict, got {type(found).__name__}")
    known = set(expected)
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in known]
    if missing or extra:
        wrong = [*(f"no {name}" for name in missing), *(f"an unknown {name}" for name in extra)]
        raise ValueError(
            f"{owner}: {what} must have {shortened(expected)}; found {shortened(wrong)}"
        )


def shortened(names: Sequence[str]) -> str:
    """The first few of many names, for a message."""
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "nothing"


def _group_leaves(parts: Internals) -> list[list[str]]:
    """The names of each group's leaves."""
    pairs = list(zip(parts.leaves.paths, parts.groups.assignment, strict=True))
    count = len(parts.groups.tables)
    return [[path for path, group in pairs if group == k] for k in range(count)]


def _check_counters(parts: Internals, d: Mapping[str, Any]) -> None:
    owner, paths = parts.owner, parts.leaves.paths
    for i, path in enumerate(paths):
        names = tuple(parts.rule_of(i).scalars)
        check_names(owner, f"the scalars of {path}", d["scalars"][path], names)
        for name, value in d["scalars"][path].items():
            if not (isinstance(value, float) or _is_double(value)):
                raise ValueError(f"{owner}: {name} of {path} must be a number, got {value!r:.80}")
    counters = {"step_count": d["step_count"]}
    counters |= {f"the steps of {path}": d["steps"][path] for path in paths}
    for label, count in counters.items():
        if type(count) is not int or not 0 <= count <= LARGEST_COUNT:
            raise ValueError(
                f"{owner}: {label} must be a whole number in [0, {LARGEST_COUNT}], got "
                f"{count!r:.80}"
            )
    loss_scale = d["loss_scale"]
    if not (
        isinstance(loss_scale, list | tuple)
        and [type(item) for item in loss_scale] == [float, int]
        and 0 < loss_scale[0] < math.inf
        and 0 <= loss_scale[1] <= LARGEST_COUNT
    ):
        raise ValueError(
            f"{owner}: loss_scale must be a finite number > 0 and a count >= 0, got "
            f"{loss_scale!r:.80}"
        )
    scale = d["lr_scale"]
    if type(scale) not in (float, int) or not 0 <= scale <= sys.float_info.max:
        raise ValueError(f"{owner}: lr_scale must be a finite number >= 0, got {scale!r:.80}")


def _is_double(value: Any) -> bool:
    """Whether a whole number is one that a float can be as large as."""
    return type(value) is int and abs(value) <= sys.float_info.max


def check_slots(owner: str, path: str, slots: Mapping[str, Array], saved: Any) -> None:
    """Refuse saved state arrays of other names, shapes or dtypes than a leaf's own."""
    check_names(owner, f"the state of {path}", saved, tuple(slots))
    for name, slot in slots.items():
        value = saved[name]
        if not isinstance(value, np.ndarray) or value.shape != slot.shape:
            found = getattr(value, "shape", type(value).__name__)
            raise ValueError(
                f"{owner}: the state {name} of {path} has shape {found}, expected {slot.shape}"
            )
        if value.dtype != slot.dtype:
            coded = {value.dtype.kind, slot.dtype.kind} & {"i", "u"}
            hint = "; make the optimizer with the state_dtype it was saved with" if coded else ""
            raise ValueError(
                f"{owner}: the state {name} of {path} has dtype {value.dtype}, expected "
                f"{slot.dtype}{hint}"
            )
