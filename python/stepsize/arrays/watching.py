"""Calls of a user's function that has to leave the parameters as they are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from stepsize.arrays.tree import Structure, loss_and_grads
from stepsize.arrays.types import Array, Nest

# w += h; ...; w -= h comes back but for some units in the last place of the larger of w and h.
ROUNDING = 64
STEP = 0.01  # the largest h, where it costs less than this share of a leaf's largest number:
SHARE = 1e-6


def value_and_grad_of(
    function: Callable[..., Any],
    params: Nest,
    *others: Any,
    owner: str,
    name: str = "value_and_grad",
    state: bool = False,
    kept: list[Array] | None = None,
) -> tuple[float, Nest]:
    """Loss and gradients; ValueError where the function changed the parameters themselves.

    Whatever it raises, the parameters are put back. With `state`, leaves that it gives no gradient
    for are its own to change, such as running means. `kept` are their values, if there is a copy.
    """
    structure = Structure(params)
    kept = [np.array(leaf) for leaf in structure.leaves] if kept is None else kept
    try:
        loss, grads = loss_and_grads(function(params, *others), name)
        spared = _without_gradient(structure, grads) if state else [False] * len(kept)
        refuse_changes(structure, kept, owner, name, spared)
    except BaseException:
        put_back(structure.leaves, kept)
        raise
    return loss, grads


def refuse_changes(
    structure: Structure,
    kept: list[Array],
    owner: str,
    name: str,
    spared: list[bool] | None = None,
) -> None:
    """Raise a ValueError that names the first leaf that is not as it was kept."""
    places = zip(structure.paths, structure.leaves, kept, strict=True)
    for i, (path, leaf, before) in enumerate(places):
        if (spared and spared[i]) or np.array_equal(leaf, before) or same(leaf, before):
            continue
        advice = (
            ", or give None as the gradient of what the function may change"
            if spared is not None and name == "value_and_grad"
            else ""
        )
        cure = f"compute with a copy inside (x = x - 1 instead of x -= 1){advice}"
        if threading.active_count() > 1:
            cure += (
                "; or another thread did, such as one that steps another optimizer over the same "
                "arrays: give each arrays of its own"
            )
        wrote = f"{name} wrote into the parameters: {path} is {_found(leaf, before)}"
        raise ValueError(f"{owner}: {wrote}; {cure}")


def same(leaf: Array, before: Array) -> bool:
    """Whether nothing but rounding lies between two arrays."""
    if leaf.shape != before.shape:
        return False
    if leaf.dtype.kind not in "fc":
        return leaf.tobytes() == before.tobytes()
    with np.errstate(all="ignore"):
        top = np.abs(before[np.isfinite(before)]).max(initial=0)
        unit = ROUNDING * float(np.finfo(leaf.dtype).eps)
        near = np.abs(leaf - before) <= max(unit * top, min(unit * STEP, SHARE * top))
        return bool((near | (leaf == before) | ((leaf != leaf) & (before != before))).all())


def put_back(leaves: list[Array], kept: list[Array]) -> None:
    """Write back what a function changed."""
    for leaf, before in zip(leaves, kept, strict=True):
        if leaf.shape == before.shape and leaf.flags.writeable:
            leaf[...] = before


def _found(leaf: Array, before: Array) -> str:
    if leaf.shape != before.shape:
        return f"of shape {leaf.shape} after the call, {before.shape} before"
    other = (leaf != before) & ~((leaf != leaf) & (before != before))
    place = tuple(int(k) for k in np.argwhere(other)[0])
    where = f"[{', '.join(map(str, place))}]" if place else ""
    return f"{leaf[place]!s} at {where or 'its place'} after the call, {before[place]!s} before"


def _without_gradient(structure: Structure, grads: Nest) -> list[bool]:
    try:
        return [grad is None for grad in structure.flatten(grads)]
    except (TypeError, ValueError):
        return [False] * len(structure.paths)  # the step names what is wrong
