"""Gradient accumulation: several batches for one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stepsize import arrays
from stepsize.optimizers import Optimizer, RowGradient
from stepsize.optimizers.gradients import plain
from stepsize.training.batches import Count, end_mean

Gradient = Callable[[Any, Any], tuple[float, Any]]


def grouped(
    stream: Iterator[tuple[Any, int]], size: int, apart: bool = False
) -> Iterator[tuple[Any, int]]:
    """Lists of ``size`` batches, each with the offset after its last one.

    Unless batches are known to be ``apart`` in memory they are copied: a loader that fills the same
    arrays again would make all of a list the last one.
    """
    group: list[Any] = []
    for batch, offset in stream:
        group.append(batch if apart else arrays.owned(batch))
        if len(group) == size:
            yield group, offset
            group = []
    if group:
        yield group, offset


def accumulated(
    value_and_grad: Gradient,
    optimizer: Optimizer,
    count: Count,
    squares: list[float] | None = None,
) -> Gradient:
    """A function of a list of batches: loss and gradients averaged over all their rows.

    Gradients are added up in arrays of its own, since ``value_and_grad`` may reuse those that it
    returns; what is no gradient for ``optimizer`` is refused as its step would. The squared norm of
    the gradient of each batch goes to ``squares``, which stays empty where the batches have
    different numbers of rows.
    """
    owner, params = type(optimizer).__name__, arrays.Structure(optimizer.params)

    def parts(result: Any) -> tuple[float, list[Any]]:
        loss, grads = arrays.loss_and_grads(result)
        places = zip(params.paths, params.leaves, params.flatten(grads), strict=True)
        return loss, [
            leaf if isinstance(leaf, RowGradient) else plain(owner, path, own, leaf)
            for path, own, leaf in places
        ]

    def mean(at: Any, group: list[Any]) -> tuple[float, Any]:
        rows = [count(batch) for batch in group]
        end_mean(count)
        alike = len(set(rows)) == 1
        total, sums = 0.0, [None] * len(params.leaves)
        if squares is not None:
            squares.clear()
        for batch, size in zip(group, rows, strict=True):
            weight = 1 if alike else size
            loss, leaves = parts(value_and_grad(at, batch))
            total += weight * loss
            if squares is not None and alike:
                squares.append(sum(map(_square, leaves)))
            with np.errstate(all="ignore"):
                sums = [_add(a, _times(b, weight)) for a, b in zip(sums, leaves, strict=True)]
        share = 1 / (len(group) if alike else sum(rows))
        with np.errstate(all="ignore"):
            means = [_times(leaf, share) for leaf in sums]
        return total * share, arrays.unflatten(params.spec, means)

    return mean


def _square(leaf: Any) -> float:
    if isinstance(leaf, RowGradient):
        leaf = leaf.values
    return 0.0 if leaf is None else arrays.sum_of_squares(leaf)


def _times(leaf: Any, factor: float) -> Any:
    """A new array; None stays None."""
    if leaf is None:
        return None
    if isinstance(leaf, RowGradient):
        return RowGradient(leaf.rows.copy(), _times(leaf.values, factor))
    real = arrays.view_as_real(leaf)
    return arrays.view_as_complex(np.multiply(real, real.dtype.type(factor)), leaf.dtype)


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
