"""Gradient accumulation: several batches for one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import optree

from stepsize import arrays

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


def accumulated(value_and_grad: Gradient, squares: list[float] | None = None) -> Gradient:
    """A function of a list of batches that averages loss and gradients over them.

    The squared norm of the gradient of each batch goes to ``squares``.
    """

    def mean(params: Any, group: list[Any]) -> tuple[float, Any]:
        total, spec = 0.0, cast(Any, None)
        sums: list[Any] = []
        if squares is not None:
            squares.clear()
        for batch in group:
            loss, grads = arrays.loss_and_grads(value_and_grad(params, batch))
            total += loss
            if squares is not None:
                squares.append(sum(map(arrays.sum_of_squares, arrays.flatten(grads)[0])))
            leaves, spec = optree.tree_flatten(grads, none_is_leaf=True)
            sums = [_add(a, b) for a, b in zip(sums, leaves, strict=True)] if sums else leaves
        share = 1 / len(group)
        means = [
            None if leaf is None else np.multiply(leaf, leaf.dtype.type(share)) for leaf in sums
        ]
        return total * share, optree.tree_unflatten(spec, means)

    return mean


def _add(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else np.add(a, b)
