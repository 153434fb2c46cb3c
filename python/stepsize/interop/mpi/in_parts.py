"""What n ranks compute, in one process."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsize.arrays import Nest, Structure, ValueAndGrad, loss_and_grads, unflatten
from stepsize.collectives import Share, mean_of
from stepsize.collectives.batches import own_rows
from stepsize.validation import whole

__all__ = ["in_parts"]


def in_parts(value_and_grad: ValueAndGrad, size: int) -> ValueAndGrad:
    """The function that n ranks evaluate together, for one process: the same bits.

    The batch, a tuple of arrays, is cut along the first axis as `fit(comm=)` cuts it, and the parts
    are averaged in the order in which ranks are: to repeat a run of a cluster, and to look at it.

    Args:
        value_and_grad: ``(params, batch) -> (loss, grads)``, the loss a mean over the batch.
        size: how many ranks.

    Example:
        >>> import numpy as np
        >>> from stepsize.interop.mpi import in_parts
        >>> def value_and_grad(x, batch):
        ...     error = x - batch[0]
        ...     return float(np.mean(error**2)), np.array(2 * error.mean())
        >>> in_parts(value_and_grad, 2)(np.array(0.0), (np.array([1.0, 2.0, 3.0]),))
        (4.666666666666666, array(-4.))
    """
    count = whole("in_parts: size", size)

    def evaluate(params: Nest, batch: Any) -> tuple[float, Nest]:
        structure = Structure(params)
        parts, rows = [], []
        for rank in range(count):
            own, number = own_rows(batch, rank, count)
            rows.append(float(number))
            if number:
                loss, grads = loss_and_grads(value_and_grad(params, own))
                parts.append([loss, *map(_copied, structure.flatten(grads))])
            else:
                parts.append([None] * (1 + len(structure.leaves)))
        share = Share.of(rows)
        with np.errstate(all="ignore"):
            loss, *means = [mean_of(column, share) for column in zip(*parts, strict=True)]
        arrays = [None if mean is None else np.asarray(mean) for mean in means]
        return loss, unflatten(structure.spec, arrays)

    return evaluate


def _copied(leaf: Any) -> Any:
    """A gradient that stays, whatever the function fills next."""
    return None if leaf is None else np.array(leaf)
