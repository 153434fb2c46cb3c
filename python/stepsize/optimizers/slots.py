"""State arrays: what their numbers are, and their memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from stepsize import _core
from stepsize.arrays import Array, computed, view_as_complex, view_as_real
from stepsize.optimizers import quantization
from stepsize.optimizers.fields import Value
from stepsize.optimizers.groups import ParameterGroups
from stepsize.optimizers.half import named_master, to_float32
from stepsize.optimizers.leaves import Leaves
from stepsize.optimizers.rule import Rule, runs_compiled

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


class Place(NamedTuple):
    """Where a leaf that is a part of another one lies: stochastic rounding depends on it."""

    leaf: int
    tile: int  # of its first number, see `quantization.BLOCK_SIZE`


@dataclass
class Slots:
    """The state arrays of every leaf, and the scales of those that are quantized, by name.

    ``forms`` says in which form each leaf's state is quantized, if it is, and ``places`` where the
    leaf lies for stochastic rounding.
    """

    arrays: State
    scales: State
    forms: list[str | None]
    places: list[Place]

    @classmethod
    def allocate(
        cls,
        rule: Rule,
        leaves: Leaves,
        groups: ParameterGroups,
        state_dtype: str | None,
        places: Sequence[Place] | None = None,
    ) -> Self:
        """State arrays with their first values, side by side where the parameters lie so.

        Those of complex leaves are complex, but for codes, which have an axis of parts.
        """
        check_quantizable(rule, [slots for _, slots in groups.variants], state_dtype)
        wanted = []
        real = map(view_as_real, leaves.contiguous)
        for leaf, group in zip(real, groups.assignment, strict=True):
            slots = () if rule.shaped else groups.variants[group][1]
            dtypes = [quantization.dtype_of(slot, leaf, state_dtype) for slot in slots]
            wanted.append((leaf, slots, dtypes))
        offsets, end = _lay_out(wanted)
        arena = _core.allocate(end)
        state: State = []
        scales: State = []
        given = [Place(i, 0) for i in range(len(wanted))] if places is None else list(places)
        for i, (leaf, slots, dtypes) in enumerate(wanted):
            state.append({})
            scales.append({})
            values = groups.table_of(i)
            for k, (slot, dtype) in enumerate(zip(slots, dtypes, strict=True)):
                start, name = offsets[k][i], str(slot)
                flat = arena[start : start + leaf.size * dtype.itemsize].view(dtype)
                state[i][name] = flat.reshape(leaf.shape)
                if dtype.itemsize == 1:
                    scales[i][name] = np.zeros(quantization.blocks(leaf.size), np.float32)
                first = rule.initial(slot, leaf, values)
                if np.any(first):
                    key = quantization.rounding_key(0, given[i].leaf, k) + given[i].tile
                    _fill(state[i][name], scales[i].get(name), first, key)
            if rule.shaped:
                check_stacked(rule, leaves.paths[i], leaf, values)
                state[i] = _shaped(rule, groups.variants[groups.assignment[i]][1], leaf, values)
            seen = leaves.arrays[i].dtype
            state[i] = {
                name: view_as_complex(slot, seen) if slot.dtype.kind == "f" else slot
                for name, slot in state[i].items()
            }
        return cls(state, scales, [state_dtype] * len(state), given)

    @classmethod
    def joined(cls, count: int, parts: Sequence[tuple[Slots, Sequence[int]]]) -> Self:
        """The state of so many leaves, of which there is some for each of a few optimizers."""
        made = cls([{}] * count, [{}] * count, [None] * count, [Place(0, 0)] * count)
        for own, indices in parts:
            for j, i in enumerate(indices):
                made.arrays[i], made.scales[i] = own.arrays[j], own.scales[j]
                made.forms[i], made.places[i] = own.forms[j], own.places[j]
        return made

    def stored(self, masters: Sequence[Array | None]) -> State:
        """The arrays of every leaf that a file keeps, with scales and master weights."""
        return [
            {
                **slots,
                **quantization.named_scales(scales),
                **named_master(master),
            }
            for slots, scales, master in zip(self.arrays, self.scales, masters, strict=True)
        ]


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
        found[-1][...] = to_float32(leaf)
    return found


def _fill(slot: Array, scales: Array | None, values: Any, key: int) -> None:
    """Store numbers in a slot, as they are or quantized."""
    if slot.dtype.kind == "f":
        slot[...] = values
    else:
        flat = np.broadcast_to(values, slot.shape).reshape(-1)
        quantization.quantize(flat, slot.reshape(-1), scales, key)


def _lay_out(wanted: Sequence[tuple[Array, Sequence[str], Sequence[Any]]]) -> tuple[Any, int]:
    """The offsets of slot k of leaf i, and the bytes for all."""
    depth = max((len(slots) for _, slots, _ in wanted), default=0)
    offsets: list[list[int]] = []
    end = 0
    for k in range(depth):
        start, last = end + k * _STAGGER, None
        column = []
        for leaf, _, dtypes in wanted:
            follows = last is not None and _address(leaf) == last and leaf.flags.aligned
            quantized = k < len(dtypes) and dtypes[k] != leaf.dtype
            if not follows or quantized:
                # At the place in a cache line where the parameter is: they are read together.
                beside = not quantized and leaf.flags.aligned
                start += ((_address(leaf) if beside else 0) - start) % _LINE
            column.append(start)
            start += leaf.size * dtypes[k].itemsize if k < len(dtypes) else 0
            last = _address(leaf) + leaf.nbytes
        offsets.append(column)
        end = start
    return offsets, end


def _shaped(
    rule: Rule, slots: Sequence[str], leaf: Array, values: Mapping[str, Value]
) -> dict[str, Array]:
    """State arrays in shapes of their own; of stacked matrices a stack of those of each."""
    arrays = {}
    count = _stacked(rule, values)
    one = np.empty(leaf.shape[count:], leaf.dtype) if count else leaf
    for slot in slots:
        shape = rule.slot_shape(slot, one, values)
        if shape is not None:
            shape = leaf.shape[:count] + shape
            found = arrays[str(slot)] = np.zeros(shape, computed(leaf.dtype))
            first = rule.initial(slot, one, values)
            if np.any(first):
                found[...] = first
    return arrays


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _stacked(rule: Rule, values: Mapping[str, Value]) -> int:
    """How many first axes count matrices."""
    return (values["stacked"] or 0) if rule.by_matrix else 0


def check_stacked(rule: Rule, path: str, leaf: Array, values: Mapping[str, Value]) -> None:
    """Refuse a leaf with fewer axes than those that count its matrices."""
    owner, count = type(rule).__name__, _stacked(rule, values)
    if count > leaf.ndim:
        raise ValueError(
            f"{owner}: stacked={count} counts the matrices of a leaf by its first axes, but {path} "
            f"has shape {leaf.shape}; give it a group of its own, ss.group({path!r}, stacked=None)"
        )


def check_quantizable(rule: Rule, slots: Sequence[Sequence[str]], form: str | None) -> None:
    """Refuse quantization for rules that read their state twice, or whose state has to be exact."""
    if form is None:
        return
    kinds = {quantization.kind_of(slot) for names in slots for slot in names}
    passes = rule.scope is not None or rule.shaped
    if passes or not runs_compiled(type(rule)) or kinds == {"exact"}:
        raise ValueError(
            f"{type(rule).__name__}: state_dtype must be None for this rule, whose state has to be "
            f"exact, got {form!r:.80}; leave it out, or choose a rule such as AdamW"
        )
