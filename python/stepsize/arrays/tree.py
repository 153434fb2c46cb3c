"""Nests of arrays: named leaves, copies, packing, and what makes a leaf unfit to be a parameter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import optree

from stepsize import _core

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Nest: TypeAlias = Any  # an array, or any nest of dict, list and tuple of arrays

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_NARROW = ("float16", "bfloat16")  # the second one is a dtype of ml_dtypes


def is_narrow(dtype: Any) -> bool:
    """Whether numbers of the dtype have two bytes and are computed with in float32."""
    return dtype.name in _NARROW and bool(dtype.isnative)


def computed(dtype: Any) -> np.dtype[Any]:
    """The dtype that numbers of this one are computed in."""
    return np.dtype(np.float32) if is_narrow(dtype) else np.dtype(dtype)


class Structure:
    """The shape of a nest: its leaves' names, and how to find them in a nest of that shape."""

    def __init__(self, nest: Nest) -> None:
        # Without leaves that are None: they are places that hold nothing.
        paths, self.leaves, self.spec = optree.tree_flatten_with_path(nest)
        self.paths = tuple("/".join(map(str, path)) or "params" for path in paths)

    def description(self) -> tuple[Any, ...]:
        """The structure as nested tuples, for the compiled walk."""
        return _describe(self.spec)

    def flatten(self, nest: Nest) -> list[Any]:
        """The values in the places of the leaves; ValueError names the first place that differs."""
        explain_difference(self.spec, nest, "")
        return list(self.spec.flatten_up_to(nest))


def _describe(spec: Any) -> tuple[Any, ...]:
    if spec.is_leaf():
        return ("leaf",)
    children = [_describe(child) for child in spec.children()]
    if spec.type is dict:
        return ("dict", list(spec.entries()), children)
    if spec.type is list:
        return ("list", children)
    if spec.type is tuple:
        return ("tuple", children)
    if spec.type is type(None):
        return ("none",)
    return ("other",)


def explain_difference(spec: Any, nest: Nest, path: str) -> None:
    """Raise a ValueError that names the first place where ``nest`` is not as ``spec`` says."""
    where = path or "the nest"
    if spec.is_leaf():
        if isinstance(nest, dict | list | tuple):
            raise ValueError(
                f"grads: {path or 'params'} is a {type(nest).__name__}, expected an array or None; "
                "give the gradients the nesting of the parameters"
            )
        return
    if spec.type is type(None) or not issubclass(spec.type, dict | list | tuple):
        return  # other containers speak for themselves
    entries, children = list(spec.entries()), spec.children()
    if issubclass(spec.type, dict):
        if not isinstance(nest, dict):
            raise ValueError(f"grads: {where} must be a dict, got a {type(nest).__name__}")
        missing = [key for key in entries if key not in nest]
        extra = [key for key in nest if key not in entries]
        for keys, problem, fix in (
            (missing, "is missing", "add it, or None where a leaf has no gradient"),
            (extra, "is not a parameter", "leave it out"),
        ):
            if keys:
                name = f"{path}/{keys[0]}".lstrip("/")
                raise ValueError(f"grads: {name} {problem}; {fix}")
    elif not isinstance(nest, spec.type) or len(nest) != len(entries):
        found = f"a {type(nest).__name__}"
        if isinstance(nest, list | tuple):
            found += f" of {len(nest)}"
        raise ValueError(
            f"grads: {where} must be a {spec.type.__name__} of {len(entries)}, got {found}"
        )
    for key, child in zip(entries, children, strict=True):
        value = nest[key] if isinstance(nest, dict) else nest[entries.index(key)]
        explain_difference(child, value, f"{path}/{key}".lstrip("/"))


def flatten(nest: Nest) -> tuple[list[Array], tuple[str, ...], Any]:
    """The leaves, their path names and the structure (for `unflatten`)."""
    structure = Structure(nest)
    return structure.leaves, structure.paths, structure.spec


def unflatten(spec: Any, leaves: Sequence[Any]) -> Nest:
    """The nest of this structure with these leaves."""
    return optree.tree_unflatten(spec, leaves)


def map_leaves(function: Callable[..., Any], nest: Nest, *others: Nest) -> Nest:
    """The nest of the results of a function of each leaf."""
    return optree.tree_map(function, nest, *others)


def copy(nest: Nest) -> Nest:
    """The same nesting with copies of the arrays."""
    return map_leaves(lambda leaf: np.array(leaf, copy=True, order="K"), nest)


def assign(target: Nest, source: Nest) -> None:
    """Copy the values of one nest into the arrays of another of the same structure."""
    leaves, _, spec = flatten(target)
    values = spec.flatten_up_to(source)
    for leaf, value in zip(leaves, values, strict=True):
        np.copyto(leaf, value, casting="no")


def pack(params: Nest) -> Nest:
    """The same nest as views into one aligned buffer per dtype, with the same values.

    Leaves that lie side by side are updated as one span, and packed gradients too make the fastest
    step for many small arrays. The nest that was given is left as it is.

    Args:
        params: A nest of arrays of any shapes, of float32, float64, float16 or bfloat16.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> packed = ss.pack({"w": np.ones((2, 3)), "b": np.zeros(3)})
        >>> packed["w"].base is packed["b"].base
        True
    """
    leaves, paths, spec = flatten(params)
    for leaf, path in zip(leaves, paths, strict=True):
        check_dtype(leaf, path, "pack")
    views: list[Array | None] = [None] * len(leaves)
    for dtype in dict.fromkeys(leaf.dtype for leaf in leaves):
        chosen = [i for i, leaf in enumerate(leaves) if leaf.dtype == dtype]
        total = sum(leaves[i].nbytes for i in chosen)
        buffer = _core.allocate(total).view(dtype)
        start = 0
        for i in chosen:
            view = buffer[start : start + leaves[i].size].reshape(leaves[i].shape)
            view[...] = leaves[i]
            views[i] = view
            start += leaves[i].size
    return unflatten(spec, views)


def check_dtype(leaf: Any, path: str, owner: str) -> None:
    """Refuse what is not an array of floats of two, four or eight bytes."""
    if not isinstance(leaf, np.ndarray):
        raise TypeError(
            f"{owner}: parameter {path} is a {type(leaf).__name__}, expected a NumPy array or a "
            "nest of them; convert it with np.array(..., np.float32)"
        )
    if leaf.dtype not in FLOATS and not is_narrow(leaf.dtype):
        raise TypeError(
            f"{owner}: {path} has dtype {leaf.dtype}, expected float32, float64, float16 or "
            "bfloat16; convert it with .astype(np.float32)"
        )


def check_parameters(leaves: Sequence[Array], paths: Sequence[str], owner: str) -> None:
    """Refuse leaves that cannot be updated in place: wrong type, read-only, or sharing memory."""
    if not leaves:
        raise ValueError(f"{owner}: params holds no array; give at least one")
    if len(set(paths)) < len(paths):
        path = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(
            f"{owner}: two arrays are both named {path}, but states and checkpoints go by name; "
            "rename a key"
        )
    for leaf, path in zip(leaves, paths, strict=True):
        check_dtype(leaf, path, owner)
        if not leaf.flags.writeable:
            raise ValueError(
                f"{owner}: {path} is read-only, but parameters are updated in place; pass a copy"
            )
    check_apart(leaves, paths, owner)


def check_alike(structure: Structure, other: Structure, owner: str) -> None:
    """Refuse leaves that differ from those of a structure in name, shape or dtype."""
    if structure.paths != other.paths:
        raise ValueError(
            f"{owner}: expected the leaves {', '.join(structure.paths)}, got "
            f"{', '.join(other.paths)}"
        )
    for path, here, there in zip(structure.paths, structure.leaves, other.leaves, strict=True):
        check_dtype(there, path, owner)
        if (here.shape, here.dtype) != (there.shape, there.dtype):
            raise ValueError(
                f"{owner}: {path} must have shape {here.shape} and dtype {here.dtype}, got "
                f"{there.shape} and {there.dtype}"
            )


def _overlaps_itself(leaf: Array) -> bool:
    lengths = [
        (abs(stride), n) for stride, n in zip(leaf.strides, leaf.shape, strict=True) if n > 1
    ]
    if leaf.size == 0 or leaf.flags.c_contiguous or leaf.flags.f_contiguous:
        return False
    reach = leaf.itemsize
    for stride, n in sorted(lengths):
        if stride < reach:
            # Rare: interleaved strides may still be apart, so count the distinct addresses.
            return _distinct_offsets(leaf) < leaf.size
        reach = stride * (n - 1) + reach
    return False


def _distinct_offsets(leaf: Array) -> int:
    offsets = np.zeros((), np.int64)
    for stride, n in zip(leaf.strides, leaf.shape, strict=True):
        offsets = np.add.outer(offsets, stride * np.arange(n))
    return int(np.unique(offsets).size)


def check_apart(leaves: Sequence[Array], paths: Sequence[str], owner: str) -> None:
    """Refuse leaves that share memory with themselves or with each other."""
    bounds = []
    for i, leaf in enumerate(leaves):
        if _overlaps_itself(leaf):
            raise ValueError(
                f"{owner}: {paths[i]} overlaps itself (strides {leaf.strides} for shape "
                f"{leaf.shape}); pass a copy"
            )
        if leaf.size:
            low, high = np.lib.array_utils.byte_bounds(leaf)
            bounds.append((low, high, i))
    bounds.sort()
    active: list[tuple[int, int]] = []  # (end, leaf) of the leaves that reach past this start
    for low, high, i in bounds:
        active = [(end, k) for end, k in active if end > low]
        for _, k in active:
            if np.shares_memory(leaves[i], leaves[k]):
                raise ValueError(
                    f"{owner}: {paths[i]} overlaps {paths[k]} in memory, so one step would update "
                    "it twice; pass each array once, or a copy"
                )
        active.append((high, i))


def sum_of_squares(array: Array) -> float:
    """The sum of the squares in double precision, the same bits on every machine."""
    return float(_core.sum_of_squares(np.ascontiguousarray(array, computed(array.dtype))))


def loss_and_grads(result: Any, function: str = "value_and_grad") -> tuple[float, Nest]:
    """What a loss function returned, taken apart; TypeError says what it should have been."""
    try:
        loss, grads = result
        return float(loss), grads
    except (TypeError, ValueError):
        what = type(result).__name__
        if isinstance(result, tuple):
            what = f"a tuple ({', '.join(type(part).__name__ for part in result)})"
        raise TypeError(
            f"{function} must return (loss, grads), the loss one number; it returned {what}"
        ) from None
