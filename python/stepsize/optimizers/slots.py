"""An optimizer's state: its memory, its place in the engine, and its form as a plain dict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize import _core
from stepsize.arrays import Array, computed
from stepsize.optimizers import quantization
from stepsize.optimizers.fields import Field, Value
from stepsize.optimizers.half import widened
from stepsize.schedules import Schedule

if TYPE_CHECKING:
    from stepsize.optimizers.optimizer import Optimizer

FORMAT = 1

# Names of the compiled rules, with their hyperparameters.
COMPILED: dict[str, tuple[str, ...]] = {
    name: tuple(numbers.split(", ")) for name, numbers, _ in _core.rules()
}

_LINE = 64  # bytes of a cache line
_STAGGER = 17 * _LINE  # keeps the streams of one leaf out of each other's cache sets


State = list[dict[str, Array]]


class Slot(str):
    """The name of a state array, and what its numbers are, which settles how they are quantized.

    A plain string in a rule's ``slots`` counts as `signed`.
    """

    kind: str

    @classmethod
    def of(cls, name: str, kind: str) -> Slot:
        slot = cls(name)
        slot.kind = kind
        return slot


def signed(name: str) -> Slot:
    """A state array of numbers of both signs, such as a momentum."""
    return Slot.of(name, "signed")


def squares(name: str) -> Slot:
    """A state array of numbers >= 0 that are divided by, such as a second moment."""
    return Slot.of(name, "squares")


def exact(name: str) -> Slot:
    """A state array that is never quantized: a position, or a sum with much cancellation."""
    return Slot.of(name, "exact")


def allocate(optimizer: Optimizer) -> tuple[State, State]:
    """State arrays of every leaf, side by side where the parameters lie so, and their scales."""
    wanted = []
    for leaf, group in zip(optimizer._contiguous, optimizer._assignment, strict=True):
        values = optimizer._tables[group]
        slots = () if optimizer.shaped else optimizer.variant(values)[1]
        dtypes = [quantization.dtype_of(optimizer, slot, leaf) for slot in slots]
        wanted.append((leaf, slots, dtypes))
    offsets, end = _lay_out(wanted)
    arena = _core.allocate(end)
    state: State = []
    scales: State = []
    for i, (leaf, slots, dtypes) in enumerate(wanted):
        state.append({})
        scales.append({})
        for k, (slot, dtype) in enumerate(zip(slots, dtypes, strict=True)):
            start = offsets[k][i]
            flat = arena[start : start + leaf.size * dtype.itemsize].view(dtype)
            state[i][str(slot)] = flat.reshape(leaf.shape)
            if dtype.itemsize == 1:
                scales[i][str(slot)] = np.zeros(quantization.tiles(leaf.size), np.float32)
            first = optimizer.initial(slot, leaf, optimizer._tables[optimizer._assignment[i]])
            if np.any(first):
                set_slot(state[i][slot], scales[i].get(slot), first, quantization.noise(0, i, k))
        if optimizer.shaped:
            state[i] = _shaped(optimizer, leaf, optimizer._tables[optimizer._assignment[i]])
    return state, scales


def copies(leaves: Sequence[Array]) -> list[Array]:
    """The numbers of every leaf as they are computed in, side by side where the leaves lie so."""
    dtypes = [np.dtype(computed(leaf.dtype)) for leaf in leaves]
    offsets, end = _lay_out(
        [(leaf, ("copy",), [d]) for leaf, d in zip(leaves, dtypes, strict=True)]
    )
    arena = _core.allocate(end)
    found = []
    for leaf, dtype, start in zip(leaves, dtypes, offsets[0] if leaves else (), strict=True):
        flat = arena[start : start + leaf.size * dtype.itemsize].view(dtype)
        found.append(flat.reshape(leaf.shape))
        found[-1][...] = widened(leaf)
    return found


def set_slot(slot: Array, scales: Array | None, values: Any, noise: int) -> None:
    """Store numbers in a slot, as they are or as codes."""
    if slot.dtype.kind == "f":
        slot[...] = values
    else:
        flat = np.broadcast_to(values, slot.shape).reshape(-1)
        quantization.write(flat, slot.reshape(-1), scales, noise)


def _lay_out(wanted: Sequence[tuple[Array, Sequence[str], Sequence[Any]]]) -> tuple[Any, int]:
    """The offsets of slot k of leaf i, and the bytes for all."""
    depth = max((len(slots) for _, slots, _ in wanted), default=0)
    offsets: list[list[int]] = []
    end = 0
    for k in range(depth):
        start, last = end + k * _STAGGER, None
        column = []
        for leaf, _, dtypes in wanted:
            follows = last is not None and _address(leaf) == last
            coded = k < len(dtypes) and dtypes[k] != leaf.dtype
            if not follows or coded:
                start += ((0 if coded else _address(leaf)) - start) % _LINE  # a line together
            column.append(start)
            start += leaf.size * dtypes[k].itemsize if k < len(dtypes) else 0
            last = _address(leaf) + leaf.nbytes
        offsets.append(column)
        end = start
    return offsets, end


def _shaped(optimizer: Optimizer, leaf: Array, values: Mapping[str, Value]) -> dict[str, Array]:
    """State arrays in shapes of their own."""
    arrays = {}
    for slot in optimizer.variant(values)[1] if optimizer.shaped else ():
        shape = optimizer.slot_shape(slot, leaf, values)
        if shape is not None:
            arrays[str(slot)] = np.zeros(shape, computed(leaf.dtype))
            first = optimizer.initial(slot, leaf, values)
            if np.any(first):
                arrays[slot][...] = first
    return arrays


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _source(value: Value) -> Any:
    """What the engine evaluates: a number, a compiled schedule or a Python function."""
    compiled = getattr(value, "compiled", None)
    return value if compiled is None else compiled


def fill_engine(optimizer: Optimizer) -> None:
    """Hand groups and leaves to the compiled step."""
    engine = optimizer._engine
    for values in optimizer._tables:
        numbers = []
        for name, field in optimizer.fields.items():
            if values[name] is None:
                continue
            for part, value in zip(field.parts(), field.values(values[name]), strict=True):
                limits = (part.low, part.high, part.low_open, part.high_open)
                numbers.append((part.name, *limits, _source(value)))
        if optimizer.needs_loss:
            numbers.append(("loss", -math.inf, math.inf, True, True, 0.0))
        kernel = optimizer.variant(values)[0]
        compiled = kernel in COMPILED and not optimizer._numpy
        engine.add_group(
            kernel if compiled else None,
            optimizer.decay_kind(values),
            list(optimizer.scalars.values()),
            optimizer.scope or "",
            numbers,
        )
    for leaf, master, group, slots, scales in zip(
        optimizer._contiguous,
        optimizer._masters,
        optimizer._assignment,
        optimizer._state,
        optimizer._scales,
        strict=True,
    ):
        pairs = [(slot, scales.get(name)) for name, slot in slots.items()]
        engine.add_leaf(leaf, master, leaf.shape, group, pairs)
    engine.finish()
    engine.strided = bool(optimizer._strided)


def set_numbers(optimizer: Optimizer, group: int, field: Field) -> None:
    """Pass a changed hyperparameter on to the compiled step."""
    value = optimizer._tables[group][field.name]
    for part, item in zip(field.parts(), field.values(value), strict=True):
        optimizer._engine.set_number(group, part.name, _source(item))


def _stored(optimizer: Optimizer) -> State:
    """The state arrays of every leaf, with scales and masters where there are some, by name."""
    return [
        {
            **slots,
            **quantization.named_scales(scales),
            **({} if master is None else {"master": master}),
        }
        for slots, scales, master in zip(
            optimizer._state, optimizer._scales, optimizer._masters, strict=True
        )
    ]


def state_dict(optimizer: Optimizer) -> dict[str, Any]:
    engine = optimizer._engine
    paths = optimizer.paths
    names = list(optimizer.scalars)
    groups = []
    for k, values in enumerate(optimizer._tables):
        leaves = [
            path for path, group in zip(paths, optimizer._assignment, strict=True) if group == k
        ]
        saved = {name: _saved(value) for name, value in values.items()}
        groups.append({"leaves": leaves, "hyperparams": saved})
    return {
        "format": FORMAT,
        "rule": type(optimizer).__name__,
        "step_count": int(engine.step_count),
        "lr_scale": float(engine.lr_scale),
        "loss_scale": [float(engine.loss_scale), int(engine.good_steps)],
        "groups": groups,
        "steps": dict(zip(paths, map(int, engine.times), strict=True)),
        "scalars": {
            path: dict(zip(names, engine.memory(i), strict=True)) for i, path in enumerate(paths)
        },
        "state": {
            path: {name: np.array(slot) for name, slot in slots.items()}
            for path, slots in zip(paths, _stored(optimizer), strict=True)
        },
    }


def _saved(value: Value) -> Any:
    if isinstance(value, tuple):
        return [_saved(item) for item in value]
    if isinstance(value, Schedule):
        try:
            return {"schedule": value.to_dict()}
        except ValueError:  # it holds a function that no import path names
            return {"function": repr(value)}
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
        return Schedule.from_dict(saved["schedule"])
    if isinstance(saved, dict):
        check_names(owner, f"the saved {name}", saved, ("function",))
        if not callable(current):
            raise ValueError(
                f"{owner}: {name} was the function {saved['function']}, which no file can hold; "
                f"make the optimizer with {name}= that function, then load"
            )
        return current
    return saved


def load_state_dict(optimizer: Optimizer, d: Mapping[str, Any]) -> None:
    """Check everything, then take it over."""
    owner = type(optimizer).__name__
    _check_head(optimizer, d)
    tables = []
    for current, entry in zip(optimizer._tables, d["groups"], strict=True):
        loaded = {}
        for name, field in optimizer.fields.items():
            value = _loaded(owner, name, entry["hyperparams"][name], current[name])
            if value is None and field.default is not None:
                raise ValueError(f"{owner}: the saved {name} must be {field.range()}, got None")
            value = value if value is None else field.check(owner, value)
            if not field.same_kind(current[name], value) and value != current[name]:
                raise ValueError(
                    f"{owner}: the saved {name} is {value!r}, here it is {current[name]!r}; make "
                    f"the optimizer with {name}={value!r}, then load"
                )
            loaded[name] = value
        tables.append(loaded)
    for path, slots in zip(optimizer.paths, _stored(optimizer), strict=True):
        check_slots(owner, path, slots, d["state"][path])
    _check_counters(optimizer, d)

    engine = optimizer._engine
    for path, slots in zip(optimizer.paths, _stored(optimizer), strict=True):
        for name, slot in slots.items():
            slot[...] = d["state"][path][name]
    for i, path in enumerate(optimizer.paths):
        engine.set_memory(i, [float(d["scalars"][path][name]) for name in optimizer.scalars])
    engine.times = [int(d["steps"][path]) for path in optimizer.paths]
    engine.step_count = int(d["step_count"])
    engine.lr_scale = float(d["lr_scale"])
    if engine.dynamic:
        engine.loss_scale, engine.good_steps = d["loss_scale"]
    for k, loaded in enumerate(tables):
        optimizer._tables[k] = loaded
        for field in optimizer.fields.values():
            if loaded[field.name] is not None:
                set_numbers(optimizer, k, field)


def _check_head(optimizer: Optimizer, d: Mapping[str, Any]) -> None:
    owner = type(optimizer).__name__
    counters = ("step_count", "lr_scale", "loss_scale")
    keys = ("format", "rule", *counters, "groups", "steps", "scalars", "state")
    check_names(owner, "a state dict", d, keys)
    if d["format"] != FORMAT:
        raise ValueError(
            f"{owner}: the state has format {d['format']!r}, this stepsize reads {FORMAT}; "
            "load it with the version that wrote it"
        )
    if d["rule"] != owner:
        raise ValueError(f"{owner}: the state is one of {d['rule']}; load it into that class")
    for name in ("state", "steps", "scalars"):
        check_names(owner, f"the {name}", d[name], optimizer.paths)
    groups = d["groups"] if isinstance(d["groups"], list | tuple) else [d["groups"]]
    for entry in groups:
        check_names(owner, "a group of the state", entry, ("leaves", "hyperparams"))
        check_names(owner, "the hyperparameters", entry["hyperparams"], tuple(optimizer.fields))
    here = [entry["leaves"] for entry in state_groups(optimizer)]
    there = [entry["leaves"] for entry in groups]
    if here != there:
        raise ValueError(f"{owner}: the state's groups are {there}, here they are {here}")


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


def state_groups(optimizer: Optimizer) -> list[dict[str, list[str]]]:
    """The leaves of each group."""
    pairs = list(zip(optimizer.paths, optimizer._assignment, strict=True))
    return [
        {"leaves": [path for path, group in pairs if group == k]}
        for k in range(len(optimizer._tables))
    ]


def _check_counters(optimizer: Optimizer, d: Mapping[str, Any]) -> None:
    owner, paths = type(optimizer).__name__, optimizer.paths
    for path in paths:
        check_names(owner, f"the scalars of {path}", d["scalars"][path], tuple(optimizer.scalars))
        for name, value in d["scalars"][path].items():
            if type(value) not in (float, int):
                raise ValueError(f"{owner}: {name} of {path} must be a number, got {value!r}")
    counters = {"step_count": d["step_count"]}
    counters |= {f"the steps of {path}": d["steps"][path] for path in paths}
    for label, count in counters.items():
        if type(count) is not int or count < 0:
            raise ValueError(f"{owner}: {label} must be a whole number >= 0, got {count!r}")
    loss_scale = d["loss_scale"]
    if not (
        isinstance(loss_scale, list | tuple)
        and [type(item) for item in loss_scale] == [float, int]
        and 0 < loss_scale[0] < math.inf
        and loss_scale[1] >= 0
    ):
        raise ValueError(
            f"{owner}: loss_scale must be a finite number > 0 and a count >= 0, got {loss_scale!r}"
        )
    scale = d["lr_scale"]
    if not isinstance(scale, float | int) or not 0 <= scale < math.inf:
        raise ValueError(f"{owner}: lr_scale must be a finite number >= 0, got {scale!r}")


def check_slots(owner: str, path: str, slots: Mapping[str, Array], saved: Any) -> None:
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
