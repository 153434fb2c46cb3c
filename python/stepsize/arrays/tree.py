"""Nests (pytrees) of arrays: named leaves, structures, copies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from stepsize.arrays.parts import UNMASK, refuse_masked
from stepsize.arrays.types import Array, Nest
from stepsize.validation import as_loss, is_complex_number


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
    if spec.type is type(None):
        if nest is not None:
            raise ValueError(
                f"grads: {where} is a {type(nest).__name__}, but params hold None there, which is "
                "no parameter; give None, or put an array into params before the optimizer is made"
            )
        return
    if not issubclass(spec.type, dict | list | tuple):
        return  # other containers speak for themselves
    entries, children = list(spec.entries()), spec.children()
    if issubclass(spec.type, dict):
        if not isinstance(nest, dict):
            raise ValueError(
                f"grads: {where} must be a dict, got a {type(nest).__name__}; "
                "give the gradients the nesting of the parameters"
            )
        known = set(entries)
        missing = [key for key in entries if key not in nest]
        extra = [key for key in nest if key not in known]
        if missing and extra:
            name = f"{path}/{missing[0]}".lstrip("/")
            raise ValueError(
                f"grads: {name} is missing, and {extra[0]!s:.80} is not a parameter; give the "
                "gradients the names of the parameters"
            )
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
            f"grads: {where} must be a {spec.type.__name__} of {len(entries)}, got {found}; "
            "give the gradients the nesting of the parameters"
        )
    for i, (key, child) in enumerate(zip(entries, children, strict=True)):
        value = nest[key] if isinstance(nest, dict) else nest[i]
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
    """The same nesting with copies of the arrays; masks, which copies would lose, are refused."""

    def copied(leaf: Any) -> Array:
        if isinstance(leaf, np.ma.MaskedArray):
            leaves, paths, _ = flatten(nest)
            path = next(path for one, path in zip(leaves, paths, strict=True) if one is leaf)
            refuse_masked("params", path, leaf, UNMASK)
        return np.array(leaf, copy=True, order="K")

    return map_leaves(copied, nest)


def assign(target: Nest, source: Nest) -> None:
    """Copy the values of one nest into the arrays of another of the same structure."""
    leaves, _, spec = flatten(target)
    values = spec.flatten_up_to(source)
    for leaf, value in zip(leaves, values, strict=True):
        np.copyto(leaf, value, casting="no")


def path_not_finite(grads: Nest) -> str | None:
    """The path of the first gradient that is not finite, None where all are."""
    leaves, paths, _ = flatten(grads)
    for leaf, path in zip(leaves, paths, strict=True):
        numbers = getattr(leaf, "values", leaf)  # of rows
        if numbers is not None and not np.isfinite(np.asarray(numbers)).all():
            return path
    return None


def not_finite(grads: Nest) -> str:
    """The first gradient that is not finite in words: "the gradient of w", or "a gradient".

    Example:
        >>> not_finite({"b": np.zeros(2), "w": np.array([1j * np.nan])})
        'the gradient of w'
    """
    path = path_not_finite(grads)
    return "a gradient" if path is None else f"the gradient of {path}"


def where_not_finite(batch: Nest) -> str:
    """The first part of a batch that holds NaN or infinity in words, "" where none does.

    Example:
        >>> where_not_finite((np.array([[1.0], [np.nan]]), np.array([0, 1])))
        'holds nan in row 1 of its part 0'
    """
    leaves, paths, _ = flatten(batch)
    for leaf, path in zip(leaves, paths, strict=True):
        if not isinstance(leaf, np.ndarray | float) or np.asarray(leaf).dtype.kind not in "fc":
            continue
        values = np.asarray(leaf)
        if np.isfinite(values).all():
            continue
        at = np.argwhere(~np.isfinite(values))[0]
        row = f"row {at[0]} of its part {path}" if len(at) else f"its part {path}"
        return f"holds {values[tuple(at)]} in {row}"
    return ""


def loss_and_grads(result: Any, function: str = "value_and_grad") -> tuple[float, Nest]:
    """What a loss function returned, taken apart; TypeError says what it should have been."""
    try:
        loss, grads = result
        return as_loss(loss), grads
    except (TypeError, ValueError):
        _refuse_complex(result, function)
        what = type(result).__name__
        if isinstance(result, tuple):
            what = f"a tuple ({', '.join(map(_part, result))})"
        raise TypeError(
            f"{function} must return (loss, grads), the loss one number; it returned {what}"
            f"{_instead(result)}"
        ) from None


def _part(value: Any) -> str:
    shape = getattr(value, "shape", ())
    return f"{type(value).__name__}{f' of shape {tuple(shape)}' if shape else ''}"


def _instead(result: Any) -> str:
    """What to return in the place of something that is not (loss, grads)."""
    if result is None:
        return "; end it with return loss, grads"
    if not isinstance(result, tuple):
        return (
            ""
            if isinstance(result, dict | list)
            else "; give gradients too, as ss.gradients.central makes them"
        )
    if len(result) > 2:
        return "; keep what else it computes elsewhere, as in a list of its own"
    if len(result) < 2:
        return ""
    loss, grads = result
    if isinstance(loss, tuple | list) and loss and _is_number(loss[0]):
        return "; keep what comes with the loss elsewhere, as in a list of its own"
    if _is_number(grads) and not _is_number(loss):
        return "; the loss comes first"
    if math.prod(getattr(loss, "shape", ())) > 1:
        return "; give the mean or the sum of these losses, and the gradients of that"
    return ""


def _is_number(value: Any) -> bool:
    try:
        as_loss(value)
    except (TypeError, ValueError):
        return False
    return True


def _refuse_complex(result: Any, function: str) -> None:
    """Name a loss that is complex, and what makes it real."""
    loss = result[0] if isinstance(result, tuple) and len(result) == 2 else None
    if is_complex_number(loss):
        raise TypeError(
            f"{function} returned the complex loss {loss!s:.80}, and a loss is one real number; "
            "give its real part, loss.real, or the squared modulus that was meant"
        ) from None
