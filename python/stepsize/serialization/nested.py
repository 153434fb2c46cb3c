"""Nested dicts, lists and tuples of arrays and plain values, as the contents of a container."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from stepsize.arrays import Array
from stepsize.errors import CheckpointError
from stepsize.serialization import container
from stepsize.serialization.container import Path

__all__ = ["Path", "contents_of", "dump", "load", "pack", "unpack"]

# What reading values of the wrong kind raises; the digest of a file says nothing about its sense.
MISFITS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

# Who writes the files that are asked for by a person.
WRITERS = {
    "run": "fit(checkpoint=) or stepsize train --checkpoint",
    "parameters and optimizer": "ss.save or stepsize train --save",
    "history": "History.save",
    "optimizer": "the save of an optimizer",
}


def dump(path: Path, kind: str, nested: Mapping[str, Any]) -> None:
    """Write a nested dict of numbers, strings, lists and arrays, marked as a file of this kind."""
    tensors, tree = pack(nested)
    container.write(path, tensors, {"kind": kind, "tree": tree})


def load(path: Path, *kinds: str) -> dict[str, Any]:
    """Read back what `dump` wrote; a file of any other kind raises `CheckpointError`."""
    tensors, meta = container.read(path)
    found = meta.get("kind")
    if found not in kinds:
        expected = " or ".join(kinds)
        writers = [WRITERS[kind] for kind in kinds if kind in WRITERS]
        move = f"; give a file that {' or '.join(writers)} wrote" if writers else ""
        raise CheckpointError(f"{os.fspath(path)}: it holds a {found!r}, expected {expected}{move}")
    try:
        nested = unpack(tensors, meta["tree"])
    except (*MISFITS, RecursionError) as error:
        raise CheckpointError(f"{os.fspath(path)}: its values do not unpack: {error}") from None
    if not isinstance(nested, dict):
        raise CheckpointError(f"{os.fspath(path)}: its values are not a dict")
    return nested


@contextlib.contextmanager
def contents_of(path: Path) -> Iterator[None]:
    """Turn whatever is raised over values that do not fit into a `CheckpointError` of this file."""
    try:
        yield
    except CheckpointError:
        raise
    except MISFITS as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{os.fspath(path)}: {why}") from error


def pack(nested: object) -> tuple[dict[str, Array], Any]:
    """Split nested dicts, lists and tuples into named arrays and a tree that JSON can hold.

    An array is named by its path, ``optimizer/state/m/0``, and the tree holds that name in its
    place. `unpack` is the inverse: types, float bits and tuples come back as they were.

    Example:
        >>> tensors, tree = pack({"t": 3, "betas": (0.9, 0.999), "m": [np.zeros(2)]})
        >>> list(tensors), tree["t"]
        (['m/0'], 3)
        >>> unpack(tensors, tree)
        {'t': 3, 'betas': (0.9, 0.999), 'm': [array([0., 0.])]}
    """
    tensors: dict[str, Array] = {}
    return tensors, _to_tree(nested, "", tensors)


def unpack(tensors: Mapping[str, Array], tree: object) -> Any:
    """Put arrays and tree from `pack` together again."""
    if isinstance(tree, list):
        return [unpack(tensors, item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1:
        ((tag, value),) = tree.items()
        if tag == "$array":
            return tensors[value]
        if tag == "$float":
            return float(value)
        if tag == "$tuple":
            return tuple(unpack(tensors, value))
        if tag == "$dict":
            return {key: unpack(tensors, item) for key, item in value.items()}
    return {key: unpack(tensors, item) for key, item in tree.items()}


def _to_tree(node: object, path: str, tensors: dict[str, Array]) -> Any:
    if isinstance(node, np.ndarray):
        name = next(n for n in _names(path) if n not in tensors)
        tensors[name] = node
        return {"$array": name}
    if isinstance(node, np.generic):
        node = node.item()
    if node is None or isinstance(node, bool | int | str):
        return node
    if isinstance(node, float):
        return node if math.isfinite(node) else {"$float": repr(node)}
    below = f"{path}/" if path else ""
    if isinstance(node, list | tuple):
        items = [_to_tree(item, f"{below}{i}", tensors) for i, item in enumerate(node)]
        return items if isinstance(node, list) else {"$tuple": items}
    if isinstance(node, Mapping):
        for key in node:
            if not isinstance(key, str):
                raise TypeError(f"{path or 'state'}: keys must be strings, got {key!r:.80}")
        values = {key: _to_tree(item, f"{below}{key}", tensors) for key, item in node.items()}
        ambiguous = len(values) == 1 and next(iter(values)).startswith("$")
        return {"$dict": values} if ambiguous else values
    raise TypeError(
        f"{path or 'state'}: cannot save a {type(node).__name__}; "
        "allowed are numbers, strings, None, arrays, and dicts, lists and tuples of them"
    )


def _names(path: str) -> Iterator[str]:
    """The path itself, then numbered variants for when two nests spell the same path."""
    yield path or "array"
    for number in itertools.count(2):
        yield f"{path}~{number}"
