"""Gradient accumulation: several batches for one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import optree

from stepsize import arrays
from stepsize.optimizers import RowGradient
from stepsize.training.batches import Count

Gradient = Callable[[Any, Any], tuple[float, Any]]


def grouped(stream: Iterator[tuple[Any, int]], size: int) -> Iterator[tuple[Any, int]]:
    """Lists of ``size`` batches, each with the offset after its last one."""
    group: list[Any] = []
    for batch, offset in stream:
        group.append(batch)
        if len(group) == size:
            yield group, offset
            group = []
    if group:
        yield group, offset


def accumulated(
    value_and_grad: Gradient, count: Count, squares: list[float] | None = None
) -> Gradient:
    """A function of a list of batches: loss and gradients averaged over all their rows.

    Gradients are added up in arrays of its own, since ``value_and_grad`` may reuse those that it
    returns. The squared norm of the gradient of each batch goes to ``squares``, which stays empty
    where the batches have different numbers of rows.
    """

    def mean(params: Any, group: list[Any]) -> tuple[float, Any]:
        rows = [count(batch) for batch in group]
        sums: list[Any] = []
        total, spec = 0.0, cast(Any, None)
        alike = len(set(rows)) == 1
        if squares is not None:
            squares.clear()
        for batch, size in zip(group, rows, strict=True):
            loss, grads = arrays.loss_and_grads(value_and_grad(params, batch))
            weight = 1 if alike else size
            total += weight * loss
            leaves, found = optree.tree_flatten(grads, none_is_leaf=True)
            if spec is not None and found != spec:
                raise ValueError(
                    "value_and_grad returned gradients of another nesting for one batch of a step "
                    f"than for the batch before: {found} after {spec}"
                )
            spec = found
            if squares is not None and alike:
                squares.append(sum(map(arrays.sum_of_squares, arrays.flatten(grads)[0])))
            new = [_times(leaf, weight) for leaf in leaves]
            sums = [_add(a, b) for a, b in zip(sums, new, strict=True)] if sums else new
        share = 1 / (len(group) if alike else sum(rows))
        means = [_times(leaf, share) for leaf in sums]
        return total * share, optree.tree_unflatten(spec, means)

    return mean


def _times(leaf: Any, factor: float) -> Any:
    """A new array; None stays None."""
    if leaf is None:
        return None
    if isinstance(leaf, RowGradient):
        return RowGradient(leaf.rows.copy(), leaf.values * leaf.values.dtype.type(factor))
    leaf = np.asarray(leaf)
    if leaf.dtype.kind in "biuOUS":  # no gradient; the step names it
        return leaf
    return np.multiply(leaf, leaf.dtype.type(factor))


def _add(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, RowGradient) and isinstance(b, RowGradient):
        return RowGradient(np.concatenate([a.rows, b.rows]), np.concatenate([a.values, b.values]))
    if isinstance(a, RowGradient) or isinstance(b, RowGradient):
        rows, whole = (a, np.array(b)) if isinstance(a, RowGradient) else (b, np.array(a))
        np.add.at(whole, rows.rows, rows.values)
        return whole
    return np.add(a, b)
