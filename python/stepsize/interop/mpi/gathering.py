"""A whole state from the parts of all ranks, and a rank's part of a whole one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stepsize.arrays import Array, Structure
from stepsize.collectives import Layout, Part, Team
from stepsize.optimizers.quantization import BLOCK_SIZE
from stepsize.optimizers.state_dict import check_names

__all__ = ["gathered", "local_part"]

SCALE = "_scale"  # ends the name of the scales of an 8-bit state


def gathered(
    team: Team,
    here: Mapping[str, Any],
    structure: Structure,
    layout: Layout,
    assignment: Sequence[int],
) -> dict[str, Any]:
    """The state that the optimizer without ranks would save, on every rank."""
    own = list(zip(layout.parts[team.rank], here["steps"], strict=False))
    pieces: dict[int, list[tuple[int, Any]]] = {}
    given = team.meet(
        "Zero1: state",
        [
            (tuple(part), here["steps"][name], here["scalars"][name], here["state"][name])
            for part, name in own
        ],
    )
    shared: Any = next(iter(here["scalars"].values())), here["step_count"]
    for (leaf, start, _), *rest in (one for rank in given for one in rank):
        pieces.setdefault(leaf, []).append((start, rest))
    steps: dict[str, int] = {}
    scalars: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for i, (path, leaf) in enumerate(zip(structure.paths, structure.leaves, strict=True)):
        found = [rest for _, rest in sorted(pieces.get(i, ()), key=lambda piece: piece[0])]
        if not found:  # a leaf without elements
            steps[path], scalars[path], state[path] = shared[1], dict(shared[0]), {}
            continue
        steps[path], scalars[path] = found[0][0], found[0][1]
        slots = [one[2] for one in found]
        state[path] = {name: _joined([s[name] for s in slots], leaf) for name in slots[0]}
    groups = [
        {**group, "leaves": _of_group(structure.paths, assignment, k)}
        for k, group in enumerate(here["groups"])
    ]
    return {**here, "groups": groups, "steps": steps, "scalars": scalars, "state": state}


def _of_group(paths: Sequence[str], assignment: Sequence[int], k: int) -> list[str]:
    return [path for path, group in zip(paths, assignment, strict=True) if group == k]


def _joined(parts: Sequence[Array], leaf: Array) -> Array:
    """One state array of a leaf, from its parts in order."""
    if len(parts) == 1:
        return parts[0]
    whole = np.concatenate(parts)
    return whole if whole.size < leaf.size else whole.reshape(leaf.shape + whole.shape[1:])


def local_part(
    d: Any,
    now: Mapping[str, Any],
    structure: Structure,
    parts: Sequence[Part],
    assignment: Sequence[int],
    rule: type,
) -> dict[str, Any]:
    """This rank's part of a whole state, in the terms of the optimizer over its parts.

    Args:
        d: the whole state.
        now: the present one of the parts, whose names and shapes count.
        structure: the whole leaves.
        parts: those of this rank.
        assignment: the group of each leaf.
        rule: the class, for messages.

    Raises:
        ValueError: the whole state has other leaves, groups or shapes.
    """
    owner, paths = rule.__name__, structure.paths
    check_names(owner, "a state dict", d, tuple(now))
    for name in ("state", "steps", "scalars"):
        check_names(owner, f"the {name}", d[name], paths)
    there = [list(group["leaves"]) for group in d["groups"]]
    here = [_of_group(paths, assignment, k) for k in range(len(now["groups"]))]
    if there != here:
        raise ValueError(f"{owner}: the state's groups are {there}, here they are {here}")
    local: dict[str, Any] = {"steps": {}, "scalars": {}, "state": {}}
    for part, name in zip(parts, now["steps"], strict=True):
        path, leaf = paths[part.leaf], structure.leaves[part.leaf]
        local["steps"][name], local["scalars"][name] = d["steps"][path], d["scalars"][path]
        whole = d["state"][path]
        if part.size == 0:
            local["state"][name] = now["state"][name]
            continue
        if not isinstance(whole, Mapping):
            raise ValueError(f"{owner}: the state of {path} must be a dict, got {whole!r:.80}")
        local["state"][name] = {
            slot: _cut(owner, path, slot, values, leaf, part) for slot, values in whole.items()
        }
    groups = [
        {**group, "leaves": now["groups"][k]["leaves"]} for k, group in enumerate(d["groups"])
    ]
    return {**d, "groups": groups, **local}


def _cut(owner: str, path: str, slot: str, values: Any, leaf: Array, part: Part) -> Any:
    """A part of one state array; scales are of blocks of numbers."""
    if part.size == leaf.size or not isinstance(values, np.ndarray):
        return values  # the optimizer over the parts says what does not fit
    real = 2 if leaf.dtype.kind == "c" else 1
    if slot.endswith(SCALE):
        first, last = part.start * real // BLOCK_SIZE, -(-part.stop * real // BLOCK_SIZE)
        return values[first:last]
    if values.shape[: leaf.ndim] != leaf.shape:
        raise ValueError(
            f"{owner}: the state {slot} of {path} has shape {values.shape}, expected {leaf.shape}"
        )
    return values.reshape(leaf.size, *values.shape[leaf.ndim :])[part.start : part.stop]
